//! `ottla bucket`: what a bucket holds, without a broker.

use std::sync::Arc;

use commitlog::bucket::{Audit, Named, audit};
use serde_json::json;
use world::bucket::{Bucket, RealBucket};

use crate::arguments::{Output, Place};
use crate::exit::{Done, Failure};
use crate::output;

pub fn run_audit(place: Place, output: Output) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("the runtime does not start: {error}")))?;
    let audited = runtime.block_on(async {
        let bucket: Arc<dyn Bucket> = RealBucket::open(&place.data).map_err(Failure::usage)?;
        audit(&bucket).await.map_err(Failure::failed)
    })?;
    print(&audited, output)?;
    match audited.problems.count {
        0 => Ok(()),
        count => Err(Failure::failed(format!("{count} problems: acknowledged data is missing or damaged"))),
    }
}

fn print(audited: &Audit, output: Output) -> Done {
    let columns = ["wal", "node", "sealed_at", "mark", "slots", "bytes", "records"];
    let row = |wal: &commitlog::bucket::WalAudit| {
        vec![
            json!(wal.wal_id),
            json!(wal.node_id),
            json!(wal.sealed_at),
            json!(wal.mark),
            json!(wal.slots),
            json!(wal.bytes),
            json!(wal.records),
        ]
    };
    let rows: Vec<_> = audited.wals.iter().map(row).collect();
    let named = |named: &Named| json!({ "count": named.count, "first": named.first });
    if output == Output::Json {
        return output::json(&json!({
            "wals": output::objects(&columns, &rows),
            "segments": audited.segments,
            "segment_records": audited.segment_records,
            "objects": audited.objects,
            "bytes": audited.bytes,
            "problems": named(&audited.problems),
            "void": named(&audited.void),
            "unknown": named(&audited.unknown),
        }));
    }
    output::table(output, &columns, &rows)?;
    let mut text = format!(
        "\n{} segments with {} records; {} objects, {} bytes in all\n",
        audited.segments, audited.segment_records, audited.objects, audited.bytes
    );
    for (what, named) in [
        ("problems", &audited.problems),
        ("commits behind the end of their WAL, which never counted", &audited.void),
        ("objects that nothing leads to", &audited.unknown),
    ] {
        text.push_str(&format!("{} {what}\n", named.count));
        named.first.iter().for_each(|name| text.push_str(&format!("  {name}\n")));
    }
    output::print(&text)
}
