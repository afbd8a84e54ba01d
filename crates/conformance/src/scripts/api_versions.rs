//! ApiVersions, and frames that are no requests.

use protocol::ApiKey;
use protocol::messages::ApiVersionsRequest;

use super::{Script, script};
use crate::conversation::Conversation;

pub(super) const SCRIPTS: &[Script] = &[
    script(ApiKey::ApiVersions, "what is advertised", advertised),
    script(ApiKey::ApiVersions, "names of client libraries", software),
    script(ApiKey::ApiVersions, "frames", frames),
];

fn advertised(c: &mut Conversation) {
    c.ask("plain", &software_named("conformance", "1.0"));
    c.ask("again", &software_named("conformance", "1.0"));
}

fn software(c: &mut Conversation) {
    for (label, name, version) in [
        ("empty name", "", "1"),
        ("empty version", "a", ""),
        ("a blank", "a b", "1"),
        ("an underscore", "a_b", "1"),
        ("a dash first", "-a", "1"),
        ("a dot last", "a", "1."),
        ("letters of elsewhere", "ä", "1"),
        ("dots and dashes inside", "a.b-c", "1-2.3"),
    ] {
        c.ask(label, &software_named(name, version));
    }
    c.ask("two hundred characters", &software_named(&"a".repeat(200), "1"));
}

fn software_named(name: &str, version: &str) -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: name.into(),
        client_software_version: version.into(),
        ..ApiVersionsRequest::default()
    }
}

/// Frames by hand. They do not depend on the version of the run, so one version sends them.
fn frames(c: &mut Conversation) {
    if c.version() != 0 {
        return;
    }
    // key, version, correlation id, client id null, body
    let frame = |key: i16, version: i16, body: &[u8]| {
        let mut frame = Vec::new();
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&7_i32.to_be_bytes());
        frame.extend_from_slice(&(-1_i16).to_be_bytes());
        frame.extend_from_slice(body);
        frame
    };
    const METADATA: i16 = 3;
    const API_VERSIONS: i16 = 18;
    // Error code, then one entry: ApiVersions itself with its versions.
    c.raw("a newer ApiVersions", &frame(API_VERSIONS, 99, &[0, 1, 2, 3]), 2);
    c.raw("a negative version", &frame(API_VERSIONS, -1, &[]), 2);
    c.raw("an unknown key", &frame(999, 0, &[]), 2);
    c.raw("a negative key", &frame(-1, 0, &[]), 2);
    c.raw("an API between brokers", &frame(ApiKey::AlterPartition.code(), 3, &[0; 16]), 2);
    c.raw("an API that is gone", &frame(ApiKey::LeaderAndIsr.code(), 0, &[0; 16]), 2);
    c.raw("a newer Metadata", &frame(METADATA, 99, &[0; 16]), 2);
    c.raw("an empty frame", &[], 2);
    c.raw("half a header", &[0, 3, 0, 1, 0, 0], 2);
    c.raw("no body", &frame(METADATA, 1, &[]), 2);
    c.raw("a count without elements", &frame(METADATA, 1, &[0, 0, 0, 9]), 2);
    c.raw("a count below null", &frame(METADATA, 1, &[0xff, 0xff, 0xff, 0xfe]), 2);
    c.raw("an immense count", &frame(METADATA, 1, &[0x7f, 0xff, 0xff, 0xff]), 2);
    c.raw("null where version 0 has none", &frame(METADATA, 0, &[0xff, 0xff, 0xff, 0xff]), 2);
    c.raw("bytes behind the end", &frame(METADATA, 1, &[0, 0, 0, 0, 1, 2, 3]), 0);
    c.raw("no UTF-8", &frame(METADATA, 1, &[0, 0, 0, 1, 0, 1, 0xff]), 0);
}
