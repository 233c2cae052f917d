//! `debug dump` and `pv check` on the golden images of whole disks.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use vol_api::{CheckFinding, PvCheck, PvInfo, PvList};
use vol_api::{Doctor, Finding, Level};

use super::fake::Daemon;

#[allow(dead_code, reason = "images are only read here")]
#[path = "../../../../vol-engine/tests/golden_container/mod.rs"]
mod golden_container;

/// A golden image as a sparse file; its path.
fn image(dir: &TempDir, name: &str) -> String {
    let container =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../vol-engine/tests/golden/v1").join(format!("{name}.img"));
    let image = golden_container::Image::decode(&std::fs::read(container).unwrap());
    let path = dir.path().join(format!("{name}.raw"));
    let file = File::create(&path).unwrap();
    file.set_len(image.size).unwrap();
    for (offset, block) in &image.blocks {
        file.write_all_at(block, *offset).unwrap();
    }
    path.to_str().unwrap().to_owned()
}

fn harm(path: &str, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[test]
fn a_sound_image_is_shown_without_a_daemon() {
    let (daemon, dir) = (Daemon::start(), tempfile::tempdir().unwrap());
    let path = image(&dir, "busy-0");
    let ran = daemon.volctl(&format!("debug dump {path} --records --objects"));
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "{}", ran.out);
    for said in [
        "PV 49ff9807-1e9c-46ca-835a-647671a0f5b9 of VG data, at commit 10, hash 44ca98ab, 8 objects\n",
        "  sound: nothing is wrong with it\n",
        "  checkpoint 0    3,145,728    1,572,864  sound    newest, commit 1,",
        "  log end         2,134,016            –  log-end  position 36864: nothing: never written",
        "snapshot pg@before",
        "formatted ext4",
        "intent …670c0882 (create 3)",
    ] {
        assert!(ran.out.contains(said), "{said}\n{}", ran.out);
    }
    assert!(daemon.volctl(&format!("debug dump {path} --raw-offsets")).out.contains("  3145728  "));
    assert!(daemon.requests().is_empty(), "the daemon was asked");
    let name = daemon.volctl(&format!("debug dump {path} -o name"));
    assert_eq!(name.out, "49ff9807-1e9c-46ca-835a-647671a0f5b9\n");
}

#[test]
fn json_is_complete() {
    let (daemon, dir) = (Daemon::start(), tempfile::tempdir().unwrap());
    let ran = daemon.volctl(&format!("debug dump {} {} -o json", image(&dir, "busy-0"), image(&dir, "busy-1")));
    assert_eq!(ran.exit, 0);
    let all: Value = serde_json::from_str(&ran.out).unwrap();
    let disk = &all["disks"][0];
    assert_eq!(disk["severity"], "ok");
    assert_eq!(disk["label"]["log_offset"], 2 << 20);
    assert_eq!(disk["log"]["records"].as_array().unwrap().len(), 9);
    assert_eq!(disk["log"]["end"][0]["code"], "log-end");
    assert_eq!(disk["head"]["sequence"], 10);
    assert_eq!(disk["head"]["hash"].as_str().unwrap().len(), 64);
    assert_eq!(disk["slots"][0]["header"]["sequence"], 1);
    let kinds: Vec<_> =
        disk["objects"].as_array().unwrap().iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["vg", "pv", "pv", "pool", "volume", "volume", "volume", "intent"]);
    assert_eq!(disk["mark"]["backup"]["partition"]["pv"], disk["label"]["pv"]);
    let standings: Vec<_> =
        all["volume_groups"][0]["copies"].as_array().unwrap().iter().map(|copy| &copy["standing"]).collect();
    assert_eq!(standings, ["up to date", "up to date"]);
}

#[test]
fn copies_of_one_group_are_compared() {
    let (daemon, dir) = (Daemon::start(), tempfile::tempdir().unwrap());
    let [newest, old] = ["behind-0", "behind-2"].map(|name| image(&dir, name));
    let ran = daemon.volctl(&format!("debug dump {old} {newest}"));
    assert_eq!(ran.exit, 0, "old is no damage: {}", ran.out);
    assert!(ran.out.contains("2 of 3 copies of the metadata were given"), "{}", ran.out);
    assert!(ran.out.contains("proven old, 2 commits behind"), "{}", ran.out);
    assert!(ran.out.contains("not given, last seen as /dev/sdb"), "{}", ran.out);
    // The machines of all golden sets drew the same ids: another set is the same group with another history.
    let other = image(&dir, "torn-1");
    let ran = daemon.volctl(&format!("debug dump {newest} {other}"));
    assert_eq!(ran.exit, 10, "{}", ran.out);
    assert!(ran.out.contains("different: changed apart from the newest, a person must decide"), "{}", ran.out);
}

#[test]
fn damage_exits_with_10_and_says_where_and_what_to_do() {
    let (daemon, dir) = (Daemon::start(), tempfile::tempdir().unwrap());
    let torn = daemon.volctl(&format!("debug dump {}", image(&dir, "torn-0")));
    assert_eq!(torn.exit, 0, "a crash does this: {}", torn.out);
    assert!(
        torn.out.contains("  note: the log ends behind commit 5; what stands there is a record that is torn"),
        "{}",
        torn.out
    );
    let path = image(&dir, "busy-1");
    harm(&path, 1_179_648, &[1; 4096]);
    for line in [format!("debug dump {path}"), format!("pv check --offline {path}")] {
        let ran = daemon.volctl(&line);
        assert_eq!(ran.exit, 10, "{line}: {}", ran.out);
        let said = "  damage: label copy 1 was written over by something else (byte ";
        assert!(
            ran.out.contains(said) && ran.out.contains("[label-copy-lost, FMT-5]\n    hint: "),
            "{line}: {}",
            ran.out
        );
    }
    assert_eq!(daemon.volctl(&format!("pv check --offline {path} -o name")).out, format!("{path}\n"));
}

#[test]
fn what_is_no_physical_volume_exits_with_3_and_what_is_no_disk_is_wrong_usage() {
    let (daemon, dir) = (Daemon::start(), tempfile::tempdir().unwrap());
    let path = dir.path().join("empty");
    std::fs::write(&path, [7; 5000]).unwrap();
    let ran = daemon.volctl(&format!("debug dump {}", path.display()));
    assert_eq!(ran.exit, 3, "{}", ran.out);
    assert!(ran.out.contains("note: no label: this is no physical volume of volumed [no-label"), "{}", ran.out);
    for bad in [dir.path().to_str().unwrap(), "/dev/null"] {
        let ran = daemon.volctl(&format!("debug dump {bad}"));
        assert_eq!(ran.exit, 2, "{bad}: {}", ran.err);
        assert!(ran.err.contains("is neither a disk nor an image of one"), "{}", ran.err);
    }
    assert_eq!(daemon.volctl("debug dump /nowhere/at/all.img").exit, 1);
    assert_eq!(daemon.volctl("pv check --offline").exit, 2);
    assert_eq!(daemon.volctl("pv check --offline 0191d6e0-0000-7000-8000-000000000001").exit, 2);
}

#[test]
fn check_asks_the_daemon_for_all_it_knows_and_reads_the_others_itself() {
    let (id, dir) = ("0191d6e0-0000-7000-8000-000000000001", tempfile::tempdir().unwrap());
    let pv = PvInfo { id: id.into(), path: Some("/dev/sdb".into()), ..PvInfo::default() };
    let finding = |severity: &str, code: &str| CheckFinding {
        severity: severity.into(),
        code: code.into(),
        rule: Some("FMT-16".into()),
        message: "checkpoint slot 0".into(),
        hint: "look".into(),
        offset_bytes: Some(4096),
    };
    let check = |severity: &str| PvCheck {
        path: Some("/dev/sdb".into()),
        id: Some(id.into()),
        vg: Some("data".into()),
        sequence: Some(7),
        severity: severity.into(),
        findings: vec![finding(severity, "slot-torn"), finding("ok", "label-sound")],
    };
    let endpoint = format!("GET /v1/pvs/{id}/check");
    let daemon = Daemon::start().answer("GET /v1/pvs", &PvList { pvs: vec![pv] }).answer(&endpoint, &check("note"));
    let ran = daemon.volctl("pv check");
    let said = "/dev/sdb of VG data, at commit 7: note (1 checks passed)\n  note: checkpoint slot 0 (byte 4096) [slot-torn, FMT-16]\n    hint: look\n";
    assert_eq!((ran.exit, ran.out.as_str()), (0, said));
    let daemon = daemon.answer(&endpoint, &check("damage"));
    let ran = daemon.volctl(&format!("pv check {id} -o json"));
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.exit, &json["checks"][0]["findings"][0]["code"]), (10, &"slot-torn".into()));
    // A disk that the daemon does not know.
    let path = image(&dir, "fresh-0");
    let resolved = std::fs::canonicalize(&path).unwrap();
    let daemon = daemon.answer(&format!("GET /v1/pvs?path={}", resolved.display()), &PvList { pvs: vec![] });
    let ran = daemon.volctl(&format!("pv check {path}"));
    assert_eq!(ran.exit, 0, "{} {}", ran.out, ran.err);
    assert!(ran.out.contains("of VG data, at commit 2: ok ("), "{}", ran.out);
}

#[test]
fn doctor_shows_what_the_daemon_says_with_what_to_do_and_exits_by_the_worst() {
    let daemon = |findings: Vec<Finding>| Daemon::start().answer("GET /v1/doctor", &Doctor::new(findings));
    let problem = Finding::new("mount_namespace", Level::Problem, "of its own\u{1b}[31m", "take out PrivateTmp=");
    let ran = daemon(vec![Finding::ok("limit_files", "descriptors: 65536"), problem]).volctl("doctor");
    assert_eq!(ran.exit, 1, "{}", ran.err);
    assert!(ran.out.contains("ok       limit_files"), "{}", ran.out);
    assert!(
        ran.out.contains("of its own\\u{1b}[31m\n") && ran.out.contains("do: take out PrivateTmp=\n"),
        "{}",
        ran.out
    );
    let quiet = daemon(vec![Finding::ok("limit_files", "descriptors: 65536")]).volctl("doctor -q");
    assert!(!quiet.out.contains("limit_files"), "{}", quiet.out);
    let json = daemon(vec![Finding::ok("limit_files", "descriptors: 65536")]).volctl("doctor -o json");
    let doctor: Doctor = serde_json::from_str(&json.out).unwrap();
    assert!(doctor.findings.iter().any(|one| one.check == "limit_files"));
    let expected = match doctor.level {
        Level::Ok | Level::Note => 0,
        Level::Warning => 10,
        Level::Problem => 1,
    };
    assert_eq!(json.exit, expected);
}
