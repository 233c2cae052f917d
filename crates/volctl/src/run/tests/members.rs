//! What is sent and said for the verbs that change what a group is made of.

use std::os::unix::fs::PermissionsExt as _;

use vol_api::backup::Backup;
use vol_api::*;
use vol_types::{Bytes, Extents, Name, Object, Pv, PvId, Vg, VgId, VgState};

use super::fake::{Daemon, Person};
use super::{GIB, plan, vg};

#[test]
fn each_verb_sends_what_it_should_and_says_what_was_done() {
    let wiped = PvInfo { id: "1-2".into(), vg: "data".into(), ..PvInfo::default() };
    let daemon = Daemon::start()
        .answer("POST /v1/vgs/data/extend", &Outcome::changed(vg()))
        .answer("POST /v1/vgs/data/reduce", &Outcome::changed(vg()))
        .answer("POST /v1/vgs/data/rename", &Outcome::changed(vg()))
        .answer("POST /v1/vgs/data/export", &Outcome::changed(vg()))
        .answer("POST /v1/vgs/data/import", &Outcome::<VgInfo>::unchanged(None))
        .answer("POST /v1/import-clone", &Outcome::changed(vg()))
        .answer("POST /v1/pools/data/tank/give-up", &Outcome::changed(PoolInfo::default()))
        .answer("POST /v1/wipe", &Outcome::changed(wiped));
    for (line, said) in [
        ("vg extend data /dev/null", "volume group data extended: 40.0 GiB on 2 physical volumes.\n"),
        ("vg reduce data /dev/null", "volume group data reduced: 40.0 GiB on 2 physical volumes.\n"),
        ("vg rename data big", "volume group data renamed to big.\n"),
        (
            "vg export data",
            "volume group data exported. Its disks may be taken away; take it into use again: volctl vg import data\n",
        ),
        ("vg import data", "volume group data is in use already.\n"),
        ("vg import-clone /dev/null --name copy --yes", "volume group copy made of the copies.\n"),
        ("pool delete data/tank --lost --yes", "pool data/tank given up.\n"),
        ("pv wipe /dev/null --yes", "/dev/null wiped (it was PV 1-2 of volume group data).\n"),
    ] {
        let ran = daemon.volctl(line);
        assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, said, ""), "{line}");
    }
    assert_eq!(
        daemon.requests(),
        [
            r#"POST /v1/vgs/data/extend {"devices":["/dev/null"],"files":[],"wipe":false}"#,
            r#"POST /v1/vgs/data/reduce {"pvs":["/dev/null"],"missing":false,"force":false}"#,
            r#"POST /v1/vgs/data/rename {"name":"big"}"#,
            "POST /v1/vgs/data/export",
            "POST /v1/vgs/data/import",
            r#"POST /v1/import-clone {"devices":["/dev/null"],"name":"copy"}"#,
            r#"POST /v1/pools/data/tank/give-up {"force":false}"#,
            r#"POST /v1/wipe {"device":"/dev/null","force":false}"#,
        ]
    );
}

#[test]
fn what_cannot_be_taken_back_is_asked_for_after_its_plan_was_shown() {
    let daemon = Daemon::start()
        .answer("POST /v1/wipe?dry_run=true", &plan("wipe PV 1-2"))
        .answer("POST /v1/vgs/data/reduce?dry_run=true", &plan("reduce volume group data"))
        .answer("POST /v1/pools/data/tank/give-up?dry_run=true", &plan("give up pool data/tank"));
    for line in ["pv wipe /dev/null", "vg reduce data --missing --force", "pool delete data/tank --lost"] {
        let ran = daemon.volctl(line);
        assert_eq!(ran.exit, 9, "{line}: {}", ran.err);
        assert!(ran.err.contains("there is no terminal to ask at"), "{line}: {}", ran.err);
        let ran = daemon.volctl_with(line, &mut Person::answering("n"));
        assert_eq!(ran.exit, 9, "{line}: {}", ran.err);
    }
    assert!(daemon.requests().iter().all(|request| request.contains("dry_run=true")), "{:?}", daemon.requests());
}

fn backup() -> Backup {
    let pv = PvId::from_bytes([2; 16]);
    let objects = [
        Object::Vg(Vg {
            id: VgId::from_bytes([1; 16]),
            name: Name::new("data").unwrap(),
            state: VgState::Ready,
            extent_size: Bytes::mib(4),
            sector_size: 512,
            metadata_copies: 4,
            created_at: 0,
        }),
        Object::Pv(Pv {
            id: pv,
            path_hint: "/dev/sdb".to_owned(),
            device_size: Bytes(4 * GIB),
            data_offset: Bytes::mib(18),
            extents: Extents(1000),
            metadata: true,
            backing_file: None,
            hardware_id: String::new(),
            left: Vec::new(),
            labels: Default::default(),
        }),
    ];
    let layout = vol_api::backup::LayoutRecord {
        area_offset_bytes: 1 << 20,
        label_offsets_bytes: [1_114_112, 1_179_648],
        log_offset_bytes: 2 << 20,
        log_len_bytes: 4 << 20,
        checkpoint_offsets_bytes: [6 << 20, 12 << 20],
        checkpoint_len_bytes: 6 << 20,
    };
    Backup::new(7, String::new(), String::new(), &objects, |_| Some(layout)).unwrap()
}

#[test]
fn a_backup_is_a_file_of_its_owner_that_restore_sends_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data.json");
    let shown = file.display().to_string();
    let daemon = Daemon::start()
        .answer("GET /v1/vgs/data/backup", &backup())
        .answer("POST /v1/restore", &Outcome { warnings: vec!["pool tank went on".into()], ..Outcome::changed(vg()) });
    for _ in 0..2 {
        let ran = daemon.volctl(&format!("vg backup data --file {shown}"));
        assert_eq!(ran.exit, 0, "{}", ran.err);
        assert!(ran.out.contains("1 physical volume, 0 volumes and snapshots, as of commit 7"), "{}", ran.out);
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    assert_eq!(vol_api::backup::parse(text.as_bytes()).unwrap().content, backup().content);
    assert_eq!(daemon.volctl("vg backup data --file -").out, text);

    let ran = daemon.volctl(&format!("vg restore {shown} --yes --older"));
    assert_eq!((ran.exit, ran.out.as_str()), (10, "volume group data restored.\n"));
    assert_eq!(ran.err, "warning: pool tank went on\n");
    let sent = daemon.requests().pop().unwrap();
    let body: RestoreVg = serde_json::from_str(sent.strip_prefix("POST /v1/restore ").unwrap()).unwrap();
    assert_eq!(body, RestoreVg { backup: text, older: true, ..RestoreVg::default() });
    assert_eq!(daemon.volctl("vg restore /nowhere/x.json --yes").exit, 1);
    assert_eq!(daemon.volctl("vg backup data --file /nowhere/x.json").exit, 1);
}
