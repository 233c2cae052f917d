//! Volume groups that were open on this machine, for as long as they are not deleted: what was in one whose disks are away is not gone.
//!
//! They are remembered over a restart, for then nothing else tells of a group none of whose disks is there: a file each in a directory of
//! the state directory, called as the id of the group, with its name in it. A person who knows that disks will not come back removes its
//! file, which counts at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vol_engine::Engine;
use vol_engine::host::HostMut;
use vol_types::{Name, VgId};

use crate::api::AbsentVg;
use crate::state_file;

/// In the state directory.
const DIR: &str = "volume-groups";
/// More of a file is not read: it is not ours.
const READ_MAX: u64 = 4096;
/// More files are not looked at.
const FILES_MAX: usize = 4096;
/// What the engine says of disks whose group it could not open.
const UNOPENED: [&str; 3] = ["vg-unreadable", "vg-name-twice", "pv-newer"];

/// The groups that are remembered.
#[derive(Debug, Default)]
pub struct Known {
    /// `None`: nothing is written down.
    dir: Option<PathBuf>,
    /// What was written down, or is to be, by this daemon.
    noted: Mutex<BTreeMap<VgId, Name>>,
}

impl Known {
    /// Those that the state directory tells of.
    pub fn open(state_dir: &Path) -> Self {
        Self { dir: Some(state_dir.join(DIR)), noted: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VgId, Name>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what is open now. Costs nothing where all is remembered already.
    pub fn see<H: HostMut>(&self, engine: &Engine<H>) {
        // Looked at under the lock: what is forgotten meanwhile is forgotten afterwards.
        let mut noted = self.lock();
        for vg in engine.vgs() {
            let name = vg.read(|catalog| catalog.vg().state.is_whole().then(|| catalog.vg().name.clone()));
            let Some(name) = name else { continue };
            if noted.get(&vg.id) == Some(&name) {
                continue;
            }
            if let Some(dir) = &self.dir
                && let Err(error) = state_file::replace(&dir.join(vg.id.to_string()), name.as_str().as_bytes(), true)
            {
                tracing::warn!(dir = %dir.display(), %error, "volume group {name} cannot be remembered: if its disks go, nothing tells of it");
            }
            noted.insert(vg.id, name);
        }
    }

    /// It is deleted, or about to be; what is open all the same is seen again.
    pub fn forget(&self, id: VgId) {
        let mut noted = self.lock();
        noted.remove(&id);
        if let Some(dir) = &self.dir
            && let Err(error) = fs::remove_file(dir.join(id.to_string()))
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), %error, "volume group {id} cannot be forgotten");
        }
    }

    fn all(&self) -> io::Result<Vec<Remembered>> {
        let noted = self.lock();
        match &self.dir {
            Some(dir) => read(dir),
            None => Ok(noted.iter().map(|(id, name)| (*id, name.to_string(), None)).collect()),
        }
    }

    /// Those that are remembered, or that some disk tells of, and that are not open now.
    pub fn absent<H: HostMut>(&self, engine: &Engine<H>) -> io::Result<Vec<AbsentVg>> {
        let mut told: Vec<_> = engine.scan_problems().into_iter().filter(|one| UNOPENED.contains(&one.code)).collect();
        let all = self.all()?;
        let open: Vec<_> = engine.vgs().iter().map(|vg| vg.id).collect();
        let absent = all.into_iter().filter(|(id, ..)| !open.contains(id)).map(|(id, name, file)| {
            let why = told.iter().position(|problem| problem.message.contains(&id.to_string()));
            let (message, back) = match why.map(|at| told.swap_remove(at)) {
                Some(problem) => (problem.message, problem.hint),
                None => (
                    format!("volume group {name} ({id}) was on this machine, and none of its disks is there"),
                    "attach its disks: they are taken up by themselves, or with `volctl pv scan`".to_owned(),
                ),
            };
            let gone = file.map_or(String::new(), |file| {
                format!("; if they will never come back: rm {}, and it is forgotten", file.display())
            });
            AbsentVg { name: Some(name).filter(|name| !name.is_empty()), message, hint: format!("{back}{gone}") }
        });
        let mut absent: Vec<_> = absent.collect();
        absent.extend(told.into_iter().map(|one| AbsentVg { name: None, message: one.message, hint: one.hint }));
        Ok(absent)
    }
}

/// The id and name of a group, and the file that says so.
type Remembered = (VgId, String, Option<PathBuf>);

/// What the files of the directory say.
fn read(dir: &Path) -> io::Result<Vec<Remembered>> {
    let files = match fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for file in files.take(FILES_MAX) {
        let file = file?;
        let Some(id) = file.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let path = file.path();
        // What cannot be read has no name, and is known all the same.
        let name = state_file::read(&path, READ_MAX).unwrap_or_default();
        all.push((id, name.trim().chars().filter(|c| !c.is_control()).collect(), Some(path)));
    }
    all.sort_by(|a: &Remembered, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
    Ok(all)
}
