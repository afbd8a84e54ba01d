//! What clients have pushed of their own metrics (KIP-714), on the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

use broker::telemetry::{CLIENTS_MAX, SERIES_MAX, Telemetry};
use server::MetricsText;

/// One family for all of them: names are labels, so that a client cannot invent families.
const FAMILY: &str = "ottla_client_metric";

pub(super) fn write_client_metrics(text: &mut MetricsText, telemetry: &Telemetry) {
    let counters = telemetry.counters();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let clients = telemetry.clients();
    let series: usize = clients.iter().map(|client| client.points.len()).sum();
    text.counter(
        "ottla_client_metrics_pushes_total",
        "Pushes of client metrics taken.",
        load(&counters.pushes),
    );
    text.counter("ottla_client_metrics_bytes_total", "Bytes of them, as they came.", load(&counters.bytes));
    text.counter(
        "ottla_client_metrics_refused_total",
        "Pushes and questions for subscriptions that were answered with an error.",
        load(&counters.refused),
    );
    text.counter(
        "ottla_client_metrics_points_dropped_total",
        "Values that are not shown: histograms, too long names, too many.",
        load(&counters.points_dropped),
    );
    text.gauge(
        "ottla_client_metrics_clients",
        "Clients that are connected and ask for or push metrics.",
        clients.len(),
    );
    text.gauge("ottla_client_metrics_clients_limit", "Clients that are remembered.", CLIENTS_MAX);
    text.gauge("ottla_client_metrics_series", "Values of clients shown.", series);
    text.gauge("ottla_client_metrics_series_limit", "Values of all clients that are shown.", SERIES_MAX);
    if series == 0 {
        return;
    }
    text.family(FAMILY, "untyped", "Last value that a client pushed, as it names it.");
    for client in &clients {
        let instance = client.who.instance_id.to_string();
        for point in &client.points {
            let mut labels =
                vec![("client_instance_id", instance.as_str()), ("metric", point.metric.as_str())];
            if let Some(client_id) = &client.who.client_id {
                labels.push(("client_id", client_id));
            }
            // What a client calls a label stands behind a prefix: it cannot take the place of one of ours.
            let own: Vec<(String, &str)> =
                point.labels.iter().map(|(name, value)| (label_name(name), value.as_str())).collect();
            labels.extend(own.iter().map(|(name, value)| (name.as_str(), *value)));
            text.sample(FAMILY, &labels, point.value);
        }
    }
}

fn label_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("label_{}", name.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::label_name;

    #[test]
    fn names_of_labels_are_those_of_prometheus() {
        assert_eq!(label_name("node.id"), "label_node_id");
        assert_eq!(label_name("a\"}\n"), "label_a___");
    }
}
