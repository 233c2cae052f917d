//! Growing volumes with their file systems, checking and trimming file systems (`docs/file-systems.md`).

use std::path::PathBuf;

use vol_types::{Bytes, Change, Content, FsKind, Object, Volume, VolumeState};

use crate::catalog::{Catalog, VolumeName};
use crate::dm::Device;
use crate::observed::{DmInfo, FsCheck, FsState, Mount};
use crate::plan::thin::Batch;
use crate::plan::{Kernel, Plan, agreement, changeable, pool, pool_of, volume, writable_pool};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Requirement, Step};

/// The size that a volume is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewSize {
    To(Bytes),
    /// So much more than it has.
    By(Bytes),
}

/// The file system that volumed made on a volume.
pub const fn kind(volume: &Volume) -> Option<FsKind> {
    match volume.content {
        Content::Formatted { fs, .. } => Some(fs),
        Content::Blank | Content::Formatting { .. } | Content::Raw => None,
    }
}

/// The first place where a volume is mounted writable.
pub fn writable_mount<'a>(kernel: &'a Kernel, volume: &Volume) -> Option<&'a Mount> {
    kernel.fs_mounts_of(Device::Volume(volume.id)).into_iter().find(|mount| !mount.read_only)
}

/// Whether the device of a volume is shorter than the catalog says: a resize was cut short. One that is longer is left alone: what
/// is on it may reach to its end.
pub fn is_short(volume: &Volume, info: &DmInfo) -> bool {
    info.live_table && !info.len.is_zero() && info.len.get() < volume.size.get() / 512
}

/// `volume resize`: the new size is durable first, then the device grows, then the file system if it is mounted writable; if it
/// is not, its next writable mount does that. `fs` is what the file system of an active volume says of itself, if that is known.
/// An empty plan: all have that size.
pub fn resize(
    catalog: &Catalog,
    kernel: &Kernel,
    volume: &Volume,
    new: NewSize,
    fs: Option<FsState>,
) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    if volume.snapshot.is_some() {
        return Err(Refusal::invalid(format!("{path} is a snapshot, and keeps the size that it was taken with")));
    }
    settled(volume, &path)?;
    let pool = pool_of(catalog, volume, &path)?;
    let asked = asked_size(volume, new, &path)?;
    not_smaller(volume, asked, asked.round_up(pool.chunk_size), &path)?;
    let size = volume::rounded_size(asked, kind(volume), pool)?;
    let device = Device::Volume(volume.id);
    let info = kernel.dm.get(&device);
    if info.is_some_and(|info| info.suspended || !info.live_table) {
        return Err(Refusal::new(RefusalCode::Degraded, format!("the device of {path} is suspended"))
            .hint("restart volumed: it resumes what was left suspended"));
    }
    writable_pool(pool, kernel, catalog.intents_of(pool.id).next().is_some())?;
    agreement::not_lost(kernel, volume, &path)?;
    let mut plan = Plan::new(format!("resize {path} to {size}"));
    let grown = Volume { size, ..volume.clone() };
    if size > volume.size {
        pool::has_room(catalog, kernel, &Batch::default(), pool)?;
        volume::within_policy(catalog, &Batch::default(), pool, Bytes(size.get().saturating_sub(volume.size.get())))?;
        plan.commit(vec![Change::Put(Object::Volume(grown.clone()))]);
    }
    if info.is_some_and(|info| is_short(&grown, info)) {
        plan.steps.push(reload(catalog, &grown)?);
    }
    if let (Some(fs_kind), Some(mount)) = (kind(volume), writable_mount(kernel, volume))
        && (size > volume.size || fs.is_none_or(|fs| is_smaller(fs, size)))
    {
        plan.push(Action::GrowFs { volume: volume.id, fs: fs_kind, target: mount.target.clone(), must: true });
    }
    Ok(plan)
}

/// The size that a volume of a settled state is to have.
pub(super) fn asked_size(volume: &Volume, new: NewSize, path: &str) -> Result<Bytes, Refusal> {
    settled(volume, path)?;
    match new {
        NewSize::To(size) => Ok(size),
        NewSize::By(more) => volume.size.checked_add(more).ok_or_else(|| {
            Refusal::invalid(format!("{more} more than {} is more than a block device can have", volume.size))
        }),
    }
}

/// Refuses to shrink. `rounded`: what is asked for, in whole chunks or extents.
pub(super) fn not_smaller(volume: &Volume, asked: Bytes, rounded: Option<Bytes>, path: &str) -> Result<(), Refusal> {
    if !rounded.is_some_and(|size| !size.is_zero() && size < volume.size) {
        return Ok(());
    }
    let hint = match volume.thick() {
        None => {
            "make a smaller volume and copy the files; what is not used takes no space in the pool (`volctl volume trim`)"
        }
        Some(_) => "make a smaller volume and copy the files",
    };
    Err(Refusal::new(
        RefusalCode::Refused,
        format!(
            "{path} has {} and cannot be made smaller: what is behind the new end, at {asked}, would be lost",
            volume.size
        ),
    )
    .hint(hint))
}

/// Whether a file system leaves a part of its volume unused that it can have grown by: a chunk. Less is what does not fill a
/// block, or a last group of blocks that would be too small to be one.
pub fn is_smaller(fs: FsState, size: Bytes) -> bool {
    fs.size.get().saturating_add(vol_types::limit::CHUNK_SIZE_MIN.get()) <= size.get()
}

/// Gives an active device the length that the catalog says.
pub fn reload(catalog: &Catalog, volume: &Volume) -> Result<Step, Refusal> {
    let device = Device::Volume(volume.id);
    let table = volume::table(catalog, volume)?;
    Ok(Step::new(Action::ReloadDm { device, table }).requires(Requirement::Active(device)))
}

fn settled(volume: &Volume, path: &str) -> Result<(), Refusal> {
    if volume.state == VolumeState::Ready {
        return Ok(());
    }
    Err(Refusal::busy(format!("{path} is just being made or deleted")))
}

/// The check before a writable mount: all of it where our record says so, and what the kernel marked otherwise. A check that is
/// passed is the end of the record.
pub(super) fn before_mount(volume: &Volume, fs: FsKind, plan: &mut Plan) {
    let device = Device::Volume(volume.id);
    let check = |how, if_marked| {
        Step::new(Action::CheckFs { volume: volume.id, fs, how, if_marked })
            .requires(Requirement::Active(device))
            .requires(Requirement::NotOpen(device))
    };
    if volume.check_fs {
        plan.steps.push(check(FsCheck::Safe, false));
        plan.commit(vec![Change::Put(Object::Volume(Volume { check_fs: false, ..volume.clone() }))]);
    } else if fs == FsKind::Ext4 {
        plan.steps.push(Step::new(Action::CheckFs { volume: volume.id, fs, how: FsCheck::Safe, if_marked: true }));
    }
}

/// `volume check`: a look at the whole file system, or its repair. Without errors the volume needs no check at its next mount.
pub fn check(catalog: &Catalog, kernel: &Kernel, volume: &Volume, repair: bool) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    let Some(fs) = kind(volume) else {
        return Err(Refusal::invalid(format!("{path} has no file system that volumed made"))
            .hint("what is in a raw volume is checked by whoever made it"));
    };
    if volume.snapshot.is_some() {
        return Err(Refusal::invalid(format!(
            "{path} is a snapshot: a check replays the journal, and a snapshot stays as it is"
        ))
        .hint("check its volume"));
    }
    settled(volume, &path)?;
    if repair && fs == FsKind::Btrfs {
        return Err(Refusal::new(
            RefusalCode::Refused,
            format!("the btrfs of {path} is not repaired by volumed: its tool may make it worse"),
        )
        .hint("mount it with --read-only and copy the files to a new volume"));
    }
    volume::not_in_use(kernel, Device::Volume(volume.id), &path, "check")?;
    changeable(catalog, kernel, volume, &path)?;
    agreement::not_lost(kernel, volume, &path)?;
    let device = Device::Volume(volume.id);
    let mut plan = Plan::new(format!("{} {path}", if repair { "repair" } else { "check" }));
    if kernel.dm.contains_key(&device) {
        // Left over by a mount; it may be one that cannot be written to, or too short.
        plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
    }
    let table = volume::table(catalog, volume)?;
    plan.steps
        .push(Step::new(Action::CreateDm { device, table, read_only: false }).requires(Requirement::Absent(device)));
    let how = if repair { FsCheck::Repair } else { FsCheck::Look };
    plan.steps.push(
        Step::new(Action::CheckFs { volume: volume.id, fs, how, if_marked: false })
            .requires(Requirement::Active(device))
            .requires(Requirement::NotOpen(device)),
    );
    plan.push(Action::RemoveDm { device });
    if volume.check_fs {
        plan.commit(vec![Change::Put(Object::Volume(Volume { check_fs: false, ..volume.clone() }))]);
    }
    Ok(plan)
}

/// That a check found errors is remembered: they are looked for again before the next writable mount.
pub fn mark(volume: &Volume) -> Plan {
    let mut plan = Plan::default();
    if !volume.check_fs {
        plan.title = format!("note that {} needs a check", VolumeName::of(volume));
        plan.commit(vec![Change::Put(Object::Volume(Volume { check_fs: true, ..volume.clone() }))]);
    }
    plan
}

/// Where `volume trim` is done: a mount at which the volume can be written to.
pub fn trim(catalog: &Catalog, kernel: &Kernel, volume: &Volume) -> Result<PathBuf, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    if kind(volume).is_none() {
        return Err(Refusal::invalid(format!("{path} has no file system that volumed made: nobody else knows what is in use"))
            .hint("whoever uses a raw volume discards what is free in it, for example with `fstrim` or the mount option discard"));
    }
    settled(volume, &path)?;
    changeable(catalog, kernel, volume, &path)?;
    match writable_mount(kernel, volume) {
        Some(mount) => Ok(mount.target.clone()),
        None => {
            Err(Refusal::invalid(format!("{path} is not mounted writable: only the file system knows what is free"))
                .hint(format!("mount it first: `volctl volume mount {path} PATH`")))
        }
    }
}
