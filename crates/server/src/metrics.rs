//! The metrics page in Prometheus' text format, and what the server itself puts on it.
//!
//! Names that dashboards for Apache Kafka know (those of the usual JMX exporter rules) stand beside our own `ottla_*` ones. Quantiles
//! are of the last one to two minutes.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::api_key::ApiKey;

use crate::histogram::Histogram;
use crate::inter_broker::InterBroker;
use crate::server::Server;

const QUANTILES: [(f64, &str); 5] =
    [(0.5, "0.50"), (0.75, "0.75"), (0.95, "0.95"), (0.99, "0.99"), (0.999, "0.999")];

/// A metrics page being written.
#[derive(Default)]
pub struct MetricsText(String);

impl MetricsText {
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// The head of a family whose samples follow. `kind` is Prometheus' word: counter, gauge, histogram, summary.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        self.labels(labels);
        let _ = writeln!(self.0, " {value}");
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        for (i, (label, value)) in labels.iter().enumerate() {
            self.0.push_str(if i == 0 { "{" } else { "," });
            let _ = write!(self.0, "{label}=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
    }

    /// The buckets, sum and count of one histogram; the family's head comes before.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let buckets: Vec<(String, u64)> =
            histogram.cumulative().into_iter().map(|(bound, count)| (format!("{bound}"), count)).collect();
        self.histogram_of(name, labels, &buckets, histogram.sum_seconds(), histogram.count());
    }

    pub fn histogram_of(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        buckets: &[(String, u64)],
        sum: f64,
        count: u64,
    ) {
        let mut with_bound = labels.to_vec();
        let bucket = format!("{name}_bucket");
        for (bound, below) in
            buckets.iter().map(|(bound, below)| (bound.as_str(), *below)).chain([("+Inf", count)])
        {
            with_bound.push(("le", bound));
            self.sample(&bucket, &with_bound, below);
            with_bound.pop();
        }
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count);
    }

    pub fn finish(self) -> String {
        self.0
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What the server counts.
pub fn write_server_metrics(text: &mut MetricsText, server: &Server, now: Duration) {
    let counters = server.counters();

    text.gauge("ottla_connections", "Open connections.", server.connections_open());
    text.gauge(
        "ottla_connections_limit",
        "The most connections that may be open (max.connections).",
        server.connection_limits().max,
    );
    text.counter(
        "ottla_connections_accepted_total",
        "Connections accepted.",
        load(&counters.connections_accepted),
    );
    text.family(
        "ottla_connections_refused_total",
        "counter",
        "Connections refused, by the limit that was reached.",
    );
    for (limit, count) in [
        ("connections", &counters.connections_refused_for_number),
        ("per_address", &counters.connections_refused_for_address),
        ("rate", &counters.connections_refused_for_rate),
    ] {
        text.sample("ottla_connections_refused_total", &[("limit", limit)], load(count));
    }
    text.family("ottla_connections_closed_total", "counter", "Connections closed by the server, by reason.");
    for (reason, count) in [
        ("idle", &counters.connections_closed_idle),
        ("garbage", &counters.connections_closed_for_garbage),
        ("stalled", &counters.connections_closed_for_stall),
        ("unauthenticated", &counters.connections_closed_unauthenticated),
        ("tls", &counters.tls_handshakes_failed),
    ] {
        text.sample("ottla_connections_closed_total", &[("reason", reason)], load(count));
    }
    text.counter(
        "ottla_tls_handshakes_total",
        "TLS handshakes that came to an end.",
        load(&counters.tls_handshakes),
    );
    text.counter("ottla_received_bytes_total", "Bytes read from clients.", load(&counters.bytes_received));
    text.counter("ottla_sent_bytes_total", "Bytes written to clients.", load(&counters.bytes_sent));
    text.gauge("ottla_request_memory_bytes", "Request frames in memory.", server.request_memory().used());
    text.gauge(
        "ottla_request_memory_limit_bytes",
        "Above this the server stops reading (queued.max.request.bytes).",
        server.request_memory().limit(),
    );
    text.gauge(
        "ottla_answer_memory_bytes",
        "Answers that clients have not taken yet.",
        server.answer_memory().used(),
    );
    text.gauge(
        "ottla_answer_memory_limit_bytes",
        "Above this nothing is begun whose answer may be long.",
        server.answer_memory().limit(),
    );
    text.family("ottla_waits_total", "counter", "Times a connection had to wait, by what for.");
    for (what, count) in [
        ("request_memory", &counters.waits_for_request_memory),
        ("answer_memory", &counters.waits_for_answer_memory),
        ("log_room", &counters.waits_for_log_room),
    ] {
        text.sample("ottla_waits_total", &[("for", what)], load(count));
    }
    text.gauge(
        "ottla_requests_under_way",
        "Requests that have no answer yet.",
        load(&counters.requests_under_way),
    );
    text.counter(
        "ottla_requests_unknown_total",
        "Requests with an api key that does not exist.",
        load(&counters.requests_unknown),
    );

    let apis: Vec<(&str, _)> =
        counters.apis().filter_map(|(key, api)| Some((ApiKey::try_from(key).ok()?.name(), api))).collect();
    text.family("ottla_request_seconds", "histogram", "From the last byte of a request to its answer.");
    for (name, api) in &apis {
        text.histogram("ottla_request_seconds", &[("request", name)], &api.answered_after);
    }
    text.family("kafka_network_requestmetrics_requests_total", "counter", "Requests by api and version.");
    for (name, api) in &apis {
        for (version, count) in api.versions() {
            let version = version.to_string();
            text.sample(
                "kafka_network_requestmetrics_requests_total",
                &[("request", name), ("version", &version)],
                count,
            );
        }
    }
    text.family(
        "kafka_network_requestmetrics_totaltimems",
        "summary",
        "Milliseconds from request to answer.",
    );
    for (name, api) in &apis {
        if let Some(values) = api.answered_after.recent_quantiles(now, QUANTILES.map(|(q, _)| q)) {
            for ((_, quantile), value) in QUANTILES.iter().zip(values) {
                let labels = [("request", *name), ("quantile", quantile)];
                text.sample("kafka_network_requestmetrics_totaltimems", &labels, value * 1000.0);
            }
        }
        text.sample(
            "kafka_network_requestmetrics_totaltimems_count",
            &[("request", name)],
            api.answered_after.count(),
        );
    }
    for (family, help, of) in [
        ("kafka_network_requestmetrics_requestbytes_total", "Bytes of requests by api.", true),
        ("kafka_network_requestmetrics_responsebytes_total", "Bytes of answers by api.", false),
    ] {
        text.family(family, "counter", help);
        for (name, api) in &apis {
            text.sample(
                family,
                &[("request", name)],
                load(if of { &api.request_bytes } else { &api.answer_bytes }),
            );
        }
    }
    text.gauge(
        "kafka_server_socketservermetrics_connection_count",
        "Open connections.",
        server.connections_open(),
    );
    text.gauge(
        "kafka_network_socketserver_memorypoolused",
        "Request frames in memory.",
        server.request_memory().used(),
    );
    text.gauge(
        "kafka_network_socketserver_memorypoolavailable",
        "Request memory that is free.",
        server.request_memory().limit().saturating_sub(server.request_memory().used()),
    );
}

/// What this broker has to do with the others of its bucket.
pub fn write_inter_broker_metrics(text: &mut MetricsText, others: &InterBroker) {
    let counters = others.counters();
    let (live, silent) = others.unreachable();
    text.gauge("ottla_peers", "Other brokers that live, as the metadata log says.", live);
    text.gauge(
        "ottla_peers_unreachable",
        "Those of them that do not answer this broker: what needs them waits, the rest goes by way of the bucket.",
        silent.len(),
    );
    text.family(
        "ottla_peer_calls_total",
        "counter",
        "Calls to other brokers, and those without an answer in time.",
    );
    for (result, count) in [("all", &counters.calls), ("failed", &counters.calls_failed)] {
        text.sample("ottla_peer_calls_total", &[("result", result)], load(count));
    }
    text.family("ottla_peer_connects_total", "counter", "Connections to other brokers that were tried.");
    for (result, count) in [("all", &counters.connects), ("failed", &counters.connects_failed)] {
        text.sample("ottla_peer_connects_total", &[("result", result)], load(count));
    }
    text.family("ottla_peer_requests_total", "counter", "Requests of other brokers.");
    for (request, count) in [
        ("log_moved", &counters.log_moved_received),
        ("append", &counters.appends_received),
        ("slots_stored", &counters.slots_stored_received),
    ] {
        text.sample("ottla_peer_requests_total", &[("request", request)], load(count));
    }
    text.counter(
        "ottla_peer_connections_accepted_total",
        "Connections of other brokers that were let in.",
        load(&counters.accepted),
    );
    text.family(
        "ottla_peer_connections_refused_total",
        "counter",
        "Connections to the listener for brokers that were not let in: without a certificate of this cluster or without a handshake in \
         time, of a broker that is not one any more, or too many at once.",
    );
    for (reason, count) in [
        ("stranger", &counters.strangers),
        ("not_live", &counters.refused_for_absence),
        ("handshakes", &counters.refused_for_number),
    ] {
        text.sample("ottla_peer_connections_refused_total", &[("reason", reason)], load(count));
    }
    text.counter(
        "ottla_peer_garbage_total",
        "Connections of other brokers that ended because of what they sent.",
        load(&counters.garbage),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_prometheus_wants_it() {
        let mut text = MetricsText::default();
        text.gauge("a", "The letter.", 1);
        text.family("b", "counter", "By name.");
        text.sample("b", &[("topic", "we\"ird\\x"), ("partition", "0")], 2.5);
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(100));
        text.family("c_seconds", "histogram", "Times.");
        text.histogram("c_seconds", &[("x", "y")], &histogram);
        let page = text.finish();
        assert!(page.starts_with("# HELP a The letter.\n# TYPE a gauge\na 1\n"));
        assert!(page.contains("b{topic=\"we\\\"ird\\\\x\",partition=\"0\"} 2.5\n"));
        assert!(page.contains("c_seconds_bucket{x=\"y\",le=\"0.000064\"} 0\n"));
        assert!(page.contains("c_seconds_bucket{x=\"y\",le=\"0.000256\"} 1\n"));
        assert!(page.ends_with("c_seconds_bucket{x=\"y\",le=\"+Inf\"} 1\nc_seconds_sum{x=\"y\"} 0.0001\nc_seconds_count{x=\"y\"} 1\n"));
    }
}
