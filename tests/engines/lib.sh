# What the tours of Docker and Podman share. $E is the engine's program, $SOCK its API's socket; the volume group is `data`.
NET='--network none'
# A container that does nothing until it is killed: as process 1 it heeds no SIGTERM.
REST='exec sleep 100000'
run() { $E run $NET "$@"; }
start() { local name=$1; shift; check run -d --name $name "$@"; }
# `new NAME [-o KEY=VALUE]…`
new() { local name=$1; shift; check $E volume create -d volumed -o size=64M "$@" $name; is "$(cat /tmp/out)" $name 'what create prints'; }
drop() { check $E rm $FORCE "$@"; }
in_c() { $E exec "$@"; }
# What the engine shows of a volume is so, by a filter of jq.
shows() { $E volume inspect $1 > /tmp/shown; jq -e ".[0] | $2" /tmp/shown > /tmp/out 2>&1 || { cp /tmp/shown /tmp/out; bad "$1 is not $2"; }; }
# The value that `jq` finds in what volctl tells of a volume.
told() { volctl volume show data/$1 -o json | jq -r "$2"; }
mounted() { test "$(told $1 '.mounts | length')" = ${2:-1}; }
references() { volctl refs list -o json | jq "[.refs[] | select(.runtime == \"$E\" and .volume == \"data/$1\") | .count] | add // 0"; }
# Nobody uses the volume any more, and everybody knows.
unreferenced() { test "$(references $1)" = 0; }
idle() { comes "unmounting of $1" mounted $1 0; comes "the end of references of $1" unreferenced $1; }
# `writes_on CONTAINER NUMBER`: the last line of its log, each of which is a number, is above this one; it is in /tmp/last then.
above() { in_c $1 tail -n 1 /d/log > /tmp/last && [ "$(cat /tmp/last)" -gt $2 ]; }
writes_on() { comes "what $1 writes after $2" above $1 $2; }
pid() { $E inspect -f '{{.State.Pid}}' $1; }
running() { test "$($E inspect -f '{{.State.Running}}' $1)" = true; }
# Never 0, which would be everybody here.
slay() { [ "$(($1))" -gt 1 ] || { bad "no process $1"; return; }; kill -9 $1; while kill -0 $1 2> /dev/null; do sleep 0.05; done; }
daemon_kill() { slay "$(prop volumed MainPID)"; }
container_kill() { slay "$(cat /tmp/pid)"; }

images() {
    mkdir -p /tmp/image/{usr/bin,bin,etc,proc,sys,dev,tmp,data/sub}
    cp /usr/bin/busybox /tmp/image/usr/bin/
    chroot /tmp/image /usr/bin/busybox --install -s /bin
    check import_image bb
    # Content that the image has where the volume will be, not owned by root.
    echo seed > /tmp/image/data/seed; echo deep > /tmp/image/data/sub/deep
    chown -R 33:33 /tmp/image/data; chmod 750 /tmp/image/data
    check import_image seeded -c 'VOLUME /data'
}
import_image() { local name=$1; shift; tar -C /tmp/image -c . | $E import "$@" - $name; }

# Create, run, write, restart; and what the engine shows of it.
first() {
    new pg
    check run --rm -v pg:/d bb sh -c 'ls -A /d; echo one > /d/file'
    is "$(cat /tmp/out)" '' 'a new volume is empty'
    idle pg
    start c1 -v pg:/d bb sh -c "echo started >> /d/starts; $REST"
    check $E restart -t 0 c1
    twice() { test "$(in_c c1 grep -c started /d/starts)" = 2; }
    comes 'second start' twice
    check in_c c1 sh -c 'cat /d/file; wc -l < /d/starts'; is "$(tr '\n' ' ' < /tmp/out)" 'one 2 ' 'after a restart'
    shows pg '.Name == "pg" and .Driver == "volumed" and .Options.size == "64M" and (.Mountpoint | startswith("/"))'
    shows pg '.Status | .size_bytes == 67108864 and .fs == "ext4" and .pool == "data/tank" and .health == "ok"'
    check $E volume ls; said 'volumed *pg$'
    # Made again: no error, and nothing changed.
    check $E volume create $AGAIN -d volumed -o size=64M pg
    is "$(references pg)" 1 'references of a container'
    # Who uses it keeps it.
    refuse $E volume rm pg
    for change in detach unmount 'delete --yes'; do
        refuse volctl volume ${change%% *} data/pg ${change#"${change%% *}"}; said "$E"; said 'volctl refs'
    done
    check mounted pg
}

# Copying out of and into a container that runs: the engine mounts and unmounts under the container's own id.
copying() {
    echo copied > /tmp/there
    check $E cp /tmp/there c1:/d/copied
    check $E cp c1:/d/copied /tmp/back; check cmp /tmp/there /tmp/back
    check in_c c1 sh -c 'echo still > /d/still; cat /d/copied'
    check mounted pg
    is "$(references pg)" 1 'references after a copy'
}

resizing() {
    check in_c -d c1 sh -c 'n=0; while n=$((n + 1)); do dd if=/dev/zero of=/d/w bs=64k count=64 conv=fsync 2> /dev/null && echo $n > /d/rounds; done'
    comes 'first round' in_c c1 test -s /d/rounds
    check volctl volume resize data/pg 256M
    local before=$(in_c c1 cat /d/rounds)
    below 200 "$(in_c c1 df -m /d | awk 'END { print $2 }')" 'MiB seen in the container'
    again() { test "$(in_c c1 cat /d/rounds)" -gt $before; }
    comes 'a round after it' again
    shows pg '.Status.size_bytes == 268435456'
    check $E restart -t 0 c1
}

# Snapshot, clone and rollback of a volume that the engine made.
copies() {
    check in_c c1 sh -c 'echo before > /d/state; sync'
    check volctl snapshot create data/pg@s1
    check in_c c1 sh -c 'echo after > /d/state; sync'
    check $E volume create -d volumed -o from=pg@s1 older
    check $E volume create -d volumed -o from=pg newer
    check run --rm -v older:/d -v newer:/n bb sh -c 'cat /d/state /n/state; echo changed > /d/state'
    is "$(tr '\n' ' ' < /tmp/out)" 'before after ' 'the clones'
    refuse volctl snapshot rollback data/pg@s1 --yes; said "$E"
    check $E stop -t 0 c1
    idle pg
    check volctl snapshot rollback data/pg@s1 --yes
    check $E start c1
    check in_c c1 cat /d/state; is "$(cat /tmp/out)" before 'after the rollback'
    drop c1
    idle pg
    check $E volume rm older newer
}

# Nothing but the writer notices a full disk.
full() {
    new small -o size=32M
    start f1 -v small:/d bb sh -c "echo kept > /d/kept; $REST"
    refuse in_c f1 dd if=/dev/zero of=/d/big bs=1M; said 'No space left'
    check running f1
    check in_c f1 sh -c 'cat /d/kept; rm /d/big; echo again > /d/again; sync'
    is "$(cat /tmp/out)" kept 'a file of before'
    check volctl status
    drop f1
    idle small
    check $E volume rm small
}

read_only() {
    check run --rm -v pg:/d:ro bb cat /d/file
    refuse run --rm -v pg:/d:ro bb sh -c 'echo no > /d/no'; said 'ead-only'
    start r1 -v pg:/d:ro bb sh -c "$REST"
    check run --rm -v pg:/d bb sh -c 'echo yes > /d/yes'
    check in_c r1 cat /d/yes
    drop r1
    idle pg
}

# What an image has at a volume's place is copied into one that is new, with owner and mode.
copy_up() {
    new content
    check run --rm -v content:/data seeded sh -c 'cat /data/seed /data/sub/deep; ls -A /data | tr "\n" " "; stat -c "%u:%g %a" /data'
    is "$(tr '\n' ' ' < /tmp/out)" "seed deep seed sub $CONTENT " 'the content of the image'
    check run --rm -v content:/data seeded sh -c 'rm /data/seed; echo own > /data/own'
    check run --rm -v content:/data seeded ls -A /data; is "$(tr '\n' ' ' < /tmp/out)" 'own sub ' 'content is copied once'
    check $E volume rm content
    # With owner and mode told, they are as told.
    new owned -o uid=70 -o gid=71 -o mode=0700
    check run --rm -v owned:/d bb stat -c '%u:%g %a' /d; is "$(cat /tmp/out)" '70:71 700' 'owner and mode'
    check $E volume rm owned
}

# Each name is refused, and then there is nothing; or made, shown by that very name, and removed.
names() {
    local legal=(a-b A_b.c 01 UPPER lower.with-all_of.it $(printf 'x%.0s' $(seq 200)) $(printf '0123456789abcdef%.0s' 1 2 3 4))
    # As the engine likes.
    local other=(1 .hidden ... ..x _x 'with space' 'süß' 'a:b' 'a%2fb' '$(reboot)' '日本')
    local illegal=(. .. /abs a/b ../up 'a@b' ' ' $'line\nbreak' "$(printf 'y%.0s' $(seq 300))")
    local name made=() before=$(volctl volume list -o name | wc -l)
    for name in "${legal[@]}" "${other[@]}"; do
        if $E volume create -d volumed -o size=16M -- "$name" > /tmp/out 2>&1; then
            made+=("$name")
        else
            case " ${legal[*]} " in *" $name "*) bad "volume create $name" ;; esac
        fi
    done
    echo "NAMES ${#made[@]} of $((${#legal[@]} + ${#other[@]})): ${made[*]:${#legal[@]}}"
    is "$(volctl volume list -o name | wc -l)" $((before + ${#made[@]})) 'volumes made by names'
    $E volume inspect -- "${made[@]}" > /tmp/out 2>&1; printf '%s\n' "${made[@]}" > /tmp/made
    jq -r '.[].Name' /tmp/out | cmp - /tmp/made || bad 'names that are shown'
    $E volume ls -q > /tmp/out; for name in "${made[@]}"; do grep -qxF -- "$name" /tmp/out || bad "$name is not listed"; done
    check $E volume rm -- "${made[@]}"
    for name in "${illegal[@]}"; do refuse $E volume create -d volumed -o size=16M -- "$name"; done
    is "$(volctl volume list -o name | wc -l)" $before 'volumes after refused names'
}

# What is mistyped is refused, by a text that helps, and leaves nothing.
options() {
    refuse $E volume create -d volumed -o sise=1G wrong; said sise; said size
    refuse $E volume create -d volumed -o size=much wrong; said much
    refuse $E volume create -d volumed -o size=64M -o fs=ext5 wrong; said ext5; said ext4
    refuse $E volume create -d volumed -o size=64M -o pool=none wrong; said none
    refuse $E volume create -d volumed -o from=nothing wrong; said nothing
    refuse $E volume create -d volumed -o size=900G -o thin=no wrong
    refuse $E volume inspect wrong
    refuse volctl volume show data/wrong
    # Without any option.
    check $E volume create -d volumed plain
    check run --rm -v plain:/d bb sh -c 'echo x > /d/x'
    check $E volume rm plain
}

# One of many is asked for, and asked for again as long as the answer is that it is being made: the engine has a limit of its own for an
# answer (Podman five seconds), which is soon over where the machine is busy.
one_of_many() {
    local said end=$((SECONDS + 300))
    until said=$(curl -sS --fail-with-body --unix-socket $SOCK -H 'Content-Type: application/json' \
        -d "{\"Name\":\"many$1\",\"Driver\":\"volumed\",\"DriverOpts\":{\"size\":\"16M\"}}" http://engine/v1.41/volumes/create 2>&1); do
        case $said in *'ask for it again'* | *'ask again in a moment'* | *'deadline exceeded'* | *'Client.Timeout'*) ;; *) echo "$said"; return 1 ;; esac
        [ $SECONDS -lt $end ] || { echo "$said"; return 1; }
        sleep 0.5
    done
    echo "$said"
}

# A hundred are asked for at once.
hundred() {
    local begin=$EPOCHREALTIME
    export -f one_of_many; export SOCK
    seq 100 | xargs -P 100 -I% bash -c 'one_of_many %' > /tmp/many 2>&1 \
        || { grep -v '^{"CreatedAt"' /tmp/many | sed 's/many[0-9]*/many/g' | sort | uniq -c > /tmp/out; bad 'a hundred volumes at once'; }
    echo "HUNDRED: $(((${EPOCHREALTIME/./} - ${begin/./}) / 1000)) ms"
    $E volume ls -q | grep ^many > /tmp/many
    is "$(wc -l < /tmp/many)" 100 'volumes made at once'
    check $E volume rm $(cat /tmp/many)
    is "$($E volume ls -q | grep -c ^many)" 0 'volumes left of a hundred'
}

# Thirty containers, started and killed side by side, share a volume.
thirty() {
    local i
    new shared
    for i in $(seq 30); do run -d --name s$i -v shared:/d bb sh -c "echo $i > /d/\$HOSTNAME; $REST" > /tmp/out.$i 2>&1 & done
    wait $(jobs -p)
    is "$($E ps -q --filter name=^s | wc -l)" 30 'containers that share a volume'
    comes 'thirty files' sh -c "test \$($E exec s1 ls /d | wc -l) = 30"
    check mounted shared
    is "$(references shared)" ${IDS:-30} 'references of thirty containers'
    for i in $(seq 15); do slay "$(pid s$i)"; done
    check in_c s30 sh -c 'ls /d | wc -l'; is "$(cat /tmp/out)" 30 'files after half of them were killed'
    drop $(seq -f s%g 30)
    idle shared
    check $E volume rm shared
}

# What was removed can be taken back for a while.
undelete() {
    new gone
    check run --rm -v gone:/d bb sh -c 'echo precious > /d/file'
    remove_unused gone
    refuse $E volume inspect gone
    check volctl volume undelete data/gone
    taken_back
    check run --rm -v gone:/d bb cat /d/file; is "$(cat /tmp/out)" precious 'what was taken back'
    check $E volume rm gone
    # Not what is protected, nor what is to be kept.
    new held -o protect=yes
    refuse $E volume rm held; said protect
    check volctl volume unprotect data/held
    check $E volume rm held
    new kept -o on-remove=keep
    check $E volume rm kept
    check volctl volume show data/kept
    refuse $E volume inspect kept
    check volctl -q volume delete data/kept --now --yes
}

# A volume made elsewhere is handed to the engine by a label.
elsewhere() {
    check volctl volume create data/made --size 64M
    check volctl volume label data/made $E.volume=handed
    taken_back
    check run --rm -v handed:/d bb sh -c 'echo x > /d/x'
    check volctl volume label data/made $E.volume-
    taken_back
    refuse $E volume inspect handed
    check volctl -q volume delete data/made --now --yes
}

# What volumed can be asked, and `system df` cannot.
usage() {
    new used
    check run --rm -v used:/d bb dd if=/dev/zero of=/d/x bs=1M count=8 conv=fsync
    check volctl df --runtime $E; said used
    check $E volume rm used
}
