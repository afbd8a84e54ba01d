//! The two producer families: built here, run beside the broker, and asked at the end what they were told.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sim::history::{Acknowledged, Found};

/// How long producers may take to flush once the broker is up for good.
const FLUSH_MAX: Duration = Duration::from_secs(90);

/// With a broker that breaks a rule some of them never will.
const CONTROL_FLUSH_MAX: Duration = Duration::from_secs(15);

pub struct Families {
    c: PathBuf,
    java_classpath: String,
}

impl Families {
    /// Compiles both programs; fetches kafka-clients by the project's own pom (`clients/java`).
    pub fn build(home: Option<&Path>) -> anyhow::Result<Families> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("producers");
        let home = clients_home(home)?;
        let out = home.join("chaos");
        std::fs::create_dir_all(&out)?;
        let c = compile_c(&sources.join("producer.c"), &out.join("producer"))?;
        let java_classpath =
            java_classes(&home.join("chaos-jars"), None, &sources.join("Producer.java"), &out)?;
        Ok(Families { c, java_classpath })
    }

    pub fn start(&self, load: &Load) -> anyhow::Result<Producers> {
        let running = ["c-1", "java-1", "c-2"].map(|name| self.start_one(load, name));
        Ok(Producers { running: running.into_iter().collect::<anyhow::Result<_>>()? })
    }

    fn start_one(&self, load: &Load, name: &str) -> anyhow::Result<Running> {
        let mut command = if name.starts_with("java") {
            let mut java = Command::new("java");
            java.args([
                "-Xmx192m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                &self.java_classpath,
            ]);
            java.arg("Producer");
            java
        } else {
            Command::new(&self.c)
        };
        let told = load.work.join(format!("{name}.told"));
        let complaints = load.work.join(format!("{name}.errors"));
        let child = command
            .args([&load.address, &load.topic, &load.partitions.to_string(), name, &load.rate.to_string()])
            .stdin(Stdio::piped())
            .stdout(File::create(&told)?)
            .stderr(File::create(&complaints)?)
            .spawn()
            .with_context(|| format!("cannot start producer {name}"))?;
        Ok(Running { name: name.to_owned(), child, told, complaints, gave_up: false })
    }

    /// The whole log, read by librdkafka with its own checksum check.
    pub fn read_all(&self, load: &Load) -> anyhow::Result<Vec<Found>> {
        self.read(load, "read")
    }

    /// Of a log that lost data: each partition up to where the broker says that it is damaged.
    pub fn read_readable(&self, load: &Load) -> anyhow::Result<Vec<Found>> {
        self.read(load, "read-readable")
    }

    fn read(&self, load: &Load, how: &str) -> anyhow::Result<Vec<Found>> {
        let mut child = Command::new(&self.c)
            .args([&load.address, &load.topic, &load.partitions.to_string(), how])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut found = Vec::new();
        let mut complete = false;
        for line in BufReader::new(child.stdout.take().context("no stdout")?).lines() {
            let line = line?;
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["end"] => complete = true,
                [partition, offset, producer, number] => found.push(Found {
                    partition: partition.parse()?,
                    offset: offset.parse()?,
                    producer: producer.to_owned(),
                    number: number.parse()?,
                }),
                _ => bail!("the log holds what nobody sent: {line}"),
            }
        }
        child.wait()?;
        ensure!(complete, "reading the log back did not come to the end after {} records", found.len());
        // Per partition in offset order already; the partitions may be interleaved.
        found.sort_by_key(|record| record.partition);
        Ok(found)
    }
}

/// Against librdkafka.
pub fn compile_c(source: &Path, out: &Path) -> anyhow::Result<PathBuf> {
    if !Path::new("/usr/include/librdkafka/rdkafka.h").exists() {
        run(Command::new("apt-get").args(["install", "-y", "-qq", "gcc", "librdkafka-dev"]))?;
    }
    run(Command::new("gcc")
        .args(["-std=c11", "-D_DEFAULT_SOURCE", "-O1", "-o"])
        .args([out, source])
        .args(["-lrdkafka", "-lpthread"]))?;
    Ok(out.to_owned())
}

/// Compiles a class against kafka-clients, of the version in the project's own pom unless another one is named; gives the class path.
pub fn java_classes(jars: &Path, version: Option<&str>, source: &Path, out: &Path) -> anyhow::Result<String> {
    if !jars.join("fetched").exists() {
        run(Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/java/pom.xml"))
            .arg("dependency:copy-dependencies")
            .args(version.map(|version| format!("-Dkafka.version={version}")))
            .arg(format!("-DoutputDirectory={}", jars.display())))?;
        File::create(jars.join("fetched"))?;
    }
    std::fs::create_dir_all(out)?;
    let class_path = format!("{}:{}/*", out.display(), jars.display());
    run(Command::new("javac").args(["-nowarn", "-cp", &class_path, "-d"]).args([out, source]))?;
    Ok(class_path)
}

/// Where programs of others are kept from run to run.
pub fn clients_home(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    match given {
        Some(home) => Ok(home.to_path_buf()),
        None => Ok(Path::new(&std::env::var("HOME").context("no HOME")?).join(".cache/ottla-clients")),
    }
}

/// A directory for one run: removed when the run is good, left for whoever looks into it when it is not.
pub struct Work(PathBuf);

impl Work {
    pub fn new() -> anyhow::Result<Work> {
        Ok(Work(tempfile::tempdir()?.keep()))
    }

    pub fn within(place: &Path) -> anyhow::Result<Work> {
        Ok(Work(tempfile::tempdir_in(place)?.keep()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn done(self) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(&self.0)?)
    }
}

pub struct Load {
    pub work: PathBuf,
    pub address: String,
    pub topic: String,
    pub partitions: i32,
    pub rate: u32,
}

struct Running {
    name: String,
    child: Child,
    told: PathBuf,
    complaints: PathBuf,
    /// It ended by a mistake of its own.
    gave_up: bool,
}

pub struct Producers {
    running: Vec<Running>,
}

impl Producers {
    /// librdkafka before 2.3 (its pull request 4438) goes on behind a record whose fate it does not know, is told OUT_OF_ORDER, and
    /// gives up. A new one is started then. How often that was the case.
    pub fn replace_those_that_gave_up(&mut self, families: &Families, load: &Load) -> anyhow::Result<usize> {
        for place in 0..self.running.len() {
            let producer = &mut self.running[place];
            if producer.gave_up
                || producer.child.try_wait()?.is_none()
                || !producer.has_gone_on_too_early()?
            {
                continue;
            }
            producer.gave_up = true;
            let name = format!("{}-again", producer.name);
            self.running.push(families.start_one(load, &name)?);
        }
        Ok(self.running.iter().filter(|producer| producer.gave_up).count())
    }

    /// A producer that ended by itself met a fatal error: idempotence is broken, or a record was refused.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        for producer in &mut self.running {
            if let Some(status) = producer.child.try_wait()?
                && !producer.gave_up
            {
                bail!(
                    "producer {} ended with {status}: {}",
                    producer.name,
                    std::fs::read_to_string(&producer.complaints)?
                );
            }
        }
        Ok(())
    }

    /// Deliveries reported so far, by all.
    pub fn told(&self) -> anyhow::Result<u64> {
        Ok(self
            .running
            .iter()
            .map(|p| std::fs::metadata(&p.told).map(|m| m.len()))
            .sum::<Result<u64, _>>()?)
    }

    /// Lets everybody flush, and collects what they were told.
    pub fn finish(mut self) -> anyhow::Result<Acknowledged> {
        self.close();
        let deadline = Instant::now() + FLUSH_MAX;
        let mut all = Acknowledged::default();
        for producer in &mut self.running {
            if producer.gave_up {
                producer.collect_whole_lines(&mut all)?;
                continue;
            }
            let status = producer.ended(deadline)?;
            ensure!(status.is_some(), "producer {} does not get its records out", producer.name);
            ensure!(
                status.is_some_and(|status| status.success()),
                "producer {}: {}",
                producer.name,
                std::fs::read_to_string(&producer.complaints)?
            );
            let text = std::fs::read_to_string(&producer.told)?;
            ensure!(text.ends_with("flushed\n"), "producer {} did not flush", producer.name);
            producer.collect(&text, &mut all)?;
        }
        Ok(all)
    }

    /// What they were told, however they ended: with a log that went back in time some end with an error of their own.
    pub fn told_at_all(mut self) -> anyhow::Result<Acknowledged> {
        self.close();
        let deadline = Instant::now() + CONTROL_FLUSH_MAX;
        let mut all = Acknowledged::default();
        for producer in &mut self.running {
            if producer.ended(deadline)?.is_none() {
                producer.child.kill()?;
                producer.child.wait()?;
            }
            producer.collect_whole_lines(&mut all)?;
        }
        Ok(all)
    }

    fn close(&mut self) {
        for producer in &mut self.running {
            drop(producer.child.stdin.take());
        }
    }
}

impl Running {
    /// `None`: it still runs at the deadline.
    fn ended(&mut self, deadline: Instant) -> anyhow::Result<Option<ExitStatus>> {
        loop {
            match self.child.try_wait()? {
                None if Instant::now() <= deadline => std::thread::sleep(Duration::from_millis(50)),
                status => return Ok(status),
            }
        }
    }

    /// Refused for its order while an earlier record of the same partition still waited to be sent again? Of that one it has said so, or
    /// nothing at all when it ended.
    fn has_gone_on_too_early(&self) -> anyhow::Result<bool> {
        let complaints = std::fs::read_to_string(&self.complaints)?;
        let told = std::fs::read_to_string(&self.told)?;
        let mut lines = complaints.lines().filter_map(|line| {
            let (record, why) = line.strip_prefix("record ")?.split_once(": ")?;
            let (partition, number) = record.split_once(' ')?;
            Some((partition.parse::<i32>().ok()?, number.parse::<u64>().ok()?, why))
        });
        let first = lines.next().filter(|(.., why)| why.contains("out of order sequence number"));
        Ok(first.is_some_and(|(partition, number, _)| {
            let last_told = told.lines().rev().find_map(|line| {
                let (of, rest) = line.split_once(' ')?;
                of.parse().ok().filter(|of: &i32| *of == partition)?;
                rest.split(' ').next()?.parse::<u64>().ok()
            });
            let all_are_told = number == last_told.map_or(0, |last| last + 1);
            !all_are_told
                || lines.any(|(other, earlier, why)| {
                    other == partition && earlier < number && why.contains("Purged")
                })
        }))
    }

    fn collect_whole_lines(&self, all: &mut Acknowledged) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(&self.told)?;
        let whole_lines = text.rfind('\n').map_or(0, |end| end + 1);
        self.collect(&text[..whole_lines], all)
    }

    fn collect(&self, text: &str, all: &mut Acknowledged) -> anyhow::Result<()> {
        for line in text.lines().take_while(|line| *line != "flushed") {
            let mut numbers = line.split(' ').map(str::parse::<i64>);
            let (Some(Ok(partition)), Some(Ok(number)), Some(Ok(offset))) =
                (numbers.next(), numbers.next(), numbers.next())
            else {
                bail!("producer {} says {line}", self.name);
            };
            all.add(&self.name, partition as i32, number as u64, offset)?;
        }
        Ok(())
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        for producer in &mut self.running {
            let _ = producer.child.kill();
            let _ = producer.child.wait();
        }
    }
}

pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}
