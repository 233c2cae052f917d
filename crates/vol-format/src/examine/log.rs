//! The log from the newest sound checkpoint on: its records, why it ends where it does, and what stands behind its end.

use std::collections::BTreeMap;

use vol_types::{Change, CommitPoint, Object, ObjectKey, PvId, VgId};

use super::findings::{self, push};
use super::{Finding, Severity, Source, names};
use crate::envelope::is_zero;
use crate::feature::Access;
use crate::label::Label;
use crate::layout::{BLOCK, BLOCK_BYTES};
use crate::record::{self, ChainHash, Copy, RECORD_LEN_MAX, Record, RecordError};

/// Records that are listed one by one; those before are counted only.
const RECORDS_LISTED_MAX: usize = 65_536;
/// Records behind the end that are listed.
const BEYOND_LISTED_MAX: usize = 64;
/// So far behind the end of the log it is looked for what should not be there: all of the longest log that this release lays out.
const LOOK_AHEAD: u64 = 64 << 20;
/// Bytes of one read: several of the longest records.
const WINDOW: u64 = 2 << 20;

/// A record of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSummary {
    pub sequence: u64,
    /// Logical position.
    pub position: u64,
    /// In bytes from the start of the device.
    pub offset: u64,
    /// Bytes on disk.
    pub len: u64,
    pub previous: ChainHash,
    pub hash: ChainHash,
    pub changes: usize,
    /// The changes in a few words.
    pub summary: String,
}

/// Why no further record of the history stands at a place: the table of section 6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// All zero: never written, or the write was lost.
    NeverWritten,
    /// Something else than a record, for example the middle of a longer one of an earlier lap.
    NoRecord,
    /// A write that was cut short, or damage.
    Torn,
    /// Damage.
    TooLong {
        claimed: u64,
        room: u64,
    },
    Version {
        major: u16,
        minor: u16,
    },
    /// Left from another VG, or misdirected.
    OtherVg {
        found: VgId,
    },
    /// A clone, or a write that went to another disk.
    OtherPv {
        found: PvId,
    },
    /// A record of an earlier lap of the ring: the next one was not made, or its write was lost.
    EarlierLap {
        found: u64,
        laps: u64,
    },
    /// A record of a later lap: the checkpoint that leads to it is gone.
    LaterLap {
        found: u64,
    },
    /// A record that was meant for another place.
    Misdirected {
        found: u64,
    },
    Malformed(String),
    /// A later commit in the right place: a write in between was lost.
    LostBefore {
        found: u64,
        expected: u64,
    },
    /// An earlier commit in the right place: left from before this copy was written anew.
    Stale {
        found: u64,
    },
    /// The right sequence number, and another history before it.
    OtherHistory {
        sequence: u64,
    },
    Unreadable(String),
}

/// A place where the next record could stand (FMT-12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndPlace {
    /// Logical position.
    pub position: u64,
    /// In bytes from the start of the device.
    pub offset: u64,
    pub reason: EndReason,
}

/// A sound record of this copy behind the end of its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    pub sequence: u64,
    pub position: u64,
    pub offset: u64,
    pub hash: ChainHash,
}

/// What the log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// In bytes from the start of the device.
    pub offset: u64,
    pub len: u64,
    /// Logical position behind the checkpoint.
    pub start: u64,
    /// Logical position behind the last record.
    pub end: u64,
    pub record_count: u64,
    /// The last 65,536 of them.
    pub records: Vec<RecordSummary>,
    /// The place behind the last record, and the beginning of the next lap if that is another.
    pub places: Vec<EndPlace>,
    /// Sound records of this copy behind the end with a higher sequence number than the head.
    pub beyond: Vec<Beyond>,
    pub beyond_count: u64,
}

/// Where the log is followed from.
pub(super) struct Begin {
    pub sequence: u64,
    pub hash: ChainHash,
    pub position: u64,
}

/// Follows the log (section 10, step 2), applies its changes to `objects` and notes its points in `known`.
pub(super) fn follow(
    source: &mut Source<'_, '_>,
    copy: &Copy,
    label: &Label,
    access: Access,
    begin: Begin,
    objects: &mut BTreeMap<ObjectKey, Object>,
    known: &mut BTreeMap<u64, ChainHash>,
) -> (Log, CommitPoint) {
    let (offset, len) = (label.geometry.log_offset, label.geometry.log_len);
    let mut ring = Ring { source, copy, access, offset, len, window: Vec::new(), window_at: 0 };
    let mut head = CommitPoint { sequence: begin.sequence, hash: begin.hash };
    let mut position = begin.position;
    let mut records = std::collections::VecDeque::new();
    let mut record_count = 0u64;
    let places = loop {
        let record = match ring.next(position, &head) {
            Ok(record) => record,
            Err(places) => break places,
        };
        let record_len = u64::try_from(record.len).unwrap_or(u64::MAX);
        position = record.position.saturating_add(record_len);
        head = CommitPoint { sequence: record.sequence, hash: record.hash };
        record_count = record_count.saturating_add(1);
        if known.len() < RECORDS_LISTED_MAX.saturating_mul(4) {
            known.insert(record.sequence, record.hash);
        }
        if records.len() >= RECORDS_LISTED_MAX {
            records.pop_front();
        }
        records.push_back(RecordSummary {
            sequence: record.sequence,
            position: record.position,
            offset: ring.on_device(record.position),
            len: record_len,
            previous: record.previous,
            hash: record.hash,
            changes: record.changes.len(),
            summary: names::summary(&record.changes, objects),
        });
        for change in record.changes {
            match change {
                Change::Put(object) => drop(objects.insert(object.key(), object)),
                Change::Delete(key) => drop(objects.remove(&key)),
            }
        }
    };
    known.insert(head.sequence, head.hash);
    let (beyond, beyond_count) = ring.beyond(position, begin.position, &head);
    let records = records.into();
    let log =
        Log { offset, len, start: begin.position, end: position, record_count, records, places, beyond, beyond_count };
    (log, head)
}

/// The log region, read in windows.
struct Ring<'a, 's, 'r> {
    source: &'a mut Source<'s, 'r>,
    copy: &'a Copy,
    access: Access,
    offset: u64,
    len: u64,
    window: Vec<u8>,
    /// Where in the region the window begins.
    window_at: u64,
}

impl Ring<'_, '_, '_> {
    fn on_device(&self, position: u64) -> u64 {
        self.offset.saturating_add(position.checked_rem(self.len).unwrap_or(0))
    }

    /// The record that continues the history at `position` or at the next lap, or why there is none at either.
    fn next(&mut self, position: u64, head: &CommitPoint) -> Result<Record, Vec<EndPlace>> {
        let mut places = Vec::new();
        let skipped = record::next_lap(position, self.len);
        for at in [position, skipped] {
            match self.at(at, head) {
                Ok(record) => return Ok(record),
                Err(reason) => places.push(EndPlace { position: at, offset: self.on_device(at), reason }),
            }
            if skipped == position {
                break;
            }
        }
        Err(places)
    }

    fn at(&mut self, position: u64, head: &CommitPoint) -> Result<Record, EndReason> {
        let (copy, access, len) = (*self.copy, self.access, self.len);
        let in_ring = position.checked_rem(len).unwrap_or(0);
        let (bytes, cut) = self.bytes(in_ring).map_err(EndReason::Unreadable)?;
        let record = record::decode_for(access, &copy, position, bytes).map_err(|error| match error {
            RecordError::NoRecord if bytes.get(..BLOCK).is_some_and(is_zero) => EndReason::NeverWritten,
            RecordError::NoRecord => EndReason::NoRecord,
            RecordError::Torn => EndReason::Torn,
            RecordError::TooLong { claimed, .. } if cut && claimed <= RECORD_LEN_MAX as u64 => {
                EndReason::Unreadable("a part of the record cannot be read".to_owned())
            }
            RecordError::TooLong { claimed, room } => EndReason::TooLong { claimed, room },
            RecordError::Version { major, minor } => EndReason::Version { major, minor },
            RecordError::WrongVg { found } => EndReason::OtherVg { found },
            RecordError::WrongPv { found } => EndReason::OtherPv { found },
            RecordError::WrongPosition { found } => misplaced(found, position, len),
            // `decode` does not compare with a history.
            RecordError::WrongSequence { found, expected } => EndReason::LostBefore { found, expected },
            RecordError::WrongHistory { sequence } => EndReason::OtherHistory { sequence },
            RecordError::Malformed(malformed) => EndReason::Malformed(malformed.what.to_owned()),
        })?;
        match record.follows(head.sequence, &head.hash) {
            Ok(()) => Ok(record),
            Err(RecordError::WrongSequence { found, expected }) if found > expected => {
                Err(EndReason::LostBefore { found, expected })
            }
            Err(RecordError::WrongSequence { found, .. }) => Err(EndReason::Stale { found }),
            Err(_) => Err(EndReason::OtherHistory { sequence: record.sequence }),
        }
    }

    /// Sound records behind the end, up to where the log began.
    fn beyond(&mut self, end: u64, start: u64, head: &CommitPoint) -> (Vec<Beyond>, u64) {
        let (copy, access) = (*self.copy, self.access);
        let mut listed = Vec::new();
        let mut count = 0u64;
        let stop = start.saturating_add(self.len).min(end.saturating_add(LOOK_AHEAD));
        let mut position = end;
        while position < stop {
            let offset = self.on_device(position);
            let in_ring = position.checked_rem(self.len).unwrap_or(0);
            let mut step = BLOCK_BYTES;
            if let Ok((bytes, _)) = self.bytes(in_ring)
                && bytes.starts_with(&record::MAGIC)
                && let Ok(found) = record::decode_for(access, &copy, position, bytes)
            {
                step = u64::try_from(found.len).unwrap_or(BLOCK_BYTES).max(BLOCK_BYTES);
                if found.sequence > head.sequence {
                    count = count.saturating_add(1);
                    if listed.len() < BEYOND_LISTED_MAX {
                        listed.push(Beyond { sequence: found.sequence, position, offset, hash: found.hash });
                    }
                }
            }
            position = position.saturating_add(step);
        }
        (listed, count)
    }

    /// The region from `at` on: one longest record at least, or up to its end. `true` if a part of that cannot be read.
    fn bytes(&mut self, at: u64) -> Result<(&[u8], bool), String> {
        let rest = self.len.saturating_sub(at);
        let enough = (RECORD_LEN_MAX as u64).min(rest);
        let have = self.window_at.saturating_add(u64::try_from(self.window.len()).unwrap_or(0));
        let mut cut = false;
        if at < self.window_at || at.saturating_add(enough) > have {
            let want = usize::try_from(WINDOW.min(rest)).unwrap_or(BLOCK);
            self.window_at = at;
            self.window = match self.source.get(self.offset.saturating_add(at), want) {
                Ok(window) => window,
                Err(_) => {
                    let (window, short) = self.block_by_block(at, enough)?;
                    cut = short;
                    window
                }
            };
        }
        let from = usize::try_from(at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        Ok((self.window.get(from..).unwrap_or(&[]), cut))
    }

    /// As much as can be read from `at` on; an error if not even one block can.
    fn block_by_block(&mut self, at: u64, len: u64) -> Result<(Vec<u8>, bool), String> {
        let mut bytes = Vec::new();
        let mut done = 0u64;
        while done < len {
            let offset = self.offset.saturating_add(at).saturating_add(done);
            match self.source.get(offset, BLOCK) {
                Ok(block) => bytes.extend(block),
                Err(error) if bytes.is_empty() => {
                    self.window.clear();
                    return Err(error);
                }
                Err(_) => return Ok((bytes, true)),
            }
            done = done.saturating_add(BLOCK_BYTES);
        }
        Ok((bytes, false))
    }
}

fn misplaced(found: u64, position: u64, len: u64) -> EndReason {
    let apart = found.abs_diff(position);
    match (apart.checked_rem(len), apart.checked_div(len)) {
        (Some(0), Some(laps)) if found < position => EndReason::EarlierLap { found, laps },
        (Some(0), _) => EndReason::LaterLap { found },
        _ => EndReason::Misdirected { found },
    }
}

impl EndReason {
    /// Stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NeverWritten => "log-end",
            Self::NoRecord => "log-end-other",
            Self::Torn => "log-torn",
            Self::TooLong { .. } => "log-damaged",
            Self::Version { .. } => "log-newer",
            Self::OtherVg { .. } => "log-foreign",
            Self::OtherPv { .. } => "log-other-pv",
            Self::EarlierLap { .. } => "log-earlier-lap",
            Self::LaterLap { .. } => "log-later-lap",
            Self::Misdirected { .. } => "log-misdirected",
            Self::Malformed(_) => "log-malformed",
            Self::LostBefore { .. } => "log-lost-write",
            Self::Stale { .. } => "log-stale",
            Self::OtherHistory { .. } => "log-other-history",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// For people; it follows "what stands there is".
    pub fn text(&self) -> String {
        match self {
            Self::NeverWritten => "nothing: never written".to_owned(),
            Self::NoRecord => {
                "no record: the middle of a longer one of an earlier lap, or a record whose beginning was damaged"
                    .to_owned()
            }
            Self::Torn => {
                "a record that is torn or damaged: a write was cut short, or the disk lost a part of it".to_owned()
            }
            Self::TooLong { claimed, room } => {
                format!("a damaged record: it claims {claimed} bytes where there is room for {room}")
            }
            Self::Version { major, minor } => format!("a record of format version {major}.{minor}"),
            Self::OtherVg { found } => format!("a record of volume group {found}, left from earlier or misdirected"),
            Self::OtherPv { found } => {
                format!("a record of physical volume {found}: a clone, or a write that went to the wrong disk")
            }
            Self::EarlierLap { found, laps } => {
                let laps = if *laps == 1 { "one lap".to_owned() } else { format!("{laps} laps") };
                format!("a record written for position {found}, {laps} ago: the next write was not made, or was lost")
            }
            Self::LaterLap { found } => {
                format!(
                    "a record written for position {found}, in a later lap: the checkpoint that leads to it is gone"
                )
            }
            Self::Misdirected { found } => {
                format!("a record written for position {found}: a write went to the wrong place")
            }
            Self::Malformed(what) => format!("a record that breaks the format ({what}) although its checksum is right"),
            Self::LostBefore { found, expected } => {
                format!("commit {found} where commit {expected} was to follow: a write in between was lost")
            }
            Self::Stale { found } => format!("commit {found}, left from before this copy was written anew"),
            Self::OtherHistory { sequence } => format!("a commit {sequence} of another history"),
            Self::Unreadable(error) => format!("unreadable: {error}"),
        }
    }

    const fn severity(&self) -> Severity {
        match self {
            Self::NeverWritten | Self::EarlierLap { .. } => Severity::Ok,
            // A crash leaves a torn record, an earlier lap the middle of a longer one, an earlier life what it likes.
            Self::NoRecord | Self::Torn | Self::OtherVg { .. } | Self::Stale { .. } => Severity::Note,
            Self::TooLong { .. }
            | Self::Version { .. }
            | Self::OtherPv { .. }
            | Self::LaterLap { .. }
            | Self::Misdirected { .. }
            | Self::Malformed(_)
            | Self::LostBefore { .. }
            | Self::OtherHistory { .. }
            | Self::Unreadable(_) => Severity::Damage,
        }
    }

    const fn rule(&self) -> u8 {
        match self {
            Self::NeverWritten | Self::NoRecord | Self::EarlierLap { .. } => 12,
            Self::Torn => 8,
            Self::TooLong { .. } => 14,
            Self::Version { .. } => 3,
            Self::Malformed(_) => 20,
            Self::LaterLap { .. } => 17,
            Self::Unreadable(_) => 0,
            _ => 13,
        }
    }

    const fn advice(&self) -> &'static str {
        match self {
            Self::NeverWritten
            | Self::NoRecord
            | Self::EarlierLap { .. }
            | Self::Stale { .. }
            | Self::OtherVg { .. } => "",
            Self::Torn
            | Self::TooLong { .. }
            | Self::LostBefore { .. }
            | Self::LaterLap { .. }
            | Self::OtherHistory { .. } => findings::COMPARE,
            Self::Version { .. } => findings::NEWER,
            Self::OtherPv { .. } | Self::Misdirected { .. } => findings::MISDIRECTED,
            Self::Malformed(_) => findings::REPORT,
            Self::Unreadable(_) => findings::READ_ERROR,
        }
    }
}

pub(super) fn judge(log: &Log, head: &CommitPoint, out: &mut Vec<Finding>) {
    for (at, place) in log.places.iter().enumerate() {
        let severity = place.reason.severity();
        // Of the next lap only what is wrong is worth a word.
        if at > 0 && severity == Severity::Ok {
            continue;
        }
        let text =
            format!("the log ends behind commit {}; what stands there is {}", head.sequence, place.reason.text());
        push(out, severity, place.reason.code(), place.reason.rule(), Some(place.offset), text, place.reason.advice());
    }
    // One commit is under way at a time: a crash leaves the next one at most.
    let latest =
        log.beyond.iter().filter(|record| record.sequence > head.sequence.saturating_add(1)).max_by_key(|r| r.sequence);
    if let Some(latest) = latest {
        let text = format!(
            "{} later commits up to {} stand behind the end: they were acknowledged, and the way to them is damaged",
            log.beyond_count, latest.sequence
        );
        push(out, Severity::Damage, "log-broken", 13, Some(latest.offset), text, findings::COMPARE);
    }
}
