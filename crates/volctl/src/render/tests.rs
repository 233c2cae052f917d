use vol_api::*;

use super::*;

const GIB: u64 = 1 << 30;

fn vg() -> VgInfo {
    VgInfo {
        id: "0191d6e0-0000-7000-8000-000000000001".into(),
        name: "data".into(),
        extent_size_bytes: 4 << 20,
        sector_size_bytes: 512,
        size_bytes: 40 * GIB,
        free_bytes: 8 * GIB,
        pv_count: 2,
        pool_count: 1,
        volume_count: 2,
        snapshot_count: 1,
        metadata_copies: 2,
        sequence: 17,
        created_at: "2026-11-21T00:15:41Z".into(),
        ..VgInfo::default()
    }
}

fn pool() -> PoolInfo {
    PoolInfo {
        id: "0191d6e0-0000-7000-8000-000000000002".into(),
        vg: "data".into(),
        name: "tank".into(),
        size_bytes: 32 * GIB,
        used_bytes: Some(4 * GIB),
        chunk_size_bytes: 64 << 10,
        metadata_size_bytes: 64 << 20,
        metadata_used_bytes: Some(2 << 20),
        virtual_bytes: 20 * GIB,
        overcommit_percent: 62,
        overcommit_limit_percent: 1000,
        transaction_id: 3,
        mode: Some(PoolMode::ReadWrite),
        volume_count: 2,
        snapshot_count: 1,
        created_at: "2026-11-21T00:15:42Z".into(),
        ..PoolInfo::default()
    }
}

fn volume() -> VolumeInfo {
    VolumeInfo {
        id: "0191d6e0-0000-7000-8000-000000000003".into(),
        vg: "data".into(),
        name: "pg".into(),
        pool: "tank".into(),
        content: VolumeContent::Formatted,
        fs: Some("ext4".into()),
        fs_uuid: Some("11111111-2222-3333-4444-555555555555".into()),
        size_bytes: 10 * GIB,
        used_bytes: Some(GIB),
        active: true,
        device: Some("/dev/dm-3".into()),
        mounts: vec![MountInfo { path: "/srv/pg".into(), read_only: false }],
        snapshot_count: 1,
        created_at: "2026-11-21T00:15:43Z".into(),
        ..VolumeInfo::default()
    }
}

fn idle() -> VolumeInfo {
    VolumeInfo {
        vg: "data".into(),
        name: "vm".into(),
        pool: "tank".into(),
        content: VolumeContent::Raw,
        size_bytes: 10 * GIB,
        ..VolumeInfo::default()
    }
}

fn df() -> Df {
    let vg = DfVg {
        vg: "data".into(),
        health: Health::Degraded,
        size_bytes: 40 * GIB,
        allocated_bytes: 32 * GIB,
        free_bytes: 8 * GIB,
    };
    let pool = DfPool {
        vg: "data".into(),
        pool: "tank".into(),
        health: Health::Ok,
        size_bytes: 32 * GIB,
        used_bytes: Some(4 * GIB),
        free_bytes: Some(28 * GIB),
        virtual_bytes: 20 * GIB,
        overcommit_percent: 62,
        snapshot_clock: 1,
        overcommit_limit_percent: 1000,
        metadata_size_bytes: 64 << 20,
        metadata_used_bytes: Some(2 << 20),
        volume_count: 2,
        snapshot_count: 1,
        time_to_full_seconds: Some(7300),
        time_to_full_confidence: Some("low".into()),
        ..DfPool::default()
    };
    Df {
        vgs: vec![vg],
        pools: vec![
            pool.clone(),
            DfPool {
                pool: "cold".into(),
                used_bytes: None,
                free_bytes: None,
                metadata_used_bytes: None,
                time_to_full_seconds: None,
                ..pool
            },
        ],
    }
}

fn golden(shown: &str, expected: &[&str]) {
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "\n{shown}");
}

#[test]
fn physical_volumes_are_listed() {
    let disk = PvInfo {
        path: Some("/dev/sdb".into()),
        vg: "data".into(),
        present: true,
        size_bytes: 20 * GIB,
        free_bytes: 4 * GIB,
        metadata_copy: true,
        labels: [("tier", "fast"), ("rack", "7")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..PvInfo::default()
    };
    let file = PvInfo {
        path: Some("/dev/loop0".into()),
        backing_file: Some("/srv/a.img".into()),
        labels: Default::default(),
        ..disk.clone()
    };
    let gone = PvInfo {
        id: "0191d6e0-0000-7000-8000-000000000009".into(),
        path: None,
        present: false,
        metadata_copy: false,
        ..disk.clone()
    };
    golden(
        &pv_table(&[disk, file, gone], Format::default()).render(false),
        &[
            "PV                                    VG        SIZE      FREE  METADATA  HEALTH   LABELS",
            "/dev/sdb                              data  20.0 GiB  4.00 GiB  yes       ok       rack=7, tier=fast",
            "/dev/loop0 (/srv/a.img)               data  20.0 GiB  4.00 GiB  yes       ok       –",
            "0191d6e0-0000-7000-8000-000000000009  data  20.0 GiB  4.00 GiB  no        missing  rack=7, tier=fast",
        ],
    );
}

#[test]
fn volume_groups_are_listed_and_shown() {
    golden(
        &vg_table(&[vg()], Format::default()).render(false),
        &[
            "VG        SIZE      FREE  PVS  POOLS  VOLUMES  SNAPSHOTS  HEALTH",
            "data  40.0 GiB  8.00 GiB    2      1        2          1  ok",
        ],
    );
    let mut degraded = vg();
    degraded.health = Health::Degraded;
    degraded.problems =
        vec![Problem { code: "pv_missing".into(), message: "/dev/sdc is missing".into(), hint: "attach it".into() }];
    golden(
        &vg_facts(&degraded, Format::default()),
        &[
            "volume group:      data",
            "id:                0191d6e0-0000-7000-8000-000000000001",
            "health:            degraded",
            "size:              40.0 GiB",
            "free:              8.00 GiB (20 %)",
            "extent:            4.00 MiB",
            "sector:            512 B",
            "physical volumes:  2",
            "pools:             1",
            "volumes:           2",
            "snapshots:         1",
            "metadata:          2 copies wanted, sequence number 17",
            "created:           2026-11-21T00:15:41Z",
            "problem:           /dev/sdc is missing",
            "  hint:            attach it",
        ],
    );
}

#[test]
fn pools_are_listed_and_what_is_unknown_is_a_dash() {
    let unknown = PoolInfo {
        name: "cold".into(),
        used_bytes: None,
        metadata_used_bytes: None,
        state: ObjectState::Creating,
        ..pool()
    };
    golden(
        &pool_table(&[pool(), unknown], Format::default()).render(false),
        &[
            "POOL           SIZE      USED  USED%  META%   VIRTUAL  VOLUMES  SNAPSHOTS  HEALTH",
            "data/tank  32.0 GiB  4.00 GiB   13 %    3 %  20.0 GiB        2          1  ok",
            "data/cold  32.0 GiB         –      –      –  20.0 GiB        2          1  creating",
        ],
    );
}

#[test]
fn volumes_and_snapshots_are_listed() {
    golden(
        &volume_table(&[volume(), idle()], Format::default()).render(false),
        &[
            "VOLUME   POOL      SIZE      USED  CONTENT  MOUNTED AT  HEALTH",
            "data/pg  tank  10.0 GiB  1.00 GiB  ext4     /srv/pg     ok",
            "data/vm  tank  10.0 GiB         –  raw      –           ok",
        ],
    );
    let snapshot = SnapshotInfo {
        vg: "data".into(),
        volume: "pg".into(),
        full_name: "data/pg@before".into(),
        pool: "tank".into(),
        size_bytes: 10 * GIB,
        fs: Some("ext4".into()),
        mounts: vec![MountInfo { path: "/mnt".into(), read_only: true }],
        created_at: "2026-11-21T00:15:44Z".into(),
        ..SnapshotInfo::default()
    };
    golden(
        &snapshot_table(std::slice::from_ref(&snapshot), Format::default()).render(false),
        &[
            "SNAPSHOT        POOL      SIZE  FS    MOUNTED AT  CREATED",
            "data/pg@before  tank  10.0 GiB  ext4  /mnt (ro)   2026-11-21T00:15:44Z",
        ],
    );
    assert!(snapshot_facts(&snapshot, Format::default()).contains("volume:             data/pg (deleted since)\n"));
}

#[test]
fn a_volume_and_a_snapshot_say_which_directory_is_mounted() {
    let line = |facts: String| {
        let line = facts.lines().find_map(|line| line.strip_prefix("mounted directory:"));
        line.map(|line| line.trim().to_owned()).unwrap_or_else(|| panic!("{facts}"))
    };
    for (subdir, said) in [(None, "the root"), (Some("data"), "data")] {
        let subdir = subdir.map(str::to_owned);
        let of_volume = VolumeInfo { subdir: subdir.clone(), ..volume() };
        let of_snapshot = SnapshotInfo { subdir, ..SnapshotInfo::default() };
        assert_eq!(line(volume_facts(&of_volume, Format::default())), said);
        assert_eq!(line(snapshot_facts(&of_snapshot, Format::default())), said);
    }
}

#[test]
fn bytes_and_no_headers_are_for_scripts() {
    let format = Format { bytes: true, no_headers: true };
    golden(
        &volume_table(&[volume()], format).render(format.no_headers),
        &["data/pg  tank  10737418240  1073741824  ext4  /srv/pg  ok"],
    );
}

#[test]
fn a_pool_says_how_it_grows_and_when_it_is_full() {
    let line = |pool: &PoolInfo, key: &str| {
        let facts = pool_facts(pool, Format::default());
        let line = facts.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).map(str::trim);
        line.unwrap_or_else(|| panic!("no {key} in\n{facts}")).to_owned()
    };
    let grows = |growth: &str| {
        let limit = (growth == "up_to").then_some(64 * GIB);
        let pool = PoolInfo { growth: growth.into(), growth_limit_bytes: limit, growable_bytes: 8 * GIB, ..pool() };
        line(&pool, "grows")
    };
    assert_eq!(grows("vg"), "by itself, as far as the volume group has space (8.00 GiB more now)");
    assert_eq!(grows("up_to"), "by itself, up to 64.0 GiB (8.00 GiB more now)");
    assert_eq!(grows("off"), "not by itself");
    let fills = |rate: Option<i64>, seconds: Option<u64>| {
        let how = seconds.map(|_| "high".to_owned());
        let (fill_bytes_per_second, time_to_full_seconds, time_to_full_confidence) = (rate, seconds, how);
        line(&PoolInfo { fill_bytes_per_second, time_to_full_seconds, time_to_full_confidence, ..pool() }, "fills")
    };
    assert_eq!(fills(None, None), "not known yet");
    assert_eq!(fills(Some(0), None), "not at present");
    assert_eq!(fills(Some(-(1 << 20)), None), "empties, 1.00 MiB a second");
    for (seconds, text) in [
        (0, "0 s"),
        (59, "59 s"),
        (3599, "59 min"),
        (86_399, "23 h 59 min"),
        (100_000, "27 h 46 min"),
        (200_000, "2 days"),
        (u64::MAX, "more than a year"),
    ] {
        assert_eq!(fills(Some(1 << 20), Some(seconds)), format!("1.00 MiB a second, full in {text} (high confidence)"));
    }
}

#[test]
fn df_shows_groups_and_pools() {
    let (vgs, pools) = df_tables(&df(), Format::default());
    golden(
        &vgs.render(false),
        &["VG        SIZE  ALLOCATED      FREE  HEALTH", "data  40.0 GiB   32.0 GiB  8.00 GiB  degraded"],
    );
    golden(
        &pools.render(false),
        &[
            "POOL           SIZE      USED      FREE  USED%  META%   VIRTUAL     OVER-COMMIT  HEALTH",
            "data/tank  32.0 GiB  4.00 GiB  28.0 GiB   13 %    3 %  20.0 GiB  62 % of 1000 %  ok",
            "data/cold  32.0 GiB         –         –      –      –  20.0 GiB  62 % of 1000 %  ok",
        ],
    );
}

#[test]
fn status_is_the_whole_picture() {
    let target = |name: &str, version: &str| DmTarget { name: name.into(), version: version.into() };
    let status = Status {
        version: "0.1.0".into(),
        api_version: "v1".into(),
        health: Health::Degraded,
        problems: vec![Problem {
            code: "pv_missing".into(),
            message: "/dev/sdc of data is missing".into(),
            hint: "attach the disk, then volctl pv scan".into(),
        }],
        io_backend: "io_uring (registered buffers)".into(),
        io_backend_reason: String::new(),
        kernel: KernelInfo {
            release: "6.18.1".into(),
            dm_version: Some("4.50.0".into()),
            targets: vec![target("thin", "1.23.0"), target("thin-pool", "1.23.0")],
        },
        host: "storage1".into(),
        boot_id: "b".into(),
        started_at: "2026-11-21T00:15:41Z".into(),
        metrics_listen: Some("127.0.0.1:9709".into()),
        restart_needed: vec![],
        counts: Counts { vgs: 1, pvs: 2, pools: 2, volumes: 2, snapshots: 1, mounted: 1 },
    };
    golden(
        &status_text(&status, &df(), Format::default()),
        &[
            "volumed  0.1.0 on storage1: degraded, up since 2026-11-21T00:15:41Z",
            "I/O      io_uring (registered buffers)",
            "kernel   6.18.1, device-mapper 4.50.0, thin 1.23.0, thin-pool 1.23.0",
            "metrics  http://127.0.0.1:9709/metrics",
            "objects  1 VG, 2 PVs, 2 pools, 2 volumes, 1 snapshot, 1 mounted",
            "",
            "VG        SIZE      FREE  HEALTH",
            "data  40.0 GiB  8.00 GiB  degraded",
            "",
            "POOL           SIZE                USED  META     FULL IN   VIRTUAL  HEALTH",
            "data/tank  32.0 GiB  [##........]  13 %   3 %  2 h 1 min?  20.0 GiB  ok",
            "data/cold  32.0 GiB                   –     –           –  20.0 GiB  ok",
            "",
            "Problems:",
            "  pv_missing: /dev/sdc of data is missing",
            "    hint: attach the disk, then volctl pv scan",
        ],
    );
    let plain = Status {
        io_backend: "pread/pwrite".into(),
        io_backend_reason: "io_uring is refused: Operation not permitted (os error 1)".into(),
        ..Status::default()
    };
    let text = status_text(&plain, &Df::default(), Format::default());
    let line = "I/O      pread/pwrite (io_uring is refused: Operation not permitted (os error 1))";
    assert!(text.lines().any(|shown| shown == line), "{text}");
    let silent = status_text(&Status { io_backend_reason: String::new(), ..plain }, &Df::default(), Format::default());
    assert!(silent.contains("I/O      pread/pwrite (not io_uring, and the daemon does not say why)\n"), "{silent}");
}

#[test]
fn a_plan_numbers_its_steps() {
    let step = |number, description: &str, requires: &[&str]| PlanStep {
        number,
        action: "x".into(),
        description: description.into(),
        requires: requires.iter().map(|text| (*text).into()).collect(),
    };
    let plan = Plan {
        title: "Create volume group data".into(),
        changes: true,
        steps: vec![step(1, "wipe ext4 on /dev/sdb", &["/dev/sdb is not in use"]), step(2, "write the label", &[])],
    };
    golden(
        &plan_text(&plan),
        &[
            "Create volume group data",
            "  1. wipe ext4 on /dev/sdb",
            "     requires: /dev/sdb is not in use",
            "  2. write the label",
        ],
    );
    assert!(plan_text(&Plan { changes: false, ..plan }).contains("Nothing has to be done"));
}

#[test]
fn what_others_wrote_cannot_steer_the_terminal() {
    assert_eq!(clean("a\u{1b}[2Jb\r\n\u{202e}c\u{7f}ä"), "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{202e}c\\u{7f}ä");
    let evil =
        VolumeInfo { mounts: vec![MountInfo { path: "/srv/\u{1b}[31m\nok".into(), read_only: false }], ..volume() };
    assert_eq!(volume_table(&[evil], Format::default()).render(true).lines().count(), 1);
}
