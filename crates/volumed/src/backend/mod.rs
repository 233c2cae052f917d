//! The engine behind the server: requests become calls of the engine, and what the engine knows becomes answers.
//!
//! Reads use only what is in memory. Conversions between the model and the wire are made by hand in `info`, so that
//! neither can change the other by accident.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vol_api::{
    ApiError, DeletedInfo, Df, KernelInfo, PoolInfo, Purged, PvCheck, PvInfo, SnapshotInfo, Status, VgInfo, VolumeInfo,
};
use vol_core::VolumeName;
use vol_engine::host::HostMut;
use vol_engine::{Engine, OpenVg};
use vol_types::{Name, PoolPath, PvId, Selector, SnapshotPath, VolumeId, VolumePath, VolumeState};

use crate::api::{Backend, Change, Listener, Read, Summary, VolumeRows};
use crate::config::VolumeMetrics;
use crate::metrics::{Burst, Page, Process};
use crate::runtimes::references::References;
use crate::socket::RunLock;

pub mod boot;
mod change;
mod doctor;
mod error;
mod fs;
mod info;
mod jobs;
mod known;
mod life;
mod measure;
mod membership;
mod open;
mod refs;
mod repair;
mod restore;
mod rows;
mod space;
mod targets;
#[cfg(test)]
pub(crate) mod tests;
mod thick;
mod ticker;
mod trash;
mod usage;
mod watch;

pub use open::{open, open_host};
pub use refs::Unneeded;
use ticker::{Poker, Ticker};

/// How old the pools' fill state in answers and metrics may be. The kernel is asked without forcing a commit, so this costs
/// a few ioctls per pool.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// When what was cut short is filled further, after the start: soon, but not before those who ask first.
const FILL_FIRST: Duration = Duration::from_secs(1);
/// And how often that is tried again, if it could not be.
const FILL_EVERY: Duration = Duration::from_secs(10);
/// How often what is kept is looked through for what is due.
const PURGE_EVERY: Duration = Duration::from_secs(30);

/// In case nobody rings.
const MAINTAIN_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// What does not change while the daemon runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub kernel: KernelInfo,
    pub host: String,
    pub boot_id: String,
    /// Seconds since 1970.
    pub started_at: u64,
    /// What is wrong with the machine itself: no device-mapper, no io_uring.
    pub problems: Vec<vol_api::Problem>,
    /// Why nobody else on the host would see what is mounted here, if so.
    pub mounts_hidden: Option<String>,
}

/// The [`Backend`] over an engine.
pub struct EngineBackend<H: HostMut> {
    engine: Arc<Engine<H>>,
    facts: Facts,
    /// For how long what was deleted is kept; zero: not at all.
    window: Arc<AtomicU64>,
    volume_metrics: VolumeMetrics,
    process: Arc<Process>,
    tickers: Mutex<Vec<Ticker>>,
    /// Wakes the thread that goes on with unfinished fills.
    fill: Poker,
    maintainer: Mutex<Option<Maintainer>>,
    /// What is to be attached at boot, and what of that could not be.
    at_boot: Arc<boot::BootList>,
    not_attached: boot::NotAttached,
    listener: Arc<OnceLock<Arc<dyn Listener>>>,
    watchers: Mutex<Vec<watch::Watcher>>,
    /// What container engines need.
    references: Arc<References>,
    /// Where mounts for them are made.
    mounts_dir: PathBuf,
    /// Below it volumes are mounted for pods.
    kubelet_dir: PathBuf,
    /// What this machine is called in ids that an orchestrator is told; `None`: none asks here.
    csi_node: Option<String>,
    /// Groups that were open here.
    known: Arc<known::Known>,
    /// Kept as long as the disks may be written to.
    _only: Option<RunLock>,
}

/// The thread that writes checkpoints beside the changes that go on.
struct Maintainer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl<H: HostMut + 'static> EngineBackend<H> {
    /// Over an engine that has been scanned.
    pub fn new(engine: Engine<H>, facts: Facts) -> Self {
        engine.own_mounts_below(Path::new(refs::MOUNTS_DIR));
        Self {
            engine: Arc::new(engine),
            references: Arc::new(References::in_memory(&facts.boot_id)),
            mounts_dir: PathBuf::from(refs::MOUNTS_DIR),
            kubelet_dir: PathBuf::from(crate::config::KUBELET_DIR),
            csi_node: None,
            known: Arc::default(),
            facts,
            window: Arc::default(),
            volume_metrics: VolumeMetrics::default(),
            process: Arc::default(),
            tickers: Mutex::default(),
            fill: Poker::default(),
            maintainer: Mutex::new(None),
            at_boot: Arc::default(),
            not_attached: Arc::default(),
            listener: Arc::default(),
            watchers: Mutex::default(),
            _only: None,
        }
    }

    /// Keeps the lock that makes it the only one on this machine.
    fn holding(self, only: RunLock) -> Self {
        Self { _only: Some(only), ..self }
    }

    /// Keeps what is deleted for so long.
    #[must_use]
    pub fn keeping_deleted(self, window: Option<Duration>) -> Self {
        self.keep_deleted(window);
        self
    }

    /// As [`EngineBackend::keeping_deleted`], from now on.
    pub(crate) fn keep_deleted(&self, window: Option<Duration>) {
        self.window.store(window.map_or(0, |window| window.as_secs()), Ordering::Relaxed);
    }

    /// For how long what is deleted now is kept; `None`: not at all.
    fn window(&self) -> Option<Duration> {
        let seconds = self.window.load(Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// Remembers in `state_dir` which groups were open, and begins with those that are.
    #[must_use]
    pub fn remembering_groups(self, state_dir: &Path) -> Self {
        let known = known::Known::open(state_dir);
        known.see(&self.engine);
        Self { known: Arc::new(known), ..self }
    }

    /// Tells the handles of volumes in an orchestrator that knows the machine by this name.
    #[must_use]
    pub fn called_in_csi(self, node: Option<String>) -> Self {
        Self { csi_node: node, ..self }
    }

    /// Which volumes have samples of their own.
    #[must_use]
    pub fn measuring_volumes(self, volume_metrics: VolumeMetrics) -> Self {
        Self { volume_metrics, ..self }
    }

    /// Starts the slow timer that refreshes what readers see.
    pub fn start_refreshing(&self) -> std::io::Result<()> {
        let (engine, process, fill) = (self.engine.clone(), self.process.clone(), self.fill.clone());
        let (facts, listener) = (self.facts.clone(), self.listener.clone());
        let (references, not_attached) = (self.references.clone(), self.not_attached.clone());
        let known = self.known.clone();
        process.look();
        let burst = Mutex::new(Burst::default());
        let work = move |_: &dyn Fn() -> bool| {
            process.look();
            let mut burst = burst.lock().unwrap_or_else(PoisonError::into_inner);
            if process.resident_bytes().is_some_and(|bytes| burst.is_over(bytes)) {
                vol_linux::give_memory_back();
                process.look();
                burst.given_back(process.resident_bytes());
            }
            drop(burst);
            engine.refresh();
            known.see_again(&engine);
            if engine.has_unfinished_fills() {
                fill.poke();
            }
            if let Some(listener) = listener.get() {
                listener.problems(jobs::problems(&engine, &facts, &references, &not_attached));
            }
            Some(REFRESH_EVERY)
        };
        self.keep(Ticker::start("refresh", Poker::default(), Some(REFRESH_EVERY), work)?);
        Ok(())
    }

    /// Starts the thread that deletes for good what has been kept long enough.
    pub fn start_purging(&self) -> std::io::Result<()> {
        let engine = self.engine.clone();
        let window = Arc::clone(&self.window);
        // A window that is opened or shut while the daemon runs is seen with the next look.
        let every = |window: u64| PURGE_EVERY.min(Duration::from_secs(window.max(1)));
        let first = every(window.load(Ordering::Relaxed));
        let work = move |go_on: &dyn Fn() -> bool| {
            // What was kept when the window was still open is deleted now that it is shut.
            let window = window.load(Ordering::Relaxed);
            engine.purge_due(window, go_on);
            Some(if window > 0 || engine.keeps_deleted() { every(window) } else { PURGE_EVERY })
        };
        self.keep(Ticker::start("purge", Poker::default(), Some(first), work)?);
        Ok(())
    }

    /// Starts the thread that goes on with thick volumes that were being wiped or copied when a daemon ended.
    pub fn start_filling(&self) -> std::io::Result<()> {
        let engine = self.engine.clone();
        let work = move |go_on: &dyn Fn() -> bool| {
            engine.fill_unfinished(go_on);
            // Else it is poked when there is something again.
            engine.has_unfinished_fills().then_some(FILL_EVERY)
        };
        self.keep(Ticker::start("fill", self.fill.clone(), Some(FILL_FIRST), work)?);
        Ok(())
    }

    fn keep(&self, ticker: Ticker) {
        self.tickers.lock().unwrap_or_else(PoisonError::into_inner).push(ticker);
    }

    /// Starts the thread that does what is to be done in the background when there is something.
    pub fn start_maintaining(&self) -> std::io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let (engine, told) = (self.engine.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("maintain".to_owned()).spawn(move || {
            while !told.load(Ordering::Acquire) {
                engine.maintain(MAINTAIN_AT_LEAST_EVERY);
            }
        })?;
        *self.maintainer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Maintainer { stop, thread });
        Ok(())
    }

    /// Starts the thread that lets pools grow ahead of demand.
    pub fn start_guarding_space(&self) -> std::io::Result<()> {
        let engine = self.engine.clone();
        // A thread of its own, for a growth waits for changes of its VG. How soon it looks again the pools say.
        let work = move |_: &dyn Fn() -> bool| Some(engine.guard_space());
        self.keep(Ticker::start("space", Poker::default(), Some(Duration::ZERO), work)?);
        Ok(())
    }

    fn open_vg(&self, name: &Name) -> Result<Arc<OpenVg>, ApiError> {
        self.engine.vg(name).map_err(error::from_refusal)
    }

    fn vgs_to_list(&self, vg: Option<&Name>) -> Result<Vec<Arc<OpenVg>>, ApiError> {
        match vg {
            Some(name) => Ok(vec![self.open_vg(name)?]),
            None => Ok(self.engine.vgs()),
        }
    }

    fn volume_info(&self, path: &VolumePath) -> Read<VolumeInfo> {
        let vg = self.open_vg(&path.vg)?;
        let view = vg.view();
        let name = VolumeName { volume: path.volume.clone(), snapshot: None };
        vg.read(|catalog| {
            let volume = vol_engine::find_volume(catalog, &name).map_err(error::from_refusal)?;
            Ok(self.shown(catalog, &view, volume))
        })
    }

    fn shown(&self, catalog: &vol_core::Catalog, view: &vol_engine::View, volume: &vol_types::Volume) -> VolumeInfo {
        let mark = self.csi_mark();
        let besides = info::Besides {
            filling: self.engine.filling(volume.id),
            references: refs::of_volume(&self.references, volume.id),
            csi_mark: mark.as_deref(),
        };
        let mut info = VolumeInfo::default();
        info::show(&mut info, catalog, &info::Around::one(view), volume, besides);
        info
    }

    /// What follows the id of each object in its handle.
    fn csi_mark(&self) -> Option<String> {
        self.csi_node.as_deref().map(|node| vol_csi::ids::told("", node))
    }

    fn snapshot_info(&self, path: &SnapshotPath) -> Read<SnapshotInfo> {
        let vg = self.open_vg(&path.volume.vg)?;
        let view = vg.view();
        let name = VolumeName { volume: path.volume.volume.clone(), snapshot: Some(path.snapshot.clone()) };
        vg.read(|catalog| {
            let volume = vol_engine::find_volume(catalog, &name).map_err(error::from_refusal)?;
            info::snapshot(catalog, &info::Around::one(&view), volume)
                .ok_or_else(|| ApiError::internal(format!("{path} is recorded as a volume")))
        })
    }

    fn pool_info(&self, path: &PoolPath) -> Read<PoolInfo> {
        let vg = self.open_vg(&path.vg)?;
        let view = vg.view();
        vg.read(|catalog| {
            let pool = vol_core::plan::pool::find(catalog, Some(&path.pool)).map_err(error::from_refusal)?;
            Ok(info::pool(catalog, &view, pool))
        })
    }
}

impl<H: HostMut + 'static> Backend for EngineBackend<H> {
    fn alive(&self) -> Result<Summary, String> {
        let dead = |name: &str| format!("the thread {name:?} has ended");
        let tickers = self.tickers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = tickers.iter().find(|ticker| ticker.has_ended()) {
            return Err(dead(ended.name()));
        }
        drop(tickers);
        let maintainer = self.maintainer.lock().unwrap_or_else(PoisonError::into_inner);
        if maintainer.as_ref().is_some_and(|one| one.thread.is_finished()) {
            return Err(dead("maintain"));
        }
        drop(maintainer);
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = watchers.iter().find(|watcher| watcher.has_ended()) {
            return Err(dead(ended.name()));
        }
        drop(watchers);
        let others = self.facts.problems.len() + self.engine.scan_problems().len() + self.boot_problems().len();
        let mut summary = Summary { problems: others as u64, ..Summary::default() };
        for vg in self.engine.vgs() {
            summary.vgs += 1;
            summary.problems += vg.view().problems.len() as u64;
            vg.read(|catalog| {
                for volume in catalog.volumes().filter(|one| one.state != VolumeState::Deleted) {
                    match volume.snapshot {
                        Some(_) => summary.snapshots += 1,
                        None => summary.volumes += 1,
                    }
                }
            });
        }
        Ok(summary)
    }

    fn status(&self) -> Read<Status> {
        let vgs = self.engine.vgs();
        let mut status = info::status(&self.facts, &self.engine.host().io_backend());
        for vg in &vgs {
            let view = vg.view();
            vg.read(|catalog| info::add_to_status(&mut status, catalog, &view));
        }
        for problem in self.engine.scan_problems().into_iter().chain(self.boot_problems()) {
            info::add_problem(&mut status, &problem, None);
        }
        if let Some(problem) = self.references.problem() {
            status.problems.push(problem);
            status.health = status.health.max(vol_api::Health::Degraded);
        }
        Ok(status)
    }

    fn doctor(&self) -> Read<Vec<vol_api::Finding>> {
        Ok(doctor::leftovers(self.engine.host()))
    }

    fn reconfigure(&self, config: &crate::config::Config) {
        self.engine.set_pace(vol_engine::moving::Pace { share: config.move_share, rate: config.move_rate.0 });
        self.keep_deleted(config.undelete_window.0);
    }

    fn df(&self) -> Read<Df> {
        let mut df = Df::default();
        for vg in self.engine.vgs() {
            let view = vg.view();
            vg.read(|catalog| info::add_to_df(&mut df, catalog, &view));
        }
        Ok(df)
    }

    fn measure(&self, page: &mut Page) {
        measure::write(self, page);
    }

    fn vgs(&self) -> Read<Vec<VgInfo>> {
        Ok(self.engine.vgs().iter().map(|vg| vg.read(|catalog| info::vg(catalog, &vg.view()))).collect())
    }

    fn vg(&self, vg: &Name) -> Read<VgInfo> {
        let vg = self.open_vg(vg)?;
        Ok(vg.read(|catalog| info::vg(catalog, &vg.view())))
    }

    fn pvs(&self, vg: Option<&Name>) -> Read<Vec<PvInfo>> {
        let mut all = Vec::new();
        for vg in self.vgs_to_list(vg)? {
            let view = vg.view();
            vg.read(|catalog| all.extend(catalog.pvs().map(|pv| info::pv(catalog, &view, pv))));
            let unknown = self.engine.unknown_pvs().into_iter().filter(|one| one.vg == vg.id);
            all.extend(unknown.map(|one| info::unknown_pv(&one, &self.engine.scan_problems())));
        }
        Ok(all)
    }

    fn pv(&self, id: PvId) -> Read<PvInfo> {
        let found = self.engine.vgs().iter().find_map(|vg| {
            let view = vg.view();
            vg.read(|catalog| catalog.pv(id).map(|pv| info::pv(catalog, &view, pv)))
        });
        let unknown = || {
            let one = self.engine.unknown_pvs().into_iter().find(|one| one.pv == id)?;
            Some(info::unknown_pv(&one, &self.engine.scan_problems()))
        };
        found.or_else(unknown).ok_or_else(|| {
            ApiError::not_found(format!("there is no PV {id}")).with_hint("`volctl pv list` shows the PVs")
        })
    }

    fn check_pv(&self, id: PvId) -> Read<PvCheck> {
        let info = self.pv(id)?;
        let open = self.engine.vgs().into_iter().find(|vg| vg.read(|catalog| catalog.pv(id).is_some()));
        Ok(match open.and_then(|vg| vg.check_pv(id)) {
            Some(checked) => info::check(&info, &checked),
            None => info::check_missing(&info),
        })
    }

    fn pools(&self, vg: Option<&Name>) -> Read<Vec<PoolInfo>> {
        let mut all = Vec::new();
        for vg in self.vgs_to_list(vg)? {
            let view = vg.view();
            vg.read(|catalog| all.extend(catalog.pools().map(|pool| info::pool(catalog, &view, pool))));
        }
        all.sort_by(|a, b| (&a.vg, &a.name).cmp(&(&b.vg, &b.name)));
        Ok(all)
    }

    fn pool(&self, pool: &PoolPath) -> Read<PoolInfo> {
        self.pool_info(pool)
    }

    fn volumes(&self, vg: Option<&Name>) -> Read<Vec<VolumeInfo>> {
        let mut all = Vec::new();
        self.volume_rows(vg, Selector::default())?.each(&mut |row| {
            all.push(row.clone());
            true
        });
        Ok(all)
    }

    fn volume_rows(&self, vg: Option<&Name>, selector: Selector) -> Read<VolumeRows> {
        Ok(rows::volumes(self, self.vgs_to_list(vg)?, selector))
    }

    fn volume(&self, volume: &VolumePath) -> Read<VolumeInfo> {
        self.volume_info(volume)
    }

    fn hurry(&self, volume: VolumeId) {
        self.engine.vgs().iter().for_each(|vg| vg.hurry(volume));
    }

    fn volumes_labelled(&self, key: &str, value: Option<&str>) -> Read<Vec<VolumeInfo>> {
        let mut all = Vec::new();
        for vg in self.engine.vgs() {
            let view = vg.view();
            vg.read(|catalog| {
                let fits = |one: &&vol_types::Volume| {
                    let has = one.labels.get(key).is_some_and(|label| value.is_none_or(|value| value == label));
                    has && one.snapshot.is_none() && one.state != VolumeState::Deleted
                };
                let found = catalog.volumes().filter(fits);
                all.extend(found.map(|volume| self.shown(catalog, &view, volume)));
            });
        }
        all.sort_by(|a, b| (&a.vg, &a.name).cmp(&(&b.vg, &b.name)));
        Ok(all)
    }

    fn snapshots(&self, vg: Option<&Name>) -> Read<Vec<SnapshotInfo>> {
        let mut all = Vec::new();
        for vg in self.vgs_to_list(vg)? {
            let view = vg.view();
            vg.read(|catalog| {
                let there = catalog.volumes().filter(|one| one.state != VolumeState::Deleted);
                let around = info::Around::many(&view);
                all.extend(there.filter_map(|volume| info::snapshot(catalog, &around, volume)));
            });
        }
        all.sort_by(|a, b| a.full_name.cmp(&b.full_name));
        Ok(all)
    }

    fn snapshot(&self, snapshot: &SnapshotPath) -> Read<SnapshotInfo> {
        self.snapshot_info(snapshot)
    }

    fn pool_usage(&self, pool: &PoolPath) -> Read<vol_api::PoolUsage> {
        usage::pool(self, pool)
    }
    fn volume_usage(&self, volume: &VolumePath) -> Read<vol_api::VolumeUsage> {
        usage::volume(self, volume)
    }
    fn vg_map(&self, vg: &Name) -> Read<vol_api::VgMap> {
        usage::map(self, vg)
    }

    fn create_vg(&self, request: vol_api::CreateVg, dry_run: bool) -> Change<VgInfo> {
        change::create_vg(self, &request, dry_run)
    }
    fn delete_vg(&self, vg: &Name, dry_run: bool) -> Change<VgInfo> {
        change::delete_vg(self, vg, dry_run)
    }
    fn extend_vg(&self, vg: &Name, request: vol_api::ExtendVg, dry_run: bool) -> Change<VgInfo> {
        membership::extend(self, vg, &request, dry_run)
    }
    fn reduce_vg(&self, vg: &Name, request: vol_api::ReduceVg, dry_run: bool) -> Change<VgInfo> {
        membership::reduce(self, vg, &request, dry_run)
    }
    fn rename_vg(&self, vg: &Name, request: vol_api::RenameVg, dry_run: bool) -> Change<VgInfo> {
        membership::rename(self, vg, &request, dry_run)
    }
    fn export_vg(&self, vg: &Name, dry_run: bool) -> Change<VgInfo> {
        membership::export(self, vg, dry_run)
    }
    fn import_vg(&self, vg: &Name, dry_run: bool) -> Change<VgInfo> {
        membership::import(self, vg, dry_run)
    }
    fn backup_vg(&self, vg: &Name) -> Read<vol_api::backup::Backup> {
        restore::backup(self, vg)
    }
    fn restore_vg(&self, request: vol_api::RestoreVg, dry_run: bool) -> Change<VgInfo> {
        restore::restore(self, &request, dry_run)
    }
    fn import_clone(&self, request: vol_api::ImportClone, dry_run: bool) -> Change<VgInfo> {
        restore::import_clone(self, &request, dry_run)
    }
    fn wipe_pv(&self, request: vol_api::WipePv, dry_run: bool) -> Change<PvInfo> {
        membership::wipe(self, &request, dry_run)
    }
    fn give_up_pool(&self, pool: &PoolPath, request: vol_api::GiveUpPool, dry_run: bool) -> Change<PoolInfo> {
        membership::give_up_pool(self, pool, &request, dry_run)
    }
    fn create_pool(&self, request: vol_api::CreatePool, dry_run: bool) -> Change<PoolInfo> {
        change::create_pool(self, &request, dry_run)
    }
    fn extend_pool(&self, pool: &PoolPath, request: vol_api::ExtendPool, dry_run: bool) -> Change<PoolInfo> {
        space::extend(self, pool, &request, dry_run)
    }
    fn set_pool(&self, pool: &PoolPath, request: vol_api::SetPool, dry_run: bool) -> Change<PoolInfo> {
        space::set(self, pool, &request, dry_run)
    }
    fn delete_pool(&self, pool: &PoolPath, dry_run: bool) -> Change<PoolInfo> {
        change::delete_pool(self, pool, dry_run)
    }
    fn create_volume(&self, request: vol_api::CreateVolume, dry_run: bool) -> Change<VolumeInfo> {
        change::create_volume(self, &request, dry_run)
    }
    fn mount_volume(&self, volume: &VolumePath, request: vol_api::Mount, dry_run: bool) -> Change<VolumeInfo> {
        change::mount_volume(self, volume, &request, dry_run)
    }
    fn unmount_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        change::unmount_volume(self, volume, dry_run)
    }
    fn attach_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        change::attach_volume(self, volume, dry_run)
    }
    fn attach_volume_read_only(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        change::attach_volume_read_only(self, volume, dry_run)
    }
    fn detach_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        change::detach_volume(self, volume, dry_run)
    }
    fn delete_volume(&self, volume: &VolumePath, now: bool, dry_run: bool) -> Change<VolumeInfo> {
        trash::delete_volume(self, volume, now, dry_run)
    }
    fn resize_volume(&self, volume: &VolumePath, request: vol_api::ResizeVolume, dry_run: bool) -> Change<VolumeInfo> {
        fs::resize(self, volume, &request, dry_run)
    }
    fn check_volume(&self, volume: &VolumePath, request: vol_api::CheckVolume, dry_run: bool) -> Change<VolumeInfo> {
        fs::check(self, volume, &request, dry_run)
    }
    fn trim_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<vol_api::TrimInfo> {
        fs::trim(self, volume, dry_run)
    }
    fn create_snapshot(&self, request: vol_api::CreateSnapshot, dry_run: bool) -> Change<SnapshotInfo> {
        change::create_snapshot(self, &request, dry_run)
    }
    fn mount_snapshot(&self, snapshot: &SnapshotPath, request: vol_api::Mount, dry_run: bool) -> Change<SnapshotInfo> {
        change::mount_snapshot(self, snapshot, &request, dry_run)
    }
    fn unmount_snapshot(&self, snapshot: &SnapshotPath, dry_run: bool) -> Change<SnapshotInfo> {
        change::unmount_snapshot(self, snapshot, dry_run)
    }
    fn delete_snapshot(&self, snapshot: &SnapshotPath, now: bool, dry_run: bool) -> Change<SnapshotInfo> {
        trash::delete_snapshot(self, snapshot, now, dry_run)
    }
    fn deleted(&self, vg: Option<&Name>) -> Read<Vec<DeletedInfo>> {
        trash::list(self, vg)
    }
    fn undelete_volume(&self, volume: &VolumePath, dry_run: bool) -> Change<VolumeInfo> {
        trash::undelete_volume(self, volume, dry_run)
    }
    fn undelete_snapshot(&self, snapshot: &SnapshotPath, dry_run: bool) -> Change<SnapshotInfo> {
        trash::undelete_snapshot(self, snapshot, dry_run)
    }
    fn check_pool(
        &self,
        pool: &PoolPath,
        request: vol_api::CheckPool,
        dry_run: bool,
    ) -> Change<vol_api::PoolCheckInfo> {
        repair::check(self, pool, &request, dry_run)
    }
    fn repair_pool(
        &self,
        pool: &PoolPath,
        request: vol_api::RepairPool,
        dry_run: bool,
    ) -> Change<vol_api::PoolRepairInfo> {
        repair::repair(self, pool, &request, dry_run)
    }
    fn purge_pool(&self, pool: &PoolPath, dry_run: bool) -> Change<Purged> {
        trash::purge_pool(self, pool, dry_run)
    }
    fn init(&self, request: vol_api::Init, dry_run: bool) -> Change<vol_api::InitInfo> {
        change::init(self, &request, dry_run)
    }
    fn scan(&self, request: vol_api::ScanRequest, dry_run: bool) -> Change<vol_api::ScanInfo> {
        change::scan(self, &request, dry_run)
    }

    fn jobs(&self) -> Read<Vec<vol_api::JobInfo>> {
        jobs::list(self)
    }
    fn job(&self, id: &str) -> Read<vol_api::JobInfo> {
        jobs::show(self, id)
    }
    fn cancel_job(&self, id: &str, dry_run: bool) -> Change<vol_api::JobInfo> {
        jobs::cancel(self, id, dry_run)
    }
    fn listen(&self, listener: Arc<dyn Listener>) {
        jobs::listen(&self.engine, listener.clone());
        listener.problems(jobs::problems(&self.engine, &self.facts, &self.references, &self.not_attached));
        let _ = self.listener.set(listener);
    }

    fn stopping(&self) {
        self.engine.halt_filling();
    }

    fn stop(&self) {
        let watchers = std::mem::take(&mut *self.watchers.lock().unwrap_or_else(PoisonError::into_inner));
        watchers.into_iter().for_each(watch::Watcher::stop);
        let tickers = std::mem::take(&mut *self.tickers.lock().unwrap_or_else(PoisonError::into_inner));
        tickers.into_iter().for_each(Ticker::stop);
        let maintainer = self.maintainer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Maintainer { stop, thread }) = maintainer {
            stop.store(true, Ordering::Release);
            self.engine.ring();
            if thread.join().is_err() {
                tracing::error!("the maintaining thread had failed");
            }
        }
        self.engine.settle_owed();
    }
}
