//! A run of a benchmark as it is kept: JSON for programs, Markdown for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::counters::{self, Count};
use crate::machine::Machine;
use crate::marks::Findings;
use crate::table::Table;

/// Raised when an older reader would misread what is written.
pub const FORMAT: u32 = 1;

/// One benchmark on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub format: u32,
    pub mark: String,
    pub question: String,
    pub machine: Machine,
    /// Of the repository, if it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Seconds since 1970.
    pub began: u64,
    pub took_seconds: f64,
    pub rounds: usize,
    pub samples: usize,
    pub tables: Vec<Table>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Count>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Record {
    /// Moves what was found in.
    #[must_use]
    pub fn with(self, findings: Findings) -> Self {
        let Findings { tables, counts, notes } = findings;
        Self { tables, counts, notes, ..self }
    }

    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, file: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))
    }

    /// # Errors
    /// The file cannot be read, or is of another format.
    pub fn load(file: &Path) -> Result<Self> {
        let json = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let record: Self = serde_json::from_str(&json).with_context(|| format!("{} is no record", file.display()))?;
        let format = record.format;
        ensure!(format == FORMAT, "{} is of format {format}, this program reads {FORMAT}", file.display());
        Ok(record)
    }

    /// A section of a page.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        _ = writeln!(text, "### {}\n\n{}.", self.machine.runner, self.machine.line());
        let versions: Vec<String> =
            self.machine.versions.iter().map(|(name, version)| format!("{name}: {version}")).collect();
        _ = writeln!(
            text,
            "{} rounds, {} samples a round; {:.0} s; commit {}. {}.",
            self.rounds,
            self.samples,
            self.took_seconds,
            self.commit.as_deref().unwrap_or("unknown"),
            versions.join("; ")
        );
        for table in &self.tables {
            _ = writeln!(text, "\n#### {}\n\n{}", table.title, table.markdown().trim_end());
        }
        if !self.counts.is_empty() {
            _ = writeln!(text, "\n{}", counters::markdown(&self.counts));
        }
        if !self.notes.is_empty() {
            _ = writeln!(text);
            self.notes.iter().for_each(|note| _ = writeln!(text, "- {note}"));
        }
        text
    }
}

/// The page of one benchmark, of all machines that it was run on.
pub fn page(records: &[&Record], picture: Option<&str>) -> String {
    let Some(first) = records.first() else { return String::new() };
    let mut text = format!("# {}\n\n{}\n\n", first.mark, first.question);
    _ = writeln!(
        text,
        "Made by `cargo xtask bench {} --publish`; do not edit. How it is measured: [performance.md](../performance.md).\n",
        first.mark
    );
    if let Some(picture) = picture {
        _ = writeln!(text, "![{}]({picture})\n", first.mark);
    }
    text + &records.iter().map(|record| record.markdown()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{OURS, Row, Unit};

    fn record() -> Record {
        let mut row = Row::new("create", Unit::Seconds);
        (0..3).for_each(|round| row.of(OURS).add(round, 0.001));
        Record {
            format: FORMAT,
            mark: "create".into(),
            question: "How long?".into(),
            machine: Machine { runner: "uml".into(), ..Machine::default() },
            commit: None,
            began: 1,
            took_seconds: 2.0,
            rounds: 3,
            samples: 1,
            tables: vec![Table::new("At 0 volumes", vec![row])],
            counts: Vec::new(),
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("create-uml.json");
        record().save(&file).unwrap();
        assert_eq!(Record::load(&file).unwrap(), record());
        Record { format: FORMAT + 1, ..record() }.save(&file).unwrap();
        assert!(Record::load(&file).unwrap_err().to_string().contains("format 2"));
    }

    #[test]
    fn a_page_has_its_machines_tables_and_notes() {
        let text = page(&[&record()], Some("create.svg"));
        for part in ["# create\n", "### uml", "#### At 0 volumes", "- a note", "![create](create.svg)"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert_eq!(page(&[], None), "");
    }
}
