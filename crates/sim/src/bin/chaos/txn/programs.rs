//! Producers of others that run transactions: librdkafka, and kafka-clients with KIP-890 and before it. They are built here, and tell us line by
//! line what they ask and what they are told (`producers/transactions.c`, `producers/Transactions.java`).

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;

use super::check::Histories;
use super::{Family, Load};
use crate::producers::{clients_home, compile_c, java_classes};

/// The last kafka-clients whose brokers give all transactions of a producer one epoch.
const JAVA_BEFORE_KIP_890: &str = "3.7.2";
/// Between the last run's begin and its end.
const FINISH_MAX: Duration = Duration::from_secs(300);

pub struct Programs {
    c: PathBuf,
    java: String,
    java_before_kip_890: String,
}

impl Programs {
    pub fn build(home: Option<&Path>) -> anyhow::Result<Programs> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = here.join("producers/Transactions.java");
        let home = clients_home(home)?;
        let out = home.join("chaos-transactions");
        std::fs::create_dir_all(&out)?;
        let java = java_classes(&home.join("chaos-jars"), None, &source, &out.join("java"))?;
        let old = JAVA_BEFORE_KIP_890;
        let jars = home.join(format!("chaos-jars-{old}"));
        let java_before_kip_890 = java_classes(&jars, Some(old), &source, &out.join(format!("java-{old}")))?;
        let c = compile_c(&here.join("producers/transactions.c"), &out.join("transactions"))?;
        Ok(Programs { c, java, java_before_kip_890 })
    }

    fn command(&self, family: Family) -> Option<Command> {
        let class_path = match family {
            Family::Wire | Family::WireEpochs => return None,
            Family::Librdkafka => return Some(Command::new(&self.c)),
            Family::Java => &self.java,
            Family::JavaOld => &self.java_before_kip_890,
        };
        let mut java = Command::new("java");
        java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path]);
        java.arg("Transactions");
        Some(java)
    }

    pub fn start(&self, family: Family, load: &Load) -> anyhow::Result<Program> {
        let name = family.name();
        let mut command = self.command(family).context("our own producers are no program")?;
        let complaints = load.work.join(format!("{name}.errors"));
        let numbers = [
            u64::from(load.runs),
            u64::from(load.at_once),
            load.seed,
            load.timeout_ms as u64,
            load.each.into(),
        ];
        let mut child = command
            .args([load.addresses.as_str(), &load.topic, &load.partitions.to_string(), name])
            .args(numbers.map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&complaints)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let told = child.stdout.take().context("no stdout")?;
        let heard = Arc::new(Heard::default());
        let (listening, mut log) = (heard.clone(), File::create(load.work.join(format!("{name}.told")))?);
        let listener = std::thread::spawn(move || -> anyhow::Result<()> {
            for line in BufReader::new(told).lines() {
                let line = line?;
                std::io::Write::write_all(&mut log, format!("{line}\n").as_bytes())?;
                listening.take(&line)?;
            }
            listening.has_ended.store(true, Ordering::Release);
            Ok(())
        });
        Ok(Program { family, child, heard, listener: Some(listener), complaints })
    }
}

#[derive(Default)]
struct Heard {
    histories: Mutex<Histories>,
    has_finished: AtomicBool,
    has_ended: AtomicBool,
}

impl Heard {
    fn take(&self, line: &str) -> anyhow::Result<()> {
        let mut histories = self.histories.lock();
        let words: Vec<&str> = line.split(' ').collect();
        let [name, number, what, more] = words[..] else {
            ensure!(line == "end", "a producer says {line}");
            self.has_finished.store(true, Ordering::Release);
            return Ok(());
        };
        if what == "done" {
            return Ok(());
        }
        let fate = histories.entry(name.to_owned()).or_default().entry(number.parse()?).or_default();
        let commits = || match more {
            "commit" => Ok(true),
            "abort" => Ok(false),
            _ => bail!("a producer says {line}"),
        };
        match what {
            "written" => fate.written.push(more.parse()?),
            "offset" => fate.offset = true,
            "asked" => fate.asked = Some(commits()?),
            "told" => fate.told = Some(commits()?),
            "lost" => fate.why = Some(more.to_owned()),
            _ => bail!("a producer says {line}"),
        }
        Ok(())
    }
}

pub struct Program {
    pub family: Family,
    child: Child,
    heard: Arc<Heard>,
    listener: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
    complaints: PathBuf,
}

impl Program {
    /// All its runs have come to their end, or it has.
    pub fn is_over(&self) -> bool {
        self.heard.has_ended.load(Ordering::Acquire)
    }

    /// No more runs; those that have begun come to their end.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
    }

    /// What its transactions came to, as far as it was told.
    pub fn finish(mut self) -> anyhow::Result<Histories> {
        self.stop();
        let until = Instant::now() + FINISH_MAX;
        while !self.is_over() {
            ensure!(Instant::now() < until, "{} does not come to its end", self.family.name());
            std::thread::sleep(Duration::from_millis(50));
        }
        let heard = self.listener.take().expect("it is taken once").join();
        heard.map_err(|_| anyhow::anyhow!("the listener is gone"))??;
        let status = self.child.wait()?;
        ensure!(
            status.success() && self.heard.has_finished.load(Ordering::Acquire),
            "{} ended with {status}: {}",
            self.family.name(),
            std::fs::read_to_string(&self.complaints)?
        );
        Ok(std::mem::take(&mut *self.heard.histories.lock()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_producer_says_is_its_transactions_fate() {
        let heard = Heard::default();
        for line in [
            "java-1 1 written 0",
            "java-1 1 written 2",
            "java-1 1 offset -",
            "java-1 1 asked commit",
            "java-1 1 told commit",
            "java-1 2 asked commit",
            "java-1 2 lost ProducerFencedException",
            "java-1 0 done -",
            "end",
        ] {
            heard.take(line).expect("a line of ours");
        }
        assert!(heard.take("java-1 3 told perhaps").is_err() && heard.take("hello").is_err());
        assert!(heard.has_finished.load(Ordering::Acquire));
        let history = &heard.histories.lock()["java-1"];
        assert_eq!(
            (&history[&1].written[..], history[&1].offset, history[&1].told),
            (&[0, 2][..], true, Some(true))
        );
        assert_eq!((history[&2].asked, history[&2].told), (Some(true), None));
        assert_eq!(history[&2].why.as_deref(), Some("ProducerFencedException"));
    }
}
