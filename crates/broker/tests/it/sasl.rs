//! Clients prove who they are: mechanisms, users, tokens, and everything that must not let anybody in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use broker::authn::scram::salted_password;
use broker::{CloseReason, Connection, Mechanism, MechanismSettings, Outcome, PlainUsers, SaslSettings};
use bytes::Bytes;
use catalog::acl::{
    Acl, AclOperation, AclPermission, AclResourceType, AclRule, PatternType, ResourcePattern,
};
use catalog::{MetadataRecord, ScramMechanism};
use protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use protocol::messages::create_delegation_token_request::CreatableRenewers;
use protocol::messages::describe_delegation_token_request::DescribeDelegationTokenOwner;
use protocol::messages::describe_user_scram_credentials_request::UserName;
use protocol::messages::{
    AlterUserScramCredentialsRequest, ApiVersionsRequest, CreateDelegationTokenRequest,
    CreateDelegationTokenResponse, DescribeDelegationTokenRequest, DescribeUserScramCredentialsRequest,
    ExpireDelegationTokenRequest, MetadataRequest, RenewDelegationTokenRequest, SaslAuthenticateRequest,
    SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use protocol::{ErrorCode, Request, Str};
use world::bucket::MemBucket;
use world::clock::Clock;
use world::process::Process;

use crate::house::{House, NOW_MS, answer, code, frame_of, story};

const LISTENER: &str = "OUTER";
const DELAY: Duration = Duration::from_millis(100);

/// A house with a listener that asks for a proof, and its two users of PLAIN.
async fn house(reauth_max: Duration, properties: &[(&str, &str)]) -> House {
    let house = House::with(properties).await;
    ask_for_proof(&house, reauth_max);
    house
}

fn ask_for_proof(house: &House, reauth_max: Duration) {
    let users = [("alice", "wonder"), ("bob", "builder")];
    let users = PlainUsers::new(users.map(|(user, password)| (user.to_owned(), password.to_owned())));
    let mechanisms = [
        Mechanism::Plain(Arc::new(users)),
        Mechanism::Scram(ScramMechanism::Sha256),
        Mechanism::Scram(ScramMechanism::Sha512),
    ];
    let mechanisms = mechanisms.map(|mechanism| MechanismSettings { mechanism, reauth_max }).to_vec();
    house.sasl.set(LISTENER, SaslSettings { mechanisms, failed_delay: DELAY });
}

struct Client<'a> {
    house: &'a House,
    connection: Arc<Connection>,
}

impl<'a> Client<'a> {
    fn of(house: &'a House) -> Self {
        let peer = SocketAddr::from(([192, 0, 2, 1], 50_000));
        Self { house, connection: Connection::with_sasl(2, peer, LISTENER) }
    }

    fn start(&self, frame: Bytes) -> futures_util::future::BoxFuture<'static, Outcome> {
        self.house.broker.handle(&self.connection, frame).outcome()
    }

    async fn outcome<R: Request>(&self, version: i16, request: R) -> Outcome {
        self.start(frame_of(version, &request)).await
    }

    async fn ask<R: Request>(&self, version: i16, request: R) -> R::Response {
        answer::<R>(version, self.outcome(version, request).await)
    }

    async fn handshake(&self, mechanism: &str) -> SaslHandshakeResponse {
        self.ask(1, SaslHandshakeRequest { mechanism: mechanism.into(), ..Default::default() }).await
    }

    async fn token(&self, bytes: &[u8]) -> SaslAuthenticateResponse {
        let auth_bytes = Bytes::copy_from_slice(bytes);
        self.ask(2, SaslAuthenticateRequest { auth_bytes, ..Default::default() }).await
    }

    async fn plain(&self, message: &str) -> ErrorCode {
        assert_eq!(code(self.handshake("PLAIN").await.error_code), ErrorCode::None);
        code(self.token(message.as_bytes()).await.error_code)
    }

    async fn scram(
        &self,
        mechanism: ScramMechanism,
        user: &str,
        password: &str,
        extension: &str,
    ) -> SaslAuthenticateResponse {
        assert_eq!(code(self.handshake(mechanism.name()).await.error_code), ErrorCode::None);
        let bare = format!("n={user},r=abcdef{extension}");
        let challenge = self.token(format!("n,,{bare}").as_bytes()).await;
        if code(challenge.error_code) != ErrorCode::None {
            return challenge;
        }
        let challenge = String::from_utf8(challenge.auth_bytes.to_vec()).unwrap();
        self.token(proof(mechanism, password, &bare, &challenge).as_bytes()).await
    }

    /// May it ask for something now?
    async fn is_let_in(&self) -> bool {
        match self.outcome(12, MetadataRequest::default()).await {
            Outcome::Answer(_) => true,
            Outcome::Close(reason) => {
                assert!(reason.is_authentication(), "{reason}");
                false
            }
            _ => panic!("Metadata is answered or refused"),
        }
    }
}

/// A client's last message of SCRAM, from the RFC's formulas.
fn proof(mechanism: ScramMechanism, password: &str, bare: &str, challenge: &str) -> String {
    let value = |key: &str| challenge.split(',').find_map(|part| part.strip_prefix(key)).unwrap().to_owned();
    let (algorithm, hash) = match mechanism {
        ScramMechanism::Sha256 => (hmac::HMAC_SHA256, &digest::SHA256),
        ScramMechanism::Sha512 => (hmac::HMAC_SHA512, &digest::SHA512),
    };
    let salt = BASE64.decode(value("s=")).unwrap();
    let iterations = value("i=").parse().unwrap();
    let salted = salted_password(mechanism, password.as_bytes(), &salt, iterations);
    let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(algorithm, key), text);
    let client_key = sign(&salted, b"Client Key");
    let without_proof = format!("c=biws,r={}", value("r="));
    let message = format!("{bare},{challenge},{without_proof}");
    let stored = digest::digest(hash, client_key.as_ref());
    let signature = sign(stored.as_ref(), message.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", BASE64.encode(proof))
}

fn upsertion(user: &str, mechanism: i8, password: &str, iterations: i32) -> ScramCredentialUpsertion {
    let known = ScramMechanism::from_code(mechanism).unwrap_or(ScramMechanism::Sha256);
    let salted = salted_password(known, password.as_bytes(), b"salt", iterations.max(1) as u32);
    ScramCredentialUpsertion {
        name: user.into(),
        mechanism,
        iterations,
        salt: Bytes::from_static(b"salt"),
        salted_password: salted.into(),
        ..Default::default()
    }
}

fn deletion(user: &str, mechanism: i8) -> ScramCredentialDeletion {
    ScramCredentialDeletion { name: user.into(), mechanism, ..Default::default() }
}

async fn alter(
    house: &House,
    deletions: &[ScramCredentialDeletion],
    upsertions: &[ScramCredentialUpsertion],
) -> Vec<(String, ErrorCode)> {
    let request = AlterUserScramCredentialsRequest {
        deletions: deletions.to_vec(),
        upsertions: upsertions.to_vec(),
        ..Default::default()
    };
    let results = house.ask(0, request).await.results;
    results.into_iter().map(|result| (result.user.to_string(), code(result.error_code))).collect()
}

#[test]
fn before_the_proof_a_client_may_only_ask_what_is_spoken() {
    story(|| async {
        let house = house(Duration::ZERO, &[]).await;
        let client = Client::of(&house);
        let versions = ApiVersionsRequest {
            client_software_name: "a".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        assert_eq!(client.ask(4, versions.clone()).await.error_code, 0);
        assert!(!client.is_let_in().await);
        let told = client.handshake("PLAIN").await;
        let names: Vec<&str> = told.mechanisms.iter().map(|name| name as &str).collect();
        assert_eq!(names, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
        // Within the exchange nothing else is answered, a second handshake is no restart.
        assert!(matches!(client.outcome(4, versions).await, Outcome::Close(_)));
        assert!(!client.is_let_in().await);
        assert_eq!(code(client.handshake("PLAIN").await.error_code), ErrorCode::IllegalSaslState);
        assert_eq!(client.connection.principal(), "User:ANONYMOUS");
        assert_eq!(code(client.token(b"\0alice\0wonder").await.error_code), ErrorCode::None);
        assert_eq!(client.connection.principal(), "User:alice");
        assert!(client.is_let_in().await && !client.connection.owes_proof());
        // Whoever is in and has no reason to prove it again is told so and stays in.
        assert_eq!(code(client.handshake("PLAIN").await.error_code), ErrorCode::IllegalSaslState);
        assert_eq!(code(client.token(b"\0bob\0builder").await.error_code), ErrorCode::IllegalSaslState);
        assert_eq!(client.connection.principal(), "User:alice");
        assert!(client.is_let_in().await);
        // On a listener without SASL there is nothing to prove.
        let request = SaslHandshakeRequest { mechanism: "PLAIN".into(), ..Default::default() };
        assert_eq!(code(house.ask(1, request).await.error_code), ErrorCode::IllegalSaslState);
    });
}

#[test]
fn a_wrong_proof_waits_is_told_and_ends_the_connection() {
    story(|| async {
        let house = house(Duration::ZERO, &[]).await;
        alter(&house, &[], &[upsertion("carol", 1, "secret", 4096)]).await;
        for (mechanism, message) in [
            ("PLAIN", "\0alice\0wrong"),
            ("PLAIN", ""),
            ("PLAIN", "bob\0alice\0wonder"),
            ("SCRAM-SHA-256", "y,,n=carol,r=abc"),
            ("SCRAM-SHA-256", "\u{0}"),
        ] {
            let client = Client::of(&house);
            client.handshake(mechanism).await;
            let began = world::task::now();
            let auth_bytes = Bytes::copy_from_slice(message.as_bytes());
            let outcome =
                client.outcome(2, SaslAuthenticateRequest { auth_bytes, ..Default::default() }).await;
            assert!(world::task::now() - began >= DELAY);
            let Outcome::AnswerAndClose(_, reason) = &outcome else { panic!("{message:?} is refused") };
            assert!(matches!(reason, CloseReason::AuthenticationFailed { .. }));
            let told = answer::<SaslAuthenticateRequest>(2, outcome);
            assert_eq!(code(told.error_code), ErrorCode::SaslAuthenticationFailed);
            assert!(!told.error_message.unwrap().contains("wonder"));
            // It is over, whatever comes behind.
            assert!(!client.is_let_in().await);
            assert_eq!(code(client.token(b"\0alice\0wonder").await.error_code), ErrorCode::IllegalSaslState);
            assert_eq!(code(client.handshake("PLAIN").await.error_code), ErrorCode::IllegalSaslState);
            assert_eq!(client.connection.principal(), "User:ANONYMOUS");
        }
        let client = Client::of(&house);
        let request = SaslHandshakeRequest { mechanism: "GSSAPI".into(), ..Default::default() };
        let outcome = client.outcome(1, request).await;
        assert!(matches!(outcome, Outcome::AnswerAndClose(..)));
        let told = answer::<SaslHandshakeRequest>(1, outcome);
        assert_eq!((code(told.error_code), told.mechanisms.len()), (ErrorCode::UnsupportedSaslMechanism, 3));
        assert_eq!(code(client.handshake("PLAIN").await.error_code), ErrorCode::IllegalSaslState);
    });
}

#[test]
fn behind_the_first_handshake_messages_are_frames_of_their_own() {
    story(|| async {
        let house = house(Duration::ZERO, &[]).await;
        let handshake = || SaslHandshakeRequest { mechanism: "PLAIN".into(), ..Default::default() };
        let client = Client::of(&house);
        assert_eq!(client.ask(0, handshake()).await.error_code, 0);
        assert!(client.connection.sends_raw_token());
        let outcome = client.start(Bytes::from_static(b"\0alice\0wonder")).await;
        let Outcome::Answer(segments) = outcome else { panic!("alice is let in") };
        assert_eq!(segments.concat(), [0; 4]);
        assert!(client.is_let_in().await && !client.connection.sends_raw_token());
        let client = Client::of(&house);
        client.ask(0, handshake()).await;
        assert!(matches!(client.start(Bytes::new()).await, Outcome::Close(_)));
        assert!(!client.is_let_in().await);
    });
}

#[test]
fn users_of_scram_come_and_go() {
    story(|| async {
        let house = house(Duration::ZERO, &[]).await;
        let users = [upsertion("carol", 1, "secret", 4096), upsertion("dave", 2, "hidden", 8192)];
        let expected = [("carol".to_owned(), ErrorCode::None), ("dave".to_owned(), ErrorCode::None)];
        assert_eq!(alter(&house, &[], &users).await, expected);
        for (mechanism, user, password, is_right) in [
            (ScramMechanism::Sha256, "carol", "secret", true),
            (ScramMechanism::Sha512, "dave", "hidden", true),
            (ScramMechanism::Sha512, "carol", "secret", false),
            (ScramMechanism::Sha256, "carol", "Secret", false),
            (ScramMechanism::Sha256, "nobody", "secret", false),
        ] {
            let client = Client::of(&house);
            let told = client.scram(mechanism, user, password, "").await;
            assert_eq!(code(told.error_code) == ErrorCode::None, is_right, "{user}");
            assert_eq!(client.is_let_in().await, is_right, "{user}");
            assert_eq!(client.connection.principal() == format!("User:{user}").as_str(), is_right);
        }
        let describe = |names: Option<&[&str]>| DescribeUserScramCredentialsRequest {
            users: names.map(|names| {
                names.iter().map(|name| UserName { name: Str::from(*name), ..Default::default() }).collect()
            }),
            ..Default::default()
        };
        let all = house.ask(0, describe(None)).await;
        let infos = all.results.iter().map(|result| {
            let info = &result.credential_infos[0];
            (&*result.user, info.mechanism, info.iterations)
        });
        assert_eq!(infos.collect::<Vec<_>>(), [("carol", 1, 4096), ("dave", 2, 8192)]);
        let some = house.ask(0, describe(Some(&["nobody", "dave", "carol", "carol"]))).await;
        let codes = some.results.iter().map(|result| (&*result.user, code(result.error_code)));
        let expected = [
            ("carol", ErrorCode::DuplicateResource),
            ("dave", ErrorCode::None),
            ("nobody", ErrorCode::ResourceNotFound),
        ];
        assert_eq!(codes.collect::<Vec<_>>(), expected);
        // A restart keeps them; a removal does not.
        let house = house.restarted().await;
        assert_eq!(
            alter(&house, &[deletion("carol", 1)], &[]).await,
            [("carol".to_owned(), ErrorCode::None)]
        );
        let left = house.ask(0, describe(None)).await.results;
        assert_eq!(left.iter().map(|result| &*result.user).collect::<Vec<_>>(), ["dave"]);
    });
}

/// Challenge, error and pause: nothing tells which names there are.
#[test]
fn a_user_who_is_not_there_is_answered_like_one_who_is() {
    story(|| async {
        let house = house(Duration::ZERO, &[]).await;
        for (iterations, salt) in [(4096, b"1um8h0anjbtwpu43bhlv2vgb3a".to_vec()), (8192, vec![0xfe; 64])] {
            let mut carol = upsertion("carol", 1, "secret", iterations);
            carol.salt = salt.into();
            alter(&house, &[], &[carol]).await;
            let mut seen = Vec::new();
            for user in ["carol", "nobody", "a", "zoe"] {
                let client = Client::of(&house);
                client.handshake("SCRAM-SHA-256").await;
                let told = client.token(format!("n,,n={user},r=abc").as_bytes()).await;
                let challenge = String::from_utf8(told.auth_bytes.to_vec()).unwrap();
                let value = |key: &str| {
                    challenge.split(',').find_map(|part| part.strip_prefix(key)).unwrap().to_owned()
                };
                let (nonce, salt) = (value("r="), BASE64.decode(value("s=")).unwrap());
                let is_text = salt.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
                let last = format!("c=biws,r={nonce},p={}", BASE64.encode([7; 32]));
                let began = world::task::now();
                let refused = client.token(last.as_bytes()).await;
                let pause = world::task::now() - began;
                assert_eq!(code(refused.error_code), ErrorCode::SaslAuthenticationFailed);
                assert!(!client.is_let_in().await);
                seen.push((nonce.len(), salt.len(), is_text, value("i="), refused.error_message, pause));
            }
            assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
            assert_eq!(seen[0].3, iterations.to_string());
        }
    });
}

#[test]
fn credentials_that_are_not_good_are_refused_as_kafka_does() {
    story(|| async {
        let house = house(Duration::ZERO, &[]).await;
        let mut short = upsertion("short", 2, "x", 4096);
        short.salted_password = Bytes::from_static(&[1; 32]);
        let mut saltless = upsertion("saltless", 1, "x", 4096);
        saltless.salt = Bytes::new();
        let refused = alter(
            &house,
            &[deletion("nobody", 1), deletion("", 1), deletion("strange", 3), deletion("twice", 1)],
            &[
                upsertion("few", 1, "x", 4095),
                upsertion("negative", 1, "x", -1),
                upsertion("many", 1, "x", 16_385),
                upsertion("unknown", 0, "x", 4096),
                upsertion("two", 1, "x", 4096),
                upsertion("two", 2, "x", 4096),
                upsertion("twice", 1, "x", 4096),
                short,
                saltless,
                upsertion("good", 1, "x", 16_384),
            ],
        )
        .await;
        let expected = [
            ("", ErrorCode::UnacceptableCredential),
            ("few", ErrorCode::UnacceptableCredential),
            ("good", ErrorCode::None),
            ("many", ErrorCode::UnacceptableCredential),
            ("negative", ErrorCode::UnacceptableCredential),
            ("nobody", ErrorCode::ResourceNotFound),
            ("saltless", ErrorCode::UnacceptableCredential),
            ("short", ErrorCode::UnacceptableCredential),
            ("strange", ErrorCode::UnsupportedSaslMechanism),
            ("twice", ErrorCode::ResourceNotFound),
            ("two", ErrorCode::DuplicateResource),
            ("unknown", ErrorCode::UnsupportedSaslMechanism),
        ];
        let got: Vec<(&str, ErrorCode)> = refused.iter().map(|(user, code)| (user.as_str(), *code)).collect();
        assert_eq!(got, expected);
        assert_eq!(house.catalog.read().credentials().scram_count(), 1);
    });
}

#[test]
fn whoever_has_to_prove_it_again_stays_who_it_was() {
    story(|| async {
        let house = house(Duration::from_secs(60), &[]).await;
        let client = Client::of(&house);
        client.handshake("PLAIN").await;
        let told = client.token(b"\0alice\0wonder").await;
        assert_eq!(told.session_lifetime_ms, 60_000);
        // Not within a second.
        assert_eq!(code(client.handshake("PLAIN").await.error_code), ErrorCode::IllegalSaslState);
        world::task::sleep(Duration::from_secs(50)).await;
        assert!(client.is_let_in().await);
        assert_eq!(client.plain("\0alice\0wonder").await, ErrorCode::None);
        world::task::sleep(Duration::from_secs(50)).await;
        assert!(client.is_let_in().await, "the time counts anew");
        world::task::sleep(Duration::from_secs(11)).await;
        assert!(!client.is_let_in().await, "its time is up");
        // Even then it may prove it; but nobody becomes somebody else, nor changes the mechanism.
        assert_eq!(client.plain("\0bob\0builder").await, ErrorCode::SaslAuthenticationFailed);
        assert_eq!(client.connection.principal(), "User:alice");
        assert!(!client.is_let_in().await);
        let client = Client::of(&house);
        assert_eq!(client.plain("\0alice\0wonder").await, ErrorCode::None);
        world::task::sleep(Duration::from_secs(2)).await;
        let refused = client.handshake("SCRAM-SHA-256").await;
        assert_eq!(code(refused.error_code), ErrorCode::IllegalSaslState);
        assert!(!client.is_let_in().await);
    });
}

#[test]
fn a_user_is_known_to_all_brokers_and_a_removal_too() {
    story(|| async {
        let bucket = MemBucket::new(3);
        let processes = [Process::new(), Process::new()];
        let one = House::among(&bucket.client(), 1, "a", &processes[0]).await;
        let two = House::among(&bucket.client(), 2, "b", &processes[1]).await;
        // Each has looked at the lease of the other.
        world::task::sleep(Duration::from_secs(5)).await;
        ask_for_proof(&one, Duration::ZERO);
        ask_for_proof(&two, Duration::ZERO);
        let enters = async |house: &House| {
            let told = Client::of(house).scram(ScramMechanism::Sha256, "carol", "secret", "").await;
            code(told.error_code) == ErrorCode::None
        };
        assert!(!enters(&two).await);
        alter(&one, &[], &[upsertion("carol", 1, "secret", 4096)]).await;
        assert!(enters(&two).await, "a broker that does not know her looks");
        let changed = alter(&one, &[], &[upsertion("carol", 1, "other", 4096)]).await;
        assert_eq!(changed, [("carol".to_owned(), ErrorCode::None)]);
        assert!(
            !enters(&two).await && !enters(&one).await,
            "an old password is none once the new one is answered"
        );
        let told = Client::of(&two).scram(ScramMechanism::Sha256, "carol", "other", "").await;
        assert_eq!(code(told.error_code), ErrorCode::None);
        let removed = alter(&one, &[deletion("carol", 1)], &[]).await;
        assert_eq!(removed, [("carol".to_owned(), ErrorCode::None)]);
        assert!(two.catalog.read().credentials().scram_user("carol").is_none(), "answered when all know");
        assert!(!enters(&two).await && !enters(&one).await);
    });
}

async fn make_token(client: &Client<'_>, max_lifetime_ms: i64) -> CreateDelegationTokenResponse {
    let renewer = CreatableRenewers {
        principal_type: "User".into(),
        principal_name: "bob".into(),
        ..Default::default()
    };
    let request =
        CreateDelegationTokenRequest { max_lifetime_ms, renewers: vec![renewer], ..Default::default() };
    client.ask(3, request).await
}

#[test]
fn a_delegation_token_acts_for_its_owner_until_it_ends() {
    story(|| async {
        let properties =
            [("delegation.token.secret.key", "key"), ("allow.everyone.if.no.acl.found", "false")];
        let house = house(Duration::ZERO, &properties).await;
        let (alice, bob) = (Client::of(&house), Client::of(&house));
        alice.plain("\0alice\0wonder").await;
        bob.plain("\0bob\0builder").await;
        let token = make_token(&alice, 3_600_000).await;
        assert_eq!((code(token.error_code), &*token.principal_name), (ErrorCode::None, "alice"));
        assert_eq!(token.max_timestamp_ms, NOW_MS + 3_600_000);
        let password = BASE64.encode(&token.hmac);
        for mechanism in ScramMechanism::ALL {
            let worker = Client::of(&house);
            let told = worker.scram(mechanism, &token.token_id, &password, ",tokenauth=true").await;
            assert_eq!(code(told.error_code), ErrorCode::None);
            assert!(told.session_lifetime_ms > 3_590_000, "as long as the token at most");
            assert_eq!(worker.connection.principal(), "User:alice");
            assert!(worker.connection.is_token_authenticated());
            let refused = make_token(&worker, -1).await;
            assert_eq!(code(refused.error_code), ErrorCode::DelegationTokenRequestNotAllowed);
            // The token's id is no user, and another secret is none.
            let wrong = Client::of(&house);
            let told = wrong.scram(mechanism, &token.token_id, &password, "").await;
            assert_eq!(code(told.error_code), ErrorCode::SaslAuthenticationFailed);
            let wrong = Client::of(&house);
            let told = wrong.scram(mechanism, &token.token_id, "x", ",tokenauth=true").await;
            assert_eq!(code(told.error_code), ErrorCode::SaslAuthenticationFailed);
        }
        let described = async |client: &Client<'_>| {
            let request = DescribeDelegationTokenRequest { owners: None, ..Default::default() };
            client.ask(3, request).await.tokens.len()
        };
        assert_eq!((described(&alice).await, described(&bob).await), (1, 1));
        let renewal = RenewDelegationTokenRequest {
            hmac: token.hmac.clone(),
            renew_period_ms: 60_000,
            ..Default::default()
        };
        let renewed = bob.ask(2, renewal.clone()).await;
        assert_eq!(
            (code(renewed.error_code), renewed.expiry_timestamp_ms),
            (ErrorCode::None, house.clock.now_ms() + 60_000)
        );
        let mut other = renewal;
        other.hmac = Bytes::from_static(&[7; 64]);
        assert_eq!(code(bob.ask(2, other).await.error_code), ErrorCode::DelegationTokenNotFound);
        let end = ExpireDelegationTokenRequest {
            hmac: token.hmac.clone(),
            expiry_time_period_ms: -1,
            ..Default::default()
        };
        let not_mine = make_token(&bob, -1).await;
        let foreign = ExpireDelegationTokenRequest { hmac: not_mine.hmac.clone(), ..end.clone() };
        assert_eq!(code(alice.ask(2, end).await.error_code), ErrorCode::None);
        // Bob is a renewer of his own, alice is none of his.
        assert_eq!(code(alice.ask(2, foreign).await.error_code), ErrorCode::DelegationTokenOwnerMismatch);
        let worker = Client::of(&house);
        let told = worker.scram(ScramMechanism::Sha256, &token.token_id, &password, ",tokenauth=true").await;
        assert_eq!(code(told.error_code), ErrorCode::SaslAuthenticationFailed);
        assert_eq!(described(&alice).await, 0);
        // Others' tokens are for those who have a right to them: by the token, or by its owner.
        for (resource_type, name, operation) in [
            (AclResourceType::DelegationToken, not_mine.token_id.clone(), AclOperation::Describe),
            (AclResourceType::User, "User:bob".into(), AclOperation::DescribeTokens),
        ] {
            let pattern = ResourcePattern { resource_type, pattern_type: PatternType::Literal, name };
            let rule = AclRule { host: "*".into(), operation, permission: AclPermission::Allow };
            let acl = Acl { pattern, principal: "User:alice".into(), rule };
            house.catalog.append(vec![MetadataRecord::CreateAcl(acl.clone())]).await.unwrap();
            assert_eq!(described(&alice).await, 1);
            house.catalog.append(vec![MetadataRecord::DeleteAcl(acl)]).await.unwrap();
            assert_eq!(described(&alice).await, 0);
        }
        // A token for somebody else.
        let request = CreateDelegationTokenRequest {
            owner_principal_type: Some("User".into()),
            owner_principal_name: Some("carol".into()),
            ..Default::default()
        };
        let refused = alice.ask(3, request.clone()).await;
        assert_eq!(code(refused.error_code), ErrorCode::DelegationTokenAuthorizationFailed);
        // Whom a token names is bounded: the cluster keeps it in memory.
        let renewer = |length: usize| CreatableRenewers {
            principal_type: "User".into(),
            principal_name: "r".repeat(length).into(),
            ..Default::default()
        };
        for renewers in [vec![renewer(17 << 10)], vec![renewer(20); 1_000]] {
            let refused = alice.ask(3, CreateDelegationTokenRequest { renewers, ..Default::default() }).await;
            assert_eq!(code(refused.error_code), ErrorCode::InvalidRequest);
        }
        // Who asked for a token of somebody else is one of those by whose name it is found.
        for owner in ["User:carol", "Group:bob"] {
            let pattern = ResourcePattern {
                resource_type: AclResourceType::User,
                pattern_type: PatternType::Literal,
                name: owner.into(),
            };
            let operation = AclOperation::CreateTokens;
            let rule = AclRule { host: "*".into(), operation, permission: AclPermission::Allow };
            let acl = Acl { pattern, principal: "User:alice".into(), rule };
            house.catalog.append(vec![MetadataRecord::CreateAcl(acl)]).await.unwrap();
        }
        // A token of something that is no user would let its bearer in as the user of that name.
        let of_group = CreateDelegationTokenRequest {
            owner_principal_type: Some("Group".into()),
            owner_principal_name: Some("bob".into()),
            ..Default::default()
        };
        let refused = alice.ask(3, of_group).await;
        assert_eq!(code(refused.error_code), ErrorCode::InvalidPrincipalType);
        let for_carol = alice.ask(3, request).await;
        assert_eq!(code(for_carol.error_code), ErrorCode::None);
        let of = |name: &str| DescribeDelegationTokenOwner {
            principal_type: "User".into(),
            principal_name: name.into(),
        };
        for (owner, count) in [("alice", 1), ("carol", 1), ("dave", 0)] {
            let request =
                DescribeDelegationTokenRequest { owners: Some(vec![of(owner)]), ..Default::default() };
            assert_eq!(alice.ask(3, request).await.tokens.len(), count, "{owner}");
        }
        // Clients that do not know of requesters yet.
        for version in 1..=3 {
            let made = bob.ask(version, CreateDelegationTokenRequest::default()).await;
            assert_eq!(code(made.error_code), ErrorCode::None);
            let request = DescribeDelegationTokenRequest { owners: None, ..Default::default() };
            assert_eq!(bob.ask(version, request).await.tokens.len(), 1 + version as usize);
        }
    });
}

#[test]
fn without_a_key_and_without_a_name_there_are_no_tokens() {
    story(|| async {
        let house = house(Duration::ZERO, &[]).await;
        let alice = Client::of(&house);
        alice.plain("\0alice\0wonder").await;
        assert_eq!(code(make_token(&alice, -1).await.error_code), ErrorCode::DelegationTokenAuthDisabled);
        let request = CreateDelegationTokenRequest { max_lifetime_ms: -1, ..Default::default() };
        let refused = house.ask(3, request).await;
        assert_eq!(code(refused.error_code), ErrorCode::DelegationTokenRequestNotAllowed);
    });
}

/// Whatever bytes come, in whatever order: nobody is let in without a password, and nothing panics.
#[test]
fn garbage_lets_nobody_in() {
    story(|| async {
        let house = house(Duration::ZERO, &[]).await;
        alter(&house, &[], &[upsertion("carol", 1, "secret", 4096)]).await;
        let good: [&[u8]; 4] = [
            b"\0alice\0wonde",
            b"n,,n=carol,r=abcdef",
            b"n,a=carol,n=carol,r=x,tokenauth=true",
            b"c=biws,r=abcdef,p=AAAA",
        ];
        for round in 0..400u32 {
            let client = Client::of(&house);
            let is_raw = round % 3 == 0;
            let mechanism = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"][round as usize % 3];
            let request = SaslHandshakeRequest { mechanism: mechanism.into(), ..Default::default() };
            client.ask(i16::from(!is_raw), request).await;
            for turn in 0..3u32 {
                let mut bytes = good[(round + turn) as usize % 4].to_vec();
                let at = (round * 7 + turn) as usize % bytes.len();
                match round % 4 {
                    0 => bytes[at] ^= 1 << (round % 8),
                    1 => bytes.truncate(at),
                    2 => bytes.resize(at * 1000, b','),
                    _ => bytes.insert(at, 0xff),
                }
                if is_raw {
                    drop(client.start(bytes.into()).await);
                } else {
                    drop(client.token(&bytes).await);
                }
            }
            assert!(!client.is_let_in().await, "round {round}");
            assert_eq!(client.connection.principal(), "User:ANONYMOUS");
        }
    });
}
