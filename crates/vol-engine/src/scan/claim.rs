//! Whether a disk that carries our label is still ours. A disk that was given away without `vg delete` may keep the label:
//! tools that wipe signatures do not know it, and LUKS, RAID or swap may never write where it stands.

use uuid::Uuid;
use vol_core::observed::{DiskInfo, DiskKind, Signature};
use vol_format::label::Label;
use vol_format::layout::BLOCK;
use vol_format::{layout, mark};
use vol_types::{ObjectKey, PvId, defect};

use crate::engine::Engine;
use crate::host::{BlockRead, HostError, HostErrorKind, HostMut};
use crate::observe::{self, Carries};
use crate::vg::Problem;

impl<H: HostMut> Engine<H> {
    /// Devices on top of a disk that are not ours.
    pub(crate) fn foreign_holders(&self, info: &DiskInfo) -> Vec<String> {
        let own: Vec<String> = match self.host().dm_devices() {
            Ok(devices) => devices.iter().map(|device| format!("dm-{}", device.dev.minor)).collect(),
            Err(_) => Vec::new(),
        };
        let is_own = |holder: &&String| own.iter().any(|name| holder.split(' ').next() == Some(name));
        info.holders.iter().filter(|holder| !is_own(holder)).cloned().collect()
    }

    /// Who else uses the disk, in words that follow "but"; `None` if nobody does.
    pub(super) fn foreign_use(&self, info: &DiskInfo, label: &Label) -> Option<String> {
        self.foreign_use_of(info, Some(label.pv))
    }

    /// As [`Engine::foreign_use`]; without a PV, a mark of any PV counts as ours.
    pub(crate) fn foreign_use_of(&self, info: &DiskInfo, pv: Option<PvId>) -> Option<String> {
        if defect("a label is a licence") {
            return None;
        }
        if let Some(mount) = info.mounts.first() {
            return Some(format!("is mounted at {}", mount.display()));
        }
        if info.swap {
            return Some("is in use as swap".to_owned());
        }
        let holders = self.foreign_holders(info);
        if !holders.is_empty() {
            return Some(format!("is in use by {}", holders.join(", ")));
        }
        self.foreign_signature(info, pv).map(|signature| format!("it carries something else since: {signature}"))
    }

    /// A PV that is there, and that somebody keeps from being used.
    pub(super) fn unopened(&self, id: PvId, info: &DiskInfo, error: &HostError) -> Problem {
        let mut holders = self.host().holders(info.identity.dev);
        holders.extend(info.holders.iter().cloned());
        holders.sort();
        holders.dedup();
        let holders = self.foreign_holders(&DiskInfo { holders, ..info.clone() });
        let node = info.node.display();
        let (held, hint) = match error.kind {
            HostErrorKind::Denied => (
                String::new(),
                format!(
                    "`blockdev --getro {node}` says whether it is read-only; once it is not, it is taken up by itself"
                ),
            ),
            _ if holders.is_empty() => (
                "; who holds it is not known".to_owned(),
                format!(
                    "`lsof {node}` and `lsblk {node}` may say who does; once it is let go of, it is taken up by itself"
                ),
            ),
            _ => (
                format!("; it is held by {}", holders.join(", ")),
                "once it is let go of, it is taken up by itself; `volctl pv scan` looks at once".to_owned(),
            ),
        };
        Problem {
            code: "pv-unopened",
            message: format!(
                "PV {id} on {node} can be read, but not opened for writing, and is not used: {error}{held}"
            ),
            hint,
            subject: Some(ObjectKey::Pv(id)),
        }
    }

    /// What stands on the disk that is not ours; the mark of this PV is, or without one that of any.
    pub(crate) fn foreign_signature<'a>(&self, info: &'a DiskInfo, pv: Option<PvId>) -> Option<&'a Signature> {
        let partition = matches!(info.kind, DiskKind::Partition { .. });
        let is_our_mark = |kind: &str| match pv {
            Some(pv) => self.is_mark_of(info, pv, kind),
            None => kind == "gpt" && self.mark_of(info).is_some(),
        };
        info.signatures.iter().find(|signature| {
            if partition {
                // Behind our own area on a partition the data of volumes reaches to the end, where a user may write what
                // looks like one of these.
                !lives_at_the_end(&signature.kind)
            } else {
                !(signature.usage == "partition table" && is_our_mark(&signature.kind))
            }
        })
    }

    /// Whether a partition table of this kind is the mark of this PV, or what a power cut left of it. Half a mark is a protective
    /// record without a GPT (`PMBR`), a GPT without its entries, or the backup alone.
    fn is_mark_of(&self, info: &DiskInfo, pv: PvId, kind: &str) -> bool {
        let Ok(device) = self.host().open_read(&info.node) else { return false };
        let end = info.identity.size.get() / layout::BLOCK_BYTES * layout::BLOCK_BYTES;
        let read = |offset: u64, len: u64| device.read_at(offset, usize::try_from(len).ok()?).ok();
        let (Some(head), Some(tail)) =
            (read(0, mark::HEAD_LEN), read(end.saturating_sub(mark::TAIL_LEN), mark::TAIL_LEN))
        else {
            return false;
        };
        (kind == "gpt" && mark::is_of(pv, info.sector_size, &head, &tail))
            || mark::is_torn(&head, info.identity.size, info.sector_size, pv)
    }

    /// The PV that the mark on a disk names: the GUID of the first partition of its GPT, if that has our type.
    pub(crate) fn mark_of(&self, info: &DiskInfo) -> Option<Uuid> {
        let device = self.host().open_read(&info.node).ok()?;
        // The entries begin in the third sector, and each begins with its type and its own GUID (UEFI 2.10, 5.3.3).
        let head = device.read_at(0, 4 * BLOCK).ok()?;
        let at = usize::try_from(info.sector_size).unwrap_or(BLOCK).saturating_mul(2);
        let guid =
            |from: usize| head.get(from..from.saturating_add(16)).and_then(|bytes| Uuid::from_slice_le(bytes).ok());
        if guid(at)? == mark::PARTITION_TYPE { guid(at.saturating_add(16)) } else { None }
    }

    /// Whether the device that was opened for writing carries this very label.
    pub(super) fn still_labelled(&self, device: &dyn BlockRead, label: &Label) -> bool {
        match observe::read_label(device) {
            Ok(Carries::Label(found)) => *found == *label,
            _ => false,
        }
    }
}

/// Signatures that stand, or may stand, at the end of a device.
fn lives_at_the_end(kind: &str) -> bool {
    kind.ends_with("raid_member") || matches!(kind, "nilfs2" | "drbd" | "zfs_member")
}
