//! Labels of PVs, and pools that lie on some PVs only, now and when they grow.

use std::path::PathBuf;

use vol_engine::{CreatePool, Done, Engine, EngineError, PlaceOn, PvName};
use vol_sim::{SimDisk, SimHost};
use vol_types::*;

use super::bench::*;

/// `data` on three disks of 4 GiB, and `other` on a fourth.
fn engine() -> (SimHost, Engine<SimHost>) {
    let host = machine();
    for disk in ["/dev/sdc", "/dev/sdd"] {
        host.add_disk(SimDisk::new(disk, Bytes::gib(4)));
    }
    let engine = start(&host);
    engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdb", "/dev/sdc"]), false).unwrap();
    let other = vol_engine::CreateVg { name: name("other"), ..vg_request(&["/dev/sdd"]) };
    engine.create_vg(&other, false).unwrap();
    (host, engine)
}

fn path(disk: &str) -> PvName {
    PvName::Path(PathBuf::from(disk))
}

fn pv(engine: &Engine<SimHost>, disk: &str) -> PvId {
    let vg = engine.vg(&name("data")).unwrap();
    vg.read(|catalog| catalog.pvs().find(|pv| pv.path_hint == disk).unwrap().id)
}

fn label(engine: &Engine<SimHost>, disk: &str, set: &[&str], remove: &[&str]) -> Result<Done<PvId>, EngineError> {
    let set: Vec<Label> = set.iter().map(|text| text.parse().unwrap()).collect();
    let remove: Vec<String> = remove.iter().map(|key| (*key).to_owned()).collect();
    engine.relabel_pv(&name("data"), pv(engine, disk), (&set, &remove), false)
}

fn labelled(text: &str) -> PlaceOn {
    PlaceOn { labels: [text.parse().unwrap()].into_iter().collect(), ..PlaceOn::default() }
}

fn pool(size: &str, place: PlaceOn) -> CreatePool {
    CreatePool { size: size.parse().unwrap(), place, ..pool_request() }
}

/// The disks on which a pool lies.
fn lies_on(engine: &Engine<SimHost>) -> Vec<String> {
    let vg = engine.vg(&name("data")).unwrap();
    vg.read(|catalog| {
        let pool = catalog.pool_named(&name("tank")).unwrap();
        let segments = pool.data.iter().chain(&pool.metadata);
        let disks: std::collections::BTreeSet<_> =
            segments.map(|segment| catalog.pv(segment.pv).unwrap().path_hint.clone()).collect();
        disks.into_iter().collect()
    })
}

fn refused<T: std::fmt::Debug>(result: Result<T, EngineError>) -> (String, String) {
    match result.unwrap_err() {
        EngineError::Refused(refusal) => (refusal.message, refusal.hint.unwrap_or_default()),
        other => panic!("{other}"),
    }
}

#[test]
fn labels_of_a_pv_are_set_and_taken_away_and_outlive_a_restart() {
    let (host, engine) = engine();
    assert!(changed(label(&engine, "/dev/sdb", &["tier=fast", "rack=7"], &[]).unwrap()));
    assert!(!changed(label(&engine, "/dev/sdb", &["tier=fast"], &["none"]).unwrap()));
    assert!(changed(label(&engine, "/dev/sdb", &["tier=slow"], &["rack"]).unwrap()));
    let now = |engine: &Engine<SimHost>| {
        let vg = engine.vg(&name("data")).unwrap();
        let id = pv(engine, "/dev/sdb");
        vg.read(|catalog| catalog.pv(id).unwrap().labels.clone())
    };
    assert_eq!(now(&engine).iter().collect::<Vec<_>>(), [("tier", "slow")]);
    drop(engine);
    let engine = start(&host);
    assert_eq!(now(&engine).iter().collect::<Vec<_>>(), [("tier", "slow")]);
    let (message, _) = refused(label(&engine, "/dev/sdb", &["tier=a"], &["tier"]));
    assert_eq!(message, "the label tier is named twice");
    sound(&host, &engine, "labelled");
}

#[test]
fn a_pool_lies_and_grows_where_it_may_and_nowhere_else() {
    for (place, disks) in [
        (PlaceOn { on: vec![path("/dev/sdb")], ..PlaceOn::default() }, vec!["/dev/sdb"]),
        (PlaceOn { not_on: vec![path("/dev/sda")], ..PlaceOn::default() }, vec!["/dev/sdb", "/dev/sdc"]),
        (labelled("tier=fast"), vec!["/dev/sda", "/dev/sdc"]),
    ] {
        let (host, engine) = engine();
        for disk in ["/dev/sda", "/dev/sdc"] {
            label(&engine, disk, &["tier=fast"], &[]).unwrap();
        }
        // A share is of what is free there.
        engine.create_pool(&pool("60%FREE", place), false).unwrap();
        assert!(lies_on(&engine).iter().all(|disk| disks.contains(&disk.as_str())), "{:?}", lies_on(&engine));
        engine.extend_pool(&name("data"), &extend_pool(Some("100%FREE"), None), false).unwrap();
        assert_eq!(lies_on(&engine), disks, "all of it, and nothing else");
        let more = engine.extend_pool(&name("data"), &extend_pool(Some("+4M"), None), false);
        let (message, _) = refused(more);
        assert!(message.contains("has 0 B free on PVs that are"), "{message}");
        let vg = engine.vg(&name("data")).unwrap();
        let (room, free) = vg.read(|catalog| {
            let pool = catalog.pool_named(&name("tank")).unwrap();
            (vol_core::plan::grow::room(catalog, pool), catalog.free_extents_total())
        });
        assert_eq!(room, Bytes(0), "it cannot grow by itself");
        assert!(!free.is_zero(), "although the group has space");
        sound(&host, &engine, "placed");
        drop(engine);
        assert_eq!(lies_on(&start(&host)), disks);
    }
}

#[test]
fn a_pool_grows_by_itself_only_where_it_may() {
    let (host, engine) = engine();
    let place = PlaceOn { on: vec![path("/dev/sdc")], ..PlaceOn::default() };
    let request = CreatePool { overcommit_percent: 100_000, ..pool("64M", place) };
    engine.create_pool(&request, false).unwrap();
    Op::CreateRaw.run(&engine).unwrap();
    engine.attach(&name("data"), &volume("raw"), false).unwrap();
    let vg = engine.vg(&name("data")).unwrap();
    let raw = vg.read(|catalog| catalog.volume_named(&volume("raw")).unwrap().id);
    let size = || vg.read(|catalog| catalog.pool_data_size(catalog.pool_named(&name("tank")).unwrap()));
    for _ in 0..8 {
        host.fill(&vol_core::dm::Device::Volume(raw).uuid(), 900).unwrap();
        host.pass(std::time::Duration::from_secs(10));
        engine.guard_space();
    }
    assert!(size() > Bytes::mib(450), "it grew by itself: {}", size());
    assert_eq!(lies_on(&engine), ["/dev/sdc"]);
    // This growth alone is asked to be elsewhere: the next one is not.
    let once = PlaceOn { on: vec![path("/dev/sda")], ..PlaceOn::default() };
    engine.extend_pool_on(&name("data"), &extend_pool(Some("+64M"), None), &once, false).unwrap();
    assert_eq!(lies_on(&engine), ["/dev/sda", "/dev/sdc"]);
    let before = vg.read(|catalog| catalog.free_extents(pv_in(catalog, "/dev/sda")));
    engine.extend_pool(&name("data"), &extend_pool(Some("+64M"), None), false).unwrap();
    let after = vg.read(|catalog| catalog.free_extents(pv_in(catalog, "/dev/sda")));
    assert_eq!(before, after);
    sound(&host, &engine, "grown");
}

fn pv_in(catalog: &vol_core::Catalog, disk: &str) -> PvId {
    catalog.pvs().find(|pv| pv.path_hint == disk).unwrap().id
}

#[test]
fn what_is_contiguous_is_in_one_piece_or_refused_with_the_longest_there_is() {
    let (host, engine) = engine();
    let contiguous = PlaceOn { contiguous: true, ..PlaceOn::default() };
    let (message, hint) = refused(engine.create_pool(&pool("5G", contiguous.clone()), false));
    assert!(
        message.contains("the data of pool data/tank needs 5.00 GiB without gaps, but the most that is free so is 3.9"),
        "{message}"
    );
    assert!(message.contains("/dev/sda") && hint.contains("leave contiguous away"), "{message}: {hint}");
    engine.create_pool(&pool("3G", contiguous.clone()), false).unwrap();
    let pieces = |engine: &Engine<SimHost>| {
        engine.vg(&name("data")).unwrap().read(|catalog| catalog.pool_named(&name("tank")).unwrap().data.len())
    };
    assert_eq!(pieces(&engine), 1);
    let grow = |size: &str| engine.extend_pool_on(&name("data"), &extend_pool(Some(size), None), &contiguous, false);
    grow("+512M").unwrap();
    assert_eq!(pieces(&engine), 1);
    let (message, _) = refused(grow("+2G"));
    assert!(message.contains("right behind its end"), "{message}");
    engine.extend_pool(&name("data"), &extend_pool(Some("+2G"), None), false).unwrap();
    assert!(pieces(&engine) > 1);
    sound(&host, &engine, "contiguous");
}

#[test]
fn a_placement_that_cannot_be_is_refused_and_nothing_is_changed() {
    let (host, engine) = engine();
    label(&engine, "/dev/sda", &["tier=fast"], &[]).unwrap();
    let id = pv(&engine, "/dev/sda");
    let unknown = PvName::Id(PvId::from_bytes([9; 16]));
    let effects = host.effects();
    for (place, says) in [
        (PlaceOn { on: vec![path("/dev/sdd")], ..PlaceOn::default() }, "is a PV of volume group other, not of data"),
        (PlaceOn { on: vec![path("/dev/nope")], ..PlaceOn::default() }, "/dev/nope is no PV of volume group data"),
        (PlaceOn { not_on: vec![unknown], ..PlaceOn::default() }, "is no PV of volume group data"),
        (
            PlaceOn { on: vec![PvName::Id(id)], not_on: vec![path("/dev/sda")], ..PlaceOn::default() },
            "/dev/sda is to be used and not to be used",
        ),
        (labelled("tier=slow"), "no PV of volume group data is labelled tier=slow"),
        (
            PlaceOn { not_on: vec![path("/dev/sda")], ..labelled("tier=fast") },
            "no PV of volume group data is none of /dev/sda and labelled tier=fast",
        ),
    ] {
        let (message, hint) = refused(engine.create_pool(&pool("1G", place.clone()), false));
        assert!(message.contains(says) && !hint.is_empty(), "{place:?}: {message} ({hint})");
    }
    let (message, _) = refused(engine.create_pool(&pool("5G", labelled("tier=fast")), false));
    assert!(message.contains("free on PVs that are labelled tier=fast"), "{message}");
    assert_eq!(host.effects(), effects, "nothing was done");
    // The only disk that it may lie on is away.
    host.remove_disk("/dev/sda");
    drop(engine);
    let engine = start(&host);
    let (message, _) = refused(engine.create_pool(&pool("1G", labelled("tier=fast")), false));
    assert!(message.contains("that are labelled tier=fast are missing"), "{message}");
}

#[test]
fn a_pool_forgets_the_pvs_that_left_its_volume_group_and_goes_on_growing() {
    let (host, engine) = engine();
    let on = PlaceOn { on: vec![path("/dev/sda"), path("/dev/sdb")], ..PlaceOn::default() };
    engine.create_pool(&pool("1G", on), false).unwrap();
    assert_eq!(lies_on(&engine).len(), 1);
    let unused = if lies_on(&engine) == ["/dev/sda"] { "/dev/sdb" } else { "/dev/sda" };
    let leaves = pv(&engine, unused);
    engine.reduce_vg(&reduce_request(&[unused]), false).unwrap();
    let vg = engine.vg(&name("data")).unwrap();
    let on = vg.read(|catalog| catalog.pool_named(&name("tank")).unwrap().placement.on.clone());
    assert_eq!(on.len(), 1);
    assert!(!on.contains(&leaves));
    engine.extend_pool(&name("data"), &extend_pool(Some("+100M"), None), false).unwrap();
    sound(&host, &engine, "grown");
}

#[test]
fn a_pool_grows_where_it_is_told_to_from_then_on_and_what_it_has_stays() {
    let (host, engine) = engine();
    label(&engine, "/dev/sdc", &["tier=fast"], &[]).unwrap();
    let on = |disks: &[&str]| PlaceOn { on: disks.iter().map(|disk| path(disk)).collect(), ..PlaceOn::default() };
    engine.create_pool(&pool("256M", on(&["/dev/sda"])), false).unwrap();
    let set = |place: &PlaceOn| engine.set_pool_on(&name("data"), &same_pool(), Some(place), false);
    let grow = || engine.extend_pool(&name("data"), &extend_pool(Some("+64M"), None), false).unwrap();
    let planned = engine.set_pool_on(&name("data"), &same_pool(), Some(&labelled("tier=fast")), true).unwrap();
    assert!(matches!(planned, Done::Planned(plan) if plan.title.contains("PVs that are labelled tier=fast")));
    assert!(changed(set(&labelled("tier=fast")).unwrap()));
    assert!(!changed(set(&labelled("tier=fast")).unwrap()), "it is so already");
    assert_eq!(lies_on(&engine), ["/dev/sda"], "nothing is moved");
    grow();
    assert_eq!(lies_on(&engine), ["/dev/sda", "/dev/sdc"]);
    // It replaces what was remembered, also on the disks.
    assert!(changed(set(&on(&["/dev/sdb"])).unwrap()));
    drop(engine);
    let engine = start(&host);
    let placement = |engine: &Engine<SimHost>| {
        let vg = engine.vg(&name("data")).unwrap();
        vg.read(|catalog| (*catalog.pool_named(&name("tank")).unwrap().placement).clone())
    };
    assert_eq!(placement(&engine), Placement { on: vec![pv(&engine, "/dev/sdb")], ..Placement::default() });
    engine.extend_pool(&name("data"), &extend_pool(Some("+64M"), None), false).unwrap();
    assert_eq!(lies_on(&engine), ["/dev/sda", "/dev/sdb", "/dev/sdc"]);
    // The rest of what can be set leaves it alone, and it can be taken back.
    engine.set_pool(&name("data"), &set_pool(), false).unwrap();
    assert!(!placement(&engine).is_anywhere());
    assert!(changed(engine.set_pool_on(&name("data"), &same_pool(), Some(&PlaceOn::default()), false).unwrap()));
    assert!(placement(&engine).is_anywhere());
    sound(&host, &engine, "told to grow elsewhere");
}

#[test]
fn where_a_pool_cannot_grow_is_no_place_that_it_can_be_told() {
    let (host, engine) = engine();
    label(&engine, "/dev/sda", &["tier=fast"], &[]).unwrap();
    engine.create_pool(&pool("256M", labelled("tier=fast")), false).unwrap();
    let effects = host.effects();
    let on = |disk: &str| PlaceOn { on: vec![path(disk)], ..PlaceOn::default() };
    for (place, says) in [
        (on("/dev/sdd"), "is a PV of volume group other, not of data"),
        (on("/dev/nope"), "/dev/nope is no PV of volume group data"),
        (PlaceOn { not_on: vec![path("/dev/sda")], ..on("/dev/sda") }, "/dev/sda is to be used and not to be used"),
        (labelled("tier=slow"), "no PV of volume group data is labelled tier=slow"),
        (
            PlaceOn { not_on: ["/dev/sda", "/dev/sdb", "/dev/sdc"].map(path).to_vec(), ..PlaceOn::default() },
            "no PV of volume group data is none of",
        ),
    ] {
        let (message, hint) = refused(engine.set_pool_on(&name("data"), &same_pool(), Some(&place), false));
        assert!(message.contains(says) && !hint.is_empty(), "{place:?}: {message} ({hint})");
    }
    assert_eq!(host.effects(), effects, "nothing was done");
    // The label is gone since: what can be changed besides goes on being changed.
    label(&engine, "/dev/sda", &[], &["tier"]).unwrap();
    engine.set_pool(&name("data"), &set_pool(), false).unwrap();
    assert!(changed(engine.set_pool_on(&name("data"), &same_pool(), Some(&PlaceOn::default()), false).unwrap()));
}

#[test]
fn a_thick_volume_is_copied_and_grows_where_it_is_told_to() {
    let (host, engine) = engine();
    label(&engine, "/dev/sdc", &["tier=fast"], &[]).unwrap();
    let on = |disk: &str| PlaceOn { on: vec![path(disk)], ..PlaceOn::default() };
    let data = name("data");
    let request = vol_engine::CreateThick { place: on("/dev/sda"), ..thick_request("log", 1) };
    engine.create_thick(&request, false).unwrap();
    let disks = |of: &str| -> Vec<String> {
        engine.vg(&data).unwrap().read(|catalog| {
            let thick = catalog.volume_named(&volume(of)).unwrap().thick().unwrap().clone();
            thick.segments.iter().map(|segment| catalog.pv(segment.pv).unwrap().path_hint.clone()).collect()
        })
    };
    let clone = |new: &str, place: PlaceOn| {
        engine.clone_volume(&vol_engine::CloneVolume { place, ..clone_request("log", new) }, false)
    };
    let resize = |mib: u64, place: &PlaceOn| {
        engine.resize_volume_on(&data, &volume("log"), vol_core::plan::fs::NewSize::To(Bytes::mib(mib)), place, false)
    };
    assert!(changed(clone("copy", labelled("tier=fast")).unwrap()));
    assert_eq!(disks("copy"), ["/dev/sdc"]);
    assert!(!changed(clone("copy", labelled("tier=fast")).unwrap()), "the same request again");
    assert!(changed(resize(32, &on("/dev/sdb")).unwrap()));
    assert_eq!(disks("log"), ["/dev/sda", "/dev/sdb"]);
    // Not remembered: it goes on where it ends.
    assert!(changed(resize(48, &PlaceOn::default()).unwrap()));
    assert_eq!(disks("log"), ["/dev/sda", "/dev/sdb"]);
    let right_behind = PlaceOn { contiguous: true, ..PlaceOn::default() };
    assert!(changed(resize(64, &right_behind).unwrap()));
    assert_eq!(disks("log"), ["/dev/sda", "/dev/sdb"]);
    engine
        .create_thick(&vol_engine::CreateThick { place: on("/dev/sdb"), ..thick_request("behind", 1) }, false)
        .unwrap();
    let effects = host.effects();
    let (message, _) = refused(resize(80, &right_behind));
    assert!(message.contains("the growth of data/log needs 16.0 MiB right behind its end"), "{message}");
    let (message, _) = refused(resize(5 << 10, &on("/dev/sdb")));
    assert!(message.contains("on PVs that are one of /dev/sdb"), "{message}");
    for (place, says) in [
        (on("/dev/sdd"), "is a PV of volume group other, not of data"),
        (PlaceOn { not_on: vec![path("/dev/sda")], ..on("/dev/sda") }, "/dev/sda is to be used and not to be used"),
        (labelled("tier=slow"), "no PV of volume group data is labelled tier=slow"),
    ] {
        let (message, hint) = refused(resize(80, &place));
        assert!(message.contains(says) && !hint.is_empty(), "{message} ({hint})");
        let (message, hint) = refused(clone("other", place));
        assert!(message.contains(says) && !hint.is_empty(), "{message} ({hint})");
    }
    let reserved = vol_engine::CloneVolume { reserve: Reserve::Full, ..clone_request("log", "other") };
    let (message, hint) = refused(engine.clone_volume(&reserved, false));
    assert!(message.contains("all of its space is its own already") && hint.contains("--reserve"), "{message}");
    assert_eq!(host.effects(), effects, "nothing was done");
    sound(&host, &engine, "thick volumes placed");
}

#[test]
fn a_thin_volume_lies_where_its_pool_does_and_is_not_told_another_place() {
    let (host, engine) = engine();
    engine.create_pool(&pool("2G", PlaceOn::default()), false).unwrap();
    Op::CreateRaw.run(&engine).unwrap();
    let effects = host.effects();
    let sda = PlaceOn { on: vec![path("/dev/sda")], ..PlaceOn::default() };
    for place in [sda, PlaceOn { contiguous: true, ..PlaceOn::default() }] {
        let request = vol_engine::CloneVolume { place: place.clone(), ..clone_request("raw", "copy") };
        let (message, hint) = refused(engine.clone_volume(&request, false));
        assert!(message.contains("data/raw, and so a clone of it, lies in pool data/tank"), "{message}");
        assert!(hint.contains("volctl pool set data/tank --on"), "{hint}");
        let size = vol_core::plan::fs::NewSize::By(Bytes::gib(1));
        let (message, hint) = refused(engine.resize_volume_on(&name("data"), &volume("raw"), size, &place, false));
        assert!(message.contains("data/raw lies in pool data/tank: only a thick volume"), "{message}");
        assert!(hint.contains("volctl pool set data/tank --on"), "{hint}");
    }
    assert_eq!(host.effects(), effects, "nothing was done");
}
