//! Reads what test binaries print and adds it up: the `test result:` lines, and every passed test that says `skipped: REASON`.

use std::fmt;

/// Counts over many binaries.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// What those that failed said, one by one: shown again at the end, where somebody looks first.
    pub complaints: Vec<String>,
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
        self.complaints.extend(other.complaints);
    }
}

/// Follows the output of test binaries run with `--show-output`: what passing tests printed is not shown again, except why one was skipped.
#[derive(Default)]
pub struct Reader {
    pub tally: Tally,
    /// `test result:` lines seen.
    pub results: usize,
    within: Within,
    test: String,
    skipped_here: u64,
}

/// The part of a binary's output that a line belongs to.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Within {
    #[default]
    Progress,
    Successes,
    Failures,
}

/// Lines of a complaint that are shown again: its end, where the daemon's log is.
const COMPLAINT_LINES: usize = 60;

impl Reader {
    /// Takes one line; gives what is to be shown of it.
    pub fn line(&mut self, line: &str) -> Option<String> {
        if let Some(mut tally) = parse_result(line) {
            self.within = Within::Progress;
            self.test.clear();
            let skipped = std::mem::take(&mut self.skipped_here);
            tally.passed = tally.passed.saturating_sub(skipped);
            tally.skipped += skipped;
            self.tally += tally;
            self.results += 1;
            return Some(line.to_owned());
        }
        match line {
            "successes:" => {
                self.within = Within::Successes;
                return None;
            }
            "failures:" => {
                self.within = Within::Failures;
                self.test.clear();
            }
            _ => {}
        }
        let begins = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        match (self.within, begins) {
            (Within::Successes, Some(test)) => test.clone_into(&mut self.test),
            (Within::Successes, None) if line.starts_with("skipped:") && !self.test.is_empty() => {
                self.skipped_here += 1;
                return Some(format!("test {} {line}", std::mem::take(&mut self.test)));
            }
            (Within::Successes, None) => {}
            (Within::Failures, Some(test)) => {
                test.clone_into(&mut self.test);
                self.tally.complaints.push(line.to_owned());
            }
            (Within::Failures, None) if !self.test.is_empty() => {
                if let Some(complaint) = self.tally.complaints.last_mut() {
                    complaint.extend(["\n", line]);
                }
            }
            (Within::Progress, _) if line.starts_with("skipped:") => {
                // A binary without the standard harness says it for itself.
                self.tally.skipped += 1;
            }
            _ => {}
        }
        (self.within != Within::Successes).then(|| line.to_owned())
    }

    /// What was counted, each complaint with the name of its binary, and no longer than somebody reads.
    pub fn end(self, binary: &str) -> Tally {
        let mut tally = self.tally;
        for complaint in &mut tally.complaints {
            let lines: Vec<&str> = complaint.trim_end().lines().collect();
            let first = lines.first().copied().unwrap_or_default();
            let rest = &lines[1.min(lines.len())..];
            let kept = &rest[rest.len().saturating_sub(COMPLAINT_LINES)..];
            *complaint = format!("{binary}: {first}\n{}", kept.join("\n"));
        }
        tally
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
        assert_eq!(reader.tally, Tally { passed: 4, failed: 2, skipped: 1, ..Tally::default() });
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
        assert_eq!((reader.tally.passed, reader.tally.failed, reader.tally.skipped), (1, 1, 1));
    }

    #[test]
    fn what_failed_is_kept_with_its_name_and_the_end_of_what_it_said() {
        let many: String = (0..1000).map(|line| format!("line {line}\n")).collect();
        let text = format!(
            "running 3 tests\n\nfailures:\n\n---- a stdout ----\nthis\nis not so\n\n---- b stdout ----\n{many}\n\
             failures:\n    a\n    b\n\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             running 0 tests\n"
        );
        let mut reader = Reader::default();
        let shown = text.lines().filter_map(|line| reader.line(line)).count();
        assert_eq!(shown, text.lines().count(), "nothing of a failure is left out where it happens");
        let tally = reader.end("tests device_x");
        assert_eq!(tally.complaints.len(), 2);
        assert_eq!(tally.complaints[0], "tests device_x: ---- a stdout ----\nthis\nis not so");
        let b: Vec<&str> = tally.complaints[1].lines().collect();
        assert_eq!(
            (b[0], b.len(), b[b.len() - 1]),
            ("tests device_x: ---- b stdout ----", COMPLAINT_LINES + 1, "line 999")
        );
    }

    #[test]
    fn a_binary_of_its_own_kind_can_skip() {
        let mut reader = Reader::default();
        reader.line("skipped: not root");
        assert_eq!(reader.tally, Tally { skipped: 1, ..Tally::default() });
    }
}
