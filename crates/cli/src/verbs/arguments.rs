//! The options of the verbs that talk to a broker.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use crate::escapes::unescape;

/// Where the broker is.
#[derive(Debug, Args)]
pub struct Brokers {
    /// Brokers to ask first, separated by commas
    #[arg(
        short = 'b',
        long = "broker",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092",
        env = "OTTLA_BROKER"
    )]
    pub brokers: String,
    /// Properties of a Kafka client: security.protocol, ssl.* and sasl.* count
    #[arg(long, value_name = "FILE", env = "OTTLA_COMMAND_CONFIG")]
    pub command_config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Make topics
    Create {
        #[command(flatten)]
        brokers: Brokers,
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// [default: the broker's num.partitions]
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// [default: the broker's default.replication.factor]
        #[arg(short, long, value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A topic config; may be repeated
        #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = crate::arguments::key_and_value)]
        configs: Vec<(String, String)>,
        /// Succeed when a topic is there already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List topics
    List {
        #[command(flatten)]
        brokers: Brokers,
        /// Internal topics too
        #[arg(long)]
        internal: bool,
    },
    /// Show partitions, offsets and configs of topics
    Describe {
        #[command(flatten)]
        brokers: Brokers,
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Change configs or add partitions
    Alter {
        #[command(flatten)]
        brokers: Brokers,
        name: String,
        /// The new number of partitions; it can only grow
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Set a config; may be repeated
        #[arg(long, value_name = "KEY=VALUE", value_parser = crate::arguments::key_and_value)]
        set: Vec<(String, String)>,
        /// Take a config back to its default; may be repeated
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Delete topics and all that is in them
    Delete {
        #[command(flatten)]
        brokers: Brokers,
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Succeed when a topic is not there
        #[arg(long)]
        if_exists: bool,
    },
    /// Delete the records before an offset
    Trim {
        #[command(flatten)]
        brokers: Brokers,
        name: String,
        /// One partition [default: all]
        #[arg(short, long)]
        partition: Option<i32>,
        /// The first offset that stays, or `end` to delete everything
        #[arg(long, value_name = "OFFSET|end")]
        before: TrimTo,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    Offset(i64),
    End,
}

impl FromStr for TrimTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "end" => Ok(TrimTo::End),
            number => match number.parse() {
                Ok(offset @ 0..) => Ok(TrimTo::Offset(offset)),
                _ => Err("want an offset or `end`".to_owned()),
            },
        }
    }
}

/// Send records, one per line of stdin unless something else is said
#[derive(Debug, Args)]
#[command(
    after_help = "Bytes go through untouched. To send a file whose records are separated by blank lines, each keyed by one of its \
lines:\n  ottla produce -t packages -D '\\n\\n' --key-regex '^Package: (.*)$' -l /var/lib/dpkg/status"
)]
pub struct Produce {
    #[command(flatten)]
    pub brokers: Brokers,
    /// Made by the broker if it is not there and may be
    #[arg(short, long)]
    pub topic: String,
    /// The partition [default: by key, or in turns]
    #[arg(short, long)]
    pub partition: Option<i32>,
    /// One key for all records
    #[arg(short, long, conflicts_with_all = ["key_delimiter", "key_regex"])]
    pub key: Option<String>,
    /// The key stands before these bytes, the value behind (\n \t \0 \xHH)
    #[arg(short = 'K', long, value_name = "DELIMITER", value_parser = delimiter, conflicts_with = "key_regex")]
    pub key_delimiter: Option<Bytes>,
    /// The key is what this expression finds: its first group, or all of it; the value stays whole. ^ and $ match at lines
    #[arg(long, value_name = "REGEX", value_parser = expression)]
    pub key_regex: Option<regex::bytes::Regex>,
    /// What ends a record (\n \t \0 \xHH)
    #[arg(short = 'D', long, value_name = "DELIMITER", value_parser = delimiter, default_value = "\\n")]
    pub delimiter: Bytes,
    /// A header of all records; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = crate::arguments::key_and_value)]
    pub headers: Vec<(String, String)>,
    #[arg(short = 'z', long, value_enum, default_value_t = Codec::None)]
    pub compression: Codec,
    /// Read from this file instead of stdin
    #[arg(short = 'l', long, value_name = "FILE", conflicts_with = "whole")]
    pub lines: Option<PathBuf>,
    /// An empty value is sent as null, which deletes a key in a compacted topic
    #[arg(short = 'Z', long)]
    pub null: bool,
    /// Files that are one record each, whole
    #[arg(value_name = "FILE")]
    pub whole: Vec<PathBuf>,
}

/// Bytes of a delimiter; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

fn delimiter(text: &str) -> Result<Bytes, String> {
    match unescape(text)? {
        empty if empty.is_empty() => Err("a delimiter has at least one byte".to_owned()),
        bytes => Ok(Bytes(bytes)),
    }
}

fn expression(text: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(text).multi_line(true).build().map_err(|error| error.to_string())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Read records
#[derive(Debug, Args)]
#[command(
    after_help = "Formats (-f) as in kcat: %t topic, %p partition, %o offset, %T timestamp, %k key, %K its length, %s value, \
%S its length, %R its length as 4 bytes, %h headers; \\n \\t \\0 \\xHH."
)]
pub struct Consume {
    #[command(flatten)]
    pub brokers: Brokers,
    /// May be repeated with -g
    #[arg(short, long = "topic", required = true)]
    pub topics: Vec<String>,
    /// One partition [default: all]
    #[arg(short, long, conflicts_with = "group")]
    pub partition: Option<i32>,
    /// Where to start: beginning, end, stored, an offset, -N (N before the end), s@MS (first record at or after a timestamp)
    #[arg(short = 'o', long, allow_hyphen_values = true)]
    pub offset: Option<Start>,
    /// Read as a member of this group and commit what was printed
    #[arg(short, long)]
    pub group: Option<String>,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Stop at the end of every partition
    #[arg(short = 'e', long)]
    pub exit_at_end: bool,
    /// How a record is printed
    #[arg(short, long, default_value = "%s\\n")]
    pub format: String,
}

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Beginning,
    End,
    /// The group's committed offset.
    Stored,
    At(i64),
    BeforeEnd(i64),
    Time(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "want beginning, end, stored, an offset, -N or s@MILLISECONDS".to_owned();
        Ok(match text {
            "beginning" | "earliest" => Start::Beginning,
            "end" | "latest" => Start::End,
            "stored" => Start::Stored,
            _ => match (text.strip_prefix("s@"), text.strip_prefix('-')) {
                (Some(ms), _) => Start::Time(ms.parse().map_err(|_| wrong())?),
                (_, Some(count)) => {
                    Start::BeforeEnd(count.parse().ok().filter(|n| *n >= 0).ok_or_else(wrong)?)
                }
                _ => Start::At(text.parse().map_err(|_| wrong())?),
            },
        })
    }
}

#[derive(Debug, Subcommand)]
pub enum Group {
    /// List groups
    List {
        #[command(flatten)]
        brokers: Brokers,
    },
    /// Show members, offsets and lag
    Describe {
        #[command(flatten)]
        brokers: Brokers,
        group: String,
    },
    /// Set the committed offsets of a group that nobody is in
    Reset {
        #[command(flatten)]
        brokers: Brokers,
        group: String,
        #[arg(short, long)]
        topic: String,
        /// One partition [default: all]
        #[arg(short, long)]
        partition: Option<i32>,
        /// beginning, end, an offset, -N (N before the end) or s@MS
        #[arg(long, allow_hyphen_values = true)]
        to: Start,
        /// Only show what would be set
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete groups and their offsets
    Delete {
        #[command(flatten)]
        brokers: Brokers,
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_as_kcat_takes_them() {
        for (text, start) in [
            ("beginning", Start::Beginning),
            ("end", Start::End),
            ("stored", Start::Stored),
            ("17", Start::At(17)),
            ("-5", Start::BeforeEnd(5)),
            ("s@1700000000000", Start::Time(1_700_000_000_000)),
        ] {
            assert_eq!(text.parse(), Ok(start));
        }
        for wrong in ["", "x", "--1", "s@", "s@x"] {
            assert!(wrong.parse::<Start>().is_err(), "{wrong}");
        }
    }
}
