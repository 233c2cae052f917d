//! Which engine uses which volume's mount: a count for each mount id, as a value.
//!
//! An engine sends `Mount` with an id and, later, `Unmount` with the same one; a volume's mount is needed as long as one id is left. Both
//! may be lost with the process that would have sent them, on either side, so:
//!
//! - **Docker** sends `Mount` with one id more than once (`docker cp` into a running container), and an `Unmount` for each: an id has a
//!   count. A dockerd that was killed sends no `Unmount`; the next one begins with `/Plugin.Activate` ([`Refs::activated`]), after which an
//!   id stands for the container that it was made for, and for nothing else: its count becomes one, *unconfirmed*. A `Mount` with such an
//!   id is that container's start, and confirms the id without counting up. A dockerd with live-restore sends no `Mount` for a container
//!   that ran on, only the `Unmount` at its end; there a `docker cp` takes the last count away while the container runs, which these
//!   numbers cannot know, and the mount tables do.
//! - **Podman** has one constant id, keeps a count of its own for each volume, and sends only what takes that count from zero to one and
//!   back: here an id counts once, however often it is sent. A second `Mount` means that Podman's count was lost, or that its five seconds
//!   for an answer had passed. Its `/Plugin.Activate`, sent with each command, means nothing.
//!
//! A reference belongs to the boot of the machine in which it was made: mounts do not survive it, and neither do references.
//!
//! These numbers say what the engines asked for. What is in use the kernel's mount tables say; who unmounts asks those too.

mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use vol_types::VolumeId;

use crate::Runtime;
pub use record::{Loaded, Record, Unreadable};

/// Bytes of a mount id, at most. Docker's and Podman's have 64.
pub const ID_MAX: usize = 256;
/// References of all volumes together, at most, in ids.
pub const IDS_MAX: usize = 65_536;
/// Of one id, at most.
pub const COUNT_MAX: u32 = 1 << 20;

/// One id that an engine mounted a volume with, and has not unmounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub runtime: Runtime,
    pub volume: VolumeId,
    /// Of the engine's making; it is not a container's id.
    pub id: String,
    /// At least one.
    pub count: u32,
    /// `false`: the engine has begun anew since, and not mentioned it.
    pub confirmed: bool,
}

/// What a `Mount` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Of this id, with this one.
    pub count: u32,
    /// It had been made before the engine began anew.
    pub was_unconfirmed: bool,
    /// To be written down; `None`: nothing has changed.
    pub record: Option<Record>,
}

/// What an `Unmount` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmounted {
    /// `false`: there was no such reference, and nothing has changed.
    pub known: bool,
    /// References of this volume that are left, of all engines and ids: a mount that none needs may be unmounted.
    pub left_of_volume: u32,
    /// To be written down; `None`: nothing has changed.
    pub record: Option<Record>,
}

/// Why a reference was not made. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefsError {
    /// An id is 1 to [`ID_MAX`] bytes without control characters.
    #[error("a mount id has 1 to {ID_MAX} bytes and no control characters; this one has {0} bytes")]
    Id(usize),
    #[error(
        "there are {IDS_MAX} mount references, and no more are kept: `volctl refs list` shows them, `volctl refs release` forgets what no container needs"
    )]
    Ids,
    #[error(
        "this mount id is counted {COUNT_MAX} times, and no further: if no container needs it any more, `volctl refs release` forgets it"
    )]
    Count,
}

/// All mount references of this boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refs {
    boot: String,
    /// None is empty; in the order in which they were made.
    volumes: BTreeMap<VolumeId, Vec<Reference>>,
}

impl Refs {
    /// None yet, in the boot with this id (`/proc/sys/kernel/random/boot_id`).
    pub fn new(boot_id: &str) -> Self {
        Self { boot: boot_id.to_owned(), volumes: BTreeMap::new() }
    }

    /// The boot that they belong to.
    pub fn boot_id(&self) -> &str {
        &self.boot
    }

    /// An engine is about to mount a volume, or has it mounted and needs it once more.
    ///
    /// # Errors
    /// The id is none, or there are as many as are kept.
    pub fn mount(&mut self, runtime: Runtime, volume: VolumeId, id: &str) -> Result<Mounted, RefsError> {
        if !is_id(id) {
            return Err(RefsError::Id(id.len()));
        }
        let room = self.ids() < IDS_MAX;
        let of = self.volumes.entry(volume).or_default();
        let (reference, was_unconfirmed, changed) = match of.iter().position(|one| one.is(runtime, id)) {
            Some(at) => {
                let one = of.get_mut(at).ok_or(RefsError::Ids)?;
                let was_unconfirmed = !one.confirmed;
                let changed = if was_unconfirmed {
                    one.confirmed = true;
                    true
                } else if runtime.counts() {
                    if one.count >= COUNT_MAX {
                        return Err(RefsError::Count);
                    }
                    one.count += 1;
                    true
                } else {
                    false
                };
                (&*one, was_unconfirmed, changed)
            }
            None if !room => {
                self.volumes.retain(|_, of| !of.is_empty());
                return Err(RefsError::Ids);
            }
            None => {
                of.push(Reference { runtime, volume, id: id.to_owned(), count: 1, confirmed: true });
                (of.last().ok_or(RefsError::Ids)?, false, true)
            }
        };
        let record = changed.then(|| Record::of(&self.boot, reference));
        Ok(Mounted { count: reference.count, was_unconfirmed, record })
    }

    /// An engine needs a volume's mount once less. An id that nobody knows is no error: it may be of before a crash.
    pub fn unmount(&mut self, runtime: Runtime, volume: VolumeId, id: &str) -> Unmounted {
        let mut record = None;
        if let Some(of) = self.volumes.get_mut(&volume) {
            if let Some(one) = of.iter_mut().find(|one| one.is(runtime, id)) {
                one.count -= 1;
                // Whoever unmounts it knows it: what is left of it is of the engine's present life.
                one.confirmed = true;
                record = Some(Record::of(&self.boot, one));
                of.retain(|one| one.count > 0);
            }
            if of.is_empty() {
                self.volumes.remove(&volume);
            }
        }
        Unmounted { known: record.is_some(), left_of_volume: self.count_of(volume), record }
    }

    /// An engine said that it begins anew (`/Plugin.Activate`): each of its ids is unconfirmed, and stands for one container at most.
    /// Nothing changes for Podman, which says so with each command. What is to be written down, if anything changed.
    pub fn activated(&mut self, runtime: Runtime) -> Option<Record> {
        let mut changed = false;
        if runtime.counts() {
            for one in self.volumes.values_mut().flatten().filter(|one| one.runtime == runtime) {
                changed |= one.confirmed || one.count != 1;
                (one.confirmed, one.count) = (false, 1);
            }
        }
        changed.then(|| Record::activated(&self.boot, runtime))
    }

    /// Forgets all that an engine has of a volume: it removes the volume, or the volume is its own no longer. What is to be written down, if
    /// there was any.
    pub fn forget_of(&mut self, runtime: Runtime, volume: VolumeId) -> Option<Record> {
        let of = self.volumes.get_mut(&volume)?;
        let before = of.len();
        of.retain(|one| one.runtime != runtime);
        let any = of.len() < before;
        if of.is_empty() {
            self.volumes.remove(&volume);
        }
        any.then(|| Record::forgotten(&self.boot, runtime, volume))
    }

    /// Forgets one id, however often it is counted. What is to be written down, if it was known.
    pub fn forget_id(&mut self, runtime: Runtime, volume: VolumeId, id: &str) -> Option<Record> {
        let of = self.volumes.get_mut(&volume)?;
        let at = of.iter().position(|one| one.is(runtime, id))?;
        let gone = Reference { count: 0, ..of.remove(at) };
        if of.is_empty() {
            self.volumes.remove(&volume);
        }
        Some(Record::of(&self.boot, &gone))
    }

    /// The references of a volume, in the order in which they were made.
    pub fn of(&self, volume: VolumeId) -> &[Reference] {
        self.volumes.get(&volume).map_or(&[], Vec::as_slice)
    }

    /// How often a volume's mount is needed: the counts of all its ids together.
    pub fn count_of(&self, volume: VolumeId) -> u32 {
        self.of(volume).iter().fold(0, |sum, one| sum.saturating_add(one.count))
    }

    /// All of them, by volume.
    pub fn all(&self) -> impl Iterator<Item = &Reference> {
        self.volumes.values().flatten()
    }

    /// How many ids there are.
    pub fn ids(&self) -> usize {
        self.volumes.values().map(Vec::len).sum()
    }

    /// Lines that [`Refs::load`] makes the same of, as few as there can be.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.all().map(|one| Record::of(&self.boot, one))
    }

    /// What the lines that were written down come to: the last about an id counts. Lines of another boot are dropped; lines that are none,
    /// as the last one may be after a crash, are left out and told.
    pub fn load<'a>(lines: impl IntoIterator<Item = &'a str>, boot_id: &str) -> Loaded {
        record::load(lines, boot_id)
    }
}

impl Reference {
    fn is(&self, runtime: Runtime, id: &str) -> bool {
        self.runtime == runtime && self.id == id
    }
}

impl Runtime {
    /// Whether each `Mount` with an id that is known counts, and a `Plugin.Activate` means that the engine begins anew.
    const fn counts(self) -> bool {
        matches!(self, Self::Docker)
    }
}

fn is_id(id: &str) -> bool {
    (1..=ID_MAX).contains(&id.len()) && !id.chars().any(char::is_control)
}
