//! `cargo xtask vectors`: golden bytes from Kafka's own Java classes, for protocol's tests. Needs a JDK and
//! Maven; the tests that read the vectors need neither.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::started;

pub fn run(root: &Path) -> Result<()> {
    let vectors = root.join("crates/protocol/vectors");
    started(
        Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(vectors.join("java/pom.xml"))
            .arg(format!("-Dvectors.schema={}", root.join("crates/protocol/tests/it/schema.json").display()))
            .arg(format!("-Dvectors.output={}", vectors.display()))
            .args(["compile", "exec:java"]),
    )
}
