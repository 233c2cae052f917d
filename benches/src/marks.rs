//! The benchmarks, one file each.

use anyhow::{Context as _, Result};

use crate::counters::Count;
use crate::disk::Disk;
use crate::table::Table;

pub mod churn;
pub mod commit;
pub mod counters;
pub mod create;
pub mod datapath;
pub mod delta;
pub mod isolation;
pub mod mounted;
pub mod moving;
pub mod read;
pub mod scrape;
pub mod snapshot;
pub mod start;

/// What a benchmark is run with.
#[derive(Clone, Debug)]
pub struct Site {
    /// They may be destroyed.
    pub disks: Vec<Disk>,
    /// `uml`, `qemu` or `host`.
    pub runner: String,
    /// How often peers take turns.
    pub rounds: usize,
    /// How often each does something in a round; LVM2 less often, said where it is so.
    pub samples: usize,
    /// How many volumes there are besides, in turn.
    pub volumes: Vec<usize>,
    /// As little as shows that it still runs.
    pub smoke: bool,
}

impl Site {
    /// # Errors
    /// There are not so many disks.
    pub fn disk(&self, index: usize) -> Result<&Disk> {
        self.disks.get(index).with_context(|| format!("{} disks are needed, {} are named", index + 1, self.disks.len()))
    }

    /// Where grace periods of RCU are none, or the processor is emulated, other aims hold.
    pub fn is_uml(&self) -> bool {
        self.runner == "uml"
    }

    /// For what takes a peer long: a tenth of the samples, one at least.
    pub fn few(&self) -> usize {
        (self.samples / 10).max(1)
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    pub tables: Vec<Table>,
    pub counts: Vec<Count>,
    /// What a reader has to know: what was left out, and why.
    pub notes: Vec<String>,
}

/// What a benchmark needs of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    pub disks: usize,
    pub mib_each: u64,
    /// Of the machine.
    pub memory_mib: u64,
}

/// A benchmark.
pub trait Mark: Sync {
    fn name(&self) -> &'static str;
    /// What it answers, in one sentence.
    fn question(&self) -> &'static str;
    fn needs(&self) -> Needs;
    /// # Errors
    /// Something could not be done; what was measured until then is lost.
    fn run(&self, site: &Site) -> Result<Findings>;
}

/// All of them, in the order in which they are told.
pub fn all() -> Vec<Box<dyn Mark>> {
    vec![
        Box::new(counters::Counters),
        Box::new(create::Create),
        Box::new(churn::Churn),
        Box::new(commit::Commit),
        Box::new(read::Read),
        Box::new(snapshot::Snapshot),
        Box::new(start::Start),
        Box::new(mounted::Mounted),
        Box::new(datapath::DataPath),
        Box::new(moving::Moving),
        Box::new(isolation::Isolation),
        Box::new(delta::Delta),
        Box::new(scrape::Scrape),
    ]
}

/// Those with these names; all without any.
///
/// # Errors
/// There is none of a name; those that there are are told.
pub fn named(names: &[String]) -> Result<Vec<Box<dyn Mark>>> {
    let known: Vec<&str> = all().iter().map(|mark| mark.name()).collect();
    if let Some(strange) = names.iter().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("there is no benchmark {strange}; there are {}", known.join(", "));
    }
    Ok(all().into_iter().filter(|mark| names.is_empty() || names.iter().any(|name| name == mark.name())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benchmarks_have_names_of_their_own_and_are_found_by_them() {
        let mut names: Vec<&str> = all().iter().map(|mark| mark.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        assert_eq!(named(&["churn".to_owned()]).unwrap().len(), 1);
        assert_eq!(named(&[]).unwrap().len(), names.len());
        assert!(named(&["chrun".to_owned()]).err().unwrap().to_string().contains("churn"));
    }
}
