# Podman's tour.
E=podman SOCK=/run/podman/podman.sock
# It has one id for everything, and mounts at the first container only.
IDS=1
FORCE='-f -t 0' AGAIN=--ignore
# It copies what an image has into a volume, and leaves the directory as it is.
CONTENT='0:0 755'
remove_unused() { check podman volume prune -f; }
taken_back() { check podman volume reload; }
engine_kill() { slay "$(cat /tmp/conmon)"; }

# Podman does not hear of the end of a container whose watcher was killed before: it is to be stopped first.
begin() {
    check podman start $1
    podman exec $1 true > /tmp/out 2>&1 && return
    echo "NOTE: $(cat /tmp/out)"
    # It complains that nobody knows the exit code, and does it.
    podman stop -t 0 $1 > /tmp/out 2>&1
    check podman start $1
    comes 'a container that runs' podman exec $1 true
}

# Container, what watches it, and the daemon are killed, in every order.
killed() {
    local order who n=0
    new kk
    start k1 -v kk:/d bb sh -c "n=\$(wc -l < /d/log 2> /dev/null || echo 0); while n=\$((n + 1)); do echo \$n >> /d/log; sync; sleep 0.1; done"
    for order in 'container engine daemon' 'container daemon engine' 'engine container daemon' 'engine daemon container' 'daemon container engine' 'daemon engine container'; do
        systemctl reset-failed volumed
        podman inspect -f '{{.State.Pid}}' k1 > /tmp/pid
        podman inspect -f '{{.State.ConmonPid}}' k1 > /tmp/conmon
        for who in $order; do ${who}_kill; done
        check serving
        begin k1
        check mounted kk
        writes_on k1 $n
        n=$(cat /tmp/last)
    done
    podman exec k1 cat /d/log > /tmp/log; seq $(wc -l < /tmp/log) | cmp - /tmp/log || bad "the log: $(head -c 200 /tmp/log)"
    drop k1
    idle kk
    check podman volume rm kk
}

# Somebody unmounts what a container uses, and the container is started again. Podman believes that it is mounted, and does not ask: it is
# to fail, and not to write into a directory of the host.
bare() {
    new torn
    start b1 -v torn:/d bb sh -c "echo started >> /d/starts; $REST"
    comes 'first start' in_c b1 grep -q started /d/starts
    local at=$(told torn '.mounts[0].path')
    # What is below the mount takes nothing, not even from root.
    mkdir -p /tmp/below
    check mount --bind ${at%/*} /tmp/below
    refuse touch /tmp/below/${at##*/}/lost; said 'not permitted'
    refuse run --rm -v /tmp/below/${at##*/}:/d bb touch /d/lost; said 'not permitted'
    check umount /tmp/below
    # The daemon may look at it just then.
    comes 'unmounting by hand' umount $at
    gone() { ! test -e $at; }
    comes 'removal of the bare mount point' gone
    refuse podman restart -t 0 b1
    said 'o such file or directory'
    refuse test -e $at
    # Stopped in good order, it lets go of the volume, and asks for it at the next start.
    podman stop -t 0 b1 > /tmp/out 2>&1
    begin b1
    check mounted torn
    twice() { test "$(in_c b1 grep -c started /d/starts)" = 2; }
    comes 'two starts that the volume knows of' twice
    drop b1
    idle torn
    refuse test -e $at
    check podman volume rm torn
}

# What the plug is pulled at: each line is told of when it is on the disk.
cut_off() {
    new cut
    start w1 --log-driver k8s-file -v cut:/d bb sh -c "n=0; while n=\$((n + 1)); do echo \$n >> /d/log; sync /d/log; echo ACK \$n; done"
    sync
    podman logs -f w1
}
back() {
    check podman start w1
    comes 'a container that runs' running w1
    check mounted cut
    is "$(references cut)" 1 'references after a power-cut'
    check podman stop -t 0 w1
    idle cut
    podman run --rm $NET -v cut:/d bb cat /d/log > /tmp/log
    # The writer began anew once.
    echo "LINES $(awk 'NR > 1 && $1 <= last { exit } { last = $1 } END { print last }' /tmp/log)"
    awk 'NR > 1 && $1 != last + 1 && $1 != 1 { exit 1 } { last = $1 }' /tmp/log || bad 'a hole in the log'
    drop w1
    check podman volume rm cut
}

# The volume of the example in deploy/, and a container, as units.
quadlet() {
    mkdir -p /etc/containers/systemd
    echo "$PGDATA_VOLUME" > /etc/containers/systemd/pgdata.volume
    cat > /etc/containers/systemd/web.container <<'END'
[Container]
Image=localhost/bb:latest
ContainerName=web
Network=none
Volume=pgdata.volume:/d
Exec=sh -c "stat -c %%u /d > /d/owner; exec sleep 100000"
StopTimeout=0
END
    check systemctl daemon-reload
    check systemctl start web.service
    comes 'what the unit wrote' podman exec web grep . /d/owner
    is "$(cat /tmp/out)" 999 'owner of the volume'
    check mounted pgdata
    is "$(told pgdata .fs)" xfs 'file system of the volume'
    check systemctl stop web.service
    idle pgdata
    check podman volume rm pgdata
}
