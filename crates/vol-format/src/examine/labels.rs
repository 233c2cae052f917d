//! The four places where a label may stand, and what they say together.

use vol_types::Bytes;

use super::findings::{self, push};
use super::{Finding, Severity, Source};
use crate::envelope::is_zero;
use crate::label::{self, Label, LabelError};
use crate::layout::{AREA_CANDIDATES, BLOCK, LABEL_OFFSETS_IN_AREA};

/// What stands at a place for a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelState {
    /// The device ends before.
    Beyond,
    Unreadable(String),
    /// All zero.
    Zero,
    /// Something else than a label.
    Other,
    Sound(Box<Label>),
    /// A label that cannot be used.
    Unusable(LabelError),
}

/// One of the four places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelPlace {
    /// Where the area would begin: 1 MiB on a whole disk, 0 on a partition.
    pub area: u64,
    pub copy: u8,
    /// In bytes from the start of the device.
    pub offset: u64,
    pub state: LabelState,
}

pub(super) fn read(source: &mut Source<'_, '_>) -> Vec<LabelPlace> {
    let mut places = Vec::new();
    for area in AREA_CANDIDATES {
        for (copy, in_area) in (0u8..).zip(LABEL_OFFSETS_IN_AREA) {
            let offset = area.saturating_add(in_area);
            places.push(LabelPlace { area, copy, offset, state: state(source, copy, offset) });
        }
    }
    places
}

fn state(source: &mut Source<'_, '_>, copy: u8, offset: u64) -> LabelState {
    if !source.has(offset) {
        return LabelState::Beyond;
    }
    let block = match source.get(offset, BLOCK) {
        Ok(block) => block,
        Err(error) => return LabelState::Unreadable(error),
    };
    match label::decode(&block, offset) {
        Ok(Some((label, found))) if found == copy => LabelState::Sound(Box::new(label)),
        // `decode` compares the offset that a label names for its own copy, so this is the other copy's.
        Ok(Some((label, _))) => {
            let [belongs_at, _] = label.geometry.label_offsets;
            LabelState::Unusable(LabelError::Misplaced { found_at: offset, belongs_at })
        }
        Ok(None) if is_zero(&block) => LabelState::Zero,
        Ok(None) => LabelState::Other,
        Err(error) => LabelState::Unusable(error),
    }
}

impl LabelPlace {
    /// As [`label::choose`] wants it. A place that cannot be read says nothing, and a label of another place neither.
    fn decoded(&self) -> Result<Option<(Label, u8)>, LabelError> {
        match &self.state {
            LabelState::Sound(label) => Ok(Some(((**label).clone(), self.copy))),
            LabelState::Unusable(LabelError::Misplaced { .. }) => Ok(None),
            LabelState::Unusable(error) => Err(error.clone()),
            LabelState::Beyond | LabelState::Unreadable(_) | LabelState::Zero | LabelState::Other => Ok(None),
        }
    }
}

/// The label of the device, and what is to be said of its copies.
pub(super) fn choose(places: &[LabelPlace], size: Bytes, out: &mut Vec<Finding>) -> Option<Label> {
    let mut refused = None;
    for pair in places.chunks(2) {
        let [first, second] = pair else { continue };
        match label::choose(first.decoded(), second.decoded()) {
            Ok(Some(label)) => {
                judge(pair, &label, size, out);
                return Some(label);
            }
            Ok(None) => {}
            Err(error) => {
                refused.get_or_insert((first.offset, error));
            }
        }
    }
    match refused {
        Some((offset, error)) => out.push(refusal(offset, &error)),
        None => absent(places, out),
    }
    None
}

fn refusal(offset: u64, error: &LabelError) -> Finding {
    let (code, rule, advice) = match error {
        LabelError::Incompatible { .. } => ("label-newer", 30, findings::NEWER),
        LabelError::Version { .. } => ("label-newer", 3, findings::NEWER),
        LabelError::Malformed(_) => ("label-malformed", 4, findings::REPORT),
        _ => ("label-damaged", 7, findings::NO_LABEL),
    };
    Finding {
        severity: Severity::Damage,
        code,
        rule: Some(rule),
        text: format!("no label can be used: {}", findings::chain(error)),
        advice,
        offset: Some(offset),
    }
}

/// No place has a label that belongs there.
fn absent(places: &[LabelPlace], out: &mut Vec<Finding>) {
    let misplaced = places.iter().find(|place| matches!(place.state, LabelState::Unusable(_)));
    if let Some(place) = misplaced {
        let text = match &place.state {
            LabelState::Unusable(error) => error.to_string(),
            _ => String::new(),
        };
        push(out, Severity::Note, "label-misplaced", 6, Some(place.offset), text, findings::WHOLE_DISK);
    }
    if let Some(place) = places.iter().find(|place| matches!(place.state, LabelState::Unreadable(_))) {
        let LabelState::Unreadable(error) = &place.state else { return };
        let text = format!("the place of a label cannot be read: {error}");
        push(out, Severity::Damage, "unreadable", 0, Some(place.offset), text, findings::READ_ERROR);
    }
    let text = "no label: this is no physical volume of volumed".to_owned();
    push(out, Severity::Note, "no-label", 6, None, text, "");
}

/// What is to be said of the two copies of an area of which one at least is sound.
fn judge(pair: &[LabelPlace], chosen: &Label, size: Bytes, out: &mut Vec<Finding>) {
    for place in pair {
        let at = Some(place.offset);
        let copy = place.copy;
        match &place.state {
            LabelState::Sound(label) if (label.vg, label.pv) != (chosen.vg, chosen.pv) => {
                let text = format!("label copy {copy} is of physical volume {} of volume group {}", label.pv, label.vg);
                push(out, Severity::Damage, "label-copies-differ", 5, at, text, findings::LABEL_COPY);
            }
            LabelState::Sound(label) if Label { features: chosen.features, ..(**label).clone() } != *chosen => {
                let text = format!(
                    "label copy {copy} says something else than the other: a change of the label was cut short"
                );
                push(out, Severity::Note, "label-copies-differ", 5, at, text, findings::LABEL_COPY);
            }
            LabelState::Sound(label) if label.features != chosen.features => {
                let text = format!("label copy {copy} names other features than the other: {}", label.features);
                push(out, Severity::Note, "label-copies-differ", 31, at, text, findings::LABEL_COPY);
            }
            LabelState::Sound(_) => {
                let text = format!("label copy {copy} is sound");
                push(out, Severity::Ok, "label-sound", 7, at, text, "");
            }
            LabelState::Beyond | LabelState::Zero => {
                let text = format!("label copy {copy} is not there");
                push(out, Severity::Damage, "label-copy-lost", 5, at, text, findings::LABEL_COPY);
            }
            LabelState::Other => {
                let text = format!("label copy {copy} was written over by something else");
                push(out, Severity::Damage, "label-copy-lost", 5, at, text, findings::LABEL_COPY);
            }
            LabelState::Unreadable(error) => {
                let text = format!("label copy {copy} cannot be read: {error}");
                push(out, Severity::Damage, "unreadable", 0, at, text, findings::READ_ERROR);
            }
            LabelState::Unusable(error) => {
                let text = format!("label copy {copy} cannot be used: {}", findings::chain(error));
                push(out, Severity::Damage, "label-copy-damaged", 7, at, text, findings::LABEL_COPY);
            }
        }
    }
    let unknown = chosen.features.unknown();
    if unknown.ro_compat != 0 || unknown.compat != 0 {
        let text = format!("the label names features that this release does not know: {unknown}");
        push(out, Severity::Note, "features-unknown", 30, None, text, findings::NEWER);
    }
    if chosen.geometry.check(size, chosen.extent_size).is_err() {
        let text = format!(
            "the device has {} bytes, its label was written for {}: what the label describes does not fit",
            size.get(),
            chosen.device_size.get()
        );
        push(out, Severity::Damage, "device-too-small", 4, None, text, findings::TOO_SMALL);
    } else if size != chosen.device_size {
        let text =
            format!("the device has {} bytes, its label was written for {}", size.get(), chosen.device_size.get());
        push(out, Severity::Note, "device-size-differs", 4, None, text, findings::GROWN);
    }
}
