//! Names, sizes, missing and used objects, clients without the right, and a daemon that does not run.

use std::process::Command;
use vol_tests::machine::finish;
use vol_tests::{Machine, kernel, tool};

/// Runs `check`, and sees that the VG's metadata and the kernel are as before.
#[track_caller]
fn nothing_changes(m: &Machine, check: impl FnOnce()) {
    m.settled();
    let before = (m.sequence(), kernel::snapshot());
    check();
    assert_eq!(before, (m.sequence(), kernel::snapshot()), "a refusal changed something{}", m.log());
}

#[test]
fn names_that_are_taken_or_malformed() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    m.ok(&["volume", "create", &m.of("v"), "--size", "64M"]);
    m.ok(&["snapshot", "create", &m.of("v@s")]);
    nothing_changes(&m, || {
        let (vg, tank, v) = (m.vg.as_str(), m.of("tank"), m.of("v"));
        m.refused(5, &[vg], &["vg", "create", vg, m.disk(1)]);
        m.refused(5, &[&tank], &["pool", "create", &tank, "--size", "64M"]);
        m.refused(5, &[&v], &["volume", "create", &v, "--size", "65M"]);
        m.refused(5, &[&v], &["volume", "create", &v, "--size", "64M", "--fs", "none"]);
        m.refused(5, &[&tank], &["volume", "create", &tank, "--size", "64M"]);
        m.refused(5, &[&v], &["pool", "create", &v, "--size", "64M"]);
        // The same volume once more is no second effect. A snapshot is a moment, and this is another one.
        assert_eq!(m.json(&["volume", "create", &v, "--size", "64M"])["changed"], false);
        m.refused(5, &["v@s"], &["snapshot", "create", &m.of("v@s")]);
        let long = "n".repeat(129);
        for bad in ["", "-x", ".x", "a b", "a/b/c", "ä", "a\nb", "../x", &long] {
            m.refused(2, &["name"], &["vg", "create", "--", bad, m.disk(1)]);
            let ran = m.run(&["volume", "create", "--size", "64M", "--", &m.of(bad)]);
            assert_eq!(ran.code, 2, "{ran:?}");
            let ran = m.run(&["snapshot", "create", "--", &format!("{v}@{bad}")]);
            assert_eq!(ran.code, 2, "{ran:?}");
        }
    });
}

#[test]
fn sizes_that_are_none() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    nothing_changes(&m, || {
        let new = m.of("new");
        for bad in ["0", "0G", "-1G", "ten", "1X", "", "1e3", "NaN", "99999999999999999999", "20000000T", "10%FREE"] {
            m.refused(2, &["size"], &["volume", "create", &new, &format!("--size={bad}")]);
        }
        for bad in ["0", "-1G", "ten", "0%FREE", "101%FREE", "-5%FREE", "50%", "99999999999999999999"] {
            m.refused(2, &["size"], &["pool", "create", &new, &format!("--size={bad}")]);
        }
        // Beyond what a block device can have.
        m.refused(2, &["block device"], &["volume", "create", &new, "--fs", "none", "--size", "8388608T"]);
        // Beyond the pool's policy: ten times its size unless told otherwise.
        m.refused(6, &["over-commit", "tank"], &["volume", "create", &new, "--fs", "none", "--size", "33T"]);
        // Beyond the VG.
        m.refused(6, &[&m.vg], &["pool", "create", &new, "--size", "4T"]);
        m.refused(2, &["needs"], &["pool", "create", &new, "--size", "1M"]);
        // Too small for its file system.
        m.refused(2, &["xfs", "too small"], &["volume", "create", &new, "--fs", "xfs", "--size", "64M"]);
        for bad in ["63K", "65K", "2G", "0"] {
            m.refused(2, &[], &["pool", "create", &new, "--size", "64M", "--chunk-size", bad]);
        }
        m.refused(2, &[], &["pool", "create", &new, "--size", "64M", "--overcommit-limit", "99"]);
        for bad in ["0", "3M", "2G", "512K"] {
            m.refused(2, &[], &["vg", "create", "other", m.disk(1), "--extent-size", bad]);
        }
    });
}

#[test]
fn what_does_not_exist_is_not_found() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    m.ok(&["volume", "create", &m.of("v"), "--size", "64M"]);
    nothing_changes(&m, || {
        let (no, at) = (m.of("no"), m.path("at"));
        m.refused(3, &["nosuchvg"], &["vg", "show", "nosuchvg"]);
        m.refused(3, &["nosuchvg"], &["pool", "create", "nosuchvg/p", "--size", "1G"]);
        m.refused(3, &["nosuchvg"], &["volume", "create", "nosuchvg/v", "--size", "1G"]);
        m.refused(3, &[&no], &["pool", "show", &no]);
        m.refused(3, &[&no], &["volume", "create", &m.of("new"), "--pool", "no", "--size", "64M"]);
        m.refused(3, &[&no], &["volume", "show", &no]);
        m.refused(3, &[&no], &["volume", "mount", &no, &at]);
        m.refused(3, &[&no], &["volume", "unmount", &no]);
        m.refused(3, &["no"], &["snapshot", "create", &m.of("no@s")]);
        m.refused(3, &["v@no"], &["snapshot", "show", &m.of("v@no")]);
        m.refused(3, &["v@no"], &["snapshot", "mount", &m.of("v@no"), &at]);
        m.refused(3, &["/dev/null"], &["pv", "show", "/dev/null"]);
        m.refused(3, &[&no], &["volume", "delete", &no, "--yes"]);
        m.refused(3, &[&no], &["pool", "delete", &no, "--yes"]);
        m.refused(3, &["v@no"], &["snapshot", "delete", &m.of("v@no"), "--yes"]);
        m.refused(3, &["nosuchvg"], &["vg", "delete", "nosuchvg", "--yes"]);
        assert!(!std::path::Path::new(&at).exists(), "a mount point was made for nothing");
    });
}

#[test]
fn what_is_in_use_is_not_deleted() {
    let Some(m) = Machine::start() else { return };
    m.with_pool(1);
    let (v, at, old) = (m.of("v"), m.path("at"), m.path("old"));
    m.ok(&["volume", "create", &v, "--size", "64M"]);
    m.ok(&["volume", "mount", &v, &at]);
    m.ok(&["snapshot", "create", &m.of("v@s")]);
    m.ok(&["snapshot", "mount", &m.of("v@s"), &old]);
    nothing_changes(&m, || {
        m.refused(4, &[&v, "mounted at", &at], &["volume", "delete", &v, "--yes"]);
        m.refused(4, &["v@s", "mounted at", &old], &["snapshot", "delete", &m.of("v@s"), "--yes"]);
        m.refused(4, &[&m.of("tank"), &v], &["pool", "delete", &m.of("tank"), "--yes"]);
        m.refused(4, &[&m.vg, &m.of("tank")], &["vg", "delete", &m.vg, "--yes"]);
        // Without --yes there is nobody to ask.
        assert_eq!(m.run(&["pool", "delete", &m.of("tank")]).code, 4);
        let system = m.run(&["snapshot", "mount", &m.of("v@s"), "/usr"]);
        m.check_refusal(&system, 1, &["/usr"]);
        // Somebody else's mount point.
        m.refused(4, &[&at], &["snapshot", "mount", &m.of("v@s"), &at]);
    });
    // A process whose working directory it is.
    let mut guest = Command::new("sleep").arg("3600").current_dir(&at).spawn().unwrap();
    m.refused(4, &[&at], &["volume", "unmount", &v]);
    guest.kill().unwrap();
    guest.wait().unwrap();
    m.ok(&["volume", "unmount", &v]);
    m.refused(9, &["--yes"], &["volume", "delete", &v]);
    m.ok(&["volume", "delete", &v, "--yes"]);
}

#[test]
fn clients_have_the_rights_of_their_group_and_no_others() {
    {
        let Some(m) = Machine::start() else { return };
        m.with_pool(1);
        let ran = as_nobody(&m, &["vg", "list"]);
        m.check_refusal(&ran, 7, &[]);
    }
    let Some(group) = nobodys_group() else { return vol_tests::skip("there is no user nobody") };
    let Some(m) = Machine::with(&format!("observe_group = \"{group}\"\n")) else { return };
    m.with_pool(1);
    let seen = as_nobody(&m, &["vg", "list"]);
    assert!(seen.code == 0 && seen.out.contains(&m.vg), "{seen:?}{}", m.log());
    nothing_changes(&m, || {
        for args in [
            &["volume", "create", &m.of("v"), "--size", "64M"][..],
            &["pool", "delete", &m.of("tank"), "--yes"],
            &["vg", "create", "other", m.disk(1)],
            &["init", m.disk(1)],
            &["pv", "scan"],
            &["vg", "delete", &m.vg, "--dry-run"],
        ] {
            let ran = as_nobody(&m, args);
            m.check_refusal(&ran, 7, &[]);
        }
    });
}

fn as_nobody(m: &Machine, args: &[&str]) -> vol_tests::Ran {
    let volctl = m.volctl(args);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(volctl.get_program()).args(volctl.get_args());
    command.env("VOLUMED_SOCKET", m.path("run/control.sock"));
    finish(format!("(as nobody) {}", args.join(" ")), &mut command)
}

/// The name of group 65534.
fn nobodys_group() -> Option<String> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find(|line| line.split(':').nth(2) == Some("65534"))?.split(':').next().map(str::to_owned)
}

#[test]
fn a_daemon_that_does_not_run_is_told_how_to_start() {
    let Some(mut m) = Machine::start() else { return };
    m.refused(3, &["nosuchvg"], &["vg", "show", "nosuchvg"]);
    m.stop_daemon();
    for args in
        [&["status"][..], &["vg", "list"], &["vg", "create", "x", m.disk(0)], &["volume", "delete", "x/y", "--yes"]]
    {
        m.refused(8, &["not running", "systemctl start volumed"], args);
    }
    m.start_daemon();
    m.kill9();
    // The socket's file is still there.
    m.refused(8, &["not running", "systemctl start volumed"], &["status"]);
    m.start_daemon();
    // A second daemon beside the first one gives up and does no harm.
    let second = tool::attempt("timeout", &["120", &bin(), "--config", &m.path("volumed.toml")]).unwrap();
    assert!(!matches!(second.status.code(), Some(0 | 124)), "a second daemon ran: {second:?}");
    m.ok(&["status"]);
}

fn bin() -> String {
    let dir = std::env::var("VOLUMED_TEST_BIN_DIR").unwrap_or_else(|_| "/usr/local/bin".into());
    format!("{dir}/volumed")
}
