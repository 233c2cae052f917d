//! A machine with one disk and, if asked for, a pool on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use vol_core::dm::Device;
use vol_core::observed::{DevNumber, DmInfo, PoolStatus, PoolUsage, TargetLine};
use vol_engine::host::{
    BlockWrite, DmCreate, DurableWrite, HostErrorKind, HostMut, HostRead, HostResult, MountCall, ThinSnapshot,
};
use vol_sim::{SimDisk, SimHost};
use vol_types::{Bytes, FsKind, MkfsOptions, PoolId, Sectors, VolumeId};

pub const CHUNK: u64 = 128;
const SDA: &str = "/dev/sda";

pub fn host() -> SimHost {
    let host = SimHost::new(7);
    host.add_disk(SimDisk::new(SDA, Bytes::gib(1)).hardware_id("wwid-a"));
    host
}

pub fn kind<T>(result: HostResult<T>) -> HostErrorKind {
    result.err().expect("an error").kind
}

pub fn open(host: &SimHost, node: &str) -> Arc<dyn BlockWrite> {
    let identity = host.inspect(Path::new(node)).expect("inspect").identity;
    host.open_write(Path::new(node), &identity).expect("open")
}

pub fn durable(host: &SimHost, device: &Arc<dyn BlockWrite>, offset: u64, data: &[u8]) -> HostResult<()> {
    host.write_durable(&[DurableWrite { device, offset, data }]).remove(0)
}

pub fn dev(host: &SimHost, node: &str) -> DevNumber {
    host.inspect(Path::new(node)).expect("inspect").identity.dev
}

pub fn line(len: u64, target: &str, params: String) -> Vec<TargetLine> {
    vec![TargetLine { start: Sectors(0), len: Sectors(len), target: target.to_owned(), params }]
}

pub fn volume(number: u8) -> Device {
    Device::Volume(VolumeId::from_bytes([number; 16]))
}

pub fn create(host: &SimHost, device: Device, table: Vec<TargetLine>) -> HostResult<DmInfo> {
    create_as(host, device, table, false)
}

pub fn create_as(host: &SimHost, device: Device, table: Vec<TargetLine>, read_only: bool) -> HostResult<DmInfo> {
    let private = device.is_private();
    host.dm_create(&DmCreate { name: device.name(), uuid: device.uuid(), table, read_only, private, link: None })
}

/// A pool of `/dev/sda`: metadata 4 MiB from 1 MiB on, data from 8 MiB on.
pub struct Pool {
    pub host: SimHost,
    pub id: PoolId,
    pub data_chunks: u64,
}

impl Pool {
    pub fn new(host: &SimHost) -> Self {
        let pool = Self::of_size(host, 256, 8192);
        pool.activate().expect("activate");
        pool
    }
    pub fn of_size(host: &SimHost, data_chunks: u64, metadata_sectors: u64) -> Self {
        let pool = Self { host: host.clone(), id: PoolId::from_bytes([0xAA; 16]), data_chunks };
        pool.layers(metadata_sectors).expect("layers");
        pool
    }
    pub fn layers(&self, metadata_sectors: u64) -> HostResult<()> {
        let disk = dev(&self.host, SDA);
        let linear = |len, at: u64| line(len, "linear", format!("{disk} {at}"));
        create(&self.host, Device::PoolMetadata(self.id), linear(metadata_sectors, 2048))?;
        create(&self.host, Device::PoolData(self.id), linear(self.data_chunks * CHUNK, 16384))?;
        Ok(())
    }
    pub fn activate(&self) -> HostResult<DmInfo> {
        create(&self.host, Device::Pool(self.id), self.table(self.data_chunks))
    }
    /// After a boot.
    pub fn bring_up(&self) {
        self.layers(8192).expect("layers");
        self.activate().expect("activate");
    }
    pub fn table(&self, data_chunks: u64) -> Vec<TargetLine> {
        let number = |device: Device| self.host.dm_device(&device.uuid()).expect("dm").expect("layer").dev;
        let (metadata, data) = (number(Device::PoolMetadata(self.id)), number(Device::PoolData(self.id)));
        line(data_chunks * CHUNK, "thin-pool", format!("{metadata} {data} {CHUNK} 0 0"))
    }
    pub fn uuid(&self) -> String {
        Device::Pool(self.id).uuid()
    }
    pub fn message(&self, text: &str) -> HostResult<()> {
        self.host.dm_message(&self.uuid(), text)
    }
    pub fn usage(&self) -> PoolUsage {
        match self.host.pool_status(&self.uuid()).expect("status") {
            PoolStatus::Working(usage) => usage,
            other => panic!("{other:?}"),
        }
    }
    pub fn ids(&self) -> Vec<u32> {
        self.host.pool(&self.uuid()).expect("pool").thins.into_keys().collect()
    }
    pub fn open_thin(&self, thin_id: u32) -> HostResult<DmInfo> {
        self.open_thin_as(thin_id, false)
    }
    pub fn open_thin_as(&self, thin_id: u32, read_only: bool) -> HostResult<DmInfo> {
        let pool = self.host.dm_device(&self.uuid())?.expect("pool").dev;
        let table = line(65536, "thin", format!("{pool} {thin_id}"));
        create_as(&self.host, volume(thin_id as u8), table, read_only)
    }
    /// A formatted volume, mounted at `/mnt/<id>`.
    pub fn mounted(&self, thin_id: u32) -> PathBuf {
        self.message(&format!("create_thin {thin_id}")).expect("create");
        let device = self.open_thin(thin_id).expect("open");
        self.host
            .mkfs(device.dev, &device.uuid, FsKind::Ext4, Uuid::from_bytes([9; 16]), &MkfsOptions::default())
            .expect("mkfs");
        let target = PathBuf::from(format!("/mnt/{thin_id}"));
        self.host.mount(&mount(device.dev, &target)).expect("mount");
        target
    }
    pub fn snapshot(&self, thin_id: u32, origin: u32, origin_active: bool) -> HostResult<()> {
        let origin_uuid = origin_active.then(|| volume(origin as u8).uuid());
        self.host.thin_snapshot(&ThinSnapshot::one(self.uuid(), origin_uuid, thin_id, origin))
    }
}

pub fn mount(dev: DevNumber, target: impl Into<PathBuf>) -> MountCall {
    MountCall {
        dev,
        fs: FsKind::Ext4,
        subdir: None,
        target: target.into(),
        sealed: false,
        read_only: false,
        allow_same_uuid: false,
        no_replay: false,
        options: vol_types::MountOptions::default(),
    }
}
