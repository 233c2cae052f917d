//! Every changing operation, and what the world looks like before and after it: for tests that end the daemon or the machine at
//! each effect.

use crate::{kernel, tool, wire};
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Two requests of which each undoes the other: `METHOD path [body]`. `VG`, `D0`, `D1`, `D2` (disks) and `DIR` are filled in.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub name: &'static str,
    pub there: &'static str,
    pub back: &'static str,
}

const fn pair(name: &'static str, there: &'static str, back: &'static str) -> Pair {
    Pair { name, there, back }
}

/// Requests that make the place for some pairs, and the pairs. The stages follow one on the other.
pub struct Stage {
    pub first: &'static [&'static str],
    pub pairs: &'static [Pair],
}

/// All that changes anything. A new operation is a line here.
pub const STAGES: [Stage; 3] = [
    Stage {
        first: &[],
        pairs: &[pair("volume group", r#"POST vgs {"name":"VG","devices":["D0","D1"]}"#, "DELETE vgs/VG")],
    },
    Stage {
        first: &[r#"POST vgs {"name":"VG","devices":["D0","D1"]}"#],
        pairs: &[
            pair("pool", r#"POST pools {"vg":"VG","name":"tank","size":"1G"}"#, "DELETE pools/VG/tank"),
            // Extending and reducing are walked on the simulator (`tests/sim/crash.rs`): cut short they may leave a label, which is told of.
            pair("export", "POST vgs/VG/export", "POST vgs/VG/import"),
        ],
    },
    Stage {
        first: &[
            r#"POST pools {"vg":"VG","name":"tank","size":"1G"}"#,
            r#"POST volumes {"vg":"VG","name":"base","size":"64M"}"#,
            r#"POST volumes/VG/base/mount {"path":"DIR/base"}"#,
            r#"POST volumes {"vg":"VG","name":"idle","size":"64M"}"#,
            r#"POST volumes {"vg":"VG","name":"raw","size":"64M","fs":"none"}"#,
            r#"POST snapshots {"vg":"VG","volume":"base","name":"old"}"#,
        ],
        pairs: &[
            pair(
                "raw volume",
                r#"POST volumes {"vg":"VG","name":"r","size":"64M","fs":"none"}"#,
                "DELETE volumes/VG/r",
            ),
            pair("ext4 volume", r#"POST volumes {"vg":"VG","name":"f","size":"64M"}"#, "DELETE volumes/VG/f"),
            pair("mount", r#"POST volumes/VG/idle/mount {"path":"DIR/idle"}"#, "POST volumes/VG/idle/unmount"),
            // Growing has no way back; `device_space` kills the daemon in it.
            pair(
                "policy of a pool",
                r#"POST pools/VG/tank/set {"when_full":"error","reserve_percent":7}"#,
                r#"POST pools/VG/tank/set {"when_full":"queue","reserve_percent":5}"#,
            ),
            pair("attachment", "POST volumes/VG/raw/attach", "POST volumes/VG/raw/detach"),
            pair(
                "snapshot of a mounted volume",
                r#"POST snapshots {"vg":"VG","volume":"base","name":"s"}"#,
                "DELETE snapshots/VG/base/s",
            ),
            pair(
                "snapshot of an idle volume",
                r#"POST snapshots {"vg":"VG","volume":"idle","name":"s"}"#,
                "DELETE snapshots/VG/idle/s",
            ),
            pair(
                "clone of a mounted volume",
                r#"POST clones {"vg":"VG","volume":"base","name":"c"}"#,
                "DELETE volumes/VG/c",
            ),
            pair(
                "new name",
                // Of one that is not mounted: what is mounted first is mounted by its name again after a power cut.
                r#"POST volumes/VG/idle/rename {"name":"other"}"#,
                r#"POST volumes/VG/other/rename {"name":"idle"}"#,
            ),
            pair(
                "mount of a snapshot",
                r#"POST snapshots/VG/base/old/mount {"path":"DIR/old"}"#,
                "POST snapshots/VG/base/old/unmount",
            ),
        ],
    },
];

/// Where the pairs are run: one daemon's socket, its VG, its disks, a folder for mounts.
pub struct Site {
    pub socket: PathBuf,
    pub vg: String,
    pub disks: Vec<String>,
    pub dir: PathBuf,
}

/// How long what a daemon left (a mkfs, udev looking at its device) may hold up the recovery.
const RECOVERED: Duration = Duration::from_secs(120);

impl Site {
    fn fill(&self, text: &str) -> String {
        let mut text = text.replace("VG", &self.vg).replace("DIR", self.dir.to_str().unwrap());
        for (index, disk) in self.disks.iter().enumerate() {
            text = text.replace(&format!("\"D{index}\""), &format!("\"{disk}\""));
        }
        text
    }

    /// Sends a request as it stands in [`STAGES`].
    ///
    /// # Errors
    /// The daemon died before it had answered.
    pub fn send(&self, request: &str) -> io::Result<(u16, Value)> {
        let request = self.fill(request);
        let mut words = request.splitn(3, ' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        wire::request(&self.socket, method, path, words.next().unwrap_or_default())
    }

    /// Must succeed.
    #[track_caller]
    pub fn ok(&self, request: &str) -> Value {
        match self.send(request) {
            Ok((200..=299, json)) => json,
            other => panic!("{request}: {other:?}"),
        }
    }

    fn list(&self, kind: &str) -> Vec<Value> {
        self.ok(&format!("GET {kind}s"))[format!("{kind}s")].as_array().unwrap().clone()
    }

    /// All that the daemon and the kernel say, without ids, times, counters and numbers of devices: equal for equal worlds. Every
    /// device of ours in the kernel stands under the name of the object that it belongs to.
    pub fn view(&self) -> Value {
        let mut view = Map::new();
        let mut devices = kernel::our_uuids();
        for kind in ["vg", "pv", "pool", "volume", "snapshot"] {
            let objects = self.list(kind);
            for object in &objects {
                let id = object["id"].as_str().unwrap();
                let name = object["full_name"].as_str().or(object["name"].as_str()).unwrap_or_default();
                devices.iter_mut().for_each(|uuid| *uuid = uuid.replace(id, &format!("{kind} {name}")));
            }
            let mut objects: Vec<Value> = objects.into_iter().map(timeless).collect();
            // Some lists are in the order of ids.
            objects.sort_by_key(Value::to_string);
            view.insert(kind.to_owned(), Value::Array(objects));
        }
        devices.sort();
        view.insert("devices".to_owned(), json!(devices));
        view.insert("not live".to_owned(), json!(kernel::not_live()));
        let status = self.ok("GET status");
        view.insert("health".to_owned(), json!([status["health"], status["problems"]]));
        view.insert("mounts".to_owned(), json!(self.mounts()));
        if view["vg"] == json!([]) {
            // Not a trace is on the disks.
            let disks: Vec<&str> = self.disks.iter().map(String::as_str).collect();
            let found = tool::attempt("blkid", &[&["-p"][..], &disks].concat()).expect("blkid");
            view.insert("signatures".to_owned(), json!(String::from_utf8_lossy(&found.stdout)));
        }
        Value::Object(view)
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut at: Vec<String> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned).collect();
        at.retain(|at| Path::new(at).starts_with(&self.dir));
        at.sort();
        at
    }

    /// Waits until the world is one of `good`; which. Nobody asks for a change meanwhile: the daemon gets there by itself. The device of
    /// a volume with a file system that is mounted nowhere makes no difference: a mount that was cut short may leave it, the next
    /// mount uses it, and the next unmount takes it away.
    ///
    /// # Errors
    /// It does not get there: what differs.
    pub fn settled(&self, good: &[&Value]) -> Result<usize, String> {
        let begin = Instant::now();
        loop {
            let view = self.view();
            if let Some(index) = good.iter().position(|good| **good == view) {
                return Ok(index);
            }
            let unused = without_unused(view.clone());
            if let Some(index) = good.iter().position(|good| **good == unused) {
                return Ok(index);
            }
            if begin.elapsed() > RECOVERED {
                let all: Vec<String> = good.iter().map(|good| differences(good, &view)).collect();
                return Err(all.join("\nnor "));
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Each pool's transaction id as we have it is the kernel's.
    ///
    /// # Errors
    /// It is not: both.
    pub fn transactions_agree(&self) -> Result<(), String> {
        for pool in self.list("pool") {
            let uuid = format!("VOLUMED-{}-tpool", pool["id"].as_str().unwrap());
            let status = kernel::status(&kernel::number_of(&uuid));
            let kernel: Option<u64> = status.split(' ').nth(3).and_then(|word| word.parse().ok());
            if kernel != pool["transaction_id"].as_u64() {
                return Err(format!("the pool is at {kernel:?}, the metadata at {}", pool["transaction_id"]));
            }
        }
        Ok(())
    }
}

/// Without what differs between two worlds that are the same.
fn timeless(mut value: Value) -> Value {
    const VOLATILE: [&str; 15] = [
        "id",
        "csi_handle",
        "fs_uuid",
        "created_at",
        "sequence",
        "transaction_id",
        "used_bytes",
        "metadata_used_bytes",
        "snapshot_clock",
        "device",
        "hardware_id",
        "pv",
        "fill_bytes_per_second",
        "time_to_full_seconds",
        "time_to_full_confidence",
    ];
    match &mut value {
        Value::Object(map) => {
            map.retain(|key, _| !VOLATILE.contains(&key.as_str()));
            map.values_mut().for_each(|value| *value = timeless(value.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = timeless(value.take())),
        _ => {}
    }
    value
}

/// Without devices that nothing is mounted from.
fn without_unused(mut view: Value) -> Value {
    let mut unused = Vec::new();
    for kind in ["volume", "snapshot"] {
        for object in view[kind].as_array_mut().into_iter().flatten() {
            if object["fs"].is_string() && object["mounts"] == json!([]) && object["active"] == true {
                let name = object["full_name"].as_str().or(object["name"].as_str()).unwrap_or_default();
                unused.push(format!("VOLUMED-{kind} {name}"));
                object["active"] = json!(false);
            }
        }
        // The order is that of the texts.
        if let Some(objects) = view[kind].as_array_mut() {
            objects.sort_by_key(Value::to_string);
        }
    }
    if let Some(devices) = view["devices"].as_array_mut() {
        devices.retain(|device| !unused.iter().any(|unused| device == unused));
    }
    view
}

/// What of a view outlives a power cut.
pub fn persistent(mut world: Value) -> Value {
    for kind in ["volume", "snapshot"] {
        for object in world[kind].as_array_mut().into_iter().flatten() {
            object["mounts"] = json!([]);
            object["active"] = json!(false);
        }
        if let Some(objects) = world[kind].as_array_mut() {
            objects.sort_by_key(Value::to_string);
        }
    }
    if let Some(devices) = world["devices"].as_array_mut() {
        devices.retain(|device| device.as_str().is_some_and(|device| device.starts_with("VOLUMED-pool ")));
    }
    world["mounts"] = json!([]);
    world
}

/// The parts of two views that are not the same, for a message.
pub fn differences(wanted: &Value, found: &Value) -> String {
    let none = Map::new();
    let (wanted, found) = (wanted.as_object().unwrap_or(&none), found.as_object().unwrap_or(&none));
    let keys = wanted.keys().chain(found.keys().filter(|key| !wanted.contains_key(*key)));
    let parts = keys.filter(|key| wanted.get(*key) != found.get(*key));
    let parts: Vec<String> = parts
        .map(|key| {
            format!("{key}: {} is {}", wanted.get(key).unwrap_or(&Value::Null), found.get(key).unwrap_or(&Value::Null))
        })
        .collect();
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_are_the_names_of_the_test() {
        let site = Site {
            socket: "/s".into(),
            vg: "vt1".into(),
            disks: vec!["/dev/a".into(), "/dev/b".into()],
            dir: "/t".into(),
        };
        let text = site.fill(STAGES[0].pairs[0].there);
        assert_eq!(text, r#"POST vgs {"name":"vt1","devices":["/dev/a","/dev/b"]}"#);
        assert_eq!(
            site.fill("POST volumes/VG/idle/mount {\"path\":\"DIR/idle\"}"),
            "POST volumes/vt1/idle/mount {\"path\":\"/t/idle\"}"
        );
    }

    #[test]
    fn a_device_that_nothing_is_mounted_from_makes_no_difference_and_any_other_does() {
        let view = |fs: Value, active: bool| {
            let devices = if active { json!(["VOLUMED-volume v"]) } else { json!([]) };
            json!({"volume": [{"name": "v", "fs": fs, "mounts": [], "active": active}], "snapshot": [], "devices": devices})
        };
        assert_eq!(without_unused(view(json!("ext4"), true)), view(json!("ext4"), false));
        assert_eq!(without_unused(view(Value::Null, true)), view(Value::Null, true));
    }

    #[test]
    fn views_differ_by_what_matters_alone() {
        let view = |id: &str, state: &str| timeless(json!({"volume": [{"id": id, "name": "v", "state": state}]}));
        assert_eq!(view("1", "ready"), view("2", "ready"));
        assert!(differences(&view("1", "ready"), &view("1", "creating")).starts_with("volume: "));
    }
}
