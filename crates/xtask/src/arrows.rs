//! Which room may import which: the table of `ARCHITECTURE.md`, held against `cargo metadata` and, for the
//! disk and the bucket, against the source. Cycles need no test: cargo refuses them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo;

/// A room and all that its code (tests aside) may import of this repository.
const MAY_IMPORT: [(&str, &[&str]); 12] = [
    ("protocol", &[]),
    ("world", &[]),
    ("catalog", &["protocol", "world"]),
    ("commitlog", &["protocol", "catalog", "world"]),
    ("broker", &["protocol", "commitlog", "catalog", "world"]),
    ("server", &["protocol", "broker", "client", "world"]),
    ("client", &["protocol", "world"]),
    ("cli", &["protocol", "world", "catalog", "commitlog", "broker", "server", "client"]),
    ("sim", &["protocol", "world", "catalog", "commitlog", "broker", "server", "client", "cli"]),
    ("bench", &["protocol", "client"]),
    ("conformance", &["protocol", "bench"]),
    ("xtask", &[]),
];

/// Only these say `world::disk` or `world::bucket`. `cli` and `sim` choose which disk there is and hand it in.
const MAY_NAME_DISK: [&str; 5] = ["commitlog", "catalog", "world", "cli", "sim"];

/// Of `protocol` the catalog takes names and ids and nothing else: it records decisions about topics and must
/// not know how a message or a batch looks.
const CATALOG_MUST_NOT_NAME: [&str; 6] = [
    "protocol::batch",
    "protocol::compression",
    "protocol::frame",
    "protocol::message",
    "protocol::wire",
    "protocol::api_key",
];

/// Every breach, in words. Empty is good.
pub fn wrong(root: &Path) -> Result<Vec<String>> {
    let output = cargo(root, ["metadata", "--format-version", "1", "--no-deps", "--offline"]).output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let mut wrong = imports(packages);
    for package in packages {
        let name = package["name"].as_str().context("a package has a name")?;
        let manifest = Path::new(package["manifest_path"].as_str().context("a package has a manifest")?);
        let source = manifest.with_file_name("src");
        let has_world =
            package["dependencies"].as_array().into_iter().flatten().any(|d| d["name"] == "world");
        if has_world && !MAY_NAME_DISK.contains(&name) {
            find(&source, &["world::disk", "world::bucket"], &mut wrong)?;
        }
        if name == "catalog" {
            find(&source, &CATALOG_MUST_NOT_NAME, &mut wrong)?;
        }
    }
    Ok(wrong)
}

fn imports(packages: &[Value]) -> Vec<String> {
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let rooms: Vec<String> = packages.iter().map(&name).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let room = name(package);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == room) else {
            wrong.push(format!("{room} is no room: add it to ARCHITECTURE.md and to xtask's arrows"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // What only tests import is no arrow: a test may put a broker on a simulated world.
            let only_tests = dependency["kind"].as_str() == Some("dev");
            let imported = name(dependency);
            if !only_tests && rooms.contains(&imported) && !allowed.contains(&imported.as_str()) {
                wrong.push(format!("{room} imports {imported}"));
            }
        }
    }
    wrong
}

/// Looks for paths that a room must not name in its code, above its tests.
fn find(folder: &Path, forbidden: &[&str], wrong: &mut Vec<String>) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            find(&path, forbidden, wrong)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for breach in named(code, forbidden) {
                wrong.push(format!("{}: {breach}", path.display()));
            }
        }
    }
    Ok(())
}

/// The forbidden paths that the code names, written out or inside the braces of a `use`.
fn named(code: &str, forbidden: &[&str]) -> Vec<String> {
    let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for path in forbidden {
        let (room, module) = path.split_once("::").expect("a path has a room and a module");
        let in_braces = code.split(&format!("{room}::{{")).skip(1).any(|rest| {
            let group = rest.split(';').next().unwrap_or_default();
            group.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == module)
        });
        if code.contains(path) || in_braces {
            found.push((*path).to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"name": name, "dependencies": dependencies})
    }

    #[test]
    fn an_arrow_that_points_up_is_named() {
        let packages = [
            package("protocol", &[("bytes", None)]),
            package("world", &[("protocol", None)]),
            package("commitlog", &[("world", None), ("broker", Some("dev"))]),
            package("broker", &[]),
            package("utils", &[]),
        ];
        assert_eq!(
            imports(&packages),
            ["world imports protocol", "utils is no room: add it to ARCHITECTURE.md and to xtask's arrows"]
        );
    }

    #[test]
    fn a_comment_may_speak_of_the_disk() {
        let disk = ["world::disk"];
        assert_eq!(named("use world::disk::Disk;", &disk), disk);
        assert_eq!(named("struct A {\n    disk: Arc<dyn world::disk::Disk>,\n}", &disk), disk);
        assert_eq!(named("use world::{\n    clock::Clock,\n    disk::Disk,\n};", &disk), disk);
        assert!(
            named("//! never names world::disk\nuse world::{clock, net};\nlet disk = 1;", &disk).is_empty()
        );
    }
}
