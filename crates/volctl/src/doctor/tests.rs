//! Each finding, provoked on a machine that is made of files.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use super::*;

struct Fake {
    dir: tempfile::TempDir,
    machine: Machine,
}

impl Fake {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { root: dir.path().to_owned() };
        Self { dir, machine }
    }

    /// A machine on which all is well.
    fn sound() -> Self {
        let fake = Self::new();
        fake.file("/proc/sys/kernel/osrelease", "6.12.8-amd64\n");
        fake.file("/proc/sys/kernel/io_uring_disabled", "0\n");
        fake.file("/proc/1/mountinfo", "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n");
        for module in ["dm_mod", "dm_thin_pool", "loop"] {
            fake.file(&format!("/sys/module/{module}/refcnt"), "0");
        }
        fake.file("/proc/77/comm", "systemd-udevd\n");
        fake.file("/proc/77/stat", "77 (systemd-udevd) S 1 77");
        fake.file("/usr/lib/udev/rules.d/60-volumed.rules", "# rules\n");
        fake.file("/run/systemd/system/x", "");
        fake.file("/usr/lib/systemd/system/volumed.service", "[Unit]\n");
        fake.file("/etc/systemd/system/multi-user.target.wants/volumed.service", "");
        fake.file("/etc/group", "root:x:0:\nvolumed:x:0:\n");
        fake
    }

    fn file(&self, path: &str, text: &str) {
        let at = self.machine.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    }

    fn program(&self, name: &str, says: &str) {
        let path = format!("/usr/sbin/{name}");
        self.file(&path, &format!("#!/bin/sh\necho '{says}'\n"));
        fs::set_permissions(self.machine.at(&path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn gone(&self, path: &str) {
        let at = self.machine.at(path);
        if at.is_dir() { fs::remove_dir_all(at).unwrap() } else { fs::remove_file(at).unwrap() }
    }
}

fn all_ok(found: &[Finding]) -> bool {
    found.iter().all(|one| one.level == Level::Ok)
}

/// What is not as it should be: check, level, and that it says what to do.
fn bad(found: impl IntoIterator<Item = Finding>) -> Vec<(String, Level)> {
    let bad = found.into_iter().filter(|one| one.level > Level::Ok);
    bad.map(|one| {
        assert!(!one.message.is_empty() && !one.hint.is_empty(), "{one:?}");
        (one.check, one.level)
    })
    .collect()
}

fn one(check: &str, level: Level) -> Vec<(String, Level)> {
    vec![(check.to_owned(), level)]
}

#[test]
fn a_sound_machine_has_nothing_to_complain_about() {
    let fake = Fake::sound();
    let m = &fake.machine;
    assert!(
        all_ok(&host::kernel(m)) && all_ok(&host::udev(m)) && all_ok(&[host::propagation(m)]),
        "{:?}",
        host::udev(m)
    );
    assert!(all_ok(&host::io_uring(m).into_iter().collect::<Vec<_>>()));
    assert!(all_ok(&service::unit(m)) && all_ok(&leftovers::files(m)) && all_ok(&leftovers::loops(m)));
    assert!(all_ok(&leftovers::devices(m)));
}

#[test]
fn an_old_kernel_and_missing_modules_are_told() {
    let fake = Fake::sound();
    fake.file("/proc/sys/kernel/osrelease", "4.19.0-27-amd64");
    assert_eq!(bad(host::kernel(&fake.machine)), one("kernel", Level::Warning));
    fake.file("/proc/sys/kernel/osrelease", "6.1.0");
    fake.gone("/sys/module/dm_thin_pool");
    assert_eq!(bad(host::kernel(&fake.machine)), one("kernel_modules", Level::Problem));
    fake.file(
        "/lib/modules/6.1.0/modules.dep",
        "kernel/drivers/md/dm-thin-pool.ko.xz: kernel/drivers/md/dm-bufio.ko.xz\n",
    );
    assert_eq!(bad(host::kernel(&fake.machine)), one("kernel_modules", Level::Note));
    fake.file("/lib/modules/6.1.0/modules.builtin", "kernel/drivers/md/dm-thin-pool.ko\n");
    assert_eq!(bad(host::kernel(&fake.machine)), []);
}

#[test]
fn io_uring_that_is_forbidden_is_told() {
    let fake = Fake::sound();
    fake.file("/proc/sys/kernel/io_uring_disabled", "2\n");
    assert_eq!(bad(host::io_uring(&fake.machine)), one("io_uring_sysctl", Level::Warning));
    fake.file("/proc/sys/kernel/io_uring_disabled", "1\n");
    assert_eq!(bad(host::io_uring(&fake.machine)), one("io_uring_sysctl", Level::Note));
    fake.gone("/proc/sys/kernel/io_uring_disabled");
    assert!(host::io_uring(&fake.machine).is_none(), "older kernels have no such setting");
}

#[test]
fn udevd_that_is_stopped_or_gone_and_rules_that_are_missing_or_masked_are_told() {
    let fake = Fake::sound();
    fake.file("/proc/77/stat", "77 (systemd-udevd) T 1 77");
    assert_eq!(bad(host::udev(&fake.machine)), one("udevd", Level::Warning));
    fake.gone("/proc/77");
    assert_eq!(bad(host::udev(&fake.machine)), one("udevd", Level::Warning));
    let fake = Fake::sound();
    fs::create_dir_all(fake.machine.at("/etc/udev/rules.d")).unwrap();
    symlink("/dev/null", fake.machine.at("/etc/udev/rules.d/60-volumed.rules")).unwrap();
    let masked = host::udev(&fake.machine);
    assert!(masked[1].hint.contains("rm /etc/udev/rules.d/60-volumed.rules"), "{masked:?}");
    assert_eq!(bad(masked), one("udev_rules", Level::Warning));
    fake.gone("/etc/udev/rules.d/60-volumed.rules");
    fake.gone("/usr/lib/udev");
    assert_eq!(bad(host::udev(&fake.machine)), one("udev_rules", Level::Warning));
}

#[test]
fn a_private_root_is_told() {
    let fake = Fake::sound();
    fake.file(
        "/proc/1/mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:5 / /proc rw shared:2 - proc proc rw\n",
    );
    assert_eq!(bad([host::propagation(&fake.machine)]), one("mount_propagation", Level::Note));
}

#[test]
fn a_unit_that_is_missing_or_not_enabled_is_told() {
    let fake = Fake::sound();
    fake.gone("/etc/systemd/system/multi-user.target.wants/volumed.service");
    assert_eq!(bad(service::unit(&fake.machine)), one("unit", Level::Warning));
    fake.gone("/usr/lib/systemd/system/volumed.service");
    assert_eq!(bad(service::unit(&fake.machine)), one("unit", Level::Warning));
    fake.gone("/run/systemd");
    assert_eq!(bad(service::unit(&fake.machine)), []);
}

#[test]
fn a_socket_with_a_wrong_mode_or_something_else_in_its_place_is_told() {
    let fake = Fake::sound();
    let path = Path::new("/run/s.sock");
    let found = || bad(service::socket(&fake.machine, path));
    assert_eq!(found(), [], "that it is not there is the daemon's finding");
    let _listener = UnixListener::bind(fake.machine.at("/run/s.sock")).unwrap();
    for (mode, expected) in
        [(0o600, one("socket", Level::Note)), (0o660, vec![]), (0o666, vec![]), (0o777, one("socket", Level::Warning))]
    {
        fs::set_permissions(fake.machine.at("/run/s.sock"), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(found(), expected, "{mode:o}");
    }
    fake.gone("/run/s.sock");
    fake.file("/run/s.sock", "x");
    assert_eq!(found(), one("socket", Level::Problem));
}

#[tokio::test]
async fn programs_are_named_with_their_versions_and_what_is_missing_with_its_package() {
    let fake = Fake::sound();
    let none = programs::all(&fake.machine).await;
    assert_eq!(none.len(), 4);
    assert!(none.iter().all(|one| one.hint.starts_with("apt install ")), "{none:?}");
    assert_eq!(none.iter().map(|one| one.level).max(), Some(Level::Problem));
    for name in ["mkfs.ext4", "e2fsck", "resize2fs"] {
        fake.program(name, "tool 1.47.2 (1-Jan-2025)");
    }
    let found = programs::all(&fake.machine).await;
    assert_eq!(
        (found[0].level, found[0].message.as_str()),
        (Level::Ok, "mkfs.ext4 1.47.2, e2fsck 1.47.2, resize2fs 1.47.2")
    );
}

#[test]
fn devices_that_are_suspended_without_a_daemon_are_a_problem() {
    let fake = Fake::sound();
    let device = |number: u32, uuid: &str, suspended: &str| {
        let dir = format!("/sys/block/dm-{number}/dm");
        fake.file(&format!("{dir}/uuid"), uuid);
        fake.file(&format!("{dir}/name"), &format!("name-{number}\n"));
        fake.file(&format!("{dir}/suspended"), suspended);
    };
    device(0, "LVM-x", "1\n");
    assert_eq!(bad(leftovers::devices(&fake.machine)), []);
    device(1, "VOLUMED-x\n", "0\n");
    assert_eq!(bad(leftovers::devices(&fake.machine)), one("devices", Level::Note));
    device(2, "VOLUMED-y\n", "1\n");
    let found = leftovers::devices(&fake.machine);
    assert!(found[0].hint.contains("dmsetup resume name-2"), "{found:?}");
    assert_eq!(found[0].level, Level::Problem);
}

#[test]
fn loop_devices_on_deleted_files_are_told_and_the_worse_if_something_stands_on_them() {
    let fake = Fake::sound();
    fake.file("/sys/block/loop0/loop/backing_file", "/var/lib/volumed/a.img\n");
    fake.file("/sys/block/loop1/loop/backing_file", "/somewhere/else.iso (deleted)\n");
    assert_eq!(bad(leftovers::loops(&fake.machine)), []);
    fake.file("/sys/block/loop2/loop/backing_file", "/var/lib/volumed/b.img (deleted)\n");
    assert_eq!(bad(leftovers::loops(&fake.machine)), one("loop_devices", Level::Warning));
    fake.file("/sys/block/loop2/holders/dm-0", "");
    assert_eq!(bad(leftovers::loops(&fake.machine)), one("loop_devices", Level::Problem));
}

#[test]
fn backing_files_that_are_gone_and_files_that_nobody_uses_are_told() {
    let fake = Fake::sound();
    fake.file("/var/lib/volumed/backing-files", "/var/lib/volumed/a.img\n/srv/b.img\n");
    fake.file("/var/lib/volumed/a.img", "data");
    fake.file("/srv/b.img", "data");
    // What the daemon remembers beside them is no volume's.
    for name in ["idempotency-keys.jsonl", "idempotency-keys.new", "mount-references.jsonl", "mount-references.new"] {
        fake.file(&format!("/var/lib/volumed/{name}"), "{}");
    }
    assert_eq!(bad(leftovers::files(&fake.machine)), []);
    fake.gone("/srv/b.img");
    assert_eq!(bad(leftovers::files(&fake.machine)), one("files_missing", Level::Problem));
    fake.file("/srv/b.img", "data");
    fake.file("/var/lib/volumed/old.img", "data");
    assert_eq!(bad(leftovers::files(&fake.machine)), one("files_unused", Level::Note));
}

#[tokio::test]
async fn without_a_daemon_its_program_is_asked_and_without_that_it_is_told() {
    let fake = Fake::sound();
    let client = Client::new(fake.dir.path().join("run/nobody.sock"));
    let doctor = Doctor::new(vec![Finding::new("configuration", Level::Problem, "would not start", "correct it")]);
    fake.program("volumed", &serde_json::to_string(&doctor).unwrap());
    let seen = fake.machine.examine(&client).await;
    assert_eq!(seen.level, Level::Problem);
    let of = |check: &str| seen.findings.iter().filter(|one| one.check == check).count();
    assert_eq!((of("daemon"), of("configuration"), of("devices")), (1, 1, 1), "{seen:?}");
    fake.program("volumed", "unexpected argument 'doctor'");
    let seen = fake.machine.examine(&client).await;
    assert!(
        seen.findings.iter().any(|one| one.check == "volumed" && one.message.contains("of another release")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn what_runs_too_long_is_given_up() {
    let error = run(Path::new("/nowhere/at/all"), &[]).await.unwrap_err();
    assert!(error.starts_with("cannot be run"), "{error}");
}
