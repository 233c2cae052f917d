use vol_core::observed::{PoolMode, PoolStatus, PoolUsage};
use vol_core::plan::grow::{self, ExtendPool, SetPool};
use vol_core::plan::{Kernel, recover};
use vol_core::{Action, Catalog, Plan, Refusal, RefusalCode};
use vol_types::*;

use super::fixture::*;

fn request(data: Option<&str>, metadata: Option<&str>) -> ExtendPool {
    let spec = |text: &str| text.parse().unwrap();
    ExtendPool {
        name: name("tank"),
        data: data.map(spec),
        metadata: metadata.map(spec),
        placement: None,
        contiguous: false,
    }
}

fn tank(catalog: &Catalog) -> &Pool {
    catalog.pool_named(&name("tank")).unwrap()
}

/// The kernel, with what it says of the pool changed by `change`.
fn kernel_with(catalog: &Catalog, change: impl Fn(&mut PoolUsage)) -> Kernel {
    let mut kernel = kernel(catalog, 0);
    for status in kernel.pools.values_mut() {
        if let PoolStatus::Working(usage) = status {
            change(usage);
        }
    }
    kernel
}

fn extend(data: Option<&str>, metadata: Option<&str>) -> Result<Plan, Refusal> {
    let catalog = vg_with_pool();
    grow::extend(&catalog, &kernel_with(&catalog, |_| ()), &[], &request(data, metadata))
}

fn sizes_after(plan: &Plan) -> (Bytes, Bytes) {
    let mut catalog = vg_with_pool();
    apply(&mut catalog, plan);
    (catalog.pool_data_size(tank(&catalog)), catalog.pool_metadata_size(tank(&catalog)))
}

const BEFORE: (Bytes, Bytes) = (Bytes::mib(6392), Bytes::mib(8));

#[test]
fn a_pool_grows_in_its_record_first_then_below_then_itself() {
    let kinds = |plan: &Plan| plan.steps.iter().map(|step| step.action.kind()).collect::<Vec<_>>();
    let plan = extend(Some("+1G"), None).unwrap();
    assert_eq!(kinds(&plan), ["commit", "reload-dm", "reload-dm", "check-pool-size", "check-pool"]);
    let lines = text(&plan);
    assert!(lines[1].contains("-tdata to ") && lines[2].contains("-tpool to "), "{lines:?}");
    let plan = extend(Some("+1G"), Some("+4M")).unwrap();
    let lines = text(&plan);
    assert!(lines[1].contains("-tmeta") && lines[2].contains("-tdata") && lines[3].contains("-tpool"), "{lines:?}");
}

#[test]
fn sizes_are_what_was_asked_for_in_whole_extents() {
    let after = |data, metadata| sizes_after(&extend(data, metadata).unwrap());
    assert_eq!(sizes_after(&Plan::default()), BEFORE);
    assert_eq!(after(Some("+1G"), None), (Bytes::mib(6392 + 1024), Bytes::mib(8)));
    assert_eq!(after(Some("+1"), None), (Bytes::mib(6396), Bytes::mib(8)));
    assert_eq!(after(Some("7G"), None), (Bytes::gib(7), Bytes::mib(8)));
    assert_eq!(after(None, Some("64M")), (Bytes::mib(6392), Bytes::mib(64)));
    // 400 extents of 4 MiB are free.
    assert_eq!(after(Some("50%FREE"), None), (Bytes::mib(6392 + 800), Bytes::mib(8)));
    assert_eq!(after(Some("100%FREE"), None), (Bytes::mib(6392 + 1600 - 8), Bytes::mib(8)), "all but the spare");
    assert!(extend(Some("6392M"), None).unwrap().is_empty(), "it has that much already");
}

#[test]
fn what_is_kept_for_a_repair_is_given_to_metadata_only() {
    let refused = extend(Some("+1600M"), None).unwrap_err();
    assert!(refused.message.contains("8.00 MiB are kept for the metadata of its pools"), "{}", refused.message);
    assert!(refused.hint.unwrap().contains("ask for at most 1.55 GiB"));
    assert_eq!(sizes_after(&extend(Some("+1592M"), None).unwrap()).0, Bytes::mib(6392 + 1592));
    assert_eq!(sizes_after(&extend(None, Some("+1600M")).unwrap()).1, Bytes::mib(8 + 1600));
    let catalog = empty_vg();
    let create = |size: &str| {
        vol_core::plan::pool::create(&catalog, &vol_core::plan::Kernel::default(), &[], &pool_request(size))
    };
    let free = catalog.bytes(catalog.free_extents_total()).get() >> 20;
    create(&format!("{}M", free - 16)).unwrap();
    let refused = create(&format!("{}M", free - 12)).unwrap_err();
    assert!(refused.message.contains("are kept for the metadata of its pools"), "{}", refused.message);
}

#[test]
fn metadata_grow_with_the_data() {
    let mut catalog = empty_vg();
    let mut small = pool_request("1G");
    small.chunk_size = Some(Bytes(65536));
    let plan = vol_core::plan::pool::create(&catalog, &Kernel::default(), &[], &small).unwrap();
    apply(&mut catalog, &plan);
    assert_eq!(catalog.pool_metadata_size(tank(&catalog)), Bytes::mib(8));
    // 64 bytes for each of 2^17 chunks are 8 MiB; for what is above 8 GiB of data there must be more, but there is no space.
    let mut huge = catalog.clone();
    let pv = Pv { id: PvId::from_uuid(uuid(99)), extents: Extents(1 << 20), ..catalog.pvs().next().unwrap().clone() };
    huge.apply(Change::Put(Object::Pv(pv)));
    let plan = grow::extend(&huge, &kernel_with(&huge, |_| ()), &[], &request(Some("1T"), None)).unwrap();
    apply(&mut huge, &plan);
    assert_eq!(catalog.pool_data_size(tank(&huge)), Bytes(Bytes::TIB));
    assert_eq!(catalog.pool_metadata_size(tank(&huge)), Bytes::gib(1));
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |data, metadata| {
        let refusal = extend(data, metadata).unwrap_err();
        assert!(refusal.hint.is_some() || refusal.message.contains("kernel uses"), "{refusal:?}");
        (refusal.code, refusal.message)
    };
    let (code, message) = refused(Some("+2G"), None);
    assert!(code == RefusalCode::NoSpace && message.contains("by 2.00 GiB of data"), "{message}");
    assert!(message.ends_with("volume group data has 1.56 GiB free"), "{message}");
    assert_eq!(refused(Some("15E"), None).0, RefusalCode::NoSpace);
    assert_eq!(refused(Some("1G"), None).0, RefusalCode::Invalid);
    assert_eq!(refused(None, Some("4M")).0, RefusalCode::Invalid);
    assert_eq!(refused(None, None).0, RefusalCode::Invalid);
    let unknown = ExtendPool { name: name("no"), ..request(Some("+1G"), None) };
    let refusal = grow::extend(&vg_with_pool(), &Kernel::default(), &[], &unknown).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotFound);
}

#[test]
fn metadata_end_where_the_kernel_stops_using_them() {
    let mut catalog = vg_with_pool();
    let pv = Pv { id: PvId::from_uuid(uuid(99)), extents: Extents(1 << 20), ..catalog.pvs().next().unwrap().clone() };
    catalog.apply(Change::Put(Object::Pv(pv)));
    let kernel = kernel_with(&catalog, |_| ());
    let refusal = grow::extend(&catalog, &kernel, &[], &request(None, Some("16G"))).unwrap_err();
    assert!(refusal.message.contains("the kernel uses 15.9"), "{}", refusal.message);
    let plan = grow::extend(&catalog, &kernel, &[], &request(None, Some("15G"))).unwrap();
    apply(&mut catalog, &plan);
    assert_eq!(catalog.pool_metadata_size(tank(&catalog)), Bytes::gib(15));
}

#[test]
fn missing_disks_are_not_grown_onto() {
    let catalog = vg_with_pool();
    // All that is free is on the first disk.
    let first = catalog.pvs().next().unwrap().id;
    let refusal = grow::extend(&catalog, &Kernel::default(), &[first], &request(Some("+1G"), None)).unwrap_err();
    assert!(refusal.message.ends_with("0 B free on the disks that are there"), "{}", refusal.message);
    // The pool runs on, but its tables could not be loaded anew.
    let kernel = kernel_with(&catalog, |_| ());
    let second = catalog.pvs().last().unwrap().id;
    let refusal = grow::extend(&catalog, &kernel, &[second], &request(Some("+1G"), None)).unwrap_err();
    assert!(refusal.message.contains("a disk of pool data/tank is missing"), "{}", refusal.message);
}

#[test]
fn a_pool_that_is_down_is_only_recorded() {
    let catalog = vg_with_pool();
    let plan = grow::extend(&catalog, &Kernel::default(), &[], &request(Some("+1G"), None)).unwrap();
    assert_eq!(plan.steps.iter().map(|step| step.action.kind()).collect::<Vec<_>>(), ["commit"]);
}

#[test]
fn a_pool_that_the_kernel_would_not_let_grow_is_refused_and_one_without_metadata_is_not() {
    let catalog = vg_with_pool();
    let try_it = |change: fn(&mut PoolUsage)| {
        grow::extend(&catalog, &kernel_with(&catalog, change), &[], &request(None, Some("+64M")))
    };
    let refusal = try_it(|usage| (usage.mode, usage.needs_check) = (PoolMode::ReadOnly, true)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Degraded);
    assert!(refusal.message.contains("need a check"), "{}", refusal.message);
    let refusal = try_it(|usage| usage.mode = PoolMode::ReadOnly).unwrap_err();
    assert!(refusal.message.contains("read-only"), "{}", refusal.message);
    let refusal = try_it(|usage| usage.transaction_id = 7).unwrap_err();
    assert!(refusal.message.contains("transaction 7"), "{}", refusal.message);
    let mut failed = kernel_with(&catalog, |_| ());
    failed.pools.insert(tank(&catalog).id, PoolStatus::Fail);
    assert!(grow::extend(&catalog, &failed, &[], &request(Some("+1G"), None)).is_err());
    // Full metadata show as `ro` as well: growing is the way out.
    let plan = try_it(|usage| (usage.mode, usage.used_metadata) = (PoolMode::ReadOnly, usage.total_metadata)).unwrap();
    assert!(!plan.is_empty());
    assert!(!try_it(|usage| usage.mode = PoolMode::OutOfDataSpace).unwrap().is_empty());
}

#[test]
fn a_pool_whose_tables_are_behind_its_record_is_caught_up_with() {
    let mut catalog = vg_with_pool();
    let before = kernel_with(&catalog, |_| ());
    let plan = grow::extend(&catalog, &before, &[], &request(Some("+1G"), Some("+8M"))).unwrap();
    apply(&mut catalog, &plan);
    let next = |kernel: &Kernel, missing: &[PvId]| {
        recover::next(&catalog, kernel, missing, true, &Default::default(), IntentId::from_uuid(uuid(77)))
    };
    let recovery = next(&before, &[]).unwrap();
    assert_eq!(recovery.plan.steps, plan.steps[1..], "the same steps without the record");
    assert_eq!(next(&kernel_with(&catalog, |_| ()), &[]), None);
    // Not what cannot be: without a majority, with a disk missing, or when the kernel takes nothing.
    let frozen = recover::next(&catalog, &before, &[], false, &Default::default(), IntentId::from_uuid(uuid(77)));
    assert_eq!(frozen, None);
    let gone = catalog.pvs().next().unwrap().id;
    assert_eq!(next(&before, &[gone]), None);
    let mut sick = before.clone();
    if let Some(PoolStatus::Working(usage)) = sick.pools.values_mut().next() {
        (usage.mode, usage.needs_check) = (PoolMode::ReadOnly, true);
    }
    assert_eq!(next(&sick, &[]), None);
}

#[test]
fn a_policy_that_is_the_kernels_is_loaded_and_the_others_are_only_recorded() {
    let mut catalog = vg_with_pool();
    let none = SetPool::of(name("tank"));
    let set = |catalog: &Catalog, request: &SetPool| grow::set(catalog, &kernel_with(catalog, |_| ()), &[], request);
    assert!(set(&catalog, &none).unwrap().is_empty());
    let ours =
        SetPool { growth: Some(Growth::Off), reserve_percent: Some(0), overcommit_percent: Some(100), ..none.clone() };
    let plan = set(&catalog, &ours).unwrap();
    assert_eq!(plan.steps.len(), 1);
    apply(&mut catalog, &plan);
    let pool = tank(&catalog);
    assert_eq!((pool.growth, pool.reserve_percent, pool.overcommit_percent), (Growth::Off, 0, 100));
    assert!(set(&catalog, &ours).unwrap().is_empty(), "it is so already");
    let plan = set(&catalog, &SetPool { when_full: Some(WhenFull::Error), ..none.clone() }).unwrap();
    let loaded = plan.steps.iter().find_map(|step| match &step.action {
        Action::ReloadDm { table, .. } => {
            Some(table.resolve(|_| Some(vol_core::observed::DevNumber { major: 1, minor: 2 })))
        }
        _ => None,
    });
    assert!(loaded.unwrap().unwrap()[0].params.ends_with(" 1 error_if_no_space"));
    // Cut short after the record, it is caught up with.
    apply(&mut catalog, &plan);
    assert!(grow::is_behind(&catalog, tank(&catalog), kernel_with(&catalog, |_| ()).pools.values().next()));
    let strict = kernel_with(&catalog, |usage| usage.error_when_full = true);
    assert!(!grow::is_behind(&catalog, tank(&catalog), strict.pools.values().next()));
}

#[test]
fn a_policy_that_makes_no_sense_is_refused() {
    let catalog = vg_with_pool();
    let none = SetPool::of(name("tank"));
    let refused = |request: SetPool| {
        let refusal = grow::set(&catalog, &Kernel::default(), &[], &request).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Invalid);
        refusal.message
    };
    assert!(refused(SetPool { reserve_percent: Some(91), ..none.clone() }).contains("between 0 and 90"));
    assert!(refused(SetPool { overcommit_percent: Some(99), ..none.clone() }).contains("between 100 and"));
    let small = SetPool { growth: Some(Growth::UpTo(Bytes::gib(1))), ..none };
    assert!(refused(small).contains("cannot grow up to 1.00 GiB: it has 6.24 GiB"));
}

#[test]
fn a_pool_may_grow_as_far_as_its_bound_and_the_free_space_let_it() {
    let catalog = vg_with_pool();
    let room = |growth| grow::room(&catalog, &Pool { growth, ..tank(&catalog).clone() });
    // 1600 MiB are free; as much as the metadata have is left for them, to grow into and to be repaired onto.
    assert_eq!(room(Growth::VgSpace), Bytes::mib(1592));
    assert_eq!(room(Growth::Off), Bytes::ZERO);
    assert_eq!(room(Growth::UpTo(Bytes::mib(6392 + 100))), Bytes::mib(100));
    assert_eq!(room(Growth::UpTo(Bytes::mib(6392 + 3))), Bytes::ZERO, "an extent that is not whole is not given");
    assert_eq!(room(Growth::UpTo(Bytes::gib(100))), Bytes::mib(1592));
    assert_eq!(room(Growth::UpTo(Bytes::gib(1))), Bytes::ZERO);
}

/// What the pool `tank` of 80 % of the VG would grow by with so much of its 102,272 chunks in use.
fn demand(growth: Growth, used: u64, ahead: u64) -> grow::Demand {
    let catalog = vg_with_pool();
    let pool = Pool { growth, ..tank(&catalog).clone() };
    let Some(PoolStatus::Working(mut usage)) = kernel(&catalog, 0).pools.values().next().cloned() else { panic!() };
    usage.used_data = used;
    grow::demand(&catalog, &[], &pool, &usage, Bytes(ahead))
}

#[test]
fn a_pool_grows_ahead_of_demand_and_not_before() {
    let (all, none) = (102_272, grow::Demand::default());
    // A gibibyte is to be free of a pool of 6 GiB: 16,384 chunks.
    assert_eq!(demand(Growth::VgSpace, 0, 0), none);
    assert_eq!(demand(Growth::VgSpace, all - 16_384, 0), none);
    let grown = demand(Growth::VgSpace, all - 16_383, 0);
    assert_eq!((grown.data, grown.metadata, grown.unmet), (Extents(160), Extents(0), false), "a tenth, and an extent");
    // What half a gibibyte lacks to a whole one, and a tenth: 524 and 639.2 MiB.
    assert_eq!(demand(Growth::VgSpace, all - 8000, 0).data, Extents(291));
    // 3000 MiB may be written soon.
    assert_eq!(demand(Growth::VgSpace, all - 48_000, 3000 * Bytes::MIB), none);
    assert!(demand(Growth::VgSpace, all - 47_999, 3000 * Bytes::MIB).data > Extents(150));
    assert_eq!(demand(Growth::Off, all, 1 << 40), none);
}

#[test]
fn a_growth_ends_at_its_bound_and_at_the_end_of_the_space() {
    let all = 102_272;
    // 400 extents are free, of which 2 stay for the metadata.
    let most = demand(Growth::VgSpace, all, 1 << 40);
    assert_eq!((most.data, most.metadata, most.unmet), (Extents(398), Extents(0), false));
    let bounded = demand(Growth::UpTo(Bytes::mib(6392 + 41)), all, 1 << 40);
    assert_eq!((bounded.data, bounded.unmet), (Extents(10), false));
    let there = demand(Growth::UpTo(Bytes::mib(6392 + 3)), all, 1 << 40);
    assert_eq!((there.data, there.unmet), (Extents(0), false), "at its bound a pool is as it should be");
    // Nothing is free.
    let mut catalog = vg_with_pool();
    let kernel = kernel_with(&catalog, |_| ());
    let plan = grow::extend(&catalog, &kernel, &[], &request(Some("100%FREE"), None)).unwrap();
    apply(&mut catalog, &plan);
    let Some(PoolStatus::Working(mut usage)) = kernel_with(&catalog, |_| ()).pools.values().next().cloned() else {
        panic!()
    };
    usage.used_data = usage.total_data;
    let burst =
        grow::demand(&catalog, &[], tank(&catalog), &PoolUsage { used_data: 50_000, ..usage.clone() }, Bytes::gib(99));
    assert_eq!(burst, grow::Demand::default(), "half of it is free: a burst is no reason for an alarm");
    let none = grow::demand(&catalog, &[], tank(&catalog), &usage, Bytes::ZERO);
    assert_eq!(none, grow::Demand { unmet: true, ..grow::Demand::default() });
}

#[test]
fn metadata_that_fill_are_doubled_before_the_data_take_the_rest() {
    let catalog = vg_with_pool();
    let wanted = |used| {
        let Some(PoolStatus::Working(mut usage)) = kernel(&catalog, 0).pools.values().next().cloned() else { panic!() };
        usage.used_metadata = used;
        grow::demand(&catalog, &[], tank(&catalog), &usage, Bytes::ZERO).metadata
    };
    // 2048 blocks of 4 KiB are 2 extents.
    assert_eq!([wanted(1433), wanted(1434), wanted(2048)], [Extents(0), Extents(1), Extents(2)]);
}

#[test]
fn growth_without_being_asked_is_the_same_plan_and_none_when_nothing_is_needed() {
    let catalog = vg_with_pool();
    let id = tank(&catalog).id;
    let idle = grow::automatic(&catalog, &kernel_with(&catalog, |_| ()), &[], id, Bytes::ZERO).unwrap();
    assert!(idle.is_empty());
    let full = kernel_with(&catalog, |usage| usage.used_data = usage.total_data);
    let plan = grow::automatic(&catalog, &full, &[], id, Bytes::ZERO).unwrap();
    assert_eq!(plan.steps.iter().map(|step| step.action.kind()).collect::<Vec<_>>()[..2], ["commit", "reload-dm"]);
    let sick = kernel_with(&catalog, |usage| (usage.used_data, usage.needs_check) = (usage.total_data, true));
    assert!(grow::automatic(&catalog, &sick, &[], id, Bytes::ZERO).is_err());
}

#[test]
fn a_pool_with_no_more_than_its_reserve_makes_nothing_new() {
    use vol_core::plan::pool::has_room;
    let catalog = vg_with_pool();
    let with = |growth, reserve_percent, used: u64| {
        let pool = Pool { growth, reserve_percent, ..tank(&catalog).clone() };
        let kernel = kernel_with(&catalog, |usage| usage.used_data = used);
        has_room(&catalog, &kernel, &vol_core::plan::thin::Batch::default(), &pool).map_err(|refusal| {
            assert_eq!(refusal.code, RefusalCode::NoSpace);
            refusal.message
        })
    };
    // 5 % of 102,272 chunks are 5113 and a half.
    assert_eq!(with(Growth::Off, 5, 102_272 - 5114), Ok(()));
    let refused = with(Growth::Off, 5, 102_272 - 5113).unwrap_err();
    assert!(refused.contains("data/tank has 320 MiB of 6.24 GiB free; its reserve of 5 %"), "{refused}");
    assert_eq!(with(Growth::Off, 0, 102_271), Ok(()));
    assert!(with(Growth::Off, 0, 102_272).unwrap_err().contains("is full"));
    // What it may grow by is as good as free, until it is really full.
    assert_eq!(with(Growth::VgSpace, 5, 102_271), Ok(()));
    assert!(with(Growth::VgSpace, 5, 102_272).unwrap_err().contains("is full"));
    assert!(with(Growth::UpTo(Bytes::mib(6400)), 5, 102_271).unwrap_err().contains("cannot grow by more"));
}
