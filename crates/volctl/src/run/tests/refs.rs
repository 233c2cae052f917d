//! `refs list`, `refs release`, `df --runtime`.

use vol_api::*;

use super::fake::{Daemon, Person};
use super::{GIB, plan};

const ID: &str = "0191d6e0-0000-7000-8000-000000000001";
const PODMAN: &str = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2";

fn of_docker(id: &str) -> RefInfo {
    RefInfo {
        runtime: "docker".into(),
        volume: Some("data/pg".into()),
        volume_id: ID.into(),
        engine_name: Some("pgdata".into()),
        id: id.into(),
        count: 2,
        confirmed: true,
        mounted_at: vec!["/m/docker/pg".into()],
        used_by: vec!["process 12 (postgres), at /data".into()],
    }
}

fn list() -> RefList {
    let gone =
        RefInfo { runtime: "podman".into(), volume_id: ID.into(), id: PODMAN.into(), count: 1, ..RefInfo::default() };
    let mount = UnneededMount {
        runtime: "docker".into(),
        volume: Some("data/old".into()),
        path: "/m/docker/old".into(),
        ..UnneededMount::default()
    };
    RefList { refs: vec![of_docker(&"a1".repeat(32)), gone], unneeded: vec![mount] }
}

#[test]
fn references_are_listed_with_who_uses_the_volume_and_mounts_without_one_below() {
    let daemon = Daemon::start().answer("GET /v1/refs", &list());
    let ran = daemon.volctl("refs list");
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    let expected = "\
RUNTIME  NAME    VOLUME                                  ID            COUNT  STATE        MOUNTED AT    USED BY
docker   pgdata  data/pg                                 a1a1a1a1a1a1      2  confirmed    /m/docker/pg  process 12 (postgres), at /data
podman   –       (0191d6e0-0000-7000-8000-000000000001)  2f73349cfc46      1  unconfirmed  –             –

Mounts that no engine needs:
RUNTIME  VOLUME    MOUNTED AT     KEPT FOR
docker   data/old  /m/docker/old  nobody: it is unmounted soon
";
    assert_eq!(ran.out, expected, "\n{}", ran.out);
    let none = Daemon::start().answer("GET /v1/refs?runtime=podman", &RefList::default());
    let ran = none.volctl("refs list --runtime podman");
    assert_eq!((ran.exit, ran.err.as_str()), (0, "No container engine has a volume mounted.\n"));
    assert!(daemon.volctl("refs list -o json").out.contains(PODMAN));
}

#[test]
fn a_release_asks_and_says_what_it_means_for_a_running_container() {
    let released = ReleasedRefs {
        volume: Some("data/pg".into()),
        released: vec![of_docker("a")],
        used_by: vec!["process 12 (postgres), at /data".into()],
        ..ReleasedRefs::default()
    };
    let daemon = Daemon::start()
        .answer("GET /v1/refs", &list())
        .answer("POST /v1/refs/release?dry_run=true", &plan("release mount references of data/pg"))
        .answer("POST /v1/refs/release", &Outcome::changed(released));
    let ran = daemon.volctl("refs release data/pg");
    assert_eq!(ran.exit, 9, "{}", ran.err);
    assert!(ran.err.contains("--yes if the containers that used it are gone"), "{}", ran.err);
    let mut person = Person::answering("y");
    let ran = daemon.volctl_with("refs release data/pg", &mut person);
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    assert_eq!(
        person.asked,
        [
            "Forget 1 mount reference of data/pg? It is in use by process 12 (postgres), at /data: that goes on, and the volume stays \
          mounted until it ends. To end the use, stop the container instead. [y/N] "
        ]
    );
    assert_eq!(
        ran.out,
        "1 mount reference of volume data/pg forgotten; it stays mounted while it is in use by process 12 (postgres), at /data.\n"
    );
    let mut person = Person::answering("n");
    assert_eq!(daemon.volctl_with("refs release data/pg", &mut person).exit, 9);
}

#[test]
fn the_beginning_of_an_id_is_enough_where_it_is_one_alone() {
    let many = RefList { refs: vec![of_docker("ab1"), of_docker("ab2"), of_docker("c")], ..RefList::default() };
    let daemon = Daemon::start()
        .answer("GET /v1/refs?runtime=docker", &many)
        .answer("POST /v1/refs/release", &Outcome::changed(ReleasedRefs { left: 2, ..ReleasedRefs::default() }));
    let ran = daemon.volctl("refs release data/pg --runtime docker --id ab2 --yes");
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    assert_eq!(daemon.volctl("refs release data/pg --runtime docker --id ab --yes").exit, 2);
    drop(daemon.volctl("refs release data/pg --runtime docker --id c --yes"));
    let asked: Vec<_> = daemon.requests().into_iter().filter(|one| one.starts_with("POST")).collect();
    assert_eq!(
        asked,
        [
            r#"POST /v1/refs/release {"volume":"data/pg","runtime":"docker","id":"ab2"}"#,
            r#"POST /v1/refs/release {"volume":"data/pg","runtime":"docker","id":"c"}"#,
        ]
    );
}

#[test]
fn what_the_volumes_of_an_engine_take_is_told_as_the_engine_cannot() {
    let pg = RuntimeVolume {
        name: "pgdata".into(),
        volume: "data/pg".into(),
        size_bytes: 20 * GIB,
        used_bytes: Some(2 * GIB),
        exclusive_bytes: Some(GIB),
        references: 2,
        mounted: true,
    };
    let cache =
        RuntimeVolume { name: "cache".into(), volume: "data/cache".into(), size_bytes: GIB, ..Default::default() };
    let df = RuntimeDf {
        runtime: "docker".into(),
        volumes: vec![cache, pg],
        total: RuntimeTotal {
            volume_count: 2,
            active_count: 1,
            size_bytes: 21 * GIB,
            used_bytes: 2 * GIB,
            reclaimable_bytes: 0,
        },
    };
    let daemon = Daemon::start().answer("GET /v1/runtimes/docker/df", &df);
    let expected = "\
NAME    VOLUME          SIZE      USED  EXCLUSIVE  REFERENCES  MOUNTED
cache   data/cache  1.00 GiB         –          –           0  no
pgdata  data/pg     20.0 GiB  2.00 GiB   1.00 GiB           2  yes

2 volumes of docker, 1 in use; size 21.0 GiB, used 2.00 GiB, reclaimable 0 B
";
    let ran = daemon.volctl("df --runtime docker");
    assert_eq!(ran.out, expected, "\n{}{}", ran.out, ran.err);
    assert_eq!(daemon.volctl("df --runtime docker -o name").out, "cache\npgdata\n");
    let none = Daemon::start().answer("GET /v1/runtimes/podman/df", &RuntimeDf::default());
    let ran = none.volctl("df --runtime podman");
    assert!(ran.exit == 0 && ran.err.contains("podman.volume"), "{}", ran.err);
}
