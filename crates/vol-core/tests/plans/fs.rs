use std::path::Path;

use vol_core::dm::Device;
use vol_core::observed::{FsState, PoolMode, PoolStatus};
use vol_core::plan::fs::{self, NewSize};
use vol_core::plan::{Kernel, Plan, mount, volume};
use vol_core::{Catalog, Refusal, RefusalCode};
use vol_types::*;

use super::fixture::*;

fn pg(catalog: &Catalog) -> &Volume {
    catalog.volumes().next().unwrap()
}

fn state(size: Bytes) -> Option<FsState> {
    Some(FsState { size, errors: false })
}

fn resize(catalog: &Catalog, kernel: &Kernel, new: NewSize) -> Result<Plan, Refusal> {
    fs::resize(catalog, kernel, pg(catalog), new, None)
}

/// `data/pg` mounted at `/srv/pg`, its device as long as it is.
fn mounted_pg() -> (Catalog, Kernel) {
    let catalog = vg_with_volume();
    let mut kernel = kernel(&catalog, 1);
    mounted(&mut kernel, pg(&catalog).id, "/srv/pg");
    let device = Device::Volume(pg(&catalog).id);
    kernel.dm.get_mut(&device).unwrap().len = Bytes::gib(10).to_sectors().unwrap();
    (catalog, kernel)
}

#[test]
fn a_mounted_volume_grows_record_first_then_device_then_file_system() {
    let (catalog, kernel) = mounted_pg();
    let plan = resize(&catalog, &kernel, NewSize::To(Bytes::gib(20))).unwrap();
    let kinds: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(kinds, ["commit", "reload-dm", "grow-fs"]);
    assert_eq!(resize(&catalog, &kernel, NewSize::By(Bytes::gib(10))).unwrap(), plan);
}

#[test]
fn an_idle_volume_is_only_recorded_and_grows_at_its_next_mount() {
    let mut catalog = vg_with_volume();
    let kernel = kernel(&catalog, 1);
    let plan = resize(&catalog, &kernel, NewSize::By(Bytes(1))).unwrap();
    assert_eq!(plan.steps.len(), 1);
    apply(&mut catalog, &plan);
    let chunk = catalog.pools().next().unwrap().chunk_size;
    assert_eq!(pg(&catalog).size, Bytes(Bytes::gib(10).get() + chunk.get()), "rounded up to a chunk");
    let plan = mount::mount(&catalog, &kernel, pg(&catalog), Path::new("/srv/pg"), false).unwrap();
    assert_eq!(text(&plan).last().unwrap(), "grow the ext4 at /srv/pg, if it is smaller than its device");
    let plan = mount::mount(&catalog, &kernel, pg(&catalog), Path::new("/srv/pg"), true).unwrap();
    assert!(text(&plan).last().unwrap().starts_with("mount pg"), "nothing is grown that cannot be written to");
}

#[test]
fn a_resize_that_was_cut_short_goes_on_where_it_was() {
    let (mut catalog, mut kernel) = mounted_pg();
    let plan = resize(&catalog, &kernel, NewSize::To(Bytes::gib(20))).unwrap();
    apply(&mut catalog, &plan);
    let kinds = |catalog: &Catalog, kernel: &Kernel, fs| -> Vec<&str> {
        let plan = fs::resize(catalog, kernel, pg(catalog), NewSize::To(Bytes::gib(20)), fs).unwrap();
        plan.steps.iter().map(|step| step.action.kind()).collect()
    };
    assert_eq!(kinds(&catalog, &kernel, state(Bytes::gib(10))), ["reload-dm", "grow-fs"]);
    let device = Device::Volume(pg(&catalog).id);
    kernel.dm.get_mut(&device).unwrap().len = Bytes::gib(20).to_sectors().unwrap();
    assert_eq!(kinds(&catalog, &kernel, state(Bytes::gib(10))), ["grow-fs"]);
    assert_eq!(kinds(&catalog, &kernel, state(Bytes::gib(20))), [""; 0]);
    assert_eq!(kinds(&catalog, &kernel, None), ["grow-fs"], "what is not known is looked at");
}

#[test]
fn a_device_that_is_longer_than_its_volume_is_left_alone() {
    let (catalog, mut kernel) = mounted_pg();
    let device = Device::Volume(pg(&catalog).id);
    kernel.dm.get_mut(&device).unwrap().len = Bytes::gib(30).to_sectors().unwrap();
    let plan = fs::resize(&catalog, &kernel, pg(&catalog), NewSize::To(Bytes::gib(20)), state(Bytes::gib(30))).unwrap();
    assert!(!plan.steps.iter().any(|step| step.action.kind() == "reload-dm"), "{plan:?}");
}

#[test]
fn what_cannot_grow_is_refused() {
    let (catalog, kernel) = mounted_pg();
    let refused = |catalog: &Catalog, kernel: &Kernel, new, code, word: &str| {
        let refusal = resize(catalog, kernel, new).unwrap_err();
        assert!(refusal.code == code && refusal.message.contains(word), "{refusal:?}");
    };
    let to = |size| NewSize::To(size);
    refused(&catalog, &kernel, to(Bytes::gib(5)), RefusalCode::Refused, "cannot be made smaller");
    refused(&catalog, &kernel, to(Bytes::ZERO), RefusalCode::Invalid, "above zero");
    refused(&catalog, &kernel, to(Bytes(u64::MAX)), RefusalCode::Invalid, "more than a block device");
    refused(&catalog, &kernel, NewSize::By(Bytes(u64::MAX)), RefusalCode::Invalid, "more than a block device");
    refused(&catalog, &kernel, to(Bytes(1 << 55)), RefusalCode::NoSpace, "over-commit");
    let usage_with = |change: &dyn Fn(&mut vol_core::observed::PoolUsage)| {
        let mut kernel = kernel.clone();
        for status in kernel.pools.values_mut() {
            let PoolStatus::Working(usage) = status else { continue };
            change(usage);
        }
        kernel
    };
    let twenty = to(Bytes::gib(20));
    let full = usage_with(&|usage| usage.used_data = usage.total_data);
    refused(&catalog, &full, twenty, RefusalCode::NoSpace, "full");
    let sick = usage_with(&|usage| usage.needs_check = true);
    refused(&catalog, &sick, twenty, RefusalCode::Degraded, "needs a check");
    let other = usage_with(&|usage| usage.transaction_id = 77);
    refused(&catalog, &other, twenty, RefusalCode::Degraded, "transaction 77");
    let frozen = usage_with(&|usage| usage.mode = PoolMode::ReadOnly);
    refused(&catalog, &frozen, twenty, RefusalCode::Degraded, "read-only");
    let mut suspended = kernel.clone();
    suspended.dm.get_mut(&Device::Volume(pg(&catalog).id)).unwrap().suspended = true;
    refused(&catalog, &suspended, twenty, RefusalCode::Degraded, "suspended");
    let of = Snapshot { of: pg(&catalog).id, of_name: name("pg") };
    let snapshot = Volume { snapshot: Some(of), name: name("before"), ..pg(&catalog).clone() };
    let refusal = fs::resize(&catalog, &kernel, &snapshot, twenty, None).unwrap_err();
    assert!(refusal.message.contains("snapshot"), "{refusal:?}");
    let deleting = Volume { state: VolumeState::Deleting, ..pg(&catalog).clone() };
    assert_eq!(fs::resize(&catalog, &kernel, &deleting, twenty, None).unwrap_err().code, RefusalCode::Busy);
}

#[test]
fn the_size_limit_of_a_file_system_holds_for_growing_too() {
    let mut catalog = vg_with_volume();
    let pool = Pool { overcommit_percent: u32::MAX, ..catalog.pools().next().unwrap().clone() };
    let sequence = catalog.sequence() + 1;
    catalog.commit(sequence, vec![Change::Put(Object::Pool(pool))]);
    let kernel = kernel(&catalog, 1);
    let most = FsKind::Ext4.size_max();
    let refusal = resize(&catalog, &kernel, NewSize::To(Bytes(most.get() + 1))).unwrap_err();
    assert!(refusal.code == RefusalCode::Invalid && refusal.message.contains("too large for ext4"), "{refusal:?}");
    assert!(volume::table(&catalog, pg(&catalog)).unwrap().len() > Sectors::ZERO);
}

#[test]
fn a_volume_that_is_to_be_checked_is_before_it_is_mounted_and_the_record_ends_with_that() {
    let catalog = vg_with_volume();
    let kernel = kernel(&catalog, 1);
    let marked = Volume { check_fs: true, ..pg(&catalog).clone() };
    let plan = mount::mount(&catalog, &kernel, &marked, Path::new("/srv/pg"), false).unwrap();
    let kinds: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(kinds, ["create-dm", "check-fs", "commit", "mount", "grow-fs"]);
    // For reading it is mounted at once, and not even its journal is touched.
    let plan = mount::mount(&catalog, &kernel, &marked, Path::new("/srv/pg"), true).unwrap();
    assert!(text(&plan)[0].contains("read-only") && text(&plan)[1].contains("ro without the journal"), "{plan:?}");
    assert_eq!(plan.steps.len(), 2);
}

#[test]
fn only_an_idle_volume_with_a_file_system_of_ours_is_checked() {
    let (catalog, busy) = mounted_pg();
    let idle = kernel(&catalog, 1);
    let kinds = |volume: &Volume| -> Vec<&str> {
        let plan = fs::check(&catalog, &idle, volume, false).unwrap();
        plan.steps.iter().map(|step| step.action.kind()).collect()
    };
    assert_eq!(kinds(pg(&catalog)), ["create-dm", "check-fs", "remove-dm"]);
    let marked = Volume { check_fs: true, ..pg(&catalog).clone() };
    assert_eq!(kinds(&marked), ["create-dm", "check-fs", "remove-dm", "commit"]);
    assert_eq!(fs::check(&catalog, &busy, pg(&catalog), false).unwrap_err().code, RefusalCode::Busy);
    let raw = Volume { content: Content::Raw, ..pg(&catalog).clone() };
    assert_eq!(fs::check(&catalog, &idle, &raw, false).unwrap_err().code, RefusalCode::Invalid);
    let btrfs = Volume { content: Content::Formatted { fs: FsKind::Btrfs, uuid: [1; 16] }, ..pg(&catalog).clone() };
    assert_eq!(fs::check(&catalog, &idle, &btrfs, true).unwrap_err().code, RefusalCode::Refused);
    assert!(fs::check(&catalog, &idle, &btrfs, false).is_ok());
}

#[test]
fn only_a_writable_mount_is_trimmed() {
    let (catalog, mut kernel) = mounted_pg();
    assert_eq!(fs::trim(&catalog, &kernel, pg(&catalog)).unwrap(), Path::new("/srv/pg"));
    kernel.mounts[0].read_only = true;
    assert!(fs::trim(&catalog, &kernel, pg(&catalog)).unwrap_err().message.contains("not mounted writable"));
    let raw = Volume { content: Content::Raw, ..pg(&catalog).clone() };
    assert!(fs::trim(&catalog, &kernel, &raw).unwrap_err().hint.unwrap().contains("fstrim"));
}
