//! SCRAM, the server's side (RFC 5802, RFC 7677), without channel binding.
//!
//! ```text
//!   client                                       server
//!   n,,n=user,r=CNONCE                    ─▶
//!                                         ◀─     r=CNONCE SNONCE,s=salt,i=iterations
//!   c=biws,r=CNONCE SNONCE,p=proof        ─▶
//!                                         ◀─     v=signature
//! ```
//! The password is never seen, here or on the wire. An unknown user gets a salt all the same, so that nobody learns who exists.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::{constant_time, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use catalog::{ScramCredential, ScramMechanism};
use protocol::Str;

use super::Refusal;

/// RFC 7677 §4 and Kafka ask for this many.
pub const ITERATIONS_MIN: u32 = 4096;
/// Kafka's most.
pub const ITERATIONS_MAX: u32 = 16_384;
/// Of a nonce or a name that a client sends.
const ATTRIBUTE_LEN_MAX: usize = 1024;
/// What Kafka's tools make salts of: the digits of a large number in base 36.
const KAFKA_SALT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const KAFKA_SALT_BYTES: usize = 26;
/// What the name is said to be when a delegation token proves who it is (KIP-48).
const TOKEN_EXTENSION: &str = "tokenauth";

struct Hash {
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

fn hash(mechanism: ScramMechanism) -> Hash {
    match mechanism {
        ScramMechanism::Sha256 => {
            Hash { digest: &digest::SHA256, hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 }
        }
        ScramMechanism::Sha512 => {
            Hash { digest: &digest::SHA512, hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 }
        }
    }
}

fn hmac_of(mechanism: ScramMechanism, key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hash(mechanism).hmac, key), message)
}

fn digest_of(mechanism: ScramMechanism, message: &[u8]) -> Digest {
    digest::digest(hash(mechanism).digest, message)
}

/// `Hi` of the RFC. Slow by intention: 4,096 rounds are about a millisecond.
pub fn salted_password(mechanism: ScramMechanism, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
    let mut out = vec![0; mechanism.key_bytes()];
    let rounds = std::num::NonZeroU32::new(iterations).expect("at least one round");
    pbkdf2::derive(hash(mechanism).pbkdf2, rounds, salt, password, &mut out);
    out
}

/// What a server keeps of a salted password.
pub fn credential(
    mechanism: ScramMechanism,
    salted_password: &[u8],
    salt: &[u8],
    iterations: u32,
) -> ScramCredential {
    let client_key = hmac_of(mechanism, salted_password, b"Client Key");
    ScramCredential {
        salt: salt.to_vec(),
        stored_key: digest_of(mechanism, client_key.as_ref()).as_ref().to_vec(),
        server_key: hmac_of(mechanism, salted_password, b"Server Key").as_ref().to_vec(),
        iterations,
    }
}

/// The first message of a client.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFirst {
    pub user: Str,
    /// The name is the id of a delegation token.
    pub is_token: bool,
    gs2_header: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("it is no first message"));
        };
        match flag {
            "n" => {}
            // We never said that we can bind to the channel: a "y" is from a client that was lied to, as "p=" is.
            _ if flag == "y" || flag.starts_with("p=") => {
                return Err(malformed("channel binding is not supported"));
            }
            _ => return Err(malformed("it is no first message")),
        }
        let authzid = match authzid {
            "" => None,
            _ => {
                Some(sasl_name(authzid.strip_prefix("a=").ok_or_else(|| malformed("the header is wrong"))?)?)
            }
        };
        let mut attributes = bare.split(',');
        let name = attributes.next().and_then(|part| part.strip_prefix("n="));
        let user = sasl_name(name.ok_or_else(|| malformed("the name is missing"))?)?;
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| is_nonce(nonce)).ok_or_else(|| malformed("the nonce is missing"))?;
        let mut is_token = false;
        for extension in attributes {
            let (key, value) = extension.split_once('=').ok_or_else(|| malformed("an extension is wrong"))?;
            if key == TOKEN_EXTENSION {
                is_token = value.eq_ignore_ascii_case("true");
            }
        }
        if user.is_empty() {
            return Err(malformed("the name is empty"));
        }
        if authzid.is_some_and(|authzid| authzid != user) {
            return Err(Refusal::other_authorization_id());
        }
        let gs2_header = text[..text.len() - bare.len()].to_owned();
        Ok(Self { user: user.into(), is_token, gs2_header, nonce: nonce.to_owned(), bare: bare.to_owned() })
    }
}

/// After the first message, waiting for the proof.
pub struct Server {
    mechanism: ScramMechanism,
    credential: ScramCredential,
    /// Nobody has this credential: whatever the proof is, it is wrong.
    is_decoy: bool,
    gs2_header: String,
    nonce: String,
    first_messages: String,
}

impl Server {
    /// Gives the server's first message too. `nonce`: random, printable, without a comma.
    pub fn challenge(
        mechanism: ScramMechanism,
        first: ClientFirst,
        credential: ScramCredential,
        is_decoy: bool,
        nonce: &str,
    ) -> (Self, Vec<u8>) {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = BASE64.encode(&credential.salt);
        let message = format!("r={nonce},s={salt},i={}", credential.iterations);
        let first_messages = format!("{},{message}", first.bare);
        let gs2_header = first.gs2_header;
        (Self { mechanism, credential, is_decoy, gs2_header, nonce, first_messages }, message.into_bytes())
    }

    /// The server's last message, which proves to the client that we know the credential too.
    pub fn finish(self, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        let (without_proof, proof) =
            text.rsplit_once(",p=").ok_or_else(|| malformed("the proof is missing"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|part| part.strip_prefix("c="));
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(malformed("it is no final message"));
        };
        let binding = BASE64.decode(binding).map_err(|_| malformed("the channel binding is no base64"))?;
        if binding != self.gs2_header.as_bytes() {
            return Err(Refusal::invalid("the header was changed on the way"));
        }
        // librdkafka before 2.6.1 puts its own part in front a second time, and Kafka only looks at the end. It is as good: the proof covers
        // what was said first, with both parts in it.
        if !nonce.ends_with(&self.nonce) {
            return Err(Refusal::invalid("the nonce is another one"));
        }
        let proof = BASE64.decode(proof).map_err(|_| malformed("the proof is no base64"))?;
        let auth_message = format!("{},{without_proof}", self.first_messages);
        let Self { mechanism, credential, .. } = &self;
        let signature = hmac_of(*mechanism, &credential.stored_key, auth_message.as_bytes());
        if proof.len() != signature.as_ref().len() {
            return Err(malformed("the proof has another length"));
        }
        let client_key: Vec<u8> =
            proof.iter().zip(signature.as_ref()).map(|(proof, signature)| proof ^ signature).collect();
        let stored_key = digest_of(*mechanism, &client_key);
        let fits =
            constant_time::verify_slices_are_equal(stored_key.as_ref(), &credential.stored_key).is_ok();
        if !fits || self.is_decoy {
            return Err(Refusal::invalid("the password is wrong, or there is no such user"));
        }
        let verifier = hmac_of(*mechanism, &credential.server_key, auth_message.as_bytes());
        Ok(format!("v={}", BASE64.encode(verifier.as_ref())).into_bytes())
    }
}

/// For a name that nobody has: the same salt every time, so that asking twice tells nothing, another one with the other mechanism, as
/// users have them, and one that looks like that of `like`, somebody who is there. Salts look as whatever tool made them, and so do
/// numbers of iterations.
pub fn decoy(
    mechanism: ScramMechanism,
    secret: &[u8],
    user: &str,
    like: Option<&ScramCredential>,
) -> ScramCredential {
    let like_text = |like: &ScramCredential| like.salt.iter().all(|byte| KAFKA_SALT.contains(byte));
    let salt_bytes = like.map_or(KAFKA_SALT_BYTES, |like| like.salt.len());
    let is_text = like.is_none_or(like_text);
    let mut salt = Vec::with_capacity(salt_bytes);
    for block in 0u32.. {
        if salt.len() >= salt_bytes {
            break;
        }
        let message = [&block.to_be_bytes(), user.as_bytes()].concat();
        salt.extend_from_slice(hmac_of(mechanism, secret, &message).as_ref());
    }
    salt.truncate(salt_bytes);
    if is_text {
        salt.iter_mut().for_each(|byte| *byte = KAFKA_SALT[usize::from(*byte) % KAFKA_SALT.len()]);
    }
    let key = hmac_of(mechanism, secret, b"no key").as_ref().to_vec();
    let iterations = like.map_or(ITERATIONS_MIN, |like| like.iterations);
    ScramCredential { salt, stored_key: key.clone(), server_key: key, iterations }
}

fn malformed(why: &str) -> Refusal {
    Refusal::invalid(format!("a SCRAM message cannot be read: {why}"))
}

/// Printable ASCII without a comma.
fn is_nonce(text: &str) -> bool {
    (1..=ATTRIBUTE_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b',')
}

/// A comma is "=2C" in names, and "=" is "=3D".
fn sasl_name(text: &str) -> Result<String, Refusal> {
    if text.len() > ATTRIBUTE_LEN_MAX {
        return Err(malformed("the name is too long"));
    }
    let mut pieces = text.split('=');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (character, rest) = match piece.get(..2) {
            Some("2C") => (',', &piece[2..]),
            Some("3D") => ('=', &piece[2..]),
            _ => return Err(malformed("the name is not escaped as it must be")),
        };
        name.push(character);
        name.push_str(rest);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(
        mechanism: ScramMechanism,
        first: &str,
        salt: &str,
        nonce: &str,
        last: &str,
    ) -> Result<(String, String), Refusal> {
        let salt = BASE64.decode(salt).unwrap();
        let salted = salted_password(mechanism, b"pencil", &salt, 4096);
        let credential = credential(mechanism, &salted, &salt, 4096);
        let first = ClientFirst::parse(first.as_bytes())?;
        assert_eq!((&*first.user, first.is_token), ("user", false));
        let (server, challenge) = Server::challenge(mechanism, first, credential, false, nonce);
        let answer = server.finish(last.as_bytes())?;
        Ok((String::from_utf8(challenge).unwrap(), String::from_utf8(answer).unwrap()))
    }

    /// RFC 7677 §3.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_conversation_of_rfc_7677() {
        let (challenge, answer) = conversation(ScramMechanism::Sha256, FIRST, SALT, NONCE, LAST).unwrap();
        assert_eq!(
            challenge,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        assert_eq!(answer, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    /// RFC 5802 §5, as far as it is not the hash: its first messages, header and nonce. Its proof is of SHA-1, which is no mechanism here,
    /// and one that is shorter than the hash must not be compared as far as it goes.
    #[test]
    fn the_messages_of_rfc_5802() {
        let first = ClientFirst::parse(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").unwrap();
        assert_eq!(
            (&*first.user, &*first.gs2_header, &*first.nonce),
            ("user", "n,,", "fyko+d2lbbFgONRv9qkxdawL")
        );
        let salt = BASE64.decode("QSXCR+Q6sek8bf92").unwrap();
        for mechanism in ScramMechanism::ALL {
            let kept =
                credential(mechanism, &salted_password(mechanism, b"pencil", &salt, 4096), &salt, 4096);
            let first = ClientFirst::parse(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").unwrap();
            let (server, challenge) = Server::challenge(mechanism, first, kept, false, "3rfcNHYJY1ZVvWVs7j");
            assert_eq!(
                String::from_utf8(challenge).unwrap(),
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
            );
            let last = "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
            let refused = server.finish(last.as_bytes()).unwrap_err();
            assert!(refused.reason.contains("length"), "{}", refused.reason);
        }
    }

    /// What was said once is worth nothing in another conversation: the server's part of the nonce is new each time.
    #[test]
    fn a_conversation_cannot_be_repeated() {
        for mechanism in ScramMechanism::ALL {
            let salted = salted_password(mechanism, b"wonderland", b"salt", 4096);
            let begin = |server_nonce: &str| {
                let first = ClientFirst::parse(b"n,,n=alice,r=abc").unwrap();
                let kept = credential(mechanism, &salted, b"salt", 4096);
                Server::challenge(mechanism, first, kept, false, server_nonce)
            };
            let (server, challenge) = begin("first");
            let challenge = String::from_utf8(challenge).unwrap();
            let (last, _) = client_last(mechanism, "wonderland", "n=alice,r=abc", &challenge);
            assert!(server.finish(last.as_bytes()).is_ok());
            let (server, _) = begin("second");
            assert!(server.finish(last.as_bytes()).is_err());
            // Nor with the new nonce and the old proof, nor with both nonces.
            for nonce in ["abcsecond", "abcfirstsecond", "abcfirstabcsecond", "second"] {
                let (server, _) = begin("second");
                assert!(server.finish(last.replace("abcfirst", nonce).as_bytes()).is_err(), "{nonce}");
            }
            // The server's own answer is no proof of a client.
            let (server, _) = begin("first");
            let (_, verifier) = client_last(mechanism, "wonderland", "n=alice,r=abc", &challenge);
            let mirrored = format!("c=biws,r=abcfirst,p={}", verifier.strip_prefix("v=").unwrap());
            assert!(server.finish(mirrored.as_bytes()).is_err());
        }
    }

    /// The client's side, written from the RFC's formulas, for what no RFC has a vector for.
    fn client_last(
        mechanism: ScramMechanism,
        password: &str,
        bare: &str,
        challenge: &str,
    ) -> (String, String) {
        let value =
            |key: &str| challenge.split(',').find_map(|part| part.strip_prefix(key)).unwrap().to_owned();
        let salt = BASE64.decode(value("s=")).unwrap();
        let salted = salted_password(mechanism, password.as_bytes(), &salt, value("i=").parse().unwrap());
        let without_proof = format!("c=biws,r={}", value("r="));
        let message = format!("{bare},{challenge},{without_proof}");
        let client_key = hmac_of(mechanism, &salted, b"Client Key");
        let stored = digest_of(mechanism, client_key.as_ref());
        let signature = hmac_of(mechanism, stored.as_ref(), message.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = hmac_of(mechanism, &salted, b"Server Key");
        let verifier = hmac_of(mechanism, server_key.as_ref(), message.as_bytes());
        (
            format!("{without_proof},p={}", BASE64.encode(proof)),
            format!("v={}", BASE64.encode(verifier.as_ref())),
        )
    }

    #[test]
    fn both_sizes_let_the_right_password_in_and_no_other() {
        for mechanism in ScramMechanism::ALL {
            for (password, is_right) in [("wonderland", true), ("Wonderland", false), ("", false)] {
                let salted = salted_password(mechanism, b"wonderland", b"salt", 4096);
                let kept = credential(mechanism, &salted, b"salt", 4096);
                let first = ClientFirst::parse(b"n,a=al=2Cice,n=al=2Cice,r=abc").unwrap();
                assert_eq!(first.user, "al,ice");
                let header = first.gs2_header.clone();
                let (server, challenge) = Server::challenge(mechanism, first, kept, false, "def");
                let challenge = String::from_utf8(challenge).unwrap();
                let (last, expected) = client_last(mechanism, password, "n=al=2Cice,r=abc", &challenge);
                // The header that the proof covers is this one's.
                let bound = last.replace("biws", &BASE64.encode(&header));
                assert!(server.finish(bound.as_bytes()).is_err(), "the proof covers the header");
                let first = ClientFirst::parse(b"n,,n=alice,r=abc").unwrap();
                let salted = salted_password(mechanism, b"wonderland", b"salt", 4096);
                let kept = credential(mechanism, &salted, b"salt", 4096);
                let (server, challenge) = Server::challenge(mechanism, first, kept, false, "def");
                let challenge = String::from_utf8(challenge).unwrap();
                let (last, verifier) = client_last(mechanism, password, "n=alice,r=abc", &challenge);
                let answer = server.finish(last.as_bytes());
                assert_eq!(answer.is_ok(), is_right, "{password}");
                assert_eq!(
                    answer.ok().map(|bytes| String::from_utf8(bytes).unwrap()),
                    is_right.then_some(verifier)
                );
                assert!(!expected.is_empty());
            }
        }
    }

    /// A user has a salt for each mechanism: one that is the same for both would be nobody's.
    #[test]
    fn nobody_has_one_salt_for_both_sizes() {
        let salts = ScramMechanism::ALL.map(|mechanism| decoy(mechanism, b"secret", "nobody", None).salt);
        assert_ne!(salts[0], salts[1]);
    }

    #[test]
    fn an_old_librdkafka_repeats_its_nonce() {
        let mechanism = ScramMechanism::Sha512;
        let salted = salted_password(mechanism, b"wonderland", b"salt", 4096);
        let first = ClientFirst::parse(b"n,,n=alice,r=abc").unwrap();
        let kept = credential(mechanism, &salted, b"salt", 4096);
        let (server, challenge) = Server::challenge(mechanism, first, kept, false, "def");
        let told = String::from_utf8(challenge).unwrap();
        let without_proof = "c=biws,r=abcabcdef";
        let message = format!("n=alice,r=abc,{told},{without_proof}");
        let client_key = hmac_of(mechanism, &salted, b"Client Key");
        let stored = digest_of(mechanism, client_key.as_ref());
        let signature = hmac_of(mechanism, stored.as_ref(), message.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        assert!(server.finish(format!("{without_proof},p={}", BASE64.encode(proof)).as_bytes()).is_ok());
    }

    #[test]
    fn what_was_tampered_with_is_refused() {
        for (first, last) in [
            // A nonce that is cut, changed, or only ours.
            (FIRST, LAST.replace("fuxFIlj)hNlF$k0", "fuxFIlj)hNlF$k")),
            (FIRST, LAST.replace("r=rOpr", "r=xOpr")),
            (FIRST, LAST.replace("r=rOprNGfwEbeRWgbNEkqO", "r=")),
            // Other headers than that of the first message: "y,,", "n,a=x,".
            (FIRST, LAST.replace("biws", "eSws")),
            (FIRST, LAST.replace("biws", "bixhPXgs")),
            // A proof that is another, shorter, empty or missing.
            (FIRST, LAST.replace("p=dHz", "p=dHy")),
            (FIRST, format!("{},p=dHzb", LAST.split(",p=").next().unwrap())),
            (FIRST, format!("{},p=", LAST.split(",p=").next().unwrap())),
            (FIRST, LAST.split(",p=").next().unwrap().to_owned()),
            // Something between nonce and proof is covered by the proof.
            (FIRST, LAST.replace(",p=", ",x=y,p=")),
            // Channel binding, a mandatory extension, no nonce, no name.
            ("y,,n=user,r=rOprNGfwEbeRWgbNEkqO", LAST.to_owned()),
            ("p=tls-unique,,n=user,r=rOprNGfwEbeRWgbNEkqO", LAST.to_owned()),
            ("n,,m=x,n=user,r=rOprNGfwEbeRWgbNEkqO", LAST.to_owned()),
            ("n,,n=user,r=", LAST.to_owned()),
            ("n,,r=rOprNGfwEbeRWgbNEkqO", LAST.to_owned()),
            ("n,,n=,r=rOprNGfwEbeRWgbNEkqO", LAST.to_owned()),
            ("n,a=admin,n=user,r=rOprNGfwEbeRWgbNEkqO", LAST.to_owned()),
            ("n,,n=us=er,r=rOprNGfwEbeRWgbNEkqO", LAST.to_owned()),
            ("", LAST.to_owned()),
            (FIRST, String::new()),
        ] {
            let refused = conversation(ScramMechanism::Sha256, first, SALT, NONCE, &last);
            assert!(refused.is_err(), "{first} {last}");
        }
    }

    #[test]
    fn nobody_learns_who_exists() {
        fn decoy_of(user: &str, like: Option<&ScramCredential>) -> ScramCredential {
            decoy(ScramMechanism::Sha256, b"secret", user, like)
        }
        let first = decoy_of("nobody", None);
        assert_eq!(first, decoy_of("nobody", None));
        assert_ne!(first.salt, decoy_of("somebody", None).salt);
        assert_eq!((first.salt.len(), first.iterations), (26, 4096));
        assert!(first.salt.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()));
        // Users whose salts were made by other tools look otherwise, and so does nobody beside them.
        let kept = |salt: &[u8], iterations| credential(ScramMechanism::Sha256, &[7; 32], salt, iterations);
        let raw = decoy_of("nobody", Some(&kept(&[0xfe; 64], 8192)));
        assert_eq!((raw.salt.len(), raw.iterations), (64, 8192));
        assert!(raw.salt.iter().any(|byte| !byte.is_ascii_alphanumeric()));
        let text = decoy_of("nobody", Some(&kept(b"1um8h0anjbtwpu43bhlv2vgb3a", 4096)));
        assert_eq!((text.salt.len(), text.iterations), (26, 4096));
        assert!(text.salt.iter().all(u8::is_ascii_alphanumeric));
        let asked = ClientFirst::parse(b"n,,n=nobody,r=abc").unwrap();
        let (server, challenge) = Server::challenge(ScramMechanism::Sha256, asked, first, true, "def");
        let challenge = String::from_utf8(challenge).unwrap();
        let (last, _) = client_last(ScramMechanism::Sha256, "x", "n=nobody,r=abc", &challenge);
        assert!(server.finish(last.as_bytes()).is_err());
    }
}
