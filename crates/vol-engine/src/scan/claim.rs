//! Whether a disk that carries our label is still ours. A disk that was given away without `vg delete` may keep the label:
//! tools that wipe signatures do not know it, and LUKS, RAID or swap may never write where it stands.

use vol_core::observed::{DiskInfo, DiskKind};
use vol_format::label::Label;
use vol_format::layout::BLOCK;
use vol_format::mark;

use crate::engine::Engine;
use crate::host::{BlockRead, HostMut};
use crate::observe::{self, Carries};

impl<H: HostMut> Engine<H> {
    /// Devices on top of a disk that are not ours.
    pub(super) fn foreign_holders(&self, info: &DiskInfo) -> Vec<String> {
        let own: Vec<String> = match self.host().dm_devices() {
            Ok(devices) => devices.iter().map(|device| format!("dm-{}", device.dev.minor)).collect(),
            Err(_) => Vec::new(),
        };
        let is_own = |holder: &&String| own.iter().any(|name| holder.split(' ').next() == Some(name));
        info.holders.iter().filter(|holder| !is_own(holder)).cloned().collect()
    }

    /// Who else uses the disk, in words that follow "but"; `None` if nobody does.
    pub(super) fn foreign_use(&self, info: &DiskInfo, label: &Label) -> Option<String> {
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
        let partition = matches!(info.kind, DiskKind::Partition { .. });
        let foreign = info.signatures.iter().find(|signature| {
            if partition {
                // Behind our own area on a partition the data of volumes reaches to the end, where a user may write what
                // looks like one of these.
                !lives_at_the_end(&signature.kind)
            } else {
                !(signature.usage == "partition table" && self.is_our_mark(info, label, &signature.kind))
            }
        });
        foreign.map(|signature| format!("it carries something else since: {signature}"))
    }

    /// Whether a partition table is the mark of this PV: a GPT whose first partition is, or what a power cut left of one.
    /// Half a mark is a protective record without a GPT (`PMBR`), or a GPT without its entries.
    fn is_our_mark(&self, info: &DiskInfo, label: &Label, kind: &str) -> bool {
        let Ok(device) = self.host().open_read(&info.node) else { return false };
        let Ok(head) = device.read_at(0, usize::try_from(mark::HEAD_LEN).unwrap_or(BLOCK)) else { return false };
        // The entries begin in the third sector, and each begins with its type and its own GUID (UEFI 2.10, 5.3.3).
        let at = usize::try_from(info.sector_size).unwrap_or(BLOCK).saturating_mul(2);
        let guid = |from: usize| head.get(from..from + 16);
        let whole = kind == "gpt"
            && guid(at) == Some(&mark::PARTITION_TYPE.to_bytes_le()[..])
            && guid(at + 16) == Some(&label.pv.uuid().to_bytes_le()[..]);
        whole || mark::is_torn(&head, label.device_size, label.sector_size, label.pv)
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
