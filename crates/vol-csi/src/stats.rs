//! How full a volume is. It is asked for every minute and for each volume, so nothing is asked of a pool or a device.

use crate::controller::no_such;
use crate::csi::volume_usage::Unit;
use crate::csi::{NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, VolumeUsage};
use crate::expand::not_there;
use crate::{Refused, Volumes, limits};

/// What a file system says of itself (`statvfs(3)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub total: u64,
    pub used: u64,
    pub available: u64,
    /// Zero for all where there is no fixed number of them, as on btrfs.
    pub inodes: u64,
    pub inodes_used: u64,
}

/// Answers `NodeGetVolumeStats`.
///
/// # Errors
/// `NOT_FOUND` if it is not at the path that is named.
pub fn stats(
    volumes: &dyn Volumes,
    request: &NodeGetVolumeStatsRequest,
) -> Result<NodeGetVolumeStatsResponse, Refused> {
    let id = limits::id("volume_id", &request.volume_id)?;
    let at = limits::id("volume_path", &request.volume_path)?;
    let volume = volumes.find(id)?.ok_or_else(|| no_such(id))?;
    let at = at.strip_suffix('/').unwrap_or(at);
    if volume.fs.is_none() && volume.mounted_at(at).is_some() {
        // What of a device is in use only its user knows.
        let total = i64::try_from(volume.size).unwrap_or(i64::MAX);
        let bytes = VolumeUsage { unit: Unit::Bytes.into(), total, ..VolumeUsage::default() };
        return Ok(NodeGetVolumeStatsResponse { usage: vec![bytes] });
    }
    let usage = match volume.mounted_at(at) {
        Some(_) => volumes.usage(&volume, at)?,
        None => None,
    };
    let usage = usage.ok_or_else(|| not_there(&volume, at))?;
    let told = |unit: Unit, total: u64, used: u64, available: u64| {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        VolumeUsage { unit: unit.into(), total: number(total), used: number(used), available: number(available) }
    };
    let bytes = told(Unit::Bytes, usage.total, usage.used, usage.available);
    let free = usage.inodes.saturating_sub(usage.inodes_used);
    let inodes = (usage.inodes > 0).then(|| told(Unit::Inodes, usage.inodes, usage.inodes_used, free));
    Ok(NodeGetVolumeStatsResponse { usage: [bytes].into_iter().chain(inodes).collect() })
}
