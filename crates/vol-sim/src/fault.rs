//! What can be made to go wrong with an effect, and when.

use std::collections::BTreeMap;

use vol_engine::host::HostErrorKind;

/// What goes wrong with one effect. The list with its meaning stands in the crate's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens and this error comes back. On a flush, what was pending can no longer be flushed.
    Error(HostErrorKind),
    /// It happens, and this error comes back all the same: late success.
    ErrorAfter(HostErrorKind),
    /// A write reaches the medium in part (some sectors of 512 bytes) and fails with `Io`.
    Torn,
    /// A write or flush is acknowledged and not done.
    LostWrite,
    /// A write is acknowledged, and random bytes are where it should be.
    Junk,
    /// A write is acknowledged, and zeros are where it should be.
    Zeros,
    /// A write is acknowledged, and its data are somewhere else on the device.
    Misdirected,
    /// A pool message returns success, but the commit failed: undone, the pool read-only with `needs_check`.
    MessageCommitFails,
    /// As [`Fault::MessageCommitFails`], but the change did reach the disk.
    MessageCommitFailsLate,
    /// The kernel has no memory for this device-mapper ioctl of the effect (from 1), see [`EffectKind::ioctls`]: `ENOMEM`.
    NoMemory(u8),
    /// As [`Fault::NoMemory`], nor for those after it in the effect.
    NoMemoryFrom(u8),
    KillDaemonBefore,
    /// The daemon dies at this stage (from 1) of a compound effect, see [`EffectKind::stages`].
    KillDaemonInside(u8),
    KillDaemonAfter,
    PowerCutBefore,
    /// As [`Fault::KillDaemonInside`], with the whole machine.
    PowerCutInside(u8),
    PowerCutAfter,
}

impl Fault {
    pub const fn kills_daemon(self) -> bool {
        matches!(self, Self::KillDaemonBefore | Self::KillDaemonInside(_) | Self::KillDaemonAfter)
    }
    pub const fn cuts_power(self) -> bool {
        matches!(self, Self::PowerCutBefore | Self::PowerCutInside(_) | Self::PowerCutAfter)
    }
    /// The effect does not begin.
    pub(crate) const fn prevents(self) -> bool {
        matches!(self, Self::Error(_) | Self::KillDaemonBefore | Self::PowerCutBefore)
    }
}

/// The kinds of effect: one for each call of the changing half, and the writes through an open device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EffectKind {
    OpenWrite,
    Write,
    Flush,
    DurableWrite,
    WipeSignatures,
    RereadPartitions,
    CreateFile,
    DeleteFile,
    AttachLoop,
    DetachLoop,
    RememberFiles,
    DmCreate,
    DmReload,
    DmResume,
    DmRemove,
    DmLink,
    DmMessage,
    ThinSnapshot,
    ZeroDevice,
    Discard,
    Mkfs,
    Mount,
    Bind,
    ShowNode,
    Unmount,
    MakeDirectory,
    RemoveMountPoint,
    PrepareRoot,
    FsGrow,
    FsCheck,
    FsTrim,
    ThinClear,
    ThinRepair,
    WipeSlice,
    CopySlice,
}

impl EffectKind {
    /// How many places inside the effect there are to stop at:
    /// a durable write 1 (written, not flushed) · wiping 1 (the first half of the signatures is gone) · making a file 1 (it is
    /// empty) · `dm_create` 2 (no table; table loaded but not live) · `dm_reload` 1 (loaded, not live) · a pool message 1
    /// (done in memory, not committed: the kernel goes on after the daemon's death, not after a power cut) · thin snapshots
    /// 5 (first origin suspended; first message sent too; all origins suspended, no message sent; all messages sent; first origin
    /// resumed) · zeroing 1 (the first half is done) · mkfs 1 (a partial file system) · growing a file system 1 (it has half of
    /// what is new) · a slice wiped or copied 1 (written, not flushed) · repairing a pool's metadata 1 (the target has no superblock
    /// yet).
    pub const fn stages(self) -> u8 {
        match self {
            Self::ThinSnapshot => 5,
            Self::DmCreate => 2,
            Self::DurableWrite
            | Self::WipeSignatures
            | Self::CreateFile
            | Self::DmReload
            | Self::DmMessage
            | Self::ZeroDevice
            | Self::Mkfs
            | Self::FsGrow
            | Self::ThinRepair
            | Self::WipeSlice
            | Self::CopySlice => 1,
            _ => 0,
        }
    }
    /// Whether it is made of device-mapper ioctls, so that [`Fault::NoMemory`] can strike: `dm_create` create, load, resume, and to take
    /// it back remove · `dm_reload` load, resume, and to go back load, resume · snapshots as many suspends as there are active origins,
    /// then the messages, then as many resumes, each of which is tried for a second · all else one.
    pub const fn ioctls(self) -> bool {
        matches!(
            self,
            Self::DmCreate | Self::DmReload | Self::DmResume | Self::DmRemove | Self::DmMessage | Self::ThinSnapshot
        )
    }
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::DurableWrite)
    }
    pub const fn is_message(self) -> bool {
        matches!(self, Self::DmMessage | Self::ThinSnapshot)
    }
    /// Whether the fault means something for this kind of effect; one that does not is ignored.
    pub const fn can_suffer(self, fault: Fault) -> bool {
        match fault {
            Fault::Torn => self.is_write() || matches!(self, Self::WipeSlice | Self::CopySlice),
            Fault::Junk | Fault::Zeros | Fault::Misdirected => self.is_write(),
            Fault::LostWrite => self.is_write() || matches!(self, Self::Flush),
            Fault::MessageCommitFails | Fault::MessageCommitFailsLate => self.is_message(),
            Fault::NoMemory(ioctl) | Fault::NoMemoryFrom(ioctl) => ioctl >= 1 && self.ioctls(),
            Fault::KillDaemonInside(stage) | Fault::PowerCutInside(stage) => stage >= 1 && stage <= self.stages(),
            _ => true,
        }
    }
}

/// What goes wrong with reads of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    Error,
    /// Somebody is in the way.
    Busy,
    Zeros,
    Junk,
}

/// The faults that are planned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    at: BTreeMap<u64, Fault>,
    from: Option<(u64, Fault)>,
    next: Vec<(EffectKind, Fault)>,
    devices: BTreeMap<String, Fault>,
    /// Device, effects on it to let pass, fault.
    once: Vec<(String, u64, Fault)>,
}

impl Plan {
    pub fn at(&mut self, number: u64, fault: Fault) {
        self.at.insert(number, fault);
    }
    pub fn from(&mut self, number: u64, fault: Fault) {
        self.from = Some((number, fault));
    }
    pub fn next(&mut self, kind: EffectKind, fault: Fault) {
        self.next.push((kind, fault));
    }
    pub fn device(&mut self, device: &str, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.devices.insert(device.to_owned(), fault),
            None => self.devices.remove(device),
        };
    }
    pub fn once(&mut self, device: &str, after: u64, fault: Fault) {
        self.once.push((device.to_owned(), after, fault));
    }
    /// Whether the medium behind a device refuses all writes for good.
    pub fn refuses_writes(&self, device: &str) -> bool {
        matches!(self.devices.get(device), Some(Fault::Error(_)))
    }
    pub fn clear(&mut self) {
        *self = Self::default();
    }
    pub fn may_cut_power(&self) -> bool {
        self.at
            .values()
            .chain(self.next.iter().map(|(_, fault)| fault))
            .chain(self.devices.values())
            .chain(self.once.iter().map(|(_, _, fault)| fault))
            .any(|f| f.cuts_power())
            || self.from.is_some_and(|(_, fault)| fault.cuts_power())
    }
    /// The fault of this effect, if it is to suffer one.
    pub fn take(&mut self, number: u64, kind: EffectKind, device: &str) -> Option<Fault> {
        if let Some(fault) = self.at.remove(&number) {
            return kind.can_suffer(fault).then_some(fault);
        }
        if let Some(at) = self.next.iter().position(|(wanted, _)| *wanted == kind) {
            let (_, fault) = self.next.remove(at);
            return kind.can_suffer(fault).then_some(fault);
        }
        if let Some(at) = self.once.iter().position(|(wanted, _, fault)| wanted == device && kind.can_suffer(*fault)) {
            if self.once[at].1 == 0 {
                return Some(self.once.remove(at).2);
            }
            self.once[at].1 -= 1;
        }
        let sticky = self.devices.get(device).copied();
        sticky.or(self.from.filter(|(from, _)| number >= *from).map(|(_, fault)| fault)).filter(|f| kind.can_suffer(*f))
    }
}
