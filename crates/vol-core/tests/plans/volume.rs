use vol_core::observed::{PoolMode, PoolStatus};
use vol_core::plan::thin::{self, Batch};
use vol_core::plan::volume::Created;
use vol_core::plan::{Kernel, snapshot, volume};
use vol_core::{Catalog, RefusalCode, VolumeName};
use vol_types::*;

use super::fixture::*;

fn refusal(catalog: &Catalog, kernel: &Kernel, request: &volume::CreateVolume) -> vol_core::Refusal {
    volume::create(catalog, kernel, &Batch::default(), request).unwrap_err()
}

#[test]
fn a_volume_is_made_intent_first_and_formatted_only_from_its_record() {
    let catalog = vg_with_pool();
    let plan = plan_of(
        volume::create(&catalog, &kernel(&catalog, 0), &Batch::default(), &volume_request("pg", Bytes::gib(10)))
            .unwrap(),
    );
    let id = VolumeId::from_uuid(uuid(30));
    assert_eq!(
        text(&plan),
        [
            "commit: intent: transaction 0 to 1, 1 message; pool tank ready, transaction 0; volume pg creating, blank"
                .to_owned(),
            "pool message: create_thin 1".to_owned(),
            "pool message: set_transaction_id 0 1".to_owned(),
            "check that the pool is writable and at transaction 1".to_owned(),
            "commit: pool tank ready, transaction 1; intent done; volume pg creating, formatting ext4".to_owned(),
            format!("activate volumed-{id} (thin 1, 20971520 sectors)"),
            "run mkfs.ext4".to_owned(),
            "check that just this ext4 is found".to_owned(),
            format!("deactivate volumed-{id}, unless somebody else has it open"),
            "commit: volume pg ready, formatted ext4".to_owned(),
        ]
    );
}

#[test]
fn the_same_request_twice_is_one_volume_and_another_one_is_a_conflict() {
    let catalog = vg_with_volume();
    let kernel = kernel(&catalog, 1);
    let again = volume::create(&catalog, &kernel, &Batch::default(), &volume_request("pg", Bytes::gib(10))).unwrap();
    assert_eq!(again, Created::Unchanged(VolumeId::from_uuid(uuid(30))));
    let other = refusal(&catalog, &kernel, &volume_request("pg", Bytes::gib(11)));
    assert_eq!(other.code, RefusalCode::Exists);
    assert_eq!(other.message, "there is a volume data/pg already, with a size of 10.0 GiB");
    let mut raw = volume_request("pg", Bytes::gib(10));
    raw.fs = None;
    assert_eq!(refusal(&catalog, &kernel, &raw).code, RefusalCode::Exists);
}

#[test]
fn a_thin_id_is_never_handed_out_twice() {
    let mut catalog = vg_with_volume();
    let pg = catalog.volume_named(&VolumeName { volume: name("pg"), snapshot: None }).unwrap().clone();
    let plan = thin::alone(
        volume::delete(&catalog, &kernel(&catalog, 1), &Batch::default(), &pg, IntentId::from_uuid(uuid(32))).unwrap(),
    );
    apply(&mut catalog, &plan);
    let plan = plan_of(
        volume::create(&catalog, &kernel(&catalog, 2), &Batch::default(), &volume_request("pg", Bytes::gib(10)))
            .unwrap(),
    );
    assert_eq!(text(&plan)[1], "pool message: create_thin 2");
}

#[test]
fn sizes_beyond_file_system_kernel_or_policy_are_refused() {
    let catalog = vg_with_pool();
    let kernel = kernel(&catalog, 0);
    let of = |size| refusal(&catalog, &kernel, &volume_request("x", size));
    assert_eq!(of(Bytes(4096)).message, "4.00 KiB is too small for ext4, which needs 8.00 MiB or more");
    assert_eq!(of(Bytes(0)).code, RefusalCode::Invalid);
    assert_eq!(of(Bytes(u64::MAX)).code, RefusalCode::Invalid);
    assert_eq!(of(Bytes(2 << 60)).code, RefusalCode::Invalid);
    let policy = of(Bytes::gib(100));
    assert_eq!(policy.code, RefusalCode::NoSpace);
    assert!(policy.message.contains("over-commit limit of pool tank"), "{}", policy.message);
}

#[test]
fn a_pool_that_is_not_well_takes_no_new_volume() {
    let catalog = vg_with_pool();
    let id = catalog.pools().next().unwrap().id;
    type Spoil = fn(&mut vol_core::observed::PoolUsage);
    let cases: [(Spoil, RefusalCode, &str); 5] = [
        (|usage| usage.needs_check = true, RefusalCode::Degraded, "needs a check"),
        (|usage| usage.mode = PoolMode::ReadOnly, RefusalCode::Degraded, "read-only"),
        (|usage| usage.transaction_id = 7, RefusalCode::Degraded, "at transaction 7 in the kernel, but at 0"),
        (|usage| usage.used_data = usage.total_data, RefusalCode::NoSpace, "is full"),
        (|usage| usage.used_metadata = usage.total_metadata - 1, RefusalCode::NoSpace, "90 % full"),
    ];
    for (spoil, code, part) in cases {
        let mut kernel = kernel(&catalog, 0);
        let mut usage = usage(0);
        spoil(&mut usage);
        kernel.pools.insert(id, PoolStatus::Working(usage));
        let refusal = refusal(&catalog, &kernel, &volume_request("x", Bytes::gib(1)));
        assert_eq!(refusal.code, code);
        assert!(refusal.message.contains(part), "{}", refusal.message);
    }
    let mut failed = kernel(&catalog, 0);
    failed.pools.insert(id, PoolStatus::Fail);
    assert_eq!(refusal(&catalog, &failed, &volume_request("x", Bytes::gib(1))).code, RefusalCode::Degraded);
    assert_eq!(refusal(&catalog, &Kernel::default(), &volume_request("x", Bytes::gib(1))).code, RefusalCode::Degraded);
}

#[test]
fn names_of_pools_and_objects_that_do_not_exist_are_told_apart() {
    let catalog = vg_with_pool();
    let kernel = kernel(&catalog, 0);
    assert_eq!(refusal(&catalog, &kernel, &volume_request("tank", Bytes::gib(1))).code, RefusalCode::Exists);
    let mut request = volume_request("x", Bytes::gib(1));
    request.pool = Some(name("lake"));
    assert_eq!(refusal(&catalog, &kernel, &request).message, "there is no pool data/lake");
    let none = empty_vg();
    assert_eq!(refusal(&none, &Kernel::default(), &volume_request("x", Bytes::gib(1))).code, RefusalCode::NotFound);
}

#[test]
fn what_is_mounted_is_not_deleted() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap();
    let mut kernel = kernel(&catalog, 1);
    mounted(&mut kernel, pg.id, "/srv/pg");
    let refusal = volume::delete(&catalog, &kernel, &Batch::default(), pg, IntentId::from_uuid(uuid(32))).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.message.as_str()),
        (RefusalCode::Busy, "cannot delete data/pg: it is mounted at /srv/pg")
    );
    assert_eq!(refusal.hint.as_deref(), Some("unmount it first: `volctl volume unmount data/pg`"));
}

#[test]
fn what_a_kubelet_has_mounted_is_not_proposed_to_be_unmounted_by_hand() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap();
    for at in [
        "/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/pv/mount",
        "/var/snap/kubelet/plugins/kubernetes.io/csi/csi.volumed.io/5f/globalmount",
    ] {
        let mut kernel = kernel(&catalog, 1);
        mounted(&mut kernel, pg.id, at);
        let intent = IntentId::from_uuid(uuid(32));
        let refusal = volume::delete(&catalog, &kernel, &Batch::default(), pg, intent).unwrap_err();
        assert!(refusal.hint.as_deref().is_some_and(|hint| hint.starts_with("delete the pods")), "{refusal:?}");
    }
}

fn take_snapshot(catalog: &Catalog, kernel: &Kernel) -> vol_core::Plan {
    let request = snapshot::CreateSnapshot {
        id: VolumeId::from_uuid(uuid(40)),
        intent: IntentId::from_uuid(uuid(41)),
        of: name("pg"),
        name: name("before"),
        labels: Labels::default(),
        now: 0,
    };
    thin::alone(snapshot::create(catalog, kernel, &Batch::default(), &[request]).unwrap())
}

#[test]
fn a_running_origin_is_suspended_for_its_snapshot_and_an_idle_one_is_not() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap().id;
    let idle = kernel(&catalog, 1);
    assert_eq!(text(&take_snapshot(&catalog, &idle))[1], "pool message: create_snap 2 1");
    let mut running = idle;
    mounted(&mut running, pg, "/srv/pg");
    assert_eq!(
        text(&take_snapshot(&catalog, &running))[1],
        format!("pool message: create_snap 2 1, with volumed-{pg} suspended meanwhile")
    );
}

#[test]
fn a_snapshot_outlives_its_volume_and_keeps_its_name() {
    let mut catalog = vg_with_volume();
    let plan = take_snapshot(&catalog, &kernel(&catalog, 1));
    apply(&mut catalog, &plan);
    let pg = catalog.volume_named(&VolumeName { volume: name("pg"), snapshot: None }).unwrap().clone();
    let plan = thin::alone(
        volume::delete(&catalog, &kernel(&catalog, 2), &Batch::default(), &pg, IntentId::from_uuid(uuid(32))).unwrap(),
    );
    apply(&mut catalog, &plan);
    let kept = VolumeName { volume: name("pg"), snapshot: Some(name("before")) };
    assert!(catalog.volume_named(&kept).is_some());
    assert_eq!(kept.to_string(), "pg@before");
}

#[test]
fn the_snapshot_clock_is_refused_before_it_wraps() {
    let mut catalog = vg_with_volume();
    let mut tank = catalog.pools().next().unwrap().clone();
    tank.snapshots_made = limit::POOL_SNAPSHOTS_MAX;
    catalog.apply(Change::Put(Object::Pool(tank)));
    let request = snapshot::CreateSnapshot {
        id: VolumeId::from_uuid(uuid(40)),
        intent: IntentId::from_uuid(uuid(41)),
        of: name("pg"),
        name: name("late"),
        labels: Labels::default(),
        now: 0,
    };
    let refusal = snapshot::create(&catalog, &kernel(&catalog, 1), &Batch::default(), &[request]).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NoSpace);
}
