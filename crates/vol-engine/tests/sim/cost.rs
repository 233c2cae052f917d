//! What a change costs, counted: operations hold on any machine, times do not.

use vol_core::observed::TargetLine;
use vol_engine::CreateVolume;
use vol_engine::host::{DmCreate, HostMut as _, HostRead as _};
use vol_sim::{EffectKind, SimDisk, SimHost};
use vol_types::{Bytes, Reserve, Sectors};

use super::bench::*;

#[test]
fn a_raw_volume_costs_one_commit_of_one_block_a_copy_and_two_messages() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    host.reset_counters();
    let before = engine.vgs()[0].view().counters;
    Op::CreateRaw.run(&engine).unwrap();
    let after = engine.vgs()[0].view().counters;
    assert_eq!(after.commits - before.commits, 1);
    assert_eq!(after.commit_bytes - before.commit_bytes, 4096);
    let counters = host.counters();
    assert_eq!((counters.messages, counters.flushes, counters.mkfs), (2, 2, 0), "two copies, one commit");
    for disk in ["/dev/sda", "/dev/sdb"] {
        assert_eq!(counters.bytes_written.get(std::path::Path::new(disk)).copied(), Some(4096), "{disk}");
    }
}

#[test]
fn a_commit_costs_the_same_at_a_thousand_volumes() {
    let host = Op::CreateRaw.before();
    host.keep_trace(false);
    let engine = start(&host);
    let mut sizes = std::collections::BTreeSet::new();
    for n in 0..600 {
        let mut request = volume_request(&format!("v{n}"), None);
        request.size = vol_types::Bytes::mib(64);
        let before = engine.vgs()[0].view().counters;
        engine.create_volume(&request, false).unwrap();
        let after = engine.vgs()[0].view().counters;
        sizes.insert((after.commits - before.commits, after.commit_bytes - before.commit_bytes));
    }
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [(1, 4096)]);
}

#[test]
fn a_read_is_no_effect_and_asks_the_kernel_nothing() {
    let host = Op::SnapshotMounted.before();
    let engine = start(&host);
    host.reset_counters();
    let effects = host.effects();
    for _ in 0..100 {
        inventory(&engine);
        engine.vgs()[0].view();
    }
    assert_eq!(host.effects(), effects);
    assert_eq!(host.counters().ioctls, 0);
    assert_eq!(host.counters().reads, 0);
}

/// What one request did: the effects in their order, ioctls, and what reached each of the two disks.
#[derive(Debug, PartialEq)]
struct Cost {
    effects: Vec<EffectKind>,
    ioctls: u64,
    messages: u64,
    flushes: u64,
    bytes: Vec<u64>,
    mkfs: u64,
}

fn cost(host: &SimHost, work: impl FnOnce()) -> Cost {
    host.keep_trace(true);
    host.reset_counters();
    let before = host.effect_log().len();
    work();
    let counters = host.counters();
    let effects = host.effect_log().split_off(before).into_iter().map(|effect| effect.kind).collect();
    host.keep_trace(false);
    Cost {
        effects,
        ioctls: counters.ioctls,
        messages: counters.messages,
        flushes: counters.flushes,
        bytes: counters.bytes_written.values().copied().collect(),
        mkfs: counters.mkfs,
    }
}

#[test]
fn each_request_costs_at_a_thousand_volumes_exactly_what_it_costs_at_none() {
    use EffectKind::{DmCreate, DmMessage, DmRemove, DurableWrite, ThinSnapshot};
    let (data, commit) = (vol_types::Name::new("data").unwrap(), [DurableWrite; 2]);
    // With the ioctls that look at what is there, which are as many however many volumes there are and are active.
    let requests: [(&str, Vec<EffectKind>, u64); 6] = [
        // Intent, the id and the transaction; that it is done is written with the next commit. One flush a copy more than the floor,
        // and one commit of the pool.
        ("create", [&commit[..], &[DmMessage; 2]].concat(), 6),
        ("attach", vec![DmCreate], 8),
        // Suspend, message, resume; the transaction.
        ("snapshot", [&commit[..], &[ThinSnapshot, DmMessage]].concat(), 11),
        ("detach", vec![DmRemove], 5),
        // Nobody waits for the kernel: the record is all.
        ("delete, kept", commit.to_vec(), 3),
        ("delete for good", [&commit[..], &[DmMessage; 2]].concat(), 8),
    ];
    for (crowd, active) in [(0, 0), (1000, 64)] {
        let mut ioctls_found = Vec::new();
        let host = super::crowd::crowd(crowd);
        let engine = start(&host);
        let request = |text: &str| CreateVolume { size: vol_types::Bytes::mib(64), ..volume_request(text, None) };
        engine.create_volume(&request("other"), false).unwrap();
        for n in 0..active {
            engine.create_volume(&request(&format!("active{n}")), false).unwrap();
            engine.attach(&data, &volume(&format!("active{n}")), false).unwrap();
        }
        let work = |what: &str| match what {
            "create" => drop(engine.create_volume(&request("v"), false).unwrap()),
            "attach" => drop(engine.attach(&data, &volume("v"), false).unwrap()),
            "snapshot" => {
                drop(engine.create_snapshots(&group(&["v@s"]), &vol_types::Labels::default(), false).unwrap())
            }
            "detach" => drop(engine.detach(&data, &volume("v"), false).unwrap()),
            "delete, kept" => drop(engine.keep_volume(&data, &volume("v"), false).unwrap()),
            _ => drop(engine.delete_volume(&data, &volume("other"), false).unwrap()),
        };
        for (what, effects, ioctls) in &requests {
            let messages = effects.iter().filter(|kind| matches!(kind, DmMessage | ThinSnapshot)).count() as u64;
            let flushes = effects.iter().filter(|kind| **kind == DurableWrite).count() as u64;
            let expected = Cost {
                effects: effects.clone(),
                ioctls: *ioctls,
                messages,
                flushes,
                bytes: if flushes == 0 { Vec::new() } else { vec![flushes / 2 * 4096; 2] },
                mkfs: 0,
            };
            let found = cost(&host, || work(what));
            ioctls_found.push(found.ioctls);
            assert_eq!(
                Cost { ioctls: *ioctls, ..found },
                expected,
                "{what} at {crowd} volumes, {active} of them active"
            );
        }
        assert_eq!(
            ioctls_found,
            requests.each_ref().map(|(_, _, ioctls)| *ioctls),
            "ioctls at {crowd} volumes, {active} of them active"
        );
    }
}

#[test]
fn a_file_system_costs_one_commit_more_and_one_process() {
    use EffectKind::{DmCreate, DmMessage, DmRemove, DurableWrite, Mkfs};
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    let found = cost(&host, || Op::CreateFormatted.run(&engine).unwrap());
    let commit = [DurableWrite; 2];
    let expected = [&commit[..], &[DmMessage; 2], &commit, &[DmCreate, Mkfs, DmRemove], &commit].concat();
    assert_eq!((found.effects, found.mkfs), (expected, 1));
}

#[test]
fn a_refresh_asks_once_for_a_device_and_lists_them_once_for_all_groups() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    let asked = |engine: &vol_engine::Engine<SimHost>| {
        host.reset_counters();
        engine.refresh();
        host.counters().ioctls
    };
    let devices = || host.dm_devices().unwrap().len() as u64;
    let alone = devices();
    assert_eq!(asked(&engine), 1 + alone);
    for n in 0..8 {
        // Space that is set aside for a volume is counted by what it has mapped, which is the same answer.
        let reserve = if n == 0 { Reserve::Bytes(Bytes::mib(64)) } else { Reserve::None };
        let request = CreateVolume { size: Bytes::mib(64), reserve, ..volume_request(&format!("active{n}"), None) };
        engine.create_volume(&request, false).unwrap();
        engine.attach(&name("data"), &volume(&format!("active{n}")), false).unwrap();
    }
    assert_eq!(devices(), alone + 8);
    assert_eq!(asked(&engine), 1 + alone + 8);
    assert_eq!(engine.vgs()[0].view().mapped.len(), 8);

    // Another group is looked at in the same look.
    host.add_disk(SimDisk::new("/dev/other", Bytes::gib(4)));
    engine.create_vg(&vol_engine::CreateVg { name: name("other"), ..vg_request(&["/dev/other"]) }, false).unwrap();
    assert_eq!(asked(&engine), 1 + alone + 8);
    // A device that is nobody's is asked for once more before it is told of.
    let owned = vol_core::dm::Device::Pool(engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id));
    let table = host.dm_table(&owned.uuid().replace("-tpool", "-tmeta")).unwrap();
    let (disk, sector) = table[0].params.split_once(' ').unwrap();
    let beside = format!("{disk} {}", sector.parse::<u64>().unwrap() + 2_000_000);
    host.dm_create(&DmCreate {
        name: "volumed-stray".to_owned(),
        uuid: "VOLUMED-00000000-0000-4000-8000-00000000abcd".to_owned(),
        table: vec![TargetLine { len: Sectors(8), params: beside, ..table[0].clone() }],
        read_only: false,
        private: false,
        link: None,
    })
    .unwrap();
    assert_eq!(asked(&engine), 1 + alone + 8 + 2);
    assert!(engine.scan_problems().iter().any(|problem| problem.code == "device-stray"));
}
