//! A complete, read-only account of what stands on a disk or an image: for `volctl debug dump` and `pv check`.
//!
//! [`examine`] decides nothing and uses nothing: it says what it finds at each place that the specification knows, and why
//! something that should be there is not. It works on anything of any size, never panics, reads each checkpoint slot at
//! most once and the log in windows. Every read is of whole blocks at multiples of 4096 (FMT-1).
//!
//! Several copies of one VG are compared with [`compare::standing`].

use std::collections::BTreeMap;

use vol_types::{Bytes, CommitPoint, Object, ObjectKey};

use crate::feature::Access;
use crate::label::Label;
use crate::layout::{BLOCK, BLOCK_BYTES, PvKind, round_down};
use crate::record::{ChainHash, Copy};

pub mod compare;
mod findings;
mod labels;
mod log;
mod mark;
mod names;
mod slots;

pub use labels::{LabelPlace, LabelState};
pub use log::{Beyond, EndPlace, EndReason, Log, RecordSummary};
pub use mark::{Mark, MarkHalf};
pub use names::{describe, short_hash};
pub use slots::{Slot, SlotState};

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing is lost by it.
    Note,
    /// Something that was written is not there any more, or should never have been.
    Damage,
}

impl Severity {
    /// `ok`, `note`, `damage`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Damage => "damage",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Stable word for programs; `docs/inspection.md` explains each.
    pub code: &'static str,
    /// Number of the invariant of the specification that it is about (FMT-…).
    pub rule: Option<u8>,
    /// For people: what and where.
    pub text: String,
    /// For people: what to do; empty if there is nothing to do.
    pub advice: &'static str,
    /// In bytes from the start of the device.
    pub offset: Option<u64>,
}

/// All that was found on one device.
#[derive(Clone, Debug)]
pub struct Examination {
    /// In bytes.
    pub size: u64,
    pub mark: Mark,
    /// The four places where a label may stand, in the order in which they are looked at.
    pub labels: Vec<LabelPlace>,
    /// What the labels say together ([`crate::label::choose`]).
    pub label: Option<Label>,
    /// What the feature words allow; only with a label.
    pub access: Option<Access>,
    /// Both checkpoint slots; empty without a label.
    pub slots: Vec<Slot>,
    /// Number of the slot whose checkpoint the log was followed from.
    pub chosen_slot: Option<u8>,
    /// The log from the newest sound checkpoint on; only with one.
    pub log: Option<Log>,
    /// Where the history of this copy ends; only with a sound checkpoint.
    pub head: Option<CommitPoint>,
    /// The catalog as of the head, in the order of keys.
    pub objects: Vec<Object>,
    /// Every point of its history that this copy knows: checkpoints, their ancestors, records (section 10, step 3).
    pub known: BTreeMap<u64, ChainHash>,
    /// Worst first, then by offset.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// The worst severity found.
    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// The copy of the metadata that this device may carry.
    pub fn copy(&self) -> Option<Copy> {
        self.label.as_ref().map(|label| Copy { vg: label.vg, pv: label.pv })
    }
}

/// Reads `len` bytes at an offset; the error is for people.
pub type Read<'a> = dyn FnMut(u64, usize) -> Result<Vec<u8>, String> + 'a;

/// Looks at a device of `size` bytes. `sector_size` is a guess for the partition table, 512 if unknown: both sizes are tried.
pub fn examine(size: Bytes, sector_size: u32, read: &mut Read<'_>) -> Examination {
    let mut source = Source { size: size.get(), read };
    let mut findings = Vec::new();
    let places = labels::read(&mut source);
    let label = labels::choose(&places, size, &mut findings);
    let kind = label.as_ref().map(|label| label.geometry.kind());
    let pv = label.as_ref().map(|label| label.pv);
    let sector_size = label.as_ref().map_or(sector_size, |label| label.sector_size);
    let mark = mark::read(&mut source, sector_size);
    if kind != Some(PvKind::Partition) {
        mark::judge(&mark, pv, &mut findings);
    }
    let mut found = Examination {
        size: size.get(),
        mark,
        labels: places,
        label,
        access: None,
        slots: Vec::new(),
        chosen_slot: None,
        log: None,
        head: None,
        objects: Vec::new(),
        known: BTreeMap::new(),
        findings,
    };
    if let Some(label) = found.label.clone() {
        metadata(&mut source, &label, &mut found);
    }
    found.findings.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.offset.cmp(&b.offset)));
    found
}

/// Slots, log and catalog of a device with a label.
fn metadata(source: &mut Source<'_, '_>, label: &Label, found: &mut Examination) {
    let copy = Copy { vg: label.vg, pv: label.pv };
    // Labels with incompatible features are never chosen, so this cannot fail here.
    let Ok(access) = label.features.check() else { return };
    found.access = Some(access);
    let (slots, start) = slots::read(source, &copy, label, access);
    let carries = slots::judge(&slots, start.as_ref().map(|start| start.slot), &mut found.findings);
    found.slots = slots;
    let Some(start) = start else {
        // Whether a disk was chosen to carry a copy stands in the catalog, which is not there. Records of its own show that it was.
        if !carries && has_record(source, &copy, label) {
            slots::lost(&mut found.findings);
        } else if !carries {
            found.findings.push(findings::no_copy(label));
        }
        return;
    };
    found.chosen_slot = Some(start.slot);
    for slot in &found.slots {
        let Some(header) = slot.header() else { continue };
        // What a newer slot claims, whose payload is not there, is not known of this copy.
        let points = header.ancestors.iter().map(|ancestor| (ancestor.sequence, ancestor.hash));
        let points = points.chain([(header.sequence, header.hash)]);
        found.known.extend(points.filter(|(sequence, _)| *sequence <= start.checkpoint.sequence));
    }
    let mut objects: BTreeMap<ObjectKey, Object> =
        start.checkpoint.objects.into_iter().map(|object| (object.key(), object)).collect();
    let begin = log::Begin {
        sequence: start.checkpoint.sequence,
        hash: start.checkpoint.hash,
        position: start.checkpoint.log_position,
    };
    found.known.insert(begin.sequence, begin.hash);
    let (log, head) = log::follow(source, &copy, label, access, begin, &mut objects, &mut found.known);
    log::judge(&log, &head, &mut found.findings);
    found.objects = objects.into_values().collect();
    found.findings.extend(findings::catalog(label, found.size, &found.objects));
    found.log = Some(log);
    found.head = Some(head);
}

/// The device, read in whole blocks.
struct Source<'a, 'r> {
    size: u64,
    read: &'a mut Read<'r>,
}

/// Whether the log begins with a record of this very copy, whatever its position and number.
fn has_record(source: &mut Source<'_, '_>, copy: &Copy, label: &Label) -> bool {
    let block = source.get(label.geometry.log_offset, BLOCK).unwrap_or_default();
    let Some(block) = block.first_chunk::<BLOCK>() else { return false };
    let head = crate::envelope::Envelope::read(block);
    block.starts_with(&crate::record::MAGIC) && (head.vg, head.pv) == (copy.vg, copy.pv)
}

impl Source<'_, '_> {
    /// The bytes at `offset`, which is a multiple of 4096; `len` is rounded up to whole blocks. An error past the last whole
    /// block of the device, or when fewer bytes come than were asked for.
    fn get(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        let len = len.checked_next_multiple_of(BLOCK).ok_or("too long")?;
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > round_down(self.size, BLOCK_BYTES)) {
            return Err("beyond the end of the device".to_owned());
        }
        let bytes = (self.read)(offset, len)?;
        if bytes.len() == len { Ok(bytes) } else { Err(format!("{} bytes were read instead of {len}", bytes.len())) }
    }

    /// Whether a block at `offset` is on the device.
    fn has(&self, offset: u64) -> bool {
        offset.checked_add(BLOCK_BYTES).is_some_and(|end| end <= self.size)
    }
}
