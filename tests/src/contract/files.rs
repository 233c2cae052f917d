//! File systems: made, probed, mounted.

use uuid::Uuid;
use vol_core::observed::{DmInfo, FsCheck, FsVerdict, Mount, Probe};
use vol_engine::host::HostErrorKind::{Busy, Changed, Denied, Invalid, NoDirectory, NotFound, Tool};
use vol_engine::host::{BindCall, DmCreate, HostMut, HostRead, MountCall, NodeCall};
use vol_types::{Bytes, FsKind, MkfsOptions, Name, RootDir};

use super::bench::{Bench, Pool, Spec, creation, kind, open_count, refused, remove, volume};

fn pool<B: Bench>(b: &B) -> Pool<'_, B> {
    Pool::new(b, Spec { data: Bytes::mib(128), ..Spec::default() })
}

/// A formatted volume.
fn formatted<B: Bench>(b: &B, pool: &Pool<'_, B>, id: u32, fs: FsKind) -> (DmInfo, Uuid) {
    let thin = pool.volume(id, fs.size_min());
    let uuid = Uuid::new_v4();
    b.host().mkfs(thin.dev, &thin.uuid, fs, uuid, &MkfsOptions::default()).unwrap();
    (thin, uuid)
}

fn call<B: Bench>(b: &B, thin: &DmInfo, fs: FsKind) -> MountCall {
    let target = b.dir().join(b.fresh("mount")).join("point");
    b.note_mount(&target);
    MountCall {
        dev: thin.dev,
        fs,
        subdir: None,
        target,
        sealed: false,
        read_only: false,
        allow_same_uuid: false,
        no_replay: false,
        options: vol_types::MountOptions::default(),
    }
}

fn mounts_at<B: Bench>(b: &B, call: &MountCall) -> Vec<Mount> {
    b.host().mounts().unwrap().into_iter().filter(|mount| mount.target == call.target).collect()
}

fn probe_tells<B: Bench>(b: &B, fs: FsKind) {
    let pool = pool(b);
    let thin = pool.volume(1, fs.size_min());
    assert_eq!(b.host().probe(thin.dev).unwrap(), Probe::Nothing);
    let uuid = Uuid::new_v4();
    assert_eq!(refused(b.host().mkfs(thin.dev, &volume().uuid(), fs, uuid, &MkfsOptions::default())), Changed);
    assert_eq!(b.host().probe(thin.dev).unwrap(), Probe::Nothing);
    b.host().mkfs(thin.dev, &thin.uuid, fs, uuid, &MkfsOptions::default()).unwrap();
    let found = Probe::Found { kind: fs.as_str().to_owned(), uuid: Some(uuid.to_string()) };
    assert_eq!(b.host().probe(thin.dev).unwrap(), found);
    assert!(pool.used() > 0);
    // It is on the disk, not in a cache.
    remove(b, &thin);
    pool.reactivate();
    let thin = pool.thin(1, fs.size_min()).unwrap();
    assert_eq!(b.host().probe(thin.dev).unwrap(), found);
}

pub fn a_probe_tells_a_blank_volume_from_an_ext4<B: Bench>(b: &B) {
    probe_tells(b, FsKind::Ext4);
}

pub fn a_probe_tells_a_blank_volume_from_an_xfs<B: Bench>(b: &B) {
    probe_tells(b, FsKind::Xfs);
}

pub fn a_mount_is_listed_and_holds_its_device<B: Bench>(b: &B) {
    let pool = pool(b);
    let (thin, _) = formatted(b, &pool, 1, FsKind::Ext4);
    let call = call(b, &thin, FsKind::Ext4);
    b.host().mount(&call).unwrap();
    let mounts = mounts_at(b, &call);
    assert_eq!(mounts.len(), 1);
    assert_eq!((mounts[0].dev, mounts[0].fs_type.as_str(), mounts[0].read_only), (thin.dev, "ext4", false));
    b.put_file(&call.target, "file", "text");
    assert_eq!(open_count(b, &thin.uuid), 1);
    assert_eq!(refused(b.host().dm_remove(&thin.uuid)), Busy);
    assert_eq!(
        refused(b.host().mkfs(thin.dev, &thin.uuid, FsKind::Ext4, Uuid::new_v4(), &MkfsOptions::default())),
        Tool
    );
    b.host().unmount(&mounts[0]).unwrap();
    assert_eq!(mounts_at(b, &call), []);
    assert_eq!(refused(b.host().unmount(&mounts[0])), NotFound);
    assert_eq!(open_count(b, &thin.uuid), 0);
    b.host().mount(&call).unwrap();
    assert_eq!(b.get_file(&call.target, "file").as_deref(), Some("text"));
    assert_ne!(mounts_at(b, &call)[0].mount_id, 0);
}

pub fn a_mount_with_open_files_is_busy<B: Bench>(b: &B) {
    let pool = pool(b);
    let (thin, _) = formatted(b, &pool, 1, FsKind::Ext4);
    let call = call(b, &thin, FsKind::Ext4);
    b.host().mount(&call).unwrap();
    b.put_file(&call.target, "file", "text");
    let held = b.hold_mount(&call.target);
    let mount = mounts_at(b, &call).remove(0);
    assert_eq!(refused(b.host().unmount(&mount)), Busy);
    assert_eq!(mounts_at(b, &call), std::slice::from_ref(&mount));
    drop(held);
    assert_eq!(kind(b.host().unmount(&mount)), Ok(()));
}

pub fn a_read_only_device_mounts_read_only<B: Bench>(b: &B) {
    let pool = pool(b);
    let (thin, _) = formatted(b, &pool, 1, FsKind::Ext4);
    remove(b, &thin);
    let device = volume();
    b.note(&device.uuid());
    let table = pool.thin_table(1, FsKind::Ext4.size_min());
    let thin = b.host().dm_create(&DmCreate { read_only: true, ..creation(device, table) }).unwrap();
    let mut call = call(b, &thin, FsKind::Ext4);
    assert_eq!(refused(b.host().mount(&call)), Denied);
    assert_eq!(mounts_at(b, &call), []);
    call.read_only = true;
    b.host().mount(&call).unwrap();
    assert!(mounts_at(b, &call)[0].read_only);
    assert_eq!(
        refused(b.host().mkfs(thin.dev, &thin.uuid, FsKind::Ext4, Uuid::new_v4(), &MkfsOptions::default())),
        Denied
    );
}

pub fn only_the_right_file_system_mounts<B: Bench>(b: &B) {
    let pool = pool(b);
    let (thin, _) = formatted(b, &pool, 1, FsKind::Ext4);
    let blank = pool.volume(2, FsKind::Ext4.size_min());
    assert_eq!(refused(b.host().mount(&call(b, &thin, FsKind::Xfs))), Invalid);
    assert_eq!(refused(b.host().mount(&call(b, &blank, FsKind::Ext4))), Invalid);
    let link = b.symlink();
    let good = call(b, &thin, FsKind::Ext4);
    assert_eq!(refused(b.host().mount(&MountCall { target: link.join("x"), ..good.clone() })), Invalid);
    assert_eq!(refused(b.host().mount(&MountCall { target: "relative".into(), ..good.clone() })), Invalid);
    assert_eq!(kind(b.host().mount(&good)), Ok(()));
}

pub fn a_volume_may_be_mounted_at_two_places<B: Bench>(b: &B) {
    let pool = pool(b);
    let (thin, _) = formatted(b, &pool, 1, FsKind::Ext4);
    let (one, two) = (call(b, &thin, FsKind::Ext4), call(b, &thin, FsKind::Ext4));
    b.host().mount(&one).unwrap();
    b.host().mount(&two).unwrap();
    b.put_file(&one.target, "file", "text");
    assert_eq!(b.get_file(&two.target, "file").as_deref(), Some("text"));
    // The other way of mounting is refused while it is mounted this way.
    let read_only = MountCall { read_only: true, ..call(b, &thin, FsKind::Ext4) };
    assert_eq!(refused(b.host().mount(&read_only)), Busy);
    b.host().unmount(&mounts_at(b, &one)[0]).unwrap();
    assert_eq!(open_count(b, &thin.uuid), 1);
    assert_eq!(mounts_at(b, &two).len(), 1);
}

pub fn a_mount_over_a_mount_hides_it<B: Bench>(b: &B) {
    let pool = pool(b);
    let (one, _) = formatted(b, &pool, 1, FsKind::Ext4);
    let (two, _) = formatted(b, &pool, 2, FsKind::Ext4);
    let below = call(b, &one, FsKind::Ext4);
    let above = MountCall { dev: two.dev, ..below.clone() };
    b.host().mount(&below).unwrap();
    b.host().mount(&above).unwrap();
    let find = |dev| mounts_at(b, &below).into_iter().find(|mount| mount.dev == dev).unwrap();
    assert_eq!(refused(b.host().unmount(&find(one.dev))), Busy);
    b.host().unmount(&find(two.dev)).unwrap();
    b.host().unmount(&find(one.dev)).unwrap();
}

pub fn a_mount_point_is_removed_without_its_mount_and_not_with_it<B: Bench>(b: &B) {
    let pool = pool(b);
    let (thin, _) = formatted(b, &pool, 1, FsKind::Ext4);
    let sealed = MountCall { sealed: true, ..call(b, &thin, FsKind::Ext4) };
    for _ in 0..2 {
        b.host().mount(&sealed).unwrap();
        // What is below it is sealed, and not what is mounted there.
        b.put_file(&sealed.target, "file", "text");
        assert_eq!(refused(b.host().remove_mount_point(&sealed.target)), Busy);
        let above = sealed.target.parent().unwrap();
        assert_eq!(refused(b.host().remove_mount_point(above)), Busy, "it is not empty");
        assert_eq!(b.host().directories_in(above).unwrap().as_slice(), std::slice::from_ref(&sealed.target));
        b.host().unmount(&mounts_at(b, &sealed)[0]).unwrap();
        b.host().remove_mount_point(&sealed.target).unwrap();
        assert_eq!(refused(b.host().remove_mount_point(&sealed.target)), NotFound);
        assert!(b.host().directories_in(above).unwrap().is_empty());
    }
}

pub fn an_xfs_and_its_snapshot_need_leave_to_be_mounted_together<B: Bench>(b: &B) {
    let pool = pool(b);
    let (origin, _) = formatted(b, &pool, 1, FsKind::Xfs);
    let mounted = call(b, &origin, FsKind::Xfs);
    b.host().mount(&mounted).unwrap();
    b.put_file(&mounted.target, "file", "old");
    pool.snapshot(Some(&origin), 2, 1).unwrap();
    b.put_file(&mounted.target, "file", "new");
    let snapshot = pool.thin(2, FsKind::Xfs.size_min()).unwrap();
    let beside = call(b, &snapshot, FsKind::Xfs);
    assert_eq!(refused(b.host().mount(&beside)), Invalid);
    b.host().mount(&MountCall { allow_same_uuid: true, ..beside.clone() }).unwrap();
    assert_eq!(b.get_file(&beside.target, "file").as_deref(), Some("old"));
    assert_eq!(b.get_file(&mounted.target, "file").as_deref(), Some("new"));
}

pub fn a_mounted_file_system_grows_to_its_device<B: Bench>(b: &B) {
    let pool = pool(b);
    for (id, fs) in [(1, FsKind::Ext4), (2, FsKind::Xfs)] {
        let (thin, _) = formatted(b, &pool, id, fs);
        let (small, large) = (fs.size_min(), Bytes(fs.size_min().get() * 2));
        let call = call(b, &thin, fs);
        assert_eq!(refused(b.host().fs_grow(thin.dev, &thin.uuid, fs, &call.target)), NotFound);
        b.host().mount(&call).unwrap();
        b.put_file(&call.target, "file", "text");
        b.host().dm_reload(&thin.uuid, &pool.thin_table(id, large)).unwrap();
        assert_eq!(b.host().dm_device(&thin.uuid).unwrap().unwrap().len.to_bytes(), Some(large));
        let size = |at| b.host().fs_state(thin.dev, fs, at).unwrap().size;
        assert_eq!(size(Some(&*call.target)), small);
        assert_eq!(refused(b.host().fs_grow(thin.dev, &volume().uuid(), fs, &call.target)), Changed);
        b.host().fs_grow(thin.dev, &thin.uuid, fs, &call.target).unwrap();
        assert_eq!(size(Some(&*call.target)), large);
        // It is that large already.
        b.host().fs_grow(thin.dev, &thin.uuid, fs, &call.target).unwrap();
        assert_eq!(b.get_file(&call.target, "file").as_deref(), Some("text"));
        b.host().unmount(&mounts_at(b, &call)[0]).unwrap();
        assert_eq!(size(None), large, "it is on the disk");
        let other = if fs == FsKind::Ext4 { FsKind::Xfs } else { FsKind::Ext4 };
        assert_eq!(kind(b.host().fs_state(thin.dev, other, None)).unwrap_err(), Invalid);
    }
}

pub fn a_sound_file_system_is_clean_and_one_in_use_is_not_checked<B: Bench>(b: &B) {
    let pool = pool(b);
    for (id, fs) in [(1, FsKind::Ext4), (2, FsKind::Xfs)] {
        let (thin, _) = formatted(b, &pool, id, fs);
        let call = call(b, &thin, fs);
        b.host().mount(&call).unwrap();
        b.put_file(&call.target, "file", "text");
        assert_eq!(kind(b.host().fs_check(thin.dev, &thin.uuid, fs, FsCheck::Look)).unwrap_err(), Busy);
        b.host().unmount(&mounts_at(b, &call)[0]).unwrap();
        assert!(!b.host().fs_state(thin.dev, fs, None).unwrap().errors);
        for how in [FsCheck::Look, FsCheck::Safe] {
            assert_eq!(b.host().fs_check(thin.dev, &thin.uuid, fs, how).unwrap(), FsVerdict::Clean);
        }
        assert_eq!(kind(b.host().fs_check(thin.dev, &volume().uuid(), fs, FsCheck::Look)).unwrap_err(), Changed);
        b.host().mount(&call).unwrap();
        assert_eq!(b.get_file(&call.target, "file").as_deref(), Some("text"));
        b.host().unmount(&mounts_at(b, &call)[0]).unwrap();
        remove(b, &thin);
        let device = volume();
        b.note(&device.uuid());
        let table = pool.thin_table(id, fs.size_min());
        let thin = b.host().dm_create(&DmCreate { read_only: true, ..creation(device, table) }).unwrap();
        assert_eq!(kind(b.host().fs_check(thin.dev, &thin.uuid, fs, FsCheck::Look)).unwrap_err(), Denied);
    }
}

pub fn a_directory_of_a_file_system_is_mounted_instead_of_its_root<B: Bench>(b: &B) {
    let pool = pool(b);
    let named = |text| Name::new(text).ok();
    let root = RootDir { subdir: named("data"), ..RootDir::default() };
    for (id, fs) in [(1, FsKind::Ext4), (2, FsKind::Xfs)] {
        let (thin, _) = formatted(b, &pool, id, fs);
        b.host().fs_prepare_root(thin.dev, &thin.uuid, fs, &root).unwrap();
        let alone = MountCall { subdir: named("data"), ..call(b, &thin, fs) };
        let other = MountCall { subdir: named("other"), ..call(b, &thin, fs) };
        assert_eq!(refused(b.host().mount(&other)), NoDirectory);
        assert_eq!((mounts_at(b, &other), open_count(b, &thin.uuid)), (Vec::new(), 0));
        b.host().mount(&alone).unwrap();
        let mounts = mounts_at(b, &alone);
        assert_eq!(mounts.len(), 1);
        assert_eq!((mounts[0].dev, mounts[0].root.as_path()), (thin.dev, "/data".as_ref()));
        assert_eq!(open_count(b, &thin.uuid), 1);
        b.put_file(&alone.target, "file", "text");
        // The whole beside it: what is in the directory is in the directory.
        let whole = call(b, &thin, fs);
        b.host().mount(&whole).unwrap();
        assert_eq!(mounts_at(b, &whole)[0].root, std::path::Path::new("/"));
        assert_eq!(b.get_file(&whole.target, "data/file").as_deref(), Some("text"));
        b.put_file(&whole.target, "other", "no directory");
        assert_eq!(refused(b.host().mount(&other)), NoDirectory);
        b.host().unmount(&mounts_at(b, &whole)[0]).unwrap();
        assert_eq!(b.get_file(&alone.target, "other"), None);
        let large = Bytes(fs.size_min().get() * 2);
        b.host().dm_reload(&thin.uuid, &pool.thin_table(id, large)).unwrap();
        b.host().fs_grow(thin.dev, &thin.uuid, fs, &alone.target).unwrap();
        assert_eq!(b.host().fs_state(thin.dev, fs, Some(&*alone.target)).unwrap().size, large);
        b.host().fs_trim(thin.dev, &alone.target).unwrap();
        b.host().unmount(&mounts[0]).unwrap();
        assert_eq!(open_count(b, &thin.uuid), 0);
        b.host().mount(&alone).unwrap();
        assert_eq!(b.get_file(&alone.target, "file").as_deref(), Some("text"));
        b.host().unmount(&mounts_at(b, &alone)[0]).unwrap();
    }
}

pub fn a_mount_is_shown_at_another_place_and_each_place_goes_by_itself<B: Bench>(b: &B) {
    let pool = pool(b);
    let (thin, _) = formatted(b, &pool, 1, FsKind::Ext4);
    let (strange, _) = formatted(b, &pool, 2, FsKind::Ext4);
    let staging = call(b, &thin, FsKind::Ext4);
    b.host().mount(&staging).unwrap();
    let place = |read_only| {
        let target = call(b, &thin, FsKind::Ext4).target;
        BindCall { dev: thin.dev, from: staging.target.clone(), target, read_only }
    };
    let (one, two) = (place(false), place(true));
    b.host().bind(&one).unwrap();
    b.host().bind(&two).unwrap();
    b.put_file(&one.target, "file", "text");
    assert_eq!(b.get_file(&two.target, "file").as_deref(), Some("text"));
    let at = |target: &std::path::Path| b.host().mounts().unwrap().into_iter().find(|mount| mount.target == target);
    let access = |target: &std::path::Path| at(target).map(|mount| (mount.dev, mount.read_only));
    assert_eq!([&staging.target, &one.target, &two.target].map(|at| access(at).unwrap().1), [false, false, true]);
    assert_eq!(access(&two.target).unwrap().0, thin.dev);
    // What is not mounted there is not shown.
    let wrong = BindCall { dev: strange.dev, ..place(false) };
    assert_eq!(refused(b.host().bind(&wrong)), Changed);
    let led = BindCall { target: b.symlink().join("x"), ..place(false) };
    assert_eq!(refused(b.host().bind(&led)), Invalid);
    assert_eq!(
        (access(&wrong.target), b.host().mounts().unwrap().iter().filter(|m| m.dev == thin.dev).count()),
        (None, 3)
    );
    // Each goes by itself.
    b.host().unmount(&at(&staging.target).unwrap()).unwrap();
    assert_eq!(b.get_file(&one.target, "file").as_deref(), Some("text"));
    b.host().unmount(&at(&one.target).unwrap()).unwrap();
    assert_eq!(open_count(b, &thin.uuid), 1);
    b.host().unmount(&at(&two.target).unwrap()).unwrap();
    assert_eq!(open_count(b, &thin.uuid), 0);
    assert!(b.host().remove_mount_point(&b.symlink()).is_err(), "no link is followed");
}

pub fn a_devices_node_is_shown_on_a_file_and_keeps_nothing_open<B: Bench>(b: &B) {
    let pool = pool(b);
    let (thin, _) = formatted(b, &pool, 1, FsKind::Ext4);
    let (strange, _) = formatted(b, &pool, 2, FsKind::Ext4);
    let place = |read_only| {
        let target = call(b, &thin, FsKind::Ext4).target.join("device");
        NodeCall { dev: thin.dev, dm_uuid: thin.uuid.clone(), target, read_only }
    };
    let (one, two) = (place(false), place(true));
    b.host().show_node(&one).unwrap();
    b.host().show_node(&two).unwrap();
    let at = |target: &std::path::Path| b.host().mounts().unwrap().into_iter().find(|mount| mount.target == target);
    let told = |target: &std::path::Path| at(target).map(|mount| (mount.is_node(), mount.dev, mount.read_only));
    assert_eq!(told(&one.target), Some((true, thin.dev, false)));
    assert_eq!(told(&two.target), Some((true, thin.dev, true)));
    assert_eq!(open_count(b, &thin.uuid), 0);
    // Another device's number, and a place that a link leads to.
    let wrong = NodeCall { dev: strange.dev, ..place(false) };
    assert_eq!(refused(b.host().show_node(&wrong)), Changed);
    let led = NodeCall { target: b.symlink().join("x"), ..place(false) };
    assert_eq!(refused(b.host().show_node(&led)), Invalid);
    assert_eq!(told(&wrong.target), None);
    for call in [&one, &two] {
        assert_eq!(refused(b.host().remove_mount_point(&call.target)), Busy);
        b.host().unmount(&at(&call.target).unwrap()).unwrap();
        b.host().remove_mount_point(&call.target).unwrap();
        assert_eq!(refused(b.host().remove_mount_point(&call.target)), NotFound);
    }
}
