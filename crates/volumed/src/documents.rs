//! The documents for operators tell everything there is, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use vol_api::{Df, DfPool, DfVg};

use crate::cli::Args;
use crate::{config, metrics};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// What stands in backquotes at the beginning of lines that begin with `mark`.
fn named(text: &str, mark: &str) -> BTreeSet<String> {
    let name = |line: &str| Some(line.strip_prefix(mark)?.strip_prefix('`')?.split_once('`')?.0.to_owned());
    text.lines().filter_map(name).collect()
}

fn sources(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            all.push(path);
        }
    }
}

/// The codes that a source gives to problems, as `status` shows them.
fn problem_codes(source: &str) -> BTreeSet<String> {
    let literal = |text: &str| {
        let code = text.strip_prefix('"')?.split_once('"')?.0;
        let plain = !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b"_-".contains(&b));
        plain.then(|| code.replace('-', "_"))
    };
    // On one line, or broken before the first argument.
    let flat = source.lines().map(str::trim).collect::<String>();
    ["code: ", "complain(", "problem(", "tell(", "{("]
        .iter()
        .flat_map(|before| flat.split(before).skip(1).filter_map(literal))
        .collect()
}

#[test]
fn every_problem_code_is_in_troubleshooting_and_no_other() {
    let mut files = Vec::new();
    for part in ["crates/vol-engine/src", "crates/volumed/src"] {
        sources(&root().join(part), &mut files);
    }
    files.retain(|path| !path.components().any(|part| part.as_os_str() == "tests"));
    files.retain(|path| !path.ends_with("tests.rs") && !path.ends_with("documents.rs"));
    let codes: BTreeSet<_> = files.iter().flat_map(|path| problem_codes(&fs::read_to_string(path).unwrap())).collect();
    for known in ["metadata", "pool_nearly_full", "vg_name_twice", "dm_target_missing", "metrics_unavailable"] {
        assert!(codes.contains(known), "{known} is not found in the sources any more: {codes:?}");
    }
    assert_eq!(named(&document("troubleshooting.md"), "### "), codes);
}

#[test]
fn every_metric_is_in_metrics_and_no_other() {
    let pool = DfPool {
        used_bytes: Some(1),
        metadata_used_bytes: Some(1),
        fill_bytes_per_second: Some(1),
        time_to_full_seconds: Some(1),
        time_to_full_confidence: Some("low".into()),
        problem_codes: vec!["pool_full".into()],
        ..DfPool::default()
    };
    let page = metrics::page(Some(&Df { vgs: vec![DfVg::default()], pools: vec![pool] })).unwrap();
    let names: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ').map(|(name, _)| name.to_owned()))
        .collect();
    assert!(names.len() >= 11, "{names:?}");
    assert_eq!(named(&document("metrics.md"), "| "), names);
}

#[test]
fn every_key_and_every_option_is_in_configuration_and_no_other() {
    let text = document("configuration.md");
    let options = Args::command().get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
    let (flags, keys): (BTreeSet<_>, BTreeSet<_>) =
        named(&text, "| ").into_iter().map(|name| first_word(&name)).partition(|name| name.starts_with("--"));
    let known: BTreeSet<String> = config::KEYS.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!((keys, flags), (known, options));
}

/// The checks of `doctor`, by what their findings are made with.
fn doctor_checks(source: &str) -> BTreeSet<String> {
    let flat = source.lines().map(str::trim).collect::<String>();
    let literal = |text: &str| Some(text.strip_prefix('"')?.split_once('"')?.0.to_owned());
    ["Finding::ok(", "Finding::new("].iter().flat_map(|before| flat.split(before).skip(1).filter_map(literal)).collect()
}

#[test]
fn every_check_of_doctor_is_in_its_document_and_no_other() {
    let mut files = Vec::new();
    for part in ["crates/volctl/src/doctor", "crates/volumed/src/doctor", "crates/volumed/src/backend"] {
        sources(&root().join(part), &mut files);
    }
    files.extend(["crates/volctl/src/doctor.rs", "crates/volumed/src/doctor.rs"].map(|file| root().join(file)));
    files.retain(|path| !path.ends_with("tests.rs"));
    let checks: BTreeSet<_> = files.iter().flat_map(|path| doctor_checks(&fs::read_to_string(path).unwrap())).collect();
    let text = document("doctor.md");
    let table = text.split_once("## Checks").unwrap().1;
    assert_eq!(named(table, "| "), checks);
}

#[test]
fn every_key_tells_in_configuration_whether_a_reload_takes_it_over() {
    let text = document("configuration.md");
    for key in crate::reference::REFERENCE {
        let line = text.lines().find(|line| line.starts_with(&format!("| `{}` |", key.name))).unwrap();
        assert!(line.ends_with(if key.live { "| reload |" } else { "| restart |" }), "{line}");
    }
}

#[test]
fn every_option_is_in_the_man_page_and_no_other() {
    let page = fs::read_to_string(root().join("packaging/volumed.8")).unwrap();
    let plain = page.replace("\\-", "-");
    let told: BTreeSet<String> = plain
        .split(|c: char| c.is_whitespace() || c == '"' || c == ',')
        .filter(|word| word.starts_with("--"))
        .map(str::to_owned)
        .collect();
    let mut command = Args::command();
    command.build();
    let known = command.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
    assert_eq!(told, known);
}

fn first_word(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn the_example_of_the_configuration_is_one() {
    let text = document("configuration.md");
    let example: String =
        text.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect();
    let toml: String =
        example.lines().take_while(|line| !line.starts_with("volumed ")).map(|l| format!("{l}\n")).collect();
    config::Config::parse(&toml).unwrap();
    for key in config::KEYS {
        assert!(toml.contains(&format!("{key} = ")), "{key} has no example");
    }
}
