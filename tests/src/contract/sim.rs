//! The bench over the simulator.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use vol_core::observed::{DmInfo, Signature};
use vol_engine::host::{DmCreate, HostErrorKind, HostMut, HostResult};
use vol_sim::{EffectKind, Fault, ReadFault, SimHost};
use vol_types::Bytes;

use super::bench::{Bench, Frailty, Trouble};

/// A machine in memory.
pub struct SimBench {
    host: SimHost,
    count: Cell<u32>,
    waiting: RefCell<Vec<Waiting>>,
}

enum Waiting {
    Write(DmInfo, u64, u64, u8),
    Read(DmInfo, u64),
}

impl SimBench {
    /// Always possible; an `Option` as that of the real machine.
    pub fn new() -> Option<Self> {
        Some(Self { host: SimHost::new(1), count: Cell::new(0), waiting: RefCell::default() })
    }

    fn try_read(&self, dm: &DmInfo, offset: u64) -> Result<u8, Trouble> {
        let bytes = self.host.read_bytes(dm.dev, offset, 4096).map_err(|error| {
            println!("  {error}");
            trouble(error.kind)
        })?;
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn at {offset}");
        Ok(bytes[0])
    }

    fn try_write(&self, dm: &DmInfo, offset: u64, len: u64, byte: u8) -> Result<(), Trouble> {
        self.host.write_bytes(dm.dev, offset, &vec![byte; len as usize]).map_err(|error| {
            println!("  {error}");
            trouble(error.kind)
        })
    }
}

/// The simulator has no time: what would not come back is `TimedOut`.
fn trouble(kind: HostErrorKind) -> Trouble {
    if kind == HostErrorKind::TimedOut { Trouble::Waits } else { Trouble::Failed(kind) }
}

/// Lets go of something when it is dropped.
struct Held(Box<dyn Fn()>);

impl Drop for Held {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Bench for SimBench {
    type Host = SimHost;

    fn host(&self) -> &SimHost {
        &self.host
    }
    fn dir(&self) -> PathBuf {
        PathBuf::from("/contract")
    }
    fn fresh(&self, prefix: &str) -> String {
        self.count.set(self.count.get() + 1);
        format!("{prefix}{}", self.count.get())
    }
    // It is all gone with the machine.
    fn note(&self, _uuid: &str) {}
    fn note_mount(&self, _target: &Path) {}
    fn note_loop(&self, _node: &Path) {}
    fn quiet(&self) {}

    fn frail_disk(&self, size: Bytes) -> PathBuf {
        super::bench::disk(self, size)
    }
    fn set_frailty(&self, disk: &Path, frailty: Frailty) {
        match frailty {
            Frailty::Sound => self.host.heal_device(disk),
            Frailty::Writes | Frailty::All => self.host.fail_device(disk, Fault::Error(HostErrorKind::Io)),
        }
        self.host.fail_reads(disk, (frailty == Frailty::All).then_some(ReadFault::Error));
    }
    fn writes_of(&self, _disk: &Path) -> u64 {
        0
    }

    fn set_read_only(&self, disk: &Path, read_only: bool) {
        self.host.set_read_only(disk, read_only);
    }
    fn resize(&self, disk: &Path, size: Bytes) {
        self.host.resize_disk(disk, size);
    }
    fn clone_disk(&self, disk: &Path) -> PathBuf {
        let clone = PathBuf::from("/dev").join(self.fresh("clone"));
        self.host.clone_disk(disk, &clone, "clone");
        clone
    }
    fn make_ext4(&self, disk: &Path) {
        let uuid = Some(self.host.new_uuid().to_string());
        let signature = Signature { usage: "filesystem".into(), kind: "ext4".into(), label: None, uuid };
        self.host.add_signature(disk, signature);
    }
    fn drop_caches(&self, _disk: &Path) {}

    fn write(&self, dm: &DmInfo, offset: u64, len: u64, byte: u8) -> Result<(), Trouble> {
        let result = self.try_write(dm, offset, len, byte);
        if result == Err(Trouble::Waits) {
            self.waiting.borrow_mut().push(Waiting::Write(dm.clone(), offset, len, byte));
        }
        result
    }
    fn write_unflushed(&self, dm: &DmInfo, offset: u64) {
        self.try_write(dm, offset, 4096, 1).unwrap();
    }
    fn read(&self, dm: &DmInfo, offset: u64) -> Result<u8, Trouble> {
        let result = self.try_read(dm, offset);
        if result == Err(Trouble::Waits) {
            self.waiting.borrow_mut().push(Waiting::Read(dm.clone(), offset));
        }
        result
    }
    fn settled(&self) -> Vec<Result<(), Trouble>> {
        let again = |waiting| match waiting {
            Waiting::Write(dm, offset, len, byte) => self.try_write(&dm, offset, len, byte),
            Waiting::Read(dm, offset) => self.try_read(&dm, offset).map(drop),
        };
        self.waiting.take().into_iter().map(again).collect()
    }
    fn short_patience(&self) {}

    fn suspend(&self, uuid: &str) {
        self.host.foreign_suspend(uuid);
    }
    fn half_made(&self, device: &DmCreate, loaded: bool) {
        self.host.fail_next(EffectKind::DmCreate, Fault::KillDaemonInside(if loaded { 2 } else { 1 }));
        let made: HostResult<DmInfo> = self.host.dm_create(device);
        assert!(made.is_err());
        self.host.restart();
    }
    fn hold_device(&self, dm: &DmInfo) -> Box<dyn Any> {
        let (host, uuid) = (self.host.clone(), dm.uuid.clone());
        host.hold_device(&uuid, Some("a test"));
        Box::new(Held(Box::new(move || host.hold_device(&uuid, None))))
    }
    fn hold_mount(&self, target: &Path) -> Box<dyn Any> {
        let (host, target) = (self.host.clone(), target.to_path_buf());
        host.hold_mount(&target, "a test");
        Box::new(Held(Box::new(move || host.release_mount(&target))))
    }
    fn put_file(&self, target: &Path, name: &str, text: &str) {
        self.host.put_file(target, name, text.as_bytes()).unwrap();
    }
    fn get_file(&self, target: &Path, name: &str) -> Option<String> {
        self.host.read_file(target, name).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }
    fn symlink(&self) -> PathBuf {
        let link = self.dir().join(self.fresh("link"));
        self.host.add_symlink(&link);
        link
    }
}
