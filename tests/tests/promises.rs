//! `docs/reliability.md` names the test behind each promise: all of them exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_promises_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let is_test = |word: &&str| word.len() > 15 && word.contains('_') && !word.contains(['/', ' ', '.']);
    let named: BTreeSet<&str> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() >= 35, "only {} tests are named", named.len());
    let mut files = Vec::new();
    for folder in ["crates", "tests", "fuzz"] {
        sources(&root.join(folder), &mut files);
    }
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let binaries: BTreeSet<_> = files.iter().filter_map(|file| file.file_stem()?.to_str()).collect();
    for name in named {
        let listed = code.contains(&format!("fn {name}(")) || binaries.contains(name);
        assert!(listed, "docs/reliability.md names {name}, which is no test");
    }
    for row in [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 27, 28, 29, 30, 31, 32, 33,
        34, 36,
    ] {
        assert!(text.contains(&format!("\n| F{row} |")), "row F{row} of the failure catalogue is missing");
        assert!(code.contains(&format!("fn f{row}_")) || code.contains(&format!("_f{row}_")), "no test carries F{row}");
    }
}
