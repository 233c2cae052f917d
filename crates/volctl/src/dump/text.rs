//! What was found, for people.

use std::error::Error;
use std::fmt::Write as _;

use vol_api::{CheckFinding, PvCheck};
use vol_format::examine::compare::Standing;
use vol_format::examine::{Examination, Finding, LabelState, Severity, SlotState, short_hash};
use vol_types::Object;

use super::{Disk, Group, object};
use crate::render::Align::{Left, Right};
use crate::render::{Format, Table, UNKNOWN, clean, count};

/// What is shown besides the account of the structures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    pub format: Format,
    pub records: bool,
    pub objects: bool,
    /// Offsets as plain numbers, for `dd` and `xxd`.
    pub raw_offsets: bool,
}

impl Shown {
    /// `1,114,112`, or `1114112`.
    fn offset(self, offset: u64) -> String {
        let digits = offset.to_string();
        if self.raw_offsets {
            return digits;
        }
        let mut text = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        text
    }

    fn render(self, table: &Table) -> String {
        let indented: String = table.render(self.format.no_headers).lines().map(|line| format!("  {line}\n")).collect();
        if table.is_empty() { String::new() } else { format!("\n{indented}") }
    }
}

/// An error and what is behind it, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

fn findings(found: &[Finding], shown: Shown) -> String {
    let mut text = String::new();
    for finding in found.iter().filter(|finding| finding.severity > Severity::Ok) {
        let at = finding.offset.map_or_else(String::new, |offset| format!(" (byte {})", shown.offset(offset)));
        let rule = finding.rule.map_or_else(String::new, |rule| format!(", FMT-{rule}"));
        let word = finding.severity.as_str();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {word}: {}{at} [{}{rule}]", clean(&finding.text), finding.code);
        if !finding.advice.is_empty() {
            let _ = writeln!(text, "    hint: {}", finding.advice);
        }
    }
    text
}

/// Where each structure stands and what it is.
fn structures(found: &Examination, shown: Shown) -> Table {
    let mut table =
        Table::new(&[("STRUCTURE", Left), ("OFFSET", Right), ("LENGTH", Right), ("STATE", Left), ("WHAT", Left)]);
    let mut row = |name: &str, offset: u64, len: Option<u64>, state: &str, what: String| {
        let len = len.map_or_else(|| UNKNOWN.to_owned(), |len| shown.offset(len));
        table.push([name.to_owned(), shown.offset(offset), len, state.to_owned(), what]);
    };
    let mark = &found.mark;
    row("mark", mark.head_offset, None, mark.head.code(), mark.head.text());
    for place in &found.labels {
        let (state, what) = match &place.state {
            // Of the two areas only the one in use is worth a row, unless there is none.
            LabelState::Zero | LabelState::Other | LabelState::Beyond
                if found.label.as_ref().is_some_and(|label| label.geometry.area_offset != place.area) =>
            {
                continue;
            }
            LabelState::Beyond => ("absent", "the device ends before".to_owned()),
            LabelState::Zero => ("absent", String::new()),
            LabelState::Other => ("absent", "something else stands there".to_owned()),
            LabelState::Unreadable(error) => ("unreadable", error.clone()),
            LabelState::Unusable(error) => ("unusable", chain(error)),
            LabelState::Sound(label) => ("sound", format!("PV {} of VG {} ({})", label.pv, label.vg_name, label.vg)),
        };
        row(&format!("label {}", place.copy), place.offset, Some(4096), state, what);
    }
    if let Some(log) = &found.log {
        let what = match (log.records.first(), log.records.last()) {
            (Some(first), Some(last)) => {
                format!("{}, commits {} to {}", count(log.record_count, "record"), first.sequence, last.sequence)
            }
            _ => "no record since the checkpoint".to_owned(),
        };
        row("log", log.offset, Some(log.len), "read", what);
        // That the next lap begins with a record of this one or an earlier one is how it has to be.
        let of_no_interest = |at: usize, code: &str| at > 0 && matches!(code, "log-end" | "log-earlier-lap");
        for (at, place) in log.places.iter().enumerate() {
            if of_no_interest(at, place.reason.code()) {
                continue;
            }
            row(
                "log end",
                place.offset,
                None,
                place.reason.code(),
                format!("position {}: {}", place.position, place.reason.text()),
            );
        }
        for beyond in &log.beyond {
            row(
                "beyond",
                beyond.offset,
                None,
                "sound",
                format!("commit {}, hash {}", beyond.sequence, short_hash(&beyond.hash)),
            );
        }
    }
    for slot in &found.slots {
        let name = format!("checkpoint {}", slot.slot);
        let (state, what) = match &slot.state {
            SlotState::Empty => ("empty", String::new()),
            SlotState::Unreadable(error) => ("unreadable", error.clone()),
            SlotState::BadHeader(error) => ("unusable", chain(error)),
            SlotState::BadPayload { header, why } => ("unusable", format!("commit {}: {why}", header.sequence)),
            SlotState::Sound(header) => {
                let newest = if found.chosen_slot == Some(slot.slot) { "newest, " } else { "" };
                let what = format!(
                    "{newest}commit {}, hash {}, {} in {} bytes, log from {}, {}",
                    header.sequence,
                    short_hash(&header.hash),
                    count(header.object_count, "object"),
                    shown.offset(header.payload_len),
                    shown.offset(header.log_position),
                    count(header.ancestors.len() as u64, "ancestor"),
                );
                ("sound", what)
            }
        };
        row(&name, slot.offset, Some(slot.len), state, what);
    }
    if let Some(label) = &found.label {
        let len = label.geometry.extent_count.saturating_mul(label.extent_size.get());
        let what = format!("{} extents of {}", label.geometry.extent_count, shown.format.size(label.extent_size.get()));
        row("data", label.geometry.data_offset, Some(len), "", what);
    }
    row("backup mark", mark.backup_offset, None, mark.backup.code(), mark.backup.text());
    table
}

fn disk(disk: &Disk, shown: Shown) -> String {
    let found = &disk.found;
    let mut text = format!("{} ({})\n", clean(&disk.path), shown.format.size(found.size));
    let mut push = |line: String| {
        text.push_str("  ");
        text.push_str(&line);
        text.push('\n');
    };
    match (&found.label, &found.head) {
        (None, _) => push("no physical volume that can be used".to_owned()),
        (Some(label), None) => {
            push(format!("PV {} of VG {}, without metadata", label.pv, clean(label.vg_name.as_str())))
        }
        (Some(label), Some(head)) => push(format!(
            "PV {} of VG {}, at commit {}, hash {}, {}",
            label.pv,
            clean(label.vg_name.as_str()),
            head.sequence,
            short_hash(&head.hash),
            count(found.objects.len() as u64, "object"),
        )),
    }
    if found.worst() == Severity::Ok {
        push("sound: nothing is wrong with it".to_owned());
    }
    text.push_str(&findings(&found.findings, shown));
    if found.label.is_some()
        || found.labels.iter().any(|place| !matches!(place.state, LabelState::Zero | LabelState::Beyond))
    {
        text.push_str(&shown.render(&structures(found, shown)));
    }
    if shown.records {
        let mut table = Table::new(&[
            ("COMMIT", Right),
            ("POSITION", Right),
            ("OFFSET", Right),
            ("LENGTH", Right),
            ("BEFORE", Left),
            ("HASH", Left),
            ("CHANGES", Left),
        ]);
        for one in found.log.iter().flat_map(|log| &log.records) {
            table.push([
                one.sequence.to_string(),
                shown.offset(one.position),
                shown.offset(one.offset),
                shown.offset(one.len),
                short_hash(&one.previous),
                short_hash(&one.hash),
                format!("{}: {}", one.changes, one.summary),
            ]);
        }
        text.push_str(&shown.render(&table));
    }
    if shown.objects {
        let mut table = Table::new(&[("OBJECT", Left), ("ID", Left), ("STATE", Left), ("", Left)]);
        for one in &found.objects {
            table.push(object::line(one, |bytes| shown.format.size(bytes)));
        }
        text.push_str(&shown.render(&table));
    }
    text
}

fn group(disks: &[Disk], group: &Group, shown: Shown) -> String {
    let mut text = format!(
        "VG {} ({}): {} of {} copies of the metadata were given\n",
        clean(&group.name),
        group.vg,
        group.copies.len(),
        group.members
    );
    let mut table = Table::new(&[("DISK", Left), ("COMMIT", Right), ("HASH", Left), ("COPY", Left)]);
    for copy in &group.copies {
        let standing = match copy.standing {
            Standing::UpToDate if copy.disk == group.chosen => "newest".to_owned(),
            Standing::UpToDate => "the same".to_owned(),
            Standing::ProvenOld { behind } => format!("proven old, {} behind", count(behind, "commit")),
            Standing::Different => "different: changed apart from the newest, a person must decide".to_owned(),
            Standing::CannotBeProven => "cannot be proven old: it is not used".to_owned(),
        };
        let path = disks.get(copy.disk).map_or(UNKNOWN, |disk| &disk.path);
        table.push([path.to_owned(), copy.head.sequence.to_string(), short_hash(&copy.head.hash), standing]);
    }
    for (pv, hint) in &group.absent {
        table.push([
            format!("PV {pv}"),
            UNKNOWN.to_owned(),
            UNKNOWN.to_owned(),
            format!("not given, last seen as {hint}"),
        ]);
    }
    text.push_str(&shown.render(&table));
    text
}

/// All disks, then how the copies of each VG compare if there is more than one.
pub fn to_text(disks: &[Disk], groups: &[Group], shown: Shown) -> String {
    let mut parts: Vec<String> = disks.iter().map(|one| disk(one, shown)).collect();
    if disks.len() > 1 {
        parts.extend(groups.iter().map(|one| group(disks, one, shown)));
    }
    parts.join("\n")
}

impl From<&Disk> for PvCheck {
    /// As the daemon tells it.
    fn from(disk: &Disk) -> Self {
        let found = &disk.found;
        let vg = found
            .objects
            .iter()
            .find_map(|object| if let Object::Vg(vg) = object { Some(vg.name.to_string()) } else { None });
        let hint = || found.label.as_ref().map(|label| label.vg_name.to_string());
        Self {
            path: Some(disk.path.clone()),
            id: found.label.as_ref().map(|label| label.pv.to_string()),
            vg: vg.or_else(hint),
            sequence: found.head.map(|head| head.sequence),
            severity: found.worst().as_str().to_owned(),
            findings: found
                .findings
                .iter()
                .map(|one| CheckFinding {
                    severity: one.severity.as_str().to_owned(),
                    code: one.code.to_owned(),
                    rule: one.rule.map(|rule| format!("FMT-{rule}")),
                    message: one.text.clone(),
                    hint: one.advice.to_owned(),
                    offset_bytes: one.offset,
                })
                .collect(),
        }
    }
}

/// The findings per PV, those that are as they should be only counted.
pub fn check_text(checks: &[PvCheck]) -> String {
    let mut text = String::new();
    for check in checks {
        let name = check.path.as_deref().or(check.id.as_deref()).unwrap_or(UNKNOWN);
        let vg = check.vg.as_ref().map_or_else(String::new, |vg| format!(" of VG {vg}"));
        let at = check.sequence.map_or_else(String::new, |sequence| format!(", at commit {sequence}"));
        let fine = check.findings.iter().filter(|one| one.severity == "ok").count();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}{}{at}: {} ({fine} checks passed)", clean(name), clean(&vg), clean(&check.severity));
        for one in check.findings.iter().filter(|one| one.severity != "ok") {
            let rule = one.rule.as_ref().map_or_else(String::new, |rule| format!(", {rule}"));
            let place = one.offset_bytes.map_or_else(String::new, |offset| format!(" (byte {offset})"));
            let _ = writeln!(
                text,
                "  {}: {}{place} [{}{}]",
                clean(&one.severity),
                clean(&one.message),
                clean(&one.code),
                clean(&rule)
            );
            if !one.hint.is_empty() {
                let _ = writeln!(text, "    hint: {}", clean(&one.hint));
            }
        }
    }
    text
}
