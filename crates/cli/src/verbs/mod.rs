//! The verbs that talk to a broker: clients like any other, through `client` only.

pub mod arguments;
mod client_properties;
mod cluster;
mod connect;
mod consume;
mod group;
mod produce;
mod progress;
mod record_format;
mod record_split;
mod topic;

use std::future::Future;

use crate::arguments::Output;
use crate::exit::{Done, Failure};
use arguments::{Brokers, Consume, Group, Produce, Topic};

pub fn topic(verb: Topic, output: Output) -> Done {
    run(topic::run(verb, output))
}

pub fn group(verb: Group, output: Output) -> Done {
    run(group::run(verb, output))
}

pub fn cluster(brokers: Brokers, output: Output) -> Done {
    run(cluster::run(brokers, output))
}

pub fn produce(arguments: Produce, output: Output) -> Done {
    run(produce::run(arguments, output))
}

pub fn consume(arguments: Consume, output: Output) -> Done {
    run(consume::run(arguments, output))
}

/// One thread is plenty for one client.
fn run(verb: impl Future<Output = Done>) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime does not start: {error}")))?;
    let done = runtime.block_on(verb);
    // A read of stdin may hang in its thread for ever.
    runtime.shutdown_background();
    done
}
