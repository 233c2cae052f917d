//! The backend over a simulated machine: requests of the API in, answers of the API out.

mod degraded;
mod known;
mod life;
mod main_job;
mod measured;
mod refs;
mod refused;
mod rows;
mod stack;
mod usage;

use std::fmt::Debug;

use serde_json::Value;
use vol_api::{
    ApiError, Changed, CreatePool, CreateSnapshot, CreateVg, CreateVolume, DmTarget, KernelInfo, Mount, Outcome, Plan,
    VolumeInfo,
};
use vol_core::dm::Device;
use vol_engine::Engine;
use vol_sim::{SimDisk, SimHost};
use vol_types::{Bytes, Name, PoolId, PoolPath, SnapshotPath, VolumeId, VolumePath};

use super::{EngineBackend, Facts};
use crate::api::{Backend, Change};

pub type Sim = EngineBackend<SimHost>;

/// Two empty disks of 4 GiB.
pub fn machine() -> SimHost {
    let host = SimHost::new(7);
    host.add_disk(SimDisk::new("/dev/sda", Bytes::gib(4)));
    host.add_disk(SimDisk::new("/dev/sdb", Bytes::gib(4)));
    host
}

/// A daemon that has just started on it.
pub fn start(host: &SimHost) -> Sim {
    let engine = Engine::new(host.clone());
    engine.scan(&[], false).unwrap();
    let kernel = KernelInfo {
        release: "6.18.1".into(),
        dm_version: Some("4.50.0".into()),
        targets: vec![DmTarget { name: "thin".into(), version: "1.23.0".into() }],
    };
    EngineBackend::new(engine, Facts { kernel, host: "storage1".into(), boot_id: "b".into(), ..Facts::default() })
}

/// Has it look at its machine, as its timer does.
pub fn refresh(backend: &Sim) {
    backend.engine.refresh();
}

/// A machine with the VG `data`, its pool `tank`, the volume `pg` (ext4, idle) and the volume `raw`.
pub fn furnished() -> (SimHost, Sim) {
    let host = machine();
    let backend = start(&host);
    done(backend.create_vg(vg_request(), false));
    done(backend.create_pool(pool_request(), false));
    done(backend.create_volume(volume_request("pg", "10G", "ext4"), false));
    done(backend.create_volume(volume_request("raw", "1G", "none"), false));
    (host, backend)
}

pub fn vg_request() -> CreateVg {
    CreateVg { name: "data".into(), devices: vec!["/dev/sda".into(), "/dev/sdb".into()], ..CreateVg::default() }
}

pub fn pool_request() -> CreatePool {
    CreatePool { vg: "data".into(), name: "tank".into(), size: "80%FREE".into(), ..CreatePool::default() }
}

pub fn volume_request(name: &str, size: &str, fs: &str) -> CreateVolume {
    CreateVolume {
        vg: "data".into(),
        name: name.into(),
        size: size.into(),
        fs: Some(fs.into()),
        ..CreateVolume::default()
    }
}

pub fn snapshot_request(name: &str) -> CreateSnapshot {
    CreateSnapshot { vg: "data".into(), volume: "pg".into(), name: name.into(), ..CreateSnapshot::default() }
}

pub fn mount_at(path: &str) -> Mount {
    Mount { path: path.into(), ..Mount::default() }
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn volume(text: &str) -> VolumePath {
    text.parse().unwrap()
}

pub fn snapshot(text: &str) -> SnapshotPath {
    text.parse().unwrap()
}

pub fn pool(text: &str) -> PoolPath {
    text.parse().unwrap()
}

pub fn outcome<T: Debug>(change: Change<T>) -> Outcome<T> {
    match change.unwrap() {
        Changed::Done(outcome) => outcome,
        Changed::Planned(plan) => panic!("a plan: {plan:?}"),
    }
}

/// The object of a change that did something, without warnings.
pub fn done<T: Debug>(change: Change<T>) -> T {
    let outcome = outcome(change);
    assert!(outcome.changed && outcome.warnings.is_empty(), "{outcome:?}");
    outcome.object.unwrap()
}

pub fn planned<T: Debug>(change: Change<T>) -> Plan {
    match change.unwrap() {
        Changed::Planned(plan) => plan,
        Changed::Done(outcome) => panic!("done: {outcome:?}"),
    }
}

/// Code, message and hint of a failure.
pub fn failed<T: Debug>(change: Change<T>) -> (&'static str, String, String) {
    let ApiError { code, message, hint, .. } = change.unwrap_err();
    (code.as_str(), message, hint.unwrap_or_default())
}

/// The device-mapper uuid of a volume's device.
pub fn device_of(volume: &VolumeInfo) -> String {
    Device::Volume(VolumeId::from_uuid(volume.id.parse().unwrap())).uuid()
}

/// The device-mapper uuid of a pool's device.
pub fn pool_device(id: &str) -> String {
    Device::Pool(PoolId::from_uuid(id.parse().unwrap())).uuid()
}

/// The answer as it goes over the wire.
pub fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}
