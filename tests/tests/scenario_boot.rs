//! A host boots with systemd: volumes of /etc/fstab are there before who needs them, whatever else is damaged or missing; the service
//! restarts, hangs and ends while volumes are in use; the machine goes down, and everything is clean when it comes up again.

use vol_tests::guest::{CHECKS, Lab, none_failed};

/// The volume groups: `data` is as it should be, `pair` misses a disk at first, and the pool of `hurt` is damaged.
const PREPARE: &str = r#"
set -e
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
    dmsetup table $pool-tmeta | grep -q " $(stat -Lc %Hr:%Lr /dev/labdisk1) " && echo $pool || true; done)
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
/dev/volumed/pair/v          /srv/pair           ext4  nofail,x-systemd.device-timeout=PATIENCE  0 2
/dev/volumed/hurt/v          /srv/hurt           ext4  nofail,x-systemd.device-timeout=3s  0 2
/dev/volumed/data/none       /srv/none           ext4  nofail,x-systemd.device-timeout=3s  0 2
END
mkdir -p /etc/volumed /etc/systemd/system/docker.service.d /etc/systemd/system/volumed.service.d
echo 'activate_at_boot = ["data/raw"]
move_rate = "8M"' > /etc/volumed/volumed.toml
printf '[Service]\nExecStartPre=/bin/sh -c "findmnt -rno TARGET > /run/docker-saw; volctl status >> /run/docker-saw"\n' \
    > /etc/systemd/system/docker.service.d/look.conf
# Soon enough for a test to wait for.
printf '[Service]\nWatchdogSec=15\n' > /etc/systemd/system/volumed.service.d/soon.conf
systemctl -q enable volumed.service docker.service
"#;

const LIB: &str = r#"
links() { (cd /dev/volumed && find . -type l | sort | tr '\n' ' '); }
"#;

const FIRST_BOOT: &str = r#"
systemctl is-system-running --wait > /dev/null || true
for at in /srv/pg '/srv/with blank' /srv/before; do check findmnt "$at"; done
for at in /srv/pair /srv/hurt /srv/none; do refuse findmnt $at; done
swapon --show=NAME --noheadings > /tmp/out; said /dev/dm-
echo "MOUNTED"

# Others have not waited for the minute that is allowed at most: what is complete was there as soon as it had been looked at.
ready=$(prop volumed-activate.service ActiveEnterTimestampMonotonic)
begun=$(prop volumed-activate.service ExecMainStartTimestampMonotonic)
ended=$(prop volumed-activate.service ExecMainExitTimestampMonotonic)
echo "ACTIVATION: ready after $(((ready - begun) / 1000)) ms, over after $(((ended - begun) / 1000)) ms"
below $((ready - begun)) 50000000 "until others go on, us"
below $((ended - begun)) 50000000 "until it gives up waiting, us"
below $ready $(prop local-fs-pre.target ActiveEnterTimestampMonotonic) "local file systems come after it"
is "$(systemctl is-failed volumed-activate.service)" failed activation
journalctl -q --no-pager -u volumed-activate > /tmp/out
said 'hurt/v (/etc/fstab, line 6) is not attached: '
said 'data/none (/etc/fstab, line 7) is not attached: there is no volume data/none'
said 'pair/v (/etc/fstab, line 5) is not attached: '
cp /run/docker-saw /tmp/out; said '^/srv/pg$'; said '^/srv/with'; said '^volumed '
refuse volctl status; said 'not_attached.*pair/v'; said 'not_attached.*hurt/v'
echo "TOLD"

# The names, and that nobody looks into what is private.
all='./data/blank ./data/pg ./data/pg@before ./data/raw ./data/swap '
is "$(links)" "$all" links
for action in add change; do
    udevadm trigger --action=$action --subsystem-match=block; udevadm settle
    is "$(links)" "$all" "links after $action"
    check findmnt /srv/pg; check mountpoint '/srv/with blank'
    is "$(prop dev-volumed-data-pg.device ActiveState)" active "device unit after $action"
done
for device in /sys/block/dm-*; do
    udevadm info -q property $device > /tmp/out
    case $(cat $device/dm/uuid) in
        VOLUMED-*-t*) said '^SYSTEMD_READY=0'; unsaid '^(ID_FS_|DEVLINKS=.*/dev/disk/)' ;;
        VOLUMED-*) said '^DEVLINKS=.*/dev/volumed/data/'; unsaid '^SYSTEMD_READY=0' ;;
    esac
done
is "$(stat -Lc %t:%T /dev/disk/by-uuid/$(findmnt -no UUID /srv/pg))" "$(stat -Lc %t:%T /dev/volumed/data/pg)" "of volume and snapshot, who has the link by UUID"
check volctl volume rename data/raw data/cooked; udevadm settle
check test -b /dev/volumed/data/cooked; refuse test -e /dev/volumed/data/raw
check volctl volume rename data/cooked data/raw; udevadm settle
check volctl volume detach data/raw; udevadm settle
refuse test -e /dev/volumed/data/raw
is "$(ls -A /run/volumed/udev | wc -l)" 4 "names for udev"
echo "NAMED"

# What fstab mounted is a mount like others.
volctl volume show data/pg -o json | jq -e '.mounts[0].path == "/srv/pg"' > /tmp/out 2>&1 || bad "$(volctl volume show data/pg -o json)"
refuse volctl volume delete data/pg --yes; said /srv/pg
refuse volctl volume detach data/pg; said /srv/pg
check volctl volume mount data/pg /srv/twice; check volctl volume unmount data/blank
refuse findmnt '/srv/with blank'

# What the service mounts is there for process 1, and so for containers.
check systemd-analyze security --threshold=41 volumed.service
check systemd-analyze security --threshold=40 volumed-activate.service
check volctl volume mount data/blank /srv/blank
check grep -q ' /srv/blank ' /proc/1/mountinfo
is "$(readlink /proc/$(pidof volumed)/ns/mnt)" "$(readlink /proc/1/ns/mnt)" "mount namespace"
# And with the rights that it has, it grows what is mounted.
check volctl volume resize data/blank 400M
below 300 "$(df -m --output=size /srv/blank | tail -n 1)" "MiB that it has grown to"
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
sleep 0.5; touch /tmp/enough; wait $! || { cp /tmp/asking /tmp/out; bad "a request was lost in a restart"; }
echo "RESTARTED: $(cat /tmp/enough) volumes made meanwhile"
is "$(prop volumed.service NRestarts)" 0 "restarts by systemd"
check curl -sf http://127.0.0.1:9709/metrics; said '^volumed_'
is "$(stat -c '%a %G' /run/volumed/control.sock)" '660 volumed' "control socket"

# A change that takes longer than the watchdog waits is no hanging one.
begin=$(date +%s)
check volctl volume create data/thick --thick --size 192M --fs none
took=$(($(date +%s) - begin)); echo "THICK: $took s"
below 15 $took "s for a change, which is to take longer than the watchdog waits"
is "$(prop volumed.service NRestarts)" 0 "restarts by systemd during a long change"

# A daemon that hangs is killed and started again.
pid=$(prop volumed.service MainPID); kill -STOP $pid
for i in $(seq 900); do [ "$(prop volumed.service NRestarts)" = 1 ] && break; sleep 0.1; done
is "$(prop volumed.service NRestarts)" 1 "restarts by the watchdog"
check serving
refuse test "$(prop volumed.service MainPID)" = $pid
journalctl -q --no-pager -u volumed > /tmp/out; said 'Watchdog timeout'
is "$(systemctl is-active writer)" active writer
systemctl show -P StatusText volumed > /tmp/out; said 'Serving 2 volume groups with\|Serving 3 volume groups with'
echo "WATCHED"

# With a mount namespace of its own it mounts nothing.
printf '[Service]\nPrivateTmp=yes\n' > /etc/systemd/system/volumed.service.d/private.conf
systemctl daemon-reload; systemctl restart volumed
refuse volctl status; said mounts_hidden
refuse volctl volume mount data/blank /srv/blank; said 'nobody else on this host would see it'
rm /etc/systemd/system/volumed.service.d/private.conf
systemctl daemon-reload; systemctl restart volumed
check volctl volume mount data/blank /srv/blank

# With a malformed configuration who asks is refused, and does not wait for ever; the next good start mends it all.
sed -i '1i nonsense = 1' /etc/volumed/volumed.toml
refuse systemctl restart volumed
timeout 60 volctl status > /tmp/out 2>&1; refuse test $? = 124
sed -i 1d /etc/volumed/volumed.toml
check systemctl restart volumed; check serving
is "$(systemctl is-active writer)" active writer
check findmnt /srv/pg
echo "DONE"
"#;

/// The same machine with all of its disks, after it was shut down while the writer wrote.
const SECOND_BOOT: &str = r#"
systemctl is-system-running --wait > /dev/null || true
for at in /srv/pg '/srv/with blank' /srv/before /srv/pair; do check findmnt "$at"; done
check systemctl is-active srv-pair.mount dev-volumed-pair-v.device
refuse findmnt /srv/hurt
journalctl -q --no-pager -k > /tmp/out
unsaid 'EXT4-fs.*(recover|error)'
below 10 "$(wc -l < /srv/pg/log)" "lines of the writer"
refuse volctl status
is "$(volctl status -o json | jq -r '.problems[].code' | sort -u | tr '\n' ' ')" 'not_attached pool_refused ' problems
volctl status -o json | jq -r '.problems[].message' > /tmp/out; unsaid '(^| )pair|data/[^n]'
echo "CLEAN"
"#;

#[test]
fn a_host_boots_serves_and_goes_down_with_volumes_of_fstab_in_use() {
    let Some(lab) = Lab::new() else { return };
    let disks: Vec<String> = (0..4).map(|n| format!("{}:2G", lab.dir().join(format!("{n}.img")).display())).collect();
    let with = |count: usize| disks.iter().take(count).flat_map(|disk| ["--disk", disk]).collect::<Vec<_>>();
    let strict = |text: &str| format!("{CHECKS}{LIB}{text}");

    let out = lab.ok(&[&with(4)[..], &["--daemon"]].concat(), &strict(PREPARE));
    assert!(out.contains("PREPARED"), "{out}");
    // One disk of `pair` is missing, and that is not waited for longer than need be. When it is there, udevd may be slow to say so.
    let boot = |patience: &str| ETC.replace("PATIENCE", patience);
    let out = lab.ok(&[&with(3)[..], &["--systemd", "--before", &boot("12s")]].concat(), &strict(FIRST_BOOT));
    println!("{out}");
    none_failed(&out);
    assert!(out.contains("DONE"), "{out}");
    let out = lab.ok(&[&with(4)[..], &["--systemd", "--before", &boot("80s")]].concat(), &strict(SECOND_BOOT));
    none_failed(&out);
    assert!(out.contains("CLEAN"), "{out}");
}
