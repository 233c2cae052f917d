//! Snapshots of active volumes, and what happens when the daemon dies while it takes one.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use uuid::Uuid;
use vol_core::dm::Device;
use vol_core::observed::DmInfo;
use vol_engine::host::{HostErrorKind, HostMut, HostRead, MountCall, ThinOrigin, ThinSnapshot};
use vol_linux::{IoChoice, LinuxHost, LinuxOptions};
use vol_types::{Bytes, FsKind, MkfsOptions, PoolId, VolumeId};

use crate::file_systems::{ALL, call, mount_at};
use crate::support::{Bench, Pool, guard_command, tool, wait_for};

/// How long after the death of its daemon a volume may be suspended, at most, with slow metadata on a slow machine. The guard needs a
/// part of a second; without it there would be no end.
const RESUMED: Duration = Duration::from_secs(60);

fn of(pool: &Pool<'_>, origin: Option<&DmInfo>, thin_id: u32, origin_thin_id: u32) -> ThinSnapshot {
    ThinSnapshot::one(pool.uuid.clone(), origin.map(|info| info.uuid.clone()), thin_id, origin_thin_id)
}

fn is_suspended(bench: &Bench, info: &DmInfo) -> bool {
    bench.host.dm_device(&info.uuid).unwrap().unwrap().suspended
}

#[test]
fn a_snapshot_of_a_mounted_volume_has_what_was_written_and_stands_beside_it() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(768));
    for (thin_id, fs) in (1..).zip(ALL) {
        let origin = pool.volume(thin_id, Bytes::mib(512));
        bench.host.mkfs(origin.dev, &origin.uuid, fs, Uuid::new_v4(), &MkfsOptions::default()).unwrap();
        let target = bench.dir().join(fs.as_str());
        bench.will_unmount(&target);
        bench.host.mount(&call(&origin, fs, &target)).unwrap();
        // Not synced: freezing the file system must do that.
        std::fs::write(target.join("before"), vec![b'x'; 100_000]).unwrap();
        let start = Instant::now();
        bench.host.thin_snapshot(&of(&pool, Some(&origin), thin_id + 100, thin_id)).unwrap();
        println!("{}: snapshot in {:?}", fs.as_str(), start.elapsed());
        assert!(!is_suspended(&bench, &origin));
        std::fs::write(target.join("after"), "y").unwrap();
        let again = bench.host.thin_snapshot(&of(&pool, Some(&origin), thin_id + 100, thin_id)).unwrap_err();
        assert_eq!(again.kind, HostErrorKind::Exists);
        assert!(!is_suspended(&bench, &origin));

        let snapshot = pool.activate(thin_id + 100, Bytes::mib(512), true);
        let beside = bench.dir().join(format!("{}-snapshot", fs.as_str()));
        bench.will_unmount(&beside);
        let mount = MountCall { read_only: true, allow_same_uuid: true, ..call(&snapshot, fs, &beside) };
        bench.host.mount(&mount).unwrap();
        assert!(mount_at(&bench, &beside).unwrap().read_only);
        assert_eq!(mount_at(&bench, &beside).unwrap().dev, snapshot.dev);
        assert_eq!(std::fs::read(beside.join("before")).unwrap(), vec![b'x'; 100_000]);
        assert!(!beside.join("after").exists());
    }
}

#[test]
fn a_snapshot_of_an_idle_volume_suspends_nothing() {
    // A guard that cannot be started is not missed.
    let Some(bench) = Bench::with(IoChoice::Auto, vec!["/bin/false".into()]) else { return };
    if let Err(e) = bench.host.dm_version() {
        return println!("skipped: no device-mapper: {e}");
    }
    let pool = bench.pool(Bytes::mib(64));
    bench.host.dm_message(&pool.uuid, "create_thin 1").unwrap();
    bench.host.thin_snapshot(&of(&pool, None, 2, 1)).unwrap();
    assert_eq!(bench.host.thin_snapshot(&of(&pool, None, 2, 1)).unwrap_err().kind, HostErrorKind::Exists);
    assert_eq!(bench.host.thin_snapshot(&of(&pool, None, 3, 9)).unwrap_err().kind, HostErrorKind::NotFound);
}

#[test]
fn without_a_guard_nothing_is_suspended_and_no_snapshot_made() {
    for guard in ["/bin/false", "/nowhere/guard", "/bin/true"] {
        let Some(bench) = Bench::with(IoChoice::Auto, vec![guard.into()]) else { return };
        if let Err(e) = bench.host.dm_version() {
            return println!("skipped: no device-mapper: {e}");
        }
        let pool = bench.pool(Bytes::mib(64));
        let origin = pool.volume(1, Bytes::mib(64));
        let error = bench.host.thin_snapshot(&of(&pool, Some(&origin), 2, 1)).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::Unsupported, "{error}");
        assert!(!is_suspended(&bench, &origin));
        bench.host.dm_message(&pool.uuid, "create_thin 2").unwrap();
    }
}

#[test]
fn a_failed_snapshot_leaves_the_origin_live() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(64));
    let origin = pool.volume(1, Bytes::mib(64));
    let kind = |snapshot| bench.host.thin_snapshot(&snapshot).unwrap_err().kind;
    assert_eq!(kind(of(&pool, Some(&origin), 2, 99)), HostErrorKind::NotFound);
    assert!(!is_suspended(&bench, &origin));
    let mut elsewhere = of(&pool, Some(&origin), 2, 1);
    elsewhere.pool_uuid = Device::Pool(PoolId::from_uuid(Uuid::new_v4())).uuid();
    assert_eq!(kind(elsewhere), HostErrorKind::NotFound);
    assert!(!is_suspended(&bench, &origin));
    let mut nobody = of(&pool, Some(&origin), 2, 1);
    nobody.of[0].uuid = Some(Device::Volume(VolumeId::from_uuid(Uuid::new_v4())).uuid());
    assert_eq!(kind(nobody), HostErrorKind::NotFound);
}

#[test]
fn snapshots_side_by_side_do_not_disturb_each_other() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(64));
    let origins: Vec<DmInfo> = (1..=6).map(|thin_id| pool.volume(thin_id, Bytes::mib(64))).collect();
    std::thread::scope(|scope| {
        for (thin_id, origin) in (1..).zip(&origins) {
            let (bench, pool) = (&bench, &pool);
            scope.spawn(move || {
                for round in 1..=10 {
                    bench.host.thin_snapshot(&of(pool, Some(origin), thin_id * 100 + round, thin_id)).unwrap();
                }
            });
        }
    });
    let start = Instant::now();
    for round in 11..=30 {
        bench.host.thin_snapshot(&of(&pool, origins.first(), 100 + round, 1)).unwrap();
    }
    println!("one after the other: {:?} each", start.elapsed() / 20);
    assert!(origins.iter().all(|origin| !is_suspended(&bench, origin)));
}

/// The doomed daemon: takes the snapshot that its environment names.
#[test]
#[ignore = "a process of the test below, not a test"]
fn snapshot_process() {
    let value = |name: &str| std::env::var(name).unwrap();
    let options = LinuxOptions { guard_command: Some(guard_command()), ..LinuxOptions::default() };
    let host = LinuxHost::new(options).unwrap();
    // One origin, or several with a comma between them: thin ids from 1 on, and the new ones from the one that is named.
    let first: u32 = value("TEST_THIN_ID").parse().unwrap();
    let origins = value("TEST_ORIGIN");
    let of = origins.split(',').zip(0..).map(|(uuid, at)| ThinOrigin {
        uuid: Some(uuid.to_owned()),
        origin_thin_id: 1 + at,
        thin_id: first + at,
    });
    let snapshot = ThinSnapshot { pool_uuid: value("TEST_POOL"), of: of.collect() };
    let _ = host.thin_snapshot(&snapshot);
    // Should it come to this, it was not killed in the window.
    std::process::exit(3);
}

/// Takes a snapshot in another process and kills that in the window; gives how long after its death the origin was live.
///
/// Writes to the pool's metadata are slow, so the window is more than a second long. Without `in_message` the process is killed
/// as soon as the origin can be seen to be suspended: at the end of that ioctl, or right after it. With it the process is
/// held in the kernel by the message.
///
/// Where the machine stands still for as long as the window is open the process gets through it: then its snapshots are taken away, and it
/// is done again.
fn die_in_the_window(bench: &Bench, pool: &Pool<'_>, origins: &[&DmInfo], thin_id: u32, in_message: bool) -> Duration {
    for _ in 0..10 {
        if let Some(took) = die_in_this_window(bench, pool, origins, thin_id, in_message) {
            return took;
        }
        println!("the window was missed");
        // Those that were made.
        for id in (thin_id..).take(origins.len()) {
            _ = bench.host.dm_message(&pool.uuid, &format!("delete {id}"));
        }
    }
    panic!("the process was not met in its window, ten times");
}

fn die_in_this_window(
    bench: &Bench,
    pool: &Pool<'_>,
    origins: &[&DmInfo],
    thin_id: u32,
    in_message: bool,
) -> Option<Duration> {
    let suspended = || origins.iter().filter(|origin| is_suspended(bench, origin)).count();
    let uuids: Vec<&str> = origins.iter().map(|origin| origin.uuid.as_str()).collect();
    let mut process = Command::new("/proc/self/exe")
        .args(["--ignored", "--exact", "snapshots::snapshot_process", "--nocapture"])
        .env("TEST_POOL", &pool.uuid)
        .env("TEST_ORIGIN", uuids.join(","))
        .env("TEST_THIN_ID", thin_id.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let awaited = if in_message { origins.len() } else { 1 };
    let mut over = false;
    wait_for("the origins are suspended", || {
        over = process.try_wait().unwrap().is_some();
        over || suspended() >= awaited
    });
    if in_message {
        std::thread::sleep(Duration::from_millis(100));
    }
    process.kill().unwrap();
    let mut held = true;
    if in_message {
        std::thread::sleep(Duration::from_millis(20));
        held = suspended() == origins.len();
    }
    let status = process.wait().unwrap();
    let died = Instant::now();
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    assert!(killed || status.code() == Some(3), "{status}");
    wait_for("the guard resumes the origins", || suspended() == 0);
    // With a message the process must be held in the kernel by it.
    (killed && held && !over).then(|| died.elapsed())
}

/// Delays every write to the pool's metadata.
fn slow_metadata(bench: &Bench, pool: &Pool<'_>, milliseconds: u32) {
    let uuid = Device::PoolMetadata(pool.id).uuid();
    let mut table = bench.host.dm_table(&uuid).unwrap();
    let below = table[0].params.clone();
    table[0].target = "delay".into();
    table[0].params = format!("{below} 0 {below} {milliseconds}");
    bench.host.dm_reload(&uuid, &table).unwrap();
}

#[test]
fn a_snapshot_whose_daemon_dies_is_resumed_by_the_guard() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(128));
    let origin = pool.volume(1, Bytes::mib(64));
    bench.host.mkfs(origin.dev, &origin.uuid, FsKind::Ext4, Uuid::new_v4(), &MkfsOptions::default()).unwrap();
    let target = bench.dir().join("origin");
    bench.will_unmount(&target);
    bench.host.mount(&call(&origin, FsKind::Ext4, &target)).unwrap();
    slow_metadata(&bench, &pool, 200);
    let mut worst = Duration::ZERO;
    for thin_id in 2..12 {
        std::fs::write(target.join("file"), format!("before {thin_id}")).unwrap();
        worst = worst.max(die_in_the_window(&bench, &pool, &[&origin], thin_id, thin_id % 2 == 0));
        std::fs::write(target.join("file"), format!("after {thin_id}")).unwrap();
    }
    // Thawing the file system writes to the slow metadata, too.
    println!("live again at the latest {worst:?} after the process was gone");
    assert!(worst < RESUMED);
}

#[test]
fn all_origins_of_a_group_are_resumed_by_the_guard_when_its_daemon_dies() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(256));
    let origins: Vec<DmInfo> = (1..=3).map(|thin_id| pool.volume(thin_id, Bytes::mib(64))).collect();
    let targets: Vec<_> = origins
        .iter()
        .zip(1..)
        .map(|(origin, n)| {
            bench
                .host
                .mkfs(origin.dev, &origin.uuid, FsKind::Ext4, Uuid::new_v4(), &vol_types::MkfsOptions::default())
                .unwrap();
            let target = bench.dir().join(format!("origin-{n}"));
            bench.will_unmount(&target);
            bench.host.mount(&call(origin, FsKind::Ext4, &target)).unwrap();
            target
        })
        .collect();
    let all: Vec<&DmInfo> = origins.iter().collect();
    slow_metadata(&bench, &pool, 200);
    for round in 0..6 {
        for target in &targets {
            std::fs::write(target.join("file"), format!("before {round}")).unwrap();
        }
        // Every other time while not all of them are suspended yet.
        let after = die_in_the_window(&bench, &pool, &all, 10 + round * 3, round % 2 == 0);
        println!("live again {after:?} after the process was gone");
        assert!(after < RESUMED, "{after:?}");
        for target in &targets {
            std::fs::write(target.join("file"), format!("after {round}")).unwrap();
        }
    }
}

#[test]
fn snapshots_of_several_volumes_are_taken_or_the_failure_says_which_was_not() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(128));
    let origins: Vec<DmInfo> = (1..=3).map(|thin_id| pool.volume(thin_id, Bytes::mib(64))).collect();
    let group = |first: u32| {
        let one = |(origin, at): (&DmInfo, u32)| ThinOrigin {
            uuid: Some(origin.uuid.clone()),
            origin_thin_id: 1 + at,
            thin_id: first + at,
        };
        ThinSnapshot { pool_uuid: pool.uuid.clone(), of: origins.iter().zip(0..).map(one).collect() }
    };
    bench.host.thin_snapshot(&group(10)).unwrap();
    // The second id is there already: the first was made, the third was not.
    bench.host.dm_message(&pool.uuid, "create_thin 21").unwrap();
    let error = bench.host.thin_snapshot(&group(20)).unwrap_err();
    assert_eq!((error.kind, error.at), (HostErrorKind::Exists, 1), "{error}");
    assert!(origins.iter().all(|origin| !is_suspended(&bench, origin)));
    for made in [10, 11, 12, 20] {
        bench.host.dm_message(&pool.uuid, &format!("delete {made}")).unwrap();
    }
    assert_eq!(bench.host.dm_message(&pool.uuid, "delete 22").unwrap_err().kind, HostErrorKind::NotFound);
    // One that is not active, and one that is no device: nothing is suspended for it.
    let mut mixed = group(30);
    mixed.of[1].uuid = None;
    mixed.of[1].origin_thin_id = 11;
    assert_eq!(bench.host.thin_snapshot(&mixed).unwrap_err().kind, HostErrorKind::NotFound);
    let mut nobody = group(40);
    nobody.of[2].uuid = Some(Device::Volume(VolumeId::from_uuid(Uuid::new_v4())).uuid());
    assert_eq!(bench.host.thin_snapshot(&nobody).unwrap_err().kind, HostErrorKind::NotFound);
    assert!(origins.iter().all(|origin| !is_suspended(&bench, origin)));
    assert_eq!(bench.host.dm_message(&pool.uuid, "delete 40").unwrap_err().kind, HostErrorKind::NotFound);
}

#[test]
fn a_guard_that_was_killed_is_replaced() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(64));
    let origin = pool.volume(1, Bytes::mib(64));
    bench.host.thin_snapshot(&of(&pool, Some(&origin), 2, 1)).unwrap();
    let guards = || {
        let own = std::process::id().to_string();
        let output = Command::new("pgrep").args(["-P", &own, "-f", "resume_guard_process"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = guards();
    assert!(!before.is_empty());
    bench.host.thin_snapshot(&of(&pool, Some(&origin), 3, 1)).unwrap();
    assert_eq!(guards(), before, "an idle guard is used again");
    for pid in &before {
        assert!(tool("kill", &["-9", pid]));
    }
    wait_for("the guard is gone", || guards().is_empty());
    bench.host.thin_snapshot(&of(&pool, Some(&origin), 4, 1)).unwrap();
    assert!(!is_suspended(&bench, &origin));
}
