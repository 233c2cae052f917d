//! What there is to measure of the engine, for `/metrics`: from the catalogs and views in memory, a few passes over each.

use std::collections::{BTreeMap, BTreeSet};

use vol_api::Health;
use vol_core::Catalog;
use vol_core::dm::Device;
use vol_docker::Runtime;
use vol_engine::host::HostMut;
use vol_engine::{JobKind, JobState, OpenVg, View};
use vol_types::{PoolId, Volume, VolumeState};

use super::{EngineBackend, info};
use crate::config::VolumeMetrics;
use crate::metrics::{Id, Page, VOLUMES_MAX, VOLUMES_TOP};

const STATES: [(VolumeState, &str); 4] = [
    (VolumeState::Creating, "creating"),
    (VolumeState::Ready, "ready"),
    (VolumeState::Deleting, "deleting"),
    (VolumeState::Deleted, "deleted"),
];

/// A volume that may have samples of its own.
struct Shown {
    vg: String,
    pool: String,
    volume: String,
    size: u64,
    used: Option<u64>,
}

pub fn write<H: HostMut + 'static>(backend: &EngineBackend<H>, page: &mut Page) {
    let engine = &backend.engine;
    page.flag(Id::IoBackendInfo, &[&engine.host().io_backend().name], true);
    for (call, count) in engine.host().dm_calls() {
        page.count(Id::DmCalls, &[call], count);
    }
    backend.process.write(page);
    moves(backend, page);
    references(backend, page);

    let mut problems: BTreeMap<String, u64> = BTreeMap::new();
    let of_machine = backend.facts.problems.iter().map(|problem| problem.code.clone());
    let of_machine = of_machine.chain(backend.references.problem().map(|problem| problem.code));
    let of_disks = engine.scan_problems().into_iter().chain(backend.boot_problems());
    for code in of_machine.chain(of_disks.map(|problem| problem.code.replace('-', "_"))) {
        *problems.entry(code).or_default() += 1;
    }
    for (code, count) in problems {
        page.count(Id::Problems, &["", &code], count);
    }

    let most = match backend.volume_metrics {
        VolumeMetrics::Off => 0,
        VolumeMetrics::Top => VOLUMES_TOP,
        VolumeMetrics::All => VOLUMES_MAX,
    };
    let now = engine.host().uptime();
    let mut shown = Vec::new();
    let mut volumes = 0;
    for vg in engine.vgs() {
        let view = vg.view();
        let age = view.looked_at.map(|at| now.saturating_sub(at));
        vg.read(|catalog| {
            let name = catalog.vg().name.as_str();
            if let Some(age) = age {
                page.put(Id::VgRefreshAge, &[name], age.as_secs_f64());
            }
            group(catalog, &view, &vg, page);
            volumes += count_volumes(catalog, &view, page);
            shown.extend(largest(catalog, &view, backend.volume_metrics, most));
        });
    }
    shown.sort_by(|a: &Shown, b| b.used.cmp(&a.used).then_with(|| (&a.vg, &a.volume).cmp(&(&b.vg, &b.volume))));
    shown.truncate(most);
    page.count(Id::VolumesNotShown, &[], volumes - shown.len() as u64);
    for one in shown {
        let labels = [one.vg.as_str(), &one.pool, &one.volume];
        page.count(Id::VolumeSize, &labels, one.size);
        if let Some(used) = one.used {
            page.count(Id::VolumeUsed, &labels, used);
        }
    }
}

fn moves<H: HostMut + 'static>(backend: &EngineBackend<H>, page: &mut Page) {
    let (moved, under_way) = backend.engine.moved();
    page.count(Id::MovesRunning, &["fill"], under_way.fills as u64);
    page.count(Id::MovesRunning, &["empty"], under_way.emptied as u64);
    page.count(Id::MovesLeft, &[], under_way.left.get());
    let jobs = backend.engine.jobs();
    for kind in JobKind::ALL {
        let of_kind = || jobs.iter().filter(|job| job.id.kind == kind);
        let running = of_kind().filter(|job| job.state == JobState::Running).count();
        let waiting = of_kind().filter(|job| matches!(job.state, JobState::Waiting(_))).count();
        page.count(Id::Jobs, &[kind.as_str(), "running"], running as u64);
        page.count(Id::Jobs, &[kind.as_str(), "waiting"], waiting as u64);
    }
    for (method, bytes) in [
        ("discarded", moved.discarded),
        ("offloaded", moved.offloaded),
        ("zeroed", moved.zeroed),
        ("copied", moved.copied),
        ("given_back", moved.given_back),
    ] {
        page.count(Id::MovedBytes, &[method], bytes.get());
    }
}

fn references<H: HostMut + 'static>(backend: &EngineBackend<H>, page: &mut Page) {
    let all = backend.references.all();
    for runtime in Runtime::ALL {
        let of = |confirmed: bool| -> u64 {
            let of = all.iter().filter(|one| one.runtime == runtime && (one.confirmed || !confirmed));
            of.map(|one| u64::from(one.count)).sum()
        };
        page.count(Id::MountReferences, &[runtime.name()], of(false));
        page.count(Id::MountReferencesUnconfirmed, &[runtime.name()], of(false) - of(true));
    }
}

/// A volume group with its PVs and pools.
fn group(catalog: &Catalog, view: &View, open: &OpenVg, page: &mut Page) {
    let whole = info::vg(catalog, view);
    let vg = whole.name.as_str();
    page.count(Id::VgSize, &[vg], whole.size_bytes);
    page.count(Id::VgFree, &[vg], whole.free_bytes);
    page.count(Id::VgAllocated, &[vg], whole.size_bytes.saturating_sub(whole.free_bytes));
    page.flag(Id::VgHealthy, &[vg], whole.health == Health::Ok);
    page.flag(Id::VgFrozen, &[vg], whole.problems.iter().any(|problem| problem.code == "metadata_frozen"));
    let mut problems: BTreeMap<&str, u64> = BTreeMap::new();
    whole.problems.iter().for_each(|problem| *problems.entry(&problem.code).or_default() += 1);
    for (code, count) in problems {
        page.count(Id::Problems, &[vg, code], count);
    }

    let (waiting, at_work) = open.at_work();
    page.count(Id::VgWaiting, &[vg], waiting as u64);
    page.count(Id::VgAtWork, &[vg], at_work as u64);
    page.count(Id::VgCopies, &[vg], view.copies.0 as u64);
    page.count(Id::VgCopiesWanted, &[vg], view.copies.1 as u64);
    let counters = view.counters;
    page.count(Id::Commits, &[vg], counters.commits);
    page.count(Id::CommitFailures, &[vg], counters.failed_commits);
    page.count(Id::Checkpoints, &[vg], counters.checkpoints);
    page.count(Id::MetadataBytes, &[vg], counters.written_bytes);
    page.count(Id::MetadataFlushes, &[vg], counters.flushes);

    for pv in catalog.pvs() {
        let pv = info::pv(catalog, view, pv);
        let labels = [vg, pv.id.as_str()];
        page.flag(Id::PvInfo, &[vg, &pv.id, pv.path.as_deref().unwrap_or_default()], true);
        page.count(Id::PvSize, &labels, pv.size_bytes);
        page.count(Id::PvFree, &labels, pv.free_bytes);
        page.count(Id::PvAllocated, &labels, pv.size_bytes.saturating_sub(pv.free_bytes));
        page.flag(Id::PvPresent, &labels, pv.present);
        page.flag(Id::PvHealthy, &labels, pv.health == Health::Ok);
    }
    for one in catalog.pools() {
        pool(&info::pool(catalog, view, one), page);
    }
}

fn pool(pool: &vol_api::PoolInfo, page: &mut Page) {
    let labels = [pool.vg.as_str(), pool.name.as_str()];
    page.count(Id::PoolSize, &labels, pool.size_bytes);
    page.count(Id::PoolMetadataSize, &labels, pool.metadata_size_bytes);
    let known = [(Id::PoolUsed, pool.used_bytes), (Id::PoolMetadataUsed, pool.metadata_used_bytes)];
    for (id, value) in known {
        if let Some(value) = value {
            page.count(id, &labels, value);
        }
    }
    page.count(Id::PoolVirtual, &labels, pool.virtual_bytes);
    if pool.size_bytes > 0 {
        page.put(Id::PoolOvercommit, &labels, pool.virtual_bytes as f64 / pool.size_bytes as f64);
    }
    page.put(Id::PoolOvercommitLimit, &labels, pool.overcommit_limit_percent as f64 / 100.0);
    page.count(Id::PoolReserved, &labels, pool.set_aside_bytes);
    page.put(Id::PoolReserve, &labels, pool.reserve_percent as f64 / 100.0);
    page.count(Id::PoolGrowable, &labels, pool.growable_bytes);
    if let Some(rate) = pool.fill_bytes_per_second {
        page.put(Id::PoolFill, &labels, rate as f64);
    }
    if let (Some(seconds), Some(confidence)) = (pool.time_to_full_seconds, &pool.time_to_full_confidence) {
        page.count(Id::PoolTimeToFull, &[labels[0], labels[1], confidence], seconds);
    }
    page.count(Id::PoolSnapshotClock, &labels, pool.snapshot_clock);
    page.count(Id::PoolVolumes, &labels, pool.volume_count);
    page.count(Id::PoolSnapshots, &labels, pool.snapshot_count);
    page.count(Id::PoolDeleted, &labels, pool.deleted_count);
    if let Some(mode) = pool.mode {
        page.flag(Id::PoolWritable, &labels, mode == vol_api::PoolMode::ReadWrite);
    }
    page.flag(Id::PoolHealthy, &labels, pool.health == Health::Ok);
    let codes: BTreeSet<&str> = pool.problems.iter().map(|problem| problem.code.as_str()).collect();
    for code in codes {
        page.flag(Id::PoolProblem, &[labels[0], labels[1], code], true);
    }
}

/// Counts by state, and what is kept; how many volumes there are that could have samples of their own.
fn count_volumes(catalog: &Catalog, view: &View, page: &mut Page) -> u64 {
    let vg = catalog.vg().name.as_str();
    let mut by_state = [[0_u64; STATES.len()]; 2];
    let mut deleted: BTreeMap<PoolId, u64> = catalog.pools().map(|pool| (pool.id, 0)).collect();
    for volume in catalog.volumes() {
        let of_kind = if volume.snapshot.is_some() { &mut by_state[1] } else { &mut by_state[0] };
        for (count, (state, _)) in of_kind.iter_mut().zip(STATES) {
            *count += u64::from(volume.state == state);
        }
        if volume.state == VolumeState::Deleted
            && let Some(sum) = volume.pool().and_then(|pool| deleted.get_mut(&pool))
        {
            *sum = sum.saturating_add(volume.size.get());
        }
    }
    for (id, counts) in [(Id::Volumes, by_state[0]), (Id::Snapshots, by_state[1])] {
        for (count, (_, state)) in counts.iter().zip(STATES) {
            page.count(id, &[vg, state], *count);
        }
    }
    for (id, sum) in deleted {
        if let Some(pool) = catalog.pool(id) {
            page.count(Id::PoolDeletedSize, &[vg, pool.name.as_str()], sum);
        }
    }
    let mounted: BTreeSet<_> = view.kernel.mounts.iter().map(|mount| mount.dev).collect();
    let devices = || view.kernel.dm.iter().filter(|(device, _)| matches!(device, Device::Volume(_)));
    page.count(Id::VolumesActive, &[vg], devices().count() as u64);
    page.count(Id::VolumesMounted, &[vg], devices().filter(|(_, info)| mounted.contains(&info.dev)).count() as u64);
    by_state[0]
        .iter()
        .zip(STATES)
        .filter(|(_, (state, _))| *state != VolumeState::Deleted)
        .map(|(count, _)| count)
        .sum()
}

/// The volumes of a group that take most of their pools, as far as it is known: at most so many.
fn largest(catalog: &Catalog, view: &View, which: VolumeMetrics, most: usize) -> Vec<Shown> {
    if most == 0 {
        return Vec::new();
    }
    let used = |volume: &Volume| match volume.thick() {
        Some(_) => Some(volume.size.get()),
        None => {
            let now = view.mapped.get(&volume.id).map(|mapped| mapped.get().saturating_mul(512));
            now.or_else(|| view.kernel.mapped.get(&volume.id).map(|then| then.get()))
        }
    };
    let mut found: Vec<_> = catalog
        .volumes()
        .filter(|one| one.snapshot.is_none() && one.state != VolumeState::Deleted)
        .map(|one| (used(one), one))
        .filter(|(used, _)| used.is_some() || which == VolumeMetrics::All)
        .collect();
    let order =
        |a: &(Option<u64>, &Volume), b: &(Option<u64>, &Volume)| b.0.cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name));
    // Most are not shown: which they are is found without putting them in order.
    if found.len() > most {
        found.select_nth_unstable_by(most, order);
        found.truncate(most);
    }
    found.sort_unstable_by(order);
    let shown = |(used, volume): (Option<u64>, &Volume)| Shown {
        vg: catalog.vg().name.to_string(),
        pool: volume.pool().and_then(|pool| catalog.pool(pool)).map_or_else(String::new, |pool| pool.name.to_string()),
        volume: volume.name.to_string(),
        size: volume.size.get(),
        used,
    };
    found.into_iter().map(shown).collect()
}
