//! `scripts/ottla-up` and `ottla-down`, with which people and the client checks start and stop a broker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const OTTLA: &str = env!("CARGO_BIN_EXE_ottla");

fn script(name: &str, bin: &Path, arguments: &[&str]) -> Output {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name);
    let output = Command::new(path).args(arguments).env("OTTLA_BIN", bin).stdin(Stdio::null()).output();
    output.unwrap()
}

fn up(bin: &Path, dir: &str) -> Output {
    script("ottla-up", bin, &[dir, "0"])
}

fn down(dir: &str) -> Output {
    script("ottla-down", Path::new(OTTLA), &[dir, "wipe"])
}

#[test]
fn a_broker_that_takes_its_time_to_become_one_is_waited_for() {
    // For half a second the process that was started looks like anything but an ottla that serves DIR, as each does until its exec.
    let home = tempfile::tempdir().unwrap();
    let slow = home.path().join("slow");
    let arguments = home.path().join("arguments");
    let (file, inner) = (arguments.display(), format!("sleep 0.5; IFS='\n'; exec {OTTLA} $(cat \"$0\")"));
    let text = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {file}\nexec sh -c {} {file}\n", quoted(&inner));
    fs::write(&slow, text).unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();

    let dir = home.path().join("broker");
    let dir = dir.to_str().unwrap();
    let started = up(&slow, dir);
    let stopped = down(dir);
    assert!(started.status.success(), "{started:?}");
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(left_in(dir), [] as [String; 0]);
}

#[test]
fn nothing_is_removed_under_a_living_broker() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().to_str().unwrap();
    let pid = home.path().join("pid");
    assert!(up(Path::new(OTTLA), dir).status.success());
    let address = fs::read_to_string(home.path().join("address")).unwrap();
    assert!(address.starts_with("127.0.0.1:") && !address.trim_end().ends_with(":0"), "{address}");

    // Whoever loses the process id has not stopped the process.
    let written = fs::read(&pid).unwrap();
    fs::remove_file(&pid).unwrap();
    let refused = down(dir);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(home.path().join("data/lock").exists());
    assert!(std::net::TcpStream::connect(address.trim_end()).is_ok(), "it serves on");

    fs::write(&pid, written).unwrap();
    assert!(down(dir).status.success());
    assert_eq!(left_in(dir), [] as [String; 0]);
}

#[test]
fn a_broker_that_cannot_start_is_said_and_leaves_no_process_id() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().to_str().unwrap();
    assert_eq!(up(Path::new("/bin/false"), dir).status.code(), Some(1));
    assert!(!home.path().join("pid").exists());
    assert!(down(dir).status.success());
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn left_in(dir: &str) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
