//! Thick volumes: making, copying and growing them (`vol_core::plan::thick`, docs/thick.md).
//!
//! The volume group is held for each of the plans, and not while blocks are moved: other changes go on meanwhile. How far a volume is
//! filled is noted durably every now and then, so that whoever goes on after a crash begins there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vol_core::dm::Device;
use vol_core::plan::fs::NewSize;
use vol_core::plan::thick::{self, Begun, Layout};
use vol_core::plan::{Kernel, clone};
use vol_core::{Catalog, Plan, Refusal, RefusalCode, VolumeName};
use vol_types::{Bytes, FsKind, Labels, MkfsOptions, Name, PvId, VgState, VolumeId, VolumePath, VolumeState, defect};

use crate::engine::{Done, Engine, find_volume};
use crate::error::EngineError;
use crate::host::HostMut;
use crate::jobs::{JobKind, JobState, id_of};
use crate::moving::Task;
use crate::placement::PlaceOn;
use crate::vg::OpenVg;

/// How much is filled, and how long it takes, until that is noted: what is done once more after a crash.
const NOTE_BYTES: u64 = Bytes::GIB;
/// See [`NOTE_BYTES`].
const NOTE_TIME: Duration = Duration::from_secs(2);
/// How often somebody who waits for a volume that another fills looks whether to go on waiting.
const PATIENCE: Duration = Duration::from_millis(100);

/// `volume create --thick` as asked for.
#[derive(Clone, Debug)]
pub struct CreateThick {
    pub path: VolumePath,
    pub size: Bytes,
    pub layout: Layout,
    /// On which PVs; whether without gaps is the layout's to say.
    pub place: PlaceOn,
    pub fs: Option<FsKind>,
    pub labels: Labels,
    /// Protected from the moment on at which it is there.
    pub protect: bool,
    /// Of no meaning without a file system.
    pub mkfs: MkfsOptions,
}

/// How far a volume is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// From another volume; else with zeroes.
    pub copy: bool,
    /// Of the part that is filled: where that begins in the volume is not counted.
    pub done: Bytes,
    pub total: Bytes,
}

/// Volumes that are being filled now, each by one thread.
#[derive(Debug, Default)]
pub struct Fills {
    under_way: Mutex<BTreeMap<VolumeId, Option<Fill>>>,
    ended: Condvar,
    halted: AtomicBool,
}

impl Fills {
    fn under_way(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Option<Fill>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// How many are filled, and what is left of that, as far as it is known.
    pub(crate) fn left(&self) -> (usize, Bytes) {
        let under_way = self.under_way();
        let left = |fill: &Fill| fill.total.get().saturating_sub(fill.done.get());
        (under_way.len(), Bytes(under_way.values().flatten().map(left).sum()))
    }
    fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }
    /// Waits until nobody else fills it; `None` if `go_on` says no.
    fn claim(&self, id: VolumeId, go_on: &dyn Fn() -> bool) -> Option<Claim<'_>> {
        let mut under_way = self.under_way();
        while under_way.contains_key(&id) {
            if !go_on() {
                return None;
            }
            under_way = self
                .ended
                .wait_timeout(under_way, PATIENCE)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(it, _)| it);
        }
        under_way.insert(id, None);
        Some(Claim { fills: self, id })
    }
}

/// The right to fill a volume.
struct Claim<'a> {
    fills: &'a Fills,
    id: VolumeId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.fills.under_way().remove(&self.id);
        self.fills.ended.notify_all();
    }
}

type Planned = (Plan, Begun);

impl<H: HostMut> Engine<H> {
    /// Makes a thick volume, and wipes it. It takes as long as that does.
    pub fn create_thick(&self, request: &CreateThick, dry_run: bool) -> Result<Done<VolumeId>, EngineError> {
        let wanted = thick::CreateThick {
            id: VolumeId::from_uuid(self.host().new_uuid()),
            name: request.path.volume.clone(),
            size: request.size,
            layout: request.layout.clone(),
            placement: self.placement(&*self.vg(&request.path.vg)?, &request.place)?,
            fs: request.fs,
            protect: request.protect,
            subdir: request.mkfs.root.subdir.clone(),
            labels: request.labels.clone(),
            now: self.host().now(),
        };
        let name = VolumeName { volume: request.path.volume.clone(), snapshot: None };
        self.fill_after(&request.path.vg, Some(&request.mkfs), dry_run, &name, |catalog, _, missing| {
            thick::create(catalog, missing, &wanted)
        })
    }

    pub(crate) fn is_thick(&self, vg: &Name, name: &VolumeName) -> bool {
        self.vg(vg).is_ok_and(|vg| {
            vg.read(|catalog| catalog.volume_named(name).is_some_and(|volume| volume.thick().is_some()))
        })
    }

    pub(crate) fn clone_thick(
        &self,
        vg: &Name,
        wanted: &clone::CloneVolume,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        // Whoever is just mounting the source is waited for.
        self.fill_after(vg, None, dry_run, &wanted.of, |catalog, kernel, missing| {
            thick::copy(catalog, kernel, missing, wanted, find_volume(catalog, &wanted.of)?)
        })
    }

    pub(crate) fn grow_thick(
        &self,
        vg: &Name,
        name: &VolumeName,
        new: NewSize,
        place: &PlaceOn,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        let placement = self.placement(&*self.vg(vg)?, place)?;
        let place = (&placement, place.contiguous);
        self.fill_after(vg, None, dry_run, name, |catalog, kernel, missing| {
            let volume = find_volume(catalog, name)?;
            thick::grow(catalog, kernel, missing, volume, new, self.mounted_fs_state(kernel, volume), place)
        })
    }

    /// Deletes it for good; its extents are free at once, and wiped when somebody gets them.
    pub(crate) fn delete_thick(
        &self,
        vg: &Name,
        name: &VolumeName,
        dry_run: bool,
    ) -> Result<Done<VolumeId>, EngineError> {
        self.change_volume(vg, name, dry_run, thick::delete)
    }

    /// Carries out the plan that begins a request, and then fills what it says.
    fn fill_after(
        &self,
        vg: &Name,
        mkfs: Option<&MkfsOptions>,
        dry_run: bool,
        about: &VolumeName,
        mut plan: impl FnMut(&Catalog, &Kernel, &[PvId]) -> Result<Planned, Refusal>,
    ) -> Result<Done<VolumeId>, EngineError> {
        let open = self.vg(vg)?;
        if dry_run {
            let (plan, ()) = open.change(self.host(), true, |catalog, kernel, missing| {
                let (plan, begun) = plan(catalog, kernel, missing)?;
                let mkfs = mkfs.map(|options| (self.host().new_uuid().into_bytes(), options));
                Ok((thick::in_full(catalog, kernel, plan, begun, mkfs)?, ()))
            })?;
            return Ok(Done::Planned(plan));
        }
        let about = std::slice::from_ref(about);
        let (plan, begun) = open.change_about(self.host(), false, about, plan)?;
        let Begun { volume, fill } = begun;
        if fill {
            self.fill_or_take_back(&open, volume, mkfs)?;
        }
        Ok(if fill || !plan.is_empty() { Done::Changed(volume) } else { Done::Unchanged(volume) })
    }

    /// What could not be filled is taken back, unless the daemon ends: then it goes on after the next start.
    fn fill_or_take_back(&self, vg: &Arc<OpenVg>, id: VolumeId, mkfs: Option<&MkfsOptions>) -> Result<(), EngineError> {
        let job = vg.read(|catalog| id_of(catalog, catalog.volume(id)?));
        let filled = self.fill(vg, id, mkfs, &|| true);
        if job.as_ref().is_some_and(|job| job.kind == JobKind::Grow && self.job_was_cancelled(job)) {
            return Err(Refusal::new(RefusalCode::Refused, "it was cancelled: the volume is as it was").into());
        }
        let gone = || -> EngineError {
            Refusal::not_found("the volume was deleted while it was being made")
                .hint("`volctl volume list` shows what there is")
                .into()
        };
        let is_handed_out = |catalog: &Catalog| {
            let volume = catalog.volume(id)?;
            Some(volume.state != VolumeState::Creating && !thick::is_filling(catalog, volume))
        };
        match (filled, vg.read(is_handed_out)) {
            // It has its new size in the records, and its device or its file system has not.
            (Err(EngineError::Step(failed)), Some(true)) if !failed.settled => Err(EngineError::Step(failed)),
            (_, Some(true)) => Ok(()),
            (Ok(()), None) => Err(gone()),
            (Err(EngineError::Step(failed)), _) if failed.settled && vg.read(is_handed_out).is_none() => {
                Err(EngineError::Step(failed))
            }
            (Err(error), None) => Err(error),
            (Ok(()), Some(false)) => {
                Err(Refusal::busy("the daemon is ending: it is filled further after the next start")
                    .hint("ask for it again then")
                    .into())
            }
            (Err(error), Some(false)) => {
                let job = vg.read(|catalog| self.job_of(catalog, catalog.volume(id)?));
                let given_up =
                    vg.change(self.host(), false, |catalog, kernel, _| Ok((thick::give_up(catalog, kernel, id), ())));
                if let Err(left) = given_up {
                    tracing::error!(volume = %id, error = %left, "what could not be filled could not be taken back");
                } else if let Some(job) = job {
                    self.job_ended(job, JobState::Failed(error.to_string()));
                }
                Err(error)
            }
        }
    }

    /// Fills a volume from where that has come, and hands it out. Ends soon after `go_on` says no.
    fn fill(
        &self,
        vg: &Arc<OpenVg>,
        id: VolumeId,
        mkfs: Option<&MkfsOptions>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        let go_on = || go_on() && !self.fills.is_halted();
        let Some(_claim) = self.fills.claim(id, &go_on) else { return Ok(()) };
        let job = self.job_begun(vg, id);
        let filled = self.fill_claimed(vg, id, mkfs, &go_on);
        if let Some(job) = job {
            let there = vg.read(|catalog| {
                let one = catalog.volume(id)?;
                Some((id_of(catalog, one) == Some(job.id), job.id.kind == JobKind::Grow && one.size <= job.id.base))
            });
            match (there, &filled) {
                // Not at its end; or it is taken back by whoever asked for it, who says so then.
                (Some((true, _)), _) => {}
                (Some((false, false)), _) => self.job_ended(job, JobState::Done),
                // Deleted, or as it was before.
                (Some((false, true)) | None, Ok(())) => self.job_ended(job, JobState::Cancelled),
                (Some((false, true)) | None, Err(_)) if self.job_is_cancelled(&job.id) => {
                    self.job_ended(job, JobState::Cancelled);
                }
                // mkfs could not be run, for example.
                (Some((false, true)) | None, Err(error)) => self.job_ended(job, JobState::Failed(error.to_string())),
            }
        }
        filled
    }

    fn fill_claimed(
        &self,
        vg: &Arc<OpenVg>,
        id: VolumeId,
        mkfs: Option<&MkfsOptions>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        loop {
            let (_, job) = vg.change(self.host(), false, |catalog, kernel, missing| {
                if let Some(volume) = catalog.volume(id) {
                    thick::whole(volume, missing)?;
                }
                thick::begin(catalog, kernel, id)
            })?;
            let Some(job) = job else { return Ok(()) };
            if job.from >= job.to || defect("thick space is handed out as it is") {
                break;
            }
            let device = Device::Filling(id).uuid();
            let task = match job.copy {
                true => Task::Copy { from: Device::CopySource(id).uuid(), to: device },
                false => Task::Wipe { device },
            };
            let base = job.base.get();
            let wanted = || {
                go_on()
                    && vg.read(|catalog| catalog.volume(id).is_some_and(|volume| thick::is_filling(catalog, volume)))
            };
            let tell = |at: u64| {
                let fill = Fill { copy: job.copy, done: Bytes(at), total: Bytes(job.end.get().saturating_sub(base)) };
                self.fills.under_way().insert(id, Some(fill));
            };
            let (mut noted, mut noted_at) = (job.from.get(), self.host().uptime());
            tell(job.from.get() - base);
            let moved = self.move_blocks(&task, job.from.get() - base, job.to.get() - base, &wanted, &mut |progress| {
                tell(progress.at);
                let at = base.saturating_add(progress.at);
                if at.saturating_sub(noted) >= NOTE_BYTES || self.host().uptime().saturating_sub(noted_at) >= NOTE_TIME
                {
                    self.note_filled(vg, id, Bytes(at))?;
                    (noted, noted_at) = (at, self.host().uptime());
                }
                Ok(())
            });
            let is_wanted = vg.read(|catalog| catalog.volume(id).is_some_and(|one| thick::is_filling(catalog, one)));
            match moved {
                // Deleted meanwhile, and its devices with it: whoever waits finds out.
                _ if !is_wanted => return Ok(()),
                Ok(progress) if !progress.is_done() => {
                    return self.note_filled(vg, id, Bytes(base.saturating_add(progress.at)));
                }
                Ok(_) if job.to >= job.end => break,
                // A copy that is larger than its source: the rest is wiped.
                Ok(_) => self.note_filled(vg, id, job.to)?,
                Err(error) => return Err(error),
            }
        }
        let uuid = self.host().new_uuid().into_bytes();
        let (_, ()) = vg.change(self.host(), false, |catalog, kernel, _| {
            Ok((thick::finish(catalog, kernel, id, mkfs.map(|options| (uuid, options)))?, ()))
        })?;
        Ok(())
    }

    fn note_filled(&self, vg: &Arc<OpenVg>, id: VolumeId, filled: Bytes) -> Result<(), EngineError> {
        vg.change(self.host(), false, |catalog, _, _| Ok((thick::note(catalog, id, filled), ()))).map(|_| ())
    }

    /// Whether somebody is at it.
    pub(crate) fn is_being_filled(&self, id: VolumeId) -> bool {
        self.fills.under_way().contains_key(&id)
    }

    /// Whether somebody fills a volume of this VG now.
    pub(crate) fn is_filling_in(&self, vg: &OpenVg) -> bool {
        let under_way: Vec<VolumeId> = self.fills.under_way().keys().copied().collect();
        vg.read(|catalog| under_way.iter().any(|id| catalog.volume(*id).is_some()))
    }

    /// How far a volume is filled that somebody fills now.
    pub fn filling(&self, id: VolumeId) -> Option<Fill> {
        self.fills.under_way().get(&id).copied().flatten()
    }

    /// All volumes that somebody fills now, with how far they are.
    pub fn all_filling(&self) -> BTreeMap<VolumeId, Fill> {
        self.fills.under_way().iter().filter_map(|(id, fill)| Some((*id, (*fill)?))).collect()
    }

    /// Whether there is something for [`Engine::fill_unfinished`] that nobody is at now.
    pub fn has_unfinished_fills(&self) -> bool {
        self.vgs().iter().any(|vg| {
            vg.read(|catalog| {
                let mut left = catalog.thick_volumes().filter(|one| thick::goes_on_by_itself(catalog, one));
                catalog.vg().state == VgState::Ready && left.any(|one| !self.fills.under_way().contains_key(&one.id))
            })
        })
    }

    /// Goes on with what a dead daemon, or one that ended, was filling; how many volumes were handed out.
    pub fn fill_unfinished(&self, go_on: &dyn Fn() -> bool) -> usize {
        let mut done = 0;
        for vg in self.vgs() {
            let left: Vec<_> = vg.read(|catalog| match catalog.vg().state {
                VgState::Ready => catalog
                    .thick_volumes()
                    .filter(|one| thick::goes_on_by_itself(catalog, one))
                    .map(|one| one.id)
                    .collect(),
                VgState::Creating | VgState::Deleting | VgState::Erasing | VgState::Exported => Vec::new(),
            });
            for id in left {
                if !go_on() {
                    return done;
                }
                // Somebody is at it.
                if self.fills.under_way().contains_key(&id) {
                    continue;
                }
                match self.fill(&vg, id, None, go_on) {
                    Ok(()) => done += 1,
                    Err(error) => {
                        tracing::warn!(volume = %id, %error, "what was cut short cannot be filled now; it is tried again")
                    }
                }
            }
        }
        done
    }

    /// Lets nobody wait any longer for volumes that are filled: the daemon ends. They are filled further after the next start.
    pub fn halt_filling(&self) {
        self.fills.halted.store(true, Ordering::SeqCst);
    }
}
