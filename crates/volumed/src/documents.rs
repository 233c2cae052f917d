//! The documents for operators tell everything there is, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use crate::cli::Args;
use crate::config;
use crate::metrics::families::{FAMILIES, Kind};

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

/// The rows of the tables of `docs/metrics.md`: name, labels, unit, meaning.
fn metrics_told() -> BTreeMap<String, (BTreeSet<String>, String, String)> {
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [name, labels, unit, meaning, _] = cells.as_slice() else { return None };
        Some((name.trim_end_matches('`').to_owned(), (quoted(labels), (*unit).to_owned(), (*meaning).to_owned())))
    };
    document("metrics.md").lines().filter_map(row).collect()
}

#[test]
fn every_metric_is_told_with_its_labels_unit_and_meaning_and_no_other() {
    let told = metrics_told();
    for family in FAMILIES {
        let (labels, unit, meaning) = told.get(family.name).unwrap_or_else(|| panic!("{} is not told", family.name));
        // The label of its buckets is told too.
        let buckets = (family.kind == Kind::Histogram).then_some(&"le");
        let own: BTreeSet<String> = family.labels.iter().chain(buckets).map(|label| (*label).to_owned()).collect();
        assert_eq!(*labels, own, "{}", family.name);
        assert!(!unit.is_empty() && meaning.len() > 10, "{}: {unit:?}, {meaning:?}", family.name);
    }
    let known: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let unknown: Vec<_> = told.keys().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "told and not there: {unknown:?}");
}

/// Words of a text that look like metrics of ours.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("volumed_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn rules_and_dashboard_use_metrics_that_are_told() {
    let told = metrics_told();
    for (file, least) in [("deploy/prometheus/volumed.rules.yml", 12), ("deploy/grafana/volumed.json", 25)] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let used = metrics_in(&text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<String>());
        assert!(used.len() >= least, "{file}: {used:?}");
        for name in used {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            let is_histogram = FAMILIES.iter().any(|one| one.name == family && one.kind == Kind::Histogram);
            assert!(
                told.contains_key(&name) && !is_histogram || told.contains_key(family) && is_histogram,
                "{file}: {name}"
            );
        }
    }
}

#[test]
fn each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let read = |name: &str| fs::read_to_string(root().join("deploy/prometheus").join(name)).unwrap();
    let (rules, tests) = (read("volumed.rules.yml"), read("volumed_test.yml"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 20, "{alerts:?}");
    for alert in alerts {
        let asked: Vec<_> = tests.split(&format!("alertname: {alert}\n")).skip(1).collect();
        assert!(asked.iter().any(|one| one.trim_start().starts_with("exp_alerts: []")), "{alert} never stays away");
        assert!(asked.iter().any(|one| one.trim_start().starts_with("exp_alerts:\n")), "{alert} never fires");
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let text = fs::read_to_string(root().join("deploy/grafana/volumed.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(board["schemaVersion"].as_u64().unwrap() >= 38 && board["id"].is_null() && board["uid"].is_string());
    let variables = board["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|one| one["type"] == "datasource" && one["query"] == "prometheus"));
    let panels = board["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title} is too wide");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} lies over another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty() && targets.iter().all(|one| !one["expr"].as_str().unwrap().is_empty()), "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
    }
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
