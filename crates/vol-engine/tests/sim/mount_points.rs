//! Mount points of the daemon's own: they go with their mounts, wherever that is cut short.

use std::path::{Path, PathBuf};

use vol_engine::Engine;
use vol_engine::host::{HostErrorKind, HostRead as _};
use vol_sim::{Fault, SimHost};

use super::bench::*;

const OWN: &str = "/run/volumed/mounts";
const AT: &str = "/run/volumed/mounts/podman/01";

fn start_owning(host: &SimHost) -> Engine<SimHost> {
    let engine = start(host);
    engine.own_mounts_below(Path::new(OWN));
    engine
}

/// What a start does besides.
fn swept(engine: &Engine<SimHost>) {
    assert_eq!(engine.remove_bare_mount_points(&[PathBuf::from(OWN).join("podman")]).unwrap(), []);
}

/// Who is given the directory instead of the volume writes nothing into it; and it is there with its mount, and not without.
fn nothing_is_bare(host: &SimHost, story: &str) {
    let mounted = || host.mounts().unwrap().iter().any(|mount| mount.target == Path::new(AT));
    if !mounted() {
        let written = host.write_into_directory(AT, "data").unwrap_err();
        assert!(matches!(written.kind, HostErrorKind::Denied | HostErrorKind::NotFound), "{story}: {written}");
    }
    let engine = start_owning(host);
    swept(&engine);
    assert_eq!(host.path_exists(Path::new(AT)).unwrap(), mounted(), "{story}");
    sound(host, &engine, story);
}

#[test]
fn a_mount_or_an_unmount_that_is_cut_short_anywhere_leaves_no_bare_mount_point() {
    let (data, pg, at) = (name("data"), volume("pg"), Path::new(AT));
    let idle = Op::Mount.before();
    let mounted = idle.fork();
    start_owning(&mounted).mount(&data, &pg, at, false, false).unwrap();
    for (before, unmounts) in [(&idle, false), (&mounted, true)] {
        let run = |engine: &Engine<SimHost>| match unmounts {
            true => engine.unmount(&data, &pg, None, false).map(drop),
            false => engine.mount(&data, &pg, at, false, false).map(drop),
        };
        let host = before.fork();
        let engine = start_owning(&host);
        let first = host.effects() + 1;
        run(&engine).unwrap();
        assert_eq!(host.path_exists(at).unwrap(), !unmounts, "it goes with its mount");
        let failing = Fault::Error(HostErrorKind::Io);
        for number in first..=host.effects() {
            for fault in [Fault::KillDaemonBefore, Fault::KillDaemonAfter, failing] {
                let host = before.fork();
                let engine = start_owning(&host);
                host.fail_effect(number, fault);
                let _ = run(&engine);
                drop(engine);
                host.restart();
                host.clear_faults();
                nothing_is_bare(&host, &format!("unmounts {unmounts}, effect {number}, {fault:?}"));
            }
        }
    }
}

#[test]
fn a_mount_elsewhere_below_the_daemons_directory_is_nobodys_to_seal_or_remove() {
    let host = Op::Mount.before().fork();
    let engine = start_owning(&host);
    let (data, pg) = (name("data"), volume("pg"));
    // Where the engines' mount points are made, and inside a volume that is mounted at one of them.
    for target in [format!("{OWN}/podman"), format!("{AT}/sub"), format!("{OWN}/else/01/deep/down")] {
        let at = Path::new(&target);
        engine.mount(&data, &pg, at, false, false).unwrap();
        host.foreign_unmount(at);
        host.write_into_directory(at, "data").unwrap();
        engine.mount(&data, &pg, at, false, false).unwrap();
        engine.unmount(&data, &pg, None, false).unwrap();
        assert!(host.path_exists(at).unwrap(), "{target} is gone");
    }
}
