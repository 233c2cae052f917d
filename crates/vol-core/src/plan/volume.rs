//! Making and deleting thin volumes.

use vol_types::{
    Backing, Bytes, Change, Content, Extents, FsKind, IntentId, Labels, MkfsOptions, Name, Object, ObjectKey, Pool,
    PoolId, Reserve, RootDir, Segment, Thick, ThinOp, Volume, VolumeId, VolumeState, defect, limit,
};

use crate::catalog::{Catalog, VolumeName};
use crate::dm::{Device, Table};
use crate::observed::Mount;
use crate::plan::thin::{Batch, ThinChange};
use crate::plan::{Kernel, Plan, agreement, pool, pool_of, reserve, thick, writable_pool};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Requirement, Step};

/// `volume create`.
#[derive(Clone, Debug)]
pub struct CreateVolume {
    pub id: VolumeId,
    pub intent: IntentId,
    pub name: Name,
    /// `None`: the only pool of the VG.
    pub pool: Option<Name>,
    pub size: Bytes,
    /// `None`: a raw block volume.
    pub fs: Option<FsKind>,
    pub fs_uuid: [u8; 16],
    pub labels: Labels,
    /// What is set aside for it in the pool.
    pub reserve: Reserve,
    /// Protected from the moment on at which it is there.
    pub protect: bool,
    pub mkfs: MkfsOptions,
    pub now: u64,
}

/// What a creation came to: a change to be made, or the volume that is there already just as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    Change(Box<ThinChange>),
    Unchanged(VolumeId),
}

/// `volume create`, in one transaction with `batch`. The same request twice is one volume; the same name with other
/// parameters is refused.
pub fn create(catalog: &Catalog, kernel: &Kernel, batch: &Batch, request: &CreateVolume) -> Result<Created, Refusal> {
    let vg = &catalog.vg().name;
    let path = format!("{vg}/{}", request.name);
    let pool = pool::find(catalog, request.pool.as_ref())?;
    let size = rounded_size(request.size, request.fs, pool)?;
    let reserve = reserve::of_size(request.reserve, size, pool, &path)?;
    let name = VolumeName { volume: request.name.clone(), snapshot: None };
    if let Some(present) = catalog.volume_named(&name)
        && !defect("a name is given twice")
    {
        return same_as(present, pool, (size, reserve), request, &path);
    }
    name_is_free(catalog, &request.name)?;
    writable_pool(pool, kernel, catalog.intents_of(pool.id).next().is_some())?;
    pool::has_room(catalog, kernel, batch, pool)?;
    within_policy(catalog, batch, pool, size)?;
    reserve::fits(catalog, kernel, batch, pool, reserve, &path)?;
    let pool = &agreement::raised(batch.pool(pool), kernel);
    let pool_after = take_thin_id(pool)?;
    let volume = Volume {
        id: request.id,
        name: request.name.clone(),
        backing: Backing::Thin { pool: pool.id, thin_id: pool.next_thin_id },
        size,
        state: VolumeState::Creating,
        content: if request.fs.is_some() { Content::Blank } else { Content::Raw },
        snapshot: None,
        created_at: request.now,
        labels: request.labels.clone(),
        protected: request.protect,
        clone_of: None,
        reserve,
        check_fs: false,
        deleted_at: None,
        subdir: request.mkfs.root.subdir.clone().map(Box::new),
    };
    let after = match request.fs {
        None => Volume { state: VolumeState::Ready, ..volume.clone() },
        Some(fs) => Volume { content: Content::Formatting { fs, uuid: request.fs_uuid }, ..volume.clone() },
    };
    let (id, thin_id) = (volume.id, pool.next_thin_id);
    let table = thin_table(pool.id, thin_id, size);
    Ok(Created::Change(Box::new(ThinChange {
        title: format!("create volume {path}"),
        volume: id,
        names: vec![name],
        intent: request.intent,
        before: Vec::new(),
        pool: pool_after,
        promises: size,
        reserves: reserve,
        ops: vec![ThinOp::Create { volume: id, thin_id }],
        message: Step::new(Action::CreateThin { pool: pool.id, thin_id }),
        begin: vec![Change::Put(Object::Volume(volume.clone()))],
        done: vec![Change::Put(Object::Volume(after))],
        then: request.fs.map(|fs| format(&volume, table, fs, request.fs_uuid, &request.mkfs)).unwrap_or_default(),
    })))
}

/// Refuses the name of a pool.
pub(super) fn name_is_free(catalog: &Catalog, name: &Name) -> Result<(), Refusal> {
    if catalog.pool_named(name).is_none() {
        return Ok(());
    }
    Err(Refusal::exists(format!("the name {}/{name} is taken by a pool", catalog.vg().name))
        .hint("pools and volumes of a VG share their names; choose another"))
}

/// mkfs on a volume that has just been made, is recorded as *formatting*, and that nobody has seen.
pub(super) fn format(volume: &Volume, table: Table, fs: FsKind, uuid: [u8; 16], options: &MkfsOptions) -> Vec<Step> {
    let mut plan = Plan::default();
    let device = Device::Volume(volume.id);
    plan.steps
        .push(Step::new(Action::CreateDm { device, table, read_only: false }).requires(Requirement::Absent(device)));
    plan.steps.push(
        Step::new(Action::Mkfs { volume: volume.id, fs, uuid, options: options.clone() })
            .requires(Requirement::Active(device))
            .requires(Requirement::NotOpen(device))
            .requires(Requirement::ProbesEmpty(volume.id)),
    );
    plan.push(Action::VerifyFs { volume: volume.id, fs, uuid });
    // What is recorded is what a mount looks for; owner and mode are of the request.
    let root = RootDir { subdir: volume.subdir.as_deref().cloned(), ..options.root.clone() };
    if !root.is_usual() {
        plan.push(Action::PrepareRoot { volume: volume.id, fs, root });
    }
    // Down before the commit: an unpublished volume costs the kernel nothing. Where udev still looks at it, or a mount of it lives on for a
    // moment in some other mount namespace, it stays active until it is unmounted for the next time: it is complete all the same.
    plan.push(Action::ReleaseDm { device });
    let done = Volume { state: VolumeState::Ready, content: Content::Formatted { fs, uuid }, ..volume.clone() };
    plan.commit(vec![Change::Put(Object::Volume(done))]);
    plan.steps
}

/// The table of a volume, as far as its size says.
pub fn table(catalog: &Catalog, volume: &Volume) -> Result<Table, Refusal> {
    match &volume.backing {
        Backing::Thin { pool, thin_id } => Ok(thin_table(*pool, *thin_id, volume.size)),
        Backing::Thick(thick) => thick_table(catalog, thick, Bytes::ZERO, volume.size),
    }
}

/// The table of the part of a thick volume's segments between two offsets; both are beginnings of rows, or the end.
pub fn thick_table(catalog: &Catalog, thick: &Thick, from: Bytes, to: Bytes) -> Result<Table, Refusal> {
    let damaged = || Refusal::invalid("the record of a thick volume makes no sense").hint("see `volctl pv inspect`");
    let rows = thick_rows(catalog, thick, from, to).ok_or_else(damaged)?;
    let extent = catalog.vg().extent_size;
    let offset = |pv| Some(catalog.pv(pv)?.data_offset);
    let table = match thick.stripes {
        1 => Table::linear(&rows, extent, offset),
        stripes => Table::striped(&rows, stripes, thick.stripe_size, extent, offset),
    };
    table.ok_or_else(damaged)
}

/// The segments of the rows between two offsets; `None` if those are not where rows begin or end.
fn thick_rows(catalog: &Catalog, thick: &Thick, from: Bytes, to: Bytes) -> Option<Vec<Segment>> {
    let mut rows = Vec::new();
    let mut at = Bytes::ZERO;
    for row in thick.segments.chunks(usize::from(thick.stripes).max(1)) {
        let extents: Extents = row.iter().map(|segment| segment.count).sum();
        let end = at.checked_add(extents.to_bytes(catalog.vg().extent_size)?)?;
        match (at >= from, end <= to) {
            (true, true) => rows.extend_from_slice(row),
            (false, _) if end > from => return None,
            (_, false) if at < to => return None,
            _ => {}
        }
        at = end;
    }
    (at >= to).then_some(rows)
}

fn thin_table(pool: PoolId, thin_id: u32, size: Bytes) -> Table {
    Table::Thin { pool: Device::Pool(pool), thin_id, len: vol_types::Sectors(size.get() / 512) }
}

/// The pool with one thin id handed out.
pub fn take_thin_id(pool: &Pool) -> Result<Pool, Refusal> {
    if pool.next_thin_id > limit::THIN_ID_MAX {
        return Err(Refusal::no_space(format!(
            "pool {} has handed out all of its {} thin ids; they are never used twice",
            pool.name,
            limit::THIN_ID_MAX
        ))
        .hint("make a new pool and copy the volumes there"));
    }
    if defect("a thin id is used again") {
        return Ok(pool.clone());
    }
    Ok(Pool { next_thin_id: pool.next_thin_id + 1, ..pool.clone() })
}

/// The size in whole chunks, if kernel and file system can have it.
pub(super) fn rounded_size(size: Bytes, fs: Option<FsKind>, pool: &Pool) -> Result<Bytes, Refusal> {
    let too_large =
        || Refusal::invalid(format!("{size} is more than a block device can have ({})", limit::VOLUME_SIZE_MAX));
    if size.is_zero() {
        return Err(Refusal::invalid("the size of a volume must be above zero"));
    }
    let rounded = size.round_up(pool.chunk_size).ok_or_else(too_large)?;
    if rounded > limit::VOLUME_SIZE_MAX {
        return Err(too_large());
    }
    fits(size, rounded, fs)?;
    Ok(rounded)
}

/// Whether a file system can have a size: the one asked for, and what that is rounded to.
pub(super) fn fits(size: Bytes, rounded: Bytes, fs: Option<FsKind>) -> Result<(), Refusal> {
    if let Some(fs) = fs {
        if rounded < fs.size_min() {
            return Err(Refusal::invalid(format!(
                "{size} is too small for {}, which needs {} or more",
                fs.as_str(),
                fs.size_min()
            )));
        }
        if rounded > fs.size_max() {
            return Err(Refusal::invalid(format!(
                "{size} is too large for {}, which goes up to {}",
                fs.as_str(),
                fs.size_max()
            )));
        }
    }
    Ok(())
}

/// Refuses what would make the pool promise more than it may: `size` on top of its volumes and of `batch`.
pub(super) fn within_policy(catalog: &Catalog, batch: &Batch, pool: &Pool, size: Bytes) -> Result<(), Refusal> {
    let data = catalog.pool_data_size(pool);
    let present = u128::from(catalog.members(pool.id).virtual_size().get()) + batch.promises(pool.id);
    let limit = u128::from(data.get()) * u128::from(pool.overcommit_percent) / 100;
    if present + u128::from(size.get()) > limit {
        let left = limit.saturating_sub(present);
        return Err(Refusal::no_space(format!(
            "{size} is beyond the over-commit limit of pool {}: its volumes may promise {} % of {data}, {} is left",
            pool.name,
            pool.overcommit_percent,
            Bytes(u64::try_from(left).unwrap_or(u64::MAX))
        ))
        .hint("choose a smaller size, or delete volumes that are no longer needed"));
    }
    Ok(())
}

fn same_as(
    present: &Volume,
    pool: &Pool,
    (size, reserve): (Bytes, Bytes),
    request: &CreateVolume,
    path: &str,
) -> Result<Created, Refusal> {
    let present_fs = match &present.content {
        Content::Formatted { fs, .. } | Content::Formatting { fs, .. } => Some(*fs),
        Content::Blank | Content::Raw => None,
    };
    if present.state != VolumeState::Ready {
        return Err(Refusal::busy(format!("volume {path} is just being made")).hint("try again in a moment"));
    }
    let mut differs = Vec::new();
    if present.pool() != Some(pool.id) {
        differs.push("another pool".to_owned());
    }
    if present.size != size {
        differs.push(format!("a size of {}", present.size));
    }
    if present_fs != request.fs {
        differs.push(format!("file system {}", present_fs.map_or("none", FsKind::as_str)));
    }
    if present.reserve != reserve {
        differs.push(format!("a reserve of {}", present.reserve));
    }
    if present.subdir.as_deref() != request.mkfs.root.subdir.as_ref() {
        differs.push(format!("{} handed out", shown(present)));
    }
    differs.extend(less_protected(present, request.protect));
    differs.extend(other_labels(present, &request.labels));
    if differs.is_empty() {
        return Ok(Created::Unchanged(present.id));
    }
    Err(Refusal::exists(format!("there is a volume {path} already, with {}", differs.join(" and ")))
        .hint("choose another name, or delete that volume first"))
}

/// That a volume is not protected that was to be. Protection that was not asked for may have been given to it since.
pub(super) fn less_protected(present: &Volume, wanted: bool) -> Option<String> {
    (wanted && !present.protected).then(|| "no protection".to_owned())
}

/// What of its file system is mounted.
pub(super) fn shown(volume: &Volume) -> String {
    match &volume.subdir {
        Some(subdir) => format!("its directory {subdir}"),
        None => "the root of its file system".to_owned(),
    }
}

/// Of the labels that are asked for those that a volume does not have. What it has besides may have been given to it since.
pub fn other_labels(present: &Volume, wanted: &Labels) -> impl Iterator<Item = String> {
    wanted.iter().filter(|(key, value)| present.labels.get(key) != Some(value)).map(|(key, value)| {
        match present.labels.get(key) {
            Some(other) => format!("label {key}={other}, not {key}={value}"),
            None => format!("no label {key}"),
        }
    })
}

/// `volume delete` and `snapshot delete`, in one transaction with `batch`. Snapshots of a deleted volume stay: they hold data
/// of their own.
pub fn delete(
    catalog: &Catalog,
    kernel: &Kernel,
    batch: &Batch,
    volume: &Volume,
    intent: IntentId,
) -> Result<ThinChange, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    let kind = if volume.snapshot.is_some() { "snapshot" } else { "volume" };
    let device = Device::Volume(volume.id);
    not_wanted_any_more(catalog, kernel, volume, &path)?;
    let pool = pool_of(catalog, volume, &path)?;
    writable_pool(pool, kernel, catalog.intents_of(pool.id).next().is_some())?;
    let Some(thin_id) = volume.thin_id() else { return Err(Refusal::not_found(format!("{path} is in no pool"))) };
    let mut change = removal(batch.pool(pool), volume, thin_id, intent);
    change.title = format!("delete {kind} {path}");
    if kernel.dm.contains_key(&device) {
        change.before.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
    }
    Ok(change)
}

/// Refuses to delete what is protected, mounted or attached.
pub(super) fn not_wanted_any_more(
    catalog: &Catalog,
    kernel: &Kernel,
    volume: &Volume,
    path: &str,
) -> Result<(), Refusal> {
    not_protected(volume, path, "delete")?;
    thick::not_being_copied(catalog, volume, path, "delete")?;
    not_in_use(kernel, Device::Volume(volume.id), path, "delete")?;
    not_attached(kernel, volume, path, "delete")
}

/// Tombstone, `delete` message and done record.
pub fn removal(pool: &Pool, volume: &Volume, thin_id: u32, intent: IntentId) -> ThinChange {
    let tombstone = Volume { state: VolumeState::Deleting, deleted_at: None, ..volume.clone() };
    ThinChange {
        title: format!("take back the unfinished volume {}", VolumeName::of(volume)),
        volume: volume.id,
        names: vec![VolumeName::of(volume)],
        intent,
        before: Vec::new(),
        pool: pool.clone(),
        promises: Bytes::ZERO,
        reserves: Bytes::ZERO,
        ops: vec![ThinOp::Delete { volume: volume.id, thin_id }],
        message: Step::new(Action::DeleteThin { pool: pool.id, thin_id, absent_ok: true }),
        begin: vec![Change::Put(Object::Volume(tombstone))],
        done: vec![Change::Delete(ObjectKey::Volume(volume.id))],
        then: Vec::new(),
    }
}

/// Refuses what is mounted. Whether somebody has the device open is asked when it is taken down, with patience: udev opens
/// devices for a moment whenever they were written to.
pub fn not_in_use(kernel: &Kernel, device: Device, path: &str, verb: &str) -> Result<(), Refusal> {
    let mounts = kernel.mounts_of(device);
    if mounts.is_empty() {
        return Ok(());
    }
    let at: Vec<_> = mounts.iter().map(|mount| mount.target.display().to_string()).collect();
    Err(Refusal::busy(format!("cannot {verb} {path}: it is mounted at {}", at.join(", ")))
        .hint(how_to_unmount(&mounts, path)))
}

/// How it comes that something is not mounted any more. Whatever directory a kubelet has, places of its volumes are called alike in it.
pub(super) fn how_to_unmount(mounts: &[&Mount], path: &str) -> String {
    let of_kubelet = |mount: &&Mount| {
        mount
            .target
            .components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("kubernetes.io~csi" | "kubernetes.io")))
    };
    if mounts.iter().any(of_kubelet) {
        return "delete the pods that use it, and Kubernetes unmounts it; what a kubelet left behind that is gone, `umount` takes away"
            .to_owned();
    }
    let noun = if path.contains('@') { "snapshot" } else { "volume" };
    format!("unmount it first: `volctl {noun} unmount {path}`")
}

/// Refuses a raw volume that is attached. Who attached it may open it at any moment; nobody else can know that it is not
/// wanted any more.
pub fn not_attached(kernel: &Kernel, volume: &Volume, path: &str, verb: &str) -> Result<(), Refusal> {
    let attached = kernel.dm.contains_key(&Device::Volume(volume.id));
    if volume.content != Content::Raw || volume.snapshot.is_some() || !attached {
        return Ok(());
    }
    Err(Refusal::busy(format!("cannot {verb} {path}: it is attached"))
        .hint(format!("detach it first: `volctl volume detach {path}`")))
}

/// Refuses what is protected. Of what is still being made there is nothing to protect yet.
pub fn not_protected(volume: &Volume, path: &str, verb: &str) -> Result<(), Refusal> {
    if !volume.protected || volume.state == VolumeState::Creating {
        return Ok(());
    }
    let noun = if volume.snapshot.is_some() { "snapshot" } else { "volume" };
    Err(Refusal::new(RefusalCode::Refused, format!("cannot {verb} {path}: it is protected"))
        .hint(format!("`volctl {noun} unprotect {path}` takes the protection away")))
}
