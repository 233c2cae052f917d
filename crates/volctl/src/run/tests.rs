mod fake;
mod fs;
mod inspect;
mod life;
mod members;
mod refs;
mod repair;
mod usage;
mod watch;

use vol_api::*;

use self::fake::{Daemon, Person};

const GIB: u64 = 1 << 30;

fn vg() -> VgInfo {
    VgInfo { name: "data".into(), size_bytes: 40 * GIB, pv_count: 2, ..VgInfo::default() }
}

fn volume() -> VolumeInfo {
    VolumeInfo {
        vg: "data".into(),
        name: "pg".into(),
        pool: "tank".into(),
        content: VolumeContent::Formatted,
        fs: Some("ext4".into()),
        size_bytes: 10 * GIB,
        ..VolumeInfo::default()
    }
}

fn plan(title: &str) -> Plan {
    let step = PlanStep {
        number: 1,
        action: "x".into(),
        description: "wipe ext4 \"root\" on /dev/sdb".into(),
        requires: vec![],
    };
    Plan { title: title.into(), changes: true, steps: vec![step] }
}

fn error(code: ErrorCode, message: &str) -> String {
    serde_json::to_string(&ErrorBody { error: ApiError::new(code, message) }).unwrap()
}

#[test]
fn the_main_job_sends_what_it_should_and_says_what_comes_next() {
    let pool = PoolInfo { vg: "data".into(), name: "tank".into(), size_bytes: 32 * GIB, ..PoolInfo::default() };
    let snapshot = SnapshotInfo { size_bytes: 10 * GIB, ..SnapshotInfo::default() };
    let daemon = Daemon::start()
        .answer("POST /v1/vgs", &Outcome::changed(vg()))
        .answer("POST /v1/pools", &Outcome::changed(pool))
        .answer("POST /v1/volumes", &Outcome::changed(volume()))
        .answer("POST /v1/volumes/data/pg/mount", &Outcome::changed(volume()))
        .answer("POST /v1/snapshots", &Outcome::changed(snapshot))
        .answer("POST /v1/volumes/data/pg/unmount", &Outcome::changed(volume()))
        .answer("DELETE /v1/volumes/data/pg", &Outcome::changed(volume()));
    for (line, said) in [
        (
            "vg create data /dev/null /dev/zero",
            "volume group data created: 40.0 GiB on 2 physical volumes. Make a pool: volctl pool create data/POOL --size 80%FREE\n",
        ),
        (
            "pool create data/tank --size 80%FREE",
            "pool data/tank created: 32.0 GiB. Make a volume: volctl volume create data/VOLUME --pool tank --size 10G\n",
        ),
        (
            "volume create data/pg --pool tank --size 10G --fs ext4",
            "volume data/pg created: 10.0 GiB, ext4, in pool tank. Mount it: volctl volume mount data/pg PATH\n",
        ),
        (
            "volume mount data/pg /nowhere/pg",
            "volume data/pg mounted at /nowhere/pg. Unmount it: volctl volume unmount data/pg\n",
        ),
        (
            "snapshot create data/pg@before",
            "snapshot data/pg@before created: 10.0 GiB, read-only. Look into it: volctl snapshot mount data/pg@before PATH\n",
        ),
        ("volume unmount data/pg", "volume data/pg unmounted.\n"),
        ("volume delete data/pg --yes", "volume data/pg deleted.\n"),
    ] {
        let ran = daemon.volctl(line);
        assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, said, ""), "{line}");
    }
    assert_eq!(
        daemon.requests(),
        [
            r#"POST /v1/vgs {"name":"data","devices":["/dev/null","/dev/zero"],"files":[],"wipe":false,"extent_size":null,"metadata_copies":null}"#,
            r#"POST /v1/pools {"vg":"data","name":"tank","size":"80%FREE","chunk_size":null,"overcommit_limit_percent":null,"grow_to":null,"reserve_percent":null,"when_full":null}"#,
            r#"POST /v1/volumes {"vg":"data","name":"pg","pool":"tank","size":"10G","fs":"ext4","mkfs_options":[],"owner":null,"mode":null,"empty_root":false}"#,
            r#"POST /v1/volumes/data/pg/mount {"path":"/nowhere/pg","read_only":false}"#,
            r#"POST /v1/snapshots {"vg":"data","volume":"pg","name":"before"}"#,
            "POST /v1/volumes/data/pg/unmount",
            "DELETE /v1/volumes/data/pg",
        ]
    );
}

#[test]
fn files_and_relative_paths_reach_the_daemon_absolute() {
    let daemon = Daemon::start().answer("POST /v1/vgs", &Outcome::changed(vg()));
    let here = std::env::current_dir().unwrap().canonicalize().unwrap();
    assert_eq!(daemon.volctl("vg create demo --file new.img:20G").exit, 0);
    let sent = daemon.requests().concat();
    let expected = format!(r#""files":[{{"path":"{}/new.img","size":"20G"}}]"#, here.display());
    assert!(sent.contains(&expected), "{sent}");
    assert_eq!(daemon.volctl("volume mount data/pg /nowhere/../x").exit, 2);
}

#[test]
fn init_says_what_it_made() {
    let pool = PoolInfo { size_bytes: 39 * GIB, ..PoolInfo::default() };
    let daemon = Daemon::start().answer("POST /v1/init", &Outcome::changed(InitInfo { vg: vg(), pool }));
    assert_eq!(
        daemon.volctl("init /dev/null").out,
        "volume group data (40.0 GiB on 2 physical volumes) and pool data/pool (39.0 GiB) created. \
         Make a volume: volctl volume create data/VOLUME --size 10G\n"
    );
    assert!(daemon.requests().concat().contains(r#""vg":"data","pool":"pool","wipe":false"#));
}

#[test]
fn a_second_time_nothing_is_changed_and_said_so() {
    let daemon = Daemon::start().answer("DELETE /v1/volumes/data/pg", &Outcome::<VolumeInfo>::unchanged(None));
    let ran = daemon.volctl("volume delete data/pg --yes");
    assert_eq!((ran.exit, ran.out.as_str()), (0, "volume data/pg was already deleted.\n"));
    assert_eq!(daemon.volctl("-q volume delete data/pg --yes").out, "");
}

#[test]
fn warnings_are_shown_and_exit_with_10() {
    let outcome = Outcome { warnings: vec!["/dev/sdc missed it".into()], ..Outcome::changed(volume()) };
    let daemon = Daemon::start().answer("POST /v1/volumes", &outcome);
    let ran = daemon.volctl("volume create data/pg --size 10G -o name");
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (10, "data/pg\n", "warning: /dev/sdc missed it\n"));
}

#[test]
fn a_dry_run_shows_the_plan_of_the_daemon_and_asks_nothing() {
    let daemon = Daemon::start().answer("POST /v1/vgs?dry_run=true", &plan("Create volume group data"));
    let ran = daemon.volctl("vg create data /dev/null --wipe --dry-run");
    assert_eq!((ran.exit, ran.out.as_str()), (0, "Create volume group data\n  1. wipe ext4 \"root\" on /dev/sdb\n"));
    let json: Plan = serde_json::from_str(&daemon.volctl("vg create data /dev/null --dry-run -o json").out).unwrap();
    assert_eq!(json, plan("Create volume group data"));
    assert_eq!(daemon.requests().len(), 2);
}

#[test]
fn wipe_asks_after_showing_what_is_destroyed() {
    let daemon = Daemon::start()
        .answer("POST /v1/vgs?dry_run=true", &plan("Create volume group data"))
        .answer("POST /v1/vgs", &Outcome::changed(vg()));
    let nobody = daemon.volctl("vg create data /dev/null --wipe");
    assert_eq!(nobody.exit, 9);
    assert_eq!(
        nobody.err,
        "Create volume group data\n  1. wipe ext4 \"root\" on /dev/sdb\n\
         error: this destroys data, and there is no terminal to ask at\n\
         hint: give --yes if you mean it, --dry-run to see the plan\n"
    );
    for no in ["", "n", "no", "yes please"] {
        assert_eq!(daemon.volctl_with("vg create data /dev/null --wipe", &mut Person::answering(no)).exit, 9, "{no}");
    }
    assert!(!daemon.requests().iter().any(|request| request.starts_with("POST /v1/vgs {")), "something was created");
    let mut person = Person::answering("y");
    assert_eq!(daemon.volctl_with("vg create data /dev/null --wipe", &mut person).exit, 0);
    assert_eq!(person.asked, ["Destroy what the disks carry, as shown above? [y/N] "]);
    assert_eq!(daemon.volctl("vg create data /dev/null --wipe --yes").exit, 0);
}

#[test]
fn deleting_a_group_or_a_pool_wants_its_name() {
    let daemon = Daemon::start()
        .answer("DELETE /v1/vgs/data?dry_run=true", &plan("Delete volume group data"))
        .answer("DELETE /v1/vgs/data", &Outcome::changed(vg()))
        .answer("DELETE /v1/pools/data/tank?dry_run=true", &plan("Delete pool data/tank"))
        .answer("DELETE /v1/pools/data/tank", &Outcome::<PoolInfo>::unchanged(None));
    assert_eq!(daemon.volctl_with("vg delete data", &mut Person::answering("y")).exit, 9);
    let mut person = Person::answering("data");
    assert_eq!(daemon.volctl_with("vg delete data", &mut person).exit, 0);
    assert_eq!(person.asked, ["Delete volume group data? Type its name (data) to go on: "]);
    assert_eq!(daemon.volctl_with("pool delete data/tank", &mut Person::answering("tank")).exit, 9);
    assert_eq!(daemon.volctl_with("pool delete data/tank", &mut Person::answering("data/tank")).exit, 0);
    assert_eq!(daemon.volctl("vg delete data").exit, 9);
}

#[test]
fn deleting_a_volume_asks_once_it_is_known_to_be_possible() {
    let daemon = Daemon::start()
        .answer("GET /v1/volumes/data/pg", &VolumeInfo { snapshot_count: 2, ..volume() })
        .answer("DELETE /v1/volumes/data/pg?dry_run=true", &plan("Delete volume data/pg"))
        .answer("DELETE /v1/volumes/data/pg", &Outcome::changed(volume()));
    let mut person = Person::answering("y");
    assert_eq!(daemon.volctl_with("volume rm data/pg", &mut person).exit, 0);
    assert_eq!(person.asked, ["Delete volume data/pg (10.0 GiB)? Its 2 snapshots stay. [y/N] "]);

    let busy = error(ErrorCode::Busy, "volume data/pg is mounted at /srv/pg");
    let daemon = daemon.answer_with("DELETE /v1/volumes/data/pg?dry_run=true", 409, busy);
    let mut person = Person::answering("y");
    let ran = daemon.volctl_with("volume delete data/pg", &mut person);
    assert_eq!((ran.exit, ran.err.as_str()), (4, "error: volume data/pg is mounted at /srv/pg\n"));
    assert!(person.asked.is_empty());
}

#[test]
fn deleting_a_volume_tells_which_snapshots_outlive_it() {
    let deleted = |snapshot_count| Outcome::changed(VolumeInfo { snapshot_count, ..volume() });
    let of = |volume: &str, name: &str| SnapshotInfo {
        volume: volume.into(),
        full_name: format!("data/{volume}@{name}"),
        ..SnapshotInfo::default()
    };
    let list = |snapshots: &[SnapshotInfo]| SnapshotList { snapshots: snapshots.to_vec() };
    let (a, b, other) = (of("pg", "a"), of("pg", "b"), of("vm", "a"));
    for (count, all, said) in [
        (0, list(&[]), "volume data/pg deleted.\n"),
        (1, list(&[a.clone(), other]), "volume data/pg deleted. Its snapshot data/pg@a stays: volctl snapshot list\n"),
        // One of an earlier volume of that name: neither is named.
        (1, list(&[a, b]), "volume data/pg deleted. Its 1 snapshot stays: volctl snapshot list\n"),
        (2, list(&[]), "volume data/pg deleted. Its 2 snapshots stay: volctl snapshot list\n"),
    ] {
        let daemon = Daemon::start()
            .answer("DELETE /v1/volumes/data/pg", &deleted(count))
            .answer("GET /v1/snapshots?vg=data", &all);
        let ran = daemon.volctl("volume delete data/pg --yes");
        assert_eq!((ran.exit, ran.out.as_str()), (0, said));
        assert_eq!(daemon.requests().len(), if count == 1 { 2 } else { 1 }, "{said}");
    }
    let kept_until = Some("2026-11-22T10:40:00Z".to_owned());
    let kept = Outcome::changed(VolumeInfo { snapshot_count: 2, kept_until, ..volume() });
    let daemon = Daemon::start().answer("DELETE /v1/volumes/data/pg", &kept);
    assert_eq!(
        daemon.volctl("volume delete data/pg --yes").out,
        "volume data/pg deleted, kept until 2026-11-22T10:40:00Z. Take it back: volctl volume undelete data/pg. Its 2 snapshots \
         stay: volctl snapshot list\n"
    );
    let mute = Daemon::start().answer("DELETE /v1/volumes/data/pg", &deleted(1));
    assert!(mute.volctl("volume delete data/pg --yes").out.contains("Its 1 snapshot stays: "));
}

#[test]
fn a_raw_volume_is_attached_and_detached() {
    let raw = VolumeInfo { name: "raw".into(), content: VolumeContent::Raw, fs: None, ..volume() };
    let attached = VolumeInfo { device: Some("/dev/dm-5".into()), active: true, ..raw.clone() };
    let daemon = Daemon::start()
        .answer("POST /v1/volumes", &Outcome::changed(raw.clone()))
        .answer("POST /v1/volumes/data/raw/attach", &Outcome::changed(attached.clone()))
        .answer("POST /v1/volumes/data/raw/attach?dry_run=true", &plan("attach data/raw"))
        .answer("POST /v1/volumes/data/raw/detach", &Outcome::changed(raw.clone()));
    for (line, said) in [
        (
            "volume create data/raw --size 10G --fs none",
            "volume data/raw created: 10.0 GiB, raw, in pool tank. Attach it: volctl volume attach data/raw\n",
        ),
        ("volume attach data/raw --dry-run", "attach data/raw\n  1. wipe ext4 \"root\" on /dev/sdb\n"),
        ("volume attach data/raw", "volume data/raw attached: /dev/dm-5. Detach it: volctl volume detach data/raw\n"),
        ("volume detach data/raw", "volume data/raw detached.\n"),
    ] {
        let ran = daemon.volctl(line);
        assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, said, ""), "{line}");
    }
    let daemon = daemon
        .answer("POST /v1/volumes/data/raw/attach", &Outcome::unchanged(Some(attached)))
        .answer("POST /v1/volumes/data/raw/detach", &Outcome::unchanged(Some(raw)));
    assert!(
        daemon.volctl("volume attach data/raw").out.starts_with("volume data/raw was already attached: /dev/dm-5. ")
    );
    assert_eq!(daemon.volctl("volume detach data/raw").out, "volume data/raw was not attached.\n");
}

#[test]
fn errors_of_the_daemon_decide_the_exit_code() {
    let daemon = Daemon::start();
    for (code, exit) in ErrorCode::ALL.iter().map(|code| (*code, code.exit_code())) {
        let body = error(code, "no");
        let daemon_says = format!("GET /v1/vgs/{code}").replace('_', "-");
        let name = code.as_str().replace('_', "-");
        let daemon = Daemon::start().answer_with(&daemon_says, code.http_status(), body);
        assert_eq!(daemon.volctl(&format!("vg show {name}")).exit, exit, "{code}");
    }
    let ran = daemon.volctl("vg show data");
    assert_eq!((ran.exit, ran.err.as_str()), (3, "error: no such thing\nhint: look\n"));
    let garbage = Daemon::start().answer_with("GET /v1/df", 200, "<html>".into());
    assert_eq!(garbage.volctl("df").exit, 1);
    let teapot = Daemon::start().answer_with("GET /v1/df", 418, "short and stout".into());
    assert!(teapot.volctl("df").err.contains("HTTP status 418"));
}

#[test]
fn lists_come_as_table_json_and_names() {
    let list = VolumeList { volumes: vec![volume()] };
    let daemon = Daemon::start()
        .answer("GET /v1/volumes", &list)
        .answer("GET /v1/volumes?vg=data", &list)
        .answer("GET /v1/volumes?vg=empty", &VolumeList::default());
    assert_eq!(daemon.volctl("volume list --no-headers").out, "data/pg  tank  10.0 GiB  –  ext4  –  ok\n");
    assert_eq!(daemon.volctl("volume ls data -o name").out, "data/pg\n");
    let json: serde_json::Value = serde_json::from_str(&daemon.volctl("volume list -o json").out).unwrap();
    assert_eq!(json["volumes"][0]["size_bytes"], 10 * GIB);
    assert_eq!(json["volumes"][0]["used_bytes"], serde_json::Value::Null);
    let empty = daemon.volctl("volume list empty");
    assert_eq!((empty.exit, empty.out.as_str()), (0, ""));
    assert!(empty.err.starts_with("No volumes: volctl volume create"));
    assert_eq!(daemon.volctl("volume list empty -o json").out, "{\n  \"volumes\": []\n}\n");
}

#[test]
fn snapshots_are_kept_to_their_volume() {
    let of = |volume: &str| SnapshotInfo {
        volume: volume.into(),
        full_name: format!("data/{volume}@a"),
        ..SnapshotInfo::default()
    };
    let list = SnapshotList { snapshots: vec![of("pg"), of("vm")] };
    let daemon = Daemon::start().answer("GET /v1/snapshots?vg=data", &list);
    assert_eq!(daemon.volctl("snapshot list data -o name").out, "data/pg@a\ndata/vm@a\n");
    assert_eq!(daemon.volctl("snapshot list data/vm -o name").out, "data/vm@a\n");
}

#[test]
fn a_pv_is_found_by_id_or_by_path() {
    let pv = PvInfo { id: "i".into(), path: Some("/dev/null".into()), ..PvInfo::default() };
    let id = "0191d6e0-0000-7000-8000-000000000001";
    let daemon = Daemon::start()
        .answer("GET /v1/pvs?path=/dev/null", &PvList { pvs: vec![pv.clone()] })
        .answer("GET /v1/pvs?path=/dev/zero", &PvList::default())
        .answer(&format!("GET /v1/pvs/{id}"), &pv);
    assert_eq!(daemon.volctl("pv show /dev/null -o name").out, "/dev/null\n");
    assert_eq!(daemon.volctl(&format!("pv show {id} -o name")).out, "/dev/null\n");
    assert_eq!(daemon.volctl("pv show /dev/zero").exit, 3);
}

#[test]
fn status_exits_with_10_when_something_is_degraded() {
    let status = |health| Status { health, ..Status::default() };
    let daemon = Daemon::start().answer("GET /v1/status", &status(Health::Ok)).answer("GET /v1/df", &Df::default());
    assert_eq!(daemon.volctl("status").exit, 0);
    let daemon = daemon.answer("GET /v1/status", &status(Health::Degraded));
    assert_eq!(daemon.volctl("status").exit, 10);
    assert_eq!(daemon.volctl("status -o json").exit, 10);
    assert_eq!(daemon.volctl("status -o name").out, "degraded\n");
}

#[test]
fn completions_and_man_pages_come_from_the_definition() {
    let daemon = Daemon::start();
    for shell in ["bash", "zsh", "fish"] {
        assert!(daemon.volctl(&format!("completion {shell}")).out.contains("volctl"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(daemon.volctl(&format!("man {}", dir.path().display())).exit, 0);
    for page in ["volctl.1", "volctl-vg-create.1", "volctl-volume-mount.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    assert!(!dir.path().join("volctl-man.1").exists());
    assert_eq!(daemon.volctl("man /nonexistent/dir").exit, 1);
}
