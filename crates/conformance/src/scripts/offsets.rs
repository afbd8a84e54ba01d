//! ListOffsets and OffsetForLeaderEpoch.

use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};
use protocol::{ApiKey, Str};

use super::setup::{EARLIEST, LATEST, MOMENT, batch};
use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::ListOffsets, "by time", by_time),
    script(ApiKey::ListOffsets, "by name of a place", by_place),
    script(ApiKey::ListOffsets, "wrong places", wrong_places),
    script(ApiKey::OffsetForLeaderEpoch, "epochs", epochs),
];

fn list(name: &Str, partitions: &[(i32, i64)]) -> ListOffsetsRequest {
    let partition = |(partition_index, timestamp): &(i32, i64)| ListOffsetsPartition {
        partition_index: *partition_index,
        timestamp: *timestamp,
        ..Default::default()
    };
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: name.clone(),
            partitions: partitions.iter().map(partition).collect(),
            ..Default::default()
        }],
        ..ListOffsetsRequest::default()
    }
}

fn by_time(c: &mut Conversation) {
    let a = c.topic("a", 2);
    c.write(&a, 0, batch(&["1", "2", "3"]));
    c.write(&a, 0, batch(&["4"]));
    for (label, timestamp) in [
        ("before all", 1),
        ("the first", MOMENT),
        ("the second", MOMENT + 1),
        ("the last", MOMENT + 2),
        ("after all", MOMENT + 9),
        ("0", 0),
    ] {
        c.ask(label, &list(&a.name, &[(0, timestamp)]));
    }
    c.ask("in an empty partition", &list(&a.name, &[(1, MOMENT)]));
}

fn by_place(c: &mut Conversation) {
    let a = c.topic("a", 2);
    c.write(&a, 0, batch(&["1", "2", "3"]));
    for (label, timestamp) in [
        ("earliest", EARLIEST),
        ("latest", LATEST),
        ("of the largest time", -3),
        ("earliest here", -4),
        ("latest elsewhere", -5),
        ("earliest to be sent", -6),
        ("an unknown place", -7),
        ("far below", i64::MIN),
    ] {
        c.ask(label, &list(&a.name, &[(0, timestamp), (1, timestamp)]));
    }
    c.ask(
        "latest of committed ones",
        &ListOffsetsRequest { isolation_level: 1, ..list(&a.name, &[(0, LATEST)]) },
    );
}

fn wrong_places(c: &mut Conversation) {
    let a = c.topic("a", 2);
    c.ask("an unknown partition", &list(&a.name, &[(7, LATEST)]));
    c.ask("an unknown topic", &list(&c.name("unknown"), &[(0, LATEST)]));
    c.ask("a wrong name", &list(&"a b".into(), &[(0, LATEST)]));
    c.ask("one partition twice", &list(&a.name, &[(0, LATEST), (0, LATEST), (1, LATEST)]));
    c.ask("no partitions", &list(&a.name, &[]));
    c.ask("nothing", &ListOffsetsRequest { replica_id: -1, ..Default::default() });
    c.ask("a follower that is none", &ListOffsetsRequest { replica_id: 77, ..list(&a.name, &[(0, LATEST)]) });
    c.ask("a replica below all", &ListOffsetsRequest { replica_id: -9, ..list(&a.name, &[(0, LATEST)]) });
    for (label, epoch) in [("the leader's epoch", 0), ("a newer epoch", 5), ("an epoch below none", -2)] {
        let mut request = list(&a.name, &[(0, LATEST)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        c.ask(label, &request);
    }
}

fn epochs(c: &mut Conversation) {
    let a = c.topic("a", 1);
    c.write(&a, 0, batch(&["1", "2"]));
    let of = |topic: &Str, partition, current_leader_epoch, leader_epoch| OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: topic.clone(),
            partitions: vec![OffsetForLeaderPartition {
                partition,
                current_leader_epoch,
                leader_epoch,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    c.ask("the only one", &of(&a.name, 0, -1, 0));
    c.ask("a later one", &of(&a.name, 0, -1, 7));
    c.ask("none", &of(&a.name, 0, -1, -1));
    c.ask("the leader's", &of(&a.name, 0, 0, 0));
    c.ask("of a newer leader", &of(&a.name, 0, 5, 0));
    c.ask("an unknown partition", &of(&a.name, 7, -1, 0));
    c.ask("an unknown topic", &of(&c.name("unknown"), 0, -1, 0));
    c.ask("a wrong name", &of(&"a b".into(), 0, -1, 0));
    c.ask("nothing", &OffsetForLeaderEpochRequest { replica_id: -1, ..Default::default() });
    c.ask(
        "a follower that is none",
        &OffsetForLeaderEpochRequest { replica_id: 77, ..of(&a.name, 0, -1, 0) },
    );
}
