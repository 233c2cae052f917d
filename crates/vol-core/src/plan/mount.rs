//! Activating, mounting, unmounting. A volume is active only while it is in use.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use vol_types::{Content, FsKind, MountOptions, Name, Volume, VolumeState, defect};

use crate::catalog::{Catalog, VolumeName};
use crate::dm::Device;
use crate::observed::Mount;
use crate::plan::health::{self, Access};
use crate::plan::vg::is_plain_absolute;
use crate::plan::{Kernel, Plan, agreement, fs as file_system, pool_of, thick, volume};
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, Requirement, Step};

/// Longest mount path, in bytes (`limits.h`, `PATH_MAX`, with room for the kernel's own needs).
const TARGET_MAX: usize = 4000;

/// Mounts that would hide what the machine lives on.
const SYSTEM_PATHS: [&str; 12] =
    ["/", "/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/var"];

/// How a volume is to be mounted; from `true`: for reading only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAs {
    pub read_only: bool,
    /// The root of its file system, also if a directory in it is what is handed out.
    pub whole: bool,
    /// The mount point is the daemon's own: without the mount it cannot be written to, and it goes with the mount.
    pub sealed: bool,
}

impl From<bool> for MountAs {
    fn from(read_only: bool) -> Self {
        Self { read_only, ..Self::default() }
    }
}

/// `volume mount` and `snapshot mount`. An empty plan: it is mounted there already.
pub fn mount(
    catalog: &Catalog,
    kernel: &Kernel,
    volume: &Volume,
    target: &Path,
    how: impl Into<MountAs>,
) -> Result<Plan, Refusal> {
    mount_with(catalog, kernel, volume, target, how, &MountOptions::default())
}

/// As [`mount`], with options for this mount besides those of the volume's label: what is given here counts before what stands there.
/// Whether what is mounted at the place already has these options is not looked at.
pub fn mount_with(
    catalog: &Catalog,
    kernel: &Kernel,
    volume: &Volume,
    target: &Path,
    how: impl Into<MountAs>,
    given: &MountOptions,
) -> Result<Plan, Refusal> {
    let MountAs { read_only, whole, sealed } = how.into();
    let name = VolumeName::of(volume);
    let path = format!("{}/{name}", catalog.vg().name);
    good_target(target)?;
    let fs = match &volume.content {
        Content::Formatted { fs, .. } => *fs,
        Content::Raw => {
            return Err(Refusal::invalid(format!(
                "{path} is a raw block volume: it has no file system that volumed made"
            ))
            .hint("make the volume with --fs ext4, xfs or btrfs to mount it"));
        }
        Content::Blank | Content::Formatting { .. } => {
            return Err(Refusal::new(RefusalCode::Refused, format!("{path} was never formatted to the end")));
        }
    };
    if volume.state != VolumeState::Ready {
        return Err(Refusal::busy(format!("{path} is just being made or deleted")));
    }
    let device = Device::Volume(volume.id);
    let options = given.and(&options(volume, fs, &path)?);
    let read_only = read_only || volume.snapshot.is_some() || options.has("ro");
    let whole = whole || defect("the root is mounted instead of the directory");
    let subdir = volume.subdir.as_deref().filter(|_| !whole).cloned();
    let mut plan = Plan::new(format!("mount {path} at {}", target.display()));
    let mounts = kernel.fs_mounts_of(device);
    if let Some(there) = mounts.iter().find(|mount| mount.target == target) {
        if volume.subdir.is_some() && !shows(there, subdir.as_ref()) {
            return Err(Refusal::exists(format!(
                "of {path} another directory is mounted at {}: {}",
                target.display(),
                there.root.display()
            ))
            .hint("unmount it first"));
        }
        return if there.read_only == read_only { Ok(plan) } else { Err(otherwise(&path, there)) };
    }
    // A writable mount tells that the file system is; one that is read-only may be so by itself (see [`bind`]).
    let writable = mounts.iter().any(|mount| !mount.read_only);
    if let Some(other) = mounts.iter().find(|mount| mount.read_only != read_only && (read_only || !writable)) {
        let is = if other.read_only { "read-only" } else { "writable" };
        return Err(Refusal::busy(format!("{path} is mounted {is} at {}", other.target.display()))
            .hint("a file system is mounted either read-only or writable; unmount it first"));
    }
    if let Some(other) = kernel.mounts.iter().find(|mount| mount.target == target) {
        return Err(taken(target, other, "directory"));
    }
    let no_replay;
    match kernel.dm.get(&device) {
        Some(info) if info.suspended || !info.live_table => {
            return Err(Refusal::new(RefusalCode::Degraded, format!("the device of {path} is suspended"))
                .hint("restart volumed: it resumes what was left suspended"));
        }
        // What is mounted already is mounted once more. A device for reading only keeps its journal as it is.
        Some(info) if !mounts.is_empty() => no_replay = info.read_only && volume.snapshot.is_none(),
        active => {
            agreement::not_lost(kernel, volume, &path)?;
            // What is to be checked stays as it is as well: a journal may be what is wrong.
            let unchecked = read_only && volume.check_fs && volume.snapshot.is_none();
            no_replay = access(catalog, kernel, volume, read_only, &path)? == Access::ReadOnly || unchecked;
            let read_only = volume.snapshot.is_some() || no_replay;
            let differs = active.is_some_and(|info| info.read_only != read_only);
            if differs {
                // Left over by a mount of the other kind: a writable one would replay the journal into a refused pool.
                plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
            }
            if differs || active.is_none() {
                let table = volume::table(catalog, volume)?;
                plan.steps.push(
                    Step::new(Action::CreateDm { device, table, read_only }).requires(Requirement::Absent(device)),
                );
            } else if active.is_some_and(|info| file_system::is_short(volume, info)) {
                plan.steps.push(file_system::reload(catalog, volume)?);
            }
        }
    }
    if mounts.is_empty() && !read_only {
        file_system::before_mount(volume, fs, &mut plan);
    }
    let first = mounts.is_empty();
    let target: PathBuf = target.to_owned();
    plan.steps.push(
        Step::new(Action::Mount {
            volume: volume.id,
            name,
            fs,
            subdir,
            target: target.clone(),
            sealed,
            read_only,
            // A clone, of a volume or of a whole VG (`vg import-clone`), brings the same UUIDs, and XFS refuses to mount one of
            // them twice.
            allow_same_uuid: volume.snapshot.is_some() || fs == FsKind::Xfs,
            no_replay,
            // What is mounted to be saved is mounted as carefully as can be.
            options: if no_replay { MountOptions::default() } else { options },
        })
        .requires(Requirement::Active(device))
        .requires(Requirement::NothingMountedAt(target.clone())),
    );
    if first && !read_only {
        plan.push(Action::GrowFs { volume: volume.id, fs, target, must: false });
    }
    Ok(plan)
}

/// What its label asks for. A label is written by anybody who may, and so is looked at anew.
fn options(volume: &Volume, fs: FsKind, path: &str) -> Result<MountOptions, Refusal> {
    let label = volume.labels.get(MountOptions::LABEL).unwrap_or_default();
    MountOptions::parse(Some(fs), label).map_err(|error| {
        Refusal::invalid(format!("{path} is not mounted for its label {}: {error}", MountOptions::LABEL))
            .hint(format!("set another, or take it away: volctl volume label {path} {}-", MountOptions::LABEL))
    })
}

/// Whether a mount shows this directory of the root, or without one the root itself. (What btrfs mounts as its root may be a
/// subvolume, and the paths in the mount table begin above it.)
fn shows(mount: &Mount, subdir: Option<&Name>) -> bool {
    let root = Path::new("/");
    match subdir {
        Some(subdir) if mount.fs_type == FsKind::Btrfs.as_str() => mount.root.ends_with(subdir.as_str()),
        Some(subdir) => mount.root == root.join(subdir.as_str()),
        None => mount.root == root,
    }
}

/// How it may be activated now. A thick volume that is being copied stays as it is meanwhile.
fn access(catalog: &Catalog, kernel: &Kernel, volume: &Volume, read_only: bool, path: &str) -> Result<Access, Refusal> {
    if volume.thick().is_none() {
        return health::access(catalog, kernel, pool_of(catalog, volume, path)?, read_only);
    }
    match thick::not_being_copied(catalog, volume, path, "write to") {
        Ok(()) => Ok(Access::Full),
        Err(_) if read_only => Ok(Access::ReadOnly),
        Err(refusal) => Err(refusal),
    }
}

pub(super) fn good_target(target: &Path) -> Result<(), Refusal> {
    let shown = target.display();
    if !is_plain_absolute(target) {
        return Err(Refusal::invalid(format!("a mount point is an absolute path without . and .., not {shown:?}")));
    }
    if target.as_os_str().len() > TARGET_MAX {
        return Err(Refusal::invalid(format!("a mount point has at most {TARGET_MAX} bytes")));
    }
    if SYSTEM_PATHS.iter().any(|system| Path::new(system) == target) {
        return Err(Refusal::new(
            RefusalCode::Refused,
            format!("mounting over {shown} would hide the system's own files"),
        ));
    }
    Ok(())
}

/// Something else is mounted where a volume is wanted; `what` the other place is to be.
pub(super) fn taken(target: &Path, other: &Mount, what: &str) -> Refusal {
    Refusal::busy(format!(
        "something else is mounted at {} ({} on device {})",
        target.display(),
        other.fs_type,
        other.dev
    ))
    .hint(format!("choose another {what}, or unmount that first"))
}

/// It is mounted there, and for the other access.
fn otherwise(path: &str, there: &Mount) -> Refusal {
    let is = if there.read_only { "read-only" } else { "writable" };
    Refusal::exists(format!("{path} is mounted at {} already, but {is}", there.target.display()))
        .hint("unmount it first")
}

/// Shows a volume that is mounted at `from` at `target` too. An empty plan: it is there already.
///
/// # Errors
/// `busy` (the code of what can be put right by asking again later) if something else is mounted at `target`; `refused` if it is not
/// mounted at `from`: what stands in that directory is another file system's then, and nothing of it may be handed out.
pub fn bind(
    catalog: &Catalog,
    kernel: &Kernel,
    volume: &Volume,
    from: &Path,
    target: &Path,
    read_only: bool,
) -> Result<Plan, Refusal> {
    let name = VolumeName::of(volume);
    let path = format!("{}/{name}", catalog.vg().name);
    good_target(target)?;
    let device = Device::Volume(volume.id);
    let mut plan = Plan::new(format!("show {path} at {}", target.display()));
    let mounts = kernel.fs_mounts_of(device);
    // The top of what is mounted there is what would be shown.
    let top = kernel.mounts.iter().rfind(|mount| mount.target == from);
    let Some(there) = mounts.iter().find(|mount| top.is_some_and(|top| top.mount_id == mount.mount_id)) else {
        return Err(Refusal::new(RefusalCode::Refused, format!("{path} is not mounted at {}", from.display()))
            .hint("it was unmounted behind the back of who mounted it there; mount it there again first"));
    };
    let read_only = read_only || there.read_only;
    if let Some(present) = mounts.iter().find(|mount| mount.target == target) {
        return if present.read_only == read_only { Ok(plan) } else { Err(otherwise(&path, present)) };
    }
    if let Some(other) = kernel.mounts.iter().find(|mount| mount.target == target) {
        return Err(taken(target, other, "directory"));
    }
    let (from, target) = (from.to_owned(), target.to_owned());
    plan.steps.push(
        Step::new(Action::Bind { volume: volume.id, name, from, target: target.clone(), read_only })
            .requires(Requirement::Active(device))
            .requires(Requirement::NothingMountedAt(target)),
    );
    Ok(plan)
}

/// `volume unmount`: from one path, or from everywhere; deactivates what nobody uses any more. Mount points below `own`, the daemon's
/// own directory for them, go with their mounts. An empty plan: it is not mounted, and not active.
pub fn unmount(
    catalog: &Catalog,
    kernel: &Kernel,
    volume: &Volume,
    target: Option<&Path>,
    own: Option<&Path>,
) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    let device = Device::Volume(volume.id);
    let mut plan = Plan::new(format!("unmount {path}"));
    let mounts = kernel.mounts_of(device);
    let (leave, stay): (Vec<_>, Vec<_>) =
        mounts.into_iter().partition(|mount| target.is_none_or(|target| mount.target == target));
    if let (Some(target), true) = (target, leave.is_empty()) {
        let hint = match stay.as_slice() {
            [] => "it is not mounted at all".to_owned(),
            some => {
                let at: Vec<_> = some.iter().map(|mount| mount.target.display().to_string()).collect();
                format!("it is mounted at {}", at.join(", "))
            }
        };
        return Err(Refusal::not_found(format!("{path} is not mounted at {}", target.display())).hint(hint));
    }
    // Mounts on top of each other go in the reverse order.
    for mount in leave.iter().rev() {
        plan.push(Action::Unmount { mount: (*mount).clone() });
    }
    // Left behind, an empty directory would take what a container writes that is given it in the belief that the volume is there.
    let left: BTreeSet<_> = leave.iter().map(|mount| &mount.target).filter(|target| is_own(target, own)).collect();
    for target in left {
        plan.push(Action::RemoveMountPoint { path: target.clone() });
    }
    // Somebody else may have it open: a container that was started meanwhile, in a mount namespace of its own, and then the unmount that
    // was asked for is done all the same; or udev for a moment, and then it goes. Only the kernel can say which, when it is tried.
    let open = kernel.dm.get(&device).map(|info| info.open_count);
    // A device that was handed out itself stays attached: who attached it shows it elsewhere, or detaches it.
    let handed_out = leave.iter().any(|mount| mount.is_node());
    if stay.is_empty() && !handed_out && open.is_some_and(|open| open == 0 || !leave.is_empty()) {
        plan.push(Action::ReleaseDm { device });
    }
    Ok(plan)
}

/// Whether it is a mount point that the daemon makes for itself: `ENGINE/VOLUME` below `own`. Neither the directories that these are made in,
/// nor what lies deeper, which is inside somebody's volume.
pub fn is_own(target: &Path, own: Option<&Path>) -> bool {
    own.is_some() && target.parent().and_then(Path::parent) == own
}

/// `volume attach`: makes the device of a raw volume, for who wants a block device. An empty plan: it is active already.
pub fn attach(catalog: &Catalog, kernel: &Kernel, volume: &Volume) -> Result<Plan, Refusal> {
    raw(catalog, volume)?;
    attach_as(catalog, kernel, volume, false)
}

/// As [`attach`], but the device cannot be written to; of a volume in a refused pool too.
pub fn attach_read_only(catalog: &Catalog, kernel: &Kernel, volume: &Volume) -> Result<Plan, Refusal> {
    raw(catalog, volume)?;
    attach_as(catalog, kernel, volume, true)
}

/// Makes the device of a volume or a snapshot whatever is on it, for who mounts it by its name in `/dev/volumed`: what `/etc/fstab`
/// names at boot. An empty plan: it is active already, and live.
pub fn activate(catalog: &Catalog, kernel: &Kernel, volume: &Volume) -> Result<Plan, Refusal> {
    let device = Device::Volume(volume.id);
    match (kernel.dm.get(&device), &volume.content) {
        (Some(info), _) if info.live_table && !info.suspended => {
            Ok(Plan::new(format!("attach {}/{}", catalog.vg().name, VolumeName::of(volume))))
        }
        (Some(info), _) => Err(Refusal::new(
            RefusalCode::Degraded,
            format!("the device {} of {}/{} is suspended", info.name, catalog.vg().name, VolumeName::of(volume)),
        )
        .hint("restart volumed: it resumes what was left suspended")),
        (None, Content::Raw | Content::Formatted { .. }) => attach_as(catalog, kernel, volume, false),
        (None, Content::Blank | Content::Formatting { .. }) => Err(Refusal::new(
            RefusalCode::Refused,
            format!("{}/{} was never formatted to the end", catalog.vg().name, VolumeName::of(volume)),
        )),
    }
}

pub(super) fn raw(catalog: &Catalog, volume: &Volume) -> Result<(), Refusal> {
    if volume.content == Content::Raw {
        return Ok(());
    }
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    Err(Refusal::new(RefusalCode::Refused, format!("{path} has a file system that volumed looks after"))
        .hint(format!("mount it instead: `volctl volume mount {path} PATH`")))
}

fn attach_as(catalog: &Catalog, kernel: &Kernel, volume: &Volume, read_only: bool) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    if volume.state != VolumeState::Ready {
        return Err(Refusal::busy(format!("{path} is just being made or deleted")));
    }
    let device = Device::Volume(volume.id);
    let mut plan = Plan::new(format!("attach {path}"));
    let read_only = read_only || volume.snapshot.is_some();
    if let Some(info) = kernel.dm.get(&device) {
        if info.read_only != read_only {
            let is = if info.read_only { "for reading only" } else { "writable" };
            return Err(Refusal::exists(format!("{path} is attached already, but {is}")).hint("detach it first"));
        }
    } else {
        agreement::not_lost(kernel, volume, &path)?;
        access(catalog, kernel, volume, read_only, &path)?;
        let table = volume::table(catalog, volume)?;
        plan.steps.push(Step::new(Action::CreateDm { device, table, read_only }).requires(Requirement::Absent(device)));
    }
    Ok(plan)
}

/// `volume detach`: takes the device away if nobody has it open. An empty plan: it is not active.
pub fn detach(catalog: &Catalog, kernel: &Kernel, volume: &Volume) -> Result<Plan, Refusal> {
    let path = format!("{}/{}", catalog.vg().name, VolumeName::of(volume));
    let device = Device::Volume(volume.id);
    volume::not_in_use(kernel, device, &path, "detach")?;
    let mut plan = Plan::new(format!("detach {path}"));
    if kernel.dm.contains_key(&device) {
        plan.steps.push(Step::new(Action::RemoveDm { device }).requires(Requirement::NotOpen(device)));
    }
    Ok(plan)
}
