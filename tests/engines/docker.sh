# Docker's tour.
E=docker SOCK=/run/docker.sock FORCE=-f AGAIN=
# Owner and mode of a volume that has content of an image.
CONTENT='33:33 750'
remove_unused() { check docker volume prune -a -f; check docker volume inspect $1; check docker volume rm $1; }
taken_back() { :; }
up() { comes dockerd docker version; }
engine_kill() { slay "$(prop docker MainPID)"; }

compose() {
    mkdir -p /tmp/compose
    cat > /tmp/compose/compose.yaml <<'END'
services:
  writer:
    image: bb
    network_mode: none
    stop_grace_period: 0s
    volumes: [ "shared:/d" ]
    command: [ sh, -c, "echo composed > /d/file; exec sleep 100000" ]
  reader:
    image: bb
    network_mode: none
    stop_grace_period: 0s
    depends_on: [ writer ]
    volumes: [ "shared:/d:ro" ]
    command: [ sh, -c, "until cat /d/file; do sleep 0.1; done; exec sleep 100000" ]
volumes:
  shared:
    driver: volumed
    driver_opts: { size: 64M, fs: xfs-or-ext4 }
END
    sed -i 's/xfs-or-ext4/ext4/' /tmp/compose/compose.yaml
    cd /tmp/compose
    check docker compose up -d --quiet-pull
    composed() { docker compose logs reader | grep -q composed; }
    comes 'what the other service wrote' composed
    check docker compose down -t 0 -v
    refuse docker volume inspect compose_shared
    cd /root
}

# Volumes that an image asks for, without a name: made and removed with the container.
anonymous() {
    local before=$(volctl volume list -o name | wc -l)
    check run --rm --volume-driver volumed seeded cat /data/seed; is "$(cat /tmp/out)" seed 'the content of the image'
    is "$(volctl volume list -o name | wc -l)" $before 'volumes left'
}

# When dockerd dies while it hears of a container's end, containerd may keep the task, and the container is not started again before containerd is.
begin() {
    docker start $1 > /tmp/out 2>&1 && return
    if grep -q 'task.*already exists' /tmp/out; then
        echo "NOTE: $(head -n 1 /tmp/out)"
        check systemctl restart containerd
        up
        comes 'start after containerd forgot it' docker start $1
    else
        bad "docker start $1"
    fi
}

# Container, engine and daemon are killed, in every order; every time all is as it was.
killed() {
    local order who n=0
    new kk
    start k1 -v kk:/d bb sh -c "n=\$(wc -l < /d/log 2> /dev/null || echo 0); while n=\$((n + 1)); do echo \$n >> /d/log; sync; sleep 0.1; done"
    for order in 'container engine daemon' 'container daemon engine' 'engine container daemon' 'engine daemon container' 'daemon container engine' 'daemon engine container'; do
        systemctl reset-failed docker volumed
        pid k1 > /tmp/pid
        # A second for dockerd to hear of the container's end: see above.
        for who in $order; do ${who}_kill; [ $who = container ] && sleep 1; done
        up
        running k1 || begin k1
        check serving
        check mounted kk
        is "$(references kk)" 1 "references after the killing of $order"
        writes_on k1 $n
        n=$(cat /tmp/last)
    done
    docker exec k1 cat /d/log > /tmp/log; seq $(wc -l < /tmp/log) | cmp - /tmp/log || bad "the log: $(head -c 200 /tmp/log)"
    drop k1
    idle kk
    check docker volume rm kk
}

# With live-restore the container goes on without dockerd, and is unmounted when it ends after that.
live_restore() {
    jq '."live-restore" = true' /etc/docker/daemon.json > /tmp/daemon.json
    cp /tmp/daemon.json /etc/docker/daemon.json
    check systemctl reload docker
    new live
    start l1 -v live:/d bb sh -c 'while :; do date >> /d/log; sleep 0.1; done'
    comes 'first line' in_c l1 test -s /d/log
    local pid=$(pid l1) before
    engine_kill
    before=$(wc -l < /proc/$pid/root/d/log)
    up
    check running l1
    is "$(pid l1)" $pid 'the container of before'
    more() { test "$(docker exec l1 sh -c 'wc -l < /d/log')" -gt $before; }
    comes 'lines written meanwhile' more
    is "$(references live)" 1 'references with live-restore'
    refuse volctl volume unmount data/live
    drop l1
    idle live
    check docker volume rm live
    jq 'del(."live-restore")' /etc/docker/daemon.json > /tmp/daemon.json
    cp /tmp/daemon.json /etc/docker/daemon.json
}

# dockerd starts while volumed does not answer yet: it waits, and forgets nothing.
late() {
    check docker volume create -d volumed -o size=64M --label keep=me labelled
    mkdir -p /etc/systemd/system/volumed.service.d
    printf '[Service]\nExecStartPre=sleep 4\n' > /etc/systemd/system/volumed.service.d/late.conf
    systemctl daemon-reload
    systemctl stop docker.service docker.socket volumed.service
    check systemctl start docker
    shows labelled '.Labels.keep == "me" and .Options.size == "64M"'
    rm /etc/systemd/system/volumed.service.d/late.conf
    systemctl daemon-reload
    check docker volume rm labelled
}
