//! The tables `[runtimes]` and `[profiles.NAME]`: what container engines are served with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};
use vol_csi::profile;
use vol_docker::{Options, PoolChoice, Settings};
use vol_types::{near, parse_bytes};

/// Where Docker looks for a volume driver of the name `volumed`.
pub const DOCKER_SOCKET: &str = "/run/docker/plugins/volumed.sock";
/// The keys of `[runtimes]`.
pub(super) const KEYS: [&str; 5] = ["docker_socket", "podman_socket", "pool", "size", "profile"];

/// What container engines are served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtimes {
    /// `None`: Docker is not served.
    pub docker_socket: Option<PathBuf>,
    /// `None`: Podman is not served.
    pub podman_socket: Option<PathBuf>,
    /// Of new volumes.
    pub settings: Settings,
    /// All that profiles say: what container engines have no word for is for orchestrators.
    pub profiles: BTreeMap<String, BTreeMap<String, String>>,
}

/// `[runtimes]` as it stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    docker_socket: Option<String>,
    podman_socket: Option<String>,
    pool: Option<String>,
    size: Option<String>,
    profile: Option<String>,
}

/// Refuses keys of `[runtimes]` that are not known; serde's own text names no near one.
pub(super) fn known(table: &Table) -> Result<(), String> {
    let Some(runtimes) = table.get("runtimes") else { return Ok(()) };
    let runtimes = runtimes.as_table().ok_or("runtimes: a table belongs here: [runtimes]")?;
    match runtimes.keys().find(|key| !KEYS.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let near = near::nearest(key, KEYS.iter().copied());
            let near = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
            Err(format!("runtimes: unknown key {key:?}{near} (known: {})", KEYS.join(", ")))
        }
    }
}

/// Reads both tables. `run_dir` is where Podman's socket is unless it is said.
pub(super) fn read(file: &File, profiles: &BTreeMap<String, Table>, run_dir: &Path) -> Result<Runtimes, String> {
    let socket = |key: &str, given: &Option<String>, usual: PathBuf| match given.as_deref() {
        None => Ok(Some(usual)),
        Some("off") => Ok(None),
        Some(path) if Path::new(path).is_absolute() => Ok(Some(PathBuf::from(path))),
        Some(other) => Err(format!("runtimes.{key}: {other:?} is neither an absolute path nor \"off\"")),
    };
    let pool = file.pool.as_deref().map(PoolChoice::parse).transpose();
    let size = file.size.as_deref().map(parse_bytes).transpose();
    let (mut named, mut whole) = (BTreeMap::new(), BTreeMap::new());
    for (name, profile) in profiles {
        let texts = texts(profile).map_err(|error| format!("profiles.{name}: {error}"))?;
        let mut own = texts.clone();
        own.retain(|key, _| !profile::OF_CLASSES.contains(&key.as_str()));
        let checked = Options::check_profile(&own);
        checked.and_then(|()| profile::check(&texts).map_err(|refused| refused.error)).map_err(|error| {
            let hint = error.hint.map_or(String::new(), |hint| format!(" ({hint})"));
            format!("profiles.{name}: {}{hint}", error.message)
        })?;
        named.insert(name.clone(), own);
        whole.insert(name.clone(), texts);
    }
    if let Some(profile) = file.profile.as_ref().filter(|name| !named.contains_key(*name)) {
        let near = near::nearest(profile, named.keys().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        return Err(format!("runtimes.profile: there is no [profiles.{profile}]{near}"));
    }
    Ok(Runtimes {
        docker_socket: socket("docker_socket", &file.docker_socket, PathBuf::from(DOCKER_SOCKET))?,
        podman_socket: socket("podman_socket", &file.podman_socket, run_dir.join("podman.sock"))?,
        settings: Settings {
            pool: pool.map_err(|error| format!("runtimes.pool: {error}; write VG/POOL, POOL or VG"))?,
            size: size.map_err(|error| format!("runtimes.size: {error}"))?,
            profile: file.profile.clone(),
            profiles: named,
        },
        profiles: whole,
    })
}

/// The options of a profile as an engine would give them.
fn texts(profile: &Table) -> Result<BTreeMap<String, String>, String> {
    let text = |(key, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(yes) => if *yes { "yes" } else { "no" }.to_owned(),
            _ => return Err(format!("{key}: a text, a number, or true or false belongs here")),
        };
        Ok((key.clone(), text))
    };
    profile.iter().map(text).collect()
}

impl Runtimes {
    /// The keys in which `other` differs, as they are ordered in the list of keys.
    pub(super) fn differing(&self, other: &Self) -> [(&'static str, bool); 6] {
        let Self { docker_socket, podman_socket, settings, profiles } = self;
        let Settings { pool, size, profile, profiles: _ } = settings;
        [
            ("runtimes.docker_socket", *docker_socket != other.docker_socket),
            ("runtimes.podman_socket", *podman_socket != other.podman_socket),
            ("runtimes.pool", *pool != other.settings.pool),
            ("runtimes.size", *size != other.settings.size),
            ("runtimes.profile", *profile != other.settings.profile),
            ("profiles", *profiles != other.profiles),
        ]
    }

    /// What `other` has of what can change while the daemon runs.
    pub(super) fn take_live(self, other: Self) -> Self {
        Self { settings: other.settings, profiles: other.profiles, ..self }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_tables_are_read_and_what_is_wrong_in_them_is_named() {
        let config = Config::parse(
            "[runtimes]\ndocker_socket = \"off\"\npool = \"data/fast\"\nsize = \"20G\"\nprofile = \"db\"\n\
             [profiles.db]\nfs = \"xfs\"\nuid = 999\nprotect = true\n[profiles.small]\nsize = \"1G\"",
        )
        .unwrap();
        assert_eq!(config.runtimes.docker_socket, None);
        assert_eq!(config.runtimes.podman_socket, Config::default().runtimes.podman_socket);
        let settings = config.runtimes.settings;
        let options = vol_docker::Options::read(&Default::default(), &settings).unwrap();
        assert_eq!((options.uid, options.protect, options.size), (Some(999), true, vol_types::Bytes::gib(20)));
        // What is for orchestrators alone is not told to container engines.
        let config = Config::parse("[profiles.log]\nsize = \"5G\"\nthin = false\nstripes = 2").unwrap();
        assert_eq!(config.runtimes.profiles["log"]["stripes"], "2");
        assert!(!config.runtimes.settings.profiles["log"].contains_key("stripes"));
        for (text, why) in [
            ("[profiles.log]\nstripes = 99\nthin = false", "profiles.log: parameter stripes"),
            ("[runtimes]\ndocker_sock = \"off\"", "did you mean \"docker_socket\"?"),
            ("[runtime]\npool = \"x\"", "did you mean \"runtimes\"?"),
            ("runtimes = 5", "a table belongs here"),
            ("[runtimes]\npodman_socket = \"podman.sock\"", "runtimes.podman_socket: \"podman.sock\" is neither"),
            ("[runtimes]\npool = \"a/b/c\"", "runtimes.pool"),
            ("[runtimes]\nsize = \"ten\"", "runtimes.size"),
            ("[runtimes]\nprofile = \"db\"", "there is no [profiles.db]"),
            ("[runtimes]\nprofile = \"dba\"\n[profiles.db]\nsize = \"1G\"", "did you mean \"db\"?"),
            ("[profiles.db]\nsise = \"1G\"", "profiles.db: option \"sise\" is not known; did you mean size?"),
            ("[profiles.db]\nfs = \"zfs\"", "profiles.db: option fs=\"zfs\""),
            ("[profiles.db]\nfrom = \"data/pg\"", "profiles.db: from"),
            ("[profiles.db]\nuid = [1]", "profiles.db: uid: a text"),
            ("[profiles]\ndb = 5", "profiles"),
        ] {
            let told = Config::parse(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
