//! `cargo xtask deps`: what may depend on what, under which licences, from where; which crate may say `unsafe`; how long a file may get.

use crate::cmd::{cmd, output};
use crate::{spdx, workspace};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// Each of our crates and which of our crates it may use (dev-dependencies are free; packages not named here may use any).
const EDGES: &[(&str, &[&str])] = &[
    ("vol-types", &[]),
    ("vol-format", &["vol-types"]),
    ("vol-core", &["vol-types"]),
    ("vol-engine", &["vol-types", "vol-format", "vol-core"]),
    ("vol-linux", &["vol-types", "vol-format", "vol-core", "vol-engine"]),
    ("vol-sim", &["vol-types", "vol-format", "vol-core", "vol-engine"]),
    ("vol-api", &["vol-types"]),
    // vol-format: `debug dump` reads disks when there is no daemon that could, or none that would start.
    ("volctl", &["vol-types", "vol-format", "vol-api"]),
    ("vol-docker", &["vol-types", "vol-api"]),
    ("vol-csi", &["vol-types", "vol-api"]),
    (
        "volumed",
        &[
            "vol-types",
            "vol-format",
            "vol-core",
            "vol-engine",
            "vol-linux",
            "vol-sim",
            "vol-api",
            "vol-docker",
            "vol-csi",
        ],
    ),
    ("xtask", &[]),
];
/// Packages that test everything else.
const FREE: &[&str] = &["vol-tests", "vol-proof", "vol-benches", "vol-fuzz"];
/// The one crate that may say `unsafe`.
const UNSAFE: &str = "vol-linux";
const FORBID: &str = "#![forbid(unsafe_code)]";
/// Lines of a file: reported above the first, refused above the second.
const LONG: usize = 700;
const TOO_LONG: usize = 1000;
/// Bytes of a file that is kept: what is larger was built, not written.
const TOO_LARGE: u64 = 1 << 20;

/// Prints what is wrong; exit code 1 if anything is.
pub fn main() -> Result<i32> {
    let json = output(cmd("cargo", ["metadata", "--format-version=1", "--locked"]).current_dir(workspace()))?;
    let metadata: Value = serde_json::from_str(&json)?;
    let mut wrong = Vec::new();
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let ours: BTreeSet<&str> = packages
        .iter()
        .filter(|package| package["source"].is_null())
        .filter_map(|package| package["name"].as_str())
        .collect();
    for package in packages {
        wrong.extend(licence(package));
        wrong.extend(source(package));
        if package["source"].is_null() {
            wrong.extend(edges(package, &ours));
            wrong.extend(forbids_unsafe(package)?);
        }
    }
    let files = output(
        cmd("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.rs"])
            .current_dir(workspace()),
    )?;
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let Ok(text) = fs::read_to_string(workspace().join(file)) else { continue };
        if !file.split('/').any(|part| part == "generated") {
            wrong.extend(length(file, text.lines().count()));
        }
    }
    let kept = output(cmd("git", ["ls-files", "-z", "--cached"]).current_dir(workspace()))?;
    for file in kept.split('\0').filter(|file| !file.is_empty()) {
        wrong.extend(fs::metadata(workspace().join(file)).ok().and_then(|found| size(file, found.len())));
    }
    for line in &wrong {
        println!("deps: {line}");
    }
    println!("deps: {} packages, {} of them ours: {} problems", packages.len(), ours.len(), wrong.len());
    Ok(i32::from(!wrong.is_empty()))
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap_or("?")
}

fn licence(package: &Value) -> Option<String> {
    let Some(text) = package["license"].as_str() else {
        return Some(format!("{} states no licence", name(package)));
    };
    match spdx::allowed(text) {
        Ok(true) => None,
        Ok(false) => Some(format!("{} is under {text}, which is not on the list in xtask/src/spdx.rs", name(package))),
        Err(why) => Some(format!("{}: licence {text:?}: {why}", name(package))),
    }
}

/// Everything comes from the registry or from this repository.
fn source(package: &Value) -> Option<String> {
    let source = package["source"].as_str()?;
    (!source.starts_with("registry+")).then(|| format!("{} comes from {source}, not from the registry", name(package)))
}

fn edges(package: &Value, ours: &BTreeSet<&str>) -> Vec<String> {
    let user = name(package);
    if FREE.contains(&user) {
        return vec![];
    }
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == user) else {
        return vec![format!("{user} is new: say in xtask/src/deps.rs what it may use")];
    };
    let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    dependencies
        .iter()
        .filter(|dependency| dependency["kind"] != "dev")
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|used| ours.contains(used) && !allowed.contains(used))
        .map(|used| format!("{user} may not use {used}"))
        .collect()
}

fn forbids_unsafe(package: &Value) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for target in package["targets"].as_array().map_or(&[][..], Vec::as_slice) {
        let kinds = target["kind"].as_array().map_or(&[][..], Vec::as_slice);
        let (true, Some(path)) = (kinds.iter().any(|kind| kind == "lib" || kind == "bin"), target["src_path"].as_str())
        else {
            continue;
        };
        let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
        if name(package) != UNSAFE && !text.lines().any(|line| line.trim() == FORBID) {
            wrong.push(format!("{path} lacks {FORBID}; only {UNSAFE} may do without"));
        }
    }
    Ok(wrong)
}

fn length(file: &str, lines: usize) -> Option<String> {
    if lines > TOO_LONG {
        return Some(format!("{file} has {lines} lines, more than {TOO_LONG}: find the thin interface to cut at"));
    }
    if lines > LONG {
        println!("deps: note: {file} has {lines} lines, more than {LONG}");
    }
    None
}

fn size(file: &str, bytes: u64) -> Option<String> {
    (bytes > TOO_LARGE)
        .then(|| format!("{file} has {bytes} bytes, more than {TOO_LARGE}: is it what a build has made?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_edge_outside_the_list_is_named() {
        let ours = BTreeSet::from(["vol-core", "vol-types", "vol-engine", "volctl"]);
        let package = json!({"name": "volctl", "source": null, "dependencies": [
            {"name": "vol-types", "kind": null},
            {"name": "vol-core", "kind": null},
            {"name": "vol-engine", "kind": "dev"},
            {"name": "serde", "kind": null},
        ]});
        assert_eq!(edges(&package, &ours), ["volctl may not use vol-core"]);
        assert_eq!(edges(&json!({"name": "vol-new", "dependencies": []}), &ours).len(), 1);
        assert!(edges(&json!({"name": "vol-tests", "dependencies": [{"name": "vol-core"}]}), &ours).is_empty());
    }

    #[test]
    fn licence_and_source() {
        assert!(licence(&json!({"name": "a", "license": "GPL-3.0-only"})).is_some());
        assert!(licence(&json!({"name": "a", "license": null})).is_some());
        assert!(licence(&json!({"name": "a", "license": "MIT OR GPL-3.0-only"})).is_none());
        assert!(source(&json!({"name": "a", "source": "git+ssh://x"})).is_some());
        assert!(source(&json!({"name": "a", "source": null})).is_none());
    }

    #[test]
    fn long_files() {
        assert!(length("a.rs", 1000).is_none());
        assert!(length("a.rs", 1001).is_some());
    }

    #[test]
    fn what_a_build_has_made_is_not_kept() {
        assert!(size("docs/openapi.json", TOO_LARGE).is_none());
        assert!(size("target/debug/program", TOO_LARGE + 1).is_some());
    }
}
