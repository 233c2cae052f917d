use std::cell::RefCell;
use std::fs;

use vol_api::{CreatePool, CreateVg, CreateVolume};
use vol_sim::{SimDisk, SimHost};
use vol_types::Bytes;

use super::*;
use crate::api::Backend as _;
use crate::backend::EngineBackend;

const MINUTE: Duration = Duration::from_secs(60);

/// A machine with the volumes `data/pg` and `data/raw` on one disk, and `pair/v` on two others.
fn machine() -> SimHost {
    let host = SimHost::new(11);
    for disk in ["/dev/sda", "/dev/sdb", "/dev/sdc"] {
        host.add_disk(SimDisk::new(disk, Bytes::gib(4)));
    }
    let backend = EngineBackend::new(Engine::new(host.clone()), Default::default());
    for (vg, devices) in [("data", vec!["/dev/sda"]), ("pair", vec!["/dev/sdb", "/dev/sdc"])] {
        let devices = devices.into_iter().map(str::to_owned).collect();
        backend.create_vg(CreateVg { name: vg.into(), devices, ..CreateVg::default() }, false).unwrap();
        let pool = CreatePool { vg: vg.into(), name: "tank".into(), size: "90%FREE".into(), ..CreatePool::default() };
        backend.create_pool(pool, false).unwrap();
    }
    for (vg, name, fs) in [("data", "pg", "ext4"), ("data", "raw", "none"), ("pair", "v", "xfs")] {
        let (vg, name, fs) = (vg.into(), name.into(), Some(fs.into()));
        let request = CreateVolume { vg, name, fs, size: "400M".into(), ..CreateVolume::default() };
        backend.create_volume(request, false).unwrap();
    }
    host
}

/// The machine boots: nothing is active that was.
fn boot(host: &SimHost) -> Engine<SimHost> {
    host.crash(vol_sim::CrashMode::KeepAll);
    host.restart();
    Engine::new(host.clone())
}

fn list(fstab: &str, at_boot: &str) -> BootList {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fstab");
    fs::write(&path, fstab).unwrap();
    BootList::read(&Config::parse(&format!("activate_at_boot = [{at_boot}]")).unwrap(), &path)
}

/// `(path, what became of it)` of each; a trouble by how it begins.
fn told(lines: &[Line]) -> Vec<(String, &'static str)> {
    let fate = |line: &Line| match line.fate {
        Fate::Attached => "attached",
        Fate::There => "there",
        Fate::Waiting(_) => "waiting",
        Fate::Failed(_) => "failed",
    };
    lines.iter().map(|line| (line.path(), fate(line))).collect()
}

fn on_the_list<'a>(paths: &[&'a str]) -> Vec<(String, &'a str)> {
    paths.iter().map(|line| line.split_once(' ').unwrap()).map(|(path, fate)| (path.to_owned(), fate)).collect()
}

#[test]
fn what_fstab_and_the_configuration_name_is_attached_and_named_and_not_mounted() {
    let host = machine();
    let engine = boot(&host);
    let list = list(
        "/dev/volumed/data/pg /srv/pg ext4 nofail 0 2\n/dev/sdz1 /x ext4\n/dev/volumed/data/pg /srv/again ext4 noauto\n",
        "\"pair/*\", \"data/raw\"",
    );
    assert_eq!(list.complaints, Vec::<String>::new());
    let lines = attach(&engine, &list, MINUTE, |_| {}, || false);
    assert_eq!(told(&lines), on_the_list(&["data/pg attached", "pair/v attached", "data/raw attached"]));
    let mut links: Vec<_> = engine
        .vgs()
        .iter()
        .flat_map(|vg| vg.view().kernel.dm.keys().filter_map(|device| host.link_of(&device.uuid())).collect::<Vec<_>>())
        .collect();
    links.sort();
    assert_eq!(links, ["data/pg", "data/raw", "pair/v"]);
    assert!(engine.vgs().iter().all(|vg| vg.view().kernel.mounts.is_empty()));
    // The daemon does the same, and finds it done.
    let again = list.attach(&engine);
    assert_eq!(told(&again), on_the_list(&["data/pg there", "pair/v there", "data/raw there"]));
}

#[test]
fn what_names_no_volume_is_told_and_the_rest_is_attached() {
    let host = machine();
    let engine = boot(&host);
    let list = list(
        "/dev/volumed/pg /a ext4\n/dev/volumed/data/../x /b ext4\n/dev/volumed/data/* /c ext4\n/dev/volumed/data/gone /d ext4\n\
         /dev/volumed/data/pg /srv/pg ext4\n",
        "",
    );
    assert_eq!(list.complaints.len(), 3, "{:#?}", list.complaints);
    for (complaint, line) in list.complaints.iter().zip(1..) {
        assert!(complaint.contains(&format!("fstab, line {line}: /dev/volumed/")), "{complaint}");
    }
    let lines = attach(&engine, &list, MINUTE, |_| {}, || false);
    assert_eq!(told(&lines), on_the_list(&["data/gone failed", "data/pg attached"]));
    assert!(lines[0].trouble().unwrap().contains("there is no volume data/gone"), "{:?}", lines[0]);
}

#[test]
fn a_group_that_misses_a_disk_is_waited_for_and_keeps_no_other_waiting() {
    let host = machine();
    let engine = boot(&host);
    host.remove_disk("/dev/sdc");
    let list = list("/dev/volumed/pair/v /v xfs\n/dev/volumed/data/pg /srv/pg ext4\n", "");
    let order = RefCell::new(Vec::new());
    let lines = attach(
        &engine,
        &list,
        MINUTE,
        |line| {
            order.borrow_mut().push(line.path());
            // It comes when the first is attached.
            if order.borrow().len() == 1 {
                host.reattach("/dev/sdc");
            }
        },
        || false,
    );
    assert_eq!(*order.borrow(), ["data/pg", "pair/v"]);
    assert_eq!(told(&lines), on_the_list(&["pair/v attached", "data/pg there"]));
}

#[test]
fn the_waiting_has_a_bound_and_ends_when_a_daemon_takes_over() {
    let host = machine();
    let engine = boot(&host);
    host.remove_disk("/dev/sdb");
    host.remove_disk("/dev/sdc");
    let list = list("/dev/volumed/pair/v /v xfs\n/dev/volumed/data/pg /srv/pg ext4\n", "");
    let lines = attach(&engine, &list, MINUTE, |_| {}, || false);
    assert_eq!(told(&lines), on_the_list(&["pair/v waiting", "data/pg attached"]));
    assert_eq!(lines[0].trouble().unwrap().split(" is not attached: ").nth(1), Some("volume group pair is not there"));
    let paused = host.counters().paused;
    assert!((MINUTE..2 * MINUTE).contains(&paused), "{paused:?}");
    attach(&engine, &list, MINUTE, |_| {}, || true);
    assert_eq!(host.counters().paused, paused);
}
