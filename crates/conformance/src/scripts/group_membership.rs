//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: members of classic groups.

use bytes::Bytes;
use protocol::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::messages::leave_group_request::MemberIdentity;
use protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use protocol::{ApiKey, Str};

use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::JoinGroup, "the first member", join),
    script(ApiKey::JoinGroup, "wrong ones", join_wrongly),
    script(ApiKey::JoinGroup, "static members", join_static),
    script(ApiKey::SyncGroup, "one member", sync),
    script(ApiKey::Heartbeat, "one member", heartbeat),
    script(ApiKey::LeaveGroup, "members", leave),
];

const UNKNOWN_GENERATION: i32 = -1;
const SESSION_MS: i32 = 60_000;
/// MEMBER_ID_REQUIRED: join again with the id of the answer (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 79;

fn join_of(group: &Str, member: &Str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::from_static(b"m"),
        ..Default::default()
    };
    JoinGroupRequest {
        group_id: group.clone(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: SESSION_MS,
        member_id: member.clone(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

/// One member that has joined: its id and the generation.
pub(super) fn member(c: &mut Conversation, group: &Str) -> (Str, i32) {
    let mut answer = c.help(&join_of(group, &Str::default()));
    if let Some(JoinGroupResponse { error_code: MEMBER_ID_REQUIRED, member_id, .. }) = &answer {
        let again = join_of(group, member_id);
        answer = c.help(&again);
    }
    answer.map_or_else(|| (Str::default(), 0), |answer| (answer.member_id, answer.generation_id))
}

/// Gives the only member of a group its assignment: the group is stable then.
pub(super) fn stable_member(c: &mut Conversation, group: &Str) -> (Str, i32) {
    let (member, generation) = member(c, group);
    let mut request = sync_of(group, &member, generation);
    request.protocol_type = Some("consumer".into());
    request.protocol_name = Some("range".into());
    c.help(&request);
    (member, generation)
}

pub(super) fn sync_of(group: &Str, member: &Str, generation_id: i32) -> SyncGroupRequest {
    let assignment = SyncGroupRequestAssignment {
        member_id: member.clone(),
        assignment: Bytes::from_static(b"a"),
        ..Default::default()
    };
    SyncGroupRequest {
        group_id: group.clone(),
        generation_id,
        member_id: member.clone(),
        assignments: vec![assignment],
        ..SyncGroupRequest::default()
    }
}

fn join(c: &mut Conversation) {
    let g = c.group("g");
    let first = c.ask("without an id", &join_of(&g, &Str::default()));
    let Some(first) = first else { return };
    let answer = c.ask("with the id", &join_of(&g, &first.member_id));
    let Some(answer) = answer else { return };
    c.ask("again", &join_of(&g, &answer.member_id));
    c.ask("an unknown id", &join_of(&g, &"nobody".into()));
    let mut other = join_of(&g, &answer.member_id);
    other.protocol_type = "connect".into();
    c.ask("another type", &other);
    let mut other = join_of(&g, &Str::default());
    other.protocols[0].name = "roundrobin".into();
    c.ask("a protocol that nobody else has", &other);
}

fn join_wrongly(c: &mut Conversation) {
    let g = c.group("g");
    let plain = join_of(&g, &Str::default());
    c.ask("no group", &JoinGroupRequest { group_id: "".into(), ..plain.clone() });
    c.ask("a time-out too small", &JoinGroupRequest { session_timeout_ms: 1, ..plain.clone() });
    c.ask("a time-out too large", &JoinGroupRequest { session_timeout_ms: i32::MAX, ..plain.clone() });
    c.ask("a time-out below 0", &JoinGroupRequest { session_timeout_ms: -1, ..plain.clone() });
    c.ask("an unknown id in a new group", &JoinGroupRequest { member_id: "nobody".into(), ..plain.clone() });
    c.ask("no protocols", &JoinGroupRequest { protocols: Vec::new(), ..plain.clone() });
    c.ask("no type", &JoinGroupRequest { protocol_type: "".into(), ..plain.clone() });
    c.ask("an empty instance", &JoinGroupRequest { group_instance_id: Some("".into()), ..plain.clone() });
    c.ask(
        "an instance that is a dot",
        &JoinGroupRequest { group_instance_id: Some(".".into()), ..plain.clone() },
    );
    c.ask(
        "an instance with a blank",
        &JoinGroupRequest { group_instance_id: Some("a b".into()), ..plain.clone() },
    );
    let twice = [plain.protocols.clone(), plain.protocols.clone()].concat();
    c.ask("one protocol twice", &JoinGroupRequest { protocols: twice, ..plain });
}

const STATIC_SINCE: i16 = 5;

fn join_static(c: &mut Conversation) {
    if c.version() < STATIC_SINCE {
        return;
    }
    let g = c.group("g");
    let of = |member: &Str| JoinGroupRequest { group_instance_id: Some("i".into()), ..join_of(&g, member) };
    let Some(first) = c.ask("the first", &of(&Str::default())) else { return };
    let Some(second) = c.ask("the same instance anew", &of(&Str::default())) else { return };
    c.ask("the old id", &of(&first.member_id));
    c.ask("the new id", &of(&second.member_id));
    let mut request = sync_of(&g, &first.member_id, second.generation_id);
    request.group_instance_id = Some("i".into());
    c.ask("sync with the old id", &request);
    let beat = HeartbeatRequest {
        group_id: g.clone(),
        generation_id: second.generation_id,
        member_id: second.member_id.clone(),
        group_instance_id: Some("unknown".into()),
    };
    c.ask("a heartbeat of another instance", &beat);
}

const NAMED_PROTOCOL_SINCE: i16 = 5;

fn sync(c: &mut Conversation) {
    let g = c.group("g");
    let (member, generation) = member(c, &g);
    let of = |c: &Conversation, member: &Str, generation| {
        let mut request = sync_of(&g, member, generation);
        if c.version() >= NAMED_PROTOCOL_SINCE {
            request.protocol_type = Some("consumer".into());
            request.protocol_name = Some("range".into());
        }
        request
    };
    c.ask("an unknown member", &of(c, &"nobody".into(), generation));
    c.ask("an old generation", &of(c, &member, generation - 1));
    c.ask("a newer generation", &of(c, &member, generation + 1));
    if c.version() >= NAMED_PROTOCOL_SINCE {
        c.ask("no names", &sync_of(&g, &member, generation));
        c.ask(
            "another type",
            &SyncGroupRequest { protocol_type: Some("connect".into()), ..of(c, &member, generation) },
        );
        c.ask(
            "another protocol",
            &SyncGroupRequest { protocol_name: Some("x".into()), ..of(c, &member, generation) },
        );
    }
    c.ask("the leader", &of(c, &member, generation));
    c.ask("again", &of(c, &member, generation));
    c.ask("no group", &SyncGroupRequest { group_id: "".into(), ..of(c, &member, generation) });
    c.ask("an unknown group", &SyncGroupRequest { group_id: c.name("x"), ..of(c, &member, generation) });
    c.ask(
        "an instance that is unknown",
        &SyncGroupRequest { group_instance_id: Some("i".into()), ..of(c, &member, generation) },
    );
}

fn heartbeat(c: &mut Conversation) {
    let g = c.group("g");
    let of = |group: &Str, member: &Str, generation_id| HeartbeatRequest {
        group_id: group.clone(),
        generation_id,
        member_id: member.clone(),
        ..HeartbeatRequest::default()
    };
    c.ask("an empty group", &of(&g, &"nobody".into(), 1));
    let (member, generation) = member(c, &g);
    c.ask("before the assignment", &of(&g, &member, generation));
    let mut request = sync_of(&g, &member, generation);
    request.protocol_type = Some("consumer".into());
    request.protocol_name = Some("range".into());
    c.help(&request);
    c.ask("of a member", &of(&g, &member, generation));
    c.ask("an old generation", &of(&g, &member, generation - 1));
    c.ask("no generation", &of(&g, &member, UNKNOWN_GENERATION));
    c.ask("an unknown member", &of(&g, &"nobody".into(), generation));
    c.ask("no member", &of(&g, &"".into(), generation));
    c.ask("no group", &of(&"".into(), &member, generation));
    c.ask(
        "an instance that is unknown",
        &HeartbeatRequest { group_instance_id: Some("i".into()), ..of(&g, &member, generation) },
    );
}

const MANY_SINCE: i16 = 3;

fn leave(c: &mut Conversation) {
    let g = c.group("g");
    let of = |c: &Conversation, group: &Str, members: &[(&Str, Option<&str>)]| match c.version() >= MANY_SINCE
    {
        false => LeaveGroupRequest {
            group_id: group.clone(),
            member_id: members.first().map(|(member, _)| (*member).clone()).unwrap_or_default(),
            ..LeaveGroupRequest::default()
        },
        true => {
            let identity = |(member, instance): &(&Str, Option<&str>)| MemberIdentity {
                member_id: (*member).clone(),
                group_instance_id: instance.map(Str::from),
                ..Default::default()
            };
            LeaveGroupRequest {
                group_id: group.clone(),
                members: members.iter().map(identity).collect(),
                ..LeaveGroupRequest::default()
            }
        }
    };
    let nobody = Str::from("nobody");
    c.ask("an empty group", &of(c, &g, &[(&nobody, None)]));
    let (member, _) = stable_member(c, &g);
    c.ask("an unknown member", &of(c, &g, &[(&nobody, None)]));
    c.ask("no member", &of(c, &g, &[(&Str::default(), None)]));
    if c.version() >= MANY_SINCE {
        c.ask("an unknown instance", &of(c, &g, &[(&Str::default(), Some("i"))]));
        c.ask("none", &of(c, &g, &[]));
        c.ask("known and unknown, twice", &of(c, &g, &[(&nobody, None), (&member, None), (&member, None)]));
    } else {
        c.ask("the member", &of(c, &g, &[(&member, None)]));
    }
    c.ask("again", &of(c, &g, &[(&member, None)]));
    c.ask("no group", &of(c, &"".into(), &[(&member, None)]));
    c.ask("an unknown group", &of(c, &c.name("x"), &[(&member, None)]));
}
