//! The object store: versitygw on a folder, the version and the place that `.ci/bucket` uses.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::broker::last_words;
use crate::producers::run;

const VERSION: &str = "v1.8.0";
const BUCKET: &str = "ottla";
const ACCESS_KEY: &str = "ottla";
const SECRET_KEY: &str = "ottla-secret";
const START_MAX: Duration = Duration::from_secs(20);

pub struct Store {
    process: Child,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Store {
    pub async fn start(clients_home: &Path, work: &Path, port: u16) -> anyhow::Result<Store> {
        let gateway = gateway(clients_home)?;
        let folder = work.join("store");
        std::fs::create_dir_all(folder.join(BUCKET))?;
        let log = work.join("store.log");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        // What it knows of an object lies in extended attributes, its default: with files of its own beside them a conditional write
        // is not one step.
        let process = Command::new(gateway)
            .args(["--port", &address.to_string(), "--quiet", "posix"])
            .arg(&folder)
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .context("cannot start versitygw")?;
        let mut store = Store { process, address, log };
        let deadline = Instant::now() + START_MAX;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            store.check_running()?;
            ensure!(Instant::now() < deadline, "versitygw does not answer: {}", last_words(&store.log));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(store)
    }

    pub fn check_running(&mut self) -> anyhow::Result<()> {
        let ended = self.process.try_wait()?;
        ensure!(ended.is_none(), "versitygw ended: {}", last_words(&self.log));
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The bucket as a broker sees it that reaches the store there.
pub fn url(through: SocketAddr) -> String {
    format!("s3://{BUCKET}/chaos?endpoint=http://{through}&allow_http=true")
}

pub fn credentials() -> Vec<(&'static str, String)> {
    let all = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_REGION", "us-east-1"),
    ];
    all.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// The program; the first run fetches it through the Go module proxy.
fn gateway(clients_home: &Path) -> anyhow::Result<PathBuf> {
    let folder = clients_home.join("versitygw").join(VERSION);
    let gateway = folder.join("versitygw");
    if !gateway.exists() {
        let package = format!("github.com/versity/versitygw/cmd/versitygw@{VERSION}");
        let mut install = Command::new("go");
        run(install.args(["install", &package]).env("GOBIN", &folder).env("GOFLAGS", "-modcacherw"))?;
    }
    Ok(gateway)
}
