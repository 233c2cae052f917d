//! What was noted of the places of volumes, kept over a restart of the daemon in its run directory, which a boot empties, as it does the
//! mount tables.
//!
//! Nothing hangs on it but whether a repetition is told from another request: a file that cannot be written is said in the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vol_csi::Placed;

use crate::state_file;

/// In the run directory.
const NAME: &str = "csi-places.json";
/// More is not read: it is not ours.
const READ_MAX: u64 = 64 << 20;

/// All places by their paths.
pub struct Places {
    all: Mutex<BTreeMap<String, Placed>>,
    path: PathBuf,
}

impl Places {
    /// Those that were noted since the boot.
    pub fn open(run_dir: &Path) -> Self {
        let path = run_dir.join(NAME);
        let all = match state_file::read(&path, READ_MAX) {
            Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "what was noted of volumes' places cannot be read");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        Self { all: Mutex::new(all), path }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Placed>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn at(&self, at: &str) -> Option<Placed> {
        self.lock().get(at).cloned()
    }

    pub fn of(&self, volume: &str) -> Vec<(String, Placed)> {
        let all = self.lock();
        all.iter()
            .filter(|(_, placed)| placed.volume == volume)
            .map(|(at, placed)| (at.clone(), placed.clone()))
            .collect()
    }

    /// Notes it, or forgets it, and writes that down.
    pub fn note(&self, at: &str, placed: Option<Placed>) {
        let mut all = self.lock();
        let was = match placed.clone() {
            Some(placed) => all.insert(at.to_owned(), placed),
            None => all.remove(at),
        };
        if was == placed {
            return;
        }
        let written = serde_json::to_vec(&*all).map_err(std::io::Error::from);
        let written = written.and_then(|bytes| state_file::replace(&self.path, &bytes, false));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "where volumes were put cannot be written down: a restart of volumed forgets it");
        }
    }

    /// Forgets all of a volume that is gone.
    pub fn forget(&self, volume: &str) {
        for (at, _) in self.of(volume) {
            self.note(&at, None);
        }
    }
}
