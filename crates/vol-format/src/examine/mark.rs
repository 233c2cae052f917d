//! The partition table that marks a whole disk: what the head and the backup are (UEFI 2.10, section 5.3).

use uuid::Uuid;
use vol_types::PvId;

use super::findings::{self, push};
use super::{Finding, Severity, Source};
use crate::envelope::is_zero;
use crate::layout::{BLOCK_BYTES, round_down};
use crate::mark::{ENTRIES, ENTRY_LEN, HEAD_LEN, PARTITION_TYPE, TAIL_LEN};

/// Length of a header that the standard knows, and of our table.
const HEADER_LEN: usize = 92;
const TABLE_LEN: usize = (ENTRIES * ENTRY_LEN) as usize;

/// What one half of a partition table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkHalf {
    /// One partition of our type. `others`: how many more there are.
    Ours {
        pv: PvId,
        sector_size: u32,
        first: u64,
        last: u64,
        others: usize,
    },
    /// A partition table of others.
    Foreign(String),
    /// A table that is not whole.
    Damaged(String),
    /// All zero, or no partition table.
    Absent,
    /// The device ends before.
    Beyond,
    Unreadable(String),
}

/// Both halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub head: MarkHalf,
    /// Where the head's header stands, in bytes.
    pub head_offset: u64,
    pub backup: MarkHalf,
    /// Where the backup's header was looked for, in bytes.
    pub backup_offset: u64,
}

/// Little-endian numbers and ids at fixed places; zero where the bytes end.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

pub(super) fn read(source: &mut Source<'_, '_>, sector_size: u32) -> Mark {
    let mut guesses = vec![sector_size, 512, 4096];
    guesses.retain(|size| matches!(size, 512 | 4096));
    let end = round_down(source.size, BLOCK_BYTES);
    let mut head = (MarkHalf::Beyond, u64::from(sector_size));
    let mut backup_at = None;
    let bytes = if end < HEAD_LEN { None } else { Some(source.get(0, usize::try_from(HEAD_LEN).unwrap_or(0))) };
    match &bytes {
        None => {}
        Some(Err(error)) => head.0 = MarkHalf::Unreadable(error.clone()),
        Some(Ok(bytes)) => {
            head.0 = without_gpt(bytes);
            for sector in guesses.iter().copied() {
                let (at, size) = (u64::from(sector), usize::try_from(sector).unwrap_or(512));
                let header = bytes.get(size..).unwrap_or(&[]);
                if header.starts_with(b"EFI PART") {
                    let table = bytes.get(size.saturating_mul(2)..).unwrap_or(&[]);
                    head = (half(header, table, sector), at);
                    if !matches!(head.0, MarkHalf::Damaged(_)) {
                        backup_at = u64_at(header, 32).checked_mul(at).map(|at| (at, sector));
                    }
                    break;
                }
            }
        }
    }
    let (backup, backup_offset) = match backup_at {
        Some((at, sector)) => (backup(source, at, sector), at),
        None => {
            // Without a head the backup stands at the end; nobody knows with which sector size.
            let mut found = (MarkHalf::Beyond, 0);
            for sector in guesses {
                let at = end.saturating_sub(u64::from(sector));
                found = (backup(source, at, sector), at);
                if !matches!(found.0, MarkHalf::Absent) {
                    break;
                }
            }
            found
        }
    };
    Mark { head: head.0, head_offset: head.1, backup, backup_offset }
}

/// A backup whose header stands at byte `at`: our table is right before it.
fn backup(source: &mut Source<'_, '_>, at: u64, sector: u32) -> MarkHalf {
    let Some(end) = at.checked_add(u64::from(sector)).map(|end| round_down(end, BLOCK_BYTES)) else {
        return MarkHalf::Beyond;
    };
    if end < TAIL_LEN || end > source.size {
        return MarkHalf::Beyond;
    }
    let start = end.saturating_sub(TAIL_LEN);
    let tail = match source.get(start, usize::try_from(TAIL_LEN).unwrap_or(0)) {
        Ok(tail) => tail,
        Err(error) => return MarkHalf::Unreadable(error),
    };
    let header_at = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
    let header = tail.get(header_at..).unwrap_or(&[]);
    if !header.starts_with(b"EFI PART") {
        let sector = header.get(..512).unwrap_or(header);
        return if is_zero(sector) { MarkHalf::Absent } else { MarkHalf::Damaged("no backup header".to_owned()) };
    }
    let table = header_at.checked_sub(TABLE_LEN).and_then(|from| tail.get(from..)).unwrap_or(&[]);
    half(header, table, sector)
}

/// What the beginning of a device without a GPT header is.
fn without_gpt(bytes: &[u8]) -> MarkHalf {
    let mbr = bytes.get(..512).unwrap_or(&[]);
    if field::<2>(mbr, 510) != [0x55, 0xaa] {
        return if is_zero(bytes) {
            MarkHalf::Absent
        } else {
            MarkHalf::Foreign("something without a partition table".to_owned())
        };
    }
    if field::<1>(mbr, 450) == [0xee] {
        MarkHalf::Damaged("the protective MBR is there, the GPT behind it is not".to_owned())
    } else {
        MarkHalf::Foreign("an MBR partition table or boot sector".to_owned())
    }
}

/// One header with its table. `table` may be longer, or too short if it stands elsewhere.
fn half(header: &[u8], table: &[u8], sector: u32) -> MarkHalf {
    let len = usize::try_from(u32_at(header, 12)).unwrap_or(0);
    let sector_len = usize::try_from(sector).unwrap_or(512);
    let Some(sealed) = header.get(..len).filter(|_| (HEADER_LEN..=sector_len).contains(&len)) else {
        return MarkHalf::Damaged(format!("its header claims {len} bytes"));
    };
    let mut zeroed = sealed.to_vec();
    zeroed.iter_mut().skip(16).take(4).for_each(|byte| *byte = 0);
    if crc32fast::hash(&zeroed) != u32_at(header, 16) {
        return MarkHalf::Damaged("the checksum of its header does not match".to_owned());
    }
    if (u32_at(header, 80), u32_at(header, 84)) != (ENTRIES, ENTRY_LEN) {
        return MarkHalf::Foreign("a GPT of another shape".to_owned());
    }
    let Some(table) = table.get(..TABLE_LEN) else {
        return MarkHalf::Damaged("its table is not where it should be".to_owned());
    };
    if crc32fast::hash(table) != u32_at(header, 88) {
        return MarkHalf::Damaged("the checksum of its table does not match".to_owned());
    }
    let entries = table.chunks(usize::try_from(ENTRY_LEN).unwrap_or(128));
    let used = entries.clone().filter(|entry| !is_zero(&field::<16>(entry, 0))).count();
    let first = entries.into_iter().next().unwrap_or(&[]);
    let kind = Uuid::from_bytes_le(field(first, 0));
    if kind != PARTITION_TYPE {
        return MarkHalf::Foreign(format!("a GPT with {used} partitions, the first of type {kind}"));
    }
    MarkHalf::Ours {
        pv: PvId::from_uuid(Uuid::from_bytes_le(field(first, 16))),
        sector_size: sector,
        first: u64_at(first, 32),
        last: u64_at(first, 40),
        others: used.saturating_sub(1),
    }
}

impl MarkHalf {
    /// For people, in a few words.
    pub fn text(&self) -> String {
        match self {
            Self::Ours { pv, others: 0, .. } => format!("the mark of physical volume {pv}"),
            Self::Ours { pv, others, .. } => format!("the mark of physical volume {pv}, and {others} more partitions"),
            Self::Foreign(what) => what.clone(),
            Self::Damaged(why) => format!("damaged: {why}"),
            Self::Absent => "none".to_owned(),
            Self::Beyond => "none, the device is too small".to_owned(),
            Self::Unreadable(error) => format!("unreadable: {error}"),
        }
    }

    /// `ours`, `foreign`, `damaged`, `absent`, `unreadable`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Ours { .. } => "ours",
            Self::Foreign(_) => "foreign",
            Self::Damaged(_) => "damaged",
            Self::Absent | Self::Beyond => "absent",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// What is to be said of the mark of a whole disk whose label names `pv`; nothing without a label.
pub(super) fn judge(mark: &Mark, pv: Option<PvId>, out: &mut Vec<Finding>) {
    let halves = [
        ("partition table", &mark.head, mark.head_offset),
        ("backup partition table", &mark.backup, mark.backup_offset),
    ];
    for (name, half, offset) in halves {
        let at = Some(offset);
        let Some(pv) = pv else {
            if let MarkHalf::Ours { pv, .. } = half {
                let text = format!("the {name} marks physical volume {pv}, whose label is not there");
                push(out, Severity::Damage, "mark-without-label", 27, at, text, findings::NO_LABEL);
            }
            continue;
        };
        let (severity, code, advice) = match half {
            MarkHalf::Ours { pv: found, others: 0, .. } if *found == pv => (Severity::Ok, "mark-ours", ""),
            MarkHalf::Ours { .. } | MarkHalf::Foreign(_) => (Severity::Damage, "mark-foreign", findings::GIVEN_AWAY),
            MarkHalf::Damaged(_) => (Severity::Note, "mark-damaged", findings::MARK),
            MarkHalf::Absent | MarkHalf::Beyond => (Severity::Note, "mark-absent", findings::MARK),
            MarkHalf::Unreadable(_) => (Severity::Damage, "unreadable", findings::READ_ERROR),
        };
        push(out, severity, code, 9, at, format!("{name}: {}", half.text()), advice);
    }
}
