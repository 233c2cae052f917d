//! Thin pools: metadata, messages, modes.

use vol_core::dm::Device;
use vol_core::observed::{PoolMode, PoolStatus, ThinStatus};
use vol_engine::host::{HostErrorKind, HostMut, HostRead};
use vol_sim::{CrashMode, Damage, EffectKind, Fault, SimPoolMode};
use vol_types::Sectors;

use crate::machine::{CHUNK, Pool, dev, host, kind, line, volume};

const SDA: &str = "/dev/sda";
/// Where the metadata of [`Pool`] begin.
const METADATA: u64 = 2048 * 512;

#[test]
fn zeros_make_a_fresh_pool_and_anything_else_is_refused() {
    let host = host();
    host.poke(SDA, METADATA, b"junk");
    let pool = Pool::of_size(&host, 256, 8192);
    assert_eq!(kind(pool.activate()), HostErrorKind::Invalid);
    assert_eq!(host.dm_device(&pool.uuid()).expect("info"), None);
    let metadata = host.dm_device(&Device::PoolMetadata(pool.id).uuid()).expect("info").expect("there");
    host.zero_device(metadata.dev, 0, 4096).expect("zero");
    pool.activate().expect("activate");
    let usage = pool.usage();
    assert_eq!((usage.transaction_id, usage.total_metadata, usage.total_data), (0, 1024, 256));
    assert_eq!((usage.mode, usage.needs_check, usage.used_data), (PoolMode::ReadWrite, false, 0));
}

#[test]
fn messages_answer_as_the_kernel_does() {
    let host = host();
    let pool = Pool::new(&host);
    for (message, expected) in [
        ("create_thin 1", None),
        ("create_thin 1", Some(HostErrorKind::Exists)),
        ("create_snap 2 1", None),
        ("create_snap 2 1", Some(HostErrorKind::Exists)),
        ("create_snap 3 9", Some(HostErrorKind::NotFound)),
        ("delete 9", Some(HostErrorKind::NotFound)),
        ("set_transaction_id 0 1", None),
        ("set_transaction_id 0 1", Some(HostErrorKind::Invalid)),
        ("create_thin 16777216", Some(HostErrorKind::Invalid)),
        ("create_thin", Some(HostErrorKind::Invalid)),
        ("make_coffee", Some(HostErrorKind::Invalid)),
        ("delete 2", None),
    ] {
        assert_eq!(pool.message(message).err().map(|error| error.kind), expected, "{message}");
    }
    assert_eq!(pool.ids(), [1]);
    assert_eq!(pool.usage().transaction_id, 1);
    assert_eq!(kind(host.dm_message(&Device::PoolData(pool.id).uuid(), "create_thin 5")), HostErrorKind::Invalid);
    assert!(host.violations().is_empty());
}

#[test]
fn an_open_thin_cannot_be_deleted_and_a_missing_one_not_opened() {
    let host = host();
    let pool = Pool::new(&host);
    assert_eq!(kind(pool.open_thin(1)), HostErrorKind::Io);
    assert_eq!(host.dm_device(&volume(1).uuid()).expect("info"), None);
    pool.message("create_thin 1").expect("create");
    let info = pool.open_thin(1).expect("open");
    assert_eq!(host.thin_status(&info.uuid).expect("status"), ThinStatus::Working { mapped: Sectors(0) });
    assert_eq!(kind(pool.message("delete 1")), HostErrorKind::Busy);
    assert_eq!(kind(host.dm_remove(&pool.uuid())), HostErrorKind::Busy);
    host.dm_remove(&info.uuid).expect("remove");
    pool.message("delete 1").expect("delete");
}

#[test]
fn a_pool_comes_back_after_a_power_cut_as_it_was_committed() {
    let host = host();
    let pool = Pool::new(&host);
    pool.message("create_thin 1").expect("create");
    pool.message("set_transaction_id 0 1").expect("id");
    pool.snapshot(2, 1, false).expect("snapshot");
    host.crash(CrashMode::LoseAll);
    host.restart();
    assert!(host.dm_devices().expect("list").is_empty());
    pool.bring_up();
    let view = host.pool(&pool.uuid()).expect("pool");
    assert_eq!((view.transaction_id, view.clock), (1, 1));
    assert_eq!((view.thins[&2].origin, view.thins[&2].created_transaction), (Some(1), 1));
}

#[test]
fn an_old_image_of_the_disk_brings_the_old_pool_back() {
    let host = host();
    let pool = Pool::new(&host);
    pool.message("create_thin 1").expect("create");
    let old = host.disk_image(SDA);
    pool.message("create_thin 2").expect("create");
    host.crash(CrashMode::LoseAll);
    host.set_disk_image(SDA, &old);
    host.restart();
    pool.bring_up();
    assert_eq!(pool.ids(), [1]);
}

#[test]
fn a_damaged_superblock_is_refused() {
    let host = host();
    let pool = Pool::new(&host);
    host.dm_remove(&pool.uuid()).expect("remove");
    host.damage(SDA, METADATA + 40, 100, Damage::BitFlip);
    assert_eq!(kind(pool.activate()), HostErrorKind::Invalid);
}

#[test]
fn a_message_whose_commit_failed_returns_success_and_leaves_the_pool_read_only() {
    for (fault, kept) in [(Fault::MessageCommitFails, false), (Fault::MessageCommitFailsLate, true)] {
        let host = host();
        let pool = Pool::new(&host);
        host.fail_next(EffectKind::DmMessage, fault);
        pool.message("create_thin 1").expect("the lie");
        let usage = pool.usage();
        assert_eq!((usage.mode, usage.needs_check), (PoolMode::ReadOnly, true));
        assert_eq!(pool.ids().contains(&1), kept);
        assert_eq!(kind(pool.message("create_thin 2")), HostErrorKind::Unsupported);
        // It stays so over a power cut, until somebody repairs it.
        host.crash(CrashMode::KeepAll);
        host.restart();
        pool.bring_up();
        assert_eq!((pool.usage().mode, pool.usage().needs_check), (PoolMode::ReadOnly, true));
        assert_eq!(kind(pool.message("create_thin 2")), HostErrorKind::Unsupported);
        host.repair_pool(&pool.uuid()).expect("repair");
        host.dm_remove(&pool.uuid()).expect("remove");
        pool.activate().expect("activate");
        assert_eq!((pool.usage().mode, pool.usage().needs_check), (PoolMode::ReadWrite, false));
        assert_eq!(pool.ids().contains(&1), kept);
    }
}

#[test]
fn a_disk_that_refuses_writes_fails_the_commit_and_one_that_is_gone_fails_the_pool() {
    let host = host();
    let pool = Pool::new(&host);
    host.fail_device(SDA, Fault::Error(HostErrorKind::Io));
    pool.message("create_thin 1").expect("the kernel throws the commit's result away");
    assert_eq!((pool.usage().mode, pool.ids()), (PoolMode::ReadOnly, vec![]));
    host.heal_device(SDA);
    host.crash(CrashMode::LoseAll);
    host.restart();
    pool.bring_up();
    assert!(!pool.usage().needs_check, "the flag could not be written");
    host.remove_disk(SDA);
    pool.message("create_thin 1").expect("the same lie");
    assert_eq!(host.pool_status(&pool.uuid()).expect("status"), PoolStatus::Fail);
}

#[test]
fn every_bad_mode_refuses_all_messages_but_want_of_data_space_does_not() {
    for (mode, allowed) in [
        (SimPoolMode::OutOfDataSpace, true),
        (SimPoolMode::OutOfMetadataSpace, false),
        (SimPoolMode::ReadOnly, false),
        (SimPoolMode::Fail, false),
    ] {
        let host = host();
        let pool = Pool::new(&host);
        pool.message("create_thin 1").expect("create");
        host.set_pool_mode(&pool.uuid(), mode);
        assert_eq!(pool.message("delete 1").is_ok(), allowed, "{mode:?}");
    }
}

#[test]
fn a_pool_that_is_out_of_data_recovers_when_data_are_freed_or_added() {
    let host = host();
    let pool = Pool::of_size(&host, 8, 8192);
    pool.activate().expect("activate");
    pool.message("create_thin 1").expect("create");
    pool.message("create_thin 2").expect("create");
    let [one, two] = [1, 2].map(|id| pool.open_thin(id).expect("open").uuid);
    host.fill(&one, 8).expect("fill");
    assert_eq!(pool.usage().used_data, 8);
    assert_eq!(host.thin_status(&one).expect("status"), ThinStatus::Working { mapped: Sectors(8 * CHUNK) });
    assert_eq!(kind(host.fill(&two, 1)), HostErrorKind::NoSpace);
    assert_eq!(pool.usage().mode, PoolMode::OutOfDataSpace);
    host.dm_remove(&one).expect("remove");
    pool.message("delete 1").expect("delete");
    assert_eq!((pool.usage().mode, pool.usage().used_data), (PoolMode::ReadWrite, 0));
    host.fill(&two, 8).expect("fill");
    assert_eq!(kind(host.fill(&two, 1)), HostErrorKind::NoSpace);
    let data = line(16 * CHUNK, "linear", format!("{} 16384", dev(&host, SDA)));
    host.dm_reload(&Device::PoolData(pool.id).uuid(), &data).expect("grow data");
    host.dm_reload(&pool.uuid(), &pool.table(16)).expect("grow pool");
    assert_eq!((pool.usage().mode, pool.usage().total_data), (PoolMode::ReadWrite, 16));
    host.fill(&two, 1).expect("fill");
}

#[test]
fn a_snapshot_shares_its_blocks() {
    let host = host();
    let pool = Pool::new(&host);
    pool.message("create_thin 1").expect("create");
    let one = pool.open_thin(1).expect("open").uuid;
    host.fill(&one, 10).expect("fill");
    pool.snapshot(2, 1, true).expect("snapshot");
    let view = host.pool(&pool.uuid()).expect("pool");
    assert_eq!((pool.usage().used_data, view.thins[&2].mapped), (10, 10));
    host.dm_remove(&one).expect("remove");
    pool.message("delete 1").expect("delete");
    assert_eq!(pool.usage().used_data, 10);
    pool.message("delete 2").expect("delete");
    assert_eq!(pool.usage().used_data, 0);
}

#[test]
fn a_pool_without_metadata_space_takes_no_messages_until_it_grows() {
    let host = host();
    let pool = Pool::of_size(&host, 256, 128);
    pool.activate().expect("activate");
    let made = (0..100).take_while(|id| pool.message(&format!("create_thin {id}")).is_ok()).count();
    assert_eq!(made, 8, "16 blocks of metadata less what an empty pool takes");
    assert_eq!((pool.usage().mode, pool.usage().needs_check), (PoolMode::ReadOnly, false));
    let metadata = line(256, "linear", format!("{} 2048", dev(&host, SDA)));
    host.dm_reload(&Device::PoolMetadata(pool.id).uuid(), &metadata).expect("grow metadata");
    host.dm_reload(&pool.uuid(), &pool.table(256)).expect("reload");
    assert_eq!(pool.usage().mode, PoolMode::ReadWrite);
    pool.message("create_thin 100").expect("room again");
}

#[test]
fn a_running_pool_can_neither_shrink_nor_change_its_devices_nor_share_its_metadata() {
    let host = host();
    let pool = Pool::new(&host);
    assert_eq!(kind(host.dm_reload(&pool.uuid(), &line(8, "linear", "8:0 0".into()))), HostErrorKind::Invalid);
    let other = crate::machine::create(&host, volume(9), pool.table(256));
    assert_eq!(kind(other), HostErrorKind::Busy);
    assert!(host.suspended_devices().is_empty());
    // The kernel finds out only when it resumes; the host then puts the old table back.
    assert_eq!(kind(host.dm_reload(&pool.uuid(), &pool.table(128))), HostErrorKind::Invalid);
    assert!(host.suspended_devices().is_empty());
    assert_eq!(host.dm_table(&pool.uuid()).expect("table"), pool.table(256));
}

#[test]
fn a_foreign_hand_can_change_the_transaction_id_and_the_thins() {
    let host = host();
    let pool = Pool::new(&host);
    pool.message("create_thin 1").expect("create");
    host.set_transaction_id(&pool.uuid(), 77).expect("set");
    host.add_stray_thin(&pool.uuid(), 5).expect("stray");
    host.lose_thin(&pool.uuid(), 1).expect("lose");
    assert_eq!((pool.usage().transaction_id, pool.ids()), (77, vec![5]));
}

#[test]
fn an_id_that_was_used_may_not_come_back_and_every_second_creation_is_listed() {
    let host = host();
    let pool = Pool::new(&host);
    for message in ["create_thin 1", "delete 1", "create_thin 1"] {
        pool.message(message).expect("message");
    }
    assert!(host.violations().is_empty(), "never used: a redo by recovery");
    assert_eq!(host.recreated_ids(), [(pool.uuid(), 1)]);
    let info = pool.open_thin(1).expect("open");
    host.dm_remove(&info.uuid).expect("remove");
    for message in ["delete 1", "create_thin 1"] {
        pool.message(message).expect("message");
    }
    assert!(host.violations()[0].contains("created again"));
}

#[test]
fn a_transaction_id_that_does_not_go_up_by_one_is_a_violation() {
    let host = host();
    let pool = Pool::new(&host);
    pool.message("set_transaction_id 0 2").expect("the kernel does not mind");
    assert_eq!(host.violations().len(), 1);
}
