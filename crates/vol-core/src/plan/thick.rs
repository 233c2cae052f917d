//! Thick volumes: extents of their own, linear or striped, that are wiped before anybody gets them (docs/thick.md, ADR 0012).
//!
//! Making one, copying one and growing one are each begun by a commit that gives it its extents. Then they are *filled*, which is not a
//! plan: whoever carries it out moves blocks through a private device ([`Device::Filling`]) without holding the volume group, and notes
//! every now and then how far that has come ([`note`]). In the end comes a plan that hands them out ([`finish`]). Cut short anywhere, it
//! goes on where it was noted last.

use std::borrow::Cow;

use vol_types::{
    Backing, Bytes, Change, Content, Extents, FsKind, Labels, MkfsOptions, Name, Object, ObjectKey, Placement, PvId,
    Reserve, Segment, Thick, Volume, VolumeId, VolumeState, limit,
};

use crate::allocate::{FreeSpace, Wish, append, placement};
use crate::catalog::{Catalog, VolumeName};
use crate::dm::Device;
use crate::observed::FsState;
use crate::plan::fs::{self, NewSize};
use crate::plan::{Kernel, Plan, clone, grow, volume};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Requirement, Step};

/// How the extents of a thick volume are to lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many PVs share each row; 1: linear.
    pub stripes: u16,
    /// `None`: the usual one. Of no meaning without stripes.
    pub stripe_size: Option<Bytes>,
    /// Without gaps on each PV.
    pub contiguous: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self { stripes: 1, stripe_size: None, contiguous: false }
    }
}

/// `volume create --thick`.
#[derive(Clone, Debug)]
pub struct CreateThick {
    pub id: VolumeId,
    pub name: Name,
    pub size: Bytes,
    pub layout: Layout,
    /// On which PVs. It is not remembered: a growth takes what is near, wherever that is, unless it is told where.
    pub placement: Placement,
    /// `None`: a raw block volume.
    pub fs: Option<FsKind>,
    /// The directory in its root that is handed out.
    pub subdir: Option<Name>,
    pub labels: Labels,
    /// Protected from the moment on at which it is there.
    pub protect: bool,
    pub now: u64,
}

/// What a request came to, besides its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    pub volume: VolumeId,
    /// It is to be filled, and is done when [`finish`] is.
    pub fill: bool,
}

/// The extents for `size`, in whole rows; `None` past 2^64.
fn rounded_up(catalog: &Catalog, size: Bytes, stripes: u16) -> Option<Bytes> {
    let row = catalog.vg().extent_size.get().checked_mul(u64::from(stripes))?;
    Some(Bytes(size.get().checked_next_multiple_of(row)?))
}

pub(super) fn rounded_size(catalog: &Catalog, size: Bytes, fs: Option<FsKind>, stripes: u16) -> Result<Bytes, Refusal> {
    let too_large =
        || Refusal::invalid(format!("{size} is more than a block device can have ({})", limit::VOLUME_SIZE_MAX));
    if size.is_zero() {
        return Err(Refusal::invalid("the size of a volume must be above zero"));
    }
    let rounded = rounded_up(catalog, size, stripes).filter(|size| *size <= limit::VOLUME_SIZE_MAX);
    let rounded = rounded.ok_or_else(too_large)?;
    volume::fits(size, rounded, fs)?;
    Ok(rounded)
}

/// The stripe size to be recorded.
fn stripe_size(catalog: &Catalog, layout: &Layout) -> Result<Bytes, Refusal> {
    let extent = catalog.vg().extent_size;
    if layout.stripes == 0 || layout.stripes > limit::STRIPES_MAX {
        return Err(Refusal::invalid(format!(
            "a volume has between 1 and {} stripes, not {}",
            limit::STRIPES_MAX,
            layout.stripes
        )));
    }
    if layout.stripes == 1 {
        return match layout.stripe_size {
            None => Ok(Bytes::ZERO),
            Some(_) => {
                Err(Refusal::invalid("a stripe size is of no meaning without stripes").hint("add --stripes 2 or more"))
            }
        };
    }
    let size = layout.stripe_size.unwrap_or_else(|| limit::STRIPE_SIZE_DEFAULT.min(extent));
    if !size.get().is_power_of_two() || !(limit::STRIPE_SIZE_MIN..=extent).contains(&size) {
        return Err(Refusal::invalid(format!(
            "a stripe size is a power of two from {} to the extent size ({extent}), not {size}",
            limit::STRIPE_SIZE_MIN
        )));
    }
    Ok(size)
}

/// `volume create --thick`: the commit that gives a new volume its extents. The same request twice is one volume, also if the first
/// one was cut short; the same name with other parameters is refused.
pub fn create(catalog: &Catalog, missing: &[PvId], request: &CreateThick) -> Result<(Plan, Begun), Refusal> {
    let vg = &catalog.vg().name;
    let path = format!("{vg}/{}", request.name);
    let stripe_size = stripe_size(catalog, &request.layout)?;
    let stripes = request.layout.stripes;
    let size = rounded_size(catalog, request.size, request.fs, stripes)?;
    let mut plan = Plan::new(format!("create thick volume {path}"));
    let name = VolumeName { volume: request.name.clone(), snapshot: None };
    if let Some(present) = catalog.volume_named(&name) {
        let begun = same_as(present, size, (stripes, stripe_size), request, &path)?;
        return Ok((plan, begun));
    }
    volume::name_is_free(catalog, &request.name)?;
    placement::check(catalog, missing, &request.placement)?;
    let segments = place(catalog, missing, size, &request.layout, &request.placement, &path)?;
    let thick = Thick { segments, stripes, stripe_size, filled: Bytes::ZERO, wanted: request.fs };
    plan.commit(vec![Change::Put(Object::Volume(Volume {
        id: request.id,
        name: request.name.clone(),
        backing: Backing::Thick(Box::new(thick)),
        size,
        state: VolumeState::Creating,
        content: if request.fs.is_some() { Content::Blank } else { Content::Raw },
        snapshot: None,
        created_at: request.now,
        labels: request.labels.clone(),
        protected: request.protect,
        clone_of: None,
        reserve: Bytes::ZERO,
        check_fs: false,
        deleted_at: None,
        subdir: request.subdir.clone().map(Box::new),
    }))]);
    Ok((plan, Begun { volume: request.id, fill: true }))
}

fn place(
    catalog: &Catalog,
    missing: &[PvId],
    size: Bytes,
    layout: &Layout,
    placement: &Placement,
    path: &str,
) -> Result<Vec<Segment>, Refusal> {
    let count = Extents(size.get() / catalog.vg().extent_size.get().max(1));
    let wish = Wish { count, stripes: layout.stripes, contiguous: layout.contiguous, near: None };
    let where_ = placement::where_in_words(catalog, placement);
    leaves_the_spare(catalog, missing, count, &format!("thick volume {path}"))?;
    FreeSpace::within(catalog, missing, placement)
        .place(&wish)
        .map_err(|shortage| short(catalog, shortage.refusal(catalog, &format!("thick volume {path}"), &where_)))
}

/// Refuses what there is space for, were it not for the extents that are left for repairs (ADR 0013).
fn leaves_the_spare(catalog: &Catalog, missing: &[PvId], count: Extents, what: &str) -> Result<(), Refusal> {
    let free = FreeSpace::of(catalog, |pv| !missing.contains(&pv)).total();
    let spare = grow::spare(catalog);
    if count > free || count <= free.saturating_sub(spare) {
        return Ok(());
    }
    Err(grow::keeps_spare(catalog, &format!("{what} needs {}", catalog.bytes(count)), spare, free))
}

/// What was deleted and is kept has its extents still.
fn short(catalog: &Catalog, refusal: Refusal) -> Refusal {
    let kept = catalog.thick_volumes().filter(|one| one.state == VolumeState::Deleted).count();
    if kept == 0 {
        return refusal;
    }
    Refusal {
        message: format!("{}; {kept} deleted thick volumes keep theirs until their time is over", refusal.message),
        ..refusal
    }
}

fn same_as(
    present: &Volume,
    size: Bytes,
    (stripes, stripe_size): (u16, Bytes),
    request: &CreateThick,
    path: &str,
) -> Result<Begun, Refusal> {
    let mut differs = Vec::new();
    match present.thick() {
        None => differs.push("in a pool".to_owned()),
        Some(thick) => {
            if (thick.stripes, thick.stripe_size) != (stripes, stripe_size) {
                differs.push(match thick.stripes {
                    1 => "linear".to_owned(),
                    many => format!("with {many} stripes of {}", thick.stripe_size),
                });
            }
        }
    }
    if present.size != size {
        differs.push(format!("of {}", present.size));
    }
    let waits_for = present.thick().and_then(|thick| thick.wanted);
    let present_fs = fs::kind(present).or(waits_for);
    if present_fs != request.fs {
        differs.push(format!("with file system {}", present_fs.map_or("none", FsKind::as_str)));
    }
    if present.subdir.as_deref() != request.subdir.as_ref() {
        differs.push(format!("with {} handed out", volume::shown(present)));
    }
    if let Some(of) = &present.clone_of {
        differs.push(format!("a clone of {}", of.volume));
    }
    differs.extend(volume::less_protected(present, request.protect).map(|less| format!("with {less}")));
    differs.extend(volume::other_labels(present, &request.labels));
    if !differs.is_empty() {
        return Err(Refusal::exists(format!("there is a volume {path} already, {}", differs.join(" and ")))
            .hint("choose another name, or delete that volume first"));
    }
    Ok(Begun { volume: present.id, fill: present.state == VolumeState::Creating })
}

/// `volume clone` of a thick volume: the commit that gives the copy its extents. While it is made the source cannot be written to.
pub fn copy(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[PvId],
    request: &clone::CloneVolume,
    source: &Volume,
) -> Result<(Plan, Begun), Refusal> {
    let vg = &catalog.vg().name;
    let (path, of) = (format!("{vg}/{}", request.name), format!("{vg}/{}", request.of));
    let mut plan = Plan::new(format!("copy {of} to {path}"));
    if request.reserve != Reserve::None {
        return Err(Refusal::invalid(format!(
            "{of} is a thick volume, and so is a clone of it: all of its space is its own already"
        ))
        .hint("leave out --reserve"));
    }
    let name = VolumeName { volume: request.name.clone(), snapshot: None };
    if let Some(present) = catalog.volume_named(&name) {
        clone::is_that_clone(catalog, present, Some(source), request, &path, &of)?;
        let begun = Begun { volume: present.id, fill: present.state == VolumeState::Creating };
        return Ok((plan, begun));
    }
    let Some(thick) = source.thick() else {
        return Err(Refusal::invalid(format!("{of} is not a thick volume")));
    };
    volume::name_is_free(catalog, &request.name)?;
    if source.state != VolumeState::Ready {
        return Err(Refusal::busy(format!("{of} is just being made or deleted")).hint("try again in a moment"));
    }
    if is_filling(catalog, source) {
        return Err(Refusal::busy(format!("{of} is just being grown")).hint("try again when that is done"));
    }
    not_written_to(kernel, source, &of)?;
    placement::check(catalog, missing, &request.placement)?;
    let layout = Layout { stripes: thick.stripes, stripe_size: None, contiguous: request.contiguous };
    let size = match request.size {
        None => source.size,
        Some(asked) => {
            let size = rounded_size(catalog, asked, fs::kind(source), thick.stripes)?;
            clone::not_less(source, asked, size, &of)?
        }
    };
    let segments = place(catalog, missing, size, &layout, &request.placement, &path)?;
    let copy = Thick { segments, filled: Bytes::ZERO, wanted: None, ..thick.clone() };
    let copy = clone::begun(request, source, size, Backing::Thick(Box::new(copy)), source.content.clone());
    plan.commit(vec![Change::Put(Object::Volume(copy))]);
    Ok((plan, Begun { volume: request.id, fill: true }))
}

/// Refuses a source that somebody can write to: the copy would be of no one moment.
fn not_written_to(kernel: &Kernel, source: &Volume, path: &str) -> Result<(), Refusal> {
    match kernel.dm.get(&Device::Volume(source.id)) {
        Some(info) if !info.read_only => {
            let mounts = kernel.mounts_of(Device::Volume(source.id));
            let (is, how) = match mounts.first() {
                Some(mount) => {
                    (format!("mounted at {}", mount.target.display()), volume::how_to_unmount(&mounts, path))
                }
                None => ("attached".to_owned(), format!("detach it first: `volctl volume detach {path}`")),
            };
            Err(Refusal::busy(format!("cannot copy {path}: it is {is}, and could change meanwhile")).hint(how))
        }
        _ => Ok(()),
    }
}

/// The copies of a volume that are being made.
pub fn copies_of(catalog: &Catalog, source: VolumeId) -> impl Iterator<Item = &Volume> {
    catalog.thick_volumes().filter(move |one| {
        one.state == VolumeState::Creating && one.clone_of.as_ref().is_some_and(|of| of.id == source)
    })
}

/// Refuses to let go of, or to change, what is being copied; `path` names it.
pub fn not_being_copied(catalog: &Catalog, source: &Volume, path: &str, verb: &str) -> Result<(), Refusal> {
    let Some(copy) = copies_of(catalog, source.id).next() else { return Ok(()) };
    let to = format!("{}/{}", catalog.vg().name, copy.name);
    Err(Refusal::busy(format!("cannot {verb} {path}: it is being copied to {to}"))
        .hint(format!("wait until that is done (`volctl volume show {to}`), or delete the copy")))
}

/// Whether extents of it are still to be filled, or handed out.
pub fn is_filling(catalog: &Catalog, volume: &Volume) -> bool {
    let Some(thick) = volume.thick() else { return false };
    match volume.state {
        VolumeState::Creating => true,
        VolumeState::Ready => thick.capacity(catalog.vg().extent_size) > volume.size,
        VolumeState::Deleting | VolumeState::Deleted => false,
    }
}

/// What there is to be filled, nobody asking: not what is filled and waits for the request that is to give it its file system.
pub fn goes_on_by_itself(catalog: &Catalog, volume: &Volume) -> bool {
    let waits = volume.thick().is_some_and(|thick| thick.wanted.is_some() && thick.filled >= volume.size);
    is_filling(catalog, volume) && !waits && !matches!(volume.content, Content::Formatting { .. })
}

/// The refusal to say where a thin volume lies; `what` names it.
pub fn not_thick(catalog: &Catalog, volume: &Volume, what: &str) -> Refusal {
    let pool = volume.pool().and_then(|pool| catalog.pool(pool));
    let pool = pool.map_or_else(|| "POOL".to_owned(), |pool| pool.name.to_string());
    let pool = format!("{}/{pool}", catalog.vg().name);
    Refusal::invalid(format!("{what} lies in pool {pool}: only a thick volume has extents of its own"))
        .hint(format!("leave out where it is to lie; `volctl pool set {pool} --on PV` says where the pool grows"))
}

/// `volume resize` of a thick volume: the commit that gives it more extents, which are no part of it until they are wiped. They come from
/// PVs that `placement` allows; `contiguous`: right behind what it has.
pub fn grow(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[PvId],
    one: &Volume,
    new: NewSize,
    fs: Option<FsState>,
    (placement, contiguous): (&Placement, bool),
) -> Result<(Plan, Begun), Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(one));
    let Some(thick) = one.thick() else { return Err(Refusal::invalid(format!("{path} is not a thick volume"))) };
    let asked = fs::asked_size(one, new, &path)?;
    let size = rounded_up(catalog, asked, thick.stripes);
    fs::not_smaller(one, asked, size, &path)?;
    let size = rounded_size(catalog, asked, fs::kind(one), thick.stripes)?;
    not_being_copied(catalog, one, &path, "resize")?;
    let mut plan = Plan::new(format!("resize {path} to {size}"));
    let capacity = thick.capacity(catalog.vg().extent_size);
    if capacity > one.size {
        if size > one.size && size != capacity {
            return Err(Refusal::busy(format!("{path} is just being grown to {capacity}"))
                .hint("wait until that is done (`volctl volume show`), then ask again"));
        }
        return Ok((plan, Begun { volume: one.id, fill: true }));
    }
    if size == one.size {
        if let (Some(fs_kind), Some(mount)) = (fs::kind(one), fs::writable_mount(kernel, one))
            && fs.is_none_or(|fs| fs::is_smaller(fs, size))
        {
            plan.push(Action::GrowFs { volume: one.id, fs: fs_kind, target: mount.target.clone(), must: true });
        }
        return Ok((plan, Begun { volume: one.id, fill: false }));
    }
    let more = Extents((size.get() - one.size.get()) / catalog.vg().extent_size.get().max(1));
    placement::check(catalog, missing, placement)?;
    let wish = Wish { count: more, stripes: thick.stripes, contiguous, near: Some(&thick.segments) };
    let (what, where_) = (format!("the growth of {path}"), placement::where_in_words(catalog, placement));
    leaves_the_spare(catalog, missing, more, &what)?;
    let rows = FreeSpace::within(catalog, missing, placement)
        .place(&wish)
        .map_err(|shortage| short(catalog, shortage.refusal(catalog, &what, &where_)))?;
    // Rows of their own until they are wiped: where they begin is where the volume ends.
    let segments = thick.segments.iter().chain(&rows).copied().collect();
    let grown = Thick { segments, filled: one.size, ..thick.clone() };
    plan.commit(vec![put(one, grown)]);
    Ok((plan, Begun { volume: one.id, fill: true }))
}

fn put(one: &Volume, thick: Thick) -> Change {
    Change::Put(Object::Volume(Volume { backing: Backing::Thick(Box::new(thick)), ..one.clone() }))
}

/// What is to be moved to fill a volume, as offsets of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The device that is written to is that of the volume.
    pub volume: VolumeId,
    /// It is a copy, from the device beside it; else zeroes.
    pub copy: bool,
    /// Where the device begins in the volume.
    pub base: Bytes,
    /// What of the volume is to be filled; none if the two are equal.
    pub from: Bytes,
    pub to: Bytes,
    /// Where what is to be filled ends. What lies beyond `to`, of a copy that is larger than its source, is wiped by another job.
    pub end: Bytes,
}

/// Where the part of a volume begins that nobody has yet.
fn unpublished(one: &Volume) -> Bytes {
    if one.state == VolumeState::Creating { Bytes::ZERO } else { one.size }
}

/// Makes the private devices through which a volume is filled. `None`: there is nothing to be filled.
pub fn begin(catalog: &Catalog, kernel: &Kernel, id: VolumeId) -> Result<(Plan, Option<Job>), Refusal> {
    let mut plan = Plan::default();
    let Some((one, thick)) = catalog.volume(id).and_then(|one| Some((one, one.thick()?))) else {
        return Ok((plan, None));
    };
    if !is_filling(catalog, one) {
        return Ok((plan, None));
    }
    let (base, end) = (unpublished(one), thick.capacity(catalog.vg().extent_size));
    let from = thick.filled.max(base);
    // While it is copied from, a volume keeps its size.
    let copied = match (&one.clone_of, one.state) {
        (Some(of), VolumeState::Creating) => catalog.volume(of.id).map_or(end, |source| source.size.min(end)),
        _ => Bytes::ZERO,
    };
    let copy = from < copied;
    let job = Job { volume: id, copy, base, from, to: if copy { copied } else { end }, end };
    if job.from >= job.to {
        return Ok((plan, Some(job)));
    }
    plan.title = format!("fill {}/{}", catalog.vg().name, one.name);
    take_down(kernel, one, &mut plan);
    let device = Device::Filling(id);
    let table = volume::thick_table(catalog, thick, base, end)?;
    plan.steps
        .push(Step::new(Action::CreateDm { device, table, read_only: false }).requires(Requirement::Absent(device)));
    if copy {
        let source = one.clone_of.as_ref().and_then(|of| catalog.volume(of.id));
        let Some((source, of)) = source.and_then(|source| Some((source, source.thick()?))) else {
            return Err(Refusal::not_found(format!("what {} is a copy of is gone", one.name))
                .hint("delete the unfinished copy"));
        };
        not_written_to(kernel, source, &format!("{}/{}", catalog.vg().name, source.name))?;
        let device = Device::CopySource(id);
        let table = volume::thick_table(catalog, of, Bytes::ZERO, source.size)?;
        plan.steps
            .push(Step::new(Action::CreateDm { device, table, read_only: true }).requires(Requirement::Absent(device)));
    }
    Ok((plan, Some(job)))
}

/// Appends the removal of the private devices.
pub(super) fn take_down(kernel: &Kernel, one: &Volume, plan: &mut Plan) {
    for device in [Device::Filling(one.id), Device::CopySource(one.id)] {
        if kernel.dm.contains_key(&device) {
            plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
        }
    }
}

/// Makes durable how far a volume is filled. Empty if that is known, or the volume is not filled any more.
pub fn note(catalog: &Catalog, id: VolumeId, filled: Bytes) -> Plan {
    let mut plan = Plan::default();
    if let Some((one, thick)) = catalog.volume(id).and_then(|one| Some((one, one.thick()?)))
        && is_filling(catalog, one)
        && filled > thick.filled
    {
        plan.title = format!("note how far {} is filled", one.name);
        plan.commit(vec![put(one, Thick { filled, ..thick.clone() })]);
    }
    plan
}

/// Hands out what has been filled: a new volume is made a file system on, if it is to have one, and is ready; one that grows has its
/// new size, and its device and its mounted file system grow with it. `mkfs`: the UUID and options of the file system, from the request
/// that waits for it; without them a volume that is to have one stays as it is.
pub fn finish(
    catalog: &Catalog,
    kernel: &Kernel,
    id: VolumeId,
    mkfs: Option<([u8; 16], &MkfsOptions)>,
) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    let Some((one, thick)) = catalog.volume(id).and_then(|one| Some((one, one.thick()?))) else { return Ok(plan) };
    if !is_filling(catalog, one) {
        return Ok(plan);
    }
    let path = format!("{}/{}", catalog.vg().name, one.name);
    plan.title = format!("hand out {path}");
    if matches!(one.content, Content::Formatting { .. }) {
        // A mkfs that was cut short is recovery's to discard: what it left must not be formatted again, nor handed out.
        return Err(Refusal::new(RefusalCode::Refused, format!("{path} was never formatted to the end")));
    }
    take_down(kernel, one, &mut plan);
    let capacity = thick.capacity(catalog.vg().extent_size);
    let segments = append(&[], &thick.segments, thick.stripes);
    let filled = Thick { segments, filled: capacity, ..thick.clone() };
    match (one.state, thick.wanted, mkfs) {
        (VolumeState::Creating, Some(fs), Some((uuid, options))) => {
            let content = Content::Formatting { fs, uuid };
            let formatting = Volume { content, backing: Backing::Thick(Box::new(filled.clone())), ..one.clone() };
            plan.commit(vec![Change::Put(Object::Volume(formatting))]);
            let done = Volume { backing: Backing::Thick(Box::new(Thick { wanted: None, ..filled })), ..one.clone() };
            let table = volume::table(catalog, &done)?;
            plan.steps.extend(volume::format(&done, table, fs, uuid, options));
        }
        (VolumeState::Creating, Some(_), None) => {
            if thick.filled < capacity {
                plan.commit(vec![put(one, filled)]);
            }
        }
        (VolumeState::Creating, None, _) => {
            let ready = Volume { state: VolumeState::Ready, ..one.clone() };
            plan.commit(vec![put(&ready, filled)]);
        }
        _ => {
            let grown = Volume { size: capacity, backing: Backing::Thick(Box::new(filled)), ..one.clone() };
            plan.commit(vec![Change::Put(Object::Volume(grown.clone()))]);
            if kernel.dm.contains_key(&Device::Volume(id)) {
                plan.steps.push(fs::reload(catalog, &grown)?);
            }
            if let (Some(fs), Some(mount)) = (fs::kind(one), fs::writable_mount(kernel, one)) {
                plan.push(Action::GrowFs { volume: id, fs, target: mount.target.clone(), must: true });
            }
        }
    }
    Ok(plan)
}

/// Takes back what could not be filled: a new volume is gone, one that was to grow has its extents of before. Nobody has had the rest.
pub fn give_up(catalog: &Catalog, kernel: &Kernel, id: VolumeId) -> Plan {
    let mut plan = Plan::default();
    let Some((one, thick)) = catalog.volume(id).and_then(|one| Some((one, one.thick()?))) else { return plan };
    if !is_filling(catalog, one) {
        return plan;
    }
    plan.title = format!("take back what could not be filled of {}", one.name);
    if one.state == VolumeState::Creating {
        // Its own too, on which a file system was to be made: who gets the extents next must not share them with a device that is left.
        remove_devices(kernel, one, &mut plan);
        plan.commit(vec![Change::Delete(ObjectKey::Volume(id))]);
        return plan;
    }
    take_down(kernel, one, &mut plan);
    let mut kept = Vec::new();
    let mut left = Extents(one.size.get() / catalog.vg().extent_size.get().max(1));
    for row in thick.segments.chunks(usize::from(thick.stripes).max(1)) {
        if left.is_zero() {
            break;
        }
        left = left.saturating_sub(row.iter().map(|segment| segment.count).sum());
        kept.extend_from_slice(row);
    }
    plan.commit(vec![put(one, Thick { segments: kept, filled: one.size, ..thick.clone() })]);
    plan
}

/// Deletes a thick volume for good, whatever state it is in: one commit, and its extents are free. They are wiped before anybody else
/// gets them, so not now. One that is still being made goes this way too: nobody has had it.
pub fn delete(catalog: &Catalog, kernel: &Kernel, one: &Volume) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(one));
    not_being_copied(catalog, one, &path, "delete")?;
    if one.state != VolumeState::Deleted {
        volume::not_wanted_any_more(catalog, kernel, one, &path)?;
    }
    if matches!(one.content, Content::Formatting { .. }) {
        return Err(Refusal::busy(format!("volume {path} is just being made")).hint("try again in a moment"));
    }
    let mut plan = Plan::new(format!("delete volume {path}"));
    remove_devices(kernel, one, &mut plan);
    plan.commit(vec![Change::Delete(ObjectKey::Volume(one.id))]);
    Ok(plan)
}

/// Appends the removal of all its devices.
pub fn remove_devices(kernel: &Kernel, one: &Volume, plan: &mut Plan) {
    take_down(kernel, one, plan);
    let device = Device::Volume(one.id);
    if kernel.dm.contains_key(&device) {
        plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
    }
}

/// Whether the extents of a thick volume are all on PVs that are there.
pub fn whole(one: &Volume, missing: &[PvId]) -> Result<(), Refusal> {
    let gone = one.thick().and_then(|thick| thick.segments.iter().find(|segment| missing.contains(&segment.pv)));
    match gone {
        Some(segment) => Err(Refusal::new(
            RefusalCode::Degraded,
            format!("PV {}, which has extents of thick volume {}, is missing", segment.pv, one.name),
        )
        .hint("attach the disk again: it is taken up by itself; if not, run `volctl pv scan`")),
        None => Ok(()),
    }
}

/// All that comes of a request, for who only wants to see it: `plan` with the filling and the handing out of `begun` behind it.
pub fn in_full(
    catalog: &Catalog,
    kernel: &Kernel,
    mut plan: Plan,
    begun: Begun,
    mkfs: Option<([u8; 16], &MkfsOptions)>,
) -> Result<Plan, Refusal> {
    if !begun.fill {
        return Ok(plan);
    }
    let mut after = catalog.clone();
    let apply = |after: &mut Catalog, plan: &Plan| {
        for changes in plan.commits() {
            after.commit(after.sequence().saturating_add(1), changes.clone());
        }
    };
    apply(&mut after, &plan);
    let mut kernel = Cow::Borrowed(kernel);
    loop {
        let (devices, job) = begin(&after, &kernel, begun.volume)?;
        plan.steps.extend(devices.steps);
        kernel = Cow::Owned(Kernel { dm: own(&kernel, begun.volume), ..kernel.into_owned() });
        let Some(Job { volume, copy, from, to, .. }) = job.filter(|job| job.from < job.to) else { break };
        plan.push(Action::Fill { volume, copy, from, to });
        let noted = note(&after, volume, to);
        apply(&mut after, &noted);
        plan.steps.extend(
            [Device::Filling(volume), Device::CopySource(volume)]
                .into_iter()
                .take(if copy { 2 } else { 1 })
                .map(|device| Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device))),
        );
    }
    plan.steps.extend(finish(&after, &kernel, begun.volume, mkfs)?.steps);
    Ok(plan)
}

/// The devices without the private ones of a volume, whose removal stands in the plan already.
fn own(kernel: &Kernel, id: VolumeId) -> std::collections::BTreeMap<Device, crate::observed::DmInfo> {
    let private = [Device::Filling(id), Device::CopySource(id)];
    kernel
        .dm
        .iter()
        .filter(|(device, _)| !private.contains(device))
        .map(|(device, info)| (*device, info.clone()))
        .collect()
}
