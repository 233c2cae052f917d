use vol_core::RefusalCode;
use vol_core::observed::{DevNumber, DiskInfo, DiskKind, Signature};
use vol_core::plan::vg::{self, SeenLabel};
use vol_types::*;

use super::fixture::*;

#[test]
fn labels_come_after_the_metadata_and_ready_comes_last() {
    let request = create_vg(vec![candidate(disk("/dev/sda", 10)), candidate(disk("/dev/sdb", 11))]);
    let plan = vg::create(&request, &[]).unwrap();
    let kinds: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(
        kinds,
        ["open-pv", "open-pv", "start-store", "write-label", "write-label", "write-mark", "write-mark", "commit"]
    );
    assert_eq!(text(&plan).last().unwrap(), "commit: VG data ready");
}

fn refused(change: impl FnOnce(&mut DiskInfo)) -> vol_core::Refusal {
    let mut info = disk("/dev/sda", 10);
    change(&mut info);
    vg::create(&create_vg(vec![candidate(info)]), &[]).unwrap_err()
}

#[test]
fn a_disk_that_is_in_use_is_refused_and_says_by_what() {
    let cases: Vec<(vol_core::Refusal, RefusalCode, &str)> = vec![
        (refused(|d| d.mounts = vec!["/srv".into()]), RefusalCode::Busy, "/dev/sda is mounted at /srv"),
        (refused(|d| d.swap = true), RefusalCode::Busy, "/dev/sda is in use as swap"),
        (refused(|d| d.holders = vec!["dm-0".to_owned()]), RefusalCode::Busy, "/dev/sda is in use by dm-0"),
        (refused(|d| d.read_only = true), RefusalCode::Refused, "/dev/sda is read-only"),
        (
            refused(|d| d.identity.size = Bytes::mib(10)),
            RefusalCode::Invalid,
            "/dev/sda is too small: it has 10.0 MiB, a PV needs 64.0 MiB or more",
        ),
        (
            refused(|d| d.sector_size = 520),
            RefusalCode::Invalid,
            "/dev/sda has sectors of 520 bytes; only 512 and 4096 are supported",
        ),
        (
            refused(|d| d.dm_uuid = Some("VOLUMED-x".to_owned())),
            RefusalCode::Refused,
            "/dev/sda is a volume of volumed itself",
        ),
    ];
    for (refusal, code, message) in cases {
        assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
    }
}

fn ext4() -> Signature {
    Signature {
        usage: "filesystem".to_owned(),
        kind: "ext4".to_owned(),
        label: Some("home".to_owned()),
        uuid: Some("1234".to_owned()),
    }
}

#[test]
fn a_signature_is_destroyed_only_with_wipe_and_only_the_one_that_was_named() {
    let mut info = disk("/dev/sda", 10);
    info.signatures = vec![ext4()];
    let mut request = create_vg(vec![candidate(info)]);
    let refusal = vg::create(&request, &[]).unwrap_err();
    assert_eq!(refusal.message, "/dev/sda is not empty, it carries: ext4 file system, label \"home\", UUID 1234");
    assert!(refusal.hint.unwrap().contains("--wipe"));
    request.wipe = true;
    let plan = vg::create(&request, &[]).unwrap();
    assert_eq!(text(&plan)[0], "DESTROY on /dev/sda: ext4 file system, label \"home\", UUID 1234");
    assert_eq!(plan.steps[0].requires.len(), 1, "the disk must be the one that was looked at");
}

#[test]
fn wipe_does_not_help_against_a_mount() {
    let mut info = disk("/dev/sda", 10);
    info.signatures = vec![ext4()];
    info.mounts = vec!["/home".into()];
    let mut request = create_vg(vec![candidate(info)]);
    request.wipe = true;
    let refusal = vg::create(&request, &[]).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy);
}

#[test]
fn one_disk_under_two_names_is_refused() {
    let mut second = disk("/dev/disk/by-id/x", 10);
    second.node = "/dev/sda".into();
    let refusal = vg::create(&create_vg(vec![candidate(disk("/dev/sda", 10)), candidate(second)]), &[]).unwrap_err();
    assert_eq!(refusal.message, "/dev/sda and /dev/disk/by-id/x are the same disk (/dev/sda)");
    let twice = vec![candidate(disk("/dev/sda", 10)), candidate(disk("/dev/sda", 10))];
    assert_eq!(vg::create(&create_vg(twice), &[]).unwrap_err().message, "/dev/sda was given twice");
}

#[test]
fn two_paths_to_one_disk_are_refused() {
    let mut legs = [disk("/dev/sda", 10), disk("/dev/sdb", 11)];
    for leg in &mut legs {
        leg.hardware_id = "naa.5000".to_owned();
    }
    let refusal = vg::create(&create_vg(legs.clone().map(candidate).to_vec()), &[]).unwrap_err();
    assert!(refusal.message.contains("two paths to one disk"), "{}", refusal.message);
    for leg in &mut legs {
        leg.hardware_id = "0123456789".to_owned();
    }
    assert!(vg::create(&create_vg(legs.map(candidate).to_vec()), &[]).is_ok(), "a serial number is no proof");
}

#[test]
fn a_partition_beside_its_own_disk_is_refused() {
    let mut part = disk("/dev/sda1", 12);
    part.kind = DiskKind::Partition { of: DevNumber { major: 8, minor: 10 } };
    let refusal = vg::create(&create_vg(vec![candidate(disk("/dev/sda", 10)), candidate(part)]), &[]).unwrap_err();
    assert_eq!(refusal.message, "/dev/sda1 is a partition of /dev/sda, which was given as well");
}

#[test]
fn mixed_sector_sizes_are_refused() {
    let mut big = disk("/dev/sdb", 11);
    big.sector_size = 4096;
    let refusal = vg::create(&create_vg(vec![candidate(disk("/dev/sda", 10)), candidate(big)]), &[]).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Invalid);
    assert!(refusal.message.contains("cannot mix logical sector sizes"), "{}", refusal.message);
}

#[test]
fn every_bad_disk_is_named_in_one_answer() {
    let mut swap = disk("/dev/sdb", 11);
    swap.swap = true;
    let mut gone = candidate(disk("/dev/sdc", 12));
    gone.info = Err("open /dev/sdc: no such device".to_owned());
    let mut small = disk("/dev/sdd", 13);
    small.identity.size = Bytes::mib(1);
    let refusal = vg::create(&create_vg(vec![candidate(swap), gone, candidate(small)]), &[]).unwrap_err();
    for path in ["/dev/sdb", "/dev/sdc", "/dev/sdd"] {
        assert!(refusal.message.contains(path), "{path} is not in {}", refusal.message);
    }
}

#[test]
fn a_disk_of_an_open_vg_is_refused_even_with_wipe() {
    let label = |vg_known| SeenLabel { vg: VgId::from_uuid(uuid(9)), vg_name: name("old"), vg_known };
    for (known, wipe, allowed) in
        [(true, true, false), (true, false, false), (false, false, false), (false, true, true)]
    {
        let mut one = candidate(disk("/dev/sda", 10));
        one.label = Some(label(known));
        let mut request = create_vg(vec![one]);
        request.wipe = wipe;
        let result = vg::create(&request, &[]);
        assert_eq!(result.is_ok(), allowed, "known {known}, wipe {wipe}");
        if let Err(refusal) = result {
            assert!(refusal.message.contains("belongs to the volume group old"), "{}", refusal.message);
        }
    }
}

#[test]
fn a_taken_name_or_no_disk_at_all_is_refused() {
    let request = create_vg(vec![candidate(disk("/dev/sda", 10))]);
    assert_eq!(vg::create(&request, &[name("data")]).unwrap_err().code, RefusalCode::Exists);
    assert_eq!(vg::create(&create_vg(vec![]), &[]).unwrap_err().code, RefusalCode::Invalid);
}

#[test]
fn a_vg_with_a_pool_is_not_deleted() {
    assert!(vg::delete(&empty_vg()).is_ok());
    let refusal = vg::delete(&vg_with_pool()).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.message.as_str()),
        (RefusalCode::Busy, "volume group data still has pools: data/tank")
    );
}
