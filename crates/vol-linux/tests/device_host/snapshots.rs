//! Snapshots of active volumes, and what happens when the daemon dies while it takes one.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use uuid::Uuid;
use vol_core::dm::Device;
use vol_core::observed::DmInfo;
use vol_engine::host::{HostErrorKind, HostMut, HostRead, MountCall, ThinSnapshot};
use vol_linux::{LinuxHost, LinuxOptions};
use vol_types::{Bytes, FsKind, PoolId, VolumeId};

use crate::file_systems::{ALL, call, mount_at};
use crate::support::{Bench, Pool, guard_command, tool, wait_for};

fn of(pool: &Pool<'_>, origin: Option<&DmInfo>, thin_id: u32, origin_thin_id: u32) -> ThinSnapshot {
    let origin_uuid = origin.map(|info| info.uuid.clone());
    ThinSnapshot { pool_uuid: pool.uuid.clone(), origin_uuid, thin_id, origin_thin_id }
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
        bench.host.mkfs(origin.dev, &origin.uuid, fs, Uuid::new_v4()).unwrap();
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
    let Some(bench) = Bench::with_guard(vec!["/bin/false".into()]) else { return };
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
        let Some(bench) = Bench::with_guard(vec![guard.into()]) else { return };
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
    nobody.origin_uuid = Some(Device::Volume(VolumeId::from_uuid(Uuid::new_v4())).uuid());
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
    assert!(origins.iter().all(|origin| !is_suspended(&bench, origin)));
}

/// The doomed daemon: takes the snapshot that its environment names.
#[test]
#[ignore = "a process of the test below, not a test"]
fn snapshot_process() {
    let value = |name: &str| std::env::var(name).unwrap();
    let options = LinuxOptions { guard_command: Some(guard_command()), ..LinuxOptions::default() };
    let host = LinuxHost::new(options).unwrap();
    let snapshot = ThinSnapshot {
        pool_uuid: value("TEST_POOL"),
        origin_uuid: Some(value("TEST_ORIGIN")),
        thin_id: value("TEST_THIN_ID").parse().unwrap(),
        origin_thin_id: 1,
    };
    let _ = host.thin_snapshot(&snapshot);
    // Should it come to this, it was not killed in the window.
    std::process::exit(3);
}

/// The pool's metadata device is suspended, so that the message of the snapshot waits in the kernel with the origin suspended;
/// then the process is killed, and dies without ever coming back to its own code.
fn die_in_the_window(bench: &Bench, pool: &Pool<'_>, origin: &DmInfo, thin_id: u32) -> Duration {
    let metadata = Device::PoolMetadata(pool.id);
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["--ignored", "--exact", "snapshots::snapshot_process", "--nocapture"])
        .env("TEST_POOL", &pool.uuid)
        .env("TEST_ORIGIN", &origin.uuid)
        .env("TEST_THIN_ID", thin_id.to_string())
        .stdout(Stdio::null());
    assert!(tool("dmsetup", &["suspend", &metadata.name()]));
    let mut process = command.spawn().unwrap();
    wait_for("the origin is suspended", || is_suspended(bench, origin));
    std::thread::sleep(Duration::from_millis(50));
    process.kill().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(is_suspended(bench, origin), "the process must be held in the kernel");
    bench.host.dm_resume(&metadata.uuid()).unwrap();
    let status = process.wait().unwrap();
    let died = Instant::now();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    wait_for("the guard resumes the origin", || !is_suspended(bench, origin));
    died.elapsed()
}

/// Freezes once, so that nothing is dirty and no shared chunk is left to be written by the next freeze, and waits until the
/// pool has committed: then suspending the origin needs none of the pool's metadata.
fn quiet(bench: &Bench, pool: &Pool<'_>, origin: &DmInfo) {
    let metadata = bench.host.dm_device(&Device::PoolMetadata(pool.id).uuid()).unwrap().unwrap();
    let writes = || {
        let stat = std::fs::read_to_string(format!("/sys/dev/block/{}/stat", metadata.dev)).unwrap();
        stat.split_whitespace().nth(4).unwrap().to_owned()
    };
    assert!(tool("dmsetup", &["suspend", &origin.name]) && tool("dmsetup", &["resume", &origin.name]));
    wait_for("the pool's metadata is quiet", || {
        let before = writes();
        std::thread::sleep(Duration::from_millis(1500));
        writes() == before
    });
}

#[test]
fn a_snapshot_whose_daemon_dies_is_resumed_by_the_guard() {
    let Some(bench) = Bench::with_dm() else { return };
    if !tool("dmsetup", &["version"]) {
        return;
    }
    let pool = bench.pool(Bytes::mib(128));
    let origin = pool.volume(1, Bytes::mib(64));
    bench.host.zero_device(origin.dev, 0, 64 << 20).unwrap();
    bench.host.mkfs(origin.dev, &origin.uuid, FsKind::Ext4, Uuid::new_v4()).unwrap();
    let target = bench.dir().join("origin");
    bench.will_unmount(&target);
    bench.host.mount(&call(&origin, FsKind::Ext4, &target)).unwrap();
    std::fs::write(target.join("file"), "content").unwrap();
    let mut worst = Duration::ZERO;
    for thin_id in 2..12 {
        quiet(&bench, &pool, &origin);
        worst = worst.max(die_in_the_window(&bench, &pool, &origin, thin_id));
        std::fs::write(target.join("file"), format!("after {thin_id}")).unwrap();
    }
    println!("live again at the latest {worst:?} after the process was gone");
    assert!(worst < Duration::from_secs(1));
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
    std::thread::sleep(Duration::from_millis(50));
    bench.host.thin_snapshot(&of(&pool, Some(&origin), 4, 1)).unwrap();
    assert!(!is_suspended(&bench, &origin));
}
