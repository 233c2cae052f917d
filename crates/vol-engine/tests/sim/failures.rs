//! Rows of the failure catalogue (`docs/reliability.md`) that have no home of their own: clones, missing disks, clocks, sizes, sectors,
//! names that another disk took.

use std::path::Path;

use vol_engine::{CreatePool, Engine};
use vol_sim::{CrashMode, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

const DISKS: [&str; 3] = ["/dev/sda", "/dev/sdb", "/dev/sdc"];

fn three() -> (SimHost, Engine<SimHost>) {
    let host = machine();
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let engine = start(&host);
    engine.create_vg(&vg_request(&DISKS), false).unwrap();
    (host, engine)
}

/// A pool that fills a disk: with its metadata of two extents the 1019 that there are.
fn disk_full(engine: &Engine<SimHost>, pool: &str) {
    let request = CreatePool { name: name(pool), size: SizeSpec::Bytes(Bytes::mib(4068)), ..pool_request() };
    engine.create_pool(&request, false).unwrap();
}

fn create(engine: &Engine<SimHost>, volume: &str) {
    let request = vol_engine::CreateVolume { size: Bytes::mib(64), ..volume_request(volume, None) };
    engine.create_volume(&request, false).unwrap();
}

fn reboot(host: &SimHost) -> Engine<SimHost> {
    host.crash(CrashMode::LoseAll);
    host.restart();
    start(host)
}

fn problems(engine: &Engine<SimHost>) -> String {
    let mut all = engine.scan_problems();
    all.extend(engine.vgs().iter().flat_map(|vg| vg.view().problems.clone()));
    all.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
}

/// Where the pool's data begin.
fn disk_of(engine: &Engine<SimHost>, pool: &str) -> String {
    engine.vgs()[0].read(|catalog| {
        let pool = catalog.pool_named(&name(pool)).unwrap();
        let disks: std::collections::BTreeSet<_> = pool.data.iter().chain(&pool.metadata).map(|one| one.pv).collect();
        assert_eq!(disks.len(), 1, "it stands on one disk");
        catalog.pv(*disks.first().unwrap()).unwrap().path_hint.clone()
    })
}

#[test]
fn f5_a_clone_that_appears_changes_nothing_for_the_running_group_and_is_used_from_neither_side_afterwards() {
    let (host, engine) = three();
    Op::CreatePool.run(&engine).unwrap();
    host.clone_disk("/dev/sdc", "/dev/sdz", "another serial number");
    engine.scan(&[], false).unwrap();
    Op::CreateRaw.run(&engine).unwrap();
    assert_eq!(engine.vgs()[0].view().copies, (3, 3));
    drop(engine);
    let engine = reboot(&host);
    assert!(problems(&engine).contains("more than once"), "{}", problems(&engine));
    let used = engine.vgs()[0].view().nodes.clone();
    assert!(used.iter().all(|(_, node)| node != Path::new("/dev/sdc") && node != Path::new("/dev/sdz")), "{used:?}");
}

#[test]
fn f6_a_missing_disk_stops_the_pools_that_stand_on_it_and_no_others() {
    let (host, engine) = three();
    disk_full(&engine, "one");
    disk_full(&engine, "two");
    let (first, second) = (disk_of(&engine, "one"), disk_of(&engine, "two"));
    assert_ne!(first, second);
    drop(engine);
    host.remove_disk(&second);
    let engine = reboot(&host);
    let found = problems(&engine);
    assert!(found.contains("is missing") && found.contains("pool two is not active"), "{found}");
    assert!(!found.contains("pool one"), "{found}");
    let request = vol_engine::CreateVolume { pool: Some(name("one")), ..volume_request("here", None) };
    engine.create_volume(&request, false).unwrap();
    let request = vol_engine::CreateVolume { pool: Some(name("two")), ..volume_request("there", None) };
    engine.create_volume(&request, false).unwrap_err();
    drop(engine);
    host.reattach(&second);
    let engine = reboot(&host);
    assert_eq!(problems(&engine), "");
    engine.create_volume(&request, false).unwrap();
}

#[test]
fn f23_the_clock_may_say_anything() {
    let (host, engine) = three();
    Op::CreatePool.run(&engine).unwrap();
    drop(engine);
    let clocks = [0, 1, 1_800_000_000, 1_400_000_000, u64::from(u32::MAX) + 1, u64::MAX / 2, u64::MAX, 1_700_000_000];
    for (round, clock) in clocks.into_iter().enumerate() {
        host.set_now(clock);
        let engine = reboot(&host);
        create(&engine, &format!("v{round}"));
        host.set_now(clock / 3);
        create(&engine, &format!("w{round}"));
        sound(&host, &engine, &format!("at {clock}"));
        let expected = inventory(&engine);
        drop(engine);
        assert_eq!(inventory(&reboot(&host)), expected, "at {clock}");
    }
}

#[test]
fn f24_a_disk_that_shrank_is_not_used_and_the_rest_is() {
    let (host, engine) = three();
    disk_full(&engine, "one");
    disk_full(&engine, "two");
    let (first, second) = (disk_of(&engine, "one"), disk_of(&engine, "two"));
    drop(engine);
    host.resize_disk(&second, Bytes::gib(2));
    let engine = reboot(&host);
    let found = problems(&engine);
    assert!(found.contains(&format!("{second} has shrunk from 4.00 GiB to 2.00 GiB: not used")), "{found}");
    assert_eq!(disk_of(&engine, "one"), first);
    let request = vol_engine::CreateVolume { pool: Some(name("one")), ..volume_request("here", None) };
    engine.create_volume(&request, false).unwrap();
}

#[test]
fn f25_disks_of_different_sector_sizes_are_refused_before_anything_is_written() {
    let host = machine();
    host.add_disk(SimDisk::new("/dev/sdk", Bytes::gib(4)).sector_size(4096));
    let engine = start(&host);
    let effects = host.effects();
    let error = engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdk"]), false).unwrap_err();
    assert!(error.to_string().contains("sector"), "{error}");
    assert_eq!(host.effects(), effects, "nothing was done");
    engine.create_vg(&vg_request(&["/dev/sdk"]), false).unwrap();
    let effects = host.effects();
    let error = engine.extend_vg(&extend_request(&["/dev/sda"]), false).unwrap_err();
    assert!(error.to_string().contains("sector"), "{error}");
    assert_eq!(host.effects(), effects, "nothing was done");
}

#[test]
fn f33_a_disk_that_took_the_name_of_another_is_not_written_to() {
    let (host, engine) = three();
    host.add_disk(SimDisk::new("/dev/sdy", Bytes::gib(4)));
    let is_blank = |disk: &str| host.peek(disk, 0, 32 << 20).iter().all(|byte| *byte == 0);
    // From one moment to the next another disk stands under this name.
    host.swap_disks("/dev/sdc", "/dev/sdy");
    let vg = engine.vgs()[0].clone();
    vg.change(&host, false, |catalog, _, _| {
        let mut plan = vol_core::Plan::new("a commit");
        plan.push(vol_core::Action::Commit { changes: vec![Change::Put(Object::Vg(catalog.vg().clone()))] });
        Ok((plan, ()))
    })
    .unwrap();
    assert!(is_blank("/dev/sdc"), "what has the name now was written to");
    drop((vg, engine));
    let engine = reboot(&host);
    assert_eq!(problems(&engine), "");
    assert_eq!(engine.vgs()[0].view().copies, (3, 3), "and its own disk is known under any name");
    assert!(is_blank("/dev/sdc"));
}
