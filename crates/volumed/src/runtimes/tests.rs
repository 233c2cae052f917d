//! The real server over a simulated machine, asked what engines were seen to ask.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::watch;
use vol_api::{CreateVolume, Relabel};
use vol_docker::Runtime;
use vol_sim::SimHost;

use super::references::References;
use super::{Desk, Shared, router};
use crate::access::{Access, Credentials};
use crate::api::{Backend, Life};
use crate::backend::tests::{Sim, done, machine, pool_request, start, vg_request, volume};
use crate::config::Config;
use crate::server::{Front, Limits, serve};
use crate::settings::Settings;

const PROVISION_GID: u32 = 20;
const OBSERVE_GID: u32 = 30;

/// Both sockets of a daemon over a simulated machine.
struct Plugin {
    dir: TempDir,
    front: Arc<Front>,
    backend: Arc<Sim>,
    user: Arc<Mutex<(u32, u32)>>,
    _stop: watch::Sender<bool>,
}

impl Plugin {
    /// With the VG `data` and its pool `tank`.
    fn start() -> Self {
        let plugin = Self::recovering(&machine(), "");
        done(plugin.backend.create_vg(vg_request(), false));
        done(plugin.backend.create_pool(pool_request(), false));
        plugin.ready();
        plugin
    }

    /// Not ready yet, with this configuration.
    fn recovering(host: &SimHost, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let access =
            Access::new(&Config { observe_group: Some("watchers".into()), ..Config::default() }, |name| match name {
                "volumed" => Some(PROVISION_GID),
                "watchers" => Some(OBSERVE_GID),
                _ => None,
            });
        let front = Arc::new(Front::new(access, Limits { body: Duration::from_millis(800), ..Limits::default() }));
        front.set_settings(Arc::new(Settings::from(Config::parse(config).unwrap())));
        let (stop, stopped) = watch::channel(false);
        let user = Arc::new(Mutex::new((0, 0)));
        let shared = Arc::new(Shared::new(dir.path()));
        for runtime in Runtime::ALL {
            let listener = UnixListener::bind(dir.path().join(runtime.name())).unwrap();
            let user = Arc::clone(&user);
            let lookup = Arc::new(move |_: &tokio::net::UnixStream| {
                let (uid, gid) = *user.lock().unwrap();
                Ok(Credentials { uid, gid, pid: None, groups: vec![] })
            });
            let desk = Desk { front: Arc::clone(&front), runtime, shared: Arc::clone(&shared) };
            tokio::spawn(serve(listener, router(Arc::new(desk)), Arc::clone(&front), lookup, stopped.clone()));
        }
        let backend = start(host).counting(References::in_memory("b"), dir.path().join("mounts"));
        Self { dir, front, backend: Arc::new(backend), user, _stop: stop }
    }

    fn ready(&self) {
        self.front.set_backend(self.backend.clone());
    }

    fn socket(&self, runtime: Runtime) -> PathBuf {
        self.dir.path().join(runtime.name())
    }

    /// Status and body of an answer; `None` if there was none.
    async fn raw(&self, runtime: Runtime, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
             Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n{body}",
            body.len()
        );
        let socket = self.socket(runtime);
        let exchange = move || exchange(&socket, &request);
        let answer = tokio::task::spawn_blocking(exchange).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        assert!(head.contains("connection: close"), "{head}");
        Some((status, serde_json::from_str(body).unwrap()))
    }

    async fn ask(&self, runtime: Runtime, call: &str, body: Value) -> (u16, Value) {
        let path = if call == "Activate" { "/Plugin.Activate".to_owned() } else { format!("/VolumeDriver.{call}") };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.raw(runtime, "POST", &path, &body).await.unwrap()
    }

    /// A body that is no error.
    async fn good(&self, runtime: Runtime, call: &str, body: Value) -> Value {
        let (status, answer) = self.ask(runtime, call, body.clone()).await;
        assert_eq!(status, 200, "{call} {body}: {answer}");
        assert_eq!(answer.get("Err").and_then(Value::as_str).unwrap_or_default(), "", "{call} {body}");
        answer
    }

    /// The text of an error.
    async fn bad(&self, runtime: Runtime, call: &str, body: Value) -> String {
        let (status, answer) = self.ask(runtime, call, body.clone()).await;
        assert_eq!(status, 500, "{call} {body}: {answer}");
        answer["Err"].as_str().unwrap().to_owned()
    }

    async fn create(&self, runtime: Runtime, name: &str, options: Value) {
        self.good(runtime, "Create", json!({"Name": name, "Opts": options})).await;
    }

    /// A table of calls in order. `M id`: Mount, `U id`: Unmount, `G`: Get, `-`: it is not mounted then, `+`: it is.
    async fn sequence(&self, runtime: Runtime, name: &str, calls: &str) {
        for (at, call) in calls.split_whitespace().enumerate() {
            let what = format!("{calls}, at {at}: {call}");
            match call.split_at(1) {
                ("A", _) => {
                    let answer = self.good(runtime, "Activate", Value::Null).await;
                    assert_eq!(answer, json!({"Implements": ["VolumeDriver"]}), "{what}");
                }
                ("C", _) => {
                    let answer = self.good(runtime, "Capabilities", json!({})).await;
                    assert_eq!(answer["Capabilities"]["Scope"], "local", "{what}");
                }
                ("G", _) => {
                    self.good(runtime, "Get", json!({"Name": name})).await;
                }
                ("M", id) => {
                    let answer = self.good(runtime, "Mount", json!({"Name": name, "ID": id})).await;
                    assert_eq!(self.mounted(runtime, name).await, answer["Mountpoint"].as_str().unwrap(), "{what}");
                }
                ("U", id) => {
                    self.good(runtime, "Unmount", json!({"Name": name, "ID": id})).await;
                }
                ("+", _) => assert!(!self.mounted(runtime, name).await.is_empty(), "{what}"),
                ("-", _) => assert_eq!(self.mounted(runtime, name).await, "", "{what}"),
                _ => panic!("{what}"),
            }
        }
    }

    async fn mounted(&self, runtime: Runtime, name: &str) -> String {
        let by_path = self.good(runtime, "Path", json!({"Name": name})).await["Mountpoint"].clone();
        let volume = self.good(runtime, "Get", json!({"Name": name})).await["Volume"].clone();
        assert_eq!(by_path, volume["Mountpoint"]);
        by_path.as_str().unwrap().to_owned()
    }

    async fn names(&self, runtime: Runtime) -> Vec<String> {
        let list = self.good(runtime, "List", json!({})).await;
        list["Volumes"].as_array().unwrap().iter().map(|one| one["Name"].as_str().unwrap().to_owned()).collect()
    }
}

fn exchange(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

use Runtime::{Docker, Podman};

#[tokio::test]
async fn recorded_sequences_of_docker_end_as_they_should() {
    let plugin = Plugin::start();
    for (name, calls) in [
        // docker run -v v:/d: the mount of the copy-up check, then the container's.
        ("run", "A C G G MA G UA - G MB + UB -"),
        // docker cp into a running container mounts with the container's own id once more.
        ("cp", "G MB + G MB G UB + UB -"),
        // docker rm -f.
        ("rm", "G MB G UB -"),
        // Many containers on one volume.
        ("share", "MA MB MC UB + UA + UC -"),
        // Stopped in good order, with what an engine repeats when it heard no answer.
        ("again", "MA UA - UA UA - UB -"),
        // An id is mounted and unmounted over and over.
        ("restart", "MA UA - MA UA - MA + UA -"),
        // dockerd was killed, and the container with it; its next start has the same id.
        ("killed", "A C G MB + A C G MB + UB -"),
        // live-restore: dockerd was killed, and the next one only unmounts at the container's end.
        ("live", "A C G MB + A C G G G + UB -"),
    ] {
        plugin.create(Docker, name, Value::Null).await;
        plugin.sequence(Docker, name, calls).await;
        plugin.good(Docker, "Remove", json!({"Name": name})).await;
    }
    assert!(plugin.names(Docker).await.is_empty());
}

#[tokio::test]
async fn recorded_sequences_of_podman_end_as_they_should() {
    let plugin = Plugin::start();
    let id = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2";
    for (name, calls) in [
        ("run", format!("A G A M{id} + A U{id} -")),
        // Its own count was lost with its database: it mounts again.
        ("lost", format!("A M{id} A M{id} + A U{id} -")),
        ("prune", "A G".to_owned()),
    ] {
        plugin.create(Podman, name, json!({"o": "timeout=30"})).await;
        plugin.sequence(Podman, name, &calls).await;
        plugin.good(Podman, "Remove", json!({"Name": name})).await;
    }
}

#[tokio::test]
async fn a_volume_is_made_with_its_options_and_told_of() {
    let plugin = Plugin::start();
    let options = json!({"size": "1G", "fs": "xfs", "uid": "999", "mode": "0750", "protect": "yes", "on-remove": "keep",
                         "mount-options": "noatime,ro", "reserve": "512M"});
    plugin.create(Docker, "pg", options).await;
    let info = plugin.backend.volume(&volume("data/pg")).unwrap();
    assert_eq!((info.fs.as_deref(), info.size_bytes, info.subdir.as_deref()), (Some("xfs"), 1 << 30, Some("data")));
    assert!(info.protected && info.reserve_bytes == 512 << 20);
    assert_eq!(info.labels["docker.volume"], "pg");
    let answer = plugin.good(Docker, "Mount", json!({"Name": "pg", "ID": "a"})).await;
    let at = answer["Mountpoint"].as_str().unwrap();
    assert!(at.ends_with(&format!("/mounts/docker/{}", info.id)), "{at}");
    assert!(plugin.backend.volume(&volume("data/pg")).unwrap().mounts[0].read_only);
    let told = plugin.good(Docker, "Get", json!({"Name": "pg"})).await["Volume"].clone();
    assert_eq!((told["Name"].as_str(), told["Mountpoint"].as_str()), (Some("pg"), Some(at)));
    assert_eq!(told["CreatedAt"], info.created_at);
    let status = told["Status"].as_object().unwrap();
    for (key, value) in [
        ("volume", json!("data/pg")),
        ("size_bytes", json!(1u64 << 30)),
        ("fs", json!("xfs")),
        ("pool", json!("data/tank")),
        ("thin", json!(true)),
        ("mounted", json!(true)),
        ("references", json!(1)),
        ("snapshots", json!(0)),
        ("protected", json!(true)),
        ("on_remove", json!("keep")),
        ("mount_options", json!("noatime,ro")),
        ("health", json!("ok")),
    ] {
        assert_eq!(status[key], value, "{key}");
    }
    assert!(status["device"].is_string() && status.contains_key("used_bytes"));
    let list = plugin.good(Docker, "List", json!({})).await;
    assert_eq!(list["Volumes"][0]["Mountpoint"], at);
    // It is kept, and its engine does not see it any more.
    plugin.good(Docker, "Remove", json!({"Name": "pg"})).await;
    assert!(plugin.names(Docker).await.is_empty());
    let kept = plugin.backend.volume(&volume("data/pg")).unwrap();
    assert!(kept.mounts.is_empty() && kept.labels.is_empty(), "{:?}", kept.labels);
}

#[tokio::test]
async fn whatever_is_asked_again_is_one_effect_and_other_options_are_a_conflict() {
    let plugin = Plugin::start();
    for options in [json!({"size": "1G"}), json!({"size": "1G"})] {
        plugin.create(Docker, "pg", options).await;
    }
    let refused = plugin.bad(Docker, "Create", json!({"Name": "pg", "Opts": {"size": "2G"}})).await;
    assert!(refused.starts_with("there is a volume pg already (data/pg), and it is another one"), "{refused}");
    assert!(plugin.bad(Docker, "Create", json!({"Name": "pg"})).await.contains("another one"));
    // That it has grown since is no other request.
    let grown = vol_api::ResizeVolume { size: "3G".into(), ..vol_api::ResizeVolume::default() };
    done(plugin.backend.resize_volume(&volume("data/pg"), grown, false));
    plugin.create(Docker, "pg", json!({"size": "1G"})).await;
    for _ in 0..2 {
        plugin.good(Docker, "Remove", json!({"Name": "pg"})).await;
    }
    plugin.good(Docker, "Unmount", json!({"Name": "pg", "ID": "a"})).await;
    for call in ["Get", "Path", "Mount"] {
        assert_eq!(plugin.bad(Docker, call, json!({"Name": "pg", "ID": "a"})).await, "no such volume: pg");
    }
}

#[tokio::test]
async fn a_request_without_a_body_changes_nothing() {
    let plugin = Plugin::start();
    plugin.create(Docker, "pg", Value::Null).await;
    plugin.sequence(Docker, "pg", "MA").await;
    for call in ["Create", "Remove", "Mount", "Unmount", "Get", "Path"] {
        let told = plugin.bad(Docker, call, Value::Null).await;
        assert!(told.contains("has no body, so nothing was done"), "{call}: {told}");
    }
    plugin.sequence(Docker, "pg", "+ UA -").await;
    let long = format!("{{\"Name\":\"pg\",\"Opts\":{{\"size\":\"{}\"}}}}", "9".repeat(2 << 20));
    for (method, path, body, status, why) in [
        ("POST", "/VolumeDriver.Frobnicate", "{}", 404, "no endpoint"),
        ("GET", "/VolumeDriver.List", "", 405, "takes POST"),
        ("POST", "/v1/volumes", "{}", 404, "no endpoint"),
        ("POST", "/VolumeDriver.Mount", "[1]", 500, "no JSON object"),
        ("POST", "/VolumeDriver.Mount", "{\"Name\":", 500, "not understood"),
        ("POST", "/VolumeDriver.Create", long.as_str(), 500, "larger than"),
    ] {
        let (got, answer) = plugin.raw(Docker, method, path, body).await.unwrap();
        assert_eq!(got, status, "{path}: {answer}");
        assert!(answer["Err"].as_str().unwrap().contains(why), "{path}: {answer}");
    }
}

#[tokio::test]
async fn names_of_every_kind_are_kept_and_those_that_fit_nowhere_refused() {
    let plugin = Plugin::start();
    let hex = "c0ffee".repeat(10) + "beef";
    let names = ["pg", "PG", "größe", "a b", "-x", "...", "日本", &hex, &"n".repeat(255), "tank", "$(reboot)", "x;y"];
    for name in names {
        plugin.create(Docker, name, json!({"size": "64M"})).await;
        plugin.sequence(Docker, name, "G MA + UA -").await;
    }
    let mut listed = plugin.names(Docker).await;
    let mut expected: Vec<_> = names.iter().map(ToString::to_string).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    let own: Vec<_> = plugin.backend.volumes(None).unwrap().into_iter().map(|one| one.name).collect();
    assert!(own.contains(&hex) && own.contains(&"PG".to_owned()));
    assert!(own.iter().any(|name| name.starts_with("tank-")), "the pool has that name: {own:?}");
    for name in ["", "/", ".", "..", "a/b", "../etc", "a@b", "x\ny", "\u{0}", " a", "a ", &"n".repeat(256)] {
        for call in ["Create", "Get", "Mount", "Remove"] {
            plugin.bad(Docker, call, json!({"Name": name, "ID": "a"})).await;
        }
    }
    assert_eq!(plugin.names(Docker).await.len(), names.len());
    for name in names {
        plugin.good(Docker, "Remove", json!({"Name": name})).await;
    }
}

#[tokio::test]
async fn each_engine_has_volumes_of_its_own_and_one_that_both_have_stays_until_both_removed_it() {
    let plugin = Plugin::start();
    plugin.create(Docker, "pg", json!({"size": "64M"})).await;
    plugin.create(Podman, "pg", json!({"size": "128M"})).await;
    let sizes = |told: &Value| told["Volume"]["Status"]["size_bytes"].as_u64().unwrap() >> 20;
    assert_eq!(sizes(&plugin.good(Docker, "Get", json!({"Name": "pg"})).await), 64);
    assert_eq!(sizes(&plugin.good(Podman, "Get", json!({"Name": "pg"})).await), 128);
    plugin.good(Podman, "Remove", json!({"Name": "pg"})).await;

    let both = Relabel { set: [("podman.volume".to_owned(), "shared".to_owned())].into(), remove: vec![] };
    done(plugin.backend.label_volume(&volume("data/pg"), both, false));
    plugin.sequence(Docker, "pg", "MA").await;
    plugin.sequence(Podman, "shared", "MA").await;
    plugin.sequence(Docker, "pg", "UA").await;
    plugin.sequence(Podman, "shared", "+").await;
    plugin.good(Docker, "Remove", json!({"Name": "pg"})).await;
    assert!(plugin.names(Docker).await.is_empty());
    plugin.sequence(Podman, "shared", "+ UA -").await;
    plugin.good(Podman, "Remove", json!({"Name": "shared"})).await;
    assert!(plugin.backend.volumes(None).unwrap().is_empty());
}

#[tokio::test]
async fn a_volume_made_elsewhere_is_handed_over_by_a_label_and_two_of_one_name_are_refused() {
    let plugin = Plugin::start();
    let made = |name: &str| {
        let labels = [("docker.volume".to_owned(), "db".to_owned())].into();
        let request =
            CreateVolume { vg: "data".into(), name: name.into(), size: "1G".into(), labels, ..Default::default() };
        done(plugin.backend.create_volume(request, false));
    };
    made("one");
    plugin.sequence(Docker, "db", "G MA + UA -").await;
    plugin.create(Docker, "db", Value::Null).await;
    assert!(
        plugin
            .bad(Docker, "Create", json!({"Name": "db", "Opts": {"fs": "xfs"}}))
            .await
            .contains("file system is ext4")
    );
    made("two");
    for call in ["Get", "Mount", "Remove", "Create"] {
        let told = plugin.bad(Docker, call, json!({"Name": "db", "ID": "a"})).await;
        assert!(told.contains("data/one and data/two") && told.contains("docker.volume-"), "{call}: {told}");
    }
    assert_eq!(plugin.names(Docker).await, ["db"]);
}

#[tokio::test]
async fn clones_are_made_of_volumes_and_snapshots() {
    let plugin = Plugin::start();
    plugin.create(Docker, "größe", json!({"size": "1G", "uid": "7"})).await;
    let of = plugin.good(Docker, "Get", json!({"Name": "größe"})).await["Volume"]["Status"]["volume"].clone();
    let (_, of) = of.as_str().unwrap().split_once('/').unwrap();
    let snapshot =
        vol_api::CreateSnapshot { vg: "data".into(), volume: of.into(), name: "t1".into(), ..Default::default() };
    done(plugin.backend.create_snapshot(snapshot, false));
    for (name, from, size) in [
        ("a", "größe".to_owned(), None),
        ("b", "größe@t1".to_owned(), Some("2G")),
        ("c", format!("data/{of}"), None),
        ("d", format!("data/{of}@t1"), Some("1G")),
    ] {
        let mut options = json!({ "from": from });
        if let Some(size) = size {
            (options["size"], options["protect"]) = (json!(size), json!("yes"));
        }
        plugin.create(Docker, name, options).await;
        let info = plugin.backend.volume(&volume(&format!("data/{name}"))).unwrap();
        assert_eq!(info.size_bytes, if size == Some("2G") { 2 << 30 } else { 1 << 30 }, "{name}");
        assert_eq!(info.protected, size.is_some(), "{name}");
        assert!(info.clone_of.is_some() && info.subdir.as_deref() == Some("data"), "{name}");
        plugin.sequence(Docker, name, "MA + UA -").await;
    }
    for (from, why) in [
        ("nobody", "Docker has no volume nobody"),
        ("data/nobody", "nobody"),
        ("größe@t9", "t9"),
        ("other/pg", "other"),
    ] {
        let told = plugin.bad(Docker, "Create", json!({"Name": "e", "Opts": {"from": from}})).await;
        assert!(told.to_lowercase().contains(&why.to_lowercase()), "{from}: {told}");
    }
    let smaller = plugin.bad(Docker, "Create", json!({"Name": "e", "Opts": {"from": "a", "size": "512M"}})).await;
    assert!(smaller.contains("at least as large"), "{smaller}");
}

#[tokio::test]
async fn thick_volumes_are_made_too_and_a_raw_one_is_not_mounted() {
    let plugin = Plugin::start();
    plugin.create(Docker, "log", json!({"thin": "no", "size": "64M"})).await;
    plugin.sequence(Docker, "log", "G MA + UA -").await;
    assert!(plugin.backend.volume(&volume("data/log")).unwrap().thick.is_some());
    plugin.create(Docker, "disk", json!({"fs": "none", "size": "64M"})).await;
    let told = plugin.bad(Docker, "Mount", json!({"Name": "disk", "ID": "a"})).await;
    assert!(told.contains("raw block volume"), "{told}");
    assert_eq!(plugin.good(Docker, "Get", json!({"Name": "disk"})).await["Volume"]["Status"]["references"], 0);
}

#[tokio::test]
async fn what_is_protected_or_used_is_not_removed_and_says_why() {
    let plugin = Plugin::start();
    plugin.create(Docker, "pg", json!({"size": "64M", "protect": "yes"})).await;
    let told = plugin.bad(Docker, "Remove", json!({"Name": "pg"})).await;
    assert!(told.contains("is protected") && told.contains("volctl volume unprotect data/pg"), "{told}");
    done(plugin.backend.protect_volume(&volume("data/pg"), false, false));
    // A mount that an administrator made.
    done(plugin.backend.mount_volume(&volume("data/pg"), crate::backend::tests::mount_at("/srv/pg"), false));
    let told = plugin.bad(Docker, "Remove", json!({"Name": "pg"})).await;
    assert!(told.contains("/srv/pg"), "{told}");
    plugin.sequence(Docker, "pg", "MA UA -").await;
    assert_eq!(plugin.backend.volume(&volume("data/pg")).unwrap().mounts.len(), 1, "that one stays");
    done(plugin.backend.unmount_volume(&volume("data/pg"), false));
    // References that a crash of the engine left behind.
    plugin.sequence(Docker, "pg", "MA MB").await;
    plugin.good(Docker, "Remove", json!({"Name": "pg"})).await;
    assert!(plugin.backend.volumes(None).unwrap().is_empty());
}

#[tokio::test]
async fn requests_wait_for_recovery_and_are_never_told_that_there_is_no_volume() {
    let host = machine();
    let plugin = Arc::new(Plugin::recovering(&host, ""));
    done(plugin.backend.create_vg(vg_request(), false));
    done(plugin.backend.create_pool(pool_request(), false));
    let waiting: Vec<_> = ["Get", "List", "Create", "Activate"]
        .map(|call| {
            let plugin = Arc::clone(&plugin);
            tokio::spawn(async move { plugin.ask(Docker, call, json!({"Name": "pg"})).await })
        })
        .into_iter()
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waiting.iter().all(|one| !one.is_finished()));
    plugin.ready();
    for one in waiting {
        one.await.unwrap();
    }
    assert_eq!(plugin.names(Docker).await, ["pg"]);

    // The daemon ends before it is ready: no answer at all.
    let recovering = Plugin::recovering(&machine(), "");
    let get = recovering.raw(Docker, "POST", "/VolumeDriver.Get", "{\"Name\":\"pg\"}");
    let told = tokio::time::timeout(Duration::from_millis(300), get).await;
    assert!(told.is_err(), "{told:?}");

    // It ends while a change would begin.
    plugin.front.stop_changes();
    let told = plugin.raw(Docker, "POST", "/VolumeDriver.Mount", "{\"Name\":\"pg\",\"ID\":\"a\"}").await;
    assert_eq!(told, None, "the connection is closed");
}

#[tokio::test]
async fn dockers_socket_is_roots_and_podmans_follows_the_roles() {
    let plugin = Plugin::start();
    plugin.create(Podman, "pg", json!({"size": "64M"})).await;
    for ((uid, gid), docker, reads, changes) in [
        ((0, 0), true, true, true),
        ((1000, PROVISION_GID), false, true, true),
        ((1000, OBSERVE_GID), false, true, false),
        ((1000, 1000), false, false, false),
    ] {
        *plugin.user.lock().unwrap() = (uid, gid);
        for (runtime, call, allowed) in [
            (Docker, "List", docker),
            (Docker, "Activate", docker),
            (Podman, "List", reads),
            (Podman, "Activate", reads),
            (Podman, "Mount", changes),
            (Podman, "Unmount", changes),
            (Podman, "Create", changes),
        ] {
            let (status, answer) =
                plugin.ask(runtime, call, json!({"Name": "pg", "ID": "a", "Opts": {"size": "64M"}})).await;
            assert_eq!(status == 200, allowed, "{uid}:{gid} {runtime} {call}: {answer}");
        }
    }
}

#[tokio::test]
async fn many_volumes_are_made_at_once() {
    let plugin = Arc::new(Plugin::start());
    let begun = Instant::now();
    let all: Vec<_> = (0..100)
        .map(|number| {
            let plugin = Arc::clone(&plugin);
            tokio::spawn(async move { plugin.create(Podman, &format!("v{number}"), json!({"size": "64M"})).await })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    assert_eq!(plugin.names(Podman).await.len(), 100);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn options_of_mounts_are_those_of_the_label_which_may_be_wrong() {
    let plugin = Plugin::start();
    plugin.create(Docker, "pg", json!({"size": "64M"})).await;
    let label = |value: &str| {
        let set = [("runtime.mount-options".to_owned(), value.to_owned())].into();
        done(plugin.backend.label_volume(&volume("data/pg"), Relabel { set, remove: vec![] }, false));
    };
    label("noatime,frobnicate");
    let told = plugin.bad(Docker, "Mount", json!({"Name": "pg", "ID": "a"})).await;
    assert!(told.contains("label runtime.mount-options") && told.contains("frobnicate"), "{told}");
    assert!(told.contains("volctl volume label data/pg runtime.mount-options-"), "{told}");
    plugin.sequence(Docker, "pg", "-").await;
    label("noatime,ro");
    plugin.sequence(Docker, "pg", "MA +").await;
    assert!(plugin.backend.volume(&volume("data/pg")).unwrap().mounts[0].read_only);
}
