//! Listeners with TLS and SASL of a whole broker: files and properties in, clients in or out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::broker::{Broker, ottla};

/// One broker whose listeners its file says, and what it wrote to its log.
fn serve(home: &Path, properties: &str, more: &[&str]) -> (Broker, PathBuf) {
    let file = home.join("server.properties");
    std::fs::write(&file, properties).unwrap();
    let log = home.join("log");
    let child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(["serve", "--admin", "127.0.0.1:0", "--output", "json", "--server-properties"])
        .arg(&file)
        .arg("--data")
        .arg(home.join("data"))
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::options().create(true).append(true).open(&log).unwrap())
        .spawn()
        .unwrap();
    (Broker::of(child), log)
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// Key, version, correlation id 7 and no client id in front.
fn request(key: u8, version: u8, body: &[u8]) -> Vec<u8> {
    frame(&[&[0, key, 0, version, 0, 0, 0, 7, 0xff, 0xff], body].concat())
}

fn answer(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn api_versions(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&request(18, 0, &[]))?;
    assert_eq!(answer(stream)?[..6], [0, 0, 0, 7, 0, 0]);
    Ok(())
}

/// SaslHandshake 0 and one message of PLAIN. An error: the connection was closed.
fn prove(stream: &mut (impl Read + Write), message: &[u8]) -> io::Result<()> {
    stream.write_all(&request(17, 0, b"\0\x05PLAIN"))?;
    assert_eq!(answer(stream)?[..6], [0, 0, 0, 7, 0, 0]);
    stream.write_all(&frame(message))?;
    assert!(answer(stream)?.is_empty());
    Ok(())
}

/// Metadata 0 of no topic in particular.
fn metadata(stream: &mut (impl Read + Write)) -> io::Result<Vec<u8>> {
    stream.write_all(&request(3, 0, &[0; 4]))?;
    answer(stream)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn clients_prove_who_they_are_and_passwords_stay_secret() {
    let home = tempfile::tempdir().unwrap();
    let properties = "listeners=SASL_PLAINTEXT://127.0.0.1:0\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\n\
        connection.failed.authentication.delay.ms=1\nsuper.users=User:alice\n\
        listener.name.sasl_plaintext.plain.sasl.jaas.config=\
        org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"wonder-secret\";\n";
    let user = "SCRAM-SHA-256=[name=admin,password=first-secret]";
    let (broker, log) = serve(home.path(), properties, &["--add-scram", user]);
    let address = broker.address();
    let mut alice = connect(&address);
    api_versions(&mut alice).unwrap();
    prove(&mut alice, b"\0alice\0wonder-secret").unwrap();
    assert!(metadata(&mut alice).unwrap().windows(9).any(|window| window == b"127.0.0.1"));
    assert!(prove(&mut connect(&address), b"\0alice\0wonder").is_err());
    assert!(prove(&mut connect(&address), b"").is_err());
    assert!(metadata(&mut connect(&address)).is_err(), "nothing without a proof");
    // DescribeConfigs 1 of the broker, all keys: resource type 4, name "1", null keys.
    alice.write_all(&request(32, 1, b"\0\0\0\x01\x04\0\x011\xff\xff\xff\xff\0")).unwrap();
    let described = answer(&mut alice).unwrap();
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has(&described, "sasl.jaas.config") && has(&described, "SCRAM-SHA-256"));
    let metrics = broker.get("/metrics");
    for expected in [
        "ottla_authentications_total{outcome=\"success\"} 1\n",
        "ottla_authentications_total{outcome=\"failure\"} 2\n",
        "ottla_connections_closed_total{reason=\"unauthenticated\"} 3\n",
    ] {
        assert!(metrics.contains(expected), "{metrics}");
    }
    assert_eq!(broker.stop(), Some(0));
    // Once more with another password: the user is there and stays.
    let (again, _) = serve(home.path(), properties, &["--add-scram", &user.replace("first", "second")]);
    assert_eq!(again.stop(), Some(0));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("authentication with \"PLAIN\" failed"), "{said}");
    assert!(said.contains("admin") && said.contains("stays as it is"), "{said}");
    for bytes in
        [said.as_bytes(), &described, &std::fs::read(home.path().join("data/metadata/metadata.log")).unwrap()]
    {
        for secret in ["wonder-secret", "first-secret", "second-secret"] {
            assert!(!has(bytes, secret), "{secret} is somewhere");
        }
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), der, pem }
    }

    /// Key and certificate in one file, as `ssl.keystore.location` has them.
    fn keystore(&self) -> String {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        key.serialize_pem() + &params.signed_by(&key, &self.issuer).unwrap().pem()
    }

    fn connect(&self, address: &str) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, connect(address));
        api_versions(&mut stream)?;
        Ok(stream)
    }
}

#[test]
fn a_certificate_that_changes_is_used_without_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("server.pem");
    let (before, after) = (Authority::new(), Authority::new());
    std::fs::write(&file, before.keystore()).unwrap();
    let properties = format!(
        "listeners=SSL://127.0.0.1:0\nssl.keystore.type=PEM\nssl.keystore.location={}\n",
        file.display()
    );
    let (broker, log) = serve(home.path(), &properties, &[]);
    let address = broker.address();
    let mut open = before.connect(&address).unwrap();
    assert!(after.connect(&address).is_err());
    // Half a file is no certificate: what was there goes on.
    std::fs::write(&file, &after.keystore()[..300]).unwrap();
    let said = |text: &str| {
        for _ in 0..300 {
            if std::fs::read_to_string(&log).unwrap().contains(text) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("nobody said {text:?}: {}", std::fs::read_to_string(&log).unwrap());
    };
    said("all stays as it was");
    before.connect(&address).unwrap();
    std::fs::write(&file, after.keystore()).unwrap();
    said("certificates reloaded");
    after.connect(&address).unwrap();
    assert!(before.connect(&address).is_err());
    assert!(metadata(&mut open).is_ok(), "whoever is in stays in");
    assert_eq!(broker.stop(), Some(0));
}

/// The keys cannot be fetched: the broker serves all the same, and lets nobody in by a token.
#[test]
fn without_the_keys_of_the_provider_no_token_is_good() {
    let home = tempfile::tempdir().unwrap();
    // A port that nobody listens on any more.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{closed}/keys"), format!("file://{}/nowhere.json", home.path().display())] {
        let place = tempfile::tempdir().unwrap();
        let properties = format!(
            "listeners=SASL_PLAINTEXT://127.0.0.1:0\nsasl.enabled.mechanisms=OAUTHBEARER\n\
             connection.failed.authentication.delay.ms=1\n\
             sasl.oauthbearer.jwks.endpoint.url={url}\nsasl.oauthbearer.expected.issuer=https://provider\n\
             sasl.oauthbearer.expected.audience=kafka\n"
        );
        let (broker, log) = serve(place.path(), &properties, &[]);
        // {"alg":"none"} and {"alg":"ES256","kid":"one"}, both with {"iss":"https://provider","aud":"kafka","sub":"alice"}.
        let claims = "eyJpc3MiOiJodHRwczovL3Byb3ZpZGVyIiwiYXVkIjoia2Fma2EiLCJzdWIiOiJhbGljZSJ9";
        for token in [
            format!("eyJhbGciOiJub25lIn0.{claims}."),
            format!("eyJhbGciOiJFUzI1NiIsImtpZCI6Im9uZSJ9.{claims}.{}", "A".repeat(86)),
        ] {
            let mut client = connect(&broker.address());
            client.write_all(&request(17, 0, b"\0\x0bOAUTHBEARER")).unwrap();
            assert_eq!(answer(&mut client).unwrap()[..6], [0, 0, 0, 7, 0, 0]);
            client.write_all(&frame(format!("n,,\x01auth=Bearer {token}\x01\x01").as_bytes())).unwrap();
            assert_eq!(answer(&mut client).unwrap(), br#"{"status":"invalid_token"}"#, "{token}");
            client.write_all(&frame(b"\x01")).unwrap();
            assert!(answer(&mut client).is_err() || metadata(&mut client).is_err(), "{token}");
        }
        assert_eq!(broker.stop(), Some(0));
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.contains("the keys of the identity provider stay as they were"), "{said}");
    }
}

#[test]
fn a_listener_that_lacks_something_is_named_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    for (properties, expected) in [
        (vec!["listeners=SSL://127.0.0.1:0"], "ssl.keystore.location"),
        (vec!["listeners=SSL://127.0.0.1:0", "ssl.keystore.location=/nonexistent"], "/nonexistent"),
        (vec!["listeners=SASL_PLAINTEXT://127.0.0.1:0"], "GSSAPI"),
        (
            vec!["listeners=SASL_PLAINTEXT://127.0.0.1:0", "sasl.enabled.mechanisms=PLAIN"],
            "plain.sasl.jaas.config",
        ),
        (vec!["listeners=SASL_PLAINTEXT://0.0.0.0:0", "sasl.enabled.mechanisms=SCRAM-SHA-256"], "--insecure"),
        (vec!["listeners=OUTER://127.0.0.1:0"], "listener.security.protocol.map"),
    ] {
        let mut arguments = vec!["serve", "--data", data.to_str().unwrap(), "--admin", "127.0.0.1:0"];
        properties.iter().for_each(|property| arguments.extend(["--set", property]));
        let output = ottla(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    let wrong = ottla(&["serve", "--add-scram", "SCRAM-SHA-256=[name=a]"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!data.exists());
}

#[test]
fn the_verbs_take_the_properties_of_a_kafka_client() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let (ours, another) = (Authority::new(), Authority::new());
    std::fs::write(path("server.pem"), ours.keystore()).unwrap();
    std::fs::write(path("client.pem"), ours.keystore()).unwrap();
    std::fs::write(path("ca.pem"), &ours.pem).unwrap();
    std::fs::write(path("another.pem"), &another.pem).unwrap();
    let properties = format!(
        "listeners=SASL_SSL://127.0.0.1:0,SSL://127.0.0.1:0\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
         ssl.keystore.location={}\nssl.truststore.location={}\nlistener.name.ssl.ssl.client.auth=required\n\
         ssl.principal.mapping.rules=RULE:^.*$/certified/\n\
         connection.failed.authentication.delay.ms=1\nsuper.users=User:admin;User:alice;User:certified\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"wonder-secret\";\n",
        path("server.pem").display(),
        path("ca.pem").display()
    );
    let user = "SCRAM-SHA-512=[name=admin,password=first-secret]";
    let (broker, _) = serve(home.path(), &properties, &["--add-scram", user]);
    let listening: Vec<String> = serde_json::from_value(broker.started["listening"].clone()).unwrap();
    let trusts = |authority: &str| format!("ssl.truststore.location={}\n", path(authority).display());
    // The certificate says localhost, and that is not what is connected to.
    let any_name = "ssl.endpoint.identification.algorithm=\n";
    let sasl = |mechanism: &str, module: &str, name: &str, password: &str| {
        format!(
            "security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\nsasl.jaas.config=\
             org.apache.kafka.common.security.{module} required username=\"{name}\" password=\"{password}\";\n"
        )
    };
    let scram = |password: &str| sasl("SCRAM-SHA-512", "scram.ScramLoginModule", "admin", password);
    let plain = sasl("PLAIN", "plain.PlainLoginModule", "alice", "wonder-secret");
    let certified =
        format!("security.protocol=SSL\nssl.keystore.location={}\n", path("client.pem").display());
    let run = |address: &str, properties: &str, verb: &[&str]| {
        std::fs::write(path("client.properties"), properties).unwrap();
        let file = path("client.properties");
        let options = ["-b", address, "--command-config", file.to_str().unwrap(), "--output", "json"];
        ottla(&[verb, &options].concat())
    };
    let (by_password, by_certificate) = (&listening[0], &listening[1]);
    for (topic, address, properties) in [
        ("of-scram", by_password, scram("first-secret") + &trusts("ca.pem") + any_name),
        ("of-plain", by_password, plain.clone() + &trusts("ca.pem") + any_name),
        ("of-a-certificate", by_certificate, certified.clone() + &trusts("ca.pem") + any_name),
    ] {
        let made = run(address, &properties, &["topic", "create", topic]);
        assert!(made.status.success(), "{topic}: {}", String::from_utf8_lossy(&made.stderr));
    }
    for (address, properties, expected) in [
        (by_password, scram("wrong-secret") + &trusts("ca.pem") + any_name, "SASL_AUTHENTICATION_FAILED"),
        (by_password, scram("first-secret") + &trusts("another.pem") + any_name, "certificate"),
        (by_password, scram("first-secret") + &trusts("ca.pem"), "not valid for name"),
        (by_password, plain.replace("=PLAIN\n", "=SCRAM-SHA-256\n") + &trusts("ca.pem") + any_name, "only: "),
    ] {
        let refused = run(address, &properties, &["topic", "list"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{said}");
        assert!(said.contains(expected) && !said.contains("-secret"), "{said}");
    }
    let listed = run(by_certificate, &(certified + &trusts("ca.pem") + any_name), &["topic", "list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    for topic in ["of-scram", "of-plain", "of-a-certificate"] {
        assert!(listed.contains(topic), "{listed}");
    }
    assert_eq!(broker.stop(), Some(0));
}
