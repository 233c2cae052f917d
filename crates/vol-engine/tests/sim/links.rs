//! The names below `/dev/volumed` that udev is told of.

use vol_core::dm::Device;
use vol_engine::host::HostErrorKind;
use vol_engine::{Done, Engine};
use vol_sim::{EffectKind, Fault, SimHost};
use vol_types::*;

use super::bench::*;

/// What all devices are called that are called anything.
fn links(host: &SimHost, engine: &Engine<SimHost>) -> Vec<String> {
    engine.refresh();
    let devices: Vec<Device> =
        engine.vgs().iter().flat_map(|vg| vg.view().kernel.dm.keys().copied().collect::<Vec<_>>()).collect();
    let mut links: Vec<_> = devices.iter().filter_map(|device| host.link_of(&device.uuid())).collect();
    links.sort();
    links
}

/// A pool with the volume `pg`, which has a file system, and its snapshot `s`, both active.
fn active() -> (SimHost, Engine<SimHost>) {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    engine.create_volume(&volume_request("pg", Some(FsKind::Ext4)), false).unwrap();
    assert_eq!(links(&host, &engine), Vec::<String>::new(), "what is only formatted is handed out to nobody");
    engine.create_snapshot(&"data/pg@s".parse().unwrap(), false).unwrap();
    for one in ["pg", "pg@s"] {
        assert!(matches!(engine.activate(&name("data"), &volume(one), false), Ok(Done::Changed(_))));
        assert!(matches!(engine.activate(&name("data"), &volume(one), false), Ok(Done::Unchanged(_))));
    }
    (host, engine)
}

#[test]
fn a_link_follows_the_names_of_its_volume_its_snapshot_and_its_group() {
    let (host, engine) = active();
    assert_eq!(links(&host, &engine), ["data/pg", "data/pg@s"]);
    engine.rename_volume(&name("data"), &volume("pg"), &name("db"), false).unwrap();
    assert_eq!(links(&host, &engine), ["data/db", "data/db@s"]);
    engine.rename_volume(&name("data"), &volume("db@s"), &name("old"), false).unwrap();
    engine.rename_vg(&name("data"), &name("store"), true).unwrap();
    assert_eq!(links(&host, &engine), ["data/db", "data/db@old"]);
    engine.rename_vg(&name("data"), &name("store"), false).unwrap();
    assert_eq!(links(&host, &engine), ["store/db", "store/db@old"]);
    engine.detach(&name("store"), &volume("db"), false).unwrap();
    assert_eq!(links(&host, &engine), ["store/db@old"]);
}

#[test]
fn a_daemon_that_died_before_the_link_followed_brings_it_up_to_date_at_the_next_start() {
    let (host, engine) = active();
    host.fail_next(EffectKind::DmLink, Fault::KillDaemonBefore);
    _ = engine.rename_volume(&name("data"), &volume("pg"), &name("db"), false);
    host.restart();
    let engine = start(&host);
    assert_eq!(links(&host, &engine), ["data/db", "data/db@s"]);
    let before = host.effects();
    let engine = start(&host);
    assert_eq!(links(&host, &engine), ["data/db", "data/db@s"]);
    let linked = host.effect_log().iter().any(|effect| effect.number > before && effect.kind == EffectKind::DmLink);
    assert!(!linked, "a link that is right was set again");
}

#[test]
fn a_full_run_costs_links_and_nothing_else() {
    let host = Op::CreateFormatted.before();
    let engine = start(&host);
    engine.create_volume(&volume_request("pg", Some(FsKind::Ext4)), false).unwrap();
    host.fill_run(true);
    engine.mount(&name("data"), &volume("pg"), "/srv/pg".as_ref(), false, false).unwrap();
    engine.rename_volume(&name("data"), &volume("pg"), &name("db"), false).unwrap();
    assert_eq!(links(&host, &engine), Vec::<String>::new());
    host.fill_run(false);
    let engine = start(&host);
    assert_eq!(links(&host, &engine), ["data/db"]);
    host.fail_next(EffectKind::DmLink, Fault::Error(HostErrorKind::Io));
    engine.rename_volume(&name("data"), &volume("db"), &name("pg"), false).unwrap();
    assert_eq!(links(&host, &engine), ["data/db"]);
}

#[test]
fn a_volume_with_a_file_system_is_activated_and_still_neither_attached_nor_deleted_in_use() {
    let (host, engine) = active();
    let dev = engine.vgs()[0]
        .view()
        .kernel
        .dm
        .iter()
        .find(|(_, info)| !info.read_only && info.uuid.len() == 44)
        .unwrap()
        .1
        .dev;
    // As /etc/fstab has it mounted.
    host.foreign_mount(dev, "/srv/pg", "ext4");
    engine.refresh();
    for refused in [
        engine.attach(&name("data"), &volume("pg"), false).unwrap_err(),
        engine.detach(&name("data"), &volume("pg"), false).unwrap_err(),
        engine.delete_volume(&name("data"), &volume("pg"), false).unwrap_err(),
    ] {
        assert!(refused.to_string().contains("data/pg"), "{refused}");
    }
    let mounted = engine.mount(&name("data"), &volume("pg"), "/srv/pg".as_ref(), false, false).unwrap();
    assert!(matches!(mounted, Done::Unchanged(_)), "it is mounted there already, whoever did it");
}
