//! The space of pools: requests that change it, and what is done about it without being asked.

use std::collections::BTreeMap;
use std::time::Duration;

use vol_core::Catalog;
use vol_core::dm::Device;
use vol_core::fill::{Alarms, Confidence, DATA_LEVELS, Fill, History, METADATA_LEVELS, Trend};
use vol_core::observed::{PoolMode, PoolStatus, PoolUsage};
use vol_core::plan::grow::{self, ExtendPool, SetPool};
use vol_core::plan::{Kernel, pool, reserve};
use vol_types::{Bytes, Growth, Name, ObjectKey, Pool, PoolId, PoolState, PvId, VgState};

use crate::engine::{Done, Engine, done};
use crate::error::EngineError;
use crate::host::HostMut;
use crate::jobs::News;
use crate::placement::PlaceOn;
use crate::vg::{OpenVg, Problem, View};

/// How often pools are looked at that have nothing to fear.
const LOOK_SELDOM: Duration = Duration::from_secs(5);
/// How often one that may have to grow at any moment.
const LOOK_OFTEN: Duration = Duration::from_millis(250);
/// A pool that rests may be written to at this rate, in bytes a second, from one moment to the next.
const SUDDEN_RATE: u64 = 256 << 20;
/// When a change is under way on the VG of a pool that has to grow.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// So often a growth makes way for changes; then it queues up behind them.
const POLITE: u32 = 10;
/// A growth that failed is tried again after a second, two, four, and so on up to this.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a pool fills, as readers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSpace {
    pub trend: Option<Trend>,
    /// Seconds until its data are full, what it may still grow by counted in; `None` if it does not fill.
    pub time_to_full: Option<(u64, Confidence)>,
    pub alarms: Alarms,
    /// It should grow and does not; why.
    pub trouble: Option<String>,
}

/// What is remembered of a pool.
#[derive(Debug, Default)]
struct Space {
    history: History,
    alarms: Alarms,
    /// Growth that failed: how often, why, and when it is tried again.
    failed: Option<(u32, String, Duration)>,
    /// How often in a row growth made way for a change.
    made_way: u32,
}

/// What is remembered of the pools of one VG, in memory only.
#[derive(Debug, Default)]
pub struct Spaces(
    BTreeMap<PoolId, Space>,
    /// Pools that have grown by themselves since that was told: name, size before and after.
    Vec<(Name, Bytes, Bytes)>,
);

const fn used(pool: &Pool, usage: &PoolUsage) -> Bytes {
    Bytes(usage.used_data.saturating_mul(pool.chunk_size.get()))
}

impl Spaces {
    /// Takes account of what the kernel says of the active pools, and says what readers see of that. `asked`: whether it has just been
    /// asked about this one, at that time; what it said some time ago, or before what is known already, is no news of how fast the pool
    /// fills.
    pub fn look(
        &mut self,
        catalog: &Catalog,
        (kernel, asked): (&Kernel, impl Fn(PoolId) -> bool),
        missing: &[PvId],
        asked_at: Duration,
    ) -> BTreeMap<PoolId, PoolSpace> {
        self.0.retain(|id, _| catalog.pool(*id).is_some());
        let mut seen = BTreeMap::new();
        for pool in catalog.pools() {
            let Some(PoolStatus::Working(usage)) = kernel.pools.get(&pool.id) else { continue };
            let space = self.0.entry(pool.id).or_default();
            if asked(pool.id) && space.history.latest_at().is_none_or(|latest| latest <= asked_at) {
                space.history.add(asked_at, used(pool, usage));
            }
            let written = &reserve::as_written(catalog, kernel, pool, usage);
            let demand = grow::demand(catalog, missing, pool, written, space.history.ahead());
            let trouble = match &space.failed {
                Some((_, reason, _)) => Some(reason.clone()),
                None if demand.unmet => Some(format!("volume group {} has no space left for it", catalog.vg().name)),
                None => None,
            };
            let trend = space.history.trend();
            let fill: Fill = grow::fill(catalog, pool, written, space.failed.is_some(), trend);
            space.alarms.update(&fill);
            let (alarms, time_to_full) = (space.alarms, fill.time_to_full);
            seen.insert(pool.id, PoolSpace { trend, time_to_full, alarms, trouble });
        }
        seen
    }
}

/// What there is to tell of the pools' space. A pool that is full is told as that and as nothing else.
pub fn problems(catalog: &Catalog, kernel: &Kernel, spaces: &BTreeMap<PoolId, PoolSpace>) -> Vec<Problem> {
    let mut all = Vec::new();
    let vg = &catalog.vg().name;
    // An exported VG is to be left alone.
    for pool in catalog.pools().filter(|_| catalog.vg().state != VgState::Exported) {
        let (Some(PoolStatus::Working(usage)), Some(space)) = (kernel.pools.get(&pool.id), spaces.get(&pool.id)) else {
            continue;
        };
        let name = &pool.name;
        let mut tell = |code: &'static str, message: String, hint: String| {
            all.push(Problem { code, message, hint, subject: Some(ObjectKey::Pool(pool.id)) });
        };
        let full = usage.used_data >= usage.total_data || usage.mode == PoolMode::OutOfDataSpace;
        if full || usage.used_metadata >= usage.total_metadata {
            let (what, option) =
                if full { ("is full", "--size +10G") } else { ("has no metadata left", "--metadata +256M") };
            tell(
                "pool-full",
                format!("pool {name} {what}: writes to its volumes fail now"),
                format!(
                    "give it space at once: `volctl pool extend {vg}/{name} {option}`, or delete volumes or snapshots; \
                     writes that wait then go on, and what has become read-only is unmounted and mounted again"
                ),
            );
            continue;
        }
        let more = format!("`volctl pool extend {vg}/{name} --size +10G`, or delete what is no longer needed");
        let free = Bytes(usage.total_data.saturating_sub(usage.used_data).saturating_mul(pool.chunk_size.get()));
        let set_aside = reserve::set_aside(catalog, kernel, pool);
        if set_aside > free {
            tell(
                "pool-reserve-short",
                format!(
                    "pool {name} has {free} free, but {set_aside} are set aside for volumes: others have written into that"
                ),
                more.clone(),
            );
        }
        if let Some(reason) = &space.trouble {
            tell(
                "pool-cannot-grow",
                format!("pool {name} should grow and cannot: {reason}"),
                format!(
                    "add a disk: `volctl vg extend {vg} DISK`; or delete volumes or snapshots that are no longer needed"
                ),
            );
        }
        let data = |level: usize| {
            let share = DATA_LEVELS.get(level).copied().unwrap_or(100);
            format!("more than {share} % of pool {name} is in use, what it may grow by included")
        };
        match space.alarms.data {
            0 => {}
            1 => tell("pool-filling", data(0), more.clone()),
            2 => tell("pool-nearly-full", data(1), more.clone()),
            _ => tell("pool-almost-full", data(2), more.clone()),
        }
        let metadata = |level: usize| {
            let share = METADATA_LEVELS.get(level).copied().unwrap_or(100);
            format!("more than {share} % of the metadata of pool {name} is in use")
        };
        let more_metadata =
            format!("`volctl pool extend {vg}/{name} --metadata +256M`, or delete snapshots and volumes");
        match space.alarms.metadata {
            0 => {}
            1 => tell("pool-metadata-filling", metadata(0), more_metadata),
            _ => tell("pool-metadata-nearly-full", metadata(1), more_metadata),
        }
        let soon = |when: &str| format!("pool {name} will be full in less than {when} if it goes on like this");
        match space.alarms.time {
            0 => {}
            1 => tell("pool-full-in-a-day", soon("a day"), more),
            _ => tell("pool-full-in-an-hour", soon("an hour"), more),
        }
    }
    all
}

impl OpenVg {
    /// Looks at the pools of the VG, lets those grow that have to, and says when to look again.
    pub fn guard_space<H: HostMut + ?Sized>(&self, host: &H) -> Duration {
        let view = self.view();
        let pools: Vec<Pool> = self.read(|catalog| match catalog.vg().state {
            VgState::Ready => catalog.pools().filter(|pool| pool.state == PoolState::Ready).cloned().collect(),
            VgState::Creating | VgState::Deleting | VgState::Erasing | VgState::Exported => Vec::new(),
        });
        let up = |pool: &&Pool| view.kernel.pools.contains_key(&pool.id) && pool.growth != Growth::Off;
        let looks = pools.iter().filter(up).map(|pool| self.guard_pool(host, pool, &view));
        looks.min().unwrap_or(LOOK_SELDOM)
    }

    fn guard_pool<H: HostMut + ?Sized>(&self, host: &H, pool: &Pool, view: &View) -> Duration {
        let Ok(PoolStatus::Working(usage)) = host.pool_status(&Device::Pool(pool.id).uuid()) else {
            return LOOK_SELDOM;
        };
        let now = host.uptime();
        let (rate, ahead, tried_later) = {
            let mut spaces = self.spaces();
            let space = spaces.0.entry(pool.id).or_default();
            space.history.add(now, used(pool, &usage));
            let later = space.failed.as_ref().map(|(_, _, again)| again.saturating_sub(now));
            (space.history.present_rate(), space.history.ahead(), later.filter(|later| !later.is_zero()))
        };
        // What is set aside is not free: the pool grows before it is touched.
        let usage = self.read(|catalog| reserve::as_written(catalog, &view.kernel, pool, &usage));
        let demand = self.read(|catalog| grow::demand(catalog, &view.missing, pool, &usage, ahead));
        if let Some(later) = tried_later.filter(|_| !demand.is_none()) {
            return later.min(LOOK_SELDOM);
        }
        if demand.is_none() {
            if let Some(space) = self.spaces().0.get_mut(&pool.id) {
                space.failed = None;
            }
            // Without the lock on what is remembered: who refreshes the view takes that after the catalog's.
            return self.read(|catalog| look_again(catalog, pool, &usage, rate, ahead));
        }
        if self.makes_way(pool.id) {
            return LOOK_AGAIN;
        }
        self.grow(host, pool, ahead);
        LOOK_OFTEN
    }

    /// A change that is under way may take long, and other VGs are looked at meanwhile; but not for ever.
    fn makes_way(&self, pool: PoolId) -> bool {
        let free = self.try_session().is_some();
        let mut spaces = self.spaces();
        let space = spaces.0.entry(pool).or_default();
        space.made_way = if free || space.made_way >= POLITE { 0 } else { space.made_way + 1 };
        space.made_way > 0
    }

    fn grow<H: HostMut + ?Sized>(&self, host: &H, pool: &Pool, ahead: Bytes) {
        let size = || self.read(|catalog| catalog.pool(pool.id).map(|pool| catalog.pool_data_size(pool)));
        let before = size();
        let grown = self.change(host, false, |catalog, kernel, missing| {
            Ok((grow::automatic(catalog, kernel, missing, pool.id, ahead)?, ()))
        });
        let after = size();
        let mut spaces = self.spaces();
        if let (Ok(_), Some(from), Some(to)) = (&grown, before, after)
            && from < to
        {
            spaces.1.push((pool.name.clone(), from, to));
        }
        let space = spaces.0.entry(pool.id).or_default();
        match grown {
            Ok((plan, ())) => {
                space.failed = None;
                if !plan.is_empty() {
                    tracing::info!(pool = %pool.name, %ahead, "grown ahead of demand: {}", plan.title);
                }
            }
            Err(error) => {
                let times = space.failed.as_ref().map_or(0, |(times, _, _)| *times);
                let wait = Duration::from_secs(1 << times.min(6)).min(PATIENCE);
                if times == 0 {
                    tracing::warn!(pool = %pool.name, %error, "the pool should grow, and that failed");
                }
                space.failed = Some((times.saturating_add(1), error.to_string(), host.uptime().saturating_add(wait)));
            }
        }
    }
}

/// When a pool that need not grow yet is looked at again: sooner the nearer it is to having to, and the faster it is written to.
fn look_again(catalog: &Catalog, pool: &Pool, usage: &PoolUsage, rate: u64, ahead: Bytes) -> Duration {
    if grow::room(catalog, pool).is_zero() {
        return LOOK_SELDOM;
    }
    let size = catalog.pool_data_size(pool);
    let free = size.saturating_sub(used(pool, usage));
    let margin = free.saturating_sub(grow::wanted_free(size, ahead)).get();
    // Four looks on the way there.
    let millis = margin.saturating_mul(1000) / SUDDEN_RATE.max(rate.saturating_mul(4));
    Duration::from_millis(millis).clamp(LOOK_OFTEN, LOOK_SELDOM)
}

impl<H: HostMut> Engine<H> {
    /// Looks at all pools, lets those grow that have to ahead of demand, and says when to look again: soon when one may have to grow
    /// soon, in a few seconds else.
    pub fn guard_space(&self) -> Duration {
        let guard = |vg: &std::sync::Arc<OpenVg>| {
            let again = vg.guard_space(self.host());
            let grown = std::mem::take(&mut vg.spaces().1);
            for (pool, from, to) in grown {
                self.tell(News::PoolGrown { vg: vg.read(|catalog| catalog.vg().name.clone()), pool, from, to });
            }
            again
        };
        self.vgs().iter().map(guard).min().unwrap_or(LOOK_SELDOM)
    }

    /// Gives a pool more data or metadata extents of its VG.
    pub fn extend_pool(&self, vg: &Name, request: &ExtendPool, dry_run: bool) -> Result<Done<PoolId>, EngineError> {
        self.extend_pool_on(vg, request, &PlaceOn::default(), dry_run)
    }

    /// As [`Engine::extend_pool`], with this growth on certain PVs.
    pub fn extend_pool_on(
        &self,
        vg: &Name,
        request: &ExtendPool,
        place: &PlaceOn,
        dry_run: bool,
    ) -> Result<Done<PoolId>, EngineError> {
        let open = self.vg(vg)?;
        let mut request = ExtendPool { contiguous: request.contiguous || place.contiguous, ..request.clone() };
        if !place.is_anywhere() {
            request.placement = Some(self.placement(&open, place)?);
        }
        let (plan, id) = open.change(self.host(), dry_run, |catalog, kernel, missing| {
            let id = pool::find(catalog, Some(&request.name))?.id;
            Ok((grow::extend(catalog, kernel, missing, &request)?, id))
        })?;
        Ok(done(plan, id, dry_run))
    }

    /// Changes what is to happen as a pool fills.
    pub fn set_pool(&self, vg: &Name, request: &SetPool, dry_run: bool) -> Result<Done<PoolId>, EngineError> {
        self.set_pool_on(vg, request, None, dry_run)
    }

    /// As [`Engine::set_pool`]; `place`: where it grows from then on, without [`PlaceOn::contiguous`], which no pool remembers.
    pub fn set_pool_on(
        &self,
        vg: &Name,
        request: &SetPool,
        place: Option<&PlaceOn>,
        dry_run: bool,
    ) -> Result<Done<PoolId>, EngineError> {
        let open = self.vg(vg)?;
        let mut request = request.clone();
        if let Some(place) = place {
            request.placement = Some(self.placement(&open, place)?);
        }
        let (plan, id) = open.change(self.host(), dry_run, |catalog, kernel, missing| {
            let id = pool::find(catalog, Some(&request.name))?.id;
            Ok((grow::set(catalog, kernel, missing, &request)?, id))
        })?;
        Ok(done(plan, id, dry_run))
    }
}
