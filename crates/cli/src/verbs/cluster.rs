//! `ottla cluster`: its id, its brokers and where their data lies.

use serde_json::json;

use crate::arguments::Output;
use crate::exit::Done;
use crate::output;

use super::arguments::Brokers;
use super::{connect::connect, progress};

pub async fn run(brokers: Brokers, output: Output) -> Done {
    let admin = connect(&brokers).await?.admin();
    let (cluster, dirs) = progress::show(|| "asking the cluster".to_owned(), async {
        Ok::<_, client::Error>((admin.cluster().await?, admin.log_dirs(None).await?))
    })
    .await?;
    let rows: Vec<Vec<serde_json::Value>> = cluster
        .brokers
        .iter()
        .map(|broker| {
            let of_broker = dirs.iter().filter(|dir| dir.broker == broker.id);
            let bytes: i64 =
                of_broker.clone().flat_map(|dir| &dir.partitions).map(|partition| partition.size_bytes).sum();
            let partitions: usize = of_broker.clone().map(|dir| dir.partitions.len()).sum();
            let paths: Vec<&str> = of_broker.clone().map(|dir| &*dir.path).collect();
            vec![
                json!(broker.id),
                json!(crate::serve::properties::join(&broker.host, broker.port as u16)),
                json!(broker.rack.as_deref()),
                json!(broker.id == cluster.controller),
                json!(partitions),
                json!(bytes),
                json!(paths),
            ]
        })
        .collect();
    let columns = ["broker", "address", "rack", "controller", "partitions", "bytes", "directories"];
    match output {
        Output::Table => {
            output::print(&format!("cluster {}\n", cluster.cluster_id))?;
            output::table(output, &columns, &rows)
        }
        Output::Json => output::json(
            &json!({ "cluster_id": &*cluster.cluster_id, "brokers": output::objects(&columns, &rows) }),
        ),
    }
}
