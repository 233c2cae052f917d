//! What readers see besides the catalog, and when it is brought up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use vol_core::Catalog;
use vol_core::observed::DiskIdentity;
use vol_core::plan::{Kernel, health};
use vol_format::layout::Geometry;
use vol_types::{ObjectKey, PoolId, PvId, VgState};

use super::OpenVg;
use crate::audit;
use crate::claims::Claimed;
use crate::exec::Session;
use crate::host::{HostMut, HostResult};
use crate::observe::{self, Interest, Look, Mapped};
use crate::space::{self, PoolSpace};
use crate::store::StoreCounters;

/// A look at the kernel that is older than this when its turn comes is not shown.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable word for programs.
    pub code: &'static str,
    pub message: String,
    pub hint: String,
    /// The object it is about; the VG as a whole if `None`.
    pub subject: Option<ObjectKey>,
}

/// What readers see besides the catalog: refreshed after every change and by a slow timer, never by a reader.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub kernel: Kernel,
    /// Sectors that active volumes have mapped in their pool.
    pub mapped: Mapped,
    pub problems: Vec<Problem>,
    pub missing: Vec<PvId>,
    /// Device nodes of the PVs that are there.
    pub nodes: Vec<(PvId, std::path::PathBuf)>,
    /// And what they are.
    pub identities: BTreeMap<PvId, DiskIdentity>,
    /// How they are laid out.
    pub layouts: BTreeMap<PvId, Geometry>,
    /// Metadata copies that are there, and that there should be.
    pub copies: (usize, usize),
    pub counters: StoreCounters,
    /// How the active pools fill.
    pub space: BTreeMap<vol_types::PoolId, PoolSpace>,
    /// When all that the kernel has of the VG was last looked at, by [`crate::host::HostRead::uptime`]; `None`: it never could be.
    pub looked_at: Option<Duration>,
}

/// What the changes concerned that ended since a look at the kernel began.
#[derive(Debug)]
pub(super) enum SinceTheLook {
    Some(Interest),
    /// It may have been anything.
    All,
}

impl Default for SinceTheLook {
    fn default() -> Self {
        Self::Some(Interest::default())
    }
}

impl SinceTheLook {
    /// `None`: anything.
    fn note(&mut self, interest: Option<&Interest>) {
        *self = match (std::mem::take(self), interest) {
            (Self::Some(before), Some(interest)) => Self::Some(before.with(interest.clone())),
            _ => Self::All,
        };
    }
}

impl OpenVg {
    /// Looks at all that the kernel has of the VG.
    pub(crate) fn refresh_with<H: HostMut + ?Sized>(&self, host: &H, session: &Session) {
        // Before the look: what is seen is no older than this.
        let now = host.uptime();
        let looked = self.observe_with_mapped(host);
        self.show_all(session, (looked, now), |_| true);
        // What a look that began meanwhile saw is older than what is shown.
        self.since_the_look().note(None);
    }

    fn show_all(
        &self,
        session: &Session,
        (looked, at): (HostResult<(Kernel, Mapped)>, Duration),
        asked: impl Fn(PoolId) -> bool,
    ) {
        let looked_at = if looked.is_ok() { Some(at) } else { self.view().looked_at };
        let (kernel, mapped) = match looked {
            Ok((kernel, mapped)) => (Ok(kernel), mapped),
            Err(error) => (Err(error), Mapped::new()),
        };
        self.show(session, (kernel, looked_at), mapped, (at, asked));
    }

    /// A look at the kernel begins, which is not held up by changes and holds none up: from here on it is noted what they concern.
    pub(crate) fn begin_look(&self) {
        *self.since_the_look() = SinceTheLook::default();
    }

    fn since_the_look(&self) -> MutexGuard<'_, SinceTheLook> {
        self.since_the_look.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was done that may have concerned anything: what a look saw that began before does not count.
    pub(crate) fn outdate_look(&self) {
        self.since_the_look().note(None);
    }

    /// The timer's refresh. `look` began after [`OpenVg::begin_look`] and without the session: of what changes concerned that ended since
    /// is shown what they saw.
    pub(super) fn refresh_from<H: HostMut + ?Sized>(
        &self,
        host: &H,
        session: &Session,
        look: Option<&HostResult<Look>>,
    ) {
        let now = host.uptime();
        if look.is_none() {
            return self.refresh_with(host, session);
        }
        let since = std::mem::take(&mut *self.since_the_look());
        if let (Some(Ok(look)), SinceTheLook::Some(_)) = (look, &since)
            && now.saturating_sub(look.at) > LOOK_MAX
        {
            // Something hung: what was seen is of long ago, and another look now would hang with the session. The age of the view tells.
            return;
        }
        let mut kept = BTreeSet::new();
        let (looked, at) = match (look, since) {
            (Some(Ok(look)), SinceTheLook::Some(concerned)) => {
                kept.clone_from(&concerned.pools);
                let merged = self.read(|catalog| look.of(catalog)).and_then(|(mut kernel, mut mapped)| {
                    let view = self.view();
                    concerned.keep((&view.kernel, &view.mapped), &mut kernel, &mut mapped);
                    if !concerned.is_empty() {
                        kernel.mounts = host.mounts()?;
                    }
                    Ok((self.with_what_was_found(kernel, &mapped), mapped))
                });
                (merged, look.at)
            }
            (Some(Err(error)), SinceTheLook::Some(_)) => (Err(error.clone()), now),
            _ => (self.observe_with_mapped(host), now),
        };
        let looked = looked.map(|(mut kernel, mapped)| {
            self.compare_again(host, session, &mut kernel);
            (kernel, mapped)
        });
        self.show_all(session, (looked, at), |pool| !kept.contains(&pool));
    }

    /// As [`OpenVg::refresh_with`], after a change that went well and concerned these alone: of the rest is shown what was seen last.
    /// `None`: it may have concerned anything.
    pub(crate) fn refresh_after<H: HostMut + ?Sized>(&self, host: &H, session: &Session, interest: Option<&Interest>) {
        // Space that was set aside just now in a pool that had none is counted with what all its volumes have mapped.
        let enough = |interest: &&Interest| {
            let volumes = interest.volumes.iter().copied();
            self.read(|catalog| interest.is_enough(catalog) && Interest::in_volumes(catalog, volumes).is_some())
        };
        let Some(interest) = interest.filter(enough) else { return self.refresh_with(host, session) };
        let now = host.uptime();
        let before = self.view();
        let (mut kernel, mut mapped) = (before.kernel.clone(), before.mapped.clone());
        let looked = observe::look_again(host, interest, &mut kernel, &mut mapped).and_then(|()| {
            if interest.mounts {
                kernel.mounts = host.mounts()?;
            }
            // What volumes with a reserve have mapped is as it was: these pools have none.
            kernel.findings = self.audits().findings();
            kernel.away = self.away();
            Ok(kernel)
        });
        let good = looked.is_ok();
        self.show(session, (looked, before.looked_at), mapped, (now, |pool| interest.pools.contains(&pool)));
        // What was not seen is not to be put in the place of what the timer sees.
        self.since_the_look().note(Some(interest).filter(|_| good));
    }

    fn show(
        &self,
        session: &Session,
        (kernel, looked_at): (HostResult<Kernel>, Option<Duration>),
        mapped: Mapped,
        (asked_at, asked): (Duration, impl Fn(PoolId) -> bool),
    ) {
        if let (Some(bell), Some(store)) = (self.bell.get(), &session.store)
            && store.wants_checkpoint()
        {
            bell.ring();
        }
        self.settle_away(session);
        let missing = self.missing(session);
        let mut problems = Vec::new();
        let kernel = kernel.unwrap_or_else(|error| {
            problems.push(Problem {
                code: "kernel-unreadable",
                message: format!("the kernel's devices cannot be read: {error}"),
                hint: "see `volctl status` for what device-mapper lacks".to_owned(),
                subject: None,
            });
            Kernel::default()
        });
        let opening = self.opening_problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let claimed = self.claimed();
        problems.extend(self.read(|catalog| find_problems(catalog, &kernel, &missing, session, &opening, &claimed)));
        problems.extend(self.read(|catalog| audit::problems(catalog, &kernel, &self.audits())));
        let space = self.read(|catalog| self.spaces().look(catalog, (&kernel, asked), &missing, asked_at));
        problems.extend(self.read(|catalog| space::problems(catalog, &kernel, &space)));
        let view = View {
            mapped,
            kernel,
            problems,
            missing,
            nodes: session.pvs.iter().map(|(id, pv)| (*id, pv.node.clone())).collect(),
            identities: session.pvs.iter().map(|(id, pv)| (*id, pv.identity.clone())).collect(),
            layouts: session.pvs.iter().map(|(id, pv)| (*id, pv.geometry)).collect(),
            copies: session.store.as_ref().map_or((0, 0), crate::store::Store::copies),
            counters: session.store.as_ref().map(crate::store::Store::counters).unwrap_or_default(),
            space,
            looked_at,
        };
        self.tell(&view.problems);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// A problem goes to the log when it appears and when it is over, not every few seconds in between.
    pub(super) fn tell(&self, problems: &[Problem]) {
        let before = self.view();
        let same = |a: &Problem, b: &Problem| a.code == b.code && a.subject == b.subject;
        let vg = self.read(|catalog| catalog.vg().name.clone());
        for problem in problems.iter().filter(|new| !before.problems.iter().any(|old| same(old, new))) {
            tracing::warn!(%vg, code = problem.code, "{}", problem.message);
        }
        for problem in before.problems.iter().filter(|old| !problems.iter().any(|new| same(old, new))) {
            tracing::info!(%vg, code = problem.code, "over: {}", problem.message);
        }
    }
}

/// Objects that are named in one message.
const NAMED: usize = 5;

pub(super) fn pv_missing(catalog: &Catalog, id: PvId) -> Problem {
    let was = catalog.pv(id).map_or("", |pv| pv.path_hint.as_str());
    let pools = catalog.pools().filter(|pool| pool.data.iter().chain(&pool.metadata).any(|segment| segment.pv == id));
    let thick = catalog
        .thick_volumes()
        .filter(|volume| volume.thick().is_some_and(|thick| thick.segments.iter().any(|segment| segment.pv == id)));
    let mut on_it: Vec<String> = pools.map(|pool| format!("pool {}", pool.name)).collect();
    on_it.extend(thick.map(|volume| format!("volume {}", vol_core::VolumeName::of(volume))));
    let more = on_it.len().saturating_sub(NAMED);
    on_it.truncate(NAMED);
    let on_it = match (on_it.is_empty(), more) {
        (true, _) => "; nothing of pools or volumes lies on it".to_owned(),
        (false, 0) => format!("; on it lie parts of {}", on_it.join(", ")),
        (false, more) => format!("; on it lie parts of {} and of {more} more", on_it.join(", ")),
    };
    Problem {
        code: "pv-missing",
        message: format!("PV {id} (last seen as {was}) is missing{on_it}"),
        hint: "attach the disk again: it is taken up by itself, under whatever name; if not, run `volctl pv scan`"
            .to_owned(),
        subject: Some(ObjectKey::Pv(id)),
    }
}

/// Something that was found wrong with the metadata or the PVs.
pub(super) fn of_metadata(message: String) -> Problem {
    let hint = "its copies are listed by `volctl pv list`".to_owned();
    Problem { code: "metadata", message, hint, subject: None }
}

fn find_problems(
    catalog: &Catalog,
    kernel: &Kernel,
    missing: &[PvId],
    session: &Session,
    opening: &[Problem],
    claimed: &Claimed,
) -> Vec<Problem> {
    let mut problems = opening.to_vec();
    problems.extend(missing.iter().map(|id| pv_missing(catalog, *id)));
    if let Some(store) = &session.store {
        if let Some(reason) = store.frozen() {
            problems.push(Problem {
                code: "metadata-frozen",
                message: format!("no changes are taken: {reason}"),
                hint: "running volumes are not affected; see docs/troubleshooting.md".to_owned(),
                subject: None,
            });
        }
        for (pv, error) in store.failed_copies() {
            problems.push(Problem {
                code: "metadata-copy-failed",
                message: format!("the metadata copy on PV {pv} failed: {error}"),
                hint: "check that disk; the copy is written again after `volctl pv scan`".to_owned(),
                subject: Some(ObjectKey::Pv(pv)),
            });
        }
    }
    for key in catalog.unfinished().filter(|key| !claimed.objects().contains(key)) {
        let what = match key {
            ObjectKey::Volume(id) => catalog.volume(id).map(|one| format!("volume {}", vol_core::VolumeName::of(one))),
            ObjectKey::Pool(id) => catalog.pool(id).map(|one| format!("pool {}", one.name)),
            ObjectKey::Vg(_) => Some("the volume group itself".to_owned()),
            ObjectKey::Intent(_) | ObjectKey::Pv(_) => None,
        };
        if let Some(what) = what {
            problems.push(Problem {
                code: "unfinished",
                message: format!("{what} was cut short while it was made or deleted, and is not settled yet"),
                hint: "it is tried again by itself; the daemon's log says what is in the way".to_owned(),
                subject: Some(key),
            });
        }
    }
    for volume in catalog.thick_volumes().filter(|one| one.state == vol_types::VolumeState::Creating) {
        let path = format!("{}/{}", catalog.vg().name, volume.name);
        if let Some(fs) = volume.thick().filter(|thick| thick.filled >= volume.size).and_then(|thick| thick.wanted) {
            problems.push(Problem {
                code: "unfinished",
                message: format!(
                    "thick volume {path} is wiped, and waits for the request that is to make its {}",
                    fs.as_str()
                ),
                hint: format!(
                    "ask for it again with `volctl volume create`, or give it up: `volctl volume delete {path}`"
                ),
                subject: Some(ObjectKey::Volume(volume.id)),
            });
        }
    }
    for volume in catalog.to_check() {
        let name = vol_core::VolumeName::of(volume);
        problems.push(Problem {
            code: "fs-check",
            message: format!("the file system of {name} may have errors: it is checked before it is mounted writable"),
            hint: format!("look at it now: `volctl volume check {}/{name}`", catalog.vg().name),
            subject: Some(ObjectKey::Volume(volume.id)),
        });
    }
    // An exported VG is to be left alone: that its pools are down is as it should be.
    let used_here = |_: &&vol_types::Pool| catalog.vg().state != VgState::Exported;
    for pool in catalog.pools().filter(used_here) {
        if let health::PoolHealth::Bad { message, hint } = health::explained(catalog, kernel, pool) {
            problems.push(Problem { code: "pool-refused", message, hint, subject: Some(ObjectKey::Pool(pool.id)) });
        }
    }
    problems
}
