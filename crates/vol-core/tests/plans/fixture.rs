//! A small VG to plan on, built by the planner's own commits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use uuid::Uuid;
use vol_core::dm::Device;
use vol_core::observed::{DevNumber, DiskIdentity, DiskInfo, DiskKind, DmInfo, Mount, PoolMode, PoolStatus, PoolUsage};
use vol_core::plan::thin::{self, Batch};
use vol_core::plan::vg::{CreateVg, DiskCandidate, PvLayout};
use vol_core::plan::{Kernel, pool, volume};
use vol_core::{Catalog, Plan, check};
use vol_types::*;

pub fn uuid(n: u8) -> Uuid {
    Uuid::from_bytes([n; 16])
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn disk(path: &str, minor: u32) -> DiskInfo {
    DiskInfo {
        path: path.into(),
        node: path.into(),
        identity: DiskIdentity {
            dev: DevNumber { major: 8, minor },
            diskseq: Some(u64::from(minor)),
            size: Bytes::gib(4),
        },
        kind: DiskKind::Whole,
        sector_size: 512,
        read_only: false,
        hardware_id: String::new(),
        signatures: Vec::new(),
        mounts: Vec::new(),
        swap: false,
        holders: Vec::new(),
        partitions: Vec::new(),
        dm_uuid: None,
    }
}

pub fn candidate(info: DiskInfo) -> DiskCandidate {
    let pv = u8::try_from(info.identity.dev.minor % 200).unwrap();
    DiskCandidate {
        path: info.path.clone(),
        info: Ok(info),
        label: None,
        layout: Some(PvLayout { data_offset: Bytes::mib(20), extents: Extents(1000) }),
        pv: PvId::from_uuid(uuid(pv)),
    }
}

pub fn create_vg(disks: Vec<DiskCandidate>) -> CreateVg {
    CreateVg {
        id: VgId::from_uuid(uuid(1)),
        name: name("data"),
        extent_size: Bytes::mib(4),
        metadata_copies: 4,
        disks,
        files: Vec::new(),
        wipe: false,
        now: 0,
    }
}

/// One line a step.
pub fn text(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.action.to_string()).collect()
}

/// Applies all commits of a plan, each followed by the independent checker.
pub fn apply(catalog: &mut Catalog, plan: &Plan) {
    for changes in plan.commits() {
        catalog.commit(catalog.sequence() + 1, changes.clone());
        assert_eq!(check::violations(catalog), Vec::<String>::new());
    }
}

/// Two disks of 1000 extents each, nothing in it.
pub fn empty_vg() -> Catalog {
    let plan = vol_core::plan::vg::create(
        &create_vg(vec![candidate(disk("/dev/sda", 10)), candidate(disk("/dev/sdb", 11))]),
        &[],
    )
    .unwrap();
    let objects = plan
        .steps
        .iter()
        .find_map(|step| match &step.action {
            vol_core::Action::StartStore { objects, .. } => Some(objects.clone()),
            _ => None,
        })
        .unwrap();
    let mut catalog = Catalog::from_objects(1, objects).unwrap();
    apply(&mut catalog, &plan);
    catalog
}

pub fn pool_request(size: &str) -> pool::CreatePool {
    pool::CreatePool {
        id: PoolId::from_uuid(uuid(20)),
        name: name("tank"),
        size: size.parse().unwrap(),
        chunk_size: None,
        overcommit_percent: 1000,
        policy: vol_core::plan::grow::SpacePolicy::default(),
        placement: Placement::default(),
        contiguous: false,
        now: 0,
    }
}

/// `data/tank` of 80%FREE.
pub fn vg_with_pool() -> Catalog {
    let mut catalog = empty_vg();
    let plan = pool::create(&catalog, &Kernel::default(), &[], &pool_request("80%FREE")).unwrap();
    apply(&mut catalog, &plan);
    catalog
}

pub fn volume_request(volume: &str, size: Bytes) -> volume::CreateVolume {
    volume::CreateVolume {
        id: VolumeId::from_uuid(uuid(30)),
        intent: IntentId::from_uuid(uuid(31)),
        name: name(volume),
        pool: None,
        size,
        fs: Some(FsKind::Ext4),
        fs_uuid: [7; 16],
        labels: Labels::default(),
        reserve: Reserve::None,
        protect: false,
        mkfs: MkfsOptions::default(),
        now: 0,
    }
}

pub fn plan_of(created: volume::Created) -> Plan {
    match created {
        volume::Created::Change(change) => thin::alone(*change),
        volume::Created::Unchanged(id) => panic!("{id} was there already"),
    }
}

/// `data/pg` of 10 GiB in `data/tank`.
pub fn vg_with_volume() -> Catalog {
    let mut catalog = vg_with_pool();
    let kernel = kernel(&catalog, 0);
    let plan =
        plan_of(volume::create(&catalog, &kernel, &Batch::default(), &volume_request("pg", Bytes::gib(10))).unwrap());
    apply(&mut catalog, &plan);
    catalog
}

pub fn dm(device: Device, minor: u32) -> (Device, DmInfo) {
    let info = DmInfo {
        name: device.name(),
        uuid: device.uuid(),
        dev: DevNumber { major: 253, minor },
        open_count: 0,
        suspended: false,
        live_table: true,
        inactive_table: false,
        read_only: false,
        len: Sectors::ZERO,
    };
    (device, info)
}

pub fn usage(transaction_id: u64) -> PoolUsage {
    PoolUsage {
        transaction_id,
        used_metadata: 10,
        total_metadata: 2048,
        used_data: 0,
        total_data: 100_000,
        mode: PoolMode::ReadWrite,
        needs_check: false,
        error_when_full: false,
        metadata_snapshot: false,
    }
}

/// A kernel with the pools of `catalog` active and as large as they are recorded, all at `transaction_id`.
pub fn kernel(catalog: &Catalog, transaction_id: u64) -> Kernel {
    let mut minor = 0;
    let mut devices = BTreeMap::new();
    let mut pools = BTreeMap::new();
    for pool in catalog.pools() {
        for device in [Device::PoolMetadata(pool.id), Device::PoolData(pool.id), Device::Pool(pool.id)] {
            let (device, info) = dm(device, minor);
            devices.insert(device, info);
            minor += 1;
        }
        let total_data = catalog.pool_data_size(pool).get() / pool.chunk_size.get();
        let total_metadata = catalog.pool_metadata_size(pool).get() / 4096;
        let usage = PoolUsage { total_data, total_metadata, ..usage(transaction_id) };
        pools.insert(pool.id, PoolStatus::Working(usage));
    }
    Kernel { dm: devices, pools, ..Kernel::default() }
}

/// Makes the volume active, and mounted at `target`.
pub fn mounted(kernel: &mut Kernel, volume: VolumeId, target: &str) {
    let (device, mut info) = dm(Device::Volume(volume), 99);
    info.open_count = 1;
    kernel.mounts.push(Mount {
        mount_id: 1,
        dev: info.dev,
        root: PathBuf::from("/"),
        target: PathBuf::from(target),
        fs_type: "ext4".to_owned(),
        read_only: false,
    });
    kernel.dm.insert(device, info);
}
