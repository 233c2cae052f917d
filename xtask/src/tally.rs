//! Reads what test binaries print and adds it up: the `test result:` lines, and every passed test that says `skipped: REASON`.

use std::fmt;

/// Counts over many binaries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Follows the output of test binaries run with `--show-output`: what passing tests printed is not shown again, except why one was skipped.
#[derive(Default)]
pub struct Reader {
    pub tally: Tally,
    /// `test result:` lines seen.
    pub results: usize,
    in_successes: bool,
    test: String,
    skipped_here: u64,
}

impl Reader {
    /// Takes one line; gives what is to be shown of it.
    pub fn line(&mut self, line: &str) -> Option<String> {
        if let Some(mut tally) = parse_result(line) {
            self.in_successes = false;
            let skipped = std::mem::take(&mut self.skipped_here);
            tally.passed = tally.passed.saturating_sub(skipped);
            tally.skipped += skipped;
            self.tally += tally;
            self.results += 1;
            return Some(line.to_owned());
        }
        match line {
            "successes:" => {
                self.in_successes = true;
                return None;
            }
            "failures:" => self.in_successes = false,
            _ => {}
        }
        if !self.in_successes {
            if line.starts_with("skipped:") {
                // A binary without the standard harness says it for itself.
                self.tally.skipped += 1;
            }
            return Some(line.to_owned());
        }
        if let Some(test) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            test.clone_into(&mut self.test);
        } else if line.starts_with("skipped:") && !self.test.is_empty() {
            self.skipped_here += 1;
            return Some(format!("test {} {line}", std::mem::take(&mut self.test)));
        }
        None
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`; ignored counts as skipped.
fn parse_result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for part in counts.split("; ") {
        let Some((number, what)) = part.split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match what {
            "passed" => tally.passed = number,
            "failed" => tally.failed = number,
            "ignored" => tally.skipped = number,
            _ => {}
        }
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_add_up() {
        let mut reader = Reader::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            assert_eq!(reader.line(line).as_deref(), Some(line));
        }
        assert_eq!(reader.tally, Tally { passed: 4, failed: 2, skipped: 1 });
        assert_eq!(reader.tally.to_string(), "4 passed, 2 failed, 1 skipped");
        assert_eq!(reader.results, 2);
    }

    #[test]
    fn a_passed_test_that_says_skipped_is_skipped_once() {
        let text = "running 3 tests\ntest a ... ok\ntest b ... ok\n\nsuccesses:\n\n---- a stdout ----\nnoise\n\
                    skipped: no device-mapper\nskipped: really\n\n---- b stdout ----\nnoise\n\nsuccesses:\n    a\n    b\n\n\
                    failures:\n\n---- c stdout ----\nskipped: no, it failed after all\n\n\
                    test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let mut reader = Reader::default();
        let shown: Vec<String> = text.lines().filter_map(|line| reader.line(line)).collect();
        assert!(shown.contains(&"test a skipped: no device-mapper".to_owned()));
        assert!(!shown.iter().any(|line| line == "noise"));
        assert_eq!((reader.tally.passed, reader.tally.failed), (1, 1));
    }

    #[test]
    fn a_binary_of_its_own_kind_can_skip() {
        let mut reader = Reader::default();
        reader.line("skipped: not root");
        assert_eq!(reader.tally, Tally { passed: 0, failed: 0, skipped: 1 });
    }
}
