//! What `doctor` has found.

use vol_api::{Doctor, Finding, Level};

use super::{clean, count};

/// A line for each finding, below it what to do; only what is a warning or worse if `quiet`.
pub fn doctor_text(doctor: &Doctor, quiet: bool) -> String {
    let shown = |finding: &&Finding| !quiet || finding.level >= Level::Warning;
    let width = doctor.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in doctor.findings.iter().filter(shown) {
        let (level, check) = (finding.level.as_str(), clean(&finding.check));
        text.push_str(&format!("{level:<7}  {check:<width$}  {}\n", clean(&finding.message)));
        if !finding.hint.is_empty() {
            text.push_str(&format!("{:<7}  {:<width$}  do: {}\n", "", "", clean(&finding.hint)));
        }
    }
    if !quiet {
        let of = |level: Level| doctor.findings.iter().filter(|finding| finding.level == level).count() as u64;
        let [problems, warnings, notes] = [
            count(of(Level::Problem), "problem"),
            count(of(Level::Warning), "warning"),
            count(of(Level::Note), "note"),
        ];
        text.push_str(&format!("\n{problems}, {warnings}, {notes}, {} ok\n", of(Level::Ok)));
    }
    text
}
