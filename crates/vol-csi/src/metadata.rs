//! The service SnapshotMetadata: which parts of a snapshot are in use, and which are not what they were in an earlier one.

use std::collections::VecDeque;
use std::ops::Range;

use crate::csi::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse,
};
use crate::snapshot::no_snapshot;
use crate::{Refused, Snapshot, Volumes, ids, limits};

/// Ranges of one answer, if the client does not ask for fewer: well below what a client of gRPC takes (4 MiB).
const ANSWER_MAX: usize = 8192;

/// Parts of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// In bytes, ascending, without overlap.
    pub ranges: Vec<Range<u64>>,
    /// Before this byte all was looked at; `None`: at the end.
    pub next: Option<u64>,
}

/// A stream under way: what is asked, and how far it has been looked at. It holds nothing but what was found and not yet told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    base: Option<Snapshot>,
    target: Snapshot,
    /// From where on to look; `None`: nothing is left.
    next: Option<u64>,
    found: VecDeque<Range<u64>>,
    /// Ranges of one answer.
    most: usize,
    begun: bool,
}

/// A message of a stream.
pub trait Message {
    fn of(capacity: i64, ranges: Vec<BlockMetadata>) -> Self;
}

impl Message for GetMetadataAllocatedResponse {
    fn of(volume_capacity_bytes: i64, block_metadata: Vec<BlockMetadata>) -> Self {
        Self { block_metadata_type: BlockMetadataType::VariableLength.into(), volume_capacity_bytes, block_metadata }
    }
}

impl Message for GetMetadataDeltaResponse {
    fn of(volume_capacity_bytes: i64, block_metadata: Vec<BlockMetadata>) -> Self {
        Self { block_metadata_type: BlockMetadataType::VariableLength.into(), volume_capacity_bytes, block_metadata }
    }
}

/// Begins to answer `GetMetadataAllocated`.
///
/// # Errors
/// `NOT_FOUND`, and `OUT_OF_RANGE` for an offset that the snapshot does not have.
pub fn allocated(volumes: &dyn Volumes, request: &GetMetadataAllocatedRequest) -> Result<Stream, Refused> {
    let target = find(volumes, "snapshot_id", &request.snapshot_id)?;
    Stream::new(None, target, request.starting_offset, request.max_results)
}

/// Begins to answer `GetMetadataDelta`.
///
/// # Errors
/// As [`allocated`]; `INVALID_ARGUMENT` if the snapshots are not of one volume.
pub fn delta(volumes: &dyn Volumes, request: &GetMetadataDeltaRequest) -> Result<Stream, Refused> {
    let base = find(volumes, "base_snapshot_id", &request.base_snapshot_id)?;
    let target = find(volumes, "target_snapshot_id", &request.target_snapshot_id)?;
    if base.source != target.source {
        return Err(Refused::invalid(format!("{} and {} are snapshots of different volumes", base.path, target.path)));
    }
    Stream::new(Some(base), target, request.starting_offset, request.max_results)
}

fn find(volumes: &dyn Volumes, field: &str, id: &str) -> Result<Snapshot, Refused> {
    let id = limits::id(field, id)?;
    if let Some(snapshot) = volumes.find_snapshot(id)? {
        return Ok(snapshot);
    }
    let refused = no_snapshot(id);
    let elsewhere = ids::is_elsewhere(id, &volumes.settings().node);
    Err(if elsewhere { refused.with_hint("another machine made it: it is to be asked there") } else { refused })
}

impl Stream {
    fn new(base: Option<Snapshot>, target: Snapshot, offset: i64, most: i32) -> Result<Self, Refused> {
        let asked = usize::try_from(most).map_err(|_| Refused::invalid(format!("max_results is negative: {most}")))?;
        // At the end nothing is left to be told, which is no error: there a stream that was cut off goes on.
        let from = u64::try_from(offset).ok().filter(|from| *from <= target.size).ok_or_else(|| {
            Refused::out_of_range(format!(
                "starting_offset is {offset}, and snapshot {} has {} bytes",
                target.path, target.size
            ))
        })?;
        let most = if asked == 0 { ANSWER_MAX } else { asked.min(ANSWER_MAX) };
        let next = (from < target.size).then_some(from);
        Ok(Self { base, target, next, found: VecDeque::new(), most, begun: false })
    }

    /// The snapshot that is told of, for people.
    pub fn path(&self) -> &str {
        &self.target.path
    }

    /// Looks on, if nothing is left of what was found.
    ///
    /// # Errors
    /// What the daemon says; `NOT_FOUND` if a snapshot is gone by now.
    pub fn look(&mut self, volumes: &dyn Volumes) -> Result<(), Refused> {
        if !self.found.is_empty() {
            return Ok(());
        }
        let Some(from) = self.next else { return Ok(()) };
        let parts = volumes.changed(self.base.as_ref(), &self.target, from)?;
        self.next = parts.next;
        self.found = parts.ranges.into();
        Ok(())
    }

    /// Whether [`Stream::look`] has something to look for.
    pub fn is_hungry(&self) -> bool {
        self.found.is_empty() && self.next.is_some()
    }

    /// The next message of what was found. The first one comes even if nothing was: it tells the size.
    pub fn message<M: Message>(&mut self) -> Option<M> {
        if self.begun && self.found.is_empty() {
            return None;
        }
        self.begun = true;
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let take = self.most.min(self.found.len());
        let told = |one: Range<u64>| BlockMetadata {
            byte_offset: number(one.start),
            size_bytes: number(one.end.saturating_sub(one.start)),
        };
        Some(M::of(number(self.target.size), self.found.drain(..take).map(told).collect()))
    }
}
