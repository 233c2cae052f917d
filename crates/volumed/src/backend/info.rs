//! From the model to what clients see.

use std::collections::BTreeMap;

use vol_api::{
    CheckFinding, CloneInfo, DeletedInfo, Df, DfPool, DfVg, FillingInfo, Health, MountInfo, ObjectState, PoolInfo,
    PoolMode, PvCheck, PvInfo, SnapshotInfo, Status, ThickInfo, VgInfo, VolumeContent, VolumeInfo,
};
use vol_core::dm::Device;
use vol_core::observed::{self, PoolStatus, PoolUsage};
use vol_core::plan::{agreement, grow, trash};
use vol_core::{Catalog, VolumeName};
use vol_engine::host::IoBackend;
use vol_engine::{Fill, Problem, UnknownPv, View};
use vol_types::{
    Bytes, CloneOf, Content, Growth, Labels, ObjectKey, Pool, PoolState, Pv, PvId, Thick, VgState, Volume, VolumeState,
    WhenFull,
};

use super::Facts;

mod volume;

pub use volume::{Around, Besides, show, snapshot};
use volume::{labels, pool_name};

/// Seconds since 1970 as the API writes times.
fn time(seconds: u64) -> String {
    vol_api::rfc3339(seconds)
}

fn problem(problem: &Problem) -> vol_api::Problem {
    vol_api::Problem {
        code: problem.code.replace('-', "_"),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
    }
}

/// Problems of one object.
fn problems_of(view: &View, subject: ObjectKey) -> Vec<vol_api::Problem> {
    view.problems.iter().filter(|found| found.subject == Some(subject)).map(problem).collect()
}

fn health_of(problems: &[vol_api::Problem], failed: bool) -> Health {
    match (problems.is_empty(), failed) {
        (_, true) => Health::Failed,
        (true, false) => Health::Ok,
        (false, false) => Health::Degraded,
    }
}

/// A volume group.
pub fn vg(catalog: &Catalog, view: &View) -> VgInfo {
    let vg = catalog.vg();
    let problems: Vec<_> = view.problems.iter().map(problem).collect();
    let frozen = view.problems.iter().any(|found| found.code == "metadata-frozen");
    let snapshots = catalog.volumes().filter(|volume| volume.snapshot.is_some()).count();
    VgInfo {
        id: vg.id.to_string(),
        name: vg.name.to_string(),
        state: match vg.state {
            VgState::Creating => ObjectState::Creating,
            VgState::Ready => ObjectState::Ready,
            VgState::Exported => ObjectState::Exported,
            VgState::Deleting | VgState::Erasing => ObjectState::Deleting,
        },
        health: health_of(&problems, frozen),
        problems,
        extent_size_bytes: vg.extent_size.get(),
        sector_size_bytes: u64::from(vg.sector_size),
        size_bytes: catalog.bytes(catalog.extents()).get(),
        free_bytes: catalog.bytes(catalog.free_extents_total()).get(),
        pv_count: catalog.pvs().count() as u64,
        pool_count: catalog.pools().count() as u64,
        volume_count: (catalog.volumes().count() - snapshots) as u64,
        snapshot_count: snapshots as u64,
        metadata_copies: vg.metadata_copies,
        sequence: catalog.sequence(),
        created_at: time(vg.created_at),
    }
}

/// A PV.
pub fn pv(catalog: &Catalog, view: &View, pv: &Pv) -> PvInfo {
    let present = !view.missing.contains(&pv.id);
    let problems = problems_of(view, ObjectKey::Pv(pv.id));
    let free = catalog.free_extents(pv.id);
    let node = view.nodes.iter().find(|(id, _)| *id == pv.id);
    PvInfo {
        id: pv.id.to_string(),
        vg: catalog.vg().name.to_string(),
        unknown: false,
        path: node.map(|(_, node)| node.display().to_string()),
        present,
        size_bytes: catalog.bytes(pv.extents).get(),
        free_bytes: catalog.bytes(free).get(),
        extent_count: pv.extents.get(),
        free_extents: free.get(),
        metadata_copy: pv.metadata,
        backing_file: pv.backing_file.clone(),
        hardware_id: (!pv.hardware_id.is_empty()).then(|| pv.hardware_id.clone()),
        labels: labels(&pv.labels),
        health: health_of(&problems, !present),
        problems,
    }
}

/// Where it stands, or its id while it is missing.
fn pv_shown(view: &View, pv: PvId) -> String {
    let node = view.nodes.iter().find(|(id, _)| *id == pv);
    node.map_or_else(|| pv.to_string(), |(_, node)| node.display().to_string())
}

/// A disk that carries the label of a VG which does not know it.
pub fn unknown_pv(pv: &UnknownPv, scan: &[Problem]) -> PvInfo {
    let about = Some(ObjectKey::Pv(pv.pv));
    PvInfo {
        id: pv.pv.to_string(),
        vg: pv.vg_name.to_string(),
        path: Some(pv.node.display().to_string()),
        unknown: true,
        present: true,
        size_bytes: pv.size.get(),
        health: Health::Degraded,
        problems: scan.iter().filter(|found| found.subject == about).map(problem).collect(),
        ..PvInfo::default()
    }
}

fn usage<'a>(view: &'a View, pool: &Pool) -> Option<&'a PoolUsage> {
    match view.kernel.pools.get(&pool.id)? {
        PoolStatus::Working(usage) => Some(usage),
        PoolStatus::Fail | PoolStatus::Error => None,
    }
}

/// Size of a block of a pool's metadata (`drivers/md/dm-thin-metadata.h`, `THIN_METADATA_BLOCK_SIZE`).
const METADATA_BLOCK: u64 = 4096;

/// A pool.
pub fn pool(catalog: &Catalog, view: &View, pool: &Pool) -> PoolInfo {
    let problems = problems_of(view, ObjectKey::Pool(pool.id));
    let usage = usage(view, pool);
    let status = view.kernel.pools.get(&pool.id);
    let refused = problems.iter().any(|found| matches!(found.code.as_str(), "pool_refused" | "pool_full"));
    let size = catalog.pool_data_size(pool);
    let members = catalog.members(pool.id);
    let virtual_size = members.virtual_size();
    let space = view.space.get(&pool.id);
    let time_to_full = space.and_then(|space| space.time_to_full);
    PoolInfo {
        id: pool.id.to_string(),
        vg: catalog.vg().name.to_string(),
        name: pool.name.to_string(),
        state: match pool.state {
            PoolState::Creating => ObjectState::Creating,
            PoolState::Ready => ObjectState::Ready,
            PoolState::Deleting => ObjectState::Deleting,
        },
        health: health_of(&problems, refused),
        problems,
        size_bytes: size.get(),
        used_bytes: usage.map(|usage| usage.used_data.saturating_mul(pool.chunk_size.get())),
        chunk_size_bytes: pool.chunk_size.get(),
        metadata_size_bytes: catalog.pool_metadata_size(pool).get(),
        metadata_used_bytes: usage.map(|usage| usage.used_metadata.saturating_mul(METADATA_BLOCK)),
        set_aside_bytes: vol_core::plan::reserve::set_aside(catalog, &view.kernel, pool).get(),
        virtual_bytes: virtual_size.get(),
        overcommit_percent: percent(virtual_size.get(), size.get()),
        overcommit_limit_percent: u64::from(pool.overcommit_percent),
        transaction_id: pool.transaction_id,
        snapshot_clock: u64::from(agreement::clock(pool, &view.kernel)),
        mode: status.map(|status| match status {
            PoolStatus::Working(usage) => match usage.mode {
                observed::PoolMode::ReadWrite => PoolMode::ReadWrite,
                observed::PoolMode::ReadOnly => PoolMode::ReadOnly,
                observed::PoolMode::OutOfDataSpace => PoolMode::OutOfDataSpace,
            },
            PoolStatus::Fail | PoolStatus::Error => PoolMode::Failed,
        }),
        volume_count: members.volumes,
        snapshot_count: members.snapshots,
        deleted_count: members.kept,
        created_at: time(pool.created_at),
        growth: match pool.growth {
            Growth::VgSpace => "vg",
            Growth::UpTo(_) => "up_to",
            Growth::Off => "off",
        }
        .to_owned(),
        growth_limit_bytes: match pool.growth {
            Growth::UpTo(bound) => Some(bound.get()),
            Growth::VgSpace | Growth::Off => None,
        },
        growable_bytes: grow::room(catalog, pool).get(),
        when_full: match pool.when_full {
            WhenFull::Queue => "queue",
            WhenFull::Error => "error",
        }
        .to_owned(),
        reserve_percent: u64::from(pool.reserve_percent),
        original_metadata_bytes: catalog.bytes(vol_core::dm::extents_of(&pool.original)).get(),
        in_repair: pool.repair.is_some(),
        on: pool.placement.on.iter().map(|pv| pv_shown(view, *pv)).collect(),
        not_on: pool.placement.not_on.iter().map(|pv| pv_shown(view, *pv)).collect(),
        on_labels: labels(&pool.placement.labels),
        fill_bytes_per_second: space.and_then(|space| space.trend).map(|trend| trend.bytes_per_second),
        time_to_full_seconds: time_to_full.map(|(seconds, _)| seconds),
        time_to_full_confidence: time_to_full.map(|(_, confidence)| confidence.as_str().to_owned()),
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// What was deleted and is kept for `window` seconds; `None` of anything else.
pub fn deleted(catalog: &Catalog, volume: &Volume, window: Option<u64>, emptied: Option<Bytes>) -> Option<DeletedInfo> {
    let at = volume.deleted_at.filter(|_| volume.state == VolumeState::Deleted)?;
    let vg = &catalog.vg().name;
    Some(DeletedInfo {
        id: volume.id.to_string(),
        vg: vg.to_string(),
        full_name: format!("{vg}/{}", VolumeName::of(volume)),
        pool: pool_name(catalog, volume),
        size_bytes: volume.size.get(),
        deleted_at: time(at),
        kept_until: window.filter(|_| !trash::is_emptied(volume)).map(|window| time(at.saturating_add(window))),
        emptied_bytes: trash::is_emptied(volume).then(|| emptied.unwrap_or(Bytes::ZERO).get()),
    })
}

/// The daemon itself; VGs are added with [`add_to_status`].
pub fn status(facts: &Facts, io: &IoBackend) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: vol_api::API_VERSION.to_owned(),
        health: health_of(&facts.problems, false),
        problems: facts.problems.clone(),
        io_backend: io.name.clone(),
        io_backend_reason: io.reason.clone().unwrap_or_default(),
        kernel: facts.kernel.clone(),
        host: facts.host.clone(),
        boot_id: facts.boot_id.clone(),
        started_at: time(facts.started_at),
        ..Status::default()
    }
}

/// Adds a problem; `vg` is put before the message.
pub fn add_problem(status: &mut Status, found: &Problem, vg: Option<&vol_types::Name>) {
    let mut shown = problem(found);
    if let Some(vg) = vg {
        shown.message = format!("{vg}: {}", shown.message);
    }
    status.problems.push(shown);
    status.health = status.health.max(Health::Degraded);
}

/// Counts and problems of one VG.
pub fn add_to_status(status: &mut Status, catalog: &Catalog, view: &View) {
    let counts = &mut status.counts;
    counts.vgs += 1;
    counts.pvs += catalog.pvs().count() as u64;
    counts.pools += catalog.pools().count() as u64;
    for volume in catalog.volumes().filter(|one| one.state != VolumeState::Deleted) {
        if volume.snapshot.is_some() {
            counts.snapshots += 1;
        } else {
            counts.volumes += 1;
        }
        if !view.kernel.mounts_of(Device::Volume(volume.id)).is_empty() {
            counts.mounted += 1;
        }
    }
    for problem in &view.problems {
        add_problem(status, problem, Some(&catalog.vg().name));
    }
    let pools = catalog.pools().map(|one| pool(catalog, view, one).health);
    status.health = pools.fold(status.health.max(vg(catalog, view).health), Health::max);
}

/// The space of one VG and its pools.
pub fn add_to_df(df: &mut Df, catalog: &Catalog, view: &View) {
    let whole = vg(catalog, view);
    df.vgs.push(DfVg {
        vg: whole.name,
        health: whole.health,
        size_bytes: whole.size_bytes,
        allocated_bytes: whole.size_bytes.saturating_sub(whole.free_bytes),
        free_bytes: whole.free_bytes,
    });
    let mut pools: Vec<_> = catalog.pools().map(|one| pool(catalog, view, one)).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    df.pools.extend(pools.into_iter().map(|pool| DfPool {
        vg: pool.vg,
        pool: pool.name,
        health: pool.health,
        size_bytes: pool.size_bytes,
        used_bytes: pool.used_bytes,
        free_bytes: pool.used_bytes.map(|used| pool.size_bytes.saturating_sub(used)),
        virtual_bytes: pool.virtual_bytes,
        overcommit_percent: pool.overcommit_percent,
        overcommit_limit_percent: pool.overcommit_limit_percent,
        metadata_size_bytes: pool.metadata_size_bytes,
        metadata_used_bytes: pool.metadata_used_bytes,
        volume_count: pool.volume_count,
        snapshot_count: pool.snapshot_count,
        snapshot_clock: pool.snapshot_clock,
        growable_bytes: pool.growable_bytes,
        fill_bytes_per_second: pool.fill_bytes_per_second,
        time_to_full_seconds: pool.time_to_full_seconds,
        time_to_full_confidence: pool.time_to_full_confidence,
        problem_codes: pool.problems.into_iter().map(|problem| problem.code).collect(),
    }));
}

/// What reading a PV again found.
pub fn check(pv: &PvInfo, checked: &vol_engine::Checked) -> PvCheck {
    let findings = checked.found.findings.iter().map(|one| CheckFinding {
        severity: one.severity.as_str().to_owned(),
        code: one.code.to_owned(),
        rule: one.rule.map(|rule| format!("FMT-{rule}")),
        message: one.text.clone(),
        hint: one.advice.to_owned(),
        offset_bytes: one.offset,
    });
    PvCheck {
        path: Some(checked.node.display().to_string()),
        id: Some(pv.id.clone()),
        vg: Some(pv.vg.clone()),
        sequence: checked.found.head.map(|head| head.sequence),
        severity: checked.found.worst().as_str().to_owned(),
        findings: findings.collect(),
    }
}

/// The same for a PV that is not there.
pub fn check_missing(pv: &PvInfo) -> PvCheck {
    PvCheck {
        path: None,
        id: Some(pv.id.clone()),
        vg: Some(pv.vg.clone()),
        sequence: None,
        severity: "damage".to_owned(),
        findings: vec![CheckFinding {
            severity: "damage".to_owned(),
            code: "pv-missing".to_owned(),
            message: "the disk is not there".to_owned(),
            hint: "attach the disk again: it is taken up by itself; if not, run `volctl pv scan`".to_owned(),
            ..CheckFinding::default()
        }],
    }
}
