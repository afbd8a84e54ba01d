//! SASL OAUTHBEARER (RFC 7628): a token of an identity provider, signed with a key of its JWKS (KIP-255, KIP-768).
//!
//! ```text
//!   client                                               server
//!   n,,^Aauth=Bearer TOKEN^A^A                     ─▶    signature, issuer, audience, times
//!                                                  ◀─    nothing: let in
//!                                                  ◀─    {"status":"invalid_token"}
//!   ^A                                             ─▶    refused
//! ```
//! Issuer and audience are always checked. Which algorithm is right follows from the key and never from the token; tokens without a
//! signature and those signed with a secret that both sides have are refused.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::{self, AlgorithmParameters, EllipticCurve, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::RwLock;
use protocol::Str;
use serde_json::Value;
use world::watch;

use super::Refusal;

/// Longest JWKS that is read.
pub const JWKS_BYTES_MAX: usize = 1 << 20;
/// Keys of a JWKS that are kept.
const KEYS_MAX: usize = 100;
const TOKEN_LEN_MAX: usize = 32 << 10;
const SEPARATOR: char = '\u{1}';

/// The keys of the provider. Whoever has them fetched puts them here, and hears when a token names one that is not here.
pub struct Jwks {
    keys: RwLock<Vec<Key>>,
    wanted: watch::Sender<u64>,
}

struct Key {
    id: Option<String>,
    algorithms: &'static [Algorithm],
    only: Option<KeyAlgorithm>,
    key: DecodingKey,
}

impl fmt::Debug for Jwks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Jwks({} keys)", self.len())
    }
}

impl Default for Jwks {
    fn default() -> Self {
        Self { keys: RwLock::default(), wanted: watch::channel(0).0 }
    }
}

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

impl Jwks {
    /// These keys and no others from now on; gives their number. Keys of other kinds, and those for encryption, are left out.
    pub fn replace(&self, json: &[u8]) -> Result<usize, String> {
        if json.len() > JWKS_BYTES_MAX {
            return Err(format!("it is longer than {JWKS_BYTES_MAX} bytes"));
        }
        // A key of a kind that is not known must not make the others useless.
        let set: Value = serde_json::from_slice(json).map_err(|error| format!("it is no JWKS: {error}"))?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or("it has no list of keys")?;
        let known = listed.iter().filter_map(|key| serde_json::from_value::<jwk::Jwk>(key.clone()).ok());
        let set = JwkSet { keys: known.collect() };
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::of).take(KEYS_MAX).collect();
        if keys.is_empty() {
            return Err("it has no RSA or elliptic-curve key for signatures".to_owned());
        }
        let count = keys.len();
        *self.keys.write() = keys;
        Ok(count)
    }

    pub fn len(&self) -> usize {
        self.keys.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes when a token names a key that is not here.
    pub fn wanted(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let keys = self.keys.read();
        let mut fitting = keys.iter().filter(|key| key.fits(algorithm));
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)).map(|key| key.key.clone()),
            None => match (fitting.next(), fitting.next()) {
                (Some(only), None) => Some(only.key.clone()),
                _ => None,
            },
        }
    }
}

impl Key {
    fn of(jwk: &jwk::Jwk) -> Option<Self> {
        if jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
            return None;
        }
        let algorithms: &'static [Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA,
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(pair) => match pair.curve {
                EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
                _ => return None,
            },
            AlgorithmParameters::OctetKey(_) => return None,
        };
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { id: jwk.common.key_id.clone(), algorithms, only: jwk.common.key_algorithm, key })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let named = self.only.is_none_or(|only| format!("{only:?}") == format!("{algorithm:?}"));
        named && self.algorithms.contains(&algorithm)
    }
}

/// What a listener asks of a token.
#[derive(Debug)]
pub struct TokenRules {
    pub issuer: String,
    /// It must name one of them.
    pub audiences: Vec<String>,
    /// The claim with the user's name, "sub".
    pub subject_claim: String,
    pub clock_skew_ms: i64,
    pub keys: Arc<Jwks>,
}

/// Who a token proves to be, and until when.
#[derive(Debug, PartialEq, Eq)]
pub struct Bearer {
    pub user: Str,
    pub expires_ms: i64,
}

impl TokenRules {
    /// The client's first message. The inner error is the token's: it is answered before the end.
    pub fn check(&self, bytes: &[u8], now_ms: i64) -> Result<Result<Bearer, String>, Refusal> {
        let (authzid, token) = first_message(bytes)?;
        let bearer = match self.verify(&token, now_ms) {
            Ok(bearer) => bearer,
            Err(why) => return Ok(Err(why)),
        };
        if authzid.is_some_and(|authzid| authzid != *bearer.user) {
            return Err(Refusal::other_authorization_id());
        }
        Ok(Ok(bearer))
    }

    fn verify(&self, token: &str, now_ms: i64) -> Result<Bearer, String> {
        // A header with "none" or another name that is not known does not decode. What exactly is wrong has the name in it, line ends and
        // all, and goes to the log.
        let unreadable = "its header cannot be read, or names an algorithm that is not taken";
        let header = jsonwebtoken::decode_header(token).map_err(|_| unreadable)?;
        if header.crit.is_some() {
            return Err("it asks for what is not known here (crit)".to_owned());
        }
        let Some(key) = self.keys.find(header.kid.as_deref(), header.alg) else {
            self.keys.wanted.send_if_modified(|times| {
                *times += 1;
                true
            });
            return Err("no key of the provider fits".to_owned());
        };
        let mut validation = Validation::new(header.alg);
        // Times are held against our own clock, and the claims are looked at below.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<Value>(token, &key, &validation);
        let claims = claims.map_err(|error| error.to_string())?.claims;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(&*self.issuer) {
            return Err("the issuer is another one".to_owned());
        }
        let names_us = match claims.get("aud") {
            Some(Value::String(one)) => self.audiences.iter().any(|audience| audience == one),
            Some(Value::Array(many)) => {
                many.iter().filter_map(Value::as_str).any(|one| self.audiences.iter().any(|own| own == one))
            }
            _ => false,
        };
        if !names_us {
            return Err("it is for another audience".to_owned());
        }
        let expires_ms = time_of(&claims, "exp")?.ok_or("it has no end (exp)")?;
        let issued_ms = time_of(&claims, "iat")?.ok_or("it does not say when it was issued (iat)")?;
        if expires_ms.saturating_add(self.clock_skew_ms) <= now_ms {
            return Err("it has expired".to_owned());
        }
        let latest_ms = now_ms.saturating_add(self.clock_skew_ms);
        if issued_ms > latest_ms || time_of(&claims, "nbf")?.is_some_and(|from_ms| from_ms > latest_ms) {
            return Err("it is of the future".to_owned());
        }
        let user = text(&self.subject_claim).map(str::trim).filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| format!("it names nobody ({})", self.subject_claim))?;
        Ok(Bearer { user: Str::from(user), expires_ms })
    }
}

/// Seconds since 1970, perhaps with a fraction.
fn time_of(claims: &Value, name: &str) -> Result<Option<i64>, String> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if (0.0..1e12).contains(&seconds) => Ok(Some((seconds * 1000.0) as i64)),
            _ => Err(format!("{name} is no time")),
        },
    }
}

fn first_message(bytes: &[u8]) -> Result<(Option<String>, String), Refusal> {
    let wrong = |why: &str| Refusal::invalid(format!("an OAUTHBEARER message cannot be read: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
    let (header, pairs) = text.split_once(SEPARATOR).ok_or_else(|| wrong("it is no first message"))?;
    let mut parts = header.split(',');
    let (Some("n"), Some(authzid), Some(""), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong("its header is wrong"));
    };
    let authzid = match authzid {
        "" => None,
        _ => Some(authzid.strip_prefix("a=").ok_or_else(|| wrong("its header is wrong"))?.to_owned()),
    };
    let pairs = pairs.strip_suffix(SEPARATOR).ok_or_else(|| wrong("its end is missing"))?;
    let mut token = None;
    for pair in pairs.split_terminator(SEPARATOR) {
        let (key, value) = pair.split_once('=').ok_or_else(|| wrong("a pair is wrong"))?;
        if key == "auth" {
            let (scheme, value) = value.split_once(' ').ok_or_else(|| wrong("the token is missing"))?;
            if !scheme.eq_ignore_ascii_case("bearer") || token.is_some() {
                return Err(wrong("the token is missing"));
            }
            token = Some(value.trim().to_owned());
        }
    }
    match token {
        Some(token) if (1..=TOKEN_LEN_MAX).contains(&token.len()) => Ok((authzid, token)),
        _ => Err(wrong("the token is missing or too long")),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    struct Provider {
        key: EncodingKey,
        jwk: Value,
        rules: TokenRules,
    }

    impl Provider {
        fn new() -> Self {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).unwrap();
            let point = pair.public_key().as_ref();
            let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..65]));
            let jwk = json!({"kty": "EC", "kid": "one", "use": "sig", "alg": "ES256", "crv": "P-256", "x": x, "y": y});
            let set = json!({"keys": [
                {"kty": "new", "kid": "kind that nobody knows"},
                {"kty": "oct", "kid": "shared", "k": BASE64.encode([7; 32])},
                jwk.clone(),
            ]});
            let rules = TokenRules {
                issuer: "https://provider".to_owned(),
                audiences: vec!["kafka".to_owned(), "other".to_owned()],
                subject_claim: "sub".to_owned(),
                clock_skew_ms: 30_000,
                keys: Arc::default(),
            };
            assert_eq!(rules.keys.replace(set.to_string().as_bytes()), Ok(1));
            Self { key: EncodingKey::from_ec_der(document.as_ref()), jwk, rules }
        }

        fn claims() -> Value {
            let now = NOW_MS / 1000;
            json!({"iss": "https://provider", "aud": ["x", "kafka"], "sub": "alice", "iat": now, "exp": now + 60})
        }

        fn token(&self, claims: &Value) -> String {
            let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
            jsonwebtoken::encode(&header, claims, &self.key).unwrap()
        }

        fn check(&self, token: &str) -> Result<Bearer, String> {
            let message = format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}");
            self.rules.check(message.as_bytes(), NOW_MS).map_err(|refusal| refusal.reason)?
        }
    }

    #[test]
    fn a_token_of_the_provider_names_its_user() {
        let provider = Provider::new();
        let token = provider.token(&Provider::claims());
        let bearer = provider.check(&token).unwrap();
        assert_eq!(bearer, Bearer { user: Str::from("alice"), expires_ms: NOW_MS + 60_000 });
        for (message, is_read) in [
            (format!("n,a=alice,\u{1}auth=bearer {token}\u{1}x=y\u{1}\u{1}"), true),
            (format!("n,a=bob,\u{1}auth=Bearer {token}\u{1}\u{1}"), false),
            (format!("y,,\u{1}auth=Bearer {token}\u{1}\u{1}"), false),
            (format!("n,,\u{1}auth=Basic {token}\u{1}\u{1}"), false),
            (format!("n,,\u{1}auth=Bearer {token}\u{1}auth=Bearer {token}\u{1}\u{1}"), false),
            ("n,,\u{1}\u{1}".to_owned(), false),
            ("n,,\u{1}".to_owned(), false),
            (String::new(), false),
        ] {
            let checked = provider.rules.check(message.as_bytes(), NOW_MS);
            assert_eq!(matches!(checked, Ok(Ok(_))), is_read, "{message:?}");
        }
    }

    #[test]
    fn every_other_token_is_refused() {
        let provider = Provider::new();
        let now = NOW_MS / 1000;
        for (name, value) in [
            ("iss", json!("https://other")),
            ("iss", Value::Null),
            ("aud", json!("kafk")),
            ("aud", json!([])),
            ("aud", Value::Null),
            ("sub", json!(" ")),
            ("sub", Value::Null),
            ("sub", json!(7)),
            ("exp", json!(now - 30)),
            ("exp", Value::Null),
            ("exp", json!("soon")),
            ("exp", json!(1e300)),
            ("iat", json!(now + 31)),
            ("iat", Value::Null),
            ("nbf", json!(now + 31)),
        ] {
            let mut claims = Provider::claims();
            match &value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                _ => claims[name] = value.clone(),
            }
            assert!(provider.check(&provider.token(&claims)).is_err(), "{name} {value}");
        }
        // Within the skew it is good.
        let mut claims = Provider::claims();
        (claims["exp"], claims["iat"], claims["nbf"]) = (json!(now - 29), json!(now + 29), json!(now + 29));
        assert!(provider.check(&provider.token(&claims)).is_ok());
    }

    /// The provider cannot be reached, or has told nothing yet.
    #[test]
    fn before_the_keys_are_here_no_token_is_good() {
        let provider = Provider::new();
        let good = provider.token(&Provider::claims());
        let without = TokenRules { keys: Arc::default(), ..provider.rules };
        let check = |token: &str| {
            let message = format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}");
            without.check(message.as_bytes(), NOW_MS).map_err(|refusal| refusal.reason)?
        };
        let mut wanted = without.keys.wanted();
        assert!(!wanted.has_changed().unwrap());
        let (signed, _) = good.rsplit_once('.').unwrap();
        let unsigned =
            format!("{}.{}.", BASE64.encode(r#"{"alg":"none"}"#), signed.split_once('.').unwrap().1);
        for token in [good.as_str(), &unsigned, &format!("{signed}.")] {
            assert!(check(token).is_err(), "{token}");
        }
        // They are asked for, and what comes that is no set of keys changes nothing.
        assert!(wanted.has_changed().unwrap());
        wanted.borrow_and_update();
        for nothing in ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#, "<html>"]
        {
            assert!(without.keys.replace(nothing.as_bytes()).is_err(), "{nothing}");
        }
        assert!(without.keys.replace(&vec![b' '; JWKS_BYTES_MAX + 1]).is_err());
        assert!(check(&good).is_err());
        let set = json!({"keys": [provider.jwk]});
        assert_eq!(without.keys.replace(set.to_string().as_bytes()), Ok(1));
        assert!(check(&good).is_ok());
    }

    #[test]
    fn the_token_does_not_choose_how_it_is_checked() {
        let provider = Provider::new();
        let good = provider.token(&Provider::claims());
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let payload = signed.split_once('.').unwrap().1;
        let with_header = |header: Value, signature: &str| {
            format!("{}.{payload}.{signature}", BASE64.encode(header.to_string()))
        };
        let hmac = |secret: &[u8], kid: Option<&str>| {
            let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
            jsonwebtoken::encode(&header, &Provider::claims(), &EncodingKey::from_secret(secret)).unwrap()
        };
        let public_key = provider.jwk.to_string();
        for forged in [
            with_header(json!({"alg": "none"}), ""),
            with_header(json!({"alg": "None", "kid": "one"}), signature),
            with_header(json!({"alg": "ES384", "kid": "one"}), signature),
            with_header(json!({"alg": "RS256", "kid": "one"}), signature),
            with_header(json!({"alg": "ES256", "kid": "two"}), signature),
            with_header(json!({"alg": "ES256", "kid": "one", "crit": ["x"]}), signature),
            hmac(&[7; 32], Some("shared")),
            hmac(public_key.as_bytes(), Some("one")),
            hmac(public_key.as_bytes(), None),
            Provider::new().token(&Provider::claims()),
            signed.to_owned(),
            format!("{signed}."),
            format!("{signed}.AAAA"),
            String::from("x"),
        ] {
            assert!(provider.check(&forged).is_err(), "{forged}");
        }
        let quoting = with_header(json!({"alg": "x\nWARN forged", "kid": "one"}), signature);
        assert!(!provider.check(&quoting).unwrap_err().contains("forged"), "nothing of it goes to the log");
        assert!(provider.check(&good).is_ok());
        // A key that is not here is asked for.
        let wanted = *provider.rules.keys.wanted().borrow();
        assert!(wanted >= 1);
        assert!(provider.rules.keys.replace(b"{}").is_err() && provider.rules.keys.replace(b"x").is_err());
        assert!(provider.check(&good).is_ok(), "keys that were good stay");
    }
}
