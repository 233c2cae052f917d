//! What a change costs, counted: operations hold on any machine, times do not.

use super::bench::*;

#[test]
fn a_raw_volume_costs_two_commits_of_one_block_a_copy_and_two_messages() {
    let host = Op::CreateRaw.before();
    let engine = start(&host);
    host.reset_counters();
    let before = engine.vgs()[0].view().counters;
    Op::CreateRaw.run(&engine).unwrap();
    let after = engine.vgs()[0].view().counters;
    assert_eq!(after.commits - before.commits, 2);
    assert_eq!(after.commit_bytes - before.commit_bytes, 2 * 4096);
    let counters = host.counters();
    assert_eq!((counters.messages, counters.flushes, counters.mkfs), (2, 4, 0), "two copies, two commits");
    for disk in ["/dev/sda", "/dev/sdb"] {
        assert_eq!(counters.bytes_written.get(std::path::Path::new(disk)).copied(), Some(2 * 4096), "{disk}");
    }
}

#[test]
fn a_commit_costs_the_same_at_a_thousand_volumes() {
    let host = Op::CreateRaw.before();
    host.keep_trace(false);
    let engine = start(&host);
    let mut sizes = std::collections::BTreeSet::new();
    for n in 0..600 {
        let mut request = volume_request(&format!("v{n}"), None);
        request.size = vol_types::Bytes::mib(64);
        let before = engine.vgs()[0].view().counters;
        engine.create_volume(&request, false).unwrap();
        let after = engine.vgs()[0].view().counters;
        sizes.insert((after.commits - before.commits, after.commit_bytes - before.commit_bytes));
    }
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [(2, 2 * 4096)]);
}

#[test]
fn a_read_is_no_effect_and_asks_the_kernel_nothing() {
    let host = Op::SnapshotMounted.before();
    let engine = start(&host);
    host.reset_counters();
    let effects = host.effects();
    for _ in 0..100 {
        inventory(&engine);
        engine.vgs()[0].view();
    }
    assert_eq!(host.effects(), effects);
    assert_eq!(host.counters().ioctls, 0);
    assert_eq!(host.counters().reads, 0);
}
