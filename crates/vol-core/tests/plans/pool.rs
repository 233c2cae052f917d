use vol_core::RefusalCode;
use vol_core::plan::{Kernel, pool};
use vol_types::*;

use super::fixture::*;

fn create(size: &str) -> Result<vol_core::Plan, vol_core::Refusal> {
    pool::create(&empty_vg(), &Kernel::default(), &[], &pool_request(size))
}

#[test]
fn a_pool_is_recorded_before_the_kernel_sees_it_and_ready_after() {
    let plan = create("80%FREE").unwrap();
    let kinds: Vec<_> = plan.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(kinds, ["commit", "create-dm", "zero-start", "create-dm", "create-dm", "check-pool", "commit"]);
}

#[test]
fn a_share_of_the_free_space_includes_the_metadata() {
    let mut catalog = empty_vg();
    let plan = pool::create(&catalog, &Kernel::default(), &[], &pool_request("100%FREE")).unwrap();
    apply(&mut catalog, &plan);
    // As many as the metadata have are left for a repair.
    let tank = catalog.pool_named(&name("tank")).unwrap();
    assert_eq!(catalog.free_extents_total(), vol_core::dm::extents_of(&tank.metadata));
    let mut catalog = empty_vg();
    let plan = pool::create(&catalog, &Kernel::default(), &[], &pool_request("80%FREE")).unwrap();
    apply(&mut catalog, &plan);
    assert_eq!(catalog.free_extents_total(), Extents(400));
}

#[test]
fn a_size_in_bytes_is_the_size_of_the_data() {
    let mut catalog = empty_vg();
    let plan = pool::create(&catalog, &Kernel::default(), &[], &pool_request("1G")).unwrap();
    apply(&mut catalog, &plan);
    let tank = catalog.pool_named(&name("tank")).unwrap();
    assert_eq!(catalog.pool_data_size(tank), Bytes::gib(1));
    assert_eq!(catalog.pool_metadata_size(tank), Bytes::mib(8));
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let code = |size| create(size).unwrap_err().code;
    assert_eq!(code("1T"), RefusalCode::NoSpace);
    assert_eq!(code("15E"), RefusalCode::NoSpace);
    assert_eq!(code("1M"), RefusalCode::Invalid);
}

#[test]
fn a_chunk_size_that_the_kernel_would_refuse_is_refused() {
    for (chunk, allowed) in [(Bytes(65536), true), (Bytes(65537), false), (Bytes(32768), false), (Bytes::gib(2), false)]
    {
        let mut request = pool_request("1G");
        request.chunk_size = Some(chunk);
        let result = pool::create(&empty_vg(), &Kernel::default(), &[], &request);
        assert_eq!(result.is_ok(), allowed, "{chunk:?}");
    }
}

#[test]
fn larger_pools_get_larger_chunks_so_that_metadata_stays_small() {
    assert_eq!(pool::default_chunk_size(Bytes::gib(10)), Bytes(65536));
    assert_eq!(pool::default_chunk_size(Bytes(Bytes::TIB)), Bytes(262_144));
    assert_eq!(pool::default_chunk_size(Bytes(u64::MAX)), limit::CHUNK_SIZE_MAX);
}

#[test]
fn missing_disks_are_not_allocated_from() {
    let catalog = empty_vg();
    let gone = catalog.pvs().next().unwrap().id;
    let mut after = catalog.clone();
    let plan = pool::create(&catalog, &Kernel::default(), &[gone], &pool_request("100%FREE")).unwrap();
    apply(&mut after, &plan);
    assert_eq!(after.used_extents(gone), Extents(0));
}

#[test]
fn a_pool_that_holds_something_is_not_deleted() {
    let catalog = vg_with_volume();
    let tank = catalog.pool_named(&name("tank")).unwrap();
    let refusal = pool::delete(&catalog, &kernel(&catalog, 1), tank).unwrap_err();
    assert_eq!((refusal.code, refusal.message.as_str()), (RefusalCode::Busy, "pool data/tank still holds data/pg"));
}

#[test]
fn a_pool_goes_top_first() {
    let catalog = vg_with_pool();
    let tank = catalog.pool_named(&name("tank")).unwrap();
    let plan = pool::delete(&catalog, &kernel(&catalog, 0), tank).unwrap();
    let lines = text(&plan);
    assert!(lines[1].ends_with("-tpool") && lines[2].ends_with("-tdata") && lines[3].ends_with("-tmeta"), "{lines:?}");
}
