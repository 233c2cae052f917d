//! Disks and images as they stand, read without the daemon: what `volctl debug dump` and `pv check --offline` show.
//!
//! Opened for reading only; a disk that is in use may be read. What is found is `vol_format::examine`'s to say, how the copies
//! of one volume group stand to each other `vol_format::examine::compare`'s.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};

use vol_format::examine::compare::{self, Standing};
use vol_format::examine::{Examination, Severity, examine};
use vol_types::{Bytes, CommitPoint, Object, PvId, VgId};

use crate::{Failure, exit};

mod json;
mod object;
mod text;

pub use json::to_json;
pub use text::{Shown, check_text, to_text};

/// One disk or image.
pub struct Disk {
    pub path: String,
    pub found: Examination,
}

/// A copy among those of its VG.
pub struct CopyStanding {
    /// Index among the disks.
    pub disk: usize,
    pub pv: PvId,
    pub head: CommitPoint,
    pub standing: Standing,
}

/// The copies of one VG, compared.
pub struct Group {
    pub vg: VgId,
    pub name: String,
    /// Index of the disk whose copy is the newest.
    pub chosen: usize,
    /// By the newest catalog: PVs that carry a copy.
    pub members: usize,
    pub copies: Vec<CopyStanding>,
    /// By the newest catalog: members that are not among the disks that were given, with where they were seen last.
    pub absent: Vec<(PvId, String)>,
}

/// Reads all there is to know of a disk or image.
///
/// # Errors
/// It cannot be opened, or is neither a block device nor a file. What cannot be read on it is a finding.
pub fn read(path: &str) -> Result<Disk, Failure> {
    let failed = |error: std::io::Error| Failure::new(exit::FAILURE, format!("{path} cannot be opened: {error}"), None);
    // Before opening: that of a pipe would wait for its other end.
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        let message = format!("{path} is neither a disk nor an image of one");
        return Err(Failure::new(exit::USAGE, message, Some("give block devices or files")));
    }
    let mut file = File::open(path).map_err(failed)?;
    let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let mut read = |offset: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).map(|()| bytes).map_err(|error| error.to_string())
    };
    Ok(Disk { path: path.to_owned(), found: examine(Bytes(size), 512, &mut read) })
}

/// The copies of each VG, compared as an opening does (section 10 of the on-disk format).
pub fn compare(disks: &[Disk]) -> Vec<Group> {
    let mut vgs: Vec<VgId> = disks.iter().filter_map(|disk| disk.found.label.as_ref()).map(|label| label.vg).collect();
    vgs.sort();
    vgs.dedup();
    vgs.into_iter().filter_map(|vg| group(disks, vg)).collect()
}

fn group(disks: &[Disk], vg: VgId) -> Option<Group> {
    let copies: Vec<(usize, PvId, CommitPoint)> = disks
        .iter()
        .enumerate()
        .filter_map(|(at, disk)| {
            let label = disk.found.label.as_ref().filter(|label| label.vg == vg)?;
            Some((at, label.pv, disk.found.head?))
        })
        .collect();
    let (chosen, _, head) = *copies.get(compare::choose(copies.iter().map(|(_, _, head)| head))?)?;
    let best = &disks.get(chosen)?.found;
    let pvs = || best.objects.iter().filter_map(|object| if let Object::Pv(pv) = object { Some(pv) } else { None });
    let left = |id: PvId| pvs().find(|pv| pv.id == id).map_or(&[][..], |pv| pv.left.as_slice());
    let given = |id: PvId| disks.iter().any(|disk| disk.found.copy().is_some_and(|copy| copy.pv == id));
    Some(Group {
        vg,
        name: best
            .objects
            .iter()
            .find_map(|object| if let Object::Vg(vg) = object { Some(vg.name.to_string()) } else { None })?,
        chosen,
        members: pvs().filter(|pv| pv.metadata).count(),
        copies: copies
            .iter()
            .map(|(disk, pv, other)| CopyStanding {
                disk: *disk,
                pv: *pv,
                head: *other,
                standing: compare::standing(&head, &best.known, left(*pv), other),
            })
            .collect(),
        absent: pvs().filter(|pv| pv.metadata && !given(pv.id)).map(|pv| (pv.id, pv.path_hint.clone())).collect(),
    })
}

/// The code to exit with: damage, or copies that do not fit together, come before disks that carry nothing of ours.
pub fn exit_code(disks: &[Disk], groups: &[Group]) -> u8 {
    let unfit = |copy: &CopyStanding| matches!(copy.standing, Standing::Different | Standing::CannotBeProven);
    let damaged = disks.iter().any(|disk| disk.found.worst() == Severity::Damage);
    if damaged || groups.iter().flat_map(|group| &group.copies).any(unfit) {
        exit::WARNINGS
    } else if disks.iter().any(|disk| disk.found.label.is_none()) {
        exit::NOT_FOUND
    } else {
        exit::OK
    }
}
