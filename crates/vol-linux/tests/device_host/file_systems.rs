//! File systems on volumes: made, mounted, unmounted.

use std::fs;
use std::path::Path;

use uuid::Uuid;
use vol_core::observed::{DmInfo, Mount, Probe};
use vol_engine::host::{HostErrorKind, HostMut, HostRead, MountCall};
use vol_types::{Bytes, FsKind, MkfsOptions, MountOptions};

use crate::support::Bench;

pub const ALL: [FsKind; 3] = [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs];

pub fn call(info: &DmInfo, fs: FsKind, target: &Path) -> MountCall {
    MountCall {
        dev: info.dev,
        fs,
        subdir: None,
        target: target.to_path_buf(),
        sealed: false,
        read_only: false,
        allow_same_uuid: false,
        no_replay: false,
        options: MountOptions::default(),
    }
}

pub fn mount_at(bench: &Bench, target: &Path) -> Option<Mount> {
    bench.host.mounts().unwrap().into_iter().find(|mount| mount.target == target)
}

#[test]
fn every_file_system_is_made_recognised_mounted_and_unmounted() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(512));
    for (thin_id, fs) in (1..).zip(ALL) {
        let info = pool.volume(thin_id, Bytes::mib(512));
        assert_eq!(bench.host.probe(info.dev).unwrap(), Probe::Nothing);
        let uuid = Uuid::new_v4();
        let wrong = bench.host.mkfs(info.dev, "VOLUMED-another", fs, uuid, &MkfsOptions::default()).unwrap_err();
        assert_eq!(wrong.kind, HostErrorKind::Changed);
        assert_eq!(bench.host.probe(info.dev).unwrap(), Probe::Nothing);
        bench.host.mkfs(info.dev, &info.uuid, fs, uuid, &MkfsOptions::default()).unwrap();
        let found = Probe::Found { kind: fs.as_str().to_owned(), uuid: Some(uuid.to_string()) };
        assert_eq!(bench.host.probe(info.dev).unwrap(), found);

        let target = bench.dir().join(format!("new/dir/{}", fs.as_str()));
        bench.will_unmount(&target);
        bench.host.mount(&call(&info, fs, &target)).unwrap();
        let mount = mount_at(&bench, &target).unwrap();
        assert_eq!((mount.dev, mount.fs_type.as_str(), mount.read_only), (info.dev, fs.as_str(), false));
        let options = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = options.lines().find(|line| line.contains(target.to_str().unwrap())).unwrap();
        assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
        fs::write(target.join("file"), "content").unwrap();

        // In use: no second format, no removal.
        assert_eq!(
            bench.host.mkfs(info.dev, &info.uuid, fs, Uuid::new_v4(), &MkfsOptions::default()).unwrap_err().kind,
            HostErrorKind::Tool
        );
        assert!(bench.host.holders(info.dev).contains(&format!("mounted at {}", target.display())));
        let open = fs::File::open(target.join("file")).unwrap();
        assert_eq!(bench.host.unmount(&mount).unwrap_err().kind, HostErrorKind::Busy);
        drop(open);
        let other = Mount { mount_id: mount.mount_id + 100_000, ..mount.clone() };
        assert_eq!(bench.host.unmount(&other).unwrap_err().kind, HostErrorKind::NotFound);
        let elsewhere = Mount { target: "/".into(), ..mount.clone() };
        assert_eq!(bench.host.unmount(&elsewhere).unwrap_err().kind, HostErrorKind::Changed);
        bench.host.unmount(&mount).unwrap();
        assert_eq!(mount_at(&bench, &target), None);
        assert_eq!(bench.host.unmount(&mount).unwrap_err().kind, HostErrorKind::NotFound);

        // What may be asked for the kernel takes, and shows.
        let (asked, shown) = match fs {
            FsKind::Ext4 => (
                "noatime,noexec,sync,dirsync,lazytime,discard,commit=30,data=journal,journal_checksum",
                &["noatime", "noexec", "sync", "discard", "commit=30", "data=journal"][..],
            ),
            FsKind::Xfs => (
                "nodiratime,strictatime,noexec,sync,dirsync,lazytime,discard",
                &["nodiratime", "noexec", "sync", "discard"][..],
            ),
            FsKind::Btrfs => (
                "relatime,noexec,sync,dirsync,lazytime,compress=lzo,autodefrag",
                &["noexec", "sync", "compress=lzo", "autodefrag"][..],
            ),
        };
        let options = MountOptions::parse(Some(fs), asked).unwrap();
        bench.host.mount(&MountCall { options, ..call(&info, fs, &target) }).unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(target.to_str().unwrap())).unwrap();
        for word in shown {
            assert!(line.contains(word), "{word}: {line}");
        }
        let mount = mount_at(&bench, &target).unwrap();
        bench.host.unmount(&mount).unwrap();
    }
}

#[test]
fn a_file_system_that_is_there_is_not_formatted_over_by_xfs_and_btrfs() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(256));
    for (thin_id, fs) in (1..).zip([FsKind::Xfs, FsKind::Btrfs]) {
        let info = pool.volume(thin_id, Bytes::mib(512));
        bench.host.mkfs(info.dev, &info.uuid, FsKind::Ext4, Uuid::new_v4(), &MkfsOptions::default()).unwrap();
        let error = bench.host.mkfs(info.dev, &info.uuid, fs, Uuid::new_v4(), &MkfsOptions::default()).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::Tool, "{error}");
        assert!(matches!(bench.host.probe(info.dev).unwrap(), Probe::Found { kind, .. } if kind == "ext4"));
    }
}

#[test]
fn a_mount_does_not_follow_links_and_says_why_it_failed() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(64));
    let info = pool.volume(1, Bytes::mib(64));
    let target = bench.dir().join("target");
    let blank = bench.host.mount(&call(&info, FsKind::Ext4, &target)).unwrap_err();
    println!("mounting a blank volume: {blank}");
    assert_eq!(mount_at(&bench, &target), None);
    bench.host.mkfs(info.dev, &info.uuid, FsKind::Ext4, Uuid::new_v4(), &MkfsOptions::default()).unwrap();
    std::os::unix::fs::symlink("/etc", bench.dir().join("link")).unwrap();
    for bad in ["link", "link/new"] {
        let error = bench.host.mount(&call(&info, FsKind::Ext4, &bench.dir().join(bad))).unwrap_err();
        assert_eq!(error.kind, HostErrorKind::Invalid, "{error}");
    }
    assert!(!Path::new("/etc/new").exists());
}

#[test]
fn only_the_mount_on_top_is_unmounted() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(64));
    let target = bench.dir().join("target");
    let mut mounts = Vec::new();
    for thin_id in [1, 2] {
        let info = pool.volume(thin_id, Bytes::mib(64));
        bench.host.mkfs(info.dev, &info.uuid, FsKind::Ext4, Uuid::new_v4(), &MkfsOptions::default()).unwrap();
        bench.will_unmount(&target);
        bench.host.mount(&call(&info, FsKind::Ext4, &target)).unwrap();
        let all = bench.host.mounts().unwrap();
        mounts.push(all.into_iter().find(|mount| mount.dev == info.dev).unwrap());
    }
    assert_eq!(bench.host.unmount(&mounts[0]).unwrap_err().kind, HostErrorKind::Busy);
    bench.host.unmount(&mounts[1]).unwrap();
    bench.host.unmount(&mounts[0]).unwrap();
}

#[test]
fn a_device_mounted_in_another_namespace_is_reported_with_the_process() {
    let Some(bench) = Bench::with_dm() else { return };
    let pool = bench.pool(Bytes::mib(64));
    let info = pool.volume(1, Bytes::mib(64));
    bench.host.mkfs(info.dev, &info.uuid, FsKind::Ext4, Uuid::new_v4(), &MkfsOptions::default()).unwrap();
    let target = bench.dir().join("target");
    bench.will_unmount(&target);
    bench.host.mount(&call(&info, FsKind::Ext4, &target)).unwrap();
    let mut child = std::process::Command::new("unshare").args(["-m", "sleep", "60"]).spawn().unwrap();
    let here = format!("mounted at {} in the mount namespace of process {}", target.display(), child.id());
    crate::support::wait_for("the namespace is found", || {
        bench.host.holders(info.dev).iter().any(|holder| holder.starts_with(&here))
    });
    bench.host.unmount(&mount_at(&bench, &target).unwrap()).unwrap();
    assert_eq!(bench.host.dm_remove(&info.uuid).unwrap_err().kind, HostErrorKind::Busy);
    println!("held by {:?}", bench.host.holders(info.dev));
    child.kill().unwrap();
    child.wait().unwrap();
    crate::support::wait_for("the device is free", || bench.host.holders(info.dev).is_empty());
}
