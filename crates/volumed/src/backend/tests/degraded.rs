use vol_api::Health;
use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_sim::{CrashMode, EffectKind, Fault};

use super::*;

fn codes(backend: &Sim) -> Vec<String> {
    backend.status().unwrap().problems.into_iter().map(|problem| problem.code).collect()
}

/// As [`furnished`] after a reboot in which the last of `disks` did not come back.
fn without_the_last_of(disks: &[&str]) -> (SimHost, Sim) {
    let host = machine();
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let backend = start(&host);
    let devices = disks.iter().map(|disk| (*disk).to_owned()).collect();
    done(backend.create_vg(CreateVg { devices, ..vg_request() }, false));
    host.crash(CrashMode::LoseAll);
    host.restart();
    host.remove_disk(disks.last().unwrap());
    let backend = start(&host);
    (host, backend)
}

#[test]
fn a_missing_disk_is_degraded_everywhere_it_shows() {
    let (host, backend) = without_the_last_of(&["/dev/sda", "/dev/sdb", "/dev/sdc"]);
    let status = backend.status().unwrap();
    assert_eq!(status.health, Health::Degraded, "{:?}", status.problems);
    let missing = status.problems.iter().find(|problem| problem.code == "pv_missing").unwrap();
    assert!(missing.message.starts_with("data: PV "), "{missing:?}");
    assert!(missing.message.contains("(last seen as /dev/sdc)"), "{missing:?}");
    assert!(missing.hint.contains("volctl pv scan"), "{missing:?}");
    assert_eq!(backend.vg(&name("data")).unwrap().health, Health::Degraded);
    assert_eq!(backend.df().unwrap().vgs[0].health, Health::Degraded);
    let pvs = backend.pvs(None).unwrap();
    let gone = pvs.iter().find(|pv| !pv.present).unwrap();
    assert_eq!((gone.path.as_deref(), gone.health), (None, Health::Failed));
    assert_eq!(pvs.iter().filter(|pv| pv.present && pv.health == Health::Ok).count(), 2);
    let (code, message, hint) = failed(backend.delete_vg(&name("data"), false));
    assert_eq!(code, "degraded", "{message}");
    assert!(hint.contains("volctl pv scan"), "{hint}");

    host.reattach("/dev/sdc");
    let found = done(backend.scan(vol_api::ScanRequest { files: vec![] }, false));
    assert_eq!((found.vgs.len(), found.pvs.len()), (1, 3));
    assert!(!outcome(backend.scan(vol_api::ScanRequest { files: vec![] }, false)).changed);
    assert_eq!(codes(&backend), Vec::<String>::new(), "after the disk came back");
    assert_eq!(backend.status().unwrap().health, Health::Ok);
}

#[test]
fn a_disk_that_goes_and_comes_is_followed_without_a_request() {
    let (host, backend) = without_the_last_of(&["/dev/sda", "/dev/sdb", "/dev/sdc"]);
    backend.start_watching_disks(backend.engine.host().disk_events().unwrap()).unwrap();
    let comes_to = |expected: &[&str]| {
        let begun = std::time::Instant::now();
        while codes(&backend) != expected {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", codes(&backend));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    host.reattach("/dev/sdc");
    comes_to(&[]);
    host.remove_disk("/dev/sda");
    comes_to(&["pv_missing"]);
    host.reattach("/dev/sda");
    comes_to(&[]);
    let begun = std::time::Instant::now();
    backend.stop();
    // It would wait for half a minute.
    assert!(begun.elapsed() < std::time::Duration::from_secs(25), "its wait is ended");
}

/// What fails when it is asked what became of disks.
struct Fails;

impl vol_engine::host::DiskEvents for Fails {
    fn wait(&self, _: std::time::Duration) -> vol_engine::host::DiskNews {
        panic!("of the thread that watches disks, on purpose")
    }
    fn wake(&self) {}
}

#[test]
fn a_daemon_whose_watch_over_disks_has_failed_is_not_alive() {
    let (_, backend) = furnished();
    backend.start_watching_disks(backend.engine.host().disk_events().unwrap()).unwrap();
    backend.alive().unwrap();
    backend.stop();
    backend.start_watching_disks(std::sync::Arc::new(Fails)).unwrap();
    let begun = std::time::Instant::now();
    let told = loop {
        match backend.alive() {
            Err(told) => break told,
            Ok(_) => assert!(begun.elapsed() < std::time::Duration::from_secs(120), "it is taken for alive"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert!(told.contains("\"disks\""), "{told}");
}

#[test]
fn a_group_without_a_majority_of_its_metadata_has_failed_and_takes_no_change() {
    let (_, backend) = without_the_last_of(&["/dev/sda", "/dev/sdb"]);
    assert_eq!(codes(&backend), ["metadata", "pv_missing", "metadata_frozen"]);
    assert_eq!(backend.vg(&name("data")).unwrap().health, Health::Failed);
    assert_eq!(backend.status().unwrap().health, Health::Failed, "the worst of all");
    let pool = CreatePool { size: "1G".into(), ..pool_request() };
    let (code, message, _) = failed(backend.create_pool(pool, false));
    assert_eq!(code, "degraded", "{message}");
}

#[test]
fn a_step_that_fails_says_which_and_that_it_was_taken_back() {
    let (host, backend) = furnished();
    for (kind, error, code) in [
        (EffectKind::Mkfs, HostErrorKind::Tool, "io"),
        (EffectKind::Mkfs, HostErrorKind::TimedOut, "timeout"),
        (EffectKind::DmCreate, HostErrorKind::Busy, "busy"),
        (EffectKind::DmCreate, HostErrorKind::Unsupported, "unsupported"),
        (EffectKind::DmCreate, HostErrorKind::NoSpace, "no_space"),
        // The daemon was denied something, not the client.
        (EffectKind::DmCreate, HostErrorKind::Denied, "io"),
    ] {
        host.fail_next(kind, Fault::Error(error));
        let (got, message, hint) = failed(backend.create_volume(volume_request("x", "1G", "ext4"), false));
        assert_eq!(got, code, "{kind:?} {error:?}: {message}");
        assert!(message.starts_with("create volume data/x: could not "), "{message}");
        assert_eq!(hint, "what had been done before that was taken back", "{message}");
        assert!(backend.volume(&volume("data/x")).is_err(), "{kind:?}: half a volume is left");
    }
    assert_eq!(codes(&backend), Vec::<String>::new());
    done(backend.create_volume(volume_request("x", "1G", "ext4"), false));
}

#[test]
fn a_step_that_cannot_be_taken_back_yet_says_so() {
    let (host, backend) = furnished();
    host.fail_effects_from(host.effects() + 4, Fault::Error(HostErrorKind::Io));
    let (code, message, hint) = failed(backend.create_volume(volume_request("x", "1G", "ext4"), false));
    assert!(["io", "degraded"].contains(&code), "{code}: {message}");
    assert!(hint.contains("could be taken back yet: see `volctl status`"), "{message}: {hint}");
}

#[test]
fn metadata_that_cannot_be_written_freeze_the_group_until_a_scan() {
    let (host, backend) = furnished();
    for disk in ["/dev/sda", "/dev/sdb"] {
        host.fail_device(disk, Fault::Error(HostErrorKind::Io));
    }
    failed(backend.create_volume(volume_request("x", "1G", "none"), false));
    let vg = backend.vg(&name("data")).unwrap();
    assert_eq!(vg.health, Health::Failed);
    assert!(codes(&backend).contains(&"metadata_frozen".to_owned()), "{:?}", codes(&backend));
    let (code, message, _) = failed(backend.create_volume(volume_request("y", "1G", "none"), false));
    assert_eq!(code, "degraded", "{message}");
    host.clear_faults();
    outcome(backend.scan(vol_api::ScanRequest { files: vec![] }, false));
    assert_eq!(codes(&backend), Vec::<String>::new());
    done(backend.create_volume(volume_request("y", "1G", "none"), false));
}

#[test]
fn a_pool_that_disagrees_is_refused_and_tells_both_transaction_ids() {
    let (host, backend) = furnished();
    let tank = backend.pool(&pool("data/tank")).unwrap();
    host.set_transaction_id(&pool_device(&tank.id), 77).unwrap();
    backend.engine.refresh();
    let tank = backend.pool(&pool("data/tank")).unwrap();
    assert_eq!((tank.health, tank.problems[0].code.as_str()), (Health::Failed, "pool_refused"));
    let both = format!("is at transaction 77 in the kernel, but at {} in", tank.transaction_id);
    assert!(tank.problems[0].message.contains(&both), "{}", tank.problems[0].message);
    assert_eq!(backend.volume(&volume("data/pg")).unwrap().health, Health::Degraded);
    let (code, message, hint) = failed(backend.mount_volume(&volume("data/pg"), mount_at("/srv/pg"), false));
    assert_eq!((code, message.contains(&both)), ("degraded", true), "{message}");
    assert!(!hint.is_empty());
}

#[test]
fn a_change_that_one_copy_missed_is_done_with_a_warning() {
    let host = machine();
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)));
    let backend = start(&host);
    let devices = ["/dev/sda", "/dev/sdb", "/dev/sdc"].map(str::to_owned).to_vec();
    done(backend.create_vg(CreateVg { devices, ..vg_request() }, false));
    done(backend.create_pool(pool_request(), false));
    host.fail_next(EffectKind::DurableWrite, Fault::Error(HostErrorKind::Io));
    let outcome = outcome(backend.create_volume(volume_request("x", "1G", "none"), false));
    assert!(outcome.changed);
    assert!(outcome.warnings.iter().any(|text| text.contains("the metadata copy on PV")), "{:?}", outcome.warnings);
}

#[test]
fn a_pool_is_repaired_by_a_request_and_its_original_shown_until_it_is_given_up() {
    let (host, backend) = furnished();
    let tank: vol_types::PoolPath = "data/tank".parse().unwrap();
    let id = backend.pool(&tank).unwrap().id;
    let metadata = format!("VOLUMED-{id}-tmeta");
    for volume in ["data/pg", "data/raw"] {
        drop(backend.unmount_volume(&volume.parse().unwrap(), false));
        drop(backend.detach_volume(&volume.parse().unwrap(), false));
    }
    let checked = outcome(backend.check_pool(&tank, vol_api::CheckPool::default(), false));
    assert_eq!((checked.changed, checked.object.unwrap().how.as_str()), (false, "stopped"));
    host.spoil_metadata(&metadata, vol_sim::ThinFlaw::SpaceMaps).unwrap();
    let (code, message, hint) = failed(backend.check_pool(&tank, vol_api::CheckPool::default(), false));
    assert!(code == "degraded" && message.contains("thin_check finds damage"), "{message}");
    assert!(hint.contains("volctl pool repair data/tank"), "{hint}");
    let both = vol_api::RepairPool { accept_loss: true, discard_original: true };
    assert_eq!(failed(backend.repair_pool(&tank, both, false)).0, "invalid");
    let repaired = outcome(backend.repair_pool(&tank, vol_api::RepairPool::default(), false));
    let info = repaired.object.unwrap();
    assert_eq!((repaired.changed, info.how.as_str(), info.lost.len()), (true, "replaced", 0));
    assert_eq!(info.pool.original_metadata_bytes, info.pool.metadata_size_bytes);
    let map = backend.vg_map(&name("data")).unwrap();
    let originals = map.pvs.iter().flat_map(|pv| &pv.segments).filter(|one| one.usage == vol_api::SegmentUse::Original);
    assert_eq!(
        originals.map(|one| one.extent_count).sum::<u64>() * map.extent_size_bytes,
        info.pool.metadata_size_bytes
    );
    let discard = vol_api::RepairPool { discard_original: true, ..vol_api::RepairPool::default() };
    assert!(outcome(backend.repair_pool(&tank, discard.clone(), false)).changed);
    assert!(!outcome(backend.repair_pool(&tank, discard, false)).changed);
    assert_eq!(backend.pool(&tank).unwrap().original_metadata_bytes, 0);
}
