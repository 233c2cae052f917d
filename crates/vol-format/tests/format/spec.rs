//! The specification and the code say the same: every table marked `checked` is compared, both ways, and every invariant
//! that is cited exists.

use std::collections::BTreeSet;
use std::path::Path;

use vol_format::field::Row;
use vol_format::{checkpoint, envelope, label, layout, object, record, tlv};

fn specification() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec/on-disk-format.md");
    std::fs::read_to_string(path).unwrap()
}

/// The cells of the rows of the table marked `<!-- checked: {mark} -->`, without its heading.
fn table(mark: &str) -> Vec<Vec<String>> {
    let text = specification();
    let marked = format!("<!-- checked: {mark} -->\n");
    let (_, rest) = text.split_once(&marked).unwrap_or_else(|| panic!("no table is marked {mark:?}"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rest.lines().take_while(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

#[test]
fn the_byte_maps_are_those_of_the_code() {
    let maps: [(&str, &[Row]); 4] =
        [("envelope", envelope::MAP), ("label", label::MAP), ("record", record::MAP), ("checkpoint", checkpoint::MAP)];
    for (name, map) in maps {
        let specified: Vec<_> = table(&format!("map {name}")).into_iter().map(|row| row[..3].join(" ")).collect();
        let row = |row: &Row| format!("{} {} {}", row.offset, row.size, row.name.to_lowercase());
        assert_eq!(specified, map.iter().map(row).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn the_fields_of_objects_are_those_of_the_code() {
    for (number, kind, tags) in object::KINDS {
        let specified: Vec<_> =
            table(&format!("fields {number} {kind}")).into_iter().map(|row| row[..2].join(" ")).collect();
        let row = |tag: &tlv::Tag| format!("{} {}", tag.number, tag.name.strip_prefix(kind).unwrap().trim());
        assert_eq!(specified, tags.iter().map(row).collect::<Vec<_>>(), "{kind}");
        assert!(tags.is_sorted_by(|a, b| a.number < b.number), "{kind}");
        assert!(tags.iter().all(|tag| tag.number > 0), "{kind}");
    }
    let specified = specification().matches("<!-- checked: fields ").count();
    assert_eq!(specified, object::KINDS.len());
}

#[test]
fn the_codes_of_enumerations_are_those_of_the_code() {
    let specified: Vec<_> = table("codes").into_iter().map(|row| row.join(": ")).collect();
    let in_code = object::CODES.iter().map(|(name, codes)| {
        let codes: Vec<_> = codes.iter().map(|(name, code)| format!("{name} = {code}")).collect();
        format!("{name}: {}", codes.join(", "))
    });
    assert_eq!(specified, in_code.collect::<Vec<_>>());
}

macro_rules! constants {
    ($($module:ident: $($constant:expr),*;)*) => {
        vec![$($({
            use vol_format::$module::*;
            format!("{}::{} = {}", stringify!($module), stringify!($constant), Shown::shown(&$constant))
        }),*),*]
    };
}

/// How the specification writes a value.
trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown {
    ($how:literal: $($ty:ty)*) => { $(impl Shown for $ty { fn shown(&self) -> String { format!($how, self) } })* };
}
shown!("{}": u8 u16 u32 u64 usize uuid::Uuid);
shown!("{:?}": [u64; 2] &str);

impl<const N: usize> Shown for [u8; N] {
    fn shown(&self) -> String {
        format!("{:?}", str::from_utf8(self).unwrap())
    }
}

#[test]
fn the_constants_are_those_of_the_code() {
    let in_code: Vec<String> = constants! {
        layout: BLOCK, ALIGNMENT, WHOLE_DISK_AREA_OFFSET, WHOLE_DISK_TAIL, AREA_CANDIDATES, LABEL_OFFSETS_IN_AREA,
            ZONE_OFFSET_IN_AREA, ZONE_SHARE, ZONE_LEN_MIN, ZONE_LEN_MAX, LOG_SHARE,
            COUNT_MAX;
        envelope: VERSION_MAJOR, VERSION_MINOR, END;
        label: HEADER_LEN, MAGIC;
        record: HEADER_LEN, RECORD_LEN_MAX, PAYLOAD_LEN_MAX, MAGIC, CHAIN_TAG;
        checkpoint: HEADER_LEN, ANCESTOR_LEN, ANCESTORS_MAX, MAGIC;
        payload: OP_PUT, OP_DELETE, CHANGE_HEADER_LEN, SKIPPABLE_KIND;
        tlv: FIELD_HEADER_LEN, SKIPPABLE_TAG, STRING_MAX;
        object: SEGMENT_LEN, THIN_OP_LEN;
        feature: SUPPORTED.compat, SUPPORTED.ro_compat, SUPPORTED.incompat;
        mark: PARTITION_TYPE, PARTITION_NAME, HEAD_LEN, TAIL_LEN, ENTRIES, ENTRY_LEN;
    };
    let in_code: BTreeSet<String> = in_code.into_iter().collect();
    let specified = table("constants").into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(in_code, specified);
    // The table has all of them: no module declares a public constant that stands nowhere in it.
    let names = in_code.iter().filter_map(|line| line.split_once("::")?.1.split([' ', '.']).next());
    let names: BTreeSet<&str> = names.collect();
    for (file, text) in sources("src") {
        let declared = text.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'));
        let is_value =
            |name: &str| !name.starts_with("fn ") && !["BLOCK_BYTES", "GENESIS", "KINDS", "CODES"].contains(&name);
        for (name, ty) in declared.filter(|(name, _)| is_value(name)) {
            assert!(names.contains(name), "{file}: {name} ({ty}) is not in the specification");
        }
    }
    assert_eq!(layout::BLOCK_BYTES, layout::BLOCK as u64);
    assert_eq!(record::GENESIS, [0; 32]);
}

/// All source files below a folder of this crate.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

/// All numbers behind `before` in a text.
fn numbers(text: &str, before: &str) -> BTreeSet<u32> {
    let digits = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().ok();
    text.split(before).skip(1).filter_map(digits).collect()
}

#[test]
fn every_invariant_that_is_cited_exists_and_every_one_of_this_crate_has_a_test() {
    let rows: Vec<String> =
        specification().lines().filter(|line| line.starts_with("| FMT-")).map(str::to_owned).collect();
    let listed: Vec<u32> = rows.iter().flat_map(|row| numbers(row, "| FMT-")).collect();
    assert_eq!(listed, (1..=32).collect::<Vec<_>>());
    let all: BTreeSet<u32> = listed.into_iter().collect();
    let (mut cited, mut tested) = (numbers(&specification(), "FMT-"), BTreeSet::new());
    for (_, text) in sources("src").into_iter().chain(sources("tests")) {
        cited.extend(numbers(&text, "FMT-"));
        // `fn fmt_10_fmt_11_…` names two.
        let tests = text.lines().filter(|line| line.trim_start().starts_with("fn fmt_"));
        tested.extend(tests.flat_map(|line| numbers(line, "fmt_")));
    }
    assert_eq!(cited.difference(&all).collect::<Vec<_>>(), Vec::<&u32>::new());
    let of_the_engine = rows.iter().filter(|row| row.contains("| engine:")).flat_map(|row| numbers(row, "| FMT-"));
    let here: BTreeSet<u32> = all.difference(&of_the_engine.collect()).copied().collect();
    assert_eq!(here.difference(&tested).collect::<Vec<_>>(), Vec::<&u32>::new());
}

/// Each code of a finding is explained to operators, and nothing else is.
#[test]
fn every_code_of_a_finding_is_explained_and_every_explained_one_exists() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/inspection.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, findings) = page.split_once("## What a finding means").unwrap();
    let rows = findings.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let explained: BTreeSet<String> =
        rows.flat_map(|cell| cell.split(',')).map(|code| code.trim().trim_matches('`').to_owned()).collect();
    let mut code: Vec<String> =
        sources("src").into_iter().filter(|(file, _)| file.contains("examine")).map(|(_, text)| text).collect();
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vol-engine/src/check.rs");
    code.push(std::fs::read_to_string(engine).unwrap());
    let daemon = Path::new(env!("CARGO_MANIFEST_DIR")).join("../volumed/src/backend/info.rs");
    code.push(std::fs::read_to_string(daemon).unwrap());
    let prefixes = ["mark", "label", "slot", "log", "copy", "device", "no", "not", "pv", "vg", "catalog", "features"];
    let is_code = |text: &str| {
        text == "unreadable"
            || text.split_once('-').is_some_and(|(first, rest)| {
                prefixes.contains(&first) && rest.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            })
    };
    let used: BTreeSet<String> =
        code.iter().flat_map(|text| text.split('"')).filter(|text| is_code(text)).map(str::to_owned).collect();
    assert_eq!(used, explained);
}
