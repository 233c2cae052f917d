//! The service under systemd: restarted, upgraded and killed again and again under load; udevd stopped, slow and told to look at everything
//! again. The kernel's devices do not notice, nor does who writes to them.

use vol_tests::guest::Lab;

/// Restarts, upgrades and kills; with VOLUMED_TEST_EVERY_POINT a hundred.
const ROUNDS: u32 = 24;

/// A group with three volumes that are mounted, one of them by systemd, as from fstab.
const SET_UP: &str = r#"
set -eu -o pipefail
volctl vg create data /dev/labdisk0 /dev/labdisk1 > /dev/null
volctl pool create data/tank --size 80%FREE > /dev/null
for fs in ext4 xfs btrfs; do
    volctl volume create data/$fs --size 1G --fs $fs > /dev/null
    volctl volume mount data/$fs /srv/$fs > /dev/null
done
devices() { dmsetup info -c --noheadings -o name,uuid,major,minor,attr,suspended,tables_loaded,open | grep VOLUMED- | sort; dmsetup table | grep ^volumed- | sort; }
# All PVs have one partition label: whose link that is changes.
links() { find /dev/mapper /dev/disk /dev/volumed -path '*by-partlabel*' -prune -o -type l -printf '%p %l\n' | sort; }
"#;

const KILLS: &str = r#"
udevadm settle
devices > /tmp/devices.before
dmesg | grep -ciE 'I/O error|EXT4-fs error|metadata error' > /tmp/errors.before || true
udevadm monitor --kernel --subsystem-match=block > /tmp/uevents 2>&1 &
monitor=$!
for fs in ext4 xfs btrfs; do
    (
        # Written and read back, again and again, until there were enough restarts.
        while [ ! -e /tmp/enough ]; do
            fio --name=$fs --directory=/srv/$fs --rw=randwrite --bs=4k --size=6m --direct=1 --verify=crc32c --verify_fatal=1 \
                --do_verify=1 --rate=,1500k --output-format=terse > /tmp/fio.$fs 2>&1 || exit 1
            echo done >> /tmp/loops.$fs
        done
    ) &
    echo $! > /tmp/fio.$fs.pid
done
begin=$(date +%s)
for round in $(seq ROUNDS); do
    systemctl reset-failed volumed.service
    case $((round % 4)) in
        0) cp /lab/bin/volumed /usr/sbin/volumed.new; mv /usr/sbin/volumed.new /usr/sbin/volumed; systemctl restart volumed.service ;;
        1) systemctl restart volumed.service ;;
        *) kill -9 "$(systemctl show --value --property MainPID volumed.service)"; systemctl restart volumed.service ;;
    esac
done
echo "ROUNDS $round in $(($(date +%s) - begin)) s"
touch /tmp/enough
for fs in ext4 xfs btrfs; do
    wait $(cat /tmp/fio.$fs.pid) && echo "FIO $fs OK after $(wc -l < /tmp/loops.$fs) loops" || { echo "FIO $fs FAILED"; tail -5 /tmp/fio.$fs; }
done
# The one that is asked for is seen, so others would have been.
udevadm trigger --action=change --settle "$(findmnt --noheadings --output SOURCE /srv/ext4)"
for i in $(seq 600); do grep -q '/dm-' /tmp/uevents && break; sleep 0.1; done
sleep 1; kill $monitor
volctl status > /tmp/status || true
# Whoever looks at one just then, udev or the daemon, has it open for a moment.
for i in $(seq 100); do devices > /tmp/devices.after; cmp -s /tmp/devices.before /tmp/devices.after && break; sleep 0.1; done
diff /tmp/devices.before /tmp/devices.after && echo DEVICES SAME
echo "UEVENTS $(grep -c '/dm-' /tmp/uevents || true)"
dmesg | grep -ciE 'I/O error|EXT4-fs error|metadata error' > /tmp/errors.after || true
diff /tmp/errors.before /tmp/errors.after && echo ERRORS SAME
volctl status -o json | jq -r '"HEALTH \(.health)"'
systemctl show --value --property NRestarts,SubState volumed.service | tr '\n' ' '; echo
"#;

const UDEV: &str = r#"
volctl volume create data/tab --size 256M --fs ext4 > /dev/null
volctl volume mount data/tab /tmp/tab > /dev/null
uuid=$(findmnt --noheadings --output UUID /tmp/tab)
node=$(findmnt --noheadings --output SOURCE /tmp/tab)
echo "UUID=$uuid /srv/tab ext4 noauto 0 0" >> /etc/fstab
udevadm settle
# A volume without a mount keeps its device as long as somebody has it open.
exec 7< "$node"
umount /tmp/tab
systemctl daemon-reload
systemctl start srv-tab.mount
findmnt --noheadings /srv/tab > /dev/null && echo TAB MOUNTED
udevadm settle
links > /tmp/links.before
findmnt --noheadings --raw --output TARGET,SOURCE | grep ^/srv | sort > /tmp/mounts.before
same() {
    udevadm settle --timeout=60
    links > /tmp/links.after
    findmnt --noheadings --raw --output TARGET,SOURCE | grep ^/srv | sort > /tmp/mounts.after
    diff /tmp/links.before /tmp/links.after && diff /tmp/mounts.before /tmp/mounts.after && echo "SAME $1"
}
udevadm trigger --action=add; same trigger-add
udevadm trigger --action=change; same trigger-change
systemctl restart systemd-udevd.service; udevadm trigger --action=add; same restarted
job() {
    volctl volume create data/j --size 64M --fs ext4 > /dev/null
    volctl volume mount data/j /srv/j > /dev/null
    volctl snapshot create data/j@s > /dev/null
    volctl volume unmount data/j > /dev/null
    volctl snapshot delete data/j@s --now --yes > /dev/null
    volctl volume delete data/j --now --yes > /dev/null
    echo "JOB $1"
}
systemctl stop systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd-varlink.socket systemd-udevd.service 2> /dev/null || systemctl stop systemd-udevd.service
job stopped
systemctl start systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd.service
udevadm trigger --action=add; same after-stop
mkdir -p /run/udev/rules.d
echo 'SUBSYSTEM=="block", KERNEL=="dm-*", PROGRAM=="/bin/sleep 1"' > /run/udev/rules.d/00-slow.rules
udevadm control --reload
job slow
udevadm trigger --action=add --subsystem-match=block; same slow
rm /run/udev/rules.d/00-slow.rules
udevadm control --reload
systemctl is-active srv-tab.mount
volctl status -o json | jq -r '"AFTER \(.health)"'
"#;

#[test]
fn f14_f21_restarts_upgrades_kills_and_what_udev_does_are_noticed_by_nobody() {
    let Some(lab) = Lab::new() else { return };
    let options = ["--systemd", "--daemon", "--disk", "4G", "--disk", "4G"];
    let rounds = if std::env::var_os("VOLUMED_TEST_EVERY_POINT").is_some() { 100 } else { ROUNDS };
    let kills = KILLS.replace("ROUNDS)", &format!("{rounds})"));
    let out = lab.ok_within(1200, &options, &format!("{SET_UP}{kills}{UDEV}"));
    println!("{out}");
    let said = |line: &str| out.lines().any(|one| one.trim() == line);
    assert!(out.contains(&format!("ROUNDS {rounds} in ")), "{out}");
    for fs in ["ext4", "xfs", "btrfs"] {
        assert!(out.contains(&format!("FIO {fs} OK after ")), "{out}");
    }
    assert!(said("DEVICES SAME") && said("ERRORS SAME"), "{out}");
    assert!(
        said("UEVENTS 1"),
        "not just the event that was asked for, but a device of ours suspended, reloaded, made or removed:\n{out}"
    );
    assert!(said("HEALTH ok"), "{out}");
    assert!(said("TAB MOUNTED"), "{out}");
    for what in ["trigger-add", "trigger-change", "restarted", "after-stop", "slow"] {
        assert!(said(&format!("SAME {what}")), "after {what} a mount or a link is gone:\n{out}");
    }
    assert!(said("JOB stopped") && said("JOB slow") && said("active") && said("AFTER ok"), "{out}");
}
