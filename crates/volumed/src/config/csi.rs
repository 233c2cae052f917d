//! The table `[csi]`: what an orchestrator is served with.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;
use vol_csi::node::{NODE_MAX, is_node_name};
use vol_docker::PoolChoice;
use vol_types::{Bytes, near, parse_bytes};

/// The keys of `[csi]`.
pub(super) const KEYS: [&str; 9] =
    ["socket", "driver", "node", "kubelet_dir", "register", "pool", "size", "max_volumes", "version"];
/// What the driver is called unless it is said.
pub const DRIVER: &str = "csi.volumed.io";
/// Where the kubelet keeps what is of pods.
pub const KUBELET_DIR: &str = "/var/lib/kubelet";
/// Longest name of a driver in bytes (the interface's bound).
const DRIVER_MAX: usize = 63;

/// The version of the interface that is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    V1_12,
    /// With what of it is alpha.
    V1_13,
}

/// What an orchestrator is served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csi {
    /// `None`: none is served.
    pub socket: Option<PathBuf>,
    pub driver: String,
    /// `None`: the machine's own name.
    pub node: Option<String>,
    /// Below it volumes are mounted for pods; without a `/` at its end.
    pub kubelet_dir: String,
    /// Whether the kubelet is told of the driver.
    pub register: bool,
    /// Of new volumes.
    pub pool: Option<PoolChoice>,
    /// Of new volumes.
    pub size: Option<Bytes>,
    /// How many the orchestrator may have in use on this machine; zero: as many as it likes.
    pub max_volumes: u32,
    pub version: Version,
}

/// `[csi]` as it stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    socket: Option<String>,
    driver: Option<String>,
    node: Option<String>,
    kubelet_dir: Option<String>,
    register: Option<bool>,
    pool: Option<String>,
    size: Option<String>,
    max_volumes: Option<u32>,
    version: Option<String>,
}

/// Refuses keys of `[csi]` that are not known; serde's own text names no near one.
pub(super) fn known(table: &Table) -> Result<(), String> {
    let Some(csi) = table.get("csi") else { return Ok(()) };
    let csi = csi.as_table().ok_or("csi: a table belongs here: [csi]")?;
    match csi.keys().find(|key| !KEYS.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let near = near::nearest(key, KEYS.iter().copied());
            let near = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
            Err(format!("csi: unknown key {key:?}{near} (known: {})", KEYS.join(", ")))
        }
    }
}

/// Reads the table. `run_dir` is where the socket is unless it is said.
pub(super) fn read(file: &File, run_dir: &Path) -> Result<Csi, String> {
    let socket = match file.socket.as_deref() {
        None => Some(run_dir.join("csi.sock")),
        Some("off") => None,
        Some(path) if Path::new(path).is_absolute() && path.ends_with(".sock") => Some(PathBuf::from(path)),
        Some(other) => {
            return Err(format!("csi.socket: {other:?} is neither an absolute path that ends with .sock nor \"off\""));
        }
    };
    let driver = file.driver.as_deref().unwrap_or(DRIVER);
    let node = file.node.as_deref().filter(|node| !node.is_empty());
    if let Some(node) = node.filter(|node| !is_node_name(node)) {
        return Err(format!(
            "csi.node: {node:?} is no name of a node: at most {NODE_MAX} letters, digits, '-', '_' and '.', the first and the last one a letter or a digit"
        ));
    }
    let size = file.size.as_deref().map(parse_bytes).transpose();
    let pool = file.pool.as_deref().map(PoolChoice::parse).transpose();
    Ok(Csi {
        socket,
        driver: good_driver(driver)?.to_owned(),
        node: node.map(str::to_owned),
        kubelet_dir: directory(file.kubelet_dir.as_deref().unwrap_or(KUBELET_DIR))?,
        register: file.register.unwrap_or(true),
        pool: pool.map_err(|error| format!("csi.pool: {error}; write VG/POOL, POOL or VG"))?,
        size: size.map_err(|error| format!("csi.size: {error}"))?,
        max_volumes: file.max_volumes.unwrap_or_default(),
        version: match file.version.as_deref() {
            None | Some("1.12") => Version::V1_12,
            Some("1.13") => Version::V1_13,
            Some(other) => return Err(format!("csi.version: {other:?} is neither \"1.12\" nor \"1.13\"")),
        },
    })
}

/// A domain name in small letters that begins and ends with a letter.
fn good_driver(name: &str) -> Result<&str, String> {
    let label = |label: &str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && label.chars().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase());
    if name.len() <= DRIVER_MAX
        && letter(name.chars().next())
        && letter(name.chars().last())
        && name.split('.').all(label)
    {
        return Ok(name);
    }
    Err(format!(
        "csi.driver: {name:?} is no domain name in small letters of at most {DRIVER_MAX} bytes that begins and ends with a letter, such as {DRIVER}"
    ))
}

fn directory(text: &str) -> Result<String, String> {
    let plain = text.trim_end_matches('/');
    let parts = plain.strip_prefix('/').map(|parts| parts.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if parts == Some(true) {
        return Ok(plain.to_owned());
    }
    Err(format!("csi.kubelet_dir: {text:?} is no absolute path of a directory without '.' and '..'"))
}

impl Csi {
    /// The keys in which `other` differs, as they are ordered in the list of keys.
    pub(super) fn differing(&self, other: &Self) -> [(&'static str, bool); 9] {
        [
            ("csi.socket", self.socket != other.socket),
            ("csi.driver", self.driver != other.driver),
            ("csi.node", self.node != other.node),
            ("csi.kubelet_dir", self.kubelet_dir != other.kubelet_dir),
            ("csi.register", self.register != other.register),
            ("csi.pool", self.pool != other.pool),
            ("csi.size", self.size != other.size),
            ("csi.max_volumes", self.max_volumes != other.max_volumes),
            ("csi.version", self.version != other.version),
        ]
    }

    /// What `other` has of what can change while the daemon runs.
    pub(super) fn take_live(self, other: Self) -> Self {
        Self { pool: other.pool, size: other.size, max_volumes: other.max_volumes, ..self }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_table_is_read_and_what_is_wrong_in_it_is_named() {
        let text = "[csi]\nsocket = \"/run/x.sock\"\ndriver = \"csi.example.org\"\nnode = \"n1\"\n\
                    kubelet_dir = \"/var/snap/kubelet/\"\npool = \"data/tank\"\nsize = \"5G\"";
        let csi = Config::parse(text).unwrap().csi;
        assert_eq!((csi.driver.as_str(), csi.kubelet_dir.as_str()), ("csi.example.org", "/var/snap/kubelet"));
        assert_eq!(Config::parse("[csi]\nsocket = \"off\"").unwrap().csi.socket, None);
        let usual = Config::default().csi;
        assert_eq!(usual.socket.as_deref(), Some(std::path::Path::new("/run/volumed/csi.sock")));
        for (text, why) in [
            ("[csi]\nsokcet = \"off\"", "did you mean \"socket\"?"),
            ("[csi]\nsocket = \"/run/x\"", "csi.socket"),
            ("[csi]\nsocket = \"x.sock\"", "csi.socket"),
            ("csi = 5", "a table belongs here"),
            ("[csi]\ndriver = \"csi.volumed.1\"", "csi.driver"),
            ("[csi]\ndriver = \"-x\"", "csi.driver"),
            ("[csi]\ndriver = \"a..b\"", "csi.driver"),
            ("[csi]\ndriver = \"CSI.volumed.io\"", "small letters"),
            ("[csi]\nkubelet_dir = \"/\"", "csi.kubelet_dir"),
            ("[csi]\nkubelet_dir = \"/a/../b\"", "csi.kubelet_dir"),
            ("[csi]\nkubelet_dir = \"a\"", "csi.kubelet_dir"),
            ("[csi]\npool = \"a/b/c\"", "csi.pool"),
            ("[csi]\nsize = \"ten\"", "csi.size"),
            ("[csi]\nmax_volumes = -1", "max_volumes"),
            ("[csi]\nversion = \"2\"", "csi.version"),
        ] {
            let told = Config::parse(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
        for name in ["n".repeat(64), "-n".into(), "n.".into(), "a b".into(), "größe".into()] {
            let told = Config::parse(&format!("[csi]\nnode = \"{name}\"")).unwrap_err();
            assert!(told.contains("csi.node"), "{told}");
        }
        for name in ["n".repeat(63), "N_1.example-a".into()] {
            assert_eq!(Config::parse(&format!("[csi]\nnode = \"{name}\"")).unwrap().csi.node, Some(name));
        }
    }
}
