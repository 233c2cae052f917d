use std::path::Path;

use vol_core::RefusalCode;
use vol_core::plan::mount::{self, MountAs};
use vol_types::*;

use super::fixture::*;

#[test]
fn a_mount_activates_first_and_is_done_once() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap();
    let mut kernel = kernel(&catalog, 1);
    let plan = mount::mount(&catalog, &kernel, pg, Path::new("/srv/pg"), false).unwrap();
    assert_eq!(text(&plan)[1], "check the ext4, if the kernel met errors in it, and put right what is safe");
    assert_eq!(text(&plan)[2], "mount pg at /srv/pg (ext4, rw,nosuid,nodev)");
    assert_eq!(text(&plan)[3], "grow the ext4 at /srv/pg, if it is smaller than its device");
    mounted(&mut kernel, pg.id, "/srv/pg");
    assert!(mount::mount(&catalog, &kernel, pg, Path::new("/srv/pg"), false).unwrap().is_empty());
    let read_only = mount::mount(&catalog, &kernel, pg, Path::new("/srv/pg"), true).unwrap_err();
    assert_eq!(read_only.code, RefusalCode::Exists);
}

#[test]
fn a_directory_is_mounted_once_and_not_taken_for_another_one() {
    let catalog = vg_with_volume();
    let pg = Volume { subdir: Name::new("data").ok().map(Box::new), ..catalog.volumes().next().unwrap().clone() };
    let mut kernel = kernel(&catalog, 1);
    let at = Path::new("/srv/pg");
    let whole = MountAs { whole: true, ..MountAs::default() };
    let plan = mount::mount(&catalog, &kernel, &pg, at, false).unwrap();
    assert_eq!(text(&plan)[2], "mount the directory data of pg at /srv/pg (ext4, rw,nosuid,nodev)");
    let plan = mount::mount(&catalog, &kernel, &pg, at, whole).unwrap();
    assert_eq!(text(&plan)[2], "mount pg at /srv/pg (ext4, rw,nosuid,nodev)");
    mounted(&mut kernel, pg.id, "/srv/pg");
    for (fs_type, root, directory, entire) in [
        ("ext4", "/data", true, false),
        ("ext4", "/", false, true),
        ("ext4", "/data/data", false, false),
        ("ext4", "/data//deleted", false, false),
        ("btrfs", "/data", true, false),
        ("btrfs", "/subvolume/data", true, false),
        ("btrfs", "/subvolume", false, false),
    ] {
        kernel.mounts[0].fs_type = fs_type.to_owned();
        kernel.mounts[0].root = root.into();
        for (how, same) in [(MountAs::default(), directory), (whole, entire)] {
            match mount::mount(&catalog, &kernel, &pg, at, how) {
                Ok(plan) => assert!(same && plan.is_empty(), "{root} of {fs_type} is taken for it"),
                Err(refusal) => {
                    assert!(!same && refusal.code == RefusalCode::Exists, "{fs_type} {root}: {refusal}");
                    assert!(refusal.message.ends_with(root), "{refusal}");
                }
            }
        }
    }
    // Of a volume whose root is handed out, any mount of it is one, as ever.
    let plain = catalog.volumes().next().unwrap();
    assert!(mount::mount(&catalog, &kernel, plain, at, false).unwrap().is_empty());
}

#[test]
fn mount_points_that_climb_or_hide_the_system_are_refused() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap();
    let kernel = kernel(&catalog, 1);
    let code = |target: &str| mount::mount(&catalog, &kernel, pg, Path::new(target), false).unwrap_err().code;
    assert_eq!(code("srv/pg"), RefusalCode::Invalid);
    assert_eq!(code("/srv/../etc"), RefusalCode::Invalid);
    assert_eq!(code("/srv/\0"), RefusalCode::Invalid);
    assert_eq!(code(&format!("/{}", "x".repeat(5000))), RefusalCode::Invalid);
    for system in ["/", "/etc", "/usr", "/etc/"] {
        assert_eq!(code(system), RefusalCode::Refused, "{system}");
    }
}

#[test]
fn nothing_is_mounted_over_something_else() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap();
    let mut kernel = kernel(&catalog, 1);
    mounted(&mut kernel, VolumeId::from_uuid(uuid(99)), "/srv/pg");
    let refusal = mount::mount(&catalog, &kernel, pg, Path::new("/srv/pg"), false).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy);
}

#[test]
fn an_unmounted_volume_is_deactivated_unless_somebody_has_it_open_when_that_is_tried() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap();
    let mut kernel = kernel(&catalog, 1);
    mounted(&mut kernel, pg.id, "/srv/pg");
    let kinds = |kernel: &_| -> Vec<_> {
        mount::unmount(&catalog, kernel, pg, None, None).unwrap().steps.iter().map(|step| step.action.kind()).collect()
    };
    assert_eq!(kinds(&kernel), ["unmount", "release-dm"]);
    // It may be udev, which is gone a moment later: only the attempt tells.
    kernel.dm.get_mut(&vol_core::dm::Device::Volume(pg.id)).unwrap().open_count = 2;
    assert_eq!(kinds(&kernel), ["unmount", "release-dm"]);
    // Not mounted, and somebody else's: there is nothing to be done.
    kernel.mounts.clear();
    assert_eq!(kinds(&kernel), <[&str; 0]>::default());
    kernel.dm.get_mut(&vol_core::dm::Device::Volume(pg.id)).unwrap().open_count = 0;
    assert_eq!(kinds(&kernel), ["release-dm"]);
}

#[test]
fn unmounting_what_is_not_mounted_changes_nothing() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap();
    let kernel = kernel(&catalog, 1);
    assert!(mount::unmount(&catalog, &kernel, pg, None, None).unwrap().is_empty());
    let refusal = mount::unmount(&catalog, &kernel, pg, Some(Path::new("/mnt")), None).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotFound);
}

#[test]
fn a_volume_is_shown_from_where_it_is_mounted_and_from_nowhere_else() {
    let catalog = vg_with_volume();
    let pg = catalog.volumes().next().unwrap();
    let mut kernel = kernel(&catalog, 1);
    let (from, to) = (Path::new("/k/staging"), Path::new("/k/pod"));
    let not_there = mount::bind(&catalog, &kernel, pg, from, to, false).unwrap_err();
    assert_eq!(not_there.code, RefusalCode::Refused, "{not_there}");
    mounted(&mut kernel, pg.id, "/k/staging");
    let plan = mount::bind(&catalog, &kernel, pg, from, to, true).unwrap();
    assert_eq!(text(&plan), ["show pg, mounted at /k/staging, at /k/pod too (ro)"]);
    assert!(plan.goes_apart(), "nobody else's work waits for it");
    // Somebody mounted something else over it.
    let mut covered = kernel.clone();
    let mut above = covered.mounts[0].clone();
    (above.mount_id, above.dev.minor) = (above.mount_id + 1, above.dev.minor + 1);
    covered.mounts.push(above);
    assert_eq!(mount::bind(&catalog, &covered, pg, from, to, true).unwrap_err().code, RefusalCode::Refused);
    mounted(&mut kernel, pg.id, "/k/pod");
    assert!(mount::bind(&catalog, &kernel, pg, from, to, false).unwrap().is_empty());
    assert_eq!(mount::bind(&catalog, &kernel, pg, from, to, true).unwrap_err().code, RefusalCode::Exists);
}
