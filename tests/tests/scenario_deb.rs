//! The Debian package in a guest with systemd: installed, upgraded under a writer, removed, purged, installed again. No data is
//! touched, no I/O notices.

use std::path::Path;
use std::process::Command;
use vol_tests::guest::Lab;

/// What the guest runs; /share has `old.deb` and `new.deb`.
const SCRIPT: &str = r#"
set -eu
fail() { echo "FAILED: $*"; systemctl status volumed --no-pager -n 30 || true; exit 1; }
same() { test "$1" = "$2" || fail "$3: was $1, is $2"; }
dm() { dmsetup table | sort; dmsetup info -c --noheadings -o uuid,major,minor,suspended | sort; grep ' /dev/.*dm-\| /srv/' /proc/self/mountinfo; }
pid() { systemctl show -P MainPID volumed; }

command -v volumed volctl && fail "the guest is not bare"
echo "step: install"
dpkg --force-unsafe-io -i /share/old.deb 2>&1
systemctl is-active --quiet volumed || fail "not started"
systemctl is-enabled --quiet volumed || fail "not enabled"
for file in /etc/volumed/volumed.toml /usr/share/man/man1/volctl-volume-create.1.gz /usr/share/man/man8/volumed.8.gz \
    /usr/share/man/man5/volumed.toml.5.gz /usr/share/bash-completion/completions/volctl; do
    test -f "$file" || fail "$file is not there"
done
# The lab's root installs no documents.
dpkg-deb -c /share/old.deb 2>&1 | grep -c ' ./usr/share/doc/volumed/copyright$' || fail "no copyright"
volumed --check-config
volctl doctor -o json >/run/doctor || test $? = 10 || fail "doctor: $(volctl doctor -q)"
same "$(jq -r '.findings[] | select(.check == "unit") | .level' /run/doctor)" ok "doctor about the unit"

volctl init /dev/labdisk0
volctl volume create data/v --size 1G
volctl volume mount data/v /srv/v
volctl init --vg filed --file /var/lib/volumed/demo.img:1G
volctl volume create filed/w --size 256M
volctl volume mount filed/w /srv/w
echo kept >/srv/w/file
echo '# by the administrator' >>/etc/volumed/volumed.toml
dm >/run/before
touch /srv/v/log
(i=0; while [ ! -e /run/stop ]; do i=$((i + 1)); { echo $i >>/srv/v/log && sync -d /srv/v/log; } 2>>/run/errors || echo "line $i" >>/run/errors; sleep 0.05; done) &
writer=$!
lines() { wc -l </srv/v/log; }
goes_on() { local n; n=$(lines); for _ in $(seq 900); do [ "$(lines)" -gt "$n" ] && return; sleep 0.1; done; fail "nothing is written any more after $1"; }
unchanged() { dm >/run/after; diff /run/before /run/after || fail "something changed in the kernel by $1"; goes_on "$1"; }
goes_on "the start"

echo "step: upgrade"
old=$(pid)
dpkg --force-unsafe-io -i /share/new.deb 2>&1
same "$(dpkg-query -W -f '${Version}' volumed)" 9.9.9 version
systemctl is-active --quiet volumed || fail "does not run after the upgrade"
test "$(pid)" != "$old" || fail "the daemon was not restarted"
grep -q administrator /etc/volumed/volumed.toml || fail "the administrator's configuration is gone"
same "$(volctl status -o name)" ok health
unchanged "the upgrade"

echo "step: the scripts again"
DPKG_MAINTSCRIPT_PACKAGE=volumed /var/lib/dpkg/info/volumed.postinst configure 9.9.9
systemctl disable --quiet volumed
DPKG_MAINTSCRIPT_PACKAGE=volumed /var/lib/dpkg/info/volumed.postinst configure 9.9.9
systemctl is-enabled --quiet volumed && fail "an upgrade enabled what the administrator had switched off"
systemctl enable --quiet volumed
unchanged "running the scripts again"

echo "step: reload"
echo 'move_share = 20' >>/etc/volumed/volumed.toml
old=$(pid)
systemctl reload volumed
same "$(pid)" "$old" "the daemon"
same "$(volctl status -o name)" ok "health after a reload"
echo 'move_shar = 20' >>/etc/volumed/volumed.toml
systemctl reload volumed
volctl status -o json | jq -e '.problems[] | select(.code == "configuration_refused")' >/dev/null || fail "a bad file was not refused"
systemctl status volumed --no-pager | grep -q 'Status: .*did you mean "move_share"' || fail "systemctl status does not tell"
volumed --check-config 2>/dev/null && fail "--check-config takes a bad file"
sed -i '/move_shar /d' /etc/volumed/volumed.toml
systemctl reload volumed
same "$(volctl status -o name)" ok "health after a good file"

echo "step: remove"
dpkg -r volumed 2>&1
test ! -e /usr/sbin/volumed || fail "the program is still there"
test -f /etc/volumed/volumed.toml || fail "removing took the configuration"
same "$(pgrep -c -x volumed || true)" 0 "daemons"
unchanged "the removal"

echo "step: purge"
dpkg -P volumed >/run/purge 2>&1
cat /run/purge
test ! -e /etc/volumed || fail "the configuration is still there"
test -f /var/lib/volumed/demo.img || fail "THE BACKING FILE IS GONE"
grep -q '/var/lib/volumed/demo.img' /run/purge || fail "what was left is not told"
unchanged "the purge"
same "$(cat /srv/w/file)" kept "what is in the volume of the backing file"

echo "step: install again"
dpkg --force-unsafe-io -i /share/new.deb >/dev/null 2>&1
for n in $(seq 900); do [ "$(volctl status -o name 2>/dev/null)" = ok ] && break; sleep 0.1; done
same "$(volctl volume list -o name | sort | tr '\n' ' ')" "data/v filed/w " volumes
same "$(volctl status -o json | jq .counts.mounted)" 2 "mounted volumes"
unchanged "installing again"
touch /run/stop
wait "$writer"
test ! -s /run/errors || fail "writes failed: $(head -3 /run/errors)"
same "$(seq "$(lines)" | md5sum)" "$(md5sum </srv/v/log)" "what was written"
volctl volume unmount data/v
volctl volume unmount filed/w
volctl volume delete filed/w --yes --now
echo "wrote $(lines 2>/dev/null || true) all well"
"#;

#[test]
fn the_package_installs_upgrades_and_goes_without_touching_a_volume() {
    let Some(lab) = Lab::new() else { return };
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        return vol_tests::skip("there is no dpkg-deb on this machine");
    }
    let share = lab.dir().join("share");
    std::fs::create_dir(&share).unwrap();
    std::fs::rename(lab.package("0.0.1"), share.join("old.deb")).unwrap();
    raise_version(&share.join("old.deb"), &lab.dir().join("unpacked"), &share.join("new.deb"));
    let said = lab.ok(&["--systemd", "--bare", "--disk", "4G", "--share", share.to_str().unwrap()], SCRIPT);
    assert!(said.contains("all well"), "{said}");
}

/// The same package as 9.9.9.
fn raise_version(old: &Path, tree: &Path, new: &Path) {
    let dpkg = |args: &[&std::ffi::OsStr]| {
        let out = Command::new("dpkg-deb").args(args).output().unwrap();
        assert!(out.status.success(), "{out:?}");
    };
    dpkg(&["-R".as_ref(), old.as_ref(), tree.as_ref()]);
    let control = tree.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control).unwrap();
    assert!(text.contains("\nVersion: 0.0.1\n"), "{text}");
    std::fs::write(&control, text.replace("\nVersion: 0.0.1\n", "\nVersion: 9.9.9\n")).unwrap();
    dpkg(&["-Znone".as_ref(), "--root-owner-group".as_ref(), "-b".as_ref(), tree.as_ref(), new.as_ref()]);
}
