//! Volume groups that were open on this machine, for as long as they are not deleted: what was in one whose disks are away is not gone.
//!
//! They are remembered over a restart, for then nothing else tells of a group none of whose disks is there: a file each in a directory of
//! the state directory, called as the id of the group, with its name in it. A person who knows that disks will not come back removes its
//! file, which counts at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vol_engine::host::HostMut;
use vol_engine::{Engine, OpenVg};
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
    /// Those that are open, and those that could not be written down. Held for moments only.
    noted: Mutex<BTreeMap<VgId, Noted>>,
    /// The right to change the files. The state directory may hang: who changes a group waits only if that group is to be written down.
    files: Mutex<()>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Noted {
    name: Name,
    written: bool,
}

impl Known {
    /// Those that the state directory tells of.
    pub fn open(state_dir: &Path) -> Self {
        Self { dir: Some(state_dir.join(DIR)), ..Self::default() }
    }

    fn noted(&self) -> MutexGuard<'_, BTreeMap<VgId, Noted>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what is open now and was not seen before. Costs nothing where all is remembered already.
    pub fn see<H: HostMut>(&self, engine: &Engine<H>) {
        self.write_down(engine, false);
    }

    /// As [`Known::see`], and what could not be written down is tried again.
    pub fn see_again<H: HostMut>(&self, engine: &Engine<H>) {
        self.write_down(engine, true);
    }

    fn write_down<H: HostMut>(&self, engine: &Engine<H>, again: bool) {
        if self.unwritten(engine, again).is_empty() {
            return;
        }
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at again under the lock: what was forgotten meanwhile is not open any more.
        let unwritten = self.unwritten(engine, again);
        // At once: whoever changes another group does not wait for this one, and what is asked is answered with it.
        let fresh: Vec<bool> = unwritten.iter().map(|(id, name)| self.note(*id, name, false)).collect();
        let Some(dir) = &self.dir else { return };
        for ((id, name), fresh) in unwritten.into_iter().zip(fresh) {
            match state_file::replace(&dir.join(id.to_string()), name.as_str().as_bytes(), true) {
                Ok(_) => _ = self.note(id, &name, true),
                Err(error) if fresh => {
                    tracing::warn!(%error, "volume group {name} cannot be written down in the state directory: after a restart nothing tells of it while its disks are away");
                }
                Err(_) => {}
            }
        }
    }

    /// Whether it was not noted before.
    fn note(&self, id: VgId, name: &Name, written: bool) -> bool {
        self.noted().insert(id, Noted { name: name.clone(), written }).is_none()
    }

    /// What is open and is still to be remembered.
    fn unwritten<H: HostMut>(&self, engine: &Engine<H>, again: bool) -> Vec<(VgId, Name)> {
        let whole = |vg: &Arc<OpenVg>| {
            vg.read(|catalog| catalog.vg().state.is_whole().then(|| (vg.id, catalog.vg().name.clone())))
        };
        let vgs = engine.vgs();
        let mut noted = self.noted();
        keep_open(&mut noted, &vgs.iter().map(|vg| vg.id).collect::<Vec<_>>());
        let is_done = |(id, name): &(VgId, Name)| {
            noted.get(id).is_some_and(|one| one.name == *name && (one.written || !again || self.dir.is_none()))
        };
        vgs.iter().filter_map(whole).filter(|one| !is_done(one)).collect()
    }

    /// It is deleted, or about to be; what is open all the same is seen again.
    pub fn forget(&self, id: VgId) {
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        self.noted().remove(&id);
        if let Some(dir) = &self.dir
            && let Err(error) = state_file::remove(&dir.join(id.to_string()))
        {
            tracing::warn!(dir = %dir.display(), %error, "volume group {id} cannot be forgotten");
        }
    }

    /// The files that are there, by the ids of their groups.
    pub fn files(&self) -> BTreeSet<VgId> {
        let all = self.dir.as_deref().map_or_else(|| Ok(Vec::new()), read).unwrap_or_default();
        all.into_iter().map(|(id, ..)| id).collect()
    }

    /// A group of this name that was to be made came to nothing, and was open until then: it may have been seen. What was written down
    /// before stays.
    pub fn forget_unmade<H: HostMut>(&self, engine: &Engine<H>, before: &BTreeSet<VgId>, name: &Name) {
        let all = {
            // A write that is under way ends before.
            let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            self.all().unwrap_or_default()
        };
        // Looked at after that: what is open now was not the one.
        let open: Vec<_> = engine.vgs().iter().map(|vg| vg.id).collect();
        let unmade =
            all.iter().filter(|(id, called, _)| called == name.as_str() && !before.contains(id) && !open.contains(id));
        unmade.for_each(|(id, ..)| self.forget(*id));
    }

    fn all(&self) -> io::Result<Vec<Remembered>> {
        let mut all = self.dir.as_deref().map_or_else(|| Ok(Vec::new()), read)?;
        let noted = self.noted();
        let unwritten = noted.iter().filter(|(_, one)| !one.written);
        for (id, one) in unwritten {
            if !all.iter().any(|(known, ..)| known == id) {
                all.push((*id, one.name.to_string(), None));
            }
        }
        Ok(all)
    }

    /// Those that are remembered, or that some disk tells of, and that are not open now.
    pub fn absent<H: HostMut>(&self, engine: &Engine<H>) -> io::Result<Vec<AbsentVg>> {
        let mut told: Vec<_> = engine.scan_problems().into_iter().filter(|one| UNOPENED.contains(&one.code)).collect();
        let open: Vec<_> = engine.vgs().iter().map(|vg| vg.id).collect();
        // Who is told of it may remove its file.
        keep_open(&mut self.noted(), &open);
        let all = self.all()?;
        let absent = all.into_iter().filter(|(id, ..)| !open.contains(id)).map(|(id, name, file)| {
            let why = told.extract_if(.., |problem| problem.message.contains(&id.to_string())).collect::<Vec<_>>();
            let (message, back) = match why.into_iter().next() {
                Some(problem) => (problem.message, problem.hint),
                None => (
                    format!("volume group {name} ({id}) was on this machine, and none of its disks is there"),
                    "attach its disks: they are taken up by themselves, or with `volctl pv scan`".to_owned(),
                ),
            };
            let gone = match file {
                Some(file) => format!("; if they will never come back: rm {}, and it is forgotten", file.display()),
                None => "; if they will never come back: restart volumed, and it is forgotten".to_owned(),
            };
            AbsentVg { name: Some(name).filter(|name| !name.is_empty()), message, hint: format!("{back}{gone}") }
        });
        let mut absent: Vec<_> = absent.collect();
        absent.extend(told.into_iter().map(|one| AbsentVg { name: None, message: one.message, hint: one.hint }));
        Ok(absent)
    }
}

/// What was written down and is open no longer is noted no longer: if it is opened again, it is written again, for somebody may have
/// removed its file.
fn keep_open(noted: &mut BTreeMap<VgId, Noted>, open: &[VgId]) {
    noted.retain(|id, one| !one.written || open.contains(id));
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
