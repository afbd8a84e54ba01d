use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use client::{AlterConfig, Client, ClientOptions, Resource};

use crate::broker::{Broker, ottla};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// ApiVersions v0 and the error code of its answer.
fn api_versions(address: &str) -> i16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]).unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4..8], [0, 0, 0, 7]);
    i16::from_be_bytes([answer[8], answer[9]])
}

#[test]
fn it_starts_on_an_empty_directory_answers_and_stops_with_0() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let broker = Broker::start(&data, &[]);
    assert_eq!(api_versions(&broker.address()), 0);
    assert_eq!(broker.started["advertised"][0], broker.started["listening"][0]);
    assert!(broker.get("/health/ready").starts_with("HTTP/1.1 200"));
    let metrics = broker.get("/metrics");
    assert!(
        metrics.contains(
            "kafka_network_requestmetrics_requests_total{request=\"ApiVersions\",version=\"0\"} 1\n"
        ),
        "{metrics}"
    );
    let cluster = broker.started["cluster_id"].clone();
    assert_eq!(cluster.as_str().unwrap().len(), 22);
    assert_eq!(broker.stop(), Some(0));

    let again = Broker::start(&data, &["--set", "node.id=1"]);
    assert_eq!(again.started["cluster_id"], cluster);
    assert_eq!(again.stop(), Some(0));
}

#[test]
fn the_second_signal_does_not_wait() {
    let home = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(home.path(), &[]);
    broker.signal(rustix::process::Signal::INT);
    broker.signal(rustix::process::Signal::INT);
    assert!(matches!(broker.exit_code(), Some(0 | 130)));
}

#[test]
fn a_directory_serves_one_broker_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().to_str().unwrap();
    let broker = Broker::start(home.path(), &[]);
    let second = ottla(&["serve", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    let said = stderr(&second);
    assert!(said.contains(data) && said.contains("another process"), "{said}");
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn a_port_in_use_is_said_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        ottla(&["serve", "--data", data.to_str().unwrap(), "--listen", &address, "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("{address} is in use")), "{}", stderr(&output));
    assert!(!data.exists());
}

#[test]
fn an_address_that_others_reach_must_be_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().to_str().unwrap();
    let output = ottla(&["serve", "--data", data, "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--insecure"));
}

#[test]
fn wrong_properties_are_named_with_the_reason() {
    for (set, key) in [
        ("num.partitions=0", "num.partitions"),
        ("log.retention.ms=soon", "log.retention.ms"),
        ("listeners=SSL://:1", "SSL"),
    ] {
        let output = ottla(&["serve", "--data", "/nonexistent/x", "--set", set]);
        assert_eq!(output.status.code(), Some(2), "{set}");
        assert!(stderr(&output).contains(key), "{}", stderr(&output));
    }
    assert_eq!(ottla(&["serve", "--set", "no-value"]).status.code(), Some(2));
    assert_eq!(ottla(&["serve", "--listen", "nonsense"]).status.code(), Some(2));
    assert_eq!(ottla(&["serve", "--server-properties", "/nonexistent"]).status.code(), Some(2));
}

#[test]
fn a_server_properties_file_of_kafka_is_understood() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("server.properties");
    let text = "node.id=5\nprocess.roles=broker,controller\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n\
                controller.listener.names=CONTROLLER\nadvertised.listeners=PLAINTEXT://localhost:0\n\
                listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nnum.partitions=3\n";
    std::fs::write(&file, text).unwrap();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(["serve", "--admin", "127.0.0.1:0", "--output", "json", "--server-properties"])
        .arg(&file)
        .arg("--data")
        .arg(home.path().join("data"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let broker = Broker::of(child);
    assert_eq!(broker.started["node_id"], 5);
    let port = broker.address().rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(broker.started["advertised"][0], format!("localhost:{port}"));
    assert_eq!(broker.started["listening"].as_array().unwrap().len(), 1);
    assert_eq!(broker.stop(), Some(0));
}

/// What was durable once and is damaged now stops the start and is named; nothing is cut away.
#[test]
fn damage_is_named_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &[]);
    let made = ottla(&["topic", "create", "t", "-p", "3", "-b", &broker.address()]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    assert_eq!(broker.stop(), Some(0));

    let file = home.path().join("metadata/metadata.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let data = home.path().to_str().unwrap();
    let start = ["serve", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    for _ in 0..2 {
        let damaged = ottla(&start);
        assert_eq!(damaged.status.code(), Some(1));
        assert!(stderr(&damaged).contains("metadata.log is damaged"), "{}", stderr(&damaged));
    }
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(Broker::start(home.path(), &[]).stop(), Some(0));
}

#[test]
fn health_tells_and_metrics_show_what_clients_did() {
    let home = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &[]);
    let address = broker.address();
    ottla(&["topic", "create", "t", "-p", "2", "-b", &address]);
    ottla(&["consume", "-t", "t", "-e", "-b", &address]);
    let metrics = broker.get("/metrics");
    for line in [
        "kafka_controller_kafkacontroller_globaltopiccount 1\n",
        "kafka_server_replicamanager_partitioncount 2\n",
        "kafka_server_replicamanager_underreplicatedpartitions 0\n",
        "kafka_log_log_logendoffset{topic=\"t\",partition=\"1\"} 0\n",
        "kafka_server_kafkaserver_brokerstate 3\n",
        "ottla_log_state 0\n",
    ] {
        assert!(metrics.contains(line), "no {line:?} in {metrics}");
    }
    let allocations = metrics.lines().find_map(|line| line.strip_prefix("ottla_allocations_total "));
    assert!(allocations.unwrap().parse::<u64>().unwrap() > 1000, "{metrics}");
    // Every sample belongs to a family that was announced, and no family is announced twice.
    let mut families: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let announced = families.len();
    families.sort();
    families.dedup();
    assert_eq!(families.len(), announced);
    let body = metrics.split("\r\n\r\n").nth(1).unwrap();
    for sample in body.lines().filter(|line| line.starts_with("kafka_") || line.starts_with("ottla_")) {
        let name = sample.split(['{', ' ']).next().unwrap();
        let of_family = ["", "_bucket", "_sum", "_count"].iter().any(|suffix| {
            name.strip_suffix(suffix).is_some_and(|family| families.binary_search(&family).is_ok())
        });
        assert!(of_family, "{sample}");
    }
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn a_connection_limit_changes_while_the_broker_runs() {
    let home = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let set = |value: &str| {
        let change = AlterConfig::set("max.connections", value);
        runtime.block_on(async {
            let admin = Client::new(ClientOptions::new([broker.address()])).admin();
            admin.alter_configs(&Resource::Broker("".into()), &[change], false).await
        })
    };
    assert!(broker.get("/metrics").contains("ottla_connections_limit 10000\n"));
    set("7").unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !broker.get("/metrics").contains("ottla_connections_limit 7\n") {
        assert!(std::time::Instant::now() < deadline, "the new limit does not hold");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(set("some").is_err());
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn a_bucket_that_cannot_be_used_is_refused_with_the_reason() {
    let refused = |data: &str| {
        let patience = "initial.broker.registration.timeout.ms=0";
        let more = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--set", patience];
        let output = ottla(&[&["serve", "--data", data][..], &more].concat());
        (output.status.code(), stderr(&output))
    };
    let (code, said) = refused("ftp://somewhere/else");
    assert!(code == Some(2) && said.contains("s3://BUCKET/PREFIX"), "{said}");
    let (code, said) = refused("s3://bucket/prefix?reigon=here");
    assert!(code == Some(2) && said.contains("reigon is not a parameter"), "{said}");
    // Nobody listens on a port that was just given back. What may be a secret is not told.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let parameters = format!(
        "endpoint=http://127.0.0.1:{port}&allow_http=true&access_key_id=a&secret_access_key=hush&region=r"
    );
    let (code, said) = refused(&format!("s3://bucket/prefix?{parameters}"));
    assert!(code == Some(1) && said.contains("s3://bucket/prefix: this store does not answer"), "{said}");
    assert!(!said.contains("hush"), "{said}");
}
