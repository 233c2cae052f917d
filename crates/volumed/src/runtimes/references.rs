//! The mount references of this boot, kept over a restart of the daemon (`docs/mount-references.md`).
//!
//! Each change is in the file before the call returns, and so before a mount is made: a daemon that is killed in between finds the
//! reference again. The file is written and not flushed, for what it says is void after a crash of the machine anyway.
//!
//! A file that cannot be written refuses no mount: a container would not start because `/var` is full, and nothing that it holds is needed
//! to keep data safe: whether a mount is used the kernel says. It is a problem in `status`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use vol_api::Problem;
use vol_docker::Runtime;
use vol_docker::refs::{Mounted, Record, Reference, Refs, RefsError, Unmounted};
use vol_types::VolumeId;

mod file;
#[cfg(test)]
mod tests;

use file::File;

/// After an engine or this daemon began anew, how long a reference may stay unconfirmed, and a mount without a reference, that no container is
/// seen to use.
pub const SETTLING: Duration = Duration::from_secs(60);

/// The references, for everybody who counts, asks or forgets.
pub struct References {
    state: Mutex<State>,
    /// Wakes whoever looks after what is left to do.
    bell: OnceLock<Arc<dyn Fn() + Send + Sync>>,
}

struct State {
    refs: Refs,
    /// `None`: nothing is written down.
    file: Option<File>,
    /// When an engine last began anew, or this daemon.
    activated: Option<Instant>,
    /// Volumes that engines are mounting just now, with how many do.
    mounting: BTreeMap<VolumeId, u32>,
    /// How often any was mounted.
    mounted: u64,
    /// Volumes that nobody needed any more in this run of the daemon, and that could not be unmounted.
    deferred: BTreeSet<VolumeId>,
}

/// A reference that was made for a mount that is being made. While it is held the reference is not taken for one without a mount.
#[must_use = "it is to be kept until the mount is made"]
pub struct Mounting<'a> {
    references: &'a References,
    volume: VolumeId,
    mounted: Mounted,
}

impl Deref for Mounting<'_> {
    type Target = Mounted;
    fn deref(&self) -> &Mounted {
        &self.mounted
    }
}

impl Drop for Mounting<'_> {
    fn drop(&mut self) {
        let mut state = self.references.state();
        if let Some(count) = state.mounting.get_mut(&self.volume) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.mounting.remove(&self.volume);
            }
        }
    }
}

/// The references at a moment, to be held against the mount tables of a moment later.
pub struct Snapshot {
    pub all: Vec<Reference>,
    mounted: u64,
}

impl References {
    /// None yet, and nothing is written down.
    pub fn in_memory(boot_id: &str) -> Self {
        Self::of(Refs::new(boot_id), None)
    }

    /// Those of this boot that `dir` knows of. What is wrong with the file is said in the log, and is no more than that.
    pub fn open(dir: &Path, boot_id: &str) -> Self {
        let (file, refs) = File::open(dir, boot_id);
        Self::of(refs, Some(file))
    }

    fn of(refs: Refs, file: Option<File>) -> Self {
        let state = State {
            refs,
            file,
            activated: Some(Instant::now()),
            mounting: BTreeMap::new(),
            mounted: 0,
            deferred: BTreeSet::new(),
        };
        Self { state: Mutex::new(state), bell: OnceLock::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `bell` whenever there may be something to look after. A second call changes nothing.
    pub fn on_work(&self, bell: impl Fn() + Send + Sync + 'static) {
        let _ = self.bell.set(Arc::new(bell));
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    /// A volume that nobody needs any more could not be unmounted, or is no longer to be.
    pub fn defer(&self, volume: VolumeId, deferred: bool) {
        let mut state = self.state();
        if deferred {
            state.deferred.insert(volume);
            drop(state);
            self.ring();
        } else {
            state.deferred.remove(&volume);
        }
    }

    /// Whether it is left to be unmounted since this daemon was told that it is not needed any more.
    pub fn is_deferred(&self, volume: VolumeId) -> bool {
        self.state().deferred.contains(&volume)
    }

    /// An engine is about to mount a volume: to be called before the mount is made, held until it is, and taken back by
    /// [`References::unmount`] if that fails.
    ///
    /// # Errors
    /// The id is none, or there are as many references as are kept; nothing has changed.
    pub fn mount(&self, runtime: Runtime, volume: VolumeId, id: &str) -> Result<Mounting<'_>, RefsError> {
        let mut state = self.state();
        let mounted = state.refs.mount(runtime, volume, id)?;
        state.write_down(mounted.record.as_ref());
        *state.mounting.entry(volume).or_default() += 1;
        state.mounted = state.mounted.wrapping_add(1);
        drop(state);
        Ok(Mounting { references: self, volume, mounted })
    }

    /// An engine needs a volume no more with this id. If none is left of the volume its mount may go, after the mount tables were asked
    /// too: `api::Refs::unmount_unneeded`.
    pub fn unmount(&self, runtime: Runtime, volume: VolumeId, id: &str) -> Unmounted {
        let mut state = self.state();
        let unmounted = state.refs.unmount(runtime, volume, id);
        state.write_down(unmounted.record.as_ref());
        unmounted
    }

    /// An engine has sent `/Plugin.Activate`.
    pub fn activated(&self, runtime: Runtime) {
        let mut state = self.state();
        let record = state.refs.activated(runtime);
        state.write_down(record.as_ref());
        if record.is_some() {
            state.activated = Some(Instant::now());
            drop(state);
            self.ring();
        }
    }

    /// Forgets all that an engine has of a volume: it removes the volume, and so knows of no container that needs it, or the volume is its own
    /// no longer. Whether there was any.
    pub fn forget_of(&self, runtime: Runtime, volume: VolumeId) -> bool {
        let mut state = self.state();
        let record = state.refs.forget_of(runtime, volume);
        state.write_down(record.as_ref());
        record.is_some()
    }

    /// Forgets one id, however often it is counted; what it was.
    pub fn forget_one(&self, runtime: Runtime, volume: VolumeId, id: &str) -> Option<Reference> {
        let mut state = self.state();
        let was = state.refs.of(volume).iter().find(|one| one.runtime == runtime && one.id == id).cloned();
        let record = state.refs.forget_id(runtime, volume, id);
        state.write_down(record.as_ref());
        was
    }

    /// The references of now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot { all: state.refs.all().cloned().collect(), mounted: state.mounted }
    }

    /// Forgets one of a snapshot, unless anything was mounted since, or its volume is being mounted: the mount tables that were looked at
    /// say nothing then. Whether it did.
    pub fn forget_stale(&self, seen: &Snapshot, one: &Reference) -> bool {
        let mut state = self.state();
        let known = state.refs.of(one.volume).contains(one);
        if !known || state.mounted != seen.mounted || state.mounting.contains_key(&one.volume) {
            return false;
        }
        let record = state.refs.forget_id(one.runtime, one.volume, &one.id);
        state.write_down(record.as_ref());
        record.is_some()
    }

    /// Whether an engine is mounting a volume just now.
    pub fn is_mounting(&self, volume: VolumeId) -> bool {
        self.state().mounting.contains_key(&volume)
    }

    /// The references of a volume, in the order in which they were made.
    pub fn of_volume(&self, volume: VolumeId) -> Vec<Reference> {
        self.state().refs.of(volume).to_vec()
    }

    /// How often a volume's mount is needed.
    pub fn count_of(&self, volume: VolumeId) -> u32 {
        self.state().refs.count_of(volume)
    }

    /// All of them, by volume.
    pub fn all(&self) -> Vec<Reference> {
        self.state().refs.all().cloned().collect()
    }

    /// Whether all engines have had the time to confirm their references since one of them, or this daemon, began anew.
    pub fn are_settled(&self) -> bool {
        self.state().activated.is_none_or(|at| at.elapsed() >= SETTLING)
    }

    /// Lets that time have passed.
    #[cfg(test)]
    pub fn settle(&self) {
        self.state().activated = None;
    }

    /// That the file cannot be written, if so.
    pub fn problem(&self) -> Option<Problem> {
        let why = self.state().file.as_ref()?.trouble()?;
        Some(Problem {
            code: "mount_references_unwritten".to_owned(),
            message: format!("mount references are not written down: {why}"),
            hint: "containers go on and can be started; make room in the state directory, or make it writable: it is tried again with \
                   each change. See docs/troubleshooting.md"
                .to_owned(),
        })
    }
}

impl State {
    fn write_down(&mut self, record: Option<&Record>) {
        if let (Some(record), Some(file)) = (record, &mut self.file) {
            file.write_down(record, &self.refs);
        }
    }
}
