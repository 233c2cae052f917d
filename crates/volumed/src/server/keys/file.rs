//! The file that keeps keys over a restart: a line of JSON for each beginning and each end; the last line about a key counts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{KEPT_MAX, KEPT_SECONDS};
use crate::state_file;

/// In the state directory.
const NAME: &str = "idempotency-keys.jsonl";
/// A file that is longer, in bytes, and twice as long as when it was last written anew, is written anew.
const REWRITE_AT: u64 = 4 << 20;
/// More is not read: it is not ours.
const READ_MAX: u64 = 128 << 20;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub uid: u32,
    pub key: String,
    /// Empty: the key is free again.
    pub fingerprint: String,
    pub what: String,
    pub object: Option<String>,
    pub begun: u64,
    /// `None`: only begun.
    pub answer: Option<String>,
}

/// The file, or that there is none now.
pub struct File {
    path: PathBuf,
    open: Option<fs::File>,
    len: u64,
    /// The length from which on it is written anew.
    rewrite_at: u64,
    /// Why it could not be written the last time; that has been said.
    failed: Option<String>,
}

impl File {
    /// Reads what is there, and writes it anew; nothing is made before there is something to be written down. Whatever is wrong with it is said in the log, and is no more than that.
    pub fn open(dir: &Path, now: u64) -> (Self, Vec<Record>) {
        let mut file = Self { path: dir.join(NAME), open: None, len: 0, rewrite_at: REWRITE_AT, failed: None };
        let records = match state_file::read(&file.path, READ_MAX) {
            Ok(text) => {
                let records = known(&text, now);
                file.rewrite(&records);
                records
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(path = %file.path.display(), %error, "the idempotency keys of before cannot be read; they are forgotten");
                Vec::new()
            }
        };
        (file, records)
    }

    /// Appends a line, on the disk when it returns if `sync`; whether it is time to write it anew.
    pub fn append(&mut self, record: &Record, sync: bool) -> bool {
        let Some(open) = &mut self.open else { return true };
        let line = line(record);
        let written = open.write_all(&line).and_then(|()| if sync { open.sync_data() } else { Ok(()) });
        self.len = self.len.saturating_add(line.len() as u64);
        match written {
            Ok(()) => self.len > self.rewrite_at,
            Err(error) => {
                self.complain(&error);
                // Half a line may be there: the next write begins anew.
                self.open = None;
                false
            }
        }
    }

    /// Replaces the file by these lines.
    pub fn rewrite(&mut self, records: &[Record]) {
        let bytes: Vec<u8> = records.iter().flat_map(line).collect();
        // Answers tell of volumes: for root alone. With its name, or the lines that come are in a file that has none after a power cut.
        match state_file::replace(&self.path, &bytes, true) {
            Ok(open) => {
                (self.open, self.len, self.failed) = (Some(open), bytes.len() as u64, None);
                self.rewrite_at = REWRITE_AT.max(self.len.saturating_mul(2));
            }
            Err(error) => {
                self.open = None;
                self.complain(&error);
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.failed.is_none() {
            tracing::warn!(path = %self.path.display(), %error, "idempotency keys cannot be written down: a restart of volumed forgets them");
        }
        self.failed = Some(error.to_string());
    }

    /// Why it could not be written the last time, if it could not.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}

fn line(record: &Record) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    line.push(b'\n');
    line
}

/// What the lines come to. A line that is none, as the last one after a crash may be, is left out.
fn known(text: &str, now: u64) -> Vec<Record> {
    let mut all = BTreeMap::new();
    for record in text.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok()) {
        let id = (record.uid, record.key.clone());
        if record.fingerprint.is_empty() {
            all.remove(&id);
        } else {
            all.insert(id, record);
        }
    }
    let mut all: Vec<_> = all.into_values().filter(|one| now.saturating_sub(one.begun) <= KEPT_SECONDS).collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.begun));
    all.truncate(KEPT_MAX);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_written_anew_when_it_has_doubled_not_with_each_line() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, none) = File::open(dir.path(), 0);
        assert!(none.is_empty());
        let record = |number: u32| Record {
            uid: 0,
            key: number.to_string(),
            fingerprint: "f".to_owned(),
            what: String::new(),
            object: None,
            begun: 1,
            answer: Some("x".repeat(1 << 20)),
        };
        assert!(file.append(&record(0), true), "there is no file yet");
        let kept: Vec<_> = (0..6).map(record).collect();
        file.rewrite(&kept);
        let until = (0..20).position(|number| file.append(&record(10 + number), false));
        assert_eq!(until, Some(5), "twice as long with the sixth line");
        file.rewrite(&kept[..1]);
        let until = (0..20).position(|number| file.append(&record(10 + number), false));
        assert_eq!(until, Some(2), "a short one is left alone up to four MiB");
        let (_, read) = File::open(dir.path(), 1);
        assert_eq!(read.len(), 4);
    }
}
