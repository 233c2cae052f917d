//! What container engines need of volumes: the references held against the mount tables, and mounts that none needs any more.
//!
//! References say what engines asked for, the tables what is so. A reference whose volume is mounted nowhere is none; a mount that was made for
//! an engine goes when no reference is left and no other mount namespace has the volume mounted. `docs/mount-references.md` has the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vol_api::{RefList, ReleaseRefs, ReleasedRefs, RuntimeDf};
use vol_core::dm::Device;
use vol_core::observed::{DevNumber, Mount};
use vol_core::{Catalog, Refusal, VolumeName};
use vol_docker::Runtime;
use vol_docker::refs::Reference;
use vol_engine::host::{Elsewhere, HostMut, HostRead, HostResult};
use vol_engine::{Engine, EngineError};
use vol_types::{Name, VolumeId, VolumeState};

use super::EngineBackend;
use super::ticker::{Poker, Ticker};
use crate::api::{Change, Read, Refs};
use crate::runtimes::references::{References, Snapshot};

mod answers;

mod places;

pub use answers::{by_volume, in_use, names_of, of_volume, refused, renamed};

/// Below the run directory that is the default.
pub const MOUNTS_DIR: &str = "/run/volumed/mounts";

/// How often it is tried again to unmount what could not be. Nothing is looked at while there is nothing of that kind.
const AGAIN_EVERY: Duration = Duration::from_secs(20);

/// What became of a mount that no reference needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unneeded {
    /// It is mounted nowhere any more where it was mounted for an engine.
    Gone,
    /// There is a reference (again).
    Needed,
    /// It is in use, by these or by whoever cannot be told; it is tried again by itself.
    Deferred(Vec<String>),
}

/// The references with what they are held against.
pub struct Keeper<H: HostMut> {
    engine: Arc<Engine<H>>,
    references: Arc<References>,
    /// Where mounts for engines are made: `RUNTIME/VOLUME-ID` below it.
    mounts_dir: PathBuf,
    /// Bare mount points of which was said that they cannot be removed.
    told: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl<H: HostMut> Clone for Keeper<H> {
    fn clone(&self) -> Self {
        let (engine, references, told) =
            (Arc::clone(&self.engine), Arc::clone(&self.references), Arc::clone(&self.told));
        Self { engine, references, mounts_dir: self.mounts_dir.clone(), told }
    }
}

/// Volumes of ours that have a device, and where they are mounted.
pub(super) struct Seen {
    devs: BTreeMap<VolumeId, DevNumber>,
    mounts: Vec<Mount>,
    elsewhere: Vec<Elsewhere>,
}

impl Seen {
    /// Of these volumes, and of those that are mounted below `mounts_dir`. Where there are none the kernel is asked for the mounts of the host
    /// and for nothing else.
    fn now(host: &impl HostRead, of: impl IntoIterator<Item = VolumeId>, mounts_dir: &Path) -> HostResult<Self> {
        let mut mounts = host.mounts()?;
        let made = |mount: &Mount| Some(named(mount.target.strip_prefix(mounts_dir).ok()?)?.1);
        let of: BTreeSet<_> = of.into_iter().chain(mounts.iter().filter_map(made)).collect();
        if of.is_empty() {
            return Ok(Self { devs: BTreeMap::new(), mounts: Vec::new(), elsewhere: Vec::new() });
        }
        let id = |uuid: &str| match Device::from_uuid(uuid) {
            Some(Device::Volume(id)) => Some(id).filter(|id| of.contains(id)),
            _ => None,
        };
        let devs: BTreeMap<_, _> =
            host.dm_devices()?.iter().filter_map(|info| Some((id(&info.uuid)?, info.dev))).collect();
        let numbers: BTreeSet<_> = devs.values().copied().collect();
        mounts.retain(|mount| numbers.contains(&mount.dev));
        Ok(Self { elsewhere: host.mounted_elsewhere(&numbers)?, devs, mounts })
    }

    fn mounts_of(&self, volume: VolumeId) -> impl Iterator<Item = &Mount> {
        let dev = self.devs.get(&volume).copied();
        self.mounts.iter().filter(move |mount| Some(mount.dev) == dev)
    }

    fn users_of(&self, volume: VolumeId) -> Vec<String> {
        let dev = self.devs.get(&volume).copied();
        self.elsewhere.iter().filter(|one| Some(one.dev) == dev).map(ToString::to_string).collect()
    }

    /// On the host or in any other namespace.
    fn is_mounted(&self, volume: VolumeId) -> bool {
        self.mounts_of(volume).next().is_some() || !self.users_of(volume).is_empty()
    }
}

/// A mount that was made for an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Made {
    runtime: Runtime,
    volume: VolumeId,
    target: PathBuf,
}

impl<H: HostMut + 'static> Keeper<H> {
    /// What is to be seen of volumes with references or mounts for engines.
    fn seen(&self) -> HostResult<Seen> {
        let of: Vec<_> = self.references.all().iter().map(|one| one.volume).collect();
        Seen::now(self.engine.host(), of, &self.mounts_dir)
    }

    /// What is mounted below `mounts_dir`, and is the volume that the path names.
    fn made<'a>(&'a self, seen: &'a Seen) -> impl Iterator<Item = Made> + 'a {
        seen.mounts.iter().filter_map(|mount| {
            let (runtime, volume) = named(mount.target.strip_prefix(&self.mounts_dir).ok()?)?;
            (seen.devs.get(&volume) == Some(&mount.dev)).then(|| Made { runtime, volume, target: mount.target.clone() })
        })
    }

    /// Drops what is no reference any more, and unmounts what nobody needs. When to look again; `None`: when there is something.
    pub(super) fn look_after(&self) -> Option<Duration> {
        self.remove_bare();
        let before = self.references.snapshot();
        let settled = self.references.are_settled();
        let seen = match self.seen() {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(%error, "mount references cannot be held against the mount tables; it is tried again");
                return Some(AGAIN_EVERY);
            }
        };
        self.drop_stale(&before, &seen, settled);
        let unneeded: BTreeSet<_> =
            self.made(&seen).map(|made| made.volume).filter(|id| self.references.count_of(*id) == 0).collect();
        let mut again = self.references.all().iter().any(|one| !one.confirmed);
        for volume in unneeded {
            // After a start or a restart of an engine whoever needs it may not have said so yet, unless this daemon heard it given back.
            let due = settled || self.references.is_deferred(volume);
            again |= !due || matches!(self.unmount_seen(volume, &seen), Unneeded::Deferred(_));
        }
        again.then_some(AGAIN_EVERY)
    }

    fn drop_stale(&self, before: &Snapshot, seen: &Seen, settled: bool) {
        for one in &before.all {
            let why = if !seen.is_mounted(one.volume) {
                "the volume is mounted nowhere"
            } else if settled && !one.confirmed && seen.users_of(one.volume).is_empty() {
                "the engine was started anew and has not mentioned it, and no container has the volume mounted"
            } else {
                continue;
            };
            if self.references.forget_stale(before, one) {
                let (runtime, volume) = (one.runtime.name(), one.volume.to_string());
                tracing::info!(runtime, volume, id = one.id, "a mount reference is dropped: {why}");
            }
        }
    }

    /// Unmounts a volume where it was mounted for an engine, unless somebody needs it.
    fn unmount(&self, volume: VolumeId) -> Unneeded {
        if self.references.count_of(volume) > 0 {
            return Unneeded::Needed;
        }
        let done = match self.seen() {
            Ok(seen) => self.unmount_seen(volume, &seen),
            Err(error) => Unneeded::Deferred(vec![error.to_string()]),
        };
        self.references.defer(volume, matches!(done, Unneeded::Deferred(_)));
        done
    }

    fn unmount_seen(&self, volume: VolumeId, seen: &Seen) -> Unneeded {
        let targets: Vec<_> = self.made(seen).filter(|made| made.volume == volume).map(|made| made.target).collect();
        if targets.is_empty() {
            return Unneeded::Gone;
        }
        let users = seen.users_of(volume);
        if !users.is_empty() {
            tracing::debug!(%volume, users = users.join(", "), "it stays mounted: others have it mounted too");
            return Unneeded::Deferred(users);
        }
        let Some((vg, name)) = self.named(volume) else {
            return Unneeded::Deferred(vec!["its volume group is not there".to_owned()]);
        };
        let needed = |id| match self.references.count_of(id) {
            0 => Ok(()),
            _ => Err(Refusal::busy(NEEDED)),
        };
        for target in targets {
            match self.engine.unmount_unless(&vg, &name, Some(&target), false, needed) {
                Ok(_) => {
                    tracing::info!(volume = format!("{vg}/{name}"), at = %target.display(), "unmounted: no engine needs it")
                }
                Err(EngineError::Refused(refusal)) if refusal.message == NEEDED => return Unneeded::Needed,
                Err(EngineError::Refused(refusal)) if refusal.code == vol_core::RefusalCode::NotFound => {}
                Err(error) => return Unneeded::Deferred(vec![error.to_string()]),
            }
        }
        self.references.defer(volume, false);
        Unneeded::Gone
    }

    /// What a volume is called, by its id.
    fn named(&self, id: VolumeId) -> Option<(Name, VolumeName)> {
        let name = |catalog: &Catalog| Some((catalog.vg().name.clone(), VolumeName::of(catalog.volume(id)?)));
        self.engine.vgs().iter().find_map(|vg| vg.read(name))
    }
}

const NEEDED: &str = "a container engine needs it";

/// `RUNTIME/VOLUME-ID`.
fn named(below: &Path) -> Option<(Runtime, VolumeId)> {
    let mut parts = below.iter();
    let (runtime, id) = (parts.next()?.to_str()?, parts.next()?.to_str()?);
    let runtime = Runtime::ALL.into_iter().find(|one| one.name() == runtime)?;
    Some((runtime, parts.next().is_none().then(|| id.parse().ok()).flatten()?))
}

impl<H: HostMut + 'static> EngineBackend<H> {
    /// Counts in `references`, and knows mounts below `mounts_dir` as those of engines.
    #[must_use]
    pub fn counting(self, references: References, mounts_dir: PathBuf) -> Self {
        self.engine.own_mounts_below(&mounts_dir);
        Self { references: Arc::new(references), mounts_dir, ..self }
    }

    /// Knows mounts below `kubelet_dir` as those of pods.
    #[must_use]
    pub fn beside_kubelet(self, kubelet_dir: PathBuf) -> Self {
        Self { kubelet_dir, ..self }
    }

    pub(super) fn keeper(&self) -> Keeper<H> {
        let (engine, references) = (Arc::clone(&self.engine), Arc::clone(&self.references));
        Keeper { engine, references, mounts_dir: self.mounts_dir.clone(), told: Arc::default() }
    }

    /// Holds the references of before against the mount tables, and starts the thread that looks after what is left to be unmounted.
    /// Without anything of that kind it sleeps.
    pub fn start_keeping_references(&self) -> std::io::Result<()> {
        let keeper = self.keeper();
        keeper.make_places();
        self.start_watching_mounts(&keeper)?;
        let poker = Poker::default();
        let bell = poker.clone();
        self.references.on_work(move || bell.poke());
        let first = keeper.look_after();
        self.keep(Ticker::start("references", poker, first, move |_: &dyn Fn() -> bool| keeper.look_after())?);
        Ok(())
    }
}

impl<H: HostMut + 'static> Refs for EngineBackend<H> {
    fn references(&self) -> Arc<References> {
        Arc::clone(&self.references)
    }
    fn refs(&self, runtime: Option<Runtime>) -> Read<RefList> {
        answers::list(self, runtime)
    }
    fn release_refs(&self, request: ReleaseRefs, dry_run: bool) -> Change<ReleasedRefs> {
        answers::release(self, &request, dry_run)
    }
    fn unmount_unneeded(&self, volume: VolumeId) -> Unneeded {
        self.keeper().unmount(volume)
    }
    fn runtime_df(&self, runtime: Runtime) -> Read<RuntimeDf> {
        answers::df(self, runtime)
    }
}
