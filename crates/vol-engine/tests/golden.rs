//! Golden images: whole disks as released versions of the format left them, kept for ever. Each is opened by the engine and
//! looked at by `examine`; what both find stands beside it. `golden/README.md` has the rules.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use vol_engine::Engine;
use vol_format::examine::{Examination, Severity, examine, short_hash};
use vol_format::label;
use vol_sim::{CrashMode, Fault, SimDisk, SimHost};
use vol_types::*;

#[allow(dead_code, reason = "shared with the other tests; not all of it is needed here")]
#[path = "sim/bench.rs"]
mod bench;
mod golden_container;

use bench::*;
use golden_container::Image;

const SIZE: Bytes = Bytes::mib(128);
const DISKS: [&str; 3] = ["/dev/sda", "/dev/sdb", "/dev/sdc"];
/// The sets of version 1: name, and how many disks.
const SETS: [(&str, usize); 5] = [("fresh", 2), ("busy", 2), ("wrapped", 1), ("behind", 3), ("torn", 2)];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn image_path(set: &str, disk: usize) -> PathBuf {
    directory().join(format!("{set}-{disk}.img"))
}

fn load(set: &str, disks: usize) -> Vec<Image> {
    let read = |disk| {
        let path = image_path(set, disk);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Image::decode(&bytes)
    };
    (0..disks).map(read).collect()
}

/// A machine with these disks that has just booted.
fn machine_of(images: &[Image]) -> SimHost {
    let host = SimHost::new(1);
    for (path, image) in DISKS.iter().zip(images) {
        host.add_disk(SimDisk::new(*path, Bytes(image.size)).sector_size(image.sector_size));
        for (offset, block) in &image.blocks {
            host.poke(path, *offset, block);
        }
    }
    // What is in the pools is the kernel's, and not in the images: they must not come up.
    host.set_dm_targets(&[("linear", (1, 4, 0))]);
    host
}

fn look(host: &SimHost, disk: &str, size: u64) -> Examination {
    examine(Bytes(size), 512, &mut |offset, len| Ok(host.peek(disk, offset, len)))
}

/// What stands on a disk, in words of this test alone: no release may make it differ.
fn account(found: &Examination) -> String {
    let mut text = String::new();
    let label = found.label.as_ref().expect("a golden image has a label");
    let point = found.head.expect("a golden image has a copy");
    writeln!(text, "pv {} of {} {}", label.pv, label.vg_name, label.vg).unwrap();
    let log = found.log.as_ref().unwrap();
    let slot = found.chosen_slot.unwrap();
    writeln!(text, "slot {slot}, {} records, log {} to {}", log.record_count, log.start, log.end).unwrap();
    writeln!(text, "head {} {}", point.sequence, short_hash(&point.hash)).unwrap();
    writeln!(text, "mark {} {}", found.mark.head.code(), found.mark.backup.code()).unwrap();
    for one in found.findings.iter().filter(|one| one.severity > Severity::Ok) {
        writeln!(text, "{} {} at {:?}", one.severity.as_str(), one.code, one.offset).unwrap();
    }
    for object in &found.objects {
        text.push_str(&object_line(object));
        text.push('\n');
    }
    text
}

fn object_line(object: &Object) -> String {
    let segments =
        |all: &[Segment]| all.iter().map(|one| format!("{}+{}", one.start, one.count)).collect::<Vec<_>>().join(",");
    match object {
        Object::Vg(vg) => format!(
            "vg {} {} {:?} extent {} sector {} copies {}",
            vg.id,
            vg.name,
            vg.state,
            vg.extent_size.get(),
            vg.sector_size,
            vg.metadata_copies
        ),
        Object::Pv(pv) => format!(
            "pv {} {} size {} data {} extents {} metadata {}",
            pv.id,
            pv.path_hint,
            pv.device_size.get(),
            pv.data_offset.get(),
            pv.extents,
            pv.metadata
        ),
        Object::Pool(pool) => format!(
            "pool {} {} {:?} chunk {} transaction {} next {} data {} metadata {}",
            pool.id,
            pool.name,
            pool.state,
            pool.chunk_size.get(),
            pool.transaction_id,
            pool.next_thin_id,
            segments(&pool.data),
            segments(&pool.metadata)
        ),
        Object::Volume(volume) => format!(
            "volume {} {} {:?} thin {} size {} {:?} of {:?}",
            volume.id,
            volume.name,
            volume.state,
            volume.thin_id().unwrap(),
            volume.size.get(),
            volume.content,
            volume.snapshot.as_ref().map(|snapshot| snapshot.of_name.as_str())
        ),
        Object::Intent(intent) => format!("intent {} from {} ops {:?}", intent.id, intent.from, intent.ops),
    }
}

/// All that is found on a set: each disk by itself, then what the engine makes of them together.
fn found_on(images: &[Image]) -> String {
    let host = machine_of(images);
    let mut text = String::new();
    for (path, image) in DISKS.iter().zip(images) {
        writeln!(text, "# {path}").unwrap();
        text.push_str(&account(&look(&host, path, image.size)));
    }
    text.push_str("# opened\n");
    for line in inventory(&start(&host)) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[test]
fn every_golden_image_is_opened_as_when_it_was_released() {
    for (set, disks) in SETS {
        let expected = std::fs::read_to_string(directory().join(format!("{set}.txt"))).unwrap();
        let found = found_on(&load(set, disks));
        assert!(found == expected, "{set}: this release finds\n{found}\nwhere there was\n{expected}");
    }
}

#[test]
fn opening_a_golden_image_leaves_a_group_that_is_opened_again_the_same() {
    for (set, disks) in SETS {
        let host = machine_of(&load(set, disks));
        let first = inventory(&start(&host));
        host.crash(CrashMode::LoseAll);
        host.restart();
        assert_eq!(inventory(&start(&host)), first, "{set}");
        // Every copy can now tell the whole story.
        let heads: Vec<_> = DISKS.iter().take(disks).map(|disk| look(&host, disk, SIZE.get()).head).collect();
        assert!(heads.iter().all(|head| *head == heads[0]), "{set}: {heads:?}");
    }
}

#[test]
fn no_golden_image_was_changed_added_or_lost() {
    let listed: BTreeMap<String, String> = include_str!("golden/README.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
            Some((cells.next()?, cells.next()?)).filter(|(name, _)| name.starts_with("v1/"))
        })
        .collect();
    let there: BTreeMap<String, String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = format!("v1/{}", entry.file_name().into_string().unwrap());
            (name, golden_container::digest(&std::fs::read(entry.path()).unwrap()))
        })
        .collect();
    assert_eq!(there, listed);
    assert_eq!(there.len(), SETS.iter().map(|(_, disks)| disks + 1).sum::<usize>());
}

/// Puts feature bits into both label copies of a disk.
fn with_features(image: &mut Image, set: impl Fn(&mut vol_format::feature::Features)) {
    for at in [Bytes::MIB + 64 * 1024, Bytes::MIB + 128 * 1024] {
        let (mut found, copy) = label::decode(&image.blocks[&at], at).unwrap().unwrap();
        set(&mut found.features);
        image.blocks.insert(at, label::encode(&found, copy));
    }
}

fn messages(engine: &Engine<SimHost>) -> String {
    engine.scan_problems().into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
}

#[test]
fn f32_an_unknown_incompat_bit_is_refused_by_a_message_that_names_it() {
    let mut images = load("busy", 2);
    images.iter_mut().for_each(|image| with_features(image, |features| features.incompat = 1 << 9 | 1 << 33));
    let host = machine_of(&images);
    let engine = start(&host);
    assert!(engine.vgs().is_empty());
    assert!(messages(&engine).contains("incompat bits 9 and 33"), "{}", messages(&engine));
    let found = look(&host, DISKS[0], SIZE.get());
    assert!(found.findings.iter().any(|one| one.text.contains("incompat bits 9 and 33")), "{:?}", found.findings);
}

#[test]
fn f32_an_unknown_ro_compat_bit_keeps_the_group_from_being_written() {
    let mut images = load("busy", 2);
    with_features(&mut images[0], |features| features.ro_compat = 1 << 5);
    let host = machine_of(&images);
    let before: Vec<Vec<u8>> = DISKS[..2].iter().map(|disk| host.peek(disk, 0, 8 << 20)).collect();
    let engine = start(&host);
    for op in [Op::CreateRaw, Op::DeletePool, Op::DeleteVg] {
        op.run(&engine).unwrap_err();
    }
    drop(engine);
    let after: Vec<Vec<u8>> = DISKS[..2].iter().map(|disk| host.peek(disk, 0, 8 << 20)).collect();
    assert!(before == after, "the disks were written to");
    let engine = start(&host);
    let told = format!("{}; {:?}", messages(&engine), engine.vgs().iter().map(|vg| vg.view()).collect::<Vec<_>>());
    assert!(told.contains("newer") || told.contains("feature"), "{told}");
}

fn disks(host: &SimHost, count: usize) -> Vec<Image> {
    let whole = |disk: &&str| {
        let found = look(host, disk, SIZE.get());
        let data = found.label.as_ref().map_or(SIZE.get(), |label| label.geometry.data_offset);
        let last = SIZE.get() - Bytes::MIB;
        // Of the data nothing is kept: it is not ours.
        let offsets = (0..SIZE.get()).step_by(4096).filter(|offset| *offset < data || *offset >= last);
        Image::new(SIZE.get(), 512, offsets.map(|offset| (offset, host.peek_durable(disk, offset, 4096))))
    };
    DISKS[..count].iter().map(whole).collect()
}

fn small_machine(count: usize) -> SimHost {
    let host = SimHost::new(2026);
    for disk in &DISKS[..count] {
        host.add_disk(SimDisk::new(*disk, SIZE));
    }
    host
}

fn group(count: usize) -> SimHost {
    let host = small_machine(count);
    let engine = start(&host);
    engine.create_vg(&vg_request(&DISKS[..count]), false).unwrap();
    host
}

fn with_pool(count: usize) -> SimHost {
    let host = group(count);
    Op::CreatePool.run(&start(&host)).unwrap();
    host
}

fn create(engine: &Engine<SimHost>, volume: &str, fs: Option<FsKind>) -> Result<(), vol_engine::EngineError> {
    let mut request = volume_request(volume, fs);
    request.size = Bytes::mib(16);
    engine.create_volume(&request, false).map(drop)
}

fn off(host: &SimHost) {
    host.clear_faults();
    host.crash(CrashMode::LoseAll);
    host.restart();
}

fn make(set: &str, count: usize) -> Vec<Image> {
    let host = match set {
        "fresh" => group(count),
        "busy" => {
            let host = with_pool(count);
            let engine = start(&host);
            create(&engine, "pg", Some(FsKind::Ext4)).unwrap();
            Op::SnapshotIdle.run(&engine).unwrap();
            drop(engine);
            cut_with_an_open_intent(&host)
        }
        "wrapped" => {
            let host = with_pool(count);
            let engine = start(&host);
            for round in 0.. {
                let text = format!("v{}", round % 5);
                create(&engine, &text, None).unwrap();
                let log = look(&host, DISKS[0], SIZE.get()).log.unwrap();
                if log.end > 2 * log.len && log.record_count > 20 {
                    break;
                }
                engine.delete_volume(&name("data"), &volume(&text), false).unwrap();
            }
            host
        }
        "behind" => {
            let host = with_pool(count);
            let old = host.disk_image(DISKS[2]);
            create(&start(&host), "raw", None).unwrap();
            off(&host);
            host.set_disk_image(DISKS[2], &old);
            host
        }
        _ => {
            let host = with_pool(count);
            create(&start(&host), "raw", None).unwrap();
            let found = look(&host, DISKS[0], SIZE.get());
            let last = found.log.unwrap().records.pop().unwrap();
            // Its first sector is what was to be written, the second what stood there before.
            host.poke(DISKS[0], last.offset + 512, &[0xdb; 512]);
            host
        }
    };
    disks(&host, count)
}

/// A machine whose power was cut while a pool had been sent half of its messages.
fn cut_with_an_open_intent(before: &SimHost) -> SimHost {
    for number in 1..200 {
        let host = before.fork();
        let engine = start(&host);
        host.fail_effect(host.effects() + number, Fault::PowerCutBefore);
        if create(&engine, "raw", None).is_ok() {
            break;
        }
        drop(engine);
        off(&host);
        let open = |object: &Object| matches!(object, Object::Intent(_));
        let found = look(&host, DISKS[0], SIZE.get());
        if found.objects.iter().any(open) && look(&host, DISKS[1], SIZE.get()).objects.iter().any(open) {
            return host;
        }
    }
    panic!("no power cut left an open intent");
}

/// For a new version: writes the files that are not there yet, never over one, and prints the lines for the README.
#[test]
#[ignore = "writes into the source tree; run by hand when a version is added"]
fn write_missing_golden_images() {
    for (set, count) in SETS {
        let images = make(set, count);
        let mut files: Vec<(PathBuf, Vec<u8>)> =
            images.iter().enumerate().map(|(disk, image)| (image_path(set, disk), image.encode())).collect();
        files.push((directory().join(format!("{set}.txt")), found_on(&images).into_bytes()));
        for (path, bytes) in files {
            if !path.exists() {
                std::fs::write(&path, &bytes).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap();
                println!("| `v1/{name}` | `{}` |", golden_container::digest(&bytes));
            }
        }
    }
}
