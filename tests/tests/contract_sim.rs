//! The contract's clauses on the simulator, and its document.

use std::path::Path;

use vol_tests::contract::sim::SimBench;
use vol_tests::contract::{self, CLAUSES};
use vol_tests::contract_clauses;

macro_rules! tests {
    ($($id:literal $topic:ident::$name:ident;)*) => {
        $(#[test]
        fn $name() {
            println!("{}", $id);
            if let Some(bench) = SimBench::new() {
                contract::$topic::$name(&bench);
            }
        })*
    };
}
contract_clauses!(tests);

/// The columns of a row of the table of contents: id, clause, assumption, kernel source, simulator.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    text.lines().filter(|line| line.starts_with("| KC-")).map(cells).collect()
}

#[test]
fn the_document_lists_the_clauses_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/kernel-contract.md")).unwrap();
    let rows = rows(&text);
    let listed: Vec<(String, String)> = rows.iter().map(|row| (row[0].clone(), row[1].replace('`', ""))).collect();
    let coded: Vec<(String, String)> =
        CLAUSES.iter().map(|(id, topic, name)| (id.to_string(), format!("{topic}::{name}"))).collect();
    assert_eq!(listed, coded);
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        for file in row[4].split(", ") {
            let model = root.join("crates/vol-sim/src").join(file.trim_matches('`'));
            assert!(model.is_file(), "{}: no file {}", row[0], model.display());
        }
    }
}

#[test]
fn clauses_are_numbered_in_order_and_named_once() {
    for (index, (id, _, name)) in CLAUSES.iter().enumerate() {
        assert_eq!(*id, format!("KC-{}", index + 1), "{name}");
        assert_eq!(CLAUSES.iter().filter(|(_, _, other)| other == name).count(), 1, "{name}");
    }
}
