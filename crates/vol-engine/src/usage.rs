//! Who takes how much of a pool (`docs/usage.md`), from its own metadata. Asked for by requests, so bounded: one reading at a time
//! per pool, what was read serves all who ask shortly after, and no change of the VG waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use vol_core::dm::Device;
use vol_core::observed::{Kin, PoolMode, PoolSharing, PoolStatus, PoolUsage};
use vol_core::{Catalog, Refusal, RefusalCode};
use vol_types::{Bytes, Name, ObjectKey, Pool, PoolId, VgState, Volume, VolumeId};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::host::{HostErrorKind, HostMut, HostResult, MetadataRoot, SharingCall};
use crate::lease::{Held, Lease};
use crate::vg::OpenVg;

/// How old a reading may be that is of another transaction of the pool, and a failure that is told again.
const SHORTLY: Duration = Duration::from_secs(2);
/// How long a metadata snapshot is held. While it is, what the pool changes of its metadata takes new blocks.
const HELD_MAX: Duration = Duration::from_secs(30);
/// From this on, in percent of the metadata, those blocks are needed more urgently.
const METADATA_PERCENT_MAX: u64 = 90;

/// What one volume or snapshot takes of its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThinSpace {
    /// What it has written to and not discarded since, shared or not.
    pub allocated: Bytes,
    /// What deleting it alone, for good, would free.
    pub exclusive: Bytes,
}

/// What a volume and its snapshots take together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilySpace {
    /// What deleting all snapshots of the volume would free, and not the volume.
    pub snapshots: Bytes,
    /// What deleting the volume and all of its snapshots would free.
    pub whole: Bytes,
}

/// A pool's space at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReading {
    pub pool: PoolId,
    /// Seconds since 1970; for display.
    pub read_at: u64,
    /// The pool's transaction id then.
    pub transaction_id: u64,
    /// Chunks that anything is written to, each counted once.
    pub allocated: Bytes,
    /// By thin id, those that are not ours among them.
    pub thins: BTreeMap<u32, ThinSpace>,
    /// Thin ids that were no volume's of ours when the reading began.
    pub strays: BTreeSet<u32>,
    /// What deleting for good all that is deleted and kept would free.
    pub deleted: Bytes,
    /// By volume; of those that are gone and have snapshots left, too.
    pub families: BTreeMap<VolumeId, FamilySpace>,
}

impl<H: HostMut> Engine<H> {
    /// Who takes how much of a pool; what was read no longer than `most_age` ago will do.
    pub fn pool_usage(&self, vg: &Name, pool: &Name, most_age: Duration) -> Result<Arc<PoolReading>, EngineError> {
        self.vg(vg)?.pool_usage(self.host(), pool, most_age)
    }
}

impl OpenVg {
    /// See [`Engine::pool_usage`].
    pub fn pool_usage<H: HostMut + ?Sized>(
        &self,
        host: &H,
        pool: &Name,
        most_age: Duration,
    ) -> Result<Arc<PoolReading>, EngineError> {
        let find = |catalog: &Catalog| vol_core::plan::pool::find(catalog, Some(pool)).cloned();
        let lease = self.leases().of(self.read(find)?.id);
        let mut held = lease.take();
        // Whoever had it may have read it just now, and the pool may be another since.
        let pool = self.read(find)?;
        if let Some((at, last)) = &held.last {
            let same = last.as_ref().is_ok_and(|last| last.transaction_id == pool.transaction_id);
            let patience = if same { most_age } else { most_age.min(SHORTLY) };
            if host.uptime().saturating_sub(*at) < patience {
                return Ok(last.clone()?);
            }
        }
        let usage = self.readable(host, &pool, &lease)?;
        let read = self.read_usage(host, &pool, &usage, &lease, &mut held);
        if let Err(error) = &read {
            tracing::warn!(pool = %pool.name, %error, "who takes how much of the pool could not be read");
        }
        held.last = Some((host.uptime(), read.clone()));
        Ok(read?)
    }

    /// That the pool can be read without harm, and what it says of itself.
    pub(crate) fn readable<H: HostMut + ?Sized>(
        &self,
        host: &H,
        pool: &Pool,
        lease: &Lease,
    ) -> Result<PoolUsage, EngineError> {
        let name = &pool.name;
        let (vg, state) = self.read(|catalog| (catalog.vg().name.clone(), catalog.vg().state));
        if state != VgState::Ready {
            return Err(Refusal::busy(format!("volume group {vg} is not in use here, so pool {name} cannot be read"))
                .hint(format!("if it is exported, `volctl vg import {vg}` takes it into use"))
                .into());
        }
        let degraded = |message: String, hint: &str| Refusal::new(RefusalCode::Degraded, message).hint(hint);
        let view = self.view();
        let refused = view.problems.iter().find(|problem| {
            problem.code == "metadata-frozen"
                || (problem.code == "pool-refused" && problem.subject == Some(ObjectKey::Pool(pool.id)))
        });
        if let Some(problem) = refused {
            return Err(degraded(problem.message.clone(), &problem.hint).into());
        }
        let unwell = |what: &str| {
            let message = format!("pool {name} {what}: its mappings cannot be read");
            degraded(message, "see `volctl status` and docs/troubleshooting.md")
        };
        let usage = match host.pool_status(&Device::Pool(pool.id).uuid()) {
            Ok(PoolStatus::Working(usage)) => usage,
            Ok(PoolStatus::Fail | PoolStatus::Error) => return Err(unwell("has failed").into()),
            Err(error) if error.kind == HostErrorKind::NotFound => return Err(unwell("is not active").into()),
            Err(error) => return Err(error.into()),
        };
        if usage.needs_check || usage.mode == PoolMode::ReadOnly {
            return Err(unwell("is read-only after an error").into());
        }
        if usage.used_metadata.saturating_mul(100) >= usage.total_metadata.saturating_mul(METADATA_PERCENT_MAX) {
            let message = format!(
                "the metadata of pool {name} are more than {METADATA_PERCENT_MAX} % full; reading them takes room there"
            );
            let hint = "delete snapshots or volumes, or extend the pool, then ask again";
            return Err(Refusal::no_space(message).hint(hint).into());
        }
        if !lease.may_read() {
            return Err(Refusal::busy(format!("pool {name} is being taken down"))
                .hint("see `volctl pool list`")
                .into());
        }
        Ok(usage)
    }

    fn read_usage<H: HostMut + ?Sized>(
        &self,
        host: &H,
        pool: &Pool,
        usage: &PoolUsage,
        lease: &Lease,
        held: &mut Held,
    ) -> HostResult<Arc<PoolReading>> {
        let (families, kin) = self.read(|catalog| families(catalog, pool.id));
        let read_at = host.now();
        let sharing = held.with_snapshot(host, pool.id, usage, false, || {
            host.pool_sharing(&SharingCall {
                metadata_uuid: &Device::PoolMetadata(pool.id).uuid(),
                root: MetadataRoot::Held,
                kin: &kin,
                limit: HELD_MAX,
                go_on: &|| lease.may_read(),
            })
        })?;
        let mut reading = reading(pool, read_at, &sharing, &families);
        reading.strays = reading.thins.keys().filter(|id| !kin.contains_key(id)).copied().collect();
        Ok(Arc::new(reading))
    }
}

/// The set, and the family, of what is deleted or being deleted.
const GONE: u32 = u32::MAX;

/// The family of a volume: itself and its snapshots.
const fn family(volume: &Volume) -> VolumeId {
    match &volume.snapshot {
        Some(snapshot) => snapshot.of,
        None => volume.id,
    }
}

/// The sets of a family: the volume alone, and its snapshots.
const fn sets(family: u32) -> (u32, u32) {
    (family.saturating_mul(2), family.saturating_mul(2).saturating_add(1))
}

fn families(catalog: &Catalog, pool: PoolId) -> (BTreeMap<VolumeId, u32>, BTreeMap<u32, Kin>) {
    let mut families = BTreeMap::new();
    let mut kin = BTreeMap::new();
    for volume in catalog.volumes_of(pool) {
        let Some(thin_id) = volume.thin_id() else { continue };
        if !volume.state.has_name() {
            kin.insert(thin_id, Kin { set: GONE, family: GONE });
            continue;
        }
        let next = u32::try_from(families.len()).unwrap_or(GONE);
        let family = *families.entry(family(volume)).or_insert(next);
        let (own, snapshots) = sets(family);
        let set = if volume.snapshot.is_some() { snapshots } else { own };
        kin.insert(thin_id, Kin { set, family });
    }
    (families, kin)
}

fn reading(pool: &Pool, read_at: u64, found: &PoolSharing, families: &BTreeMap<VolumeId, u32>) -> PoolReading {
    let bytes = |chunks: u64| Bytes(chunks.saturating_mul(pool.chunk_size.get()));
    let of = |all: &BTreeMap<u32, u64>, key: u32| bytes(all.get(&key).copied().unwrap_or(0));
    let thin = |(id, record): (&u32, &vol_core::observed::ThinRecord)| {
        let space = ThinSpace { allocated: bytes(record.mapped_chunks), exclusive: of(&found.exclusive, *id) };
        (*id, space)
    };
    let space = |(volume, family): (&VolumeId, &u32)| {
        let whole = of(&found.families, *family);
        (*volume, FamilySpace { snapshots: of(&found.sets, sets(*family).1), whole })
    };
    PoolReading {
        pool: pool.id,
        read_at,
        transaction_id: found.contents.transaction_id,
        allocated: bytes(found.mapped),
        deleted: of(&found.sets, GONE),
        thins: found.contents.thins.iter().map(thin).collect(),
        strays: BTreeSet::new(),
        families: families.iter().map(space).collect(),
    }
}
