//! A host boots with systemd: volumes of /etc/fstab are there before who needs them, whatever else is damaged or missing; the service
//! restarts, hangs and ends while volumes are in use; the machine goes down, and everything is clean when it comes up again.

use vol_tests::guest::Lab;

/// The volume groups: `data` is as it should be, `pair` misses a disk at first, and the pool of `hurt` is damaged.
const PREPARE: &str = r#"
volctl -q vg create data /dev/labdisk0
volctl -q pool create data/tank --size 1G
for name in pg blank; do volctl -q volume create data/$name --size 256M; done
volctl -q snapshot create data/pg@before
volctl -q volume create data/swap --size 32M --fs none
volctl -q volume create data/raw --size 32M --fs none
mkswap -q $(volctl volume attach data/swap -o json | jq -r .object.device)
volctl -q volume detach data/swap
volctl -q vg create hurt /dev/labdisk1
volctl -q pool create hurt/bad --size 256M
volctl -q volume create hurt/v --size 64M
volctl -q vg create pair /dev/labdisk2 /dev/labdisk3
volctl -q pool create pair/wide --size 2500M
volctl -q volume create pair/v --size 64M
kill $(pidof volumed); while pidof volumed > /dev/null; do sleep 0.1; done
pool=$(dmsetup ls | sed -n 's/^\(volumed-.*\)-tpool\t.*/\1/p' | while read pool; do
    dmsetup table $pool-tmeta | grep -q " $(stat -Lc %Hr:%Lr /dev/labdisk1) " && echo $pool; done)
at=$(dmsetup table $pool-tmeta | cut -d' ' -f5)
dmsetup remove $pool-tpool; dmsetup remove $pool-tmeta
dd if=/dev/urandom of=/dev/labdisk1 bs=512 seek=$at count=8 conv=notrunc,fsync status=none
echo PREPARED
"#;

/// What the machine's /etc is like: systemd mounts, and a container engine comes after that.
const ETC: &str = r#"
cat > /etc/fstab <<'END'
/dev/volumed/data/pg         /srv/pg             ext4  nofail  0 2
/dev/volumed/data/blank      /srv/with\040blank  ext4  nofail,noatime  0 2
/dev/volumed/data/pg@before  /srv/before         ext4  nofail,ro  0 0
/dev/volumed/data/swap       none                swap  nofail  0 0
/dev/volumed/pair/v          /srv/pair           ext4  nofail,x-systemd.device-timeout=3s  0 2
/dev/volumed/hurt/v          /srv/hurt           ext4  nofail,x-systemd.device-timeout=3s  0 2
/dev/volumed/data/none       /srv/none           ext4  nofail,x-systemd.device-timeout=3s  0 2
END
mkdir -p /etc/volumed /etc/systemd/system/docker.service.d /etc/systemd/system/volumed.service.d
echo 'activate_at_boot = ["data/raw"]
move_rate = "8M"' > /etc/volumed/volumed.toml
printf '[Service]\nExecStartPre=/bin/sh -c "findmnt -rno TARGET > /run/docker-saw; volctl status >> /run/docker-saw"\n' \
    > /etc/systemd/system/docker.service.d/look.conf
# Soon enough for a test to wait for.
printf '[Service]\nWatchdogSec=3\n' > /etc/systemd/system/volumed.service.d/soon.conf
systemctl -q enable volumed.service docker.service
"#;

const LIB: &str = r#"
set -eu -o pipefail
check() { "$@" > /tmp/out 2>&1 || { echo "FAILED: $*"; cat /tmp/out; systemctl status --no-pager -l volumed-activate volumed | tail -40; exit 1; }; }
refuse() { if "$@" > /tmp/out 2>&1; then echo "NOT REFUSED: $*"; exit 1; fi; }
said() { grep -q -- "$1" /tmp/out || { echo "NOT SAID: $1"; cat /tmp/out; exit 1; }; }
prop() { systemctl show -P "$2" "$1"; }
serving() { for i in $(seq 200); do volctl status > /tmp/out 2>&1 && return; [ $? = 10 ] && return; sleep 0.1; done; return 1; }
links() { (cd /dev/volumed && find . -type l | sort | tr '\n' ' '); }
"#;

const FIRST_BOOT: &str = r#"
systemctl is-system-running --wait > /dev/null || true
for at in /srv/pg '/srv/with blank' /srv/before; do check findmnt "$at"; done
for at in /srv/pair /srv/hurt /srv/none; do refuse findmnt $at; done
swapon --show=NAME --noheadings | grep -q /dev/dm-
echo "MOUNTED"

# Others have not waited: what is complete was there as soon as it had been looked at.
ready=$(prop volumed-activate.service ActiveEnterTimestampMonotonic)
begun=$(prop volumed-activate.service ExecMainStartTimestampMonotonic)
ended=$(prop volumed-activate.service ExecMainExitTimestampMonotonic)
echo "ACTIVATION: ready after $(((ready - begun) / 1000)) ms, over after $(((ended - begun) / 1000)) ms"
[ $((ready - begun)) -lt 5000000 ] && [ $((ended - begun)) -lt 15000000 ]
[ "$ready" -le "$(prop local-fs-pre.target ActiveEnterTimestampMonotonic)" ]
[ "$(systemctl is-failed volumed-activate.service)" = failed ]
journalctl -q --no-pager -u volumed-activate > /tmp/out
said 'hurt/v (/etc/fstab, line 6) is not attached: '
said 'data/none (/etc/fstab, line 7) is not attached: there is no volume data/none'
said 'pair/v (/etc/fstab, line 5) is not attached: '
cp /run/docker-saw /tmp/out; said '^/srv/pg$'; said '^/srv/with'; said 'Version'
volctl status > /tmp/out && exit 1; said 'not_attached.*pair/v'; said 'not_attached.*hurt/v'
echo "TOLD"

# The names, and that nobody looks into what is private.
[ "$(links)" = './data/blank ./data/pg ./data/pg@before ./data/raw ./data/swap ' ] || { links; exit 1; }
for action in add change; do
    udevadm trigger --action=$action --subsystem-match=block; udevadm settle
    [ "$(links)" = './data/blank ./data/pg ./data/pg@before ./data/raw ./data/swap ' ] || { echo "after $action:"; links; exit 1; }
    check findmnt /srv/pg; check mountpoint '/srv/with blank'
    [ "$(prop dev-volumed-data-pg.device ActiveState)" = active ]
done
for device in /sys/block/dm-*; do
    udevadm info -q property $device > /tmp/out
    case $(cat $device/dm/uuid) in
        VOLUMED-*-t*) said '^SYSTEMD_READY=0'; ! grep -E '^(ID_FS_|DEVLINKS=.*/dev/disk/)' /tmp/out ;;
        VOLUMED-*) said '^DEVLINKS=.*/dev/volumed/data/'; ! grep '^SYSTEMD_READY=0' /tmp/out ;;
    esac
done
[ "$(stat -Lc %t:%T /dev/disk/by-uuid/$(findmnt -no UUID /srv/pg))" = "$(stat -Lc %t:%T /dev/volumed/data/pg)" ]
check volctl volume rename data/raw cooked; udevadm settle
[ -b /dev/volumed/data/cooked ] && [ ! -e /dev/volumed/data/raw ]
check volctl volume rename data/cooked raw; udevadm settle
check volctl volume detach data/raw; udevadm settle
[ ! -e /dev/volumed/data/raw ] && [ -z "$(find /run/volumed/udev -name '.*' -type f)" ]
[ "$(ls /run/volumed/udev | wc -l)" = 4 ]
echo "NAMED"

# What fstab mounted is a mount like others.
volctl volume show data/pg -o json | jq -e '.mounts[0].path == "/srv/pg"' > /dev/null || { volctl volume show data/pg -o json; exit 1; }
refuse volctl volume delete data/pg --yes; said /srv/pg
refuse volctl volume detach data/pg; said /srv/pg
check volctl volume mount data/pg /srv/twice; check volctl volume unmount data/blank
refuse findmnt '/srv/with blank'

# What the service mounts is there for process 1, and so for containers.
check systemd-analyze security --threshold=40 volumed.service
check systemd-analyze security --threshold=40 volumed-activate.service
check volctl volume mount data/blank /srv/blank
grep -q ' /srv/blank ' /proc/1/mountinfo
[ "$(readlink /proc/$(pidof volumed)/ns/mnt)" = "$(readlink /proc/1/ns/mnt)" ]
check volctl volume unmount data/blank
echo "SEEN"

# A writer, until the machine goes down.
systemd-run -q --unit=writer sh -c 'while :; do date +%s.%N >> /srv/pg/log || exit 1; sync /srv/pg/log || exit 1; done'

# A restart: whoever asks meanwhile is answered, by the one before or the one after.
(n=0; while [ ! -e /tmp/enough ]; do
    volctl volume show data/pg > /tmp/asked 2>&1 && volctl -q volume create data/n$n --size 8M --fs none > /tmp/asked 2>&1 || { echo "$n: $?"; cat /tmp/asked; exit 1; }
    n=$((n + 1))
done; echo $n > /tmp/enough) > /tmp/asking 2>&1 &
for i in 1 2 3; do sleep 0.5; systemctl restart volumed; done
sleep 0.5; touch /tmp/enough; wait $! || { echo "a request was lost in a restart"; cat /tmp/asking; exit 1; }
echo "RESTARTED: $(cat /tmp/enough) volumes made meanwhile"
[ "$(prop volumed.service NRestarts)" = 0 ]
curl -sf http://127.0.0.1:9709/metrics | grep -q '^volumed_' || { echo "no metrics"; exit 1; }
[ "$(stat -c '%a %G' /run/volumed/control.sock)" = '660 volumed' ]

# A change that takes longer than the watchdog waits is no hanging one.
begin=$(date +%s)
check volctl volume create data/thick --thick --size 48M --fs none
echo "THICK: $(($(date +%s) - begin)) s"
[ "$(prop volumed.service NRestarts)" = 0 ]

# A daemon that hangs is killed and started again.
pid=$(prop volumed.service MainPID); kill -STOP $pid
for i in $(seq 300); do [ "$(prop volumed.service NRestarts)" = 1 ] && break; sleep 0.1; done
[ "$(prop volumed.service NRestarts)" = 1 ] || { echo "the watchdog did not bite"; exit 1; }
check serving
[ "$(prop volumed.service MainPID)" != $pid ]
journalctl -q --no-pager -u volumed > /tmp/out; said 'Watchdog timeout'
[ "$(systemctl is-active writer)" = active ]
systemctl show -P StatusText volumed > /tmp/out; said 'Serving 2 volume groups with\|Serving 3 volume groups with'
echo "WATCHED"

# With a mount namespace of its own it mounts nothing.
printf '[Service]\nPrivateTmp=yes\n' > /etc/systemd/system/volumed.service.d/private.conf
systemctl daemon-reload; systemctl restart volumed
volctl status > /tmp/out && exit 1; said mounts_hidden
refuse volctl volume mount data/blank /srv/blank; said 'nobody else on this host would see it'
rm /etc/systemd/system/volumed.service.d/private.conf
systemctl daemon-reload; systemctl restart volumed
check volctl volume mount data/blank /srv/blank
[ "$(systemctl is-active writer)" = active ] && check findmnt /srv/pg
echo "DONE"
"#;

/// The same machine with all of its disks, after it was shut down while the writer wrote.
const SECOND_BOOT: &str = r#"
systemctl is-system-running --wait > /dev/null || true
for at in /srv/pg '/srv/with blank' /srv/before /srv/pair; do check findmnt "$at"; done
refuse findmnt /srv/hurt
journalctl -q --no-pager -k > /tmp/out
if grep -E 'EXT4-fs.*(recover|error)|XFS.*[Rr]ecovery' /tmp/out; then echo "a file system was not clean"; exit 1; fi
[ "$(wc -l < /srv/pg/log)" -gt 10 ]
volctl status > /tmp/out && exit 1
volctl status -o json | jq -r '.problems[].code' | sort -u | tr '\n' ' ' > /tmp/out
[ "$(cat /tmp/out)" = 'not_attached pool_refused ' ] || { cat /tmp/out; exit 1; }
volctl status -o json | jq -r '.problems[].message' > /tmp/out; ! grep -E 'pair|data/[^n]' /tmp/out
echo "CLEAN"
"#;

#[test]
fn a_host_boots_serves_and_goes_down_with_volumes_of_fstab_in_use() {
    let Some(lab) = Lab::new() else { return };
    let disks: Vec<String> = (0..4).map(|n| format!("{}:2G", lab.dir().join(format!("{n}.img")).display())).collect();
    let with = |count: usize| disks.iter().take(count).flat_map(|disk| ["--disk", disk]).collect::<Vec<_>>();
    let strict = |text: &str| format!("{LIB}{text}");

    let out = lab.ok(&[&with(4)[..], &["--daemon"]].concat(), &strict(PREPARE));
    assert!(out.contains("PREPARED"), "{out}");
    // One disk of `pair` is missing.
    let boot = ["--systemd", "--before", ETC];
    let out = lab.ok(&[&with(3)[..], &boot].concat(), &strict(FIRST_BOOT));
    println!("{out}");
    assert!(out.contains("DONE"), "{out}");
    let out = lab.ok(&[&with(4)[..], &boot].concat(), &strict(SECOND_BOOT));
    assert!(out.contains("CLEAN"), "{out}");
}
