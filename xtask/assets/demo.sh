#!/usr/bin/env bash
# The main job with a running commentary: raw disks -> volume group -> thin pool -> mounted volume -> snapshot -> and back.
# `demo.sh lab` runs inside a lab guest, where volumed is up and the disks are /dev/labdisk0 and /dev/labdisk1.
# `demo.sh host` runs on a machine with device-mapper: a private daemon on its own socket, one file as the disk, all removed at the end.
set -euo pipefail
where=${1:-lab}

say() { printf '\n# %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
# A line for the shell, with a redirection or a pipe in it. Only words of this script go into it.
line() { printf '$ %s\n' "$1"; bash -c "$1"; }
# A status that is degraded exits with 10: worth showing, no reason to stop.
look() { printf '$ %s\n' "$*"; "$@" || [ $? -eq 10 ]; }
# The dm devices of one volume carry its id: the device that is mounted is the volume's.
device_of() { basename "$(readlink -f "$(findmnt -nro SOURCE --target "$1")")"; }

case $where in
lab)
    group=data mount=/srv/pg
    create=(volctl vg create "$group" /dev/labdisk0 /dev/labdisk1)
    log=/var/log/volumed.log
    start_daemon() { setsid volumed >>"$log" 2>&1 </dev/null & }
    stop_daemon() { run killall -9 volumed; }
    ;;
host)
    group=demo work=$(mktemp -d /var/lib/volumed-demo.XXXXXX)
    mount=$work/mnt socket=$work/control.sock log=$work/volumed.log
    export VOLUMED_SOCKET=$socket
    create=(volctl vg create "$group" --file "$work/demo.img:20G" --yes)
    start_daemon() {
        volumed --socket "$socket" --state-dir "$work/state" --metrics-listen off >>"$log" 2>&1 </dev/null &
        daemon=$!
    }
    stop_daemon() { run kill -9 "$daemon"; wait "$daemon" 2>/dev/null || true; }
    # Whatever happened before, and each step whether or not the one before it was needed.
    finish() {
        volctl -q volume unmount "$group/pg"
        volctl -q snapshot delete "$group/pg@before" --yes
        volctl -q volume delete "$group/pg" --yes
        volctl -q pool delete "$group/tank" --yes
        volctl -q vg delete "$group" --yes
        kill "$daemon" && wait "$daemon"
        if findmnt -n "$mount" || losetup -j "$work/demo.img" | grep .; then
            echo "demo: still in use, so left as it is: $work" >&3
        else
            rm -rf -- "$work" && echo "demo: everything it made is gone again" >&3
        fi
    }
    trap 'set +e; finish 3>&1 >/dev/null 2>&1' EXIT
    start_daemon
    ;;
*) echo "usage: demo.sh lab|host" >&2; exit 64 ;;
esac

wait_for_daemon() {
    for _ in $(seq 300); do
        volctl status >/dev/null 2>&1 && return 0 || [ $? -ne 10 ] || return 0
        sleep 0.1
    done
    echo "demo: volumed does not answer; its log:" >&2
    tail -n 30 "$log" >&2
    exit 1
}
wait_for_daemon

say "volumed joins raw disks (or, for a trial, a file) into a volume group."
[ "$where" = host ] || run lsblk -o NAME,SIZE,TYPE,FSTYPE /dev/labdisk0 /dev/labdisk1
run "${create[@]}"

say "A thin pool: volumes carved from it take space only as they are written."
run volctl pool create "$group/tank" --size 80%FREE

say "A 10 GiB volume with ext4 on it, mounted where a database would want it."
run volctl volume create "$group/pg" --pool tank --size 10G --fs ext4
run mkdir -p "$mount"
run volctl volume mount "$group/pg" "$mount"

say "It is an ordinary mounted file system; write something."
line "echo 'precious rows' > $mount/table"
run dd if=/dev/urandom "of=$mount/heap" bs=1M count=64 conv=fsync status=none
run findmnt "$mount"
run df -h "$mount"

say "Underneath: a device-mapper device, and the kernel alone carries the data."
if command -v dmsetup >/dev/null; then run dmsetup table "/dev/$(device_of "$mount")"; fi

say "A snapshot takes no copy and no noticeable time."
run volctl snapshot create "$group/pg@before"

say "What there is, how full it is, and whether all is well:"
run volctl df
look volctl status
run volctl volume list

say "The daemon is not in the data path. Kill it while the volume is in use..."
stop_daemon
run cat "$mount/table"
line "echo 'written with no daemon' >> $mount/table && sync $mount/table"
say "...start it again, and it finds everything as it was:"
start_daemon
wait_for_daemon
run volctl volume show "$group/pg"
run cat "$mount/table"

say "Unmount and delete the volume. Its snapshot stays: what was not named is not deleted."
run volctl volume unmount "$group/pg"
run volctl volume delete "$group/pg" --yes
say "The snapshot still shows the moment it was taken, before the last line was written:"
run volctl snapshot mount "$group/pg@before" "$mount"
run cat "$mount/table"
run volctl snapshot unmount "$group/pg@before"
run volctl snapshot delete "$group/pg@before" --yes
run volctl df

# Podman, which needs no daemon of its own; an image of what the guest has, as there is no network.
containers() {
    mkdir -p /etc/containers /tmp/image/bin
    printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n[engine.volume_plugins]\nvolumed = "/run/volumed/podman.sock"\n' \
        >/etc/containers/containers.conf
    printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/tmp/storage"\n' >/etc/containers/storage.conf
    cp /usr/bin/busybox /tmp/image/bin/
    for name in sh df cat; do ln -s busybox "/tmp/image/bin/$name"; done
    tar -C /tmp/image -c . | podman import -q - small >/dev/null

    say "Containers: Podman asks for a volume, and so does Docker, in the same words. 10 GiB are 10 GiB."
    run podman volume create -d volumed -o size=10G pgdata
    local container='podman run --rm --network none -v pgdata:/data small'
    line "$container sh -c 'echo rows of a container > /data/table; df -h /data'"
    say "The next container finds what the first one wrote."
    line "$container cat /data/table"
    run volctl df --runtime podman
    run podman volume rm pgdata
}
if [ "$where" = lab ] && command -v podman busybox >/dev/null; then containers; fi

say "That was the main job. To try it yourself, in a guest with two blank disks and the daemon up:"
echo "    cargo xtask lab shell --daemon --disk 4G --disk 4G"
echo "README.md tells how to begin, docs/ how it works, docs/lab.md what the lab can do."
