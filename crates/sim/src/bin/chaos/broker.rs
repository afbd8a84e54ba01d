//! One `ottla serve` process of ours, on a fixed port, and on a directory or a bucket.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// How long a start may take before the run is called failed.
const START_MAX: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Settings {
    pub bin: PathBuf,
    /// A directory, or the address of a bucket.
    pub data: PathBuf,
    pub log: PathBuf,
    pub port: u16,
    /// A network namespace to run in, and the address to listen on there; without one it is loopback.
    pub namespace: Option<(String, Ipv4Addr)>,
    pub partitions: i32,
    pub extra: Vec<(String, String)>,
}

impl Settings {
    pub fn address(&self) -> SocketAddr {
        let host = self.namespace.as_ref().map_or(Ipv4Addr::LOCALHOST, |(_, address)| *address);
        (host, self.port).into()
    }
}

pub struct Broker {
    child: Child,
}

/// A free port on loopback, kept for the whole run so that clients find the broker again.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Broker {
    /// Of a process that was started by other words than [`Settings`]'.
    pub fn of(child: Child) -> Broker {
        Broker { child }
    }

    pub fn start(settings: &Settings, environment: &[(&str, String)]) -> anyhow::Result<Broker> {
        let log = std::fs::File::options().create(true).append(true).open(&settings.log)?;
        let mut command = match &settings.namespace {
            None => Command::new(&settings.bin),
            // It becomes the broker, whose process id it has.
            Some((namespace, _)) => {
                let mut inside = Command::new("ip");
                inside.args(["netns", "exec", namespace]).arg(&settings.bin);
                inside
            }
        };
        command
            .args(["serve", "--listen", &settings.address().to_string(), "--admin", "127.0.0.1:0"])
            .arg("--data")
            .arg(&settings.data)
            .args(["--set", &format!("num.partitions={}", settings.partitions)]);
        if settings.namespace.is_some() {
            // Nobody but us is in there.
            command.args(["--insecure", "--set", "allow.everyone.if.no.acl.found=true"]);
        }
        for (key, value) in &settings.extra {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.envs(environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", settings.bin.display()))?;
        Ok(Broker { child })
    }

    /// Waits until this process (and no other) answers ApiVersions on the port. `Ok(false)`: it ended by itself.
    pub fn ready(&mut self, port: u16) -> anyhow::Result<bool> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if !self.alive()? {
                return Ok(false);
            }
            if answers(port) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                bail!("the broker does not answer on port {port} within {START_MAX:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn alive(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// It pulled the plug at a step of its own. Ended in any other way is a failure of the broker, and is one.
    pub fn cut_itself(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some_and(|status| status.signal() == Some(libc::SIGABRT)))
    }

    /// By its name: TERM, STOP, CONT.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status()?;
        ensure!(status.success(), "kill -s {name}: {status}");
        Ok(())
    }

    /// `None`: it lives.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The most memory that it ever had, in bytes.
    pub fn memory_max(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kib.context("no VmHWM in /proc")? << 10)
    }

    /// kill -9.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and the promise that it ends with 0.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.signal("TERM")?;
        let ended = self.child.wait()?;
        ensure!(ended.success(), "a graceful stop ended with {ended}");
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A run that failed half-way leaves no broker behind; both fail harmlessly when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn answers(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut socket) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) else {
        return false;
    };
    // ApiVersions v0: length, key 18, version 0, correlation 7, null client id.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255];
    let mut answer = [0u8; 8];
    socket.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
        && socket.write_all(&request).is_ok()
        && socket.read_exact(&mut answer).is_ok()
        && answer[4..] == [0, 0, 0, 7]
}

/// The last lines of the broker's log, for an error.
pub fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
