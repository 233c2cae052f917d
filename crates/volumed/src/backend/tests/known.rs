//! Which volume groups the machine remembers.

use std::path::Path;

use super::*;
use crate::api::Targets as _;

fn files(dir: &Path) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(dir.join("volume-groups")) else { return Vec::new() };
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// Its disks go, and a person who was told of it looks for them in vain.
fn unplug(host: &SimHost, backend: &Sim) {
    done(backend.export_vg(&name("data"), false));
    host.remove_disk("/dev/sda");
    host.remove_disk("/dev/sdb");
    backend.engine.scan(&[], false).unwrap();
}

fn plug(host: &SimHost, backend: &Sim) {
    host.reattach("/dev/sda");
    host.reattach("/dev/sdb");
    backend.engine.scan(&[], false).unwrap();
    done(backend.import_vg(&name("data"), false));
}

fn away(backend: &Sim) -> Vec<Option<String>> {
    backend.absent_vgs().unwrap().into_iter().map(|vg| vg.name).collect()
}

#[test]
fn a_group_that_could_not_be_written_down_is_known_and_written_later() {
    let (dir, host) = (tempfile::tempdir().unwrap(), machine());
    // Nothing can be made in it.
    let in_the_way = dir.path().join("volume-groups");
    std::fs::write(&in_the_way, "").unwrap();
    let backend = start(&host).remembering_groups(dir.path());
    done(backend.create_vg(vg_request(), false));
    std::fs::remove_file(&in_the_way).unwrap();
    unplug(&host, &backend);
    assert_eq!(away(&backend), [Some("data".to_owned())], "not on the disk, and known");
    plug(&host, &backend);
    assert!(away(&backend).is_empty());
    backend.known.see_again(&backend.engine);
    assert_eq!(files(dir.path()).len(), 1);
    let again = start(&host).remembering_groups(dir.path());
    assert_eq!(files(dir.path()).len(), 1);
    assert!(away(&again).is_empty());
}

#[test]
fn a_group_that_was_forgotten_and_comes_back_is_remembered_again() {
    let (dir, host) = (tempfile::tempdir().unwrap(), machine());
    let backend = start(&host).remembering_groups(dir.path());
    done(backend.create_vg(vg_request(), false));
    unplug(&host, &backend);
    let file = dir.path().join("volume-groups").join(&files(dir.path())[0]);
    assert_eq!(away(&backend), [Some("data".to_owned())]);
    std::fs::remove_file(&file).unwrap();
    assert!(away(&backend).is_empty(), "it counts at once");
    plug(&host, &backend);
    assert!(file.exists());
    unplug(&host, &backend);
    assert_eq!(away(&backend), [Some("data".to_owned())]);
}

#[test]
fn a_group_that_came_to_nothing_is_not_remembered() {
    let (dir, host) = (tempfile::tempdir().unwrap(), machine());
    let backend = start(&host).remembering_groups(dir.path());
    done(backend.create_vg(vg_request(), false));
    assert_eq!(files(dir.path()).len(), 1);
    done(backend.delete_vg(&name("data"), false));
    assert!(files(dir.path()).is_empty());
    done(backend.create_vg(vg_request(), false));
    done(backend.create_pool(pool_request(), false));
    backend.delete_vg(&name("data"), false).unwrap_err();
    assert_eq!(files(dir.path()).len(), 1, "it is there still");
}
