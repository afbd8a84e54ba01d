//! The broker properties of `--server-properties` and `--set`, and what in them is for `serve` itself: addresses, node id, limits.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use broker::{INTER_BROKER_LISTENER, SecurityProtocol};
use catalog::config::BrokerConfig;
use server::{ConnectionLimits, Limits};

use crate::arguments::Properties;
use crate::exit::Failure;

/// Key and value, as given, later ones winning.
pub fn gather(properties: &Properties, file: Option<&Path>) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    if let Some(path) = file.or(properties.server_properties.as_deref()) {
        let text =
            std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        // Java reads these files as ISO 8859-1; today they are UTF-8, and the keys we know are ASCII.
        let parsed = catalog::config::properties::parse(&String::from_utf8_lossy(&text));
        all.extend(parsed.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?);
    }
    all.extend(properties.set.iter().cloned());
    Ok(all)
}

/// One address to listen on: what comes after `listeners=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerAddress {
    pub name: String,
    pub protocol: SecurityProtocol,
    pub host: String,
    pub port: u16,
}

impl ListenerAddress {
    /// What `bind` understands; Kafka's empty host is every address of the machine.
    pub fn to_bind(&self) -> String {
        let host = if self.host.is_empty() { "0.0.0.0" } else { &self.host };
        join(host, self.port)
    }
}

pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// `HOST:PORT` of an option.
pub fn host_and_port(option: &str, text: &str) -> Result<(String, u16), Failure> {
    let wrong = || Failure::usage(format!("{option} {text}: want HOST:PORT"));
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if option != "listeners" && host.is_empty() {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

/// `listener.security.protocol.map`.
fn protocols(all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let pairs = list(all.get("listener.security.protocol.map")).filter_map(|pair| pair.split_once(':'));
    pairs.map(|(name, protocol)| (name.to_uppercase(), protocol.to_uppercase())).collect()
}

/// What the listener for other brokers is called in `listeners`. Kafka's files name one there that clients use too; here brokers have
/// one of their own, and it has TLS.
fn inter_broker_name(all: &BTreeMap<String, String>) -> String {
    let named = all.get("inter.broker.listener.name").map(|name| name.trim().to_uppercase());
    let is_ssl = |name: &String| protocols(all).get(name).unwrap_or(name) == "SSL";
    named.filter(is_ssl).unwrap_or_else(|| INTER_BROKER_LISTENER.to_owned())
}

/// Where `listeners` or `advertised.listeners` have the listener for other brokers.
pub fn inter_broker(key: &str, all: &BTreeMap<String, String>) -> Result<Option<ListenerAddress>, Failure> {
    let name = inter_broker_name(all);
    let entries = list(all.get(key)).filter_map(|entry| entry.split_once("://"));
    let found: Vec<_> = entries.filter(|(listener, _)| listener.to_uppercase() == name).collect();
    let wrong = |reason: String| Failure::usage(format!("{key}: {reason}"));
    if let Some(protocol) = protocols(all).get(&name).filter(|protocol| *protocol != "SSL") {
        return Err(wrong(format!(
            "{name} is the listener for other brokers: it has SSL and not {protocol}"
        )));
    }
    match found[..] {
        [] => Ok(None),
        [(_, address)] => {
            let (host, port) = host_and_port("listeners", address)
                .map_err(|_| wrong(format!("{address} is not HOST:PORT")))?;
            Ok(Some(ListenerAddress { name, protocol: SecurityProtocol::Ssl, host, port }))
        }
        _ => Err(wrong(format!("{name} is there twice"))),
    }
}

/// `listeners` or `advertised.listeners`: `NAME://host:port,…`, those for clients. There is none for controllers here, and the one for
/// other brokers is [`inter_broker`].
pub fn listeners(key: &str, all: &BTreeMap<String, String>) -> Result<Vec<ListenerAddress>, Failure> {
    let Some(value) = all.get(key) else { return Ok(Vec::new()) };
    let wrong = |reason: String| Failure::usage(format!("{key}={value}: {reason}"));
    let (protocols, brokers) = (protocols(all), inter_broker_name(all));
    let controllers: Vec<String> =
        list(all.get("controller.listener.names")).map(str::to_uppercase).collect();
    let mut found: Vec<ListenerAddress> = Vec::new();
    for entry in list(Some(value)) {
        let (name, address) =
            entry.split_once("://").ok_or_else(|| wrong(format!("{entry} is not NAME://HOST:PORT")))?;
        let name = name.to_uppercase();
        if controllers.contains(&name) || name == brokers {
            continue;
        }
        let protocol = protocols.get(&name).unwrap_or(&name);
        let protocol = SecurityProtocol::from_name(protocol).ok_or_else(|| {
            wrong(format!("listener {name}: {protocol} is none of PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL (listener.security.protocol.map)"))
        })?;
        let (host, port) =
            host_and_port("listeners", address).map_err(|_| wrong(format!("{address} is not HOST:PORT")))?;
        if found.iter().any(|other| other.name == name) {
            return Err(wrong(format!("{name} is there twice")));
        }
        found.push(ListenerAddress { name, protocol, host, port });
    }
    if found.is_empty() {
        return Err(wrong("no listener is left for clients".to_owned()));
    }
    Ok(found)
}

/// The server's limits. Where Kafka's default is "no limit", ours stays unless the key was given.
pub fn limits(config: &BrokerConfig, memory_bytes: u64) -> Limits {
    let mut limits = Limits {
        request_bytes_max: config.socket_request_max_bytes() as usize,
        request_memory_bytes_max: memory_bytes / 4,
        answer_memory_bytes_max: memory_bytes / 4,
        first_request: Duration::from_millis(config.connection_handshake_timeout_ms() as u64),
        // Negative means never, as in Kafka.
        connection_idle: Duration::from_millis(
            u64::try_from(config.connections_max_idle_ms()).unwrap_or(u32::MAX.into()),
        ),
        connections: connection_limits(config),
        ..Limits::default()
    };
    if let Ok(bytes @ 1..) = u64::try_from(config.queued_max_request_bytes()) {
        limits.request_memory_bytes_max = bytes;
    }
    if let Ok(bytes) = u64::try_from(config.queued_max_response_bytes()) {
        limits.answer_memory_bytes_max = bytes;
    }
    limits.decode_memory_bytes_max = limits.request_memory_bytes_max / 4;
    limits
}

/// Those that an operator may change while the broker runs, as in Kafka.
pub fn connection_limits(config: &BrokerConfig) -> ConnectionLimits {
    // Kafka's default, where it says nothing against the bound for connections without authentication.
    let unlimited = config.max_connections_per_ip() == i32::MAX
        && !config.started_with().contains_key("max.connections.per.ip");
    let unauthenticated = if unlimited {
        config.connection_unauthenticated_max_per_ip()
    } else {
        config.max_connections_per_ip()
    };
    ConnectionLimits {
        max: config.max_connections() as usize,
        per_ip_max: config.max_connections_per_ip() as usize,
        unauthenticated_per_ip_max: unauthenticated as usize,
        per_ip_overrides: config
            .connections_per_ip_overrides()
            .into_iter()
            .map(|(ip, count)| (ip, count as usize))
            .collect(),
        per_second_max: config.max_connection_creation_rate() as u32,
        per_ip_per_second_max: config.connection_unauthenticated_creation_rate_per_ip() as u32,
    }
}

fn list(value: Option<&String>) -> impl Iterator<Item = &str> {
    value.into_iter().flat_map(|value| value.split(',')).map(str::trim).filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn listeners_of_a_kraft_file() {
        let file = all(&[
            ("listeners", "PLAINTEXT://:9092, CONTROLLER://:9093,internal://[::1]:0"),
            ("controller.listener.names", "CONTROLLER"),
            ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT"),
        ]);
        let found = listeners("listeners", &file).unwrap();
        assert_eq!(
            found.iter().map(|l| (l.name.as_str(), l.to_bind())).collect::<Vec<_>>(),
            [("PLAINTEXT", "0.0.0.0:9092".to_owned()), ("INTERNAL", "[::1]:0".to_owned())]
        );
        for wrong in ["OTHER://:9093", "PLAINTEXT:9092", "PLAINTEXT://x", "A://:1,A://:2", ""] {
            assert!(listeners("listeners", &all(&[("listeners", wrong)])).is_err(), "{wrong}");
        }
    }

    #[test]
    fn listeners_have_protocols_of_their_own() {
        let file = all(&[
            ("listeners", "SSL://:1,INNER://:2,outer://:3"),
            ("listener.security.protocol.map", "SSL:SSL,INNER:SASL_PLAINTEXT,OUTER:sasl_ssl"),
        ]);
        let found = listeners("listeners", &file).unwrap();
        let protocols: Vec<_> = found.iter().map(|listener| listener.protocol).collect();
        let expected = [SecurityProtocol::Ssl, SecurityProtocol::SaslPlaintext, SecurityProtocol::SaslSsl];
        assert_eq!(protocols, expected);
    }

    #[test]
    fn brokers_have_a_listener_of_their_own() {
        let where_is = |pairs: &[(&str, &str)]| {
            let all = all(pairs);
            let brokers = inter_broker("listeners", &all).map(|found| found.map(|found| found.to_bind()));
            (brokers.ok(), listeners("listeners", &all).map(|found| found.len()).ok())
        };
        let some = |address: &str| Some(Some(address.to_owned()));
        let one = "PLAINTEXT://:9092,BROKER://10.0.0.1:9093";
        assert_eq!(where_is(&[("listeners", one)]), (some("10.0.0.1:9093"), Some(1)));
        assert_eq!(where_is(&[("listeners", "PLAINTEXT://:9092")]), (Some(None), Some(1)));
        // Kafka's own example file.
        let named = ("inter.broker.listener.name", "PLAINTEXT");
        assert_eq!(where_is(&[("listeners", one), named]), (some("10.0.0.1:9093"), Some(1)));
        let (named, map) = (("inter.broker.listener.name", "INTERNAL"), "INTERNAL:SSL,PLAINTEXT:PLAINTEXT");
        let internal = ("listeners", "PLAINTEXT://:9092,INTERNAL://:0");
        let mapped = ("listener.security.protocol.map", map);
        assert_eq!(where_is(&[internal, named, mapped]), (some("0.0.0.0:0"), Some(1)));
        let plain = ("listener.security.protocol.map", "BROKER:PLAINTEXT");
        assert_eq!(where_is(&[("listeners", one), plain]).0, None);
        assert_eq!(where_is(&[("listeners", "BROKER://:1,BROKER://:2")]), (None, None));
    }

    #[test]
    fn limits_take_kafka_s_keys() {
        let given = [("max.connections", "5"), ("max.connections.per.ip.overrides", "127.0.0.1:3")];
        let (config, warnings) = BrokerConfig::new(given).unwrap();
        assert_eq!(warnings, []);
        let limits = limits(&config, 4 << 30);
        assert_eq!((limits.connections.max, limits.request_memory_bytes_max), (5, 1 << 30));
        assert_eq!(limits.connections.per_ip_overrides.len(), 1);
        assert_eq!(
            (limits.connections.unauthenticated_per_ip_max, limits.connection_idle.as_secs()),
            (1000, 600)
        );
    }
}
