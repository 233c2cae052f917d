//! The file that keeps mount references over a restart: a line for each change; the last one about an id counts.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use vol_docker::refs::{Record, Refs};

use crate::state_file;

/// In the state directory.
const NAME: &str = "mount-references.jsonl";
/// A file that is longer, in bytes, is written anew. What there is fits in less, or is not much more: it is twice that then.
const REWRITE_AT: u64 = 1 << 20;
/// More is not read: it is not ours.
const READ_MAX: u64 = 256 << 20;

/// The file, or that there is none now.
pub struct File {
    path: PathBuf,
    open: Option<fs::File>,
    len: u64,
    rewrite_at: u64,
    /// Why it could not be written.
    trouble: Option<String>,
}

impl File {
    /// Reads what is there, and writes it anew. Nothing is made before there is something to be written down.
    pub fn open(dir: &Path, boot_id: &str) -> (Self, Refs) {
        let path = dir.join(NAME);
        let mut file = Self { path, open: None, len: 0, rewrite_at: REWRITE_AT, trouble: None };
        let refs = match state_file::read(&file.path, READ_MAX) {
            Ok(text) => {
                let loaded = Refs::load(text.lines(), boot_id);
                for one in &loaded.unreadable {
                    tracing::warn!(path = %file.path.display(), line = one.line, why = one.why, "a mount reference cannot be read");
                }
                tracing::info!(
                    references = loaded.refs.ids(),
                    of_other_boots = loaded.of_other_boots,
                    unreadable = loaded.unreadable_lines,
                    "mount references of container engines were read"
                );
                file.rewrite(&loaded.refs);
                loaded.refs
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %file.path.display(), %error, "the mount references of before cannot be read");
                }
                Refs::new(boot_id)
            }
        };
        (file, refs)
    }

    /// Appends a line, or writes all of it anew where that is due. `refs`: as they are with the change.
    pub fn write_down(&mut self, record: &Record, refs: &Refs) {
        let line = record.line();
        let written = self.open.as_mut().map(|open| open.write_all(line.as_bytes()));
        match written {
            Some(Ok(())) => {
                self.len = self.len.saturating_add(line.len() as u64);
                if self.len > self.rewrite_at {
                    self.rewrite(refs);
                }
            }
            // Half a line may be there.
            Some(Err(_)) | None => self.rewrite(refs),
        }
    }

    /// Why it could not be written, if so. With each change it is tried again.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.as_ref().map(|why| format!("{}: {why}", self.path.display()))
    }

    fn rewrite(&mut self, refs: &Refs) {
        let text: String = refs.records().map(|record| record.line()).collect();
        // Ids are for root alone: who knows one could unmount. What it is called need not outlive a power cut: the ids do not.
        match state_file::replace(&self.path, text.as_bytes(), false) {
            Ok(open) => {
                if self.trouble.take().is_some() {
                    tracing::info!(path = %self.path.display(), "mount references are written down again");
                }
                self.len = text.len() as u64;
                self.rewrite_at = REWRITE_AT.max(self.len.saturating_mul(2));
                self.open = Some(open);
            }
            Err(error) => {
                self.open = None;
                // What it says is no longer so: rather nothing than references that are none any more.
                let _ = fs::remove_file(&self.path);
                if self.trouble.replace(error.to_string()).is_none() {
                    tracing::warn!(path = %self.path.display(), %error, "mount references cannot be written down: containers go on, a restart of volumed forgets them");
                }
            }
        }
    }
}
