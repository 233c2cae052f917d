//! `examine`: each kind of damage of the specification's table (section 6) is told apart, and nothing makes it panic.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vol_format::checkpoint;
use vol_format::examine::compare::{Standing, standing};
use vol_format::examine::{EndReason, Examination, LabelState, MarkHalf, Severity, SlotState, examine};
use vol_format::record::{self, ChainHash, Copy};
use vol_format::{label, mark};
use vol_types::{Bytes, Change, CommitPoint, Object, PvId, VgId};

use crate::golden::golden;
use crate::hostile::reseal;
use crate::sample::{self, COPY, OTHER_PV, PV, VG};

/// A device that holds only what was written to it.
#[derive(Clone, Default)]
pub struct Image {
    size: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
    unreadable: Vec<u64>,
}

impl Image {
    fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let within = (offset % 4096) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(4096 - within));
            let block = self.blocks.entry(offset / 4096).or_insert_with(|| vec![0; 4096]);
            block[within..within + now.len()].copy_from_slice(now);
            (offset, bytes) = (offset + now.len() as u64, later);
        }
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        assert!(offset.is_multiple_of(4096) && len.is_multiple_of(4096) && len > 0, "FMT-1: {offset}, {len}");
        assert!(len <= 2 << 20, "memory: {len} bytes in one read");
        assert!(offset + len as u64 <= self.size, "beyond the end");
        let blocks = offset / 4096..(offset + len as u64) / 4096;
        if self.unreadable.iter().any(|bad| blocks.contains(bad)) {
            return Err("I/O error".to_owned());
        }
        let block = |at| self.blocks.get(&at).cloned().unwrap_or_else(|| vec![0; 4096]);
        Ok(blocks.flat_map(block).collect())
    }

    fn examine(&self) -> Examination {
        examine(Bytes(self.size), 512, &mut |offset, len| self.read(offset, len))
    }
}

/// A disk of 64 MiB with a mark, labels, a checkpoint at commit 1 in slot 0, and commits 2, 3 … of one block each.
struct Disk {
    image: Image,
    copy: Copy,
    sequence: u64,
    hash: ChainHash,
    position: u64,
}

const LOG: u64 = 2 << 20;
const LOG_LEN: u64 = 1 << 20;

fn disk(commits: u64) -> Disk {
    disk_from(0, commits)
}

/// As [`disk`], with a log that begins at this logical position.
fn disk_from(position: u64, commits: u64) -> Disk {
    let label = sample::label();
    let mut image = Image { size: label.device_size.get(), ..Image::default() };
    for (copy, offset) in (0..).zip(label.geometry.label_offsets) {
        image.write(offset, &label::encode(&label, copy));
    }
    for (offset, bytes) in mark::gpt(label.device_size, 512, PV, uuid::Uuid::from_bytes([6; 16])).unwrap() {
        image.write(offset, &bytes);
    }
    let objects = sample::objects();
    let payload = checkpoint::encode_payload(&objects).unwrap();
    let hash = record::chain(VG, &record::GENESIS, 1, &payload);
    let mut disk = Disk { image, copy: COPY, sequence: 1, hash, position };
    disk.checkpoint(0, &objects);
    for _ in 0..commits {
        disk.commit();
    }
    disk
}

impl Disk {
    fn checkpoint(&mut self, slot: u8, objects: &[Object]) {
        let payload = checkpoint::encode_payload(objects).unwrap();
        let header = checkpoint::encode_header(
            &self.copy,
            slot,
            self.sequence,
            &self.hash,
            self.position,
            objects.len() as u64,
            &payload,
        );
        let at = sample::label().geometry.checkpoint_offsets[usize::from(slot)];
        self.image.write(at, &[header, payload].concat());
    }

    /// The bytes of the next record, for this copy or another, which is then counted as written.
    fn next(&mut self, copy: &Copy, position: u64, changes: &[Change]) -> Vec<u8> {
        let payload = record::encode_payload(changes).unwrap();
        let count = u32::try_from(changes.len()).unwrap();
        let bytes = record::encode(copy, position, self.sequence + 1, &self.hash, &payload, count);
        self.sequence += 1;
        self.hash = record::chain(copy.vg, &self.hash, self.sequence, &payload);
        bytes
    }

    /// The next commit; where it stands on the disk.
    fn commit(&mut self) -> u64 {
        let volume = sample::objects().remove(4);
        let position = self.position;
        let bytes = self.next(&COPY, position, &[Change::Put(volume)]);
        let at = LOG + position % LOG_LEN;
        self.image.write(at, &bytes);
        self.position += bytes.len() as u64;
        at
    }

    fn end(&self) -> u64 {
        LOG + self.position % LOG_LEN
    }
}

fn end_of(found: &Examination) -> &EndReason {
    &found.log.as_ref().unwrap().places[0].reason
}

fn codes(found: &Examination, at_least: Severity) -> Vec<&'static str> {
    found.findings.iter().filter(|one| one.severity >= at_least).map(|one| one.code).collect()
}

fn head(found: &Examination) -> u64 {
    found.head.unwrap().sequence
}

#[test]
fn a_sound_disk_has_nothing_but_good_findings() {
    let disk = disk(3);
    let found = disk.image.examine();
    assert_eq!(found.worst(), Severity::Ok, "{:#?}", found.findings);
    assert_eq!(found.head, Some(CommitPoint { sequence: 4, hash: disk.hash }));
    assert_eq!(found.objects, sample::objects());
    assert!(matches!((&found.mark.head, &found.mark.backup), (MarkHalf::Ours { pv: PV, .. }, MarkHalf::Ours { .. })));
    assert_eq!(found.mark.backup_offset, (64 << 20) - 512);
    let log = found.log.as_ref().unwrap();
    assert_eq!(log.records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(log.records[1].summary, "put volume blank");
    assert_eq!((log.records[1].position, log.records[1].offset, log.records[1].len), (4096, LOG + 4096, 4096));
    assert_eq!(end_of(&found), &EndReason::NeverWritten);
    assert_eq!(found.known.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn the_golden_files_of_version_1_are_read() {
    let mut image = Image { size: 64 << 20, ..Image::default() };
    let geometry = sample::label().geometry;
    image.write(geometry.label_offsets[0], &golden("label-0.bin"));
    image.write(geometry.label_offsets[1], &golden("label-1.bin"));
    image.write(geometry.checkpoint_offsets[1], &golden("checkpoint.bin"));
    for sector in [512, 4096] {
        image.write(0, &golden(&format!("mark-{sector}-head.bin")));
        image.write((64 << 20) - 20480, &golden(&format!("mark-{sector}-tail.bin")));
        let found = image.examine();
        assert_eq!(codes(&found, Severity::Note), Vec::<&str>::new());
        assert_eq!((head(&found), found.chosen_slot), (1000, Some(1)));
        assert_eq!(found.known.keys().copied().collect::<Vec<_>>(), [7, 900, 1000]);
        assert_eq!(found.objects, sample::objects());
    }
}

#[test]
fn a_torn_write_is_told_from_one_that_was_never_made() {
    let mut disk = disk(2);
    let at = disk.commit();
    let mut bytes = disk.image.read(at, 4096).unwrap();
    bytes[512..1024].fill(0xdb);
    disk.image.write(at, &bytes);
    let found = disk.image.examine();
    assert_eq!((end_of(&found), head(&found)), (&EndReason::Torn, 3));
    assert_eq!(codes(&found, Severity::Note), ["log-torn"]);
    assert_eq!(found.worst(), Severity::Note, "a crash does this");
}

#[test]
fn a_lost_write_is_told_from_a_torn_one() {
    let mut disk = disk(2);
    let lost = disk.commit();
    disk.commit();
    disk.commit();
    disk.image.write(lost, &[0; 4096]);
    let found = disk.image.examine();
    assert_eq!((end_of(&found), head(&found)), (&EndReason::NeverWritten, 3));
    assert_eq!(codes(&found, Severity::Note), ["log-broken"]);
    let beyond: Vec<_> = found.log.unwrap().beyond.iter().map(|record| record.sequence).collect();
    assert_eq!(beyond, [5, 6]);
}

#[test]
fn a_write_in_between_that_was_lost_is_told_by_the_sequence_number() {
    let mut disk = disk(2);
    let volume = sample::objects().remove(4);
    let position = disk.position;
    disk.next(&COPY, position, &[]);
    let bytes = disk.next(&COPY, position, &[Change::Put(volume)]);
    let at = disk.end();
    disk.image.write(at, &bytes);
    let found = disk.image.examine();
    assert_eq!(end_of(&found), &EndReason::LostBefore { found: 5, expected: 4 });
    assert_eq!(codes(&found, Severity::Damage), ["log-lost-write", "log-broken"]);
}

#[test]
fn a_record_of_an_earlier_lap_is_told_from_a_misdirected_one() {
    // A log in its second lap: what stands at its end was written for one lap before.
    let mut disk = disk_from(LOG_LEN + 8192, 3);
    let old = record::encode(&COPY, disk.position - LOG_LEN, 900, &[1; 32], &[], 0);
    let at = disk.end();
    disk.image.write(at, &old);
    let found = disk.image.examine();
    assert_eq!(end_of(&found), &EndReason::EarlierLap { found: disk.position - LOG_LEN, laps: 1 });
    assert_eq!(found.worst(), Severity::Ok, "every wrapped log ends so");
    // The same for a place that is no whole number of laps away.
    let wrong = record::encode(&COPY, disk.position + 4096 * 7, 5, &disk.hash, &[], 0);
    disk.image.write(at, &wrong);
    let found = disk.image.examine();
    assert_eq!(end_of(&found), &EndReason::Misdirected { found: disk.position + 4096 * 7 });
    assert_eq!(codes(&found, Severity::Note), ["log-misdirected"]);
    // And for a later lap: the checkpoint that leads to it is gone.
    let later = record::encode(&COPY, disk.position + LOG_LEN, 900, &[1; 32], &[], 0);
    disk.image.write(at, &later);
    let found = disk.image.examine();
    assert_eq!(end_of(&found), &EndReason::LaterLap { found: disk.position + LOG_LEN });
    assert_eq!(codes(&found, Severity::Note), ["log-later-lap"]);
}

#[test]
fn a_record_of_another_disk_group_or_history_is_told() {
    let other_vg = VgId::from_bytes([0x99; 16]);
    let other_pv = PvId::from_bytes([0x98; 16]);
    type Make = fn(&mut Disk) -> Vec<u8>;
    let cases: [(Make, EndReason, &[&str]); 4] = [
        (
            |disk| {
                let position = disk.position;
                disk.next(&Copy { vg: VG, pv: PvId::from_bytes([0x98; 16]) }, position, &[])
            },
            EndReason::OtherPv { found: other_pv },
            &["log-other-pv"],
        ),
        (
            |disk| {
                let position = disk.position;
                disk.next(&Copy { vg: VgId::from_bytes([0x99; 16]), pv: PV }, position, &[])
            },
            EndReason::OtherVg { found: other_vg },
            &["log-foreign"],
        ),
        (
            |disk| record::encode(&COPY, disk.position, disk.sequence + 1, &[7; 32], &[], 0),
            EndReason::OtherHistory { sequence: 4 },
            &["log-other-history"],
        ),
        (
            |disk| record::encode(&COPY, disk.position, 2, &[7; 32], &[], 0),
            EndReason::Stale { found: 2 },
            &["log-stale"],
        ),
    ];
    for (make, reason, told) in cases {
        let mut disk = disk(2);
        let at = disk.end();
        let bytes = make(&mut disk);
        disk.image.write(at, &bytes);
        let found = disk.image.examine();
        assert_eq!(end_of(&found), &reason);
        assert_eq!(codes(&found, Severity::Note), told, "{reason:?}");
    }
}

#[test]
fn impossible_lengths_versions_and_contents_are_told_apart() {
    type Harm = fn(&mut Vec<u8>);
    let cases: [(Harm, &str); 4] = [
        (|bytes| bytes[104..108].fill(0xff), "log-damaged"),
        (
            |bytes| {
                bytes[12] = 2;
                reseal(bytes);
            },
            "log-newer",
        ),
        (
            |bytes| {
                bytes[120] = 1;
                reseal(bytes);
            },
            "log-malformed",
        ),
        (|bytes| bytes[0] = b'X', "log-end-other"),
    ];
    for (harm, code) in cases {
        let mut disk = disk(2);
        let at = disk.commit();
        let mut bytes = disk.image.read(at, 4096).unwrap();
        harm(&mut bytes);
        disk.image.write(at, &bytes);
        let found = disk.image.examine();
        assert_eq!(end_of(&found).code(), code);
        assert_eq!(head(&found), 3);
    }
}

#[test]
fn a_record_that_skipped_the_end_of_the_region_is_followed_into_the_next_lap() {
    let mut disk = disk_from(LOG_LEN - 8192, 1);
    let many: Vec<Change> = std::iter::repeat_with(sample::objects).take(4).flatten().map(Change::Put).collect();
    let bytes = disk.next(&COPY, LOG_LEN, &many);
    assert!(bytes.len() > 4096);
    disk.image.write(LOG, &bytes);
    let found = disk.image.examine();
    assert_eq!((head(&found), found.worst()), (3, Severity::Ok), "{:#?}", found.findings);
    let record = found.log.unwrap().records.pop().unwrap();
    assert_eq!((record.position, record.offset, record.changes), (LOG_LEN, LOG, many.len()));
    assert!(record.summary.ends_with(&format!("and {} more", many.len() - 6)), "{}", record.summary);
}

#[test]
fn an_unreadable_sector_ends_the_log_there_and_the_records_before_it_are_found() {
    let mut disk = disk(8);
    disk.image.unreadable.push((LOG + 5 * 4096) / 4096);
    let found = disk.image.examine();
    assert!(matches!(end_of(&found), EndReason::Unreadable(_)));
    assert_eq!(head(&found), 6);
    assert_eq!(codes(&found, Severity::Damage), ["unreadable", "log-broken"]);
}

#[test]
fn a_checkpoint_whose_payload_is_damaged_is_passed_over_for_the_older_one() {
    let mut disk = disk(2);
    disk.checkpoint(1, &sample::objects());
    disk.commit();
    let sound = disk.image.examine();
    assert_eq!((sound.chosen_slot, head(&sound), sound.log.unwrap().record_count), (Some(1), 4, 1));
    let at = sample::label().geometry.checkpoint_offsets[1];
    disk.image.write(at + 4096, &[0xee; 4096]);
    let found = disk.image.examine();
    assert_eq!((found.chosen_slot, head(&found)), (Some(0), 4));
    assert_eq!(codes(&found, Severity::Note), ["slot-payload-damaged"]);
    assert!(matches!(found.slots[1].state, SlotState::BadPayload { .. }));
    // A torn header is what a crash leaves.
    disk.image.write(at, &[vec![0xee; 512], disk.image.read(at, 4096).unwrap()[512..].to_vec()].concat());
    let mut torn = disk.image.read(at, 4096).unwrap();
    torn[..8].copy_from_slice(&checkpoint::MAGIC);
    disk.image.write(at, &torn);
    let found = disk.image.examine();
    assert_eq!(codes(&found, Severity::Note), ["slot-torn"]);
    assert_eq!(found.worst(), Severity::Note);
}

#[test]
fn without_a_sound_checkpoint_the_copy_is_lost_and_says_so() {
    let mut disk = disk(2);
    let at = sample::label().geometry.checkpoint_offsets[0];
    disk.image.write(at + 4096, &[0xee; 4096]);
    let found = disk.image.examine();
    assert_eq!((found.head, found.log.is_none()), (None, true));
    assert_eq!(codes(&found, Severity::Damage), ["copy-lost", "slot-payload-damaged"]);
    // Its records show that there was a copy, whatever became of both slots.
    for junk in [0, 0xee] {
        disk.image.write(at, &[junk; 8192]);
        let found = disk.image.examine();
        assert_eq!(codes(&found, Severity::Damage), ["copy-lost"]);
    }
    disk.image.write(at, &[0; 8192]);
    disk.image.write(sample::label().geometry.log_offset, &[0; 4096]);
    let found = disk.image.examine();
    assert_eq!(codes(&found, Severity::Note), ["no-metadata"]);
}

#[test]
fn a_checkpoint_in_the_wrong_slot_or_of_another_disk_is_misdirected() {
    let mut disk = disk(1);
    let [first, second] = sample::label().geometry.checkpoint_offsets;
    let header = disk.image.read(first, 8192).unwrap();
    disk.image.write(second, &header);
    assert_eq!(codes(&disk.image.examine(), Severity::Note), ["slot-misdirected"]);
    let payload = checkpoint::encode_payload(&sample::objects()).unwrap();
    let other = Copy { vg: VG, pv: OTHER_PV };
    disk.image.write(second, &checkpoint::encode_header(&other, 1, 9, &[1; 32], 0, 9, &payload));
    assert_eq!(codes(&disk.image.examine(), Severity::Note), ["slot-misdirected"]);
}

#[test]
fn label_copies_that_are_lost_damaged_or_different_are_told_apart() {
    let [first, second] = sample::label().geometry.label_offsets;
    let told = |harm: &dyn Fn(&mut Image)| {
        let mut disk = disk(1);
        harm(&mut disk.image);
        let found = disk.image.examine();
        assert_eq!(found.label.as_ref().map(|label| label.pv), Some(PV));
        assert_eq!(head(&found), 2);
        codes(&found, Severity::Note)
    };
    assert_eq!(told(&|image| image.write(first, &[0; 4096])), ["label-copy-lost"]);
    assert_eq!(told(&|image| image.write(second, &[0xdb; 4096])), ["label-copy-lost"]);
    assert_eq!(told(&|image| image.write(first + 512, &[1])), ["label-copy-damaged"]);
    assert_eq!(told(&|image| image.unreadable.push(second / 4096)), ["unreadable"]);
    let renamed = label::Label { vg_name: sample::name("renamed"), ..sample::label() };
    assert_eq!(told(&|image| image.write(second, &label::encode(&renamed, 1))), ["label-copies-differ"]);
    // A label of the other copy does not belong there.
    assert_eq!(told(&|image| image.write(second, &label::encode(&sample::label(), 0))), ["label-copy-damaged"]);
}

#[test]
fn f32_unknown_features_are_told_by_their_bits() {
    let mut disk = disk(1);
    let mut label = sample::label();
    label.features.ro_compat = 1 << 5;
    disk.image.write(label.geometry.label_offsets[1], &label::encode(&label, 1));
    let found = disk.image.examine();
    assert_eq!(found.access, Some(vol_format::feature::Access::ReadOnly));
    assert!(found.findings.iter().any(|one| one.text.contains("ro_compat bit 5")), "{:#?}", found.findings);
    label.features.incompat = 1 << 9;
    disk.image.write(label.geometry.label_offsets[1], &label::encode(&label, 1));
    let found = disk.image.examine();
    assert_eq!((found.label.is_none(), found.head), (true, None));
    let refused = found.findings.iter().find(|one| one.code == "label-newer").unwrap();
    assert!(refused.text.contains("incompat bit 9") && refused.severity == Severity::Damage, "{refused:?}");
}

#[test]
fn a_disk_seen_through_a_partition_or_cut_off_is_told() {
    let disk = disk(1);
    let moved = disk.image.blocks.iter().filter_map(|(at, block)| Some((at.checked_sub(256)?, block.clone())));
    let part = Image { size: 62 << 20, blocks: moved.collect(), unreadable: Vec::new() };
    let found = part.examine();
    assert!(found.label.is_none());
    assert_eq!(codes(&found, Severity::Note)[..1], ["no-label"]);
    assert!(codes(&found, Severity::Note).contains(&"label-misplaced"));
    let cut = Image { size: 32 << 20, ..disk.image.clone() };
    let found = cut.examine();
    assert!(codes(&found, Severity::Damage).contains(&"device-too-small"), "{:#?}", found.findings);
    assert_eq!(head(&found), 2);
    let grown = Image { size: (80 << 20) + 512, ..disk.image };
    assert_eq!(codes(&grown.examine(), Severity::Note), ["device-size-differs"]);
}

#[test]
fn the_mark_is_ours_foreign_damaged_or_absent() {
    let told = |harm: &dyn Fn(&mut Image)| {
        let mut disk = disk(1);
        harm(&mut disk.image);
        let found = disk.image.examine();
        assert_eq!(head(&found), 2, "nothing of ours depends on it");
        (found.mark.head.code(), found.mark.backup.code(), codes(&found, Severity::Note))
    };
    let end = 64 << 20;
    assert_eq!(told(&|image| image.write(0, &[0; 24576])), ("absent", "ours", vec!["mark-absent"]));
    assert_eq!(told(&|image| image.write(end - 20480, &[0; 20480])), ("ours", "absent", vec!["mark-absent"]));
    assert_eq!(told(&|image| image.write(4096, &[9])), ("damaged", "ours", vec!["mark-damaged"]));
    let foreign = mark::gpt(Bytes(end), 512, OTHER_PV, uuid::Uuid::nil()).unwrap();
    let (_, head) = &foreign[1];
    assert_eq!(told(&|image| image.write(0, head)), ("ours", "ours", vec!["mark-foreign"]));
    let mut boot = vec![0; 24576];
    boot[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(told(&|image| image.write(0, &boot)), ("foreign", "ours", vec!["mark-foreign"]));
}

#[test]
fn nothing_of_ours_on_devices_from_512_bytes_to_16_tib() {
    for size in [0, 1, 511, 512, 4095, 4096, 65_536, 70_000, 1 << 20, (1 << 20) + 135_168, 64 << 20, 16 << 40, u64::MAX]
    {
        let found = Image { size, ..Image::default() }.examine();
        assert_eq!((found.worst(), codes(&found, Severity::Note)), (Severity::Note, vec!["no-label"]), "{size}");
        assert_eq!(found.labels.len(), 4);
    }
}

#[test]
fn a_label_that_claims_a_huge_log_and_huge_slots_costs_no_more_than_a_real_one() {
    let mut label = sample::label();
    label.device_size = Bytes(16 << 40);
    label.geometry.log_len = 4 << 40;
    label.geometry.checkpoint_len = 5 << 40;
    label.geometry.checkpoint_offsets = [5 << 40, 10 << 40];
    label.geometry.data_offset = (16 << 40) - (8 << 20);
    label.geometry.extent_count = 1;
    let mut image = Image { size: 16 << 40, ..Image::default() };
    for (copy, offset) in (0..).zip(label.geometry.label_offsets) {
        image.write(offset, &label::encode(&label, copy));
    }
    let objects = sample::objects();
    let payload = checkpoint::encode_payload(&objects).unwrap();
    let header = checkpoint::encode_header(&COPY, 0, 1, &[1; 32], 0, objects.len() as u64, &payload);
    image.write(5 << 40, &[header, payload.clone()].concat());
    let mut hostile =
        checkpoint::decode_header(&COPY, 1, &checkpoint::encode_header(&COPY, 1, 2, &[2; 32], 0, 0, &payload))
            .unwrap()
            .unwrap();
    hostile.payload_len = 4 << 40;
    image.write(10 << 40, &hostile.encode(&COPY));
    let mut bytes = 0;
    let found = examine(Bytes(image.size), 512, &mut |offset, len| {
        bytes += len;
        image.read(offset, len)
    });
    assert_eq!(head(&found), 1);
    assert!(
        matches!(&found.slots[1].state, SlotState::BadPayload { why, .. } if why.contains("more than this release"))
    );
    assert!(bytes < 96 << 20, "{bytes} bytes were read");
}

#[test]
fn each_slot_is_read_once() {
    let mut disk = disk(1);
    disk.checkpoint(1, &sample::objects());
    let mut reads = BTreeMap::new();
    let size = Bytes(disk.image.size);
    examine(size, 512, &mut |offset, len| {
        *reads.entry(offset).or_insert(0) += 1;
        disk.image.read(offset, len)
    });
    for at in sample::label().geometry.checkpoint_offsets {
        assert_eq!((reads[&at], reads[&(at + 4096)]), (1, 1));
    }
}

#[test]
fn copies_of_one_group_are_compared_by_what_the_chosen_one_knows() {
    let (newer, older, mut other) = (disk(5), disk(3), disk(3));
    let bytes = other.next(&COPY, other.position, &[]);
    other.image.write(other.end(), &bytes);
    let [newer, older, other] = [newer, older, other].map(|disk| disk.image.examine());
    let of = |copy: &Examination| standing(&newer.head.unwrap(), &newer.known, &[], &copy.head.unwrap());
    assert_eq!(of(&older), Standing::ProvenOld { behind: 2 });
    assert_eq!(of(&other), Standing::Different);
    assert_eq!(of(&newer), Standing::UpToDate);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_anywhere_never_panic_and_are_never_more_than_what_was_written(
        commits in 0u64..6,
        harms in prop::collection::vec((0u64..2048, prop::collection::vec(any::<u8>(), 1..6000)), 1..6),
    ) {
        let mut disk = disk(commits);
        let sound = disk.image.examine();
        for (block, bytes) in &harms {
            disk.image.write(block * 4096, bytes);
        }
        let found = disk.image.examine();
        if let Some(head) = found.head {
            prop_assert_eq!(sound.known.get(&head.sequence), Some(&head.hash), "a point of the true history");
        }
    }

    #[test]
    fn a_flipped_bit_in_any_written_block_is_never_silent(
        at in any::<prop::sample::Index>(), bit in 0usize..32768,
    ) {
        let mut disk = disk(4);
        let sound = disk.image.examine();
        let keys: Vec<u64> = disk.image.blocks.keys().copied().collect();
        let key = keys[at.index(keys.len())];
        disk.image.blocks.get_mut(&key).unwrap()[bit / 8] ^= 1 << (bit % 8);
        let found = disk.image.examine();
        let same = found.head == sound.head && found.objects == sound.objects;
        prop_assert!(same || found.worst() > Severity::Ok);
    }

    #[test]
    fn a_device_of_junk_is_no_physical_volume(seed in prop::collection::vec(any::<u8>(), 4096), size in 0u64..(8 << 20)) {
        let found = examine(Bytes(size), 512, &mut |_, len| Ok(seed.iter().copied().cycle().take(len).collect()));
        prop_assert!(found.label.is_none());
        let states = found.labels.iter().all(|place| !matches!(place.state, LabelState::Sound(_)));
        prop_assert!(states);
    }

    #[test]
    fn a_device_that_gives_errors_or_too_little_is_told(size in 0u64..(8 << 20), short in any::<bool>()) {
        let found = examine(Bytes(size), 512, &mut |_, len| if short { Ok(vec![0; len / 2]) } else { Err("gone".to_owned()) });
        prop_assert!(found.label.is_none());
    }
}
