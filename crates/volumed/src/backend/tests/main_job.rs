use vol_api::{Health, ObjectState, PoolMode, VolumeContent};

use super::*;

const GIB: u64 = 1 << 30;

#[test]
fn from_raw_disks_to_a_mounted_volume_and_back() {
    let host = machine();
    let backend = start(&host);
    let vg = done(backend.create_vg(vg_request(), false));
    assert_eq!((vg.name.as_str(), vg.pv_count, vg.health, vg.state), ("data", 2, Health::Ok, ObjectState::Ready));
    let tank = done(backend.create_pool(pool_request(), false));
    assert_eq!((tank.vg.as_str(), tank.mode, tank.volume_count), ("data", Some(PoolMode::ReadWrite), 0));
    let pg = done(backend.create_volume(volume_request("pg", "10G", "ext4"), false));
    assert_eq!((pg.content, pg.fs.as_deref(), pg.size_bytes), (VolumeContent::Formatted, Some("ext4"), 10 * GIB));
    assert_eq!((pg.active, pg.device, pg.mounts), (false, None, vec![]));

    let mounted = done(backend.mount_volume(&volume("data/pg"), mount_at("/srv/pg"), false));
    assert_eq!(mounted.mounts[0].path, "/srv/pg");
    assert!(mounted.active && mounted.device.unwrap().starts_with("/dev/dm-"));
    host.put_file("/srv/pg", "kept", b"yes").unwrap();
    let before = done(backend.create_snapshot(snapshot_request("before"), false));
    assert_eq!((before.full_name.as_str(), before.volume_exists), ("data/pg@before", true));

    assert_eq!(done(backend.unmount_volume(&volume("data/pg"), false)).mounts, []);
    let was = done(backend.delete_volume(&volume("data/pg"), false, false));
    assert_eq!((was.name.as_str(), was.snapshot_count), ("pg", 1), "a deletion answers the object as it was");
    assert!(!backend.snapshot(&snapshot("data/pg@before")).unwrap().volume_exists);
    let seen = done(backend.mount_snapshot(&snapshot("data/pg@before"), mount_at("/mnt"), false));
    assert!(seen.mounts[0].read_only);
    assert_eq!(host.read_file("/mnt", "kept").unwrap().as_deref(), Some(&b"yes"[..]));

    done(backend.unmount_snapshot(&snapshot("data/pg@before"), false));
    done(backend.delete_snapshot(&snapshot("data/pg@before"), false, false));
    done(backend.delete_pool(&pool("data/tank"), false));
    done(backend.delete_vg(&name("data"), false));
    assert_eq!(backend.vgs().unwrap(), []);
    assert_eq!(host.violations(), Vec::<String>::new());
}

#[test]
fn init_makes_a_group_and_a_pool_in_one_request() {
    let host = machine();
    let backend = start(&host);
    let request = vol_api::Init { devices: vg_request().devices, ..vol_api::Init::default() };
    let plan = planned(backend.init(request.clone(), true));
    assert!(plan.changes && backend.vgs().unwrap().is_empty());
    let made = done(backend.init(request, false));
    assert_eq!((made.vg.name.as_str(), made.pool.name.as_str(), made.vg.pool_count), ("data", "pool", 1));
}

#[test]
fn a_pool_is_extended_and_its_policies_are_changed() {
    let (host, backend) = furnished();
    let tank = pool("data/tank");
    let was = backend.pool(&tank).unwrap();
    assert_eq!((was.growth.as_str(), was.when_full.as_str(), was.reserve_percent), ("vg", "queue", 5));
    let request = vol_api::ExtendPool { size: Some("+1G".into()), metadata: None, ..Default::default() };
    assert!(planned(backend.extend_pool(&tank, request.clone(), true)).changes);
    assert_eq!(backend.pool(&tank).unwrap(), was, "a dry run changed it");
    let now = done(backend.extend_pool(&tank, request, false));
    assert_eq!((now.size_bytes, now.growable_bytes), (was.size_bytes + GIB, was.growable_bytes - GIB));
    let same = vol_api::ExtendPool { size: Some(now.size_bytes.to_string()), metadata: None, ..Default::default() };
    assert!(!outcome(backend.extend_pool(&tank, same, false)).changed);

    let request = vol_api::SetPool {
        grow_to: Some(format!("{}", now.size_bytes + (64 << 20))),
        reserve_percent: Some(0),
        when_full: Some("error".into()),
        overcommit_limit_percent: Some(300),
        ..Default::default()
    };
    let set = done(backend.set_pool(&tank, request.clone(), false));
    assert_eq!((set.growth.as_str(), set.growth_limit_bytes), ("up_to", Some(now.size_bytes + (64 << 20))));
    assert_eq!((set.growable_bytes, set.when_full.as_str(), set.reserve_percent), (64 << 20, "error", 0));
    assert_eq!(set.overcommit_limit_percent, 300);
    assert!(!outcome(backend.set_pool(&tank, request, false)).changed);
    assert_eq!(host.violations(), Vec::<String>::new());
}

#[test]
fn a_raw_volume_is_attached_and_detached() {
    let (host, backend) = furnished();
    let raw = volume("data/raw");
    let plan = planned(backend.attach_volume(&raw, true));
    assert_eq!(plan.title, "attach data/raw");
    assert_eq!(plan.steps[0].action, "create_dm");
    assert_eq!(backend.volume(&raw).unwrap().device, None, "a dry run attached it");

    let attached = done(backend.attach_volume(&raw, false));
    assert!(attached.active && attached.device.as_deref().unwrap().starts_with("/dev/dm-"), "{attached:?}");
    host.put_raw(&device_of(&attached), b"kept").unwrap();
    assert!(!outcome(backend.attach_volume(&raw, false)).changed);

    host.hold_device(&device_of(&attached), Some("qemu"));
    let (code, message, hint) = failed(backend.detach_volume(&raw, false));
    assert!(code == "busy" && message.contains("held open by") && message.contains("qemu"), "{code}: {message}");
    assert!(hint.contains("try again"), "{hint}");
    host.hold_device(&device_of(&attached), None);
    let detached = done(backend.detach_volume(&raw, false));
    assert_eq!((detached.active, detached.device), (false, None));
    let again = outcome(backend.detach_volume(&raw, false));
    assert!(!again.changed && again.object.is_some());
    assert_eq!(host.violations(), Vec::<String>::new());
}

#[test]
fn the_same_request_twice_is_one_effect() {
    let (_, backend) = furnished();
    let made = outcome(backend.create_volume(volume_request("pg", "10G", "ext4"), false));
    assert!(!made.changed);
    assert_eq!(made.object.unwrap(), backend.volume(&volume("data/pg")).unwrap());
    let pg = volume("data/pg");
    done(backend.mount_volume(&pg, mount_at("/srv/pg"), false));
    assert!(!outcome(backend.mount_volume(&pg, mount_at("/srv/pg"), false)).changed);
    done(backend.unmount_volume(&pg, false));
    assert!(!outcome(backend.unmount_volume(&pg, false)).changed);
}

#[test]
fn a_dry_run_answers_the_plan_as_json_and_changes_nothing() {
    let (host, backend) = furnished();
    let effects = host.effects();
    let plan = json(&planned(backend.create_volume(volume_request("vm", "1G", "xfs"), true)));
    assert_eq!((plan["title"].as_str(), plan["changes"].as_bool()), (Some("create volume data/vm"), Some(true)));
    let steps = plan["steps"].as_array().unwrap();
    for (step, number) in steps.iter().zip(1..) {
        let keys: Vec<_> = step.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["action", "description", "number", "requires"], "{step}");
        assert_eq!(step["number"], number);
        let action = step["action"].as_str().unwrap();
        assert!(!action.is_empty() && action.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{action}");
        assert!(!step["description"].as_str().unwrap().is_empty(), "{step}");
    }
    let actions: Vec<_> = steps.iter().map(|step| step["action"].as_str().unwrap()).collect();
    assert!(actions.contains(&"mkfs"), "{actions:?}");
    let none = planned(backend.create_volume(volume_request("pg", "10G", "ext4"), true));
    assert_eq!((none.changes, none.steps), (false, vec![]));
    for plan in [
        planned(backend.delete_volume(&volume("data/pg"), false, true)),
        planned(backend.mount_volume(&volume("data/pg"), mount_at("/srv/pg"), true)),
        planned(backend.create_snapshot(snapshot_request("before"), true)),
    ] {
        assert!(plan.changes && !plan.title.is_empty(), "{plan:?}");
    }
    assert_eq!(host.effects(), effects, "a dry run did something");
    assert_eq!(backend.volumes(None).unwrap().len(), 2);
}

#[test]
fn the_numbers_of_df_and_status_are_whole_bytes_that_add_up() {
    let (host, backend) = furnished();
    done(backend.mount_volume(&volume("data/pg"), mount_at("/srv/pg"), false));
    done(backend.create_snapshot(snapshot_request("before"), false));
    let pg = backend.volume(&volume("data/pg")).unwrap();
    let chunks = 64;
    host.fill(&device_of(&pg), chunks).unwrap();
    backend.engine.refresh();

    let df = backend.df().unwrap();
    let (vg, tank) = (&df.vgs[0], &df.pools[0]);
    assert_eq!(vg.size_bytes, vg.allocated_bytes + vg.free_bytes);
    assert!(vg.size_bytes > 7 * GIB && vg.size_bytes < 8 * GIB, "{vg:?}");
    assert_eq!(tank.size_bytes, tank.used_bytes.unwrap() + tank.free_bytes.unwrap());
    assert_eq!(tank.virtual_bytes, 11 * GIB, "snapshots promise nothing");
    assert_eq!(tank.overcommit_percent, tank.virtual_bytes * 100 / tank.size_bytes);
    assert_eq!((tank.volume_count, tank.snapshot_count, tank.overcommit_limit_percent), (2, 1, 1000));
    assert!(tank.metadata_used_bytes.unwrap() <= tank.metadata_size_bytes);
    let info = backend.pool(&pool("data/tank")).unwrap();
    assert!(info.used_bytes.unwrap() >= chunks * info.chunk_size_bytes);
    assert_eq!(info.used_bytes.unwrap() % info.chunk_size_bytes, 0);
    assert!(backend.volume(&volume("data/pg")).unwrap().used_bytes.unwrap() >= chunks * info.chunk_size_bytes);

    let all = json(&df);
    for pool in [&all["vgs"][0], &all["pools"][0]] {
        for (key, value) in pool.as_object().unwrap().iter().filter(|(key, _)| key.ends_with("_bytes")) {
            assert!(value.is_u64(), "{key}: {value}");
        }
    }
    let status = backend.status().unwrap();
    let counts = json(&status.counts);
    assert_eq!(counts, serde_json::json!({"vgs": 1, "pvs": 2, "pools": 1, "volumes": 2, "snapshots": 1, "mounted": 1}));
    assert_eq!((status.health, status.problems, status.io_backend.as_str()), (Health::Ok, vec![], "simulated"));
    assert_eq!((status.host.as_str(), status.kernel.release.as_str()), ("storage1", "6.18.1"));
}

#[test]
fn lists_are_kept_to_their_group_and_sorted() {
    let (_, backend) = furnished();
    let names: Vec<_> = backend.volumes(Some(&name("data"))).unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["pg", "raw"]);
    assert_eq!(backend.pvs(None).unwrap().len(), 2);
    let first = &backend.pvs(None).unwrap()[0];
    assert_eq!(backend.pv(first.id.parse().unwrap()).unwrap(), *first);
    let nowhere = name("nowhere");
    for code in [
        backend.pvs(Some(&nowhere)).unwrap_err().code,
        backend.pools(Some(&nowhere)).unwrap_err().code,
        backend.volumes(Some(&nowhere)).unwrap_err().code,
        backend.snapshots(Some(&nowhere)).unwrap_err().code,
    ] {
        assert_eq!(code, vol_api::ErrorCode::NotFound);
    }
}
