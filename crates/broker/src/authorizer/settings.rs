//! Who may do everything, and what holds where no ACL says anything. From the properties of the start; neither changes while it runs.

use std::net::SocketAddr;

use catalog::config::BrokerConfig;
use world::collections::HashSet;

#[derive(Debug, Clone, Default)]
pub(crate) struct AuthorizerSettings {
    /// `super.users`
    pub super_users: HashSet<String>,
    /// `allow.everyone.if.no.acl.found`
    pub allow_everyone: bool,
}

impl AuthorizerSettings {
    pub fn of(config: &BrokerConfig) -> Self {
        Self {
            super_users: config.super_users().into_iter().collect(),
            allow_everyone: config.allow_everyone_if_no_acl_found().unwrap_or_else(|| is_private(config)),
        }
    }
}

/// Does nobody come in but who is on this machine already, and without a name? `serve` puts the addresses that it is bound to into the
/// configuration; where nothing is said of listeners there is no socket at all.
fn is_private(config: &BrokerConfig) -> bool {
    !config.started_with().contains_key("listeners")
        || config.listeners().iter().all(|listener| {
            let Some((name, address)) = listener.split_once("://") else { return false };
            is_anonymous(config, name) && is_loopback(address)
        })
}

fn is_anonymous(config: &BrokerConfig, listener: &str) -> bool {
    let protocols = config.security_protocols();
    let mapped = protocols.iter().find(|(name, _)| name == listener);
    mapped.map_or(listener, |(_, protocol)| protocol) == "PLAINTEXT"
}

fn is_loopback(address: &str) -> bool {
    address.parse::<SocketAddr>().is_ok_and(|address| address.ip().to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows_everyone(properties: &[(&str, &str)]) -> bool {
        let (config, _) = BrokerConfig::new(properties.iter().copied()).expect("good properties");
        AuthorizerSettings::of(&config).allow_everyone
    }

    #[test]
    fn only_this_machine_is_trusted_without_being_asked() {
        for private in [
            "PLAINTEXT://127.0.0.1:9092",
            "PLAINTEXT://[::1]:9092",
            "PLAINTEXT://127.0.0.1:9092,OTHER://127.0.0.2:1",
        ] {
            let map = ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT");
            assert!(allows_everyone(&[("listeners", private), map]), "{private}");
        }
        for open in [
            "PLAINTEXT://0.0.0.0:9092",
            "PLAINTEXT://10.0.0.1:9092",
            "SASL_PLAINTEXT://127.0.0.1:9092",
            "SSL://127.0.0.1:9092",
            "PLAINTEXT://127.0.0.1:9092,SASL_SSL://127.0.0.1:9093",
            "PLAINTEXT://:9092",
        ] {
            assert!(!allows_everyone(&[("listeners", open)]), "{open}");
            assert!(allows_everyone(&[("listeners", open), ("allow.everyone.if.no.acl.found", "true")]));
        }
        assert!(!allows_everyone(&[("allow.everyone.if.no.acl.found", "false")]));
    }

    #[test]
    fn a_listener_that_asks_who_comes_is_none_of_those_however_it_is_written() {
        let address = ("listeners", "PLAINTEXT://127.0.0.1:9092");
        for (map, is_private) in [
            ("PLAINTEXT:PLAINTEXT", true),
            ("plaintext:plaintext", true),
            ("PLAINTEXT:SASL_PLAINTEXT", false),
            ("plaintext:SASL_PLAINTEXT", false),
            ("plaintext:sasl_ssl", false),
        ] {
            assert_eq!(
                allows_everyone(&[address, ("listener.security.protocol.map", map)]),
                is_private,
                "{map}"
            );
        }
    }

    #[test]
    fn super_users_are_principals_separated_by_semicolons() {
        let (config, _) = BrokerConfig::new([("super.users", "User:a; User:CN=b,O=c ;")]).expect("good");
        let settings = AuthorizerSettings::of(&config);
        assert_eq!(
            settings.super_users,
            HashSet::from_iter(["User:a".to_owned(), "User:CN=b,O=c".to_owned()])
        );
        assert!(BrokerConfig::new([("super.users", "admin")]).is_err());
    }
}
