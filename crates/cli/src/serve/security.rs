//! Certificates, users and identity providers of listeners: read from the properties and the files that they name, and read again
//! while the broker runs.
//!
//! ```text
//!   properties ─▶ PEM files, sasl.jaas.config, JWKS ─▶ `server`'s TLS and `broker`'s SASL of each listener
//!        ▲ every few seconds: what has changed holds for the next connections; what is wrong now changes nothing and is said
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::authn::jaas;
use broker::{
    Broker, Jwks, Mechanism, MechanismSettings, PlainUsers, PrincipalMapping, SaslListeners, SaslSettings,
    SecurityProtocol, TokenRules,
};
use catalog::ScramMechanism;
use catalog::config::BrokerConfig;
use server::{ClientAuth, ListenerSecurity, ListenerTls, Server, TlsSettings};
use world::clock::SharedClock;
use world::task;

use super::properties::ListenerAddress;
use crate::exit::Failure;
use crate::pem::{read_pem, unfold};

/// How often files and settings are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// `--insecure` is said again.
const WARN_EVERY: Duration = Duration::from_secs(3600);
const JWKS_PATIENCE: Duration = Duration::from_secs(10);
/// A token that names an unknown key has the keys fetched again, but not more often than that.
const JWKS_PAUSE_MIN: Duration = Duration::from_secs(10);

/// What all listeners for clients ask.
pub struct Security {
    pub sasl: Arc<SaslListeners>,
    listeners: Vec<Listener>,
    insecure: bool,
}

struct Listener {
    name: String,
    protocol: SecurityProtocol,
    tls: Option<Arc<ListenerTls>>,
    /// What TLS and SASL were made of: made anew when it is another.
    tls_source: TlsSource,
    sasl_source: Vec<Option<String>>,
    /// What was said to be wrong with a change, so that it is said once.
    said: Option<String>,
    provider: Option<Provider>,
}

/// Where the keys of an identity provider come from.
#[derive(Clone)]
struct Provider {
    rules: Arc<TokenRules>,
    url: String,
    refresh: Duration,
    retry: Duration,
    retry_max: Duration,
}

#[derive(Clone, PartialEq, Eq)]
struct TlsSource {
    certificate_chain: Vec<u8>,
    private_key: Vec<u8>,
    trusted: Option<Vec<u8>>,
    client_auth: ClientAuth,
    versions: Vec<String>,
    rules: String,
}

impl Security {
    /// An error says which key of which listener is wrong.
    pub fn open(
        config: &BrokerConfig,
        listeners: &[ListenerAddress],
        insecure: bool,
        clock: &SharedClock,
    ) -> Result<Self, Failure> {
        let sasl: Arc<SaslListeners> = Arc::default();
        let mut opened = Vec::new();
        for ListenerAddress { name, protocol, .. } in listeners {
            let wrong = |why: String| {
                Failure::usage(format!("listener {name} ({}): {why}", protocol_name(*protocol)))
            };
            let mut listener = Listener {
                name: name.clone(),
                protocol: *protocol,
                tls: None,
                tls_source: TlsSource::none(),
                sasl_source: Vec::new(),
                said: None,
                provider: None,
            };
            if protocol.has_tls() {
                listener.tls_source = tls_source(config, name, *protocol).map_err(wrong)?;
                let settings = listener.tls_source.settings().map_err(wrong)?;
                let tls = ListenerTls::new(&settings, clock.clone());
                listener.tls = Some(tls.map_err(|error| wrong(error.to_string()))?);
            }
            if protocol.has_sasl() {
                listener.sasl_source = sasl_source(config, name);
                let (settings, provider) = sasl_settings(config, name, insecure, None).map_err(wrong)?;
                listener.provider = provider;
                sasl.set(name, settings);
            }
            opened.push(listener);
        }
        Ok(Self { sasl, listeners: opened, insecure })
    }

    pub fn of(&self, listener: &str) -> ListenerSecurity {
        let listener = self.listeners.iter().find(|known| known.name == listener);
        let listener = listener.expect("it was opened with all listeners");
        match (listener.protocol, listener.tls.clone()) {
            (SecurityProtocol::Ssl, Some(tls)) => ListenerSecurity::Ssl(tls),
            (SecurityProtocol::SaslSsl, Some(tls)) => ListenerSecurity::SaslSsl(tls),
            (SecurityProtocol::SaslPlaintext, _) => ListenerSecurity::SaslPlaintext,
            _ => ListenerSecurity::Plaintext,
        }
    }

    /// The keys of all providers, once. What cannot be fetched is fetched later: until then their tokens are refused.
    pub async fn fetch_keys(&self) {
        for provider in self.listeners.iter().filter_map(|listener| listener.provider.as_ref()) {
            provider.fetch().await;
        }
    }

    /// Goes on for as long as the broker is there.
    pub async fn follow(mut self, broker: std::sync::Weak<Broker>, server: std::sync::Weak<Server>) {
        let mut fetchers: BTreeMap<String, task::JoinHandle<()>> = BTreeMap::new();
        for listener in &self.listeners {
            if let Some(provider) = &listener.provider {
                fetchers.insert(listener.name.clone(), task::spawn(provider.clone().follow()));
            }
        }
        let mut warned = task::now();
        loop {
            task::sleep(LOOK_EVERY).await;
            let (Some(broker), Some(server)) = (broker.upgrade(), server.upgrade()) else { break };
            if task::now() - warned >= WARN_EVERY {
                warned = task::now();
                server.warn_insecure();
            }
            let config = broker.config();
            let insecure = self.insecure;
            for listener in &mut self.listeners {
                if !listener.look(&config, &self.sasl, insecure) {
                    continue;
                }
                if let Some(old) = fetchers.remove(&listener.name) {
                    old.abort();
                }
                if let Some(provider) = &listener.provider {
                    fetchers.insert(listener.name.clone(), task::spawn(provider.clone().follow()));
                }
            }
        }
        fetchers.into_values().for_each(|fetcher| fetcher.abort());
    }
}

impl Listener {
    /// True: there is another provider of tokens, or none any more.
    fn look(&mut self, config: &BrokerConfig, sasl: &SaslListeners, insecure: bool) -> bool {
        let mut is_new_provider = false;
        let mut wrong = None;
        if let Some(tls) = self.tls.clone() {
            match self.look_at_tls(config, &tls, insecure) {
                Ok(false) => {}
                Ok(true) => tracing::info!(listener = %self.name, "certificates reloaded"),
                Err(why) => wrong = Some(why),
            }
        }
        if self.protocol.has_sasl() {
            let source = sasl_source(config, &self.name);
            if source != self.sasl_source {
                match sasl_settings(config, &self.name, insecure, self.provider.as_ref()) {
                    Ok((settings, provider)) => {
                        is_new_provider = match (&self.provider, &provider) {
                            (Some(old), Some(new)) => !Arc::ptr_eq(&old.rules, &new.rules),
                            (old, new) => old.is_some() != new.is_some(),
                        };
                        self.provider = provider;
                        self.sasl_source = source;
                        sasl.set(&self.name, settings);
                        tracing::info!(listener = %self.name, "SASL settings changed");
                    }
                    Err(why) => wrong = Some(why),
                }
            }
        }
        if wrong.is_some() && wrong != self.said {
            let why = wrong.as_deref().unwrap_or_default();
            tracing::error!(listener = %self.name, "what has changed is wrong, all stays as it was: {why}");
        }
        self.said = wrong;
        is_new_provider
    }

    fn look_at_tls(
        &mut self,
        config: &BrokerConfig,
        tls: &ListenerTls,
        insecure: bool,
    ) -> Result<bool, String> {
        let source = tls_source(config, &self.name, self.protocol)?;
        if source == self.tls_source {
            return Ok(false);
        }
        let is_weaker =
            self.tls_source.client_auth == ClientAuth::Required && source.client_auth != ClientAuth::Required;
        if is_weaker && self.protocol == SecurityProtocol::Ssl && !insecure {
            return Err(
                "ssl.client.auth=required is the only authentication here, and --insecure was not said"
                    .to_owned(),
            );
        }
        tls.replace(&source.settings()?).map_err(|error| error.to_string())?;
        self.tls_source = source;
        Ok(true)
    }
}

fn protocol_name(protocol: SecurityProtocol) -> &'static str {
    match protocol {
        SecurityProtocol::Plaintext => "PLAINTEXT",
        SecurityProtocol::Ssl => "SSL",
        SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
        SecurityProtocol::SaslSsl => "SASL_SSL",
    }
}

// ── TLS ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

impl TlsSource {
    fn none() -> Self {
        Self {
            certificate_chain: Vec::new(),
            private_key: Vec::new(),
            trusted: None,
            client_auth: ClientAuth::None,
            versions: Vec::new(),
            rules: String::new(),
        }
    }

    fn settings(&self) -> Result<TlsSettings, String> {
        let principals = PrincipalMapping::parse(&self.rules)
            .map_err(|why| format!("ssl.principal.mapping.rules: {why}"))?;
        Ok(TlsSettings {
            certificate_chain: self.certificate_chain.clone(),
            private_key: self.private_key.clone(),
            trusted: self.trusted.clone(),
            client_auth: self.client_auth,
            versions: self.versions.clone(),
            principals,
        })
    }
}

fn tls_source(
    config: &BrokerConfig,
    listener: &str,
    protocol: SecurityProtocol,
) -> Result<TlsSource, String> {
    let value = |key: &str| config.of_listener(listener, None, key).filter(|text| !text.is_empty());
    let (certificate_chain, private_key) = match (
        value("ssl.keystore.location"),
        value("ssl.keystore.certificate.chain"),
        value("ssl.keystore.key"),
    ) {
        (Some(file), None, None) => {
            // One file with both; each reader takes what it looks for.
            let pem = read_pem("ssl.keystore.location", &file, value("ssl.keystore.type").as_deref())?;
            (pem.clone(), pem)
        }
        (None, Some(chain), Some(key)) => (unfold(&chain), unfold(&key)),
        (None, None, None) => {
            return Err(
                "needs ssl.keystore.location, a PEM file with certificate chain and private key".to_owned()
            );
        }
        _ => {
            return Err("takes either ssl.keystore.location or both ssl.keystore.certificate.chain and ssl.keystore.key".to_owned());
        }
    };
    let trusted = match (value("ssl.truststore.location"), value("ssl.truststore.certificates")) {
        (Some(file), None) => {
            Some(read_pem("ssl.truststore.location", &file, value("ssl.truststore.type").as_deref())?)
        }
        (None, Some(text)) => Some(unfold(&text)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            return Err("takes either ssl.truststore.location or ssl.truststore.certificates".to_owned());
        }
    };
    // As in Kafka: with SASL only what is said of this very listener counts (KIP-684).
    let client_auth = match protocol.has_sasl() {
        true => config.of_listener_alone(listener, None, "ssl.client.auth"),
        false => config.of_listener(listener, None, "ssl.client.auth"),
    };
    let client_auth = match client_auth.as_deref() {
        Some("required") => ClientAuth::Required,
        Some("requested") => ClientAuth::Requested,
        _ => ClientAuth::None,
    };
    let versions = value("ssl.enabled.protocols").unwrap_or_default();
    let versions = versions.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(TlsSource {
        certificate_chain,
        private_key,
        trusted,
        client_auth,
        versions: versions.map(str::to_owned).collect(),
        rules: value("ssl.principal.mapping.rules").unwrap_or_default(),
    })
}

// ── SASL ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// All that settings of SASL come from.
fn sasl_source(config: &BrokerConfig, listener: &str) -> Vec<Option<String>> {
    const KEYS: [&str; 9] = [
        "sasl.enabled.mechanisms",
        "connection.failed.authentication.delay.ms",
        "sasl.oauthbearer.expected.issuer",
        "sasl.oauthbearer.expected.audience",
        "sasl.oauthbearer.jwks.endpoint.url",
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        "sasl.oauthbearer.clock.skew.seconds",
        "sasl.oauthbearer.sub.claim.name",
        "connections.max.reauth.ms",
    ];
    let mut source: Vec<_> = KEYS.iter().map(|key| config.of_listener(listener, None, key)).collect();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] {
        for key in ["sasl.jaas.config", "connections.max.reauth.ms"] {
            source.push(config.of_listener(listener, Some(mechanism), key));
        }
    }
    source
}

fn sasl_settings(
    config: &BrokerConfig,
    listener: &str,
    insecure: bool,
    known: Option<&Provider>,
) -> Result<(SaslSettings, Option<Provider>), String> {
    let names = config.of_listener(listener, None, "sasl.enabled.mechanisms").unwrap_or_default();
    let mut mechanisms = Vec::new();
    let mut provider = None;
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let mechanism = match name {
            "PLAIN" => Mechanism::Plain(Arc::new(plain_users(config, listener)?)),
            "OAUTHBEARER" => {
                let found = self::provider(config, listener, insecure, known)?;
                let rules = found.rules.clone();
                provider = Some(found);
                Mechanism::OAuthBearer(rules)
            }
            _ => match ScramMechanism::from_name(name) {
                Some(mechanism) => Mechanism::Scram(mechanism),
                None => {
                    return Err(format!(
                        "sasl.enabled.mechanisms has {name}; PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER are supported"
                    ));
                }
            },
        };
        let reauth_max = milliseconds(config, listener, Some(name), "connections.max.reauth.ms");
        mechanisms.push(MechanismSettings { mechanism, reauth_max });
    }
    if mechanisms.is_empty() {
        return Err("sasl.enabled.mechanisms names none".to_owned());
    }
    let failed_delay = milliseconds(config, listener, None, "connection.failed.authentication.delay.ms");
    Ok((SaslSettings { mechanisms, failed_delay }, provider))
}

/// Negative: none.
fn milliseconds(config: &BrokerConfig, listener: &str, mechanism: Option<&str>, key: &str) -> Duration {
    let text = config.of_listener(listener, mechanism, key).unwrap_or_default();
    Duration::from_millis(text.parse::<i64>().map_or(0, |ms| ms.max(0) as u64))
}

fn plain_users(config: &BrokerConfig, listener: &str) -> Result<PlainUsers, String> {
    let key = format!("listener.name.{}.plain.sasl.jaas.config", listener.to_lowercase());
    let text = config.of_listener(listener, Some("PLAIN"), "sasl.jaas.config");
    let text = text.ok_or_else(|| format!("PLAIN needs {key} with its users"))?;
    let entry = jaas::parse(&text).map_err(|why| format!("{key}: {why}"))?;
    if !entry.module.ends_with("PlainLoginModule") {
        return Err(format!("{key}: PLAIN has PlainLoginModule and not {}", entry.module));
    }
    let users = entry.options.into_iter();
    let users = users.filter_map(|(name, password)| Some((name.strip_prefix("user_")?.to_owned(), password)));
    let users = PlainUsers::new(users);
    match users.is_empty() {
        true => Err(format!("{key}: there is no user_NAME=\"password\" in it")),
        false => Ok(users),
    }
}

fn provider(
    config: &BrokerConfig,
    listener: &str,
    insecure: bool,
    known: Option<&Provider>,
) -> Result<Provider, String> {
    let value = |key: &str| {
        config.of_listener(listener, Some("OAUTHBEARER"), key).filter(|text| !text.trim().is_empty())
    };
    let needed = |key: &str| value(key).ok_or_else(|| format!("OAUTHBEARER needs {key}"));
    let url = needed("sasl.oauthbearer.jwks.endpoint.url")?;
    check_url(&url, insecure)?;
    let audiences = needed("sasl.oauthbearer.expected.audience")?;
    let skew_seconds = value("sasl.oauthbearer.clock.skew.seconds").and_then(|text| text.parse::<i64>().ok());
    // Keys that are there stay there until others are.
    let keys = match known {
        Some(known) if known.url == url => known.rules.keys.clone(),
        _ => Arc::new(Jwks::default()),
    };
    let rules = TokenRules {
        issuer: needed("sasl.oauthbearer.expected.issuer")?,
        audiences: audiences.split(',').map(|audience| audience.trim().to_owned()).collect(),
        subject_claim: value("sasl.oauthbearer.sub.claim.name").unwrap_or_else(|| "sub".to_owned()),
        clock_skew_ms: skew_seconds.unwrap_or(30).max(0).saturating_mul(1000),
        keys,
    };
    let ms = |key: &str| milliseconds(config, listener, Some("OAUTHBEARER"), key);
    Ok(Provider {
        rules: Arc::new(rules),
        url,
        refresh: ms("sasl.oauthbearer.jwks.endpoint.refresh.ms").max(JWKS_PAUSE_MIN),
        retry: ms("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms").max(Duration::from_millis(10)),
        retry_max: ms("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms").max(Duration::from_millis(10)),
    })
}

/// Whoever can change the keys on their way can be anybody.
fn check_url(url: &str, insecure: bool) -> Result<(), String> {
    if url.starts_with("https://") || url.starts_with("file:///") || insecure {
        return Ok(());
    }
    let rest = url.strip_prefix("http://");
    let is_loopback = rest.is_some_and(|rest| {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    match is_loopback {
        true => Ok(()),
        false => Err(format!(
            "sasl.oauthbearer.jwks.endpoint.url={url}: want https:// or file:///, or http:// on this machine"
        )),
    }
}

impl Provider {
    /// False: the keys stay as they were.
    async fn fetch(&self) -> bool {
        let read = match self.url.strip_prefix("file://") {
            Some(path) => std::fs::read(path).map_err(|error| error.to_string()),
            None => world::web::get(&self.url, broker::authn::JWKS_BYTES_MAX, JWKS_PATIENCE).await,
        };
        match read.and_then(|bytes| self.rules.keys.replace(&bytes)) {
            Ok(count) => {
                tracing::debug!(url = %self.url, count, "keys of the identity provider fetched");
                true
            }
            Err(why) => {
                tracing::warn!(url = %self.url, "the keys of the identity provider stay as they were: {why}");
                false
            }
        }
    }

    /// Every so often, and when a token names a key that is not here.
    async fn follow(self) {
        let mut wanted = self.rules.keys.wanted();
        let mut retry = self.retry;
        let mut has_fetched = !self.rules.keys.is_empty();
        loop {
            if has_fetched {
                retry = self.retry;
                task::sleep(JWKS_PAUSE_MIN).await;
                let rest = self.refresh - JWKS_PAUSE_MIN;
                // An error means that nobody has these keys any more.
                if let Ok(Err(_)) = task::timeout(rest, wanted.changed()).await {
                    return;
                }
            } else {
                task::sleep(retry).await;
                retry = (retry * 2).min(self.retry_max);
            }
            has_fetched = self.fetch().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BrokerConfig {
        BrokerConfig::new(pairs.iter().copied()).unwrap().0
    }

    #[test]
    fn what_sasl_needs_is_named() {
        const PLAIN: &str = "listener.name.outer.plain.sasl.jaas.config";
        let mechanisms = |names| ("listener.name.outer.sasl.enabled.mechanisms", names);
        let good = "o.a.k.PlainLoginModule required username=\"x\" password=\"y\" user_alice=\"z\";";
        let set = |pairs: &[(&str, &str)]| {
            let set = sasl_settings(&config(pairs), "OUTER", false, None);
            set.map(|(settings, _)| {
                settings.mechanisms.iter().map(|m| m.mechanism.name()).collect::<Vec<_>>()
            })
        };
        assert_eq!(
            set(&[mechanisms("PLAIN,SCRAM-SHA-512"), (PLAIN, good)]),
            Ok(vec!["PLAIN", "SCRAM-SHA-512"])
        );
        assert_eq!(set(&[mechanisms("SCRAM-SHA-256")]), Ok(vec!["SCRAM-SHA-256"]));
        for (pairs, named) in [
            (vec![], "GSSAPI"),
            (vec![mechanisms("PLAIN")], PLAIN),
            (vec![mechanisms("PLAIN"), (PLAIN, "x")], PLAIN),
            (
                vec![mechanisms("PLAIN"), (PLAIN, "o.ScramLoginModule required user_a=\"b\";")],
                "PlainLoginModule",
            ),
            (vec![mechanisms("PLAIN"), (PLAIN, "o.PlainLoginModule required username=\"b\";")], "user_NAME"),
            (vec![mechanisms("OAUTHBEARER")], "jwks.endpoint.url"),
        ] {
            let refused = set(&pairs).unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
        let provider = [
            mechanisms("OAUTHBEARER"),
            ("sasl.oauthbearer.jwks.endpoint.url", "https://provider/keys"),
            ("sasl.oauthbearer.expected.issuer", "https://provider"),
            ("sasl.oauthbearer.expected.audience", "kafka"),
        ];
        assert_eq!(set(&provider), Ok(vec!["OAUTHBEARER"]));
        for missing in 1..provider.len() {
            let mut pairs = provider.to_vec();
            let (key, _) = pairs.remove(missing);
            assert!(set(&pairs).unwrap_err().contains(key));
        }
        let mut plain_http = provider;
        plain_http[1].1 = "http://provider/keys";
        assert!(set(&plain_http).unwrap_err().contains("https://"));
        plain_http[1].1 = "http://127.0.0.1:1/keys";
        assert!(set(&plain_http).is_ok());
    }

    #[test]
    fn with_sasl_a_certificate_is_asked_for_only_where_that_is_said() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("store.pem");
        std::fs::write(&file, "-----BEGIN X-----").unwrap();
        let auth = |protocol, more: &[(&str, &str)]| {
            let mut pairs = vec![("ssl.keystore.location", file.to_str().unwrap())];
            pairs.extend(more);
            tls_source(&config(&pairs), "OUTER", protocol).unwrap().client_auth
        };
        let all = ("ssl.client.auth", "required");
        let own = ("listener.name.outer.ssl.client.auth", "required");
        assert_eq!(auth(SecurityProtocol::Ssl, &[]), ClientAuth::None);
        assert_eq!(auth(SecurityProtocol::Ssl, &[all]), ClientAuth::Required);
        assert_eq!(auth(SecurityProtocol::SaslSsl, &[all]), ClientAuth::None);
        assert_eq!(auth(SecurityProtocol::SaslSsl, &[all, own]), ClientAuth::Required);
    }

    #[test]
    fn what_is_no_pem_file_says_how_to_convert_it() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("store.jks");
        std::fs::write(&file, [0xfe, 0xed, 0xfe, 0xed]).unwrap();
        let pairs = [("ssl.keystore.location", file.to_str().unwrap())];
        let refused = tls_source(&config(&pairs), "SSL", SecurityProtocol::Ssl).err().unwrap();
        assert!(refused.contains("keytool") && refused.contains("openssl"), "{refused}");
        let refused = tls_source(&config(&[]), "SSL", SecurityProtocol::Ssl).err().unwrap();
        assert!(refused.contains("ssl.keystore.location"), "{refused}");
    }
}
