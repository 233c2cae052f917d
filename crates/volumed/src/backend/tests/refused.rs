use super::*;

/// What is asked, the code, a part of the message, a part of the hint.
type Case<'a> = (&'a str, (&'static str, String, String), &'a str, &'a str, &'a str);

fn check(cases: Vec<Case<'_>>) {
    for (what, (code, message, hint), expected, says, hints) in cases {
        assert_eq!(code, expected, "{what}: {message}");
        assert!(message.contains(says), "{what}: {message}");
        assert!(hint.contains(hints), "{what}: {hint:?} of {message:?}");
    }
}

#[test]
fn what_exists_already_is_told_and_left_alone() {
    let (host, backend) = furnished();
    done(backend.create_snapshot(snapshot_request("before"), false));
    let effects = host.effects();
    check(vec![
        ("vg", failed(backend.create_vg(vg_request(), false)), "exists", "volume group named data", "another name"),
        ("pool", failed(backend.create_pool(pool_request(), false)), "exists", "there is a pool data/tank already", ""),
        (
            "volume",
            failed(backend.create_volume(volume_request("pg", "11G", "ext4"), false)),
            "exists",
            "there is a volume data/pg already, with a size of",
            "choose another name",
        ),
        (
            "volume named as a pool",
            failed(backend.create_volume(volume_request("tank", "1G", "ext4"), false)),
            "exists",
            "taken by a pool",
            "share their names",
        ),
        ("snapshot", failed(backend.create_snapshot(snapshot_request("before"), false)), "exists", "pg@before", ""),
    ]);
    assert_eq!(host.effects(), effects, "a refusal did something");
}

#[test]
fn what_is_not_there_is_not_found_with_the_command_that_lists() {
    let (_, backend) = furnished();
    let mut elsewhere = volume_request("x", "1G", "ext4");
    elsewhere.pool = Some("cold".into());
    let nobody = "0191d6e0-0000-7000-8000-000000000001".parse().unwrap();
    let read = |error: ApiError| (error.code.as_str(), error.message, error.hint.unwrap_or_default());
    check(vec![
        ("vg", read(backend.vg(&name("no")).unwrap_err()), "not_found", "no volume group no", "volctl vg list"),
        ("pool", read(backend.pool(&pool("data/no")).unwrap_err()), "not_found", "no pool", "volctl pool list"),
        ("volume", read(backend.volume(&volume("data/no")).unwrap_err()), "not_found", "no volume", "volume list"),
        (
            "snapshot",
            read(backend.snapshot(&snapshot("data/pg@no")).unwrap_err()),
            "not_found",
            "no snapshot",
            "snapshot list",
        ),
        ("pv", read(backend.pv(nobody).unwrap_err()), "not_found", "no PV", "volctl pv list"),
        ("pool of a volume", failed(backend.create_volume(elsewhere, false)), "not_found", "no pool data/cold", "pool"),
        (
            "delete",
            failed(backend.delete_volume(&volume("data/no"), false, false)),
            "not_found",
            "no volume",
            "volume list",
        ),
        ("attach", failed(backend.attach_volume(&volume("data/no"), false)), "not_found", "no volume", "volume list"),
    ]);
    let mut ghost = vg_request();
    ghost.name = "other".into();
    ghost.devices = vec!["/dev/nothing".into()];
    check(vec![("disk", failed(backend.create_vg(ghost, false)), "not_found", "/dev/nothing cannot be used", "lsblk")]);
}

#[test]
fn malformed_names_sizes_and_paths_name_their_field() {
    let (host, backend) = furnished();
    let effects = host.effects();
    let create =
        |name: &str, size: &str, fs: &str| failed(backend.create_volume(volume_request(name, size, fs), false));
    let of_kind = |thick: bool, change: &dyn Fn(&mut vol_api::CreateVolume)| {
        let mut request = vol_api::CreateVolume { thick, ..volume_request("x", "1G", "ext4") };
        change(&mut request);
        failed(backend.create_volume(request, false))
    };
    let vg = |change: &dyn Fn(&mut CreateVg)| {
        let mut request = CreateVg { name: "other".into(), ..vg_request() };
        change(&mut request);
        failed(backend.create_vg(request, false))
    };
    let tank = |change: &dyn Fn(&mut CreatePool)| {
        let mut request = CreatePool { name: "cold".into(), size: "100M".into(), ..pool_request() };
        change(&mut request);
        failed(backend.create_pool(request, false))
    };
    let extend = |size: Option<&str>, metadata: Option<&str>| {
        let (size, metadata) = (size.map(str::to_owned), metadata.map(str::to_owned));
        let request = vol_api::ExtendPool { size, metadata, ..Default::default() };
        failed(backend.extend_pool(&pool("data/tank"), request, false))
    };
    check(vec![
        ("name", create("-rf", "1G", "ext4"), "invalid", "name: a name begins with", ""),
        ("name", create("../x", "1G", "ext4"), "invalid", "name: ", ""),
        ("size", create("x", "-1G", "ext4"), "invalid", "size: ", ""),
        ("size", create("x", "50%FREE", "ext4"), "invalid", "size: ", ""),
        ("zero", create("x", "0", "none"), "invalid", "size", ""),
        ("small", create("x", "64K", "xfs"), "invalid", "too small for xfs", ""),
        ("large", create("x", "9000P", "none"), "invalid", "", ""),
        ("fs", create("x", "1G", "ntfs"), "invalid", "\"ntfs\" is not a file system", "choose ext4, xfs, btrfs"),
        (
            "thick",
            of_kind(true, &|r| r.reserve = Some("full".into())),
            "invalid",
            "reserve: all of",
            "--thick or --reserve",
        ),
        ("no pool", of_kind(true, &|r| r.pool = Some("tank".into())), "invalid", "in no pool", "--thick or --pool"),
        ("stripes", of_kind(false, &|r| r.stripes = Some(2)), "invalid", "only a thick volume", "add --thick"),
        ("on", of_kind(false, &|r| r.on = vec!["/dev/sda".into()]), "invalid", "only a thick volume", "its pool"),
        ("vg name", vg(&|r| r.name = "a/b".into()), "invalid", "name: ", ""),
        ("disk", vg(&|r| r.devices = vec!["sda".into()]), "invalid", "\"sda\" is not an absolute path", ""),
        ("no disk", vg(&|r| r.devices.clear()), "invalid", "at least one disk", "--file"),
        ("extent", vg(&|r| r.extent_size = Some("3M".into())), "invalid", "power of two", ""),
        ("copies", vg(&|r| r.metadata_copies = Some(0)), "invalid", "at least one PV", ""),
        ("share", tank(&|r| r.size = "101%FREE".into()), "invalid", "size: ", ""),
        ("chunk", tank(&|r| r.chunk_size = Some("3K".into())), "invalid", "chunk", ""),
        ("limit", tank(&|r| r.overcommit_limit_percent = Some(50)), "invalid", "over-commit limit is between 100", ""),
        ("growth", tank(&|r| r.grow_to = Some("on".into())), "invalid", "grow_to: ", "vg (as far as"),
        (
            "bound",
            tank(&|r| r.grow_to = Some("50M".into())),
            "invalid",
            "cannot grow up to 50.0 MiB: it has 100 MiB",
            "off",
        ),
        ("reserve", tank(&|r| r.reserve_percent = Some(91)), "invalid", "between 0 and 90 percent", ""),
        ("full", tank(&|r| r.when_full = Some("wait".into())), "invalid", "neither queue nor error", "queue lets"),
        ("by", extend(Some("1X"), None), "invalid", "size: ", ""),
        ("metadata", extend(None, Some("-1M")), "invalid", "metadata: ", ""),
        ("nothing", extend(None, None), "invalid", "by how much pool data/tank is to grow is not said", "--size +10G"),
        (
            "shrink",
            extend(Some("1G"), None),
            "invalid",
            "which is more than 1.00 GiB: a pool never shrinks",
            "+1.00 GiB",
        ),
        (
            "mount point",
            failed(backend.mount_volume(&volume("data/pg"), mount_at("srv/pg"), false)),
            "invalid",
            "a mount point is an absolute path",
            "",
        ),
        (
            "raw",
            failed(backend.mount_volume(&volume("data/raw"), mount_at("/srv/raw"), false)),
            "invalid",
            "data/raw is a raw block volume",
            "--fs",
        ),
    ]);
    assert_eq!(host.effects(), effects, "a refusal did something");
}

#[test]
fn what_is_in_use_is_busy_and_says_where() {
    let (host, backend) = furnished();
    done(backend.mount_volume(&volume("data/pg"), mount_at("/srv/pg"), false));
    let effects = host.effects();
    check(vec![
        (
            "volume",
            failed(backend.delete_volume(&volume("data/pg"), false, false)),
            "busy",
            "cannot delete data/pg: it is mounted at /srv/pg",
            "volctl volume unmount data/pg",
        ),
        (
            "dry run",
            failed(backend.delete_volume(&volume("data/pg"), false, true)),
            "busy",
            "mounted at /srv/pg",
            "unmount",
        ),
        (
            "pool",
            failed(backend.delete_pool(&pool("data/tank"), false)),
            "busy",
            "pool data/tank still holds data/",
            "",
        ),
        ("vg", failed(backend.delete_vg(&name("data"), false)), "busy", "still has pools: data/tank", ""),
    ]);
    assert_eq!(host.effects(), effects, "a refusal did something");
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)).mounted_at("/home"));
    let request = CreateVg { name: "other".into(), devices: vec!["/dev/sdc".into()], ..CreateVg::default() };
    check(vec![("disk", failed(backend.create_vg(request, false)), "busy", "/dev/sdc is mounted at /home", "lsblk")]);
}

#[test]
fn what_does_not_fit_is_no_space() {
    let (_, backend) = furnished();
    let too_much = |size: &str| failed(backend.create_volume(volume_request("x", size, "none"), false));
    let pool = CreatePool { name: "cold".into(), size: "100G".into(), ..pool_request() };
    check(vec![
        ("over-commit", too_much("100G"), "no_space", "beyond the over-commit limit of pool tank", "a smaller size"),
        ("pool", failed(backend.create_pool(pool, false)), "no_space", "free", "volctl df"),
    ]);
}

#[test]
fn a_disk_with_signatures_is_refused_until_wipe_and_they_are_named() {
    let host = machine();
    host.add_disk(SimDisk::new("/dev/sdc", Bytes::gib(4)).signature("filesystem", "ext4"));
    let backend = start(&host);
    let request = CreateVg { name: "data".into(), devices: vec!["/dev/sdc".into()], ..CreateVg::default() };
    let effects = host.effects();
    for dry_run in [true, false] {
        check(vec![(
            "signature",
            failed(backend.create_vg(request.clone(), dry_run)),
            "refused",
            "/dev/sdc is not empty, it carries: ext4 file system",
            "add --wipe",
        )]);
    }
    assert_eq!(host.effects(), effects, "a refusal did something");
    let wipe = CreateVg { wipe: true, ..request };
    let plan = planned(backend.create_vg(wipe.clone(), true));
    let step = plan.steps.iter().find(|step| step.action == "wipe_signatures").unwrap();
    assert!(step.description.contains("ext4"), "what is destroyed is named: {}", step.description);
    done(backend.create_vg(wipe, false));
    let taken = CreateVg { name: "other".into(), devices: vec!["/dev/sdc".into()], wipe: true, ..CreateVg::default() };
    check(vec![("ours", failed(backend.create_vg(taken, false)), "refused", "belongs to the volume group data", "")]);
}

#[test]
fn a_formatted_volume_is_not_handed_out_as_a_device() {
    let (_, backend) = furnished();
    check(vec![(
        "attach",
        failed(backend.attach_volume(&volume("data/pg"), false)),
        "refused",
        "data/pg has a file system that volumed looks after",
        "volctl volume mount data/pg PATH",
    )]);
}
