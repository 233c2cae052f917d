//! Which disks and files may become PVs: the checks that making and extending a VG share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vol_types::{Bytes, Extents, Labels, Name, Pv, PvId, VgId, limit};

use crate::observed::{DevNumber, DiskInfo, DiskKind};
use crate::plan::Plan;
use crate::refusal::{Refusal, RefusalCode};
use crate::step::{Action, PvDevice, Requirement, Step};

/// How a device is laid out as a PV; worked out from its size by `vol-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvLayout {
    pub data_offset: Bytes,
    pub extents: Extents,
}

/// A label of ours that stands on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLabel {
    pub vg: VgId,
    pub vg_name: Name,
    /// Whether the daemon has this VG open.
    pub vg_known: bool,
}

/// A disk that was named in a request.
#[derive(Clone, Debug)]
pub struct DiskCandidate {
    /// As it was asked for.
    pub path: PathBuf,
    /// What the host said of it, or why it could say nothing.
    pub info: Result<DiskInfo, String>,
    pub label: Option<SeenLabel>,
    /// `None`: too small.
    pub layout: Option<PvLayout>,
    pub pv: PvId,
}

/// A backing file that is to be made.
#[derive(Clone, Debug)]
pub struct FileCandidate {
    pub path: PathBuf,
    pub size: Bytes,
    pub exists: bool,
    /// Whether the directory it is to stand in is there.
    pub parent_exists: bool,
    pub layout: Option<PvLayout>,
    pub pv: PvId,
}

/// The one directory that the daemon makes for backing files by itself.
const STATE_DIR: &str = "/var/lib/volumed";

/// Smallest backing file: a PV with room for a pool that can be tried out.
const FILE_SIZE_MIN: Bytes = limit::PV_SIZE_MIN;

/// The disks, if all of them may be taken; else one refusal that tells of every disk that may not.
pub(super) fn usable_disks(disks: &[DiskCandidate], wipe: bool) -> Result<Vec<(&DiskCandidate, &DiskInfo)>, Refusal> {
    let mut usable = Vec::new();
    let mut problems: Vec<(RefusalCode, String)> = Vec::new();
    let mut wipe_would_help = false;
    let mut seen: BTreeMap<DevNumber, &Path> = BTreeMap::new();
    for candidate in disks {
        let path = candidate.path.display();
        let info = match &candidate.info {
            Ok(info) => info,
            Err(error) => {
                problems.push((RefusalCode::NotFound, format!("{path} cannot be used: {error}")));
                continue;
            }
        };
        if let Some(first) = seen.insert(info.identity.dev, &candidate.path) {
            problems.push((
                RefusalCode::Invalid,
                if first == candidate.path {
                    format!("{path} was given twice")
                } else {
                    format!("{} and {path} are the same disk ({})", first.display(), info.node.display())
                },
            ));
            continue;
        }
        match disk_problem(candidate, info, wipe) {
            Some(problem) => {
                wipe_would_help |= problem.wipe_would_help;
                problems.push((problem.code, format!("{path} {}", problem.text)));
            }
            None => usable.push((candidate, info)),
        }
    }
    problems.extend(relation_problems(disks));
    let Some((code, _)) = problems.first() else { return Ok(usable) };
    let texts: Vec<_> = problems.iter().map(|(_, text)| text.as_str()).collect();
    let refusal = Refusal::new(*code, texts.join("; "));
    Err(if wipe_would_help {
        refusal.hint("nothing was written; add --wipe to destroy what is named here, or choose another disk")
    } else {
        refusal.hint("nothing was written; `lsblk -f` shows the disks of this machine")
    })
}

struct DiskProblem {
    code: RefusalCode,
    text: String,
    wipe_would_help: bool,
}

/// Why a disk may not be taken, worst reason first; the text follows its path.
fn disk_problem(candidate: &DiskCandidate, info: &DiskInfo, wipe: bool) -> Option<DiskProblem> {
    let problem = |code, text: String| Some(DiskProblem { code, text, wipe_would_help: false });
    if let Some(label) = &candidate.label {
        let vg = &label.vg_name;
        if label.vg_known || !wipe {
            return problem(RefusalCode::Refused, format!("belongs to the volume group {vg} ({}) already", label.vg));
        }
    }
    if info.dm_uuid.as_deref().is_some_and(|uuid| uuid.starts_with(crate::dm::UUID_PREFIX)) {
        return problem(RefusalCode::Refused, "is a volume of volumed itself".to_owned());
    }
    if !info.mounts.is_empty() {
        let at: Vec<_> = info.mounts.iter().map(|path| path.display().to_string()).collect();
        return problem(RefusalCode::Busy, format!("is mounted at {}", at.join(", ")));
    }
    if info.swap {
        return problem(RefusalCode::Busy, "is in use as swap".to_owned());
    }
    if !info.holders.is_empty() {
        return problem(RefusalCode::Busy, format!("is in use by {}", info.holders.join(", ")));
    }
    if info.read_only {
        return problem(RefusalCode::Refused, "is read-only".to_owned());
    }
    if !matches!(info.sector_size, 512 | 4096) {
        return problem(
            RefusalCode::Invalid,
            format!("has sectors of {} bytes; only 512 and 4096 are supported", info.sector_size),
        );
    }
    if candidate.layout.is_none() || info.identity.size < limit::PV_SIZE_MIN {
        return problem(
            RefusalCode::Invalid,
            format!("is too small: it has {}, a PV needs {} or more", info.identity.size, limit::PV_SIZE_MIN),
        );
    }
    if !info.signatures.is_empty() && !wipe {
        let all: Vec<_> = info.signatures.iter().map(ToString::to_string).collect();
        return Some(DiskProblem {
            code: RefusalCode::Refused,
            text: format!("is not empty, it carries: {}", all.join("; ")),
            wipe_would_help: true,
        });
    }
    None
}

/// Disks that are the same piece of hardware in another way than by number.
pub(super) fn relation_problems(disks: &[DiskCandidate]) -> Vec<(RefusalCode, String)> {
    let known: Vec<_> = disks.iter().filter_map(|disk| Some((&disk.path, disk.info.as_ref().ok()?))).collect();
    let mut problems = Vec::new();
    for (path, info) in &known {
        if let DiskKind::Partition { of } = info.kind
            && let Some((whole, _)) = known.iter().find(|(_, other)| other.identity.dev == of)
        {
            problems.push((
                RefusalCode::Invalid,
                format!("{} is a partition of {}, which was given as well", path.display(), whole.display()),
            ));
        }
    }
    for (at, (path, info)) in known.iter().enumerate() {
        let twin = known[..at].iter().find(|(_, other)| {
            is_world_wide(&info.hardware_id)
                && other.hardware_id == info.hardware_id
                && other.identity.size == info.identity.size
                && other.identity.dev != info.identity.dev
                && !matches!(info.kind, DiskKind::Partition { .. })
        });
        if let Some((first, _)) = twin {
            problems.push((
                RefusalCode::Invalid,
                format!(
                    "{} and {} are two paths to one disk ({}); use the multipath device instead",
                    path.display(),
                    first.display(),
                    info.hardware_id
                ),
            ));
        }
    }
    problems
}

/// Whether an id names one disk in the whole world (SCSI VPD page 83, NVMe identifiers). A bare serial number does not:
/// cheap bridges repeat theirs.
fn is_world_wide(id: &str) -> bool {
    ["naa.", "eui.", "t10.", "nvme.", "uuid."].iter().any(|prefix| id.starts_with(prefix))
}

pub(super) fn usable_files(files: &[FileCandidate]) -> Result<(), Refusal> {
    for (at, file) in files.iter().enumerate() {
        let path = file.path.display();
        if !is_plain_absolute(&file.path) {
            return Err(Refusal::invalid(format!("{path} is not an absolute path without . and ..")));
        }
        if files[..at].iter().any(|other| other.path == file.path) {
            return Err(Refusal::invalid(format!("{path} was given twice")));
        }
        if file.exists {
            return Err(Refusal::exists(format!("{path} exists already; nothing was written"))
                .hint("choose another name, or delete the file if an earlier attempt left it; a file that holds a volume group is \
                       attached with `volctl pv scan --file FILE`"));
        }
        let parent = file.path.parent().unwrap_or(Path::new("/"));
        if !file.parent_exists && parent != Path::new(STATE_DIR) {
            return Err(Refusal::not_found(format!(
                "the directory {} does not exist; nothing was written",
                parent.display()
            ))
            .hint("make it first; if it is a mount point, the file would otherwise land on the wrong file system"));
        }
        if file.layout.is_none() || file.size < FILE_SIZE_MIN {
            return Err(Refusal::invalid(format!(
                "{path} would be too small: {} was asked for, a PV needs {FILE_SIZE_MIN} or more",
                file.size
            )));
        }
        if !file.size.get().is_multiple_of(4096) {
            return Err(Refusal::invalid(format!("the size of {path} must be a multiple of 4096 bytes")));
        }
    }
    Ok(())
}

/// Whether a path is absolute and has no `.` or `..` in it.
pub fn is_plain_absolute(path: &Path) -> bool {
    use std::path::Component;
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

/// Loop devices that we make have sectors of 512 bytes.
pub(super) const LOOP_SECTOR_SIZE: u32 = 512;

pub(super) fn common_sector_size(disks: &[(&DiskCandidate, &DiskInfo)], with_files: bool) -> Result<u32, Refusal> {
    let mut sizes: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (candidate, info) in disks {
        sizes.entry(info.sector_size).or_default().push(candidate.path.display().to_string());
    }
    if with_files {
        sizes.entry(LOOP_SECTOR_SIZE).or_default().push("the files".to_owned());
    }
    if sizes.len() > 1 {
        let each: Vec<_> =
            sizes.iter().map(|(size, paths)| format!("{} of {size} bytes ({})", "sectors", paths.join(", "))).collect();
        return Err(Refusal::invalid(format!(
            "one volume group cannot mix logical sector sizes: {}",
            each.join(" and ")
        ))
        .hint("nothing was written; make a volume group for each kind of disk"));
    }
    Ok(sizes.keys().next().copied().unwrap_or(LOOP_SECTOR_SIZE))
}

/// Appends the steps that make the files, wipe what is to be wiped and open everything as PVs; gives the PVs in the order
/// in which they were asked for, files first, none of them with a copy of the metadata yet.
pub(super) fn prepare(plan: &mut Plan, files: &[FileCandidate], disks: &[(&DiskCandidate, &DiskInfo)]) -> Vec<Pv> {
    let mut pvs = Vec::new();
    let mut opened = Vec::new();
    for file in files {
        let path = file.path.clone();
        plan.steps.push(
            Step::new(Action::CreateFile { path: path.clone(), size: file.size })
                .requires(Requirement::NoFileAt(path.clone())),
        );
        plan.push(Action::AttachLoop { file: path.clone() });
        opened.push((file.pv, PvDevice::File(path.clone())));
        let layout = file.layout.unwrap_or(PvLayout { data_offset: Bytes::ZERO, extents: Extents::ZERO });
        pvs.push(Pv {
            id: file.pv,
            path_hint: path.display().to_string(),
            device_size: file.size,
            data_offset: layout.data_offset,
            extents: layout.extents,
            metadata: false,
            backing_file: Some(path.display().to_string()),
            hardware_id: String::new(),
            left: Vec::new(),
            labels: Labels::default(),
        });
    }
    for (candidate, info) in disks {
        let device = PvDevice::Disk { node: info.node.clone(), identity: info.identity.clone() };
        let unchanged = || Requirement::Unchanged { node: info.node.clone(), identity: info.identity.clone() };
        if !info.signatures.is_empty() {
            plan.steps.push(
                Step::new(Action::WipeSignatures {
                    node: info.node.clone(),
                    identity: info.identity.clone(),
                    signatures: info.signatures.clone(),
                })
                .requires(unchanged()),
            );
        }
        opened.push((candidate.pv, device));
        let layout = candidate.layout.unwrap_or(PvLayout { data_offset: Bytes::ZERO, extents: Extents::ZERO });
        pvs.push(Pv {
            id: candidate.pv,
            path_hint: info.node.display().to_string(),
            device_size: info.identity.size,
            data_offset: layout.data_offset,
            extents: layout.extents,
            metadata: false,
            backing_file: None,
            hardware_id: info.hardware_id.clone(),
            left: Vec::new(),
            labels: Labels::default(),
        });
    }
    for (pv, device) in opened {
        let step = Step::new(Action::OpenPv { pv, device: device.clone() });
        plan.steps.push(match device {
            PvDevice::Disk { node, identity } => step.requires(Requirement::Unchanged { node, identity }),
            PvDevice::File(_) => step,
        });
    }
    pvs
}
