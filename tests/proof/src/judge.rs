//! What must hold of a machine on which a daemon has started: what can be seen is one of the allowed states, nothing is broken
//! or left over, and the kernel agrees.

use std::collections::BTreeSet;

use vol_core::dm::Device;
use vol_core::{Catalog, VolumeName};
use vol_engine::host::HostRead as _;
use vol_engine::{Engine, EngineError};
use vol_sim::{SimHost, SimPoolMode};
use vol_types::{Content, PoolState, VgState, VolumeState};

use crate::model::{GroupModel, Model, PoolModel, VolumeModel};
use crate::ops::{Group, Key, Pool};

/// A daemon that has just started; `Err` if it cannot even look at the disks.
pub fn start(host: &SimHost) -> Result<Engine<SimHost>, EngineError> {
    let engine = Engine::new(host.clone());
    engine.scan(&[], false)?;
    Ok(engine)
}

/// What was seen, and what is wrong with it whatever was asked for.
#[derive(Debug, Default)]
pub struct Seen {
    pub model: Model,
    pub wrong: Vec<String>,
}

/// What the daemon shows, held against what the kernel has.
pub fn look(host: &SimHost, engine: &Engine<SimHost>) -> Seen {
    let mut seen = Seen::default();
    let mounts = host.mounts().unwrap_or_default();
    for vg in engine.vgs() {
        vg.read(|catalog| look_at_group(host, catalog, &mounts, &mut seen));
    }
    seen
}

type Mounts = [vol_core::observed::Mount];

fn look_at_group(host: &SimHost, catalog: &Catalog, mounts: &Mounts, seen: &mut Seen) {
    let wrong = &mut seen.wrong;
    let Some(group) = Group::of(catalog.vg().name.as_str()) else {
        wrong.push(format!("a volume group {} that nobody made", catalog.vg().name));
        return;
    };
    if catalog.vg().state != VgState::Ready {
        wrong.push(format!("{} is {:?}", group.as_str(), catalog.vg().state));
    }
    wrong.extend(vol_core::check::violations(catalog));
    wrong.extend(catalog.intents().map(|intent| format!("an intent from {} is left", intent.from)));
    let mut found = GroupModel::default();
    for pool in catalog.pools() {
        let Some(name) = Pool::of(pool.name.as_str()) else {
            wrong.push(format!("a pool {} that nobody made", pool.name));
            continue;
        };
        if pool.state != PoolState::Ready {
            wrong.push(format!("pool {} is {:?}", pool.name, pool.state));
        }
        let view = host.pool(&Device::Pool(pool.id).uuid());
        let mut known = BTreeSet::new();
        let mut model = PoolModel { size: catalog.pool_data_size(pool).get() >> 20, ..PoolModel::default() };
        for volume in catalog.volumes_of(pool.id) {
            let Some(thin_id) = volume.thin_id() else { continue };
            known.insert(thin_id);
            let Some(key) = Key::of(&VolumeName::of(volume)) else {
                wrong.push(format!("a volume {} that nobody made", VolumeName::of(volume)));
                continue;
            };
            if volume.state != VolumeState::Ready {
                wrong.push(format!("volume {} is {:?}", VolumeName::of(volume), volume.state));
            }
            let inside = view.as_ref().and_then(|view| view.thins.get(&thin_id)).map(|thin| &thin.content);
            let (kind, written) = content(volume, inside, wrong);
            let in_use = in_use(host, volume, key, mounts, wrong);
            model.volumes.insert(key, VolumeModel { size: volume.size.get(), kind, written, in_use });
        }
        match view {
            None => wrong.push(format!("pool {} is not active", pool.name)),
            Some(view) => {
                if view.transaction_id != pool.transaction_id {
                    let (kernel, ours) = (view.transaction_id, pool.transaction_id);
                    wrong.push(format!("pool {} is at {kernel} in the kernel, at {ours} in the catalog", pool.name));
                }
                let in_kernel: BTreeSet<u32> = view.thins.keys().copied().collect();
                if in_kernel != known {
                    wrong.push(format!("pool {} has thin ids {in_kernel:?}, the catalog {known:?}", pool.name));
                }
                if view.needs_check || view.mode != SimPoolMode::ReadWrite {
                    wrong.push(format!("pool {} is {:?}, needs_check {}", pool.name, view.mode, view.needs_check));
                }
            }
        }
        found.pools.insert(name, model);
    }
    if seen.model.groups.insert(group, found).is_some() {
        seen.wrong.push(format!("{} is there twice", group.as_str()));
    }
}

fn content(
    volume: &vol_types::Volume,
    inside: Option<&vol_sim::Content>,
    wrong: &mut Vec<String>,
) -> (&'static str, u32) {
    let number = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map_or(u32::MAX, u32::from_le_bytes);
    match (&volume.content, inside) {
        (Content::Formatted { fs, uuid }, Some(vol_sim::Content::Fs { kind, uuid: there, files, .. }))
            if fs == kind && uuid == there.as_bytes() =>
        {
            (fs.as_str(), files.get("f").map_or(0, |bytes| number(bytes)))
        }
        (Content::Raw, Some(vol_sim::Content::Nothing)) => ("raw", 0),
        (Content::Raw, Some(vol_sim::Content::Raw(bytes))) => ("raw", number(bytes)),
        (ours, inside) => {
            wrong.push(format!("{} is {ours:?} by the catalog, and holds {inside:?}", VolumeName::of(volume)));
            ("?", 0)
        }
    }
}

fn in_use(host: &SimHost, volume: &vol_types::Volume, key: Key, mounts: &Mounts, wrong: &mut Vec<String>) -> bool {
    let Ok(device) = host.dm_device(&Device::Volume(volume.id).uuid()) else { return false };
    let Some(device) = device else { return false };
    if volume.content == Content::Raw {
        return true;
    }
    let mut there = mounts.iter().filter(|mount| mount.dev == device.dev);
    let Some(mount) = there.next() else { return false };
    if mount.target != key.target() || mount.read_only != key.snap.is_some() || there.next().is_some() {
        wrong.push(format!("{} is mounted as nobody asked: {mount:?}", VolumeName::of(volume)));
    }
    true
}

/// A file that a crash left empty is told of, or one that was deleted and is still remembered; they are nothing worse. (A group
/// whose file is not there is missed in what is seen.) What a scan said stays until the next one.
pub fn is_of_a_stray_file(problem: &vol_engine::Problem) -> bool {
    problem.code == "file-without-pv"
        || (problem.code == "file-not-attached" && problem.message.contains("no such file"))
}

/// Nothing that must never happen has happened, and nobody complains.
pub fn complaints(host: &SimHost, engine: &Engine<SimHost>, stray_file: bool, wrong: &mut Vec<String>) {
    wrong.extend(host.violations());
    for vg in engine.vgs() {
        wrong.extend(vg.view().problems.iter().map(|problem| format!("problem: {}", problem.message)));
    }
    let problems = engine.scan_problems();
    let problems = problems.into_iter().filter(|problem| !(stray_file && is_of_a_stray_file(problem)));
    wrong.extend(problems.map(|problem| format!("problem: {}", problem.message)));
}

/// All that must hold of a machine without faults; the model that was seen, or what is wrong.
pub fn sound(host: &SimHost, engine: &Engine<SimHost>, stray_file: bool) -> Result<Model, String> {
    let Seen { model, mut wrong } = look(host, engine);
    complaints(host, engine, stray_file, &mut wrong);
    if wrong.is_empty() { Ok(model) } else { Err(wrong.join("; ")) }
}
