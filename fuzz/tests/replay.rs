//! Every corpus file, and mutations of it that are the same in every run, through the targets of the fuzzer.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::{Resource, Rlimit, setrlimit};
use vol_fuzz::mutate::{Choice, mutated};
use vol_fuzz::{TARGETS, Target};

/// For each target: corpus files at least, mutations of each, and executions that were accepted at least. What falls below is a
/// corpus that was lost, or a target that no longer reaches what it is for.
const FLOORS: &[(&str, usize, usize, usize)] = &[
    ("label", 31, 400, 250),
    ("record", 40, 400, 2000),
    ("record_payload", 40, 400, 600),
    ("checkpoint_header", 34, 400, 3000),
    ("checkpoint_payload", 29, 400, 250),
    ("image", 60, 8, 400),
    ("dm_status", 30, 400, 1400),
    ("dm_table", 33, 400, 20),
    ("api_body", 47, 400, 150),
    ("backup_json", 10, 400, 10),
    ("engine_request", 13, 400, 500),
    ("csi_request", 39, 400, 500),
    ("thin_metadata", 14, 400, 250),
    ("uevent", 6, 400, 350),
    ("words", 45, 400, 1600),
];
/// Longest input of the fuzzer and of the replay, in bytes.
const INPUT_MAX: usize = 64 * 1024;
/// What one process may map: an allocation by a length that nobody checked fails, and aborts the test.
const MEMORY_MAX: u64 = 2 << 30;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(corpus(target))
        .unwrap_or_else(|error| panic!("{}: {error}", corpus(target).display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Runs one input; a panic is told with what brings it back.
fn run(target: &Target, input: &[u8], from: &str) -> bool {
    std::panic::catch_unwind(|| (target.run)(input)).unwrap_or_else(|_| {
        let kept = std::env::temp_dir().join(format!("vol-fuzz-{}", target.name));
        let saved =
            std::fs::write(&kept, input).map_or_else(|error| error.to_string(), |()| kept.display().to_string());
        panic!("target {} does not hold for {from} ({} bytes, kept in {saved})", target.name, input.len());
    })
}

#[test]
fn every_corpus_file_and_its_mutations_keep_what_the_targets_claim() {
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY_MAX), maximum: Some(MEMORY_MAX) }).unwrap();
    assert!(TARGETS.iter().map(|target| target.name).eq(FLOORS.iter().map(|floor| floor.0)), "a target without floors");
    let (mut all_files, mut all_executions) = (0, 0);
    for (target, (name, files_min, mutations, accepted_min)) in TARGETS.iter().zip(FLOORS) {
        let begin = Instant::now();
        let files = files(name);
        assert!(files.len() >= *files_min, "the corpus of {name} has {} files, it had {files_min}", files.len());
        let (mut executions, mut accepted) = (0, 0);
        for (at, (file, bytes)) in files.iter().enumerate() {
            assert!(bytes.len() <= INPUT_MAX, "{name}/{file} has {} bytes", bytes.len());
            accepted += usize::from(run(target, bytes, file));
            executions += 1;
            let mut choice = Choice::new(at as u64 + 1);
            for number in 0..*mutations {
                let other = &files[choice.below(files.len())].1;
                let input = mutated(&mut choice, bytes, other, INPUT_MAX);
                accepted += usize::from(run(target, &input, &format!("mutation {number} of {file}")));
                executions += 1;
            }
        }
        println!(
            "fuzz: {name}: {} corpus files, {executions} executions, {accepted} accepted ({:.1} s)",
            files.len(),
            begin.elapsed().as_secs_f32()
        );
        assert!(executions >= files_min * (mutations + 1), "{name}: {executions} executions");
        assert!(accepted >= *accepted_min, "{name}: {accepted} executions were accepted, there were {accepted_min}");
        all_files += files.len();
        all_executions += executions;
    }
    println!("fuzz: {all_files} corpus files, {all_executions} executions");
}

#[test]
fn the_seeds_in_the_repository_are_those_that_the_encoders_write() {
    for (target, name, bytes) in vol_fuzz::seed::all() {
        let kept = std::fs::read(corpus(target).join(&name)).unwrap_or_else(|error| panic!("{target}/{name}: {error}"));
        assert!(kept == bytes, "{target}/{name} is old: run `cargo run -p vol-fuzz --example seeds`");
    }
}

#[test]
fn every_target_has_a_binary_for_the_fuzzer() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} has no binary", target.name);
        assert!(std::fs::read_dir(corpus(target.name)).is_ok(), "{} has no corpus", target.name);
    }
}
