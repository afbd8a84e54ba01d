//! The command line: every verb and option, and nothing of what they do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Apache Kafka rebuilt in Rust: one binary, one directory.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, arg_required_else_help = true, max_term_width = 120)]
pub struct Arguments {
    /// How results are printed on stdout
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a broker on a directory or on a bucket
    Serve(Serve),
    /// Make, show, change and delete topics
    #[command(subcommand)]
    Topic(crate::verbs::arguments::Topic),
    Produce(crate::verbs::arguments::Produce),
    Consume(crate::verbs::arguments::Consume),
    /// Show consumer groups, move and delete their offsets
    #[command(subcommand)]
    Group(crate::verbs::arguments::Group),
    /// Show the cluster and its brokers
    Cluster(crate::verbs::arguments::Brokers),
    /// Try whether a bucket keeps what Ottla needs of it
    Selftest(Selftest),
    /// Look into a bucket, without a broker
    #[command(subcommand)]
    Bucket(Bucket),
    /// Check a configuration without starting anything
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script for a shell
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub struct Properties {
    /// A Kafka broker property; may be repeated, and wins over the file
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
    /// A Kafka server.properties file
    #[arg(long, value_name = "FILE")]
    pub server_properties: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Where the data lives: a directory, made if it does not exist, or a bucket: s3://BUCKET/PREFIX [default: ./ottla-data]
    #[arg(long, value_name = "DIR|URL")]
    pub data: Option<PathBuf>,
    /// A second tier for a directory: topics with remote.storage.enable keep old records in this bucket: s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    pub tier: Option<String>,
    /// Where clients connect; port 0 takes a free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// The address that clients are told to connect to [default: where it listens]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Metrics and health over HTTP [default: 127.0.0.1:8080, or a free port when that is taken]
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    #[command(flatten)]
    pub properties: Properties,
    /// A first user, unless it is there already: SCRAM-SHA-512=[name=NAME,password=PASSWORD]; may be repeated. OTTLA_ADD_SCRAM
    /// has one that other users of the machine do not see
    #[arg(long = "add-scram", value_name = "USER", env = "OTTLA_ADD_SCRAM", hide_env_values = true)]
    pub add_scram: Vec<String>,
    /// Let a listener without TLS or without authentication be on an address that others can reach
    #[arg(long)]
    pub insecure: bool,
}

#[derive(Debug, Args)]
pub struct Place {
    /// The bucket: s3://BUCKET/PREFIX?endpoint=http://HOST:PORT&region=R&allow_http=true; gs:// and az:// likewise
    #[arg(long, value_name = "URL")]
    pub data: String,
}

#[derive(Debug, Subcommand)]
pub enum Bucket {
    /// Read everything: is all that was acknowledged there, and what is there that nobody needs?
    Audit(Place),
}

#[derive(Debug, Args)]
pub struct Selftest {
    #[command(flatten)]
    pub place: Place,
    /// How often everything is tried
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check properties: unknown keys, wrong values, keys without effect
    Check {
        /// A Kafka server.properties file
        #[arg(value_name = "FILE", conflicts_with = "server_properties")]
        file: Option<PathBuf>,
        #[command(flatten)]
        properties: Properties,
    },
}

pub fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("want KEY=VALUE".to_owned()),
    }
}
