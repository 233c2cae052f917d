//! The table of `docs/spec/pool-transactions.md`, row by row: the plan is cut after every commit, and the kernel may be
//! before or after the swap.

use std::collections::BTreeSet;

use vol_core::dm::Device;
use vol_core::plan::thin::{self, Batch};
use vol_core::plan::{Kernel, recover, volume};
use vol_core::{Catalog, Plan};
use vol_types::*;

use super::fixture::*;

fn next(catalog: &Catalog, kernel: &Kernel) -> Option<Plan> {
    recover::next(catalog, kernel, &[], true, &BTreeSet::new(), IntentId::from_uuid(uuid(50))).map(|found| found.plan)
}

/// The catalog after the first `commits` commits of a volume's creation.
fn cut(fs: Option<FsKind>, commits: usize) -> Catalog {
    let mut catalog = vg_with_pool();
    let request = volume::CreateVolume { fs, ..volume_request("pg", Bytes::gib(10)) };
    let plan = plan_of(volume::create(&catalog, &kernel(&catalog, 0), &Batch::default(), &request).unwrap());
    for changes in plan.commits().take(commits) {
        catalog.commit(catalog.sequence() + 1, changes.clone());
    }
    catalog
}

#[test]
fn before_the_swap_a_creation_is_taken_back() {
    let mut catalog = cut(Some(FsKind::Ext4), 1);
    let plan = next(&catalog, &kernel(&catalog, 0)).unwrap();
    assert_eq!(
        text(&plan),
        [
            "pool message: delete 1".to_owned(),
            "check that the pool is writable and at transaction 0".to_owned(),
            format!("commit: pool tank ready, transaction 0; intent done; volume {} gone", uuid(30)),
        ]
    );
    apply(&mut catalog, &plan);
    assert_eq!(next(&catalog, &kernel(&catalog, 0)), None);
    assert_eq!(catalog.pools().next().unwrap().next_thin_id, 2, "the id stays used up");
}

#[test]
fn after_the_swap_a_raw_volume_is_finished_and_a_formatted_one_is_taken_back() {
    let mut raw = cut(None, 1);
    let plan = next(&raw, &kernel(&raw, 1)).unwrap();
    apply(&mut raw, &plan);
    assert_eq!(raw.volumes().next().unwrap().state, VolumeState::Ready);
    assert_eq!(next(&raw, &kernel(&raw, 1)), None);

    let mut formatted = cut(Some(FsKind::Xfs), 1);
    let plan = next(&formatted, &kernel(&formatted, 1)).unwrap();
    apply(&mut formatted, &plan);
    let plan = next(&formatted, &kernel(&formatted, 1)).unwrap();
    assert_eq!(text(&plan)[1], "pool message: delete 1");
    apply(&mut formatted, &plan);
    assert_eq!(formatted.volumes().count(), 0);
    assert_eq!(next(&formatted, &kernel(&formatted, 2)), None);
}

#[test]
fn a_volume_whose_mkfs_was_cut_short_is_taken_down_and_deleted() {
    let catalog = cut(Some(FsKind::Ext4), 2);
    let mut kernel = kernel(&catalog, 1);
    let (device, info) = dm(Device::Volume(VolumeId::from_uuid(uuid(30))), 99);
    kernel.dm.insert(device, info);
    let plan = next(&catalog, &kernel).unwrap();
    let kinds: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(kinds, ["remove-dm", "commit", "delete-thin", "set-transaction", "check-pool", "commit"]);
}

#[test]
fn a_deletion_goes_on_from_either_side_of_the_swap() {
    for (in_kernel, kinds) in
        [(1, &["delete-thin", "set-transaction", "check-pool", "commit"] as &[&str]), (2, &["check-pool", "commit"])]
    {
        let mut catalog = vg_with_volume();
        let pg = catalog.volumes().next().unwrap().clone();
        let plan = thin::alone(
            volume::delete(&catalog, &kernel(&catalog, 1), &Batch::default(), &pg, IntentId::from_uuid(uuid(32)))
                .unwrap(),
        );
        let first = plan.commits().next().unwrap().clone();
        catalog.commit(catalog.sequence() + 1, first);
        let plan = next(&catalog, &kernel(&catalog, in_kernel)).unwrap();
        let found: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
        assert_eq!(found, kinds);
        apply(&mut catalog, &plan);
        assert_eq!(catalog.volumes().count(), 0);
        assert_eq!(next(&catalog, &kernel(&catalog, 2)), None);
    }
}

#[test]
fn a_transaction_id_that_fits_neither_side_is_left_to_a_person() {
    for in_kernel in [5, u64::MAX] {
        let catalog = cut(Some(FsKind::Ext4), 1);
        assert_eq!(next(&catalog, &kernel(&catalog, in_kernel)), None);
    }
    let ready = vg_with_volume();
    assert_eq!(next(&ready, &kernel(&ready, 0)), None);
    assert_eq!(next(&ready, &kernel(&ready, 2)), None);
}

#[test]
fn what_was_left_suspended_is_resumed_before_anything_else() {
    let catalog = cut(Some(FsKind::Ext4), 1);
    let mut kernel = kernel(&catalog, 0);
    let pool = catalog.pools().next().unwrap().id;
    kernel.dm.get_mut(&Device::PoolData(pool)).unwrap().suspended = true;
    let plan = next(&catalog, &kernel).unwrap();
    assert_eq!(plan.steps[0].action.kind(), "resume-dm");
}

#[test]
fn a_device_without_a_table_is_removed() {
    let catalog = vg_with_volume();
    let mut kernel = kernel(&catalog, 1);
    let (device, mut info) = dm(Device::Volume(VolumeId::from_uuid(uuid(30))), 99);
    info.live_table = false;
    kernel.dm.insert(device, info);
    assert_eq!(next(&catalog, &kernel).unwrap().steps[0].action.kind(), "remove-dm");
}

#[test]
fn pools_come_up_after_a_reboot_unless_a_disk_is_missing() {
    let catalog = vg_with_volume();
    let plan = next(&catalog, &Kernel::default()).unwrap();
    let kinds: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(kinds, ["create-dm", "create-dm", "create-dm"], "and its metadata is not zeroed");
    let guarded = plan.steps[2].requires.iter().any(|one| matches!(one, vol_core::Requirement::MetadataWritten { .. }));
    assert!(guarded, "blank metadata would be formatted by the kernel");
    let gone = catalog.pools().next().unwrap().data[0].pv;
    let none =
        recover::next(&catalog, &Kernel::default(), &[gone], true, &BTreeSet::new(), IntentId::from_uuid(uuid(50)));
    assert_eq!(none, None);
}

#[test]
fn an_unfinished_pool_gives_its_extents_back() {
    let mut catalog = empty_vg();
    let plan = vol_core::plan::pool::create(&catalog, &Kernel::default(), &[], &pool_request("80%FREE")).unwrap();
    let first = plan.commits().next().unwrap().clone();
    catalog.commit(9, first);
    let plan = next(&catalog, &kernel(&catalog, 0)).unwrap();
    apply(&mut catalog, &plan);
    assert_eq!(catalog.free_extents_total(), Extents(2000));
}

#[test]
fn an_unfinished_vg_is_taken_apart_labels_last() {
    let mut catalog = empty_vg();
    let mut vg = catalog.vg().clone();
    vg.state = VgState::Creating;
    catalog.apply(Change::Put(Object::Vg(vg)));
    let plan = next(&catalog, &Kernel::default()).unwrap();
    let kinds: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(kinds, ["erase-mark", "erase-mark", "erase-label", "erase-label"]);
}

#[test]
fn what_failed_is_set_aside_and_the_rest_goes_on() {
    let catalog = cut(Some(FsKind::Ext4), 1);
    let kernel = kernel(&catalog, 0);
    let first = recover::next(&catalog, &kernel, &[], true, &BTreeSet::new(), IntentId::from_uuid(uuid(50))).unwrap();
    let aside = BTreeSet::from([first.subject]);
    assert_eq!(recover::next(&catalog, &kernel, &[], true, &aside, IntentId::from_uuid(uuid(50))), None);
}

#[test]
fn without_a_majority_of_the_metadata_only_what_is_suspended_is_touched() {
    let old = |catalog: &Catalog, kernel: &Kernel| {
        recover::next(catalog, kernel, &[], false, &BTreeSet::new(), IntentId::from_uuid(uuid(50)))
    };
    for (state, at_two, at_one) in
        [(VgState::Creating, false, true), (VgState::Deleting, false, false), (VgState::Erasing, true, true)]
    {
        let mut unfinished = empty_vg();
        let vg = Vg { state, ..unfinished.vg().clone() };
        unfinished.commit(2, vec![Change::Put(Object::Vg(vg.clone()))]);
        assert_eq!(old(&unfinished, &Kernel::default()).is_some(), at_two, "{state:?}");
        unfinished.commit(1, vec![Change::Put(Object::Vg(vg))]);
        let gone = old(&unfinished, &Kernel::default()).is_some();
        assert_eq!(gone, at_one, "{state:?}: an acknowledged VG has a commit on every copy");
    }
    let catalog = cut(Some(FsKind::Ext4), 1);
    assert_eq!(old(&catalog, &Kernel::default()), None, "pools stay down");
    let mut kernel = kernel(&catalog, 0);
    assert_eq!(old(&catalog, &kernel), None, "intents stay open");
    let pool = catalog.pools().next().unwrap().id;
    kernel.dm.get_mut(&Device::PoolData(pool)).unwrap().suspended = true;
    assert_eq!(old(&catalog, &kernel).unwrap().plan.steps[0].action.kind(), "resume-dm");
}

#[test]
fn a_vg_with_pools_is_never_taken_apart() {
    let mut catalog = vg_with_volume();
    let mut vg = catalog.vg().clone();
    vg.state = VgState::Deleting;
    catalog.apply(Change::Put(Object::Vg(vg)));
    assert_eq!(next(&catalog, &kernel(&catalog, 1)), None);
    assert!(vol_core::check::violations(&catalog)[0].starts_with("CAT-8"));
}
