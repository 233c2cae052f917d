//! How disks are looked at that come while the daemon runs: those that hang, are held by somebody, or are always busy.

use vol_engine::Engine;
use vol_engine::host::DiskNews;
use vol_sim::{Fault, ReadFault, SimDisk, SimHost};
use vol_types::*;

use super::bench::*;
use super::hotplug::{asked_again, codes, follow, in_use};

/// The VG `data` on three disks; a fourth one that is blank, and one of somebody else, which is to hang.
fn beside_one_that_hangs() -> (SimHost, Engine<SimHost>) {
    let (host, engine) = in_use();
    host.add_disk(SimDisk::new("/dev/sdd", Bytes::gib(4)));
    host.add_disk(SimDisk::new("/dev/hung", Bytes::gib(4)));
    (host, engine)
}

#[test]
fn a_foreign_disk_that_hangs_while_it_is_looked_at_holds_up_no_change_of_which_disks_groups_have() {
    for by_scan in [false, true] {
        let (host, engine) = beside_one_that_hangs();
        let engine = std::sync::Arc::new(engine);
        let hold = host.hold_readers("hung");
        let news = host.disk_news();
        let looking = {
            let engine = engine.clone();
            std::thread::spawn(move || match by_scan {
                true => engine.scan(&[], false).unwrap(),
                false => drop(engine.follow(&news)),
            })
        };
        hold.until(1);
        // Not waited for without end: on a thread of its own.
        let (done, is_done) = std::sync::mpsc::channel();
        let changing = {
            let engine = engine.clone();
            std::thread::spawn(move || done.send(engine.extend_vg(&extend_request(&["/dev/sdd"]), false).is_ok()))
        };
        let extended = is_done.recv_timeout(std::time::Duration::from_secs(60));
        drop(hold);
        looking.join().unwrap();
        let _ = changing.join().unwrap();
        assert_eq!(extended, Ok(true), "by_scan {by_scan}: it waits for a disk that is none of its group's");
        follow(&host, &engine);
        assert_eq!(codes(&engine), Vec::<&str>::new(), "by_scan {by_scan}");
        assert_eq!(engine.vgs()[0].view().nodes.len(), 4);
        sound(&host, &engine, "beside a disk that hung");
    }
}

#[test]
fn what_was_seen_of_disks_before_a_group_was_changed_is_looked_at_again_and_never_acted_on() {
    let (host, engine) = beside_one_that_hangs();
    // The group waits for a disk, so that a scan would open it anew, without the disk that joined it meanwhile.
    host.remove_disk("/dev/sda");
    follow(&host, &engine);
    let engine = std::sync::Arc::new(engine);
    let hold = host.hold_readers("hung");
    let looking = {
        let engine = engine.clone();
        std::thread::spawn(move || engine.scan(&[], false))
    };
    hold.until(1);
    let request = vol_engine::ReduceVg { missing: false, ..reduce_request(&["/dev/sdc"]) };
    let reduced = engine.reduce_vg(&request, false);
    let extended = engine.extend_vg(&extend_request(&["/dev/sdd"]), false);
    drop(hold);
    looking.join().unwrap().unwrap();
    follow(&host, &engine);
    let mut wanted = vec!["/dev/sdb"];
    wanted.extend(reduced.is_err().then_some("/dev/sdc"));
    wanted.extend(extended.is_ok().then_some("/dev/sdd"));
    let view = engine.vgs()[0].view();
    let mut nodes: Vec<_> = view.nodes.iter().filter_map(|(_, node)| node.to_str()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, wanted, "{reduced:?} {extended:?}");
}

#[test]
fn a_disk_that_can_be_read_and_not_opened_for_writing_is_told_of_with_its_holder_and_taken_up_when_it_can() {
    let busy = Fault::Error(vol_engine::host::HostErrorKind::Busy);
    for read_only in [false, true] {
        let (host, engine) = in_use();
        host.remove_disk("/dev/sda");
        follow(&host, &engine);
        match read_only {
            true => host.set_read_only("/dev/sda", true),
            false => host.fail_device("/dev/sda", busy),
        }
        host.reattach("/dev/sda");
        assert!(asked_again(&host, &engine), "it is tried again");
        let problems = engine.vgs()[0].view().problems.clone();
        let told = problems.iter().find(|one| one.code == "pv-unopened");
        let told = told.unwrap_or_else(|| panic!("nobody is told: {problems:?}"));
        assert!(told.message.contains("/dev/sda") && told.hint.contains("by itself"), "{told:?}");
        assert!(told.message.contains(if read_only { "read-only" } else { "who holds it" }), "{told:?}");
        let vg = engine.vgs()[0].clone();
        for _ in 0..20 {
            assert!(asked_again(&host, &engine));
        }
        assert!(std::sync::Arc::ptr_eq(&vg, &engine.vgs()[0]), "the group is opened anew again and again");
        match read_only {
            true => host.set_read_only("/dev/sda", false),
            false => host.heal_device("/dev/sda"),
        }
        follow(&host, &engine);
        assert_eq!(codes(&engine), Vec::<&str>::new(), "read_only {read_only}");
        assert_eq!(engine.vgs()[0].view().copies, (3, 3));
        sound(&host, &engine, "after a disk could not be opened for a while");
    }
}

#[test]
fn a_node_that_is_always_busy_is_looked_at_ever_less_often_until_something_is_said_of_it() {
    let (host, engine) = in_use();
    host.add_disk(SimDisk::new("/dev/sdz", Bytes::gib(4)));
    host.fail_reads("/dev/sdz", Some(ReadFault::Busy));
    let wait = |news: &DiskNews| engine.follow(news).expect("it is asked again");
    let mut waits = vec![wait(&host.disk_news())];
    for _ in 0..8 {
        host.pass(*waits.last().unwrap());
        waits.push(wait(&DiskNews::Nothing));
    }
    let seconds: Vec<f64> = waits.iter().map(std::time::Duration::as_secs_f64).collect();
    assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
    // News of another disk are no reason to look at it.
    let opens = host.counters().opens;
    assert_eq!(wait(&DiskNews::Of(["/dev/sda".into()].into())).as_secs(), 30);
    assert_eq!(host.counters().opens, opens);
    assert_eq!(wait(&DiskNews::Of(["/dev/sdz".into()].into())).as_secs_f64(), 0.5);
    host.fail_reads("/dev/sdz", None);
    follow(&host, &engine);
    assert_eq!(engine.follow(&DiskNews::Nothing), None);
}

#[test]
fn a_disk_that_can_be_opened_again_is_opened_for_writing_once_and_not_with_each_news_that_this_makes() {
    let (host, engine) = in_use();
    host.remove_disk("/dev/sda");
    follow(&host, &engine);
    host.fail_device("/dev/sda", Fault::Error(vol_engine::host::HostErrorKind::Busy));
    host.reattach("/dev/sda");
    assert!(asked_again(&host, &engine));
    host.heal_device("/dev/sda");
    // The group waits all the same: another of its disks cannot be read.
    host.fail_reads("/dev/sdb", Some(ReadFault::Error));
    let before = host.effects();
    for _ in 0..5 {
        // As udev says of a disk that somebody could have written to.
        assert!(engine.follow(&DiskNews::Of(["/dev/sda".into()].into())).is_some());
    }
    assert_eq!(host.effects() - before, 1);
    host.fail_reads("/dev/sdb", None);
    follow(&host, &engine);
    assert_eq!(codes(&engine), Vec::<&str>::new());
}
