//! What a clause may do to a machine besides calling the product's host traits.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use vol_core::dm::Device;
use vol_core::observed::{DevNumber, DmInfo, PoolMode, PoolStatus, PoolUsage, TargetLine, TargetStatus, ThinStatus};
use vol_engine::host::{BlockWrite, DmCreate, HostErrorKind, HostMut, HostRead, HostResult, ThinSnapshot};
use vol_types::{Bytes, PoolId, Sectors, VolumeId};

/// What came of I/O that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It has not come back: the device is suspended.
    Waits,
    Failed(HostErrorKind),
}

/// What has a disk under a pool in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frailty {
    /// As it should be.
    Sound,
    /// Writes fail, reads go on.
    Writes,
    /// Reads and writes fail.
    All,
}

/// A machine, real or simulated, and the hands that touch it past the product.
///
/// Everything made through it is gone when it is dropped, whatever state it is in.
pub trait Bench {
    type Host: HostMut;

    fn host(&self) -> &Self::Host;
    /// A directory of the test's own, without links in it.
    fn dir(&self) -> PathBuf;
    /// A name that this bench has not given before.
    fn fresh(&self, prefix: &str) -> String;
    /// Will take down the dm device with this uuid at the end, if it is there then.
    fn note(&self, uuid: &str);
    /// Will unmount this at the end.
    fn note_mount(&self, target: &Path);
    /// Will detach this at the end.
    fn note_loop(&self, node: &Path);

    /// Waits until nobody (udev) looks at new devices any more.
    fn quiet(&self);

    /// A blank disk whose [`Frailty`] can be set.
    fn frail_disk(&self, size: Bytes) -> PathBuf;
    fn set_frailty(&self, disk: &Path, frailty: Frailty);
    /// Completed writes to a frail disk.
    fn writes_of(&self, disk: &Path) -> u64;

    /// Somebody else sets or takes back the write protection of a disk.
    fn set_read_only(&self, disk: &Path, read_only: bool);
    /// The file behind a loop device becomes larger or smaller, and the device with it.
    fn resize(&self, disk: &Path, size: Bytes);
    /// A second disk with the same bytes.
    fn clone_disk(&self, disk: &Path) -> PathBuf;
    /// Somebody else makes an ext4 directly on a disk.
    fn make_ext4(&self, disk: &Path);
    /// Forgets what is cached of a disk.
    fn drop_caches(&self, disk: &Path);

    /// Writes `len` bytes of value `byte` durably into a dm device, as its user does.
    fn write(&self, dm: &DmInfo, offset: u64, len: u64, byte: u8) -> Result<(), Trouble>;
    /// Writes 4096 bytes without making them durable; the kernel then has something to commit.
    fn write_unflushed(&self, dm: &DmInfo, offset: u64);
    /// Reads 4096 bytes that must be alike: their value.
    fn read(&self, dm: &DmInfo, offset: u64) -> Result<u8, Trouble>;
    /// What came of the I/O that did wait, in order.
    fn settled(&self) -> Vec<Result<(), Trouble>>;
    /// Writes wait a second, not a minute, for space in a pool.
    fn short_patience(&self);

    /// Suspends a dm device past the product.
    fn suspend(&self, uuid: &str);
    /// Makes a dm device without a live table; `loaded`: with the table loaded, but not live.
    fn half_made(&self, device: &DmCreate, loaded: bool);
    /// Opens a device for as long as the answer lives.
    fn hold_device(&self, dm: &DmInfo) -> Box<dyn std::any::Any>;
    /// Has a file open below a mount for as long as the answer lives.
    fn hold_mount(&self, target: &Path) -> Box<dyn std::any::Any>;
    /// Writes a small file durably into a mounted file system; reads one back.
    fn put_file(&self, target: &Path, name: &str, text: &str);
    fn get_file(&self, target: &Path, name: &str) -> Option<String>;
    /// A symbolic link at a fresh path.
    fn symlink(&self) -> PathBuf;
}

/// A blank disk, a loop device over a file.
pub fn disk<B: Bench>(b: &B, size: Bytes) -> PathBuf {
    file_disk(b, size).1
}

/// A file and the loop device over it.
pub fn file_disk<B: Bench>(b: &B, size: Bytes) -> (PathBuf, PathBuf) {
    let file = b.dir().join(b.fresh("disk"));
    b.host().create_file(&file, size).unwrap();
    let node = b.host().attach_loop(&file).unwrap();
    b.note_loop(&node);
    (file, node)
}

pub fn number<B: Bench>(b: &B, node: &Path) -> DevNumber {
    b.host().open_read(node).unwrap().identity().dev
}

pub fn open<B: Bench>(b: &B, node: &Path) -> std::sync::Arc<dyn BlockWrite> {
    b.host().open_write(node, &b.host().inspect(node).unwrap().identity).unwrap()
}

/// The node of a dm device.
pub fn node(dm: &DmInfo) -> PathBuf {
    PathBuf::from(format!("/dev/dm-{}", dm.dev.minor))
}

/// The error's kind alone: texts may differ.
pub fn kind<T>(result: HostResult<T>) -> Result<T, HostErrorKind> {
    result.map_err(|error| {
        println!("  {error}");
        error.kind
    })
}

pub fn refused<T>(result: HostResult<T>) -> HostErrorKind {
    match kind(result) {
        Err(kind) => kind,
        Ok(_) => panic!("it was not refused"),
    }
}

pub fn volume() -> Device {
    Device::Volume(VolumeId::from_uuid(Uuid::new_v4()))
}

pub fn line(start: u64, len: u64, target: &str, params: impl Into<String>) -> TargetLine {
    TargetLine { start: Sectors(start), len: Sectors(len), target: target.to_owned(), params: params.into() }
}

pub fn linear(start: u64, len: u64, dev: DevNumber, offset: u64) -> TargetLine {
    line(start, len, "linear", format!("{dev} {offset}"))
}

pub fn sectors(bytes: Bytes) -> u64 {
    bytes.get() / 512
}

pub fn creation(device: Device, table: Vec<TargetLine>) -> DmCreate {
    let (name, uuid, private) = (device.name(), device.uuid(), device.is_private());
    DmCreate { name, uuid, table, read_only: false, private, link: None }
}

/// Tries to make a dm device.
pub fn try_map<B: Bench>(b: &B, device: Device, table: Vec<TargetLine>) -> Result<DmInfo, HostErrorKind> {
    b.note(&device.uuid());
    kind(b.host().dm_create(&creation(device, table)))?;
    Ok(info(b, &device.uuid()))
}

pub fn map<B: Bench>(b: &B, device: Device, table: Vec<TargetLine>) -> DmInfo {
    try_map(b, device, table).unwrap()
}

/// A dm device that must be there. Its open count is left out: udev may be looking at it ([`open_count`]).
pub fn info<B: Bench>(b: &B, uuid: &str) -> DmInfo {
    DmInfo { open_count: 0, ..b.host().dm_device(uuid).unwrap().unwrap() }
}

/// How often a device is open, when udev has closed it.
pub fn open_count<B: Bench>(b: &B, uuid: &str) -> u32 {
    b.quiet();
    b.host().dm_device(uuid).unwrap().unwrap().open_count
}

/// All dm devices of ours, without their open counts.
pub fn listed<B: Bench>(b: &B) -> Vec<DmInfo> {
    b.host().dm_devices().unwrap().into_iter().map(|info| DmInfo { open_count: 0, ..info }).collect()
}

/// How a pool is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub metadata: Bytes,
    pub data: Bytes,
    /// In sectors.
    pub chunk: u64,
    /// What follows the low-water mark: the count of features, and they.
    pub features: &'static str,
}

impl Default for Spec {
    /// As the product makes them: no features, so that new chunks are zeroed and writes wait for space.
    fn default() -> Self {
        Self { metadata: Bytes::mib(8), data: Bytes::mib(16), chunk: CHUNK, features: "0" }
    }
}

/// Sectors of a chunk, unless a clause says otherwise: 64 KiB.
pub const CHUNK: u64 = 128;
/// The same in bytes.
pub const CHUNK_BYTES: u64 = CHUNK * 512;

/// A pool on two frail disks.
pub struct Pool<'a, B: Bench> {
    pub b: &'a B,
    pub spec: Spec,
    pub id: PoolId,
    pub uuid: String,
    pub metadata_disk: PathBuf,
    pub data_disk: PathBuf,
    pub metadata: DmInfo,
    pub data: DmInfo,
}

impl<'a, B: Bench> Pool<'a, B> {
    /// An active pool on blank disks.
    pub fn new(b: &'a B, spec: Spec) -> Self {
        let pool = Self::inactive(b, spec);
        pool.activate().unwrap();
        pool
    }

    /// Metadata and data devices, twice as large below as asked for, and no pool yet.
    pub fn inactive(b: &'a B, spec: Spec) -> Self {
        let id = PoolId::from_uuid(Uuid::new_v4());
        let layer = |device: Device, size: Bytes| {
            let disk = b.frail_disk(Bytes(size.get() * 2));
            let dev = number(b, &disk);
            (map(b, device, vec![linear(0, sectors(size), dev, 0)]), disk)
        };
        let (metadata, metadata_disk) = layer(Device::PoolMetadata(id), spec.metadata);
        let (data, data_disk) = layer(Device::PoolData(id), spec.data);
        Self { b, spec, id, uuid: Device::Pool(id).uuid(), metadata_disk, data_disk, metadata, data }
    }

    /// The pool's table with the spec's features, for a data device of this size.
    pub fn table(&self, data: Bytes) -> Vec<TargetLine> {
        let Spec { chunk, features, .. } = self.spec;
        let params = format!("{} {} {chunk} 0 {features}", self.metadata.dev, self.data.dev);
        vec![line(0, sectors(data), "thin-pool", params)]
    }

    pub fn activate(&self) -> Result<DmInfo, HostErrorKind> {
        try_map(self.b, Device::Pool(self.id), self.table(self.spec.data))
    }

    pub fn deactivate(&self) {
        self.b.host().dm_remove(&self.uuid).unwrap();
    }

    pub fn reactivate(&self) {
        self.deactivate();
        self.activate().unwrap();
    }

    pub fn dev(&self) -> DevNumber {
        info(self.b, &self.uuid).dev
    }

    /// Makes the metadata or data device `size` large.
    pub fn resize_layer(&self, layer: &DmInfo, disk: &Path, size: Bytes) {
        let table = [linear(0, sectors(size), number(self.b, disk), 0)];
        self.b.host().dm_reload(&layer.uuid, &table).unwrap();
    }

    /// The data device and the pool's table become `size` large.
    pub fn grow_data(&self, size: Bytes) -> Result<(), HostErrorKind> {
        self.resize_layer(&self.data, &self.data_disk, size);
        kind(self.b.host().dm_reload(&self.uuid, &self.table(size)))
    }

    /// The metadata device becomes `size` large; the pool's table is loaded anew, or it would not look.
    pub fn grow_metadata(&self, size: Bytes) -> Result<(), HostErrorKind> {
        self.resize_layer(&self.metadata, &self.metadata_disk, size);
        kind(self.b.host().dm_reload(&self.uuid, &self.table(self.spec.data)))
    }

    pub fn status(&self) -> PoolStatus {
        let status = self.b.host().pool_status(&self.uuid).unwrap();
        // In one look with the device it is the same.
        let (info, again) = self.b.host().dm_status(&self.uuid).unwrap().expect("the pool is there");
        assert_eq!(
            (Some(info), again),
            (self.b.host().dm_device(&self.uuid).unwrap(), TargetStatus::Pool(status.clone()))
        );
        status
    }

    pub fn usage(&self) -> PoolUsage {
        match self.status() {
            PoolStatus::Working(usage) => usage,
            other => panic!("{other:?}"),
        }
    }

    /// Transaction id, mode, needs_check.
    pub fn health(&self) -> (u64, PoolMode, bool) {
        let usage = self.usage();
        (usage.transaction_id, usage.mode, usage.needs_check)
    }

    pub fn used(&self) -> u64 {
        self.usage().used_data
    }

    pub fn message(&self, text: &str) -> Result<(), HostErrorKind> {
        kind(self.b.host().dm_message(&self.uuid, text))
    }

    /// A new thin volume, active.
    pub fn volume(&self, id: u32, size: Bytes) -> DmInfo {
        self.message(&format!("create_thin {id}")).unwrap();
        self.thin(id, size).unwrap()
    }

    pub fn thin(&self, id: u32, size: Bytes) -> Result<DmInfo, HostErrorKind> {
        try_map(self.b, volume(), self.thin_table(id, size))
    }

    pub fn thin_table(&self, id: u32, size: Bytes) -> Vec<TargetLine> {
        vec![line(0, sectors(size), "thin", format!("{} {id}", self.dev()))]
    }

    pub fn snapshot(&self, origin: Option<&DmInfo>, id: u32, origin_id: u32) -> Result<(), HostErrorKind> {
        let origin_uuid = origin.map(|info| info.uuid.clone());
        kind(self.b.host().thin_snapshot(&ThinSnapshot::one(self.uuid.clone(), origin_uuid, id, origin_id)))
    }

    /// Chunks that a volume maps.
    pub fn mapped(&self, thin: &DmInfo) -> u64 {
        match self.b.host().thin_status(&thin.uuid).unwrap() {
            ThinStatus::Working { mapped } => mapped.get() / self.spec.chunk,
            other => panic!("{other:?}"),
        }
    }

    /// Whether a thin id exists: it can be opened.
    pub fn has(&self, id: u32) -> bool {
        match self.thin(id, Bytes::mib(1)) {
            Ok(info) => {
                self.b.host().dm_remove(&info.uuid).unwrap();
                true
            }
            Err(_) => false,
        }
    }
}

/// Removes a dm device that must be there.
pub fn remove<B: Bench>(b: &B, dm: &DmInfo) {
    b.host().dm_remove(&dm.uuid).unwrap();
}
