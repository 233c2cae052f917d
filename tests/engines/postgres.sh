# PostgreSQL, from the packages of the guest, as an image.
PG=/usr/lib/postgresql/18/bin
postgres_image() {
    local dir=/tmp/postgres
    mkdir -p $dir/{tmp,proc,sys,dev,etc,run/postgresql,var/lib/postgresql/data,usr/bin,usr/lib,usr/lib64}
    ln -s usr/bin $dir/bin; ln -s usr/lib $dir/lib; ln -s usr/lib64 $dir/lib64
    cp /etc/passwd /etc/group /etc/nsswitch.conf $dir/etc/ 2> /dev/null
    cp --parents -a /usr/share/postgresql/18 $dir/
    cp --parents $PG/{postgres,initdb,psql,pg_ctl,pg_isready,pg_amcheck} ${PG%/bin}/lib/*.so $dir/
    # What they load, and what loads it.
    ldd $PG/{postgres,initdb,psql,pg_amcheck} /usr/bin/bash | grep -o '/[^ :]*' | sort -u | while read -r file; do
        mkdir -p $dir${file%/*}; cp -L $file $dir$file
    done
    cp /usr/bin/busybox /usr/bin/bash $dir/usr/bin/
    chroot $dir /usr/bin/busybox --install -s /bin 2> /dev/null
    chown -R postgres:postgres $dir/var/lib/postgresql $dir/run/postgresql; chmod 1777 $dir/tmp
    tar -C $dir -c . | docker import -c 'USER postgres' -c "ENV PATH=$PG:/usr/bin PGDATA=/var/lib/postgresql/data" - postgres
}
sql() { local container=$1; shift; docker exec $container psql -qAt -h /run/postgresql -U postgres -c "$*"; }
accepts() { comes "PostgreSQL of $1" docker exec $1 pg_isready -q -h /run/postgresql; }
# `database NAME VOLUME`
database() {
    check docker run -d --name $1 $NET -v $2:/var/lib/postgresql/data postgres \
        postgres -c listen_addresses= -c unix_socket_directories=/run/postgresql -c shared_buffers=16MB -c max_wal_size=64MB
    accepts $1
}
# Rows without a hole, in a heap and an index without damage.
sound() {
    is "$(sql $1 'select count(*) = max(n) from t')" t "rows of $1"
    check docker exec $1 pg_amcheck -h /run/postgresql -U postgres --install-missing -t t
}

made() {
    check docker volume create -d volumed -o size=1G -o uid=$(id -u postgres) -o gid=$(id -g postgres) -o mode=0700 pgdata
    check docker run --rm $NET -v pgdata:/var/lib/postgresql/data postgres initdb --auth=trust --encoding=UTF8 --locale=C --data-checksums
    database pg pgdata
    check sql pg 'create table t (n int primary key, filler text)'
    # The images of before, for the power-cut: dockerd does not wait for the disk.
    sync
}
# Each row is told of when it is committed; a hundred or so in a second.
writing() {
    seq 1000000 | sed "s/.*/insert into t values (&, repeat('x', 100)) returning n; do 'begin perform pg_sleep(0.01); end';/" \
        | docker exec -i pg psql -qAt -h /run/postgresql -U postgres | sed -u 's/^/ACK /' | tee /tmp/acks
}
# A clone of the database at work is one at which the power failed: it starts by itself, with all that had been committed.
cloned() {
    comes 'rows' sh -c 'test $(wc -l < /tmp/acks) -gt 100'
    local acks=$(tail -n 1 /tmp/acks)
    check docker volume create -d volumed -o from=pgdata pgclone
    database clone pgclone
    below $((${acks#ACK } - 1)) "$(sql clone 'select count(*) from t')" 'rows of the clone'
    sound clone
    check docker kill clone; check docker rm clone
    check docker volume rm pgclone
    check docker ps; said ' pg$'
}
# The host is up again.
survived() {
    check docker start pg
    accepts pg
    sound pg
    echo "ROWS $(sql pg 'select count(*) from t')"
    check mounted pgdata
    is "$(references pgdata)" 1 'references after a power-cut'
    check docker rm -f pg
    idle pgdata
    check docker volume rm pgdata
}
