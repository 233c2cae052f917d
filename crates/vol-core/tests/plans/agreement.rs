use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use vol_core::observed::{PoolContents, PoolMode, PoolStatus, ThinRecord};
use vol_core::plan::agreement::{self, Findings};
use vol_core::plan::health::{self, Access, PoolHealth};
use vol_core::plan::thin::Batch;
use vol_core::plan::{Kernel, mount, volume};
use vol_core::{Catalog, RefusalCode};
use vol_types::*;

use super::fixture::*;

fn contents(transaction_id: u64, thins: &[(u32, u64)]) -> PoolContents {
    let record = |made: u64| ThinRecord { mapped_chunks: 3, transaction_id: made };
    let thins: BTreeMap<u32, ThinRecord> = thins.iter().map(|(id, made)| (*id, record(*made))).collect();
    PoolContents { transaction_id, clock: 0, needs_check: false, thins }
}

fn compare(catalog: &Catalog, contents: &PoolContents) -> Findings {
    agreement::compare(catalog, catalog.pools().next().unwrap(), contents)
}

fn found(kernel: &mut Kernel, catalog: &Catalog, findings: Findings) {
    kernel.findings.insert(catalog.pools().next().unwrap().id, Arc::new(findings));
}

fn explained(catalog: &Catalog, kernel: &Kernel) -> String {
    match health::explained(catalog, kernel, catalog.pools().next().unwrap()) {
        PoolHealth::Ok => String::new(),
        PoolHealth::Bad { message, .. } => message,
    }
}

/// A creation of thin id 2 whose intent is open, from transaction 1.
fn with_open_creation() -> Catalog {
    let mut catalog = vg_with_volume();
    let id = VolumeId::from_uuid(uuid(77));
    let request = volume::CreateVolume { id, ..volume_request("new", Bytes::gib(1)) };
    let kernel = kernel(&catalog, 1);
    let plan = plan_of(volume::create(&catalog, &kernel, &Batch::default(), &request).unwrap());
    let first = plan.commits().next().unwrap().clone();
    catalog.commit(catalog.sequence() + 1, first);
    catalog
}

#[test]
fn f31_what_only_one_side_has_is_found() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap();
    assert_eq!(compare(&catalog, &contents(1, &[(1, 0)])).strays.len(), 0);
    let findings = compare(&catalog, &contents(1, &[(7, 0), (9, 1)]));
    assert_eq!(findings.strays.keys().copied().collect::<Vec<_>>(), [7, 9]);
    assert_eq!(findings.lost.into_iter().collect::<Vec<_>>(), [pg.id]);
    assert_eq!(findings.highest, Some(9));
}

#[test]
fn f31_what_an_open_intent_is_making_is_no_stray_unless_it_was_there_before() {
    let catalog = with_open_creation();
    assert_eq!(compare(&catalog, &contents(1, &[(1, 0), (2, 1)])).strays.len(), 0, "made in the intent's transaction");
    assert_eq!(compare(&catalog, &contents(2, &[(1, 0), (2, 1)])).strays.len(), 0, "and after its swap");
    assert_eq!(compare(&catalog, &contents(1, &[(1, 0)])).lost.len(), 0, "not made yet is not lost");
    let older = compare(&catalog, &contents(1, &[(1, 0), (2, 0)]));
    assert_eq!(older.strays.into_keys().collect::<Vec<_>>(), [2]);
}

#[test]
fn f11_the_message_names_what_each_side_holds() {
    let catalog = with_open_creation();
    let mut kernel = kernel(&catalog, 40);
    found(&mut kernel, &catalog, compare(&catalog, &contents(40, &[(5, 30), (6, 31)])));
    assert_eq!(
        explained(&catalog, &kernel),
        "pool tank is at transaction 40 in the kernel, but at 1 in the volume group's metadata: one of them was changed by \
         somebody else or restored from an old copy; our metadata have an open change from transaction 1 to 2 (create 2); \
         only the kernel has thin ids 5, 6; only we have thin ids 1"
    );
    // At either side of the swap the intent is merely not settled.
    for id in [1, 2] {
        let kernel = super::fixture::kernel(&catalog, id);
        assert!(explained(&catalog, &kernel).contains("has an unfinished change that could not be settled"));
    }
}

#[test]
fn f11_a_refused_pool_that_answers_is_for_reading_and_one_that_does_not_is_closed() {
    let catalog = vg_with_volume();
    let tank = catalog.pools().next().unwrap();
    let pg = catalog.volumes().next().unwrap();
    let with = |status: Option<PoolStatus>| {
        let mut kernel = kernel(&catalog, 1);
        kernel.pools.clear();
        kernel.pools.extend(status.map(|status| (tank.id, status)));
        kernel
    };
    let working = |id, mode, needs_check| {
        with(Some(PoolStatus::Working(vol_core::observed::PoolUsage { mode, needs_check, ..usage(id) })))
    };
    let access = |kernel: &Kernel, read_only| health::access(&catalog, kernel, tank, read_only);
    for good in [working(1, PoolMode::ReadWrite, false), working(1, PoolMode::OutOfDataSpace, false)] {
        assert_eq!(access(&good, false), Ok(Access::Full));
        assert_eq!(access(&good, true), Ok(Access::Full));
    }
    for refused in [
        working(9, PoolMode::ReadWrite, false),
        working(1, PoolMode::ReadOnly, false),
        working(1, PoolMode::ReadOnly, true),
    ] {
        assert_eq!(access(&refused, true), Ok(Access::ReadOnly));
        assert_eq!(access(&refused, false).unwrap_err().code, RefusalCode::Degraded);
        let plan = mount::mount(&catalog, &refused, pg, Path::new("/mnt"), true).unwrap();
        let id = pg.id;
        let expected = [
            format!("activate volumed-{id} (thin 1, {} sectors, read-only)", pg.size.get() / 512),
            "mount pg at /mnt (ext4, ro without the journal,nosuid,nodev)".to_owned(),
        ];
        assert_eq!(text(&plan), expected);
    }
    for closed in [with(Some(PoolStatus::Fail)), with(Some(PoolStatus::Error)), with(None)] {
        assert_eq!(access(&closed, true).unwrap_err().code, RefusalCode::Degraded);
        mount::mount(&catalog, &closed, pg, Path::new("/mnt"), true).unwrap_err();
    }
}

#[test]
fn f31_counters_are_raised_and_never_lowered() {
    let catalog = vg_with_volume();
    let tank = catalog.pools().next().unwrap();
    let mut kernel = kernel(&catalog, 1);
    assert_eq!(agreement::raised(tank, &kernel), *tank);
    let ahead = PoolContents { clock: 500, ..contents(1, &[(1, 0), (90, 0)]) };
    found(&mut kernel, &catalog, compare(&catalog, &ahead));
    let raised = agreement::raised(tank, &kernel);
    assert_eq!((raised.next_thin_id, raised.snapshots_made), (91, 500));
    let before = Pool { next_thin_id: 200, snapshots_made: 900, ..tank.clone() };
    assert_eq!(agreement::raised(&before, &kernel), before);
    // Past the last id there is none to give out.
    let last = contents(1, &[(1, 0), (limit::THIN_ID_MAX, 0)]);
    found(&mut kernel, &catalog, compare(&catalog, &last));
    let refusal =
        volume::create(&catalog, &kernel, &Batch::default(), &volume_request("x", Bytes::gib(1))).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NoSpace);
}
