//! One copy of the metadata: where it stands on its PV, and what is free of its log.

use std::sync::Arc;

use vol_format::layout::Geometry;
use vol_format::record;

use crate::host::{BlockWrite, HostError};
use crate::pvs::OpenPv;

/// One copy of the metadata.
pub struct StoreCopy {
    pub id: record::Copy,
    pub device: Arc<dyn BlockWrite>,
    pub geometry: Geometry,
    /// Where the next record goes, a position that only grows.
    pub log_position: u64,
    /// The slot of the newest checkpoint, and where the log behind it begins.
    pub slot: u8,
    pub log_start: u64,
    /// Set at the first failed write: what stands there is unknown, so it is not written to again before it is opened anew (FMT-24).
    pub failed: Option<HostError>,
}

impl StoreCopy {
    /// A copy that holds nothing yet; its first checkpoint goes to slot 0.
    pub fn blank(id: record::Copy, pv: &OpenPv) -> Self {
        Self {
            id,
            device: pv.device.clone(),
            geometry: pv.geometry,
            log_position: 0,
            slot: 1,
            log_start: 0,
            failed: None,
        }
    }

    pub fn fail(&mut self, error: HostError) {
        tracing::error!(pv = %self.id.pv, %error, "a metadata copy failed and is not written to any more");
        self.failed = Some(error);
    }

    /// Whether a record of this length can be put without touching what the newest checkpoint still needs (FMT-17).
    pub fn has_room(&self, len: u64) -> bool {
        let end = record::place(self.log_position, len, self.geometry.log_len) + len;
        end - self.log_start <= self.geometry.log_len
    }

    /// As [`StoreCopy::has_room`], for several records of so many bytes together, wherever the lap ends among them.
    pub fn has_room_for_all(&self, len: u64) -> bool {
        let skipped = record::RECORD_LEN_MAX as u64;
        self.log_position + len + skipped - self.log_start <= self.geometry.log_len
    }

    pub fn half_full(&self) -> bool {
        (self.log_position - self.log_start) * 2 > self.geometry.log_len
    }
}
