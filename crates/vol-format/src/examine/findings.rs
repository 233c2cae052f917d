//! Findings that several places share, and what people are told to do.

use std::error::Error;

use vol_types::{Object, VgState};

use super::{Finding, Severity};
use crate::label::Label;

pub(super) const NEWER: &str = "use a release of volumed that knows it";
pub(super) const REPORT: &str =
    "the checksum is right and the content is not: keep an image of the disk and report it as a defect";
pub(super) const NO_LABEL: &str =
    "without a label the disk is not found; keep an image of it, the other disks of the volume group go on";
pub(super) const WHOLE_DISK: &str = "this is a partition or a piece of the disk: look at the whole disk";
pub(super) const READ_ERROR: &str = "the disk reports an error: see the kernel log and `smartctl -a`, replace the disk";
pub(super) const LABEL_COPY: &str = "the other copy serves; find out what wrote there, before that one is lost too";
pub(super) const TOO_SMALL: &str =
    "the disk has shrunk or the image is cut off: do not use it, bring back its full size";
pub(super) const GROWN: &str = "nothing: the space beyond is not used";
pub(super) const COPY: &str =
    "other disks of the volume group carry the same metadata; `volctl status` says whether this copy is still counted";
pub(super) const COMPARE: &str =
    "compare with the other disks: `volctl debug dump DISK DISK…`; a copy that is behind is brought up to date";
pub(super) const MISDIRECTED: &str =
    "the disk or its controller wrote to a wrong place: check cables and firmware, do not trust this disk";
pub(super) const GIVEN_AWAY: &str =
    "the disk was given to something else: take it out of the volume group, or erase what the other tool wrote";
pub(super) const MARK: &str =
    "volumed does without the mark, but other tools may take the disk for empty: do not let them write to it";

pub(super) fn push(
    out: &mut Vec<Finding>,
    severity: Severity,
    code: &'static str,
    rule: u8,
    offset: Option<u64>,
    text: String,
    advice: &'static str,
) {
    let rule = (rule != 0).then_some(rule);
    out.push(Finding { severity, code, rule, text, advice, offset });
}

/// An error and what is behind it, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

pub(super) fn no_copy(label: &Label) -> Finding {
    Finding {
        severity: Severity::Note,
        code: "no-metadata",
        rule: None,
        text: format!("no copy of the metadata of volume group {} stands here", label.vg_name),
        advice: "normal for a disk that was not chosen to carry one (METADATA in `volctl pv list`)",
        offset: None,
    }
}

/// What the catalog itself says that does not fit the disk.
pub(super) fn catalog(label: &Label, size: u64, objects: &[Object]) -> Vec<Finding> {
    let mut out = Vec::new();
    let vgs: Vec<_> =
        objects.iter().filter_map(|object| if let Object::Vg(vg) = object { Some(vg) } else { None }).collect();
    match vgs.as_slice() {
        [vg] if vg.id == label.vg => {
            if vg.state == VgState::Creating {
                let text = "the volume group was being made and never acknowledged".to_owned();
                push(
                    &mut out,
                    Severity::Note,
                    "vg-unfinished",
                    0,
                    None,
                    text,
                    "volumed takes it apart when it finds it",
                );
            }
            if matches!(vg.state, VgState::Deleting | VgState::Erasing) {
                let text = "the volume group is being deleted".to_owned();
                push(
                    &mut out,
                    Severity::Note,
                    "vg-unfinished",
                    0,
                    None,
                    text,
                    "volumed goes on with that when it finds it",
                );
            }
        }
        _ => {
            let text = format!("the catalog has {} volume groups, or not the one of the label", vgs.len());
            push(&mut out, Severity::Damage, "catalog-wrong", 0, None, text, REPORT);
        }
    }
    let own = objects.iter().find_map(|object| match object {
        Object::Pv(pv) if pv.id == label.pv => Some(pv),
        _ => None,
    });
    match own {
        None => {
            let text = "the catalog does not know this physical volume: it was removed, or its addition was cut short"
                .to_owned();
            push(&mut out, Severity::Note, "pv-unknown", 27, None, text, "`volctl pv list` shows the members");
        }
        Some(pv) => {
            if !pv.metadata {
                let text =
                    "by the catalog this physical volume is not to carry metadata: its copy is not counted".to_owned();
                push(&mut out, Severity::Note, "not-a-member", 0, None, text, "");
            }
            let end = pv.extents.to_bytes(label.extent_size).and_then(|len| len.checked_add(pv.data_offset));
            if end.is_none_or(|end| end.get() > size) {
                let text = format!("the catalog gives it {} extents, more than the device holds", pv.extents);
                push(&mut out, Severity::Damage, "device-too-small", 4, None, text, TOO_SMALL);
            }
        }
    }
    out
}
