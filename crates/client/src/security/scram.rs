//! SCRAM's client side (RFC 5802, RFC 7677): the broker learns that we know the password and not the password, and we learn that it
//! knows us.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Fewer make a stolen answer cheap to guess from; RFC 7677 wants so many.
const ITERATIONS_MIN: u32 = 4096;
/// A broker could keep us busy with more. Kafka's own brokers take up to 16,384.
const ITERATIONS_MAX: u32 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramMechanism {
    Sha256,
    Sha512,
}

impl ScramMechanism {
    pub fn name(self) -> &'static str {
        match self {
            ScramMechanism::Sha256 => "SCRAM-SHA-256",
            ScramMechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            ScramMechanism::Sha256 => &digest::SHA256,
            ScramMechanism::Sha512 => &digest::SHA512,
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            ScramMechanism::Sha256 => hmac::HMAC_SHA256,
            ScramMechanism::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message)
    }

    fn salted_password(self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            ScramMechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            ScramMechanism::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.digest().output_len()];
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }
}

/// One exchange.
pub(super) struct Scram<'a> {
    mechanism: ScramMechanism,
    password: &'a str,
    nonce: String,
    bare: String,
}

/// The broker's last message if it knows us.
#[derive(Debug)]
pub(super) struct Expected {
    signature: hmac::Tag,
}

impl<'a> Scram<'a> {
    /// `random`: no two exchanges have the same.
    pub fn new(
        mechanism: ScramMechanism,
        username: &str,
        password: &'a str,
        is_token: bool,
        random: &[u8],
    ) -> Scram<'a> {
        Scram::with_nonce(mechanism, username, password, is_token, BASE64.encode(random))
    }

    fn with_nonce(
        mechanism: ScramMechanism,
        username: &str,
        password: &'a str,
        is_token: bool,
        nonce: String,
    ) -> Scram<'a> {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        let extension = if is_token { ",tokenauth=true" } else { "" };
        let bare = format!("n={username},r={nonce}{extension}");
        Scram { mechanism, password, nonce, bare }
    }

    pub fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// Our last message, and what the broker must say to it.
    pub fn answer(&self, challenge: &[u8]) -> Result<(String, Expected), String> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| "the challenge is no text".to_owned())?;
        let part = |key: &str| challenge.split(',').find_map(|part| part.strip_prefix(key));
        let wrong = || "the broker's challenge is not one of SCRAM".to_owned();
        let nonce = part("r=").ok_or_else(wrong)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the broker's nonce does not go on from ours".to_owned());
        }
        let salt = part("s=").and_then(|salt| BASE64.decode(salt).ok()).ok_or_else(wrong)?;
        let iterations: NonZeroU32 = part("i=").and_then(|count| count.parse().ok()).ok_or_else(wrong)?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations.get()) {
            return Err(format!(
                "the broker asks for {iterations} iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are taken"
            ));
        }
        let mechanism = self.mechanism;
        let salted = mechanism.salted_password(self.password, &salt, iterations);
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{challenge},{without_proof}", self.bare);
        let client_key = mechanism.hmac(&salted, b"Client Key");
        let stored_key = digest::digest(mechanism.digest(), client_key.as_ref());
        let signature = mechanism.hmac(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = mechanism.hmac(&salted, b"Server Key");
        let expected = Expected { signature: mechanism.hmac(server_key.as_ref(), message.as_bytes()) };
        Ok((format!("{without_proof},p={}", BASE64.encode(proof)), expected))
    }
}

impl Expected {
    pub fn check(&self, verdict: &[u8]) -> Result<(), String> {
        let verdict = String::from_utf8_lossy(verdict);
        if let Some(why) = verdict.strip_prefix("e=") {
            return Err(why.to_owned());
        }
        let signature = verdict.strip_prefix("v=").and_then(|text| BASE64.decode(text).ok());
        let is_right = signature.is_some_and(|signature| {
            constant_time::verify_slices_are_equal(&signature, self.signature.as_ref()).is_ok()
        });
        if is_right { Ok(()) } else { Err("the broker does not know our password either".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn rfc() -> Scram<'static> {
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        Scram::with_nonce(ScramMechanism::Sha256, "user", "pencil", false, nonce)
    }

    #[test]
    fn the_conversation_of_rfc_7677() {
        let scram = rfc();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, expected) = scram.answer(CHALLENGE).unwrap();
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        expected.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        assert!(expected.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=").is_err());
        assert!(expected.check(b"").is_err());
        assert_eq!(expected.check(b"e=other-error").unwrap_err(), "other-error");
    }

    #[test]
    fn a_broker_that_is_none_gets_no_proof() {
        let scram = rfc();
        for challenge in [
            &b"r=another%hvYD,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"[..],
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqO%hvYD,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            b"r=rOprNGfwEbeRWgbNEkqO%hvYD,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            b"r=rOprNGfwEbeRWgbNEkqO%hvYD,s=*,i=4096",
            b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"\xff",
            b"",
        ] {
            assert!(scram.answer(challenge).is_err(), "{}", String::from_utf8_lossy(challenge));
        }
    }

    #[test]
    fn names_are_escaped_and_tokens_say_that_they_are() {
        let scram = Scram::new(ScramMechanism::Sha512, "a=b,c", "x", true, b"abc");
        assert_eq!(scram.first(), "n,,n=a=3Db=2Cc,r=YWJj,tokenauth=true");
    }
}
