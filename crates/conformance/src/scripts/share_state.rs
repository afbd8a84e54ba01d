//! What brokers keep of share partitions at a share coordinator (KIP-932): made, written, read and taken away.

use protocol::messages::write_share_group_state_request::StateBatch;
use protocol::messages::{
    DeleteShareGroupStateRequest, FindCoordinatorRequest, InitializeShareGroupStateRequest,
    ReadShareGroupStateRequest, ReadShareGroupStateSummaryRequest, WriteShareGroupStateRequest,
    delete_share_group_state_request, initialize_share_group_state_request, read_share_group_state_request,
    read_share_group_state_summary_request, write_share_group_state_request,
};
use protocol::{ApiKey, Str, Uuid};

use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::InitializeShareGroupState, "epochs", initialize),
    script(ApiKey::WriteShareGroupState, "epochs and batches", write),
    script(ApiKey::ReadShareGroupState, "good and bad", read),
    script(ApiKey::ReadShareGroupStateSummary, "good and bad", summarise),
    script(ApiKey::DeleteShareGroupState, "good and bad", delete),
];

const SHARE: i8 = 2;
/// Nobody's topic: a coordinator knows no topics, only their ids.
const UNKNOWN: Uuid = Uuid([9; 16]);

/// A share partition whose coordinator answers.
#[derive(Clone)]
struct Place {
    group: Str,
    topic: Uuid,
    partition: i32,
}

fn place(c: &mut Conversation) -> Place {
    let (group, topic) = (c.name("g"), c.topic("a", 1).id);
    let key = format!("{group}:{topic}:0");
    let find = FindCoordinatorRequest {
        key_type: SHARE,
        coordinator_keys: vec![key.into()],
        ..FindCoordinatorRequest::default()
    };
    c.help_until(&find, |answer| answer.coordinators.iter().all(|found| found.error_code == 0));
    let place = Place { group, topic, partition: 0 };
    c.help_until(&reading(&place, 0), |answer| {
        // It is being loaded.
        answer
            .results
            .iter()
            .flat_map(|topic| &topic.partitions)
            .all(|it| !(14..=16).contains(&it.error_code))
    });
    place
}

fn making(place: &Place, state_epoch: i32, start_offset: i64) -> InitializeShareGroupStateRequest {
    use initialize_share_group_state_request::{InitializeStateData, PartitionData};
    let partition = PartitionData { partition: place.partition, state_epoch, start_offset };
    let topic = InitializeStateData { topic_id: place.topic, partitions: vec![partition] };
    InitializeShareGroupStateRequest { group_id: place.group.clone(), topics: vec![topic] }
}

fn batch(first_offset: i64, last_offset: i64, delivery_state: i8) -> StateBatch {
    StateBatch { first_offset, last_offset, delivery_state, delivery_count: 1 }
}

fn writing(
    place: &Place,
    (state_epoch, leader_epoch): (i32, i32),
    start_offset: i64,
    state_batches: Vec<StateBatch>,
) -> WriteShareGroupStateRequest {
    use write_share_group_state_request::{PartitionData, WriteStateData};
    let partition = PartitionData {
        partition: place.partition,
        state_epoch,
        leader_epoch,
        start_offset,
        state_batches,
        ..PartitionData::default()
    };
    let topic = WriteStateData { topic_id: place.topic, partitions: vec![partition] };
    WriteShareGroupStateRequest { group_id: place.group.clone(), topics: vec![topic] }
}

fn reading(place: &Place, leader_epoch: i32) -> ReadShareGroupStateRequest {
    use read_share_group_state_request::{PartitionData, ReadStateData};
    let partition = PartitionData { partition: place.partition, leader_epoch };
    let topic = ReadStateData { topic_id: place.topic, partitions: vec![partition] };
    ReadShareGroupStateRequest { group_id: place.group.clone(), topics: vec![topic] }
}

fn summary(place: &Place, leader_epoch: i32) -> ReadShareGroupStateSummaryRequest {
    use read_share_group_state_summary_request::{PartitionData, ReadStateSummaryData};
    let partition = PartitionData { partition: place.partition, leader_epoch };
    let topic = ReadStateSummaryData { topic_id: place.topic, partitions: vec![partition] };
    ReadShareGroupStateSummaryRequest { group_id: place.group.clone(), topics: vec![topic] }
}

fn deleting(place: &Place) -> DeleteShareGroupStateRequest {
    use delete_share_group_state_request::{DeleteStateData, PartitionData};
    let partition = PartitionData { partition: place.partition };
    let topic = DeleteStateData { topic_id: place.topic, partitions: vec![partition] };
    DeleteShareGroupStateRequest { group_id: place.group.clone(), topics: vec![topic] }
}

fn no_group(place: &Place) -> Place {
    Place { group: "".into(), ..place.clone() }
}

fn unknown_topic(place: &Place) -> Place {
    Place { topic: UNKNOWN, ..place.clone() }
}

fn unknown_partition(place: &Place) -> Place {
    Place { partition: 7, ..place.clone() }
}

fn initialize(c: &mut Conversation) {
    let a = place(c);
    c.ask("one", &making(&a, 3, 10));
    c.ask("again", &making(&a, 3, 10));
    c.ask("an older epoch", &making(&a, 2, 10));
    c.ask("a newer epoch", &making(&a, 4, 20));
    c.ask("below 0", &making(&a, -5, 10));
    c.ask("an offset below 0", &making(&a, 5, -5));
    c.ask("what it is now", &reading(&a, 0));
    c.ask("an unknown topic", &making(&unknown_topic(&a), 3, 10));
    c.ask("an unknown partition", &making(&unknown_partition(&a), 3, 10));
    c.ask(
        "nothing",
        &InitializeShareGroupStateRequest {
            group_id: a.group.clone(),
            ..InitializeShareGroupStateRequest::default()
        },
    );
    c.ask("no group", &making(&no_group(&a), 3, 10));
}

fn write(c: &mut Conversation) {
    let a = place(c);
    c.ask("before it is made", &writing(&a, (1, 1), 0, vec![batch(0, 9, 0)]));
    c.help(&making(&a, 1, 0));
    c.ask("one batch", &writing(&a, (1, 1), 0, vec![batch(0, 9, 0)]));
    c.ask("part of it", &writing(&a, (1, 1), -1, vec![batch(3, 5, 2)]));
    c.ask("what it is now", &reading(&a, 1));
    c.ask("an older state", &writing(&a, (0, 1), 0, vec![batch(0, 9, 0)]));
    c.ask("a newer state", &writing(&a, (2, 1), 0, vec![batch(0, 9, 0)]));
    c.ask("a newer leader", &writing(&a, (1, 5), 4, Vec::new()));
    c.ask("an older leader", &writing(&a, (1, 3), 0, vec![batch(0, 9, 0)]));
    c.ask("what it is in the end", &reading(&a, 5));
    c.ask("an unknown topic", &writing(&unknown_topic(&a), (1, 5), 0, Vec::new()));
    c.ask("an unknown partition", &writing(&unknown_partition(&a), (1, 5), 0, Vec::new()));
    c.ask(
        "nothing",
        &WriteShareGroupStateRequest { group_id: a.group.clone(), ..WriteShareGroupStateRequest::default() },
    );
    c.ask("no group", &writing(&no_group(&a), (1, 5), 0, Vec::new()));
}

/// A share partition with a state.
fn kept(c: &mut Conversation) -> Place {
    let a = place(c);
    c.help(&making(&a, 1, 0));
    c.help(&writing(&a, (1, 2), 5, vec![batch(5, 9, 0), batch(12, 12, 4)]));
    a
}

fn read(c: &mut Conversation) {
    let a = kept(c);
    c.ask("one", &reading(&a, 2));
    c.ask("an older leader", &reading(&a, 1));
    c.ask("a newer leader", &reading(&a, 3));
    c.ask("the leader before that", &reading(&a, 2));
    c.ask("an unknown topic", &reading(&unknown_topic(&a), 2));
    c.ask("an unknown partition", &reading(&unknown_partition(&a), 2));
    c.ask(
        "nothing",
        &ReadShareGroupStateRequest { group_id: a.group.clone(), ..ReadShareGroupStateRequest::default() },
    );
    c.ask("no group", &reading(&no_group(&a), 2));
}

fn summarise(c: &mut Conversation) {
    let a = kept(c);
    c.ask("one", &summary(&a, 2));
    c.ask("an older leader", &summary(&a, 1));
    c.ask("a newer leader", &summary(&a, 3));
    c.ask("an unknown topic", &summary(&unknown_topic(&a), 2));
    c.ask("an unknown partition", &summary(&unknown_partition(&a), 2));
    c.ask(
        "nothing",
        &ReadShareGroupStateSummaryRequest {
            group_id: a.group.clone(),
            ..ReadShareGroupStateSummaryRequest::default()
        },
    );
    c.ask("no group", &summary(&no_group(&a), 2));
}

fn delete(c: &mut Conversation) {
    let a = kept(c);
    c.ask("an unknown topic", &deleting(&unknown_topic(&a)));
    c.ask("an unknown partition", &deleting(&unknown_partition(&a)));
    c.ask("one", &deleting(&a));
    c.ask("again", &deleting(&a));
    c.ask("what is left", &reading(&a, 2));
    c.ask(
        "nothing",
        &DeleteShareGroupStateRequest {
            group_id: a.group.clone(),
            ..DeleteShareGroupStateRequest::default()
        },
    );
    c.ask("no group", &deleting(&no_group(&a)));
}
