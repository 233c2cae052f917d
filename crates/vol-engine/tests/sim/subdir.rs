//! A directory of the file system handed out instead of its root.

use std::path::Path;

use vol_core::dm::Device;
use vol_core::plan::fs::NewSize;
use vol_core::plan::mount::MountAs;
use vol_core::{Refusal, RefusalCode};
use vol_engine::host::{HostErrorKind, HostRead};
use vol_engine::{Done, Engine, EngineError};
use vol_sim::{EffectKind, Fault, FsFlaw, SimHost};
use vol_types::{Volume, VolumeId};

use super::bench::*;

const SUB: &str = "/srv/sub";
const WHOLE: &str = "/srv/whole";

fn of(engine: &Engine<SimHost>, text: &str) -> Volume {
    engine.vgs()[0].read(|catalog| catalog.volume_named(&volume(text)).unwrap_or_else(|| panic!("no {text}")).clone())
}

fn mount(engine: &Engine<SimHost>, text: &str, at: &str, how: MountAs) -> Result<Done<VolumeId>, EngineError> {
    engine.mount(&name("data"), &volume(text), Path::new(at), how, false)
}

fn unmount(engine: &Engine<SimHost>, text: &str) {
    engine.unmount(&name("data"), &volume(text), None, false).unwrap();
}

const USUAL: MountAs = MountAs { read_only: false, whole: false, sealed: false };
const ROOT: MountAs = MountAs { read_only: false, whole: true, sealed: false };

fn refusal<T: std::fmt::Debug>(result: Result<T, EngineError>) -> Refusal {
    match result.unwrap_err() {
        EngineError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_mounted_is_the_directory_and_never_lost_and_found() {
    let host = Op::MountSubdir.before();
    let engine = start(&host);
    assert!(changed(mount(&engine, "sub", SUB, USUAL).unwrap()));
    assert_eq!(host.names(SUB).unwrap(), Vec::<String>::new());
    host.put_file(SUB, "f", b"kept").unwrap();
    assert!(!changed(mount(&engine, "sub", SUB, USUAL).unwrap()), "once more is nothing more");
    sound(&host, &engine, "mounted");
    host.spoil_fs(&Device::Volume(of(&engine, "sub").id).uuid(), FsFlaw::Safe).unwrap();
    unmount(&engine, "sub");
    // Checked, and with that made anew; a daemon that has just started knows it all.
    let engine = start(&host);
    mount(&engine, "sub", SUB, USUAL).unwrap();
    assert_eq!(host.names(SUB).unwrap(), ["f"]);
    mount(&engine, "sub", WHOLE, ROOT).unwrap();
    assert_eq!(host.names(WHOLE).unwrap(), ["data/", "lost+found/"]);
    assert_eq!(host.read_file(WHOLE, "data/f").unwrap().unwrap(), b"kept");
    engine.resize_volume(&name("data"), &volume("sub"), NewSize::To(vol_types::Bytes::gib(20)), false).unwrap();
    engine.trim_volume(&name("data"), &volume("sub"), false).unwrap();
    unmount(&engine, "sub");
    assert_eq!(host.mounts().unwrap().len(), 0);
    sound(&host, &engine, "unmounted from both");
    // Without one, the root is what is mounted, and what mkfs made is in it.
    Op::CreateFormatted.run(&engine).unwrap();
    mount(&engine, "pg", SUB, USUAL).unwrap();
    assert_eq!(host.names(SUB).unwrap(), ["lost+found/"]);
}

#[test]
fn copies_have_the_directory_and_changes_of_the_volume_keep_it() {
    let host = Op::MountSubdir.before();
    let engine = start(&host);
    let data = name("data");
    mount(&engine, "sub", SUB, USUAL).unwrap();
    host.put_file(SUB, "f", b"1").unwrap();
    engine.create_snapshot(&"data/sub@s".parse().unwrap(), false).unwrap();
    engine.clone_volume(&clone_request("sub@s", "copy"), false).unwrap();
    engine.clone_volume(&clone_request("sub", "live"), false).unwrap();
    host.put_file(SUB, "f", b"2").unwrap();
    for (text, at) in [("sub@s", "/mnt/s"), ("copy", "/mnt/copy"), ("live", "/mnt/live")] {
        mount(&engine, text, at, USUAL).unwrap();
        assert_eq!(host.names(at).unwrap(), ["f"], "{text}");
        assert_eq!(host.read_file(at, "f").unwrap().unwrap(), b"1", "{text}");
    }
    sound(&host, &engine, "copies are mounted");
    unmount(&engine, "sub");
    engine.rename_volume(&data, &volume("sub"), &name("db"), false).unwrap();
    engine.rollback(&"data/db@s".parse().unwrap(), false, false).unwrap();
    engine.keep_volume(&data, &volume("db"), false).unwrap();
    engine.undelete_volume(&data, &volume("db"), false).unwrap();
    drop(engine);
    let engine = start(&host);
    for text in ["db", "db@s", "copy", "live"] {
        assert_eq!(of(&engine, text).subdir, Some(Box::new(name("data"))), "{text}");
    }
    mount(&engine, "db", SUB, USUAL).unwrap();
    assert_eq!(host.read_file(SUB, "f").unwrap().unwrap(), b"1");
    sound(&host, &engine, "rolled back, deleted and taken back");
}

#[test]
fn a_directory_that_is_gone_or_replaced_is_not_mounted_and_can_be_put_back() {
    let host = Op::MountSubdir.before();
    let engine = start(&host);
    mount(&engine, "sub", WHOLE, ROOT).unwrap();
    host.remove_file(WHOLE, "data/").unwrap();
    for in_its_place in [None, Some("data")] {
        if let Some(file) = in_its_place {
            mount(&engine, "sub", WHOLE, ROOT).unwrap();
            host.put_file(WHOLE, file, b"a link, for example").unwrap();
        }
        unmount(&engine, "sub");
        let error = mount(&engine, "sub", SUB, USUAL).unwrap_err();
        let EngineError::Step(failed) = &error else { panic!("{error}") };
        assert_eq!(failed.source.host_kind(), Some(HostErrorKind::NoDirectory), "{error}");
        assert!(failed.step.contains("the directory data of sub"), "{error}");
        assert_eq!(host.mounts().unwrap().len(), 0);
        assert!(!engine.vgs()[0].view().kernel.dm.contains_key(&Device::Volume(of(&engine, "sub").id)), "left active");
        sound(&host, &engine, "refused");
    }
    mount(&engine, "sub", WHOLE, ROOT).unwrap();
    host.remove_file(WHOLE, "data").unwrap();
    host.put_file(WHOLE, "data/", b"").unwrap();
    unmount(&engine, "sub");
    mount(&engine, "sub", SUB, USUAL).unwrap();
}

#[test]
fn another_directory_at_the_same_place_is_not_taken_for_it() {
    let host = Op::MountSubdir.before();
    let engine = start(&host);
    for (there, asked, shown) in [(ROOT, USUAL, ": /"), (USUAL, ROOT, ": /data")] {
        mount(&engine, "sub", SUB, there).unwrap();
        let refusal = refusal(mount(&engine, "sub", SUB, asked));
        assert_eq!(refusal.code, RefusalCode::Exists);
        assert!(refusal.message.ends_with(&format!("another directory is mounted at /srv/sub{shown}")), "{refusal}");
        unmount(&engine, "sub");
    }
}

#[test]
fn the_same_request_is_one_volume_and_another_directory_is_a_conflict() {
    let host = Op::MountSubdir.before();
    let engine = start(&host);
    assert!(!changed(engine.create_volume(&subdir_request("sub"), false).unwrap()));
    let mut other = subdir_request("sub");
    other.mkfs.root.subdir = Some(name("other"));
    let plain = volume_request("sub", other.fs);
    for request in [other, plain] {
        let refusal = refusal(engine.create_volume(&request, false));
        assert_eq!(refusal.code, RefusalCode::Exists);
        assert!(refusal.message.contains("with its directory data handed out"), "{refusal}");
    }
    Op::CreateFormatted.run(&engine).unwrap();
    let refusal = refusal(engine.create_volume(&subdir_request("pg"), false));
    assert!(refusal.message.contains("with the root of its file system handed out"), "{refusal}");
}

#[test]
fn a_directory_that_cannot_be_made_is_a_failed_creation() {
    let host = Op::CreateSubdir.before();
    let engine = start(&host);
    host.fail_next(EffectKind::PrepareRoot, Fault::Error(HostErrorKind::Io));
    let error = engine.create_volume(&subdir_request("sub"), false).unwrap_err();
    assert!(error.to_string().contains("make the root directory: directory data in it"), "{error}");
    sound(&host, &engine, "it could not be made");
    engine.create_volume(&subdir_request("sub"), false).unwrap();
    mount(&engine, "sub", SUB, USUAL).unwrap();
    assert_eq!(host.names(SUB).unwrap(), Vec::<String>::new());
}
