//! What changed between two snapshots, from the metadata of their pool (`docs/csi.md`, "Changed blocks").
//!
//! It is read in pages: while one is read the pool's metadata snapshot is held, and between two nothing is. That is the same as one
//! reading, for what a snapshot maps never changes.

use std::ops::Range;
use std::time::Duration;

use vol_core::dm::Device;
use vol_core::{Catalog, Refusal, VolumeName};
use vol_types::{Bytes, Pool, Volume, VolumeId, VolumeState};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::host::{ChangesCall, HostMut, MetadataRoot};
use crate::vg::OpenVg;

/// How long a metadata snapshot is held for one page; the rest is the next page's.
const HELD_MAX: Duration = Duration::from_secs(2);

/// Parts of a snapshot that are not what they are in another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPage {
    /// In bytes, ascending; none touches the next, and all are in whole chunks of the pool.
    pub ranges: Vec<Range<u64>>,
    /// Before this byte all was looked at; `None`: at the end.
    pub next: Option<u64>,
}

impl<H: HostMut> Engine<H> {
    /// In which parts the snapshot `target` differs from the snapshot `base` of the same pool, or without one: which parts of it were ever
    /// written to and not discarded since. Looks from the byte `from` on, in whole chunks; finds `most` ranges at most.
    ///
    /// A part that is the same may be told too, if it was written to with what it had before; one that differs is never left out.
    ///
    /// # Errors
    /// `not_found` if one is no snapshot, or gone; what [`Engine::pool_usage`] may say.
    pub fn changed(
        &self,
        base: Option<VolumeId>,
        target: VolumeId,
        from: u64,
        most: usize,
    ) -> Result<ChangedPage, EngineError> {
        let vg = self.vgs().into_iter().find(|vg| vg.read(|catalog| catalog.volume(target).is_some()));
        vg.ok_or_else(|| gone(target))?.changed(self.host(), base, target, from, most)
    }
}

fn gone(id: VolumeId) -> EngineError {
    Refusal::not_found(format!("there is no snapshot {id} (any more)")).into()
}

/// A snapshot and its thin id.
fn snapshot(catalog: &Catalog, id: VolumeId) -> Result<(&Volume, u32), EngineError> {
    let volume = catalog.volume(id).filter(|one| one.snapshot.is_some() && one.state == VolumeState::Ready);
    let volume = volume.ok_or_else(|| gone(id))?;
    Ok((volume, volume.thin_id().ok_or_else(|| gone(id))?))
}

/// What is compared.
struct Pair {
    pool: Pool,
    base: Option<u32>,
    target: u32,
    size: Bytes,
}

impl Pair {
    fn find(catalog: &Catalog, base: Option<VolumeId>, target: VolumeId) -> Result<Self, EngineError> {
        let (volume, thin_id) = snapshot(catalog, target)?;
        let pool = catalog.pool_of(volume).ok_or_else(|| gone(target))?;
        let base = base.map(|id| snapshot(catalog, id)).transpose()?;
        if let Some((other, _)) = base.filter(|(other, _)| other.pool() != volume.pool()) {
            let (one, other) = (VolumeName::of(volume), VolumeName::of(other));
            return Err(Refusal::invalid(format!("{one} and {other} are in different pools")).into());
        }
        Ok(Self { pool: pool.clone(), base: base.map(|(_, id)| id), target: thin_id, size: volume.size })
    }
}

impl OpenVg {
    fn changed<H: HostMut + ?Sized>(
        &self,
        host: &H,
        base: Option<VolumeId>,
        target: VolumeId,
        from: u64,
        most: usize,
    ) -> Result<ChangedPage, EngineError> {
        let pair = self.read(|catalog| Pair::find(catalog, base, target))?;
        let lease = self.leases().of(pair.pool.id);
        let mut held = lease.take();
        // While it was waited for who has the lease, any of them may have gone.
        let pair = self.read(|catalog| Pair::find(catalog, base, target))?;
        let usage = self.readable(host, &pair.pool, &lease)?;
        let chunk = pair.pool.chunk_size.get().max(1);
        let (first, size) = (from / chunk, pair.size.get());
        let found = held.with_snapshot(host, pair.pool.id, &usage, false, || {
            host.pool_changes(&ChangesCall {
                metadata_uuid: &Device::PoolMetadata(pair.pool.id).uuid(),
                root: MetadataRoot::Held,
                base: pair.base,
                target: pair.target,
                chunks: first..size.div_ceil(chunk),
                most: most.max(1),
                enough: HELD_MAX,
                go_on: &|| lease.may_read(),
            })
        })?;
        drop(held);
        let bytes = |chunk_number: u64| chunk_number.saturating_mul(chunk).min(size);
        let next = found.next.map(bytes).filter(|next| *next < size);
        if next.is_some_and(|next| next <= from) && found.ranges.is_empty() {
            return Err(Refusal::busy("reading the pool's metadata does not get on").into());
        }
        // What was compared is what is there: no thin id comes again, but a rollback or a repair may give a snapshot another one.
        let still = self.read(|catalog| Pair::find(catalog, base, target))?;
        if (still.base, still.target) != (pair.base, pair.target) {
            return Err(Refusal::busy("the snapshots were changed while they were compared").into());
        }
        Ok(ChangedPage { ranges: found.ranges.iter().map(|one| bytes(one.start)..bytes(one.end)).collect(), next })
    }
}
