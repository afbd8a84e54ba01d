//! The verbs against a broker of their own, as a script would use them.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::broker::{Broker, ottla};

struct Shell {
    _home: tempfile::TempDir,
    broker: Broker,
}

impl Shell {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let set = ["--set", "group.initial.rebalance.delay.ms=0", "--set", "offsets.topic.num.partitions=1"];
        let broker = Broker::start(&home.path().join("data"), &set);
        Self { _home: home, broker }
    }

    fn run(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .args(arguments)
            .env("OTTLA_BROKER", self.broker.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails does not read all of it.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    /// Must succeed; its stdout.
    fn out(&self, arguments: &[&str]) -> Vec<u8> {
        self.fed(arguments, b"")
    }

    fn fed(&self, arguments: &[&str], stdin: &[u8]) -> Vec<u8> {
        let output = self.run(arguments, stdin);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--output", "json"]);
        serde_json::from_slice(&self.out(&arguments)).unwrap()
    }

    fn code(&self, arguments: &[&str]) -> Option<i32> {
        self.run(arguments, b"").status.code()
    }
}

#[test]
fn topics_from_their_making_to_their_end() {
    let shell = Shell::new();
    shell.out(&["topic", "create", "clicks", "-p", "3", "--config", "retention.ms=60000"]);
    assert_eq!(shell.code(&["topic", "create", "clicks"]), Some(1));
    assert_eq!(shell.code(&["topic", "create", "clicks", "--if-not-exists"]), Some(0));
    assert_eq!(shell.code(&["topic", "create", "bad/name"]), Some(1));
    let listed = shell.json(&["topic", "list"]);
    assert_eq!((&listed[0]["topic"], &listed[0]["partitions"]), (&"clicks".into(), &3.into()));

    shell.out(&[
        "topic",
        "alter",
        "clicks",
        "-p",
        "5",
        "--set",
        "retention.ms=1000",
        "--set",
        "segment.bytes=1048576",
    ]);
    shell.out(&["topic", "alter", "clicks", "--unset", "segment.bytes"]);
    assert_eq!(shell.code(&["topic", "alter", "clicks", "--set", "no.such.key=1"]), Some(1));
    let described = shell.json(&["topic", "describe", "clicks"]);
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 5);
    assert_eq!(described[0]["configs"], serde_json::json!({ "retention.ms": "1000" }));

    shell.out(&["topic", "delete", "clicks"]);
    for verb in ["describe", "delete"] {
        assert_eq!(shell.code(&["topic", verb, "clicks"]), Some(4));
    }
    assert_eq!(shell.code(&["topic", "delete", "clicks", "--if-exists"]), Some(0));
}

#[test]
fn bytes_come_back_as_they_went_in() {
    let shell = Shell::new();
    shell.out(&["topic", "create", "bytes", "-p", "1"]);
    let stanzas = b"Package: a\nText: \xff\xfe\0\n\nPackage: b\nX: y\n\n".to_vec();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let produced = [
            "produce",
            "-t",
            "bytes",
            "-D",
            "\\n\\n",
            "--key-regex",
            "^Package: (.*)$",
            "-z",
            codec,
            "-H",
            "from=test",
        ];
        shell.fed(&produced, &stanzas);
    }
    let back = shell.out(&["consume", "-t", "bytes", "-e", "-f", "%s\\n\\n"]);
    assert_eq!(back, stanzas.repeat(5));
    let keys = shell.out(&["consume", "-t", "bytes", "-e", "-n", "3", "-f", "%p %o %k %h\\n"]);
    assert_eq!(String::from_utf8(keys).unwrap(), "0 0 a from=test\n0 1 b from=test\n0 2 a from=test\n");
    let last = shell.json(&["consume", "-t", "bytes", "-e", "-o", "-2", "-n", "1"]);
    assert_eq!((&last["key"], &last["value_base64"]), (&"a".into(), &"UGFja2FnZTogYQpUZXh0OiD//gA=".into()));
    let sums = serde_json::from_slice::<Value>(
        &shell.fed(&["produce", "-t", "bytes", "-Z", "--output", "json"], b"x\n\ny"),
    );
    assert_eq!(sums.unwrap()["partitions"][0]["first_offset"], 10);
    assert_eq!(shell.out(&["consume", "-t", "bytes", "-e", "-o", "10", "-f", "%S "]), b"1 -1 1 ");
    assert_eq!(shell.json(&["topic", "trim", "bytes", "--before", "12"])[0]["start"], 12);
    assert_eq!(shell.out(&["consume", "-t", "bytes", "-e"]), b"y\n");
    assert_eq!(shell.code(&["consume", "-t", "nope", "-e"]), Some(4));
}

#[test]
fn a_group_goes_on_where_it_stopped() {
    let shell = Shell::new();
    shell.out(&["topic", "create", "work", "-p", "2"]);
    shell.fed(&["produce", "-t", "work", "-K", ":"], b"a:1\nb:2\nc:3\nd:4\n");
    let lines = |bytes: Vec<u8>| {
        let mut lines: Vec<String> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(shell.out(&["consume", "-t", "work", "-g", "readers", "-e"])), ["1", "2", "3", "4"]);
    shell.fed(&["produce", "-t", "work"], b"5\n");
    assert_eq!(lines(shell.out(&["consume", "-t", "work", "-g", "readers", "-e"])), ["5"]);

    let described = shell.json(&["group", "describe", "readers"]);
    assert_eq!(described["state"], "Empty");
    assert!(described["offsets"].as_array().unwrap().iter().all(|offset| offset["lag"] == 0), "{described}");
    shell.out(&["group", "reset", "readers", "-t", "work", "--to", "beginning"]);
    assert_eq!(lines(shell.out(&["consume", "-t", "work", "-g", "readers", "-e"])).len(), 5);
    assert_eq!(shell.json(&["group", "list"])[0]["group"], "readers");
    shell.out(&["group", "delete", "readers"]);
    assert_eq!(shell.json(&["group", "list"]), serde_json::json!([]));
    assert_eq!(shell.code(&["group", "describe", "readers"]), Some(4));
}

#[test]
fn the_cluster_tells_where_it_lives() {
    let shell = Shell::new();
    let cluster = shell.json(&["cluster"]);
    assert_eq!(cluster["cluster_id"], shell.broker.started["cluster_id"]);
    assert_eq!(cluster["brokers"][0]["address"], shell.broker.started["advertised"][0]);
}

#[test]
fn nobody_there_has_an_exit_code_of_its_own() {
    for verb in [
        &["topic", "list"][..],
        &["cluster"],
        &["consume", "-t", "x"],
        &["group", "list"],
        &["produce", "-t", "x"],
    ] {
        let mut arguments = verb.to_vec();
        arguments.extend(["-b", "127.0.0.1:1"]);
        assert_eq!(ottla(&arguments).status.code(), Some(3), "{verb:?}");
    }
    assert_eq!(ottla(&["topic", "list", "-b", "nonsense"]).status.code(), Some(2));
    assert_eq!(ottla(&["consume", "-t", "x", "-f", "%q"]).status.code(), Some(2));
    assert_eq!(ottla(&["consume", "-t", "x", "-o", "stored"]).status.code(), Some(2));
    assert_eq!(ottla(&["topic", "alter", "x"]).status.code(), Some(2));
}
