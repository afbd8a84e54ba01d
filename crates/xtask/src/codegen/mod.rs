//! `cargo xtask codegen`: writes `crates/protocol/src/messages/` and the schema that protocol's tests read,
//! from the message schemas inside Kafka's jars. Maven fetches the jars (`kafka-jars/pom.xml` names the
//! version). `--check` writes nothing and fails when what is committed is stale.

mod rust;
mod schema;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use schema::{Kind, Message};

/// The jars whose schemas we read, as `kafka-jars/pom.xml` unpacks them.
const JARS: [&str; 4] =
    ["kafka-clients", "kafka-group-coordinator", "kafka-transaction-coordinator", "kafka-share-coordinator"];

/// Records of the KRaft quorum. Ottla has none: its cluster is the metadata log.
const RAFT_ONLY: [&str; 5] = [
    "KRaftVersionRecord",
    "LeaderChangeMessage",
    "SnapshotFooterRecord",
    "SnapshotHeaderRecord",
    "VotersRecord",
];

const OUTPUT: &str = "crates/protocol/src/messages";
const TEST_SCHEMA: &str = "crates/protocol/tests/it/schema.json";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Write nothing; fail when the committed code is not what the jars give.
    #[arg(long)]
    pub check: bool,
    /// Read schemas from this directory (one folder per jar) instead of asking Maven.
    #[arg(long)]
    pub schemas: Option<PathBuf>,
}

pub enum Outcome {
    Done,
    /// The jars cannot be had here; why.
    Skipped(String),
}

pub fn run(root: &Path, options: &Options) -> Result<Outcome> {
    let unpacked;
    let schemas = match &options.schemas {
        Some(directory) => directory.clone(),
        None => {
            unpacked = tempfile::tempdir()?;
            if let Err(error) = unpack_jars(root, unpacked.path()) {
                if options.check {
                    return Ok(Outcome::Skipped(format!("{error:#}")));
                }
                return Err(error);
            }
            unpacked.path().to_owned()
        }
    };
    let version = kafka_version(root)?;
    let messages = read_all(&schemas)?;
    let files = formatted(generate(&messages, &version))?;
    if options.check {
        compare(root, &files)?
    } else {
        write(root, &files)?
    }
    Ok(Outcome::Done)
}

fn unpack_jars(root: &Path, into: &Path) -> Result<()> {
    let status = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(root.join("crates/xtask/kafka-jars/pom.xml"))
        .arg(format!("-Dschemas={}", into.display()))
        .arg("generate-resources")
        .status()
        .context("Maven (mvn) cannot be started")?;
    ensure!(status.success(), "Maven could not fetch Kafka's jars");
    Ok(())
}

fn kafka_version(root: &Path) -> Result<String> {
    let pom = std::fs::read_to_string(root.join("crates/xtask/kafka-jars/pom.xml"))?;
    let (_, rest) = pom.split_once("<kafka.version>").context("the pom names no kafka.version")?;
    Ok(rest.split_once('<').context("an open tag in the pom")?.0.to_owned())
}

fn read_all(schemas: &Path) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for jar in JARS {
        let directory = schemas.join(jar).join("common/message");
        let listing = std::fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
        for entry in listing {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                messages.push(schema::read(&path)?);
            }
        }
    }
    messages.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(messages.windows(2).all(|pair| pair[0].name != pair[1].name), "two messages have one name");
    Ok(messages)
}

/// What a broker answers and what stands in records; not what only controllers say to each other.
fn is_ours(message: &Message, all: &[Message]) -> bool {
    if message.versions.is_empty() || RAFT_ONLY.contains(&message.name.as_str()) {
        return false;
    }
    match message.kind {
        Kind::Request => message.broker_listener,
        Kind::Response => all.iter().any(|other| {
            other.kind == Kind::Request && other.api_key == message.api_key && other.broker_listener
        }),
        _ => true,
    }
}

/// Path from the root of the repository → contents.
type Files = BTreeMap<String, String>;

fn generate(all: &[Message], kafka_version: &str) -> Files {
    let ours: Vec<&Message> = all.iter().filter(|message| is_ours(message, all)).collect();
    let mut files = Files::new();
    for message in &ours {
        let path = format!("{OUTPUT}/{}.rs", rust::snake_case(&message.name));
        files.insert(path, rust::message(message, kafka_version));
    }
    files.insert(format!("{OUTPUT}/mod.rs"), tables::modules(&ours, kafka_version));
    files.insert(format!("{OUTPUT}/all.rs"), tables::all(&ours, kafka_version));
    files.insert(format!("{OUTPUT}/api_key_table.rs"), tables::api_keys(all, kafka_version));
    files.insert(TEST_SCHEMA.to_owned(), tables::test_schema(&ours));
    files
}

/// Runs rustfmt over the Rust files, all at once.
fn formatted(files: Files) -> Result<Files> {
    let directory = tempfile::tempdir()?;
    let mut command = Command::new("rustfmt");
    command.args(["--edition", "2024", "--config", "max_width=110,use_small_heuristics=Max"]);
    let mut places = BTreeMap::new();
    for (path, text) in &files {
        if path.ends_with(".rs") {
            // mod.rs would make rustfmt look for the files it names; they stand beside it anyway.
            let place = directory.path().join(Path::new(path).file_name().expect("a file"));
            std::fs::write(&place, text)?;
            command.arg(&place);
            places.insert(path.clone(), place);
        }
    }
    let output = command.output().context("rustfmt cannot be started")?;
    if !output.status.success() {
        bail!("rustfmt refused the generated code:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut files = files;
    for (path, place) in places {
        files.insert(path, std::fs::read_to_string(place)?);
    }
    Ok(files)
}

fn committed(root: &Path) -> Result<Vec<String>> {
    let mut paths = vec![TEST_SCHEMA.to_owned()];
    let directory = root.join(OUTPUT);
    if directory.exists() {
        for entry in std::fs::read_dir(directory)? {
            paths.push(format!("{OUTPUT}/{}", entry?.file_name().to_string_lossy()));
        }
    }
    Ok(paths)
}

fn compare(root: &Path, files: &Files) -> Result<()> {
    let mut stale = Vec::new();
    for (path, text) in files {
        if std::fs::read_to_string(root.join(path)).ok().as_ref() != Some(text) {
            stale.push(path.clone());
        }
    }
    stale.extend(committed(root)?.into_iter().filter(|path| !files.contains_key(path)));
    ensure!(
        stale.is_empty(),
        "generated code is stale, run `cargo xtask codegen`:\n  {}",
        stale.join("\n  ")
    );
    Ok(())
}

fn write(root: &Path, files: &Files) -> Result<()> {
    for path in committed(root)? {
        if !files.contains_key(&path) {
            std::fs::remove_file(root.join(path))?;
        }
    }
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a file in a folder"))?;
        // Untouched files keep their time, so that cargo does not build them again.
        if std::fs::read_to_string(&path).ok().as_ref() != Some(text) {
            std::fs::write(path, text)?;
        }
    }
    println!("{} files written", files.len());
    Ok(())
}
