//! What container engines need, held against a simulated machine's mount tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vol_api::{Relabel, ReleaseRefs};
use vol_docker::Runtime::{self, Docker, Podman};
use vol_engine::host::{HostErrorKind, HostRead as _};

use super::*;
use crate::api::{Life as _, Refs as _};
use crate::backend::Unneeded;
use crate::runtimes::references::References;

const MOUNTS: &str = "/run/volumed/mounts";
const CONTAINER: &str = "process 12 (postgres) in a mount namespace";

fn info(backend: &Sim) -> VolumeInfo {
    backend.volume(&volume("data/pg")).unwrap()
}

fn id(backend: &Sim) -> VolumeId {
    info(backend).id.parse().unwrap()
}

fn path_of(backend: &Sim, runtime: Runtime) -> String {
    format!("{MOUNTS}/{runtime}/{}", info(backend).id)
}

/// As an engine's `Mount` comes to it.
fn mount(backend: &Sim, runtime: Runtime, mount_id: &str) {
    let references = backend.references();
    let mounting = references.mount(runtime, id(backend), mount_id).unwrap();
    outcome(backend.mount_volume(&volume("data/pg"), mount_at(&path_of(backend, runtime)), false));
    drop(mounting);
}

fn paths(backend: &Sim) -> Vec<String> {
    info(backend).mounts.into_iter().map(|mount| mount.path).collect()
}

fn release(volume: &str) -> ReleaseRefs {
    ReleaseRefs { volume: volume.into(), ..ReleaseRefs::default() }
}

#[test]
fn what_an_engine_needs_is_neither_unmounted_nor_deleted_nor_rolled_back() {
    let (_, backend) = furnished();
    done(backend.create_snapshot(snapshot_request("before"), false));
    mount(&backend, Docker, "a");
    mount(&backend, Docker, "a");
    let shown = info(&backend).references;
    assert_eq!(json(&shown), serde_json::json!([{"runtime": "docker", "count": 2, "unconfirmed": 0}]));
    let pg = volume("data/pg");
    for dry_run in [true, false] {
        for change in [
            failed(backend.unmount_volume(&pg, dry_run)),
            failed(backend.detach_volume(&pg, dry_run)),
            failed(backend.delete_volume(&pg, false, dry_run)),
            failed(backend.rollback(&snapshot("data/pg@before"), false, dry_run)),
        ] {
            let (code, message, hint) = change;
            assert_eq!((code, message.as_str()), ("busy", "data/pg is in use by docker (2 mount references)"));
            assert!(hint.contains("volctl refs list") && hint.contains("volctl refs release data/pg"), "{hint}");
        }
    }
    assert_eq!(paths(&backend), [path_of(&backend, Docker)]);
    let planned = planned(backend.release_refs(release("data/pg"), true));
    assert_eq!(planned.steps.len(), 2, "{planned:?}");
    let released = done(backend.release_refs(release("data/pg"), false));
    assert_eq!((released.released.len(), released.left, released.unmounted), (1, 0, true));
    assert!(paths(&backend).is_empty());
    assert!(!outcome(backend.release_refs(release("data/pg"), false)).changed);
    done(backend.rollback(&snapshot("data/pg@before"), false, false));
    done(backend.delete_volume(&pg, false, false));
}

#[test]
fn references_of_a_volume_that_is_mounted_nowhere_hold_up_nobody() {
    let (_, backend) = furnished();
    let references = backend.references();
    let mounting = references.mount(Docker, id(&backend), "a").unwrap();
    let (code, ..) = failed(backend.delete_volume(&volume("data/pg"), false, false));
    assert_eq!(code, "busy", "it is just being mounted");
    drop(mounting);
    planned(backend.delete_volume(&volume("data/pg"), false, true));
    planned(backend.unmount_volume(&volume("data/pg"), true));
    assert_eq!(references.all().len(), 1, "a dry run changes nothing");
    done(backend.delete_volume(&volume("data/pg"), false, false));
    assert!(references.all().is_empty());
}

#[test]
fn the_last_reference_takes_the_mount_with_it_and_no_mount_of_others() {
    let (_, backend) = furnished();
    done(backend.mount_volume(&volume("data/pg"), mount_at("/srv/pg"), false));
    mount(&backend, Docker, "a");
    mount(&backend, Podman, "b");
    let (references, pg) = (backend.references(), id(&backend));
    assert_eq!(references.unmount(Docker, pg, "a").left_of_volume, 1);
    assert_eq!(backend.unmount_unneeded(pg), Unneeded::Needed);
    assert_eq!(paths(&backend).len(), 3);
    assert_eq!(references.unmount(Podman, pg, "b").left_of_volume, 0);
    assert_eq!(backend.unmount_unneeded(pg), Unneeded::Gone);
    assert_eq!(paths(&backend), ["/srv/pg"]);
    assert_eq!(backend.unmount_unneeded(pg), Unneeded::Gone, "again is the same");
    done(backend.unmount_volume(&volume("data/pg"), false));
}

#[test]
fn a_mount_that_a_container_still_has_stays_until_it_ends() {
    let (host, backend) = furnished();
    mount(&backend, Docker, "a");
    let (references, pg) = (backend.references(), id(&backend));
    let device = device_of(&info(&backend));
    host.hold_device(&device, Some(CONTAINER));
    // docker cp into a container that ran on while dockerd was away.
    references.activated(Docker);
    mount(&backend, Docker, "a");
    assert_eq!(references.unmount(Docker, pg, "a").left_of_volume, 0);
    let Unneeded::Deferred(users) = backend.unmount_unneeded(pg) else { panic!("it was unmounted") };
    assert!(users[0].contains(CONTAINER), "{users:?}");
    let list = backend.refs(None).unwrap();
    assert!(list.refs.is_empty());
    assert_eq!((list.unneeded.len(), list.unneeded[0].runtime.as_str()), (1, "docker"));
    assert_eq!(list.unneeded[0].path, path_of(&backend, Docker));
    assert!(list.unneeded[0].used_by[0].contains(CONTAINER));
    assert!(backend.refs(Some(Podman)).unwrap().unneeded.is_empty());
    references.settle();
    assert!(backend.keeper().look_after().is_some(), "it is tried again");
    assert_eq!(paths(&backend).len(), 1);
    host.hold_device(&device, None);
    assert_eq!(backend.keeper().look_after(), None, "nothing is left to do");
    assert!(paths(&backend).is_empty());
}

#[test]
fn what_a_killed_engine_left_behind_is_dropped_once_no_container_uses_it() {
    let (host, backend) = furnished();
    mount(&backend, Docker, "a");
    let references = backend.references();
    let device = device_of(&info(&backend));
    references.activated(Docker);
    // It may be confirmed yet.
    assert!(backend.keeper().look_after().is_some());
    assert_eq!(references.all().len(), 1);
    // live-restore: the container runs on, and its end will be told with the old id.
    host.hold_device(&device, Some(CONTAINER));
    references.settle();
    assert!(backend.keeper().look_after().is_some());
    assert_eq!(references.all().len(), 1);
    host.hold_device(&device, None);
    backend.keeper().look_after();
    assert!(references.all().is_empty());
    assert!(paths(&backend).is_empty());
    // One that is confirmed stays, whatever the mount tables of others say.
    mount(&backend, Docker, "a");
    assert_eq!(backend.keeper().look_after(), None);
    assert_eq!(references.all().len(), 1);
}

#[test]
fn a_start_drops_references_without_a_mount_and_keeps_those_with_one() {
    let (host, backend) = furnished();
    let dir = tempfile::tempdir().unwrap();
    let boot = host.boot_id().unwrap();
    let backend = backend.counting(References::open(dir.path(), &boot), MOUNTS.into());
    mount(&backend, Docker, "a");
    drop(backend.references().mount(Docker, VolumeId::from_bytes([9; 16]), "gone").unwrap());
    drop(backend);
    let again = start(&host).counting(References::open(dir.path(), &boot), MOUNTS.into());
    assert_eq!(again.references().all().len(), 2);
    again.start_keeping_references().unwrap();
    assert_eq!(again.references().all().len(), 1);
    assert!(again.alive().is_ok());
    assert_eq!(json(&info(&again).references)[0]["count"], 1);
    // Cut off between the record and the unmount: nobody needs it, and nobody is heard to.
    again.references().unmount(Docker, id(&again), "a");
    again.stop();
    drop(again);
    let last = start(&host).counting(References::open(dir.path(), &boot), MOUNTS.into());
    assert!(last.keeper().look_after().is_some(), "whoever needs it may not have said so yet");
    assert_eq!(paths(&last).len(), 1);
    last.references().settle();
    assert_eq!(last.keeper().look_after(), None);
    assert!(paths(&last).is_empty());
}

#[test]
fn only_what_is_meant_is_released() {
    let (_, backend) = furnished();
    mount(&backend, Docker, "a");
    mount(&backend, Docker, "b");
    mount(&backend, Podman, "c");
    let of = |runtime: &str, id: Option<&str>| ReleaseRefs {
        volume: info(&backend).id,
        runtime: Some(runtime.into()),
        id: id.map(str::to_owned),
    };
    assert_eq!(failed(backend.release_refs(of("lxc", None), false)).0, "invalid");
    assert_eq!(
        failed(backend.release_refs(ReleaseRefs { id: Some("a".into()), ..release("data/pg") }, false)).0,
        "invalid"
    );
    assert_eq!(failed(backend.release_refs(release("data/none"), false)).0, "not_found");
    assert_eq!(failed(backend.release_refs(release("nonsense"), false)).0, "invalid");
    assert!(!outcome(backend.release_refs(of("docker", Some("x")), false)).changed);
    let one = done(backend.release_refs(of("docker", Some("a")), false));
    assert_eq!((one.released.len(), one.left, one.unmounted), (1, 2, false));
    let rest = done(backend.release_refs(of("docker", None), false));
    assert_eq!((rest.released[0].id.as_str(), rest.left), ("b", 1));
    let list = backend.refs(None).unwrap();
    assert_eq!((list.refs.len(), list.refs[0].id.as_str(), list.refs[0].volume.as_deref()), (1, "c", Some("data/pg")));
    // The mount that was Docker's goes with Podman's.
    assert_eq!(paths(&backend).len(), 2);
    done(backend.release_refs(release("data/pg"), false));
    assert!(paths(&backend).is_empty());
}

#[test]
fn the_volumes_of_an_engine_are_counted_and_those_of_others_are_not() {
    let (_, backend) = furnished();
    let named = |name: &str, label: &str, value: &str| {
        let request = Relabel { set: [(label.to_owned(), value.to_owned())].into(), ..Relabel::default() };
        done(backend.label_volume(&volume(name), request, false));
    };
    done(backend.create_volume(volume_request("other", "2G", "ext4"), false));
    named("data/pg", "docker.volume", "pgdata");
    named("data/other", "docker.volume", "cache");
    named("data/raw", "podman.volume", "raw");
    mount(&backend, Docker, "a");
    mount(&backend, Podman, "p");
    let df = backend.runtime_df(Docker).unwrap();
    let volumes: Vec<_> =
        df.volumes.iter().map(|one| (&*one.name, &*one.volume, one.references, one.mounted)).collect();
    assert_eq!(volumes, [("cache", "data/other", 0, false), ("pgdata", "data/pg", 1, true)]);
    assert_eq!((df.total.volume_count, df.total.active_count, df.total.size_bytes), (2, 1, 12 << 30));
    let [cache, pg] = df.volumes.as_slice() else { panic!("{df:?}") };
    assert!(pg.used_bytes.is_some() && pg.exclusive_bytes <= pg.used_bytes, "{df:?}");
    assert_eq!(Some(df.total.reclaimable_bytes), cache.exclusive_bytes);
    assert_eq!(backend.runtime_df(Podman).unwrap().volumes.len(), 1);
}

#[test]
fn nothing_is_looked_at_again_while_nothing_is_left_to_do() {
    let (_, backend) = furnished();
    assert_eq!(backend.keeper().look_after(), None);
    mount(&backend, Docker, "a");
    assert_eq!(backend.keeper().look_after(), None);
    backend.references().activated(Docker);
    assert!(backend.keeper().look_after().is_some_and(|again| again >= Duration::from_secs(10)));
}

/// The directory that an engine was given.
fn point(backend: &Sim, runtime: Runtime) -> PathBuf {
    path_of(backend, runtime).into()
}

#[test]
fn a_mount_point_of_an_engine_goes_with_its_mount_whoever_unmounts_it() {
    let (host, backend) = furnished();
    let references = backend.references();
    let (pg, path) = (id(&backend), volume("data/pg"));
    let (docker, podman) = (point(&backend, Docker), point(&backend, Podman));
    // The engines' last `Unmount`.
    mount(&backend, Docker, "a");
    mount(&backend, Podman, "b");
    references.unmount(Docker, pg, "a");
    references.unmount(Podman, pg, "b");
    assert_eq!(backend.unmount_unneeded(pg), Unneeded::Gone);
    for dir in [&docker, &podman] {
        assert!(!host.path_exists(dir).unwrap(), "{dir:?} is left behind");
    }
    // The keeper, when a container has ended that kept it mounted.
    mount(&backend, Podman, "b");
    let device = device_of(&info(&backend));
    host.hold_device(&device, Some(CONTAINER));
    references.unmount(Podman, pg, "b");
    assert!(matches!(backend.unmount_unneeded(pg), Unneeded::Deferred(_)));
    host.hold_device(&device, None);
    assert_eq!(backend.keeper().look_after(), None);
    assert!(!host.path_exists(&podman).unwrap());
    // An administrator, in good order.
    done(backend.mount_volume(&path, mount_at(podman.to_str().unwrap()), false));
    done(backend.mount_volume(&path, mount_at("/srv/pg"), false));
    let plan = planned(backend.unmount_volume(&path, true));
    let removals: Vec<_> = plan.steps.iter().filter(|step| step.action == "remove_mount_point").collect();
    assert_eq!(removals.len(), 1, "{plan:?}");
    assert!(removals[0].description.contains(podman.to_str().unwrap()), "{plan:?}");
    done(backend.unmount_volume(&path, false));
    assert!(!host.path_exists(&podman).unwrap());
    assert!(host.path_exists(Path::new("/srv/pg")).unwrap(), "directories of others are left alone");
}

#[test]
fn a_bare_mount_point_takes_no_data_and_is_removed() {
    let (host, backend) = furnished();
    mount(&backend, Podman, "b");
    let dir = point(&backend, Podman);
    let kind = |host: &vol_sim::SimHost| host.write_into_directory(&dir, "data").unwrap_err().kind;
    // An administrator unmounts it by himself: as long as nobody has noticed, it cannot be written to, and then it is not there.
    host.foreign_unmount(&dir);
    assert_eq!(kind(&host), HostErrorKind::Denied);
    backend.keeper().remove_bare();
    assert_eq!(kind(&host), HostErrorKind::NotFound);
    // The engine asks for it: all is well again.
    mount(&backend, Podman, "b");
    assert_eq!(paths(&backend), [dir.to_str().unwrap()]);
    backend.keeper().remove_bare();
    assert_eq!(paths(&backend), [dir.to_str().unwrap()], "what is mounted stays");
    // What is in one that was made by others is not deleted.
    let other = dir.with_file_name("01");
    host.add_path(&other).add_path(other.join("data"));
    backend.keeper().remove_bare();
    assert!(host.path_exists(&other.join("data")).unwrap());
}

#[test]
fn what_is_unmounted_by_others_is_noticed_by_itself() {
    let (host, backend) = furnished();
    backend.start_keeping_references().unwrap();
    mount(&backend, Podman, "b");
    let dir = point(&backend, Podman);
    assert!(host.path_exists(&dir).unwrap());
    host.foreign_unmount(&dir);
    let begun = std::time::Instant::now();
    while host.path_exists(&dir).unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody notices");
        std::thread::sleep(Duration::from_millis(1));
    }
    backend.stop();
}

#[test]
fn a_volume_that_is_an_engines_no_more_has_no_references_of_it() {
    let (host, backend) = furnished();
    let label = |text: &str| Relabel { set: [("docker.volume".into(), text.into())].into(), ..Relabel::default() };
    let (path, references, pg) = (volume("data/pg"), backend.references(), id(&backend));
    let other = Relabel { set: [("tier".into(), "fast".into())].into(), ..Relabel::default() };
    let off = Relabel { remove: vec!["docker.volume".into()], ..Relabel::default() };
    done(backend.label_volume(&path, label("pg"), false));
    mount(&backend, Docker, "a");
    // A container runs: the mount stays until it has ended, and nothing else is left.
    let device = device_of(&info(&backend));
    host.hold_device(&device, Some(CONTAINER));
    done(backend.label_volume(&path, other, false));
    outcome(backend.label_volume(&path, label("pg"), false));
    planned(backend.label_volume(&path, off.clone(), true));
    assert_eq!(references.count_of(pg), 1, "it is the engine's still");
    done(backend.label_volume(&path, off, false));
    assert!(references.all().is_empty());
    assert_eq!(paths(&backend).len(), 1);
    assert!(backend.keeper().look_after().is_some());
    host.hold_device(&device, None);
    assert_eq!(backend.keeper().look_after(), None, "not only after a while");
    assert!(paths(&backend).is_empty());
    // So it is when the engine would know it by another name. References of the other engine are its own.
    done(backend.label_volume(&path, label("pg"), false));
    mount(&backend, Docker, "a");
    mount(&backend, Podman, "b");
    done(backend.label_volume(&path, label("other"), false));
    let left: Vec<_> = references.all().iter().map(|one| one.runtime).collect();
    assert_eq!((left, paths(&backend).len()), (vec![Podman], 2));
}
