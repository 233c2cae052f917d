//! Space that is set aside for a volume: what is admitted beside it, and what its pool does.

use vol_core::observed::{PoolStatus, PoolUsage};
use vol_engine::host::HostRead as _;
use vol_engine::{CloneVolume, CreatePool, CreateVolume, Engine, SpacePolicy};
use vol_sim::SimHost;
use vol_types::*;

use super::bench::*;

/// A pool of 1 GiB with chunks of 64 KiB, and no reserve of its own.
fn small(growth: Growth) -> (SimHost, Engine<SimHost>) {
    let host = machine();
    let engine = start(&host);
    engine.create_vg(&vg_request(&["/dev/sda", "/dev/sdb"]), false).unwrap();
    let policy = SpacePolicy { growth, reserve_percent: 0, ..SpacePolicy::default() };
    let request = CreatePool { size: SizeSpec::Bytes(Bytes::gib(1)), policy, ..pool_request() };
    engine.create_pool(&request, false).unwrap();
    (host, engine)
}

fn wanted(volume: &str, reserve: Reserve) -> CreateVolume {
    CreateVolume { size: Bytes::mib(600), reserve, ..volume_request(volume, None) }
}

const HALF: Reserve = Reserve::Bytes(Bytes::mib(512));

fn make(engine: &Engine<SimHost>, volume: &str, reserve: Reserve) -> Result<bool, String> {
    engine.create_volume(&wanted(volume, reserve), false).map(changed).map_err(|error| error.to_string())
}

fn set(engine: &Engine<SimHost>, of: &str, reserve: Reserve) -> Result<bool, String> {
    engine.reserve(&name("data"), &volume(of), reserve, false).map(changed).map_err(|error| error.to_string())
}

/// What is set aside, as readers are told.
fn aside(engine: &Engine<SimHost>) -> Bytes {
    engine.refresh();
    let vg = engine.vgs()[0].clone();
    let view = vg.view();
    vg.read(|catalog| vol_core::plan::reserve::set_aside(catalog, &view.kernel, catalog.pools().next().unwrap()))
}

fn usage(host: &SimHost, engine: &Engine<SimHost>) -> PoolUsage {
    let id = engine.vgs()[0].read(|catalog| catalog.pools().next().unwrap().id);
    match host.pool_status(&vol_core::dm::Device::Pool(id).uuid()).unwrap() {
        PoolStatus::Working(usage) => usage,
        other => panic!("{other:?}"),
    }
}

/// As [`sound`], of pools that count as nearly full because of what is set aside.
fn in_order(host: &SimHost, engine: &Engine<SimHost>) {
    assert_eq!(host.violations(), Vec::<String>::new());
    assert_eq!(engine.vgs()[0].read(vol_core::check::violations), Vec::<String>::new());
}

/// So many MiB of an attached volume are written.
fn write(host: &SimHost, engine: &Engine<SimHost>, of: &str, mib: u64) {
    let id = engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(of)).unwrap().id);
    host.fill(&vol_core::dm::Device::Volume(id).uuid(), mib * 16).unwrap();
}

#[test]
fn what_is_set_aside_for_one_is_not_promised_to_another() {
    let (host, engine) = small(Growth::Off);
    assert_eq!(make(&engine, "a", HALF), Ok(true));
    assert_eq!(aside(&engine), Bytes::mib(512));
    assert_eq!(make(&engine, "a", HALF), Ok(false), "the same request again");
    let other = make(&engine, "a", Reserve::None).unwrap_err();
    assert!(other.contains("a reserve of 512 MiB"), "{other}");
    let refused = make(&engine, "b", Reserve::Full).unwrap_err();
    assert!(
        refused.contains("needs 600 MiB to be set aside in pool data/tank, which has 1.00 GiB free; 512 MiB"),
        "{refused}"
    );
    assert_eq!(make(&engine, "b", HALF), Ok(true), "it fits to the byte");
    // Nothing is left: not even a volume that asks for nothing is made.
    let refused = make(&engine, "c", Reserve::None).unwrap_err();
    assert!(refused.contains("1.00 GiB of that are set aside"), "{refused}");
    assert_eq!(set(&engine, "b", Reserve::None), Ok(true));
    assert_eq!(make(&engine, "c", Reserve::None), Ok(true));
    in_order(&host, &engine);
}

#[test]
fn a_reserve_is_changed_and_what_cannot_be_is_refused() {
    let (host, engine) = small(Growth::Off);
    make(&engine, "a", Reserve::None).unwrap();
    assert_eq!(set(&engine, "a", Reserve::Full), Ok(true));
    assert_eq!(set(&engine, "a", Reserve::Bytes(Bytes::mib(600))), Ok(false), "that is what full came to");
    assert_eq!(aside(&engine), Bytes::mib(600));
    let more = set(&engine, "a", Reserve::Bytes(Bytes::gib(2))).unwrap_err();
    assert!(more.contains("a reserve of 2.00 GiB is more than data/a can hold, which is 600 MiB"), "{more}");
    make(&engine, "b", Reserve::None).unwrap();
    let refused = set(&engine, "b", Reserve::Full).unwrap_err();
    assert!(refused.contains("data/b needs 600 MiB to be set aside"), "{refused}");
    assert_eq!(set(&engine, "a", Reserve::None), Ok(true));
    assert_eq!((set(&engine, "b", Reserve::Full), aside(&engine)), (Ok(true), Bytes::mib(600)));
    engine.create_snapshot(&"data/a@t".parse().unwrap(), false).unwrap();
    let snapshot = set(&engine, "a@t", Reserve::Full).unwrap_err();
    assert!(snapshot.contains("is a snapshot"), "{snapshot}");
    in_order(&host, &engine);
    assert_eq!(aside(&start(&host)), Bytes::mib(600), "it is on the disks");
}

#[test]
fn what_is_written_is_set_aside_no_more_also_when_the_volume_is_idle_and_after_a_restart() {
    let (host, engine) = small(Growth::Off);
    make(&engine, "a", HALF).unwrap();
    engine.attach(&name("data"), &volume("a"), false).unwrap();
    write(&host, &engine, "a", 200);
    assert_eq!(aside(&engine), Bytes::mib(312));
    engine.detach(&name("data"), &volume("a"), false).unwrap();
    assert_eq!(aside(&engine), Bytes::mib(312));
    drop(engine);
    host.restart();
    let engine = start(&host);
    assert_eq!(aside(&engine), Bytes::mib(312), "the pool's own metadata tell");
    sound(&host, &engine, "written");
}

#[test]
fn a_snapshot_of_a_reserved_volume_needs_its_reserve_once_more() {
    let (host, engine) = small(Growth::Off);
    make(&engine, "a", HALF).unwrap();
    engine.attach(&name("data"), &volume("a"), false).unwrap();
    write(&host, &engine, "a", 500);
    make(&engine, "b", Reserve::Bytes(Bytes::mib(256))).unwrap();
    assert_eq!(aside(&engine), Bytes::mib(12 + 256));
    // 524 MiB are free; after it 512 + 256 would be set aside.
    let refused = engine.create_snapshot(&"data/a@t".parse().unwrap(), false).unwrap_err().to_string();
    assert!(refused.contains("would share its chunks with a snapshot, needs 500 MiB to be set aside"), "{refused}");
    let refused = engine.clone_volume(&clone_request("a", "c"), false).unwrap_err().to_string();
    assert!(refused.contains("would share its chunks with a clone, needs 500 MiB"), "{refused}");
    assert_eq!(set(&engine, "b", Reserve::None), Ok(true));
    engine.create_snapshot(&"data/a@t".parse().unwrap(), false).unwrap();
    assert_eq!(aside(&engine), Bytes::mib(512), "whatever it overwrites needs a new chunk");
    engine.delete_volume(&name("data"), &volume("a@t"), false).unwrap();
    assert_eq!(aside(&engine), Bytes::mib(12));
    sound(&host, &engine, "a snapshot");
}

fn clone(engine: &Engine<SimHost>, of: &str, new: &str, reserve: Reserve) -> Result<bool, String> {
    let request = CloneVolume { reserve, ..clone_request(of, new) };
    engine.clone_volume(&request, false).map(changed).map_err(|error| error.to_string())
}

#[test]
fn a_clone_has_a_reserve_of_its_own_and_all_of_it_counts() {
    let (host, engine) = small(Growth::Off);
    make(&engine, "a", Reserve::None).unwrap();
    engine.attach(&name("data"), &volume("a"), false).unwrap();
    write(&host, &engine, "a", 300);
    // 724 MiB are free.
    assert_eq!(clone(&engine, "a", "b", HALF), Ok(true));
    assert_eq!(aside(&engine), Bytes::mib(512), "it shares all that it has: none of that counts as its own");
    assert_eq!(clone(&engine, "a", "b", HALF), Ok(false), "the same request again");
    for (other, present) in [(Reserve::None, "512 MiB"), (Reserve::Full, "512 MiB")] {
        let refused = clone(&engine, "a", "b", other).unwrap_err();
        assert!(refused.contains(&format!("not what was asked for: a reserve of {present}")), "{refused}");
    }
    let refused = clone(&engine, "a", "c", Reserve::Full).unwrap_err();
    assert!(
        refused.contains("data/c needs 600 MiB to be set aside in pool data/tank, which has 724 MiB free; 512 MiB"),
        "{refused}"
    );
    let more = clone(&engine, "a", "c", Reserve::Bytes(Bytes::gib(1))).unwrap_err();
    assert!(more.contains("a reserve of 1.00 GiB is more than data/c can hold, which is 600 MiB"), "{more}");
    assert_eq!(clone(&engine, "a", "c", Reserve::Bytes(Bytes::mib(212))), Ok(true), "it fits to the byte");
    let refused = make(&engine, "d", Reserve::None).unwrap_err();
    assert!(refused.contains("724 MiB of that are set aside"), "{refused}");
    assert_eq!(aside(&start(&host)), Bytes::mib(724), "it is on the disks");
    in_order(&host, &engine);
}

#[test]
fn a_clone_with_a_reserve_needs_that_of_its_source_once_more_but_not_that_of_a_snapshots_volume() {
    let (host, engine) = small(Growth::Off);
    make(&engine, "a", HALF).unwrap();
    engine.attach(&name("data"), &volume("a"), false).unwrap();
    write(&host, &engine, "a", 400);
    // 624 MiB are free, 112 of them set aside. After it 512 of `a` count, and what the clone asks for.
    let refused = clone(&engine, "a", "b", Reserve::Bytes(Bytes::mib(113))).unwrap_err();
    assert!(
        refused.contains("data/b, which would share its chunks with data/a and its reserve, needs 513 MiB"),
        "{refused}"
    );
    engine.create_snapshot(&"data/a@t".parse().unwrap(), false).unwrap();
    assert_eq!(aside(&engine), Bytes::mib(512), "the snapshot shares already");
    let refused = clone(&engine, "a@t", "b", Reserve::Bytes(Bytes::mib(113))).unwrap_err();
    assert!(refused.contains("data/b needs 113 MiB"), "{refused}");
    assert_eq!(clone(&engine, "a@t", "b", Reserve::Bytes(Bytes::mib(112))), Ok(true));
    assert_eq!(aside(&engine), Bytes::mib(624));
    in_order(&host, &engine);
}

#[test]
fn a_deleted_volume_holds_no_reserve_and_takes_it_back_only_if_it_fits() {
    let (host, engine) = small(Growth::Off);
    make(&engine, "a", HALF).unwrap();
    engine.keep_volume(&name("data"), &volume("a"), false).unwrap();
    assert_eq!(aside(&engine), Bytes::ZERO);
    make(&engine, "b", Reserve::Full).unwrap();
    let refused = engine.undelete_volume(&name("data"), &volume("a"), false).unwrap_err().to_string();
    assert!(refused.contains("data/a needs 512 MiB to be set aside"), "{refused}");
    set(&engine, "b", Reserve::None).unwrap();
    engine.undelete_volume(&name("data"), &volume("a"), false).unwrap();
    assert_eq!(aside(&engine), Bytes::mib(512));
    sound(&host, &engine, "taken back");
}

#[test]
fn the_pool_grows_before_others_write_into_what_is_set_aside() {
    let (host, engine) = small(Growth::VgSpace);
    make(&engine, "a", HALF).unwrap();
    make(&engine, "b", Reserve::None).unwrap();
    engine.attach(&name("data"), &volume("b"), false).unwrap();
    let before = usage(&host, &engine).total_data;
    write(&host, &engine, "b", 300);
    engine.refresh();
    engine.guard_space();
    let now = usage(&host, &engine);
    assert!(now.total_data > before, "724 MiB were free, but 512 of them not for b");
    assert!((now.total_data - now.used_data) * 64 * 1024 > Bytes::mib(512).get());
    let space = engine.vgs()[0].view().problems.len();
    assert_eq!(space, 0);
}

#[test]
fn a_pool_that_cannot_grow_tells_when_others_have_written_into_what_is_set_aside() {
    let (host, engine) = small(Growth::Off);
    make(&engine, "b", Reserve::None).unwrap();
    make(&engine, "a", HALF).unwrap();
    engine.attach(&name("data"), &volume("b"), false).unwrap();
    write(&host, &engine, "b", 500);
    engine.refresh();
    let codes = |engine: &Engine<SimHost>| -> Vec<_> {
        engine.vgs()[0].view().problems.iter().map(|problem| problem.code).collect()
    };
    assert!(!codes(&engine).contains(&"pool-reserve-short"), "it is just covered: {:?}", codes(&engine));
    write(&host, &engine, "b", 60);
    engine.refresh();
    assert!(codes(&engine).contains(&"pool-reserve-short"), "{:?}", codes(&engine));
    engine.extend_pool(&name("data"), &extend_pool(Some("+1G"), None), false).unwrap();
    engine.refresh();
    assert_eq!(codes(&engine), Vec::<&str>::new());
}

#[test]
fn reserves_that_are_asked_for_at_once_see_each_other() {
    let (host, engine) = small(Growth::Off);
    let requests: Vec<_> = (0..5).map(|n| wanted(&format!("v{n}"), Reserve::Bytes(Bytes::mib(300)))).collect();
    let answers = engine.create_volumes(&name("data"), &requests).unwrap();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3, "{answers:?}");
    assert_eq!(aside(&engine), Bytes::mib(900));
    in_order(&host, &engine);
}
