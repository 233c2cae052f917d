//! Configuration: `/etc/volumed/volumed.toml`, optional, every key optional; options of the command line win.
//!
//! A key that is not known is refused and the nearest known one named: a misspelt access group must not go unseen.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use vol_core::VolumeName;
use vol_engine::moving::Pace;
use vol_types::{Bytes, Name, SnapshotPath, VolumePath, parse_bytes};

use crate::cli::Args;

mod csi;
mod runtimes;

pub use csi::{Csi, KUBELET_DIR, Version as CsiVersion};
pub use runtimes::{DOCKER_SOCKET, Runtimes};

/// The longest time for which deleted volumes are kept.
const WINDOW_MAX_SECONDS: u64 = 365 * 86_400;
/// The least rate at which blocks may be moved, in bytes a second.
const RATE_MIN: Bytes = Bytes::mib(1);
/// Read if it exists and no other is given.
pub const DEFAULT_FILE: &str = "/etc/volumed/volumed.toml";

/// Where `/metrics` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsListen {
    Off,
    At(SocketAddr),
}

impl FromStr for MetricsListen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| format!("{text:?} is neither ADDRESS:PORT nor \"off\""))
    }
}

/// How the daemon does its own I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoChoice {
    /// io_uring where the kernel allows it.
    #[default]
    Auto,
    Uring,
    Plain,
}

/// For how long what was deleted can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndeleteWindow(
    /// `None`: deleted is deleted.
    pub Option<Duration>,
);

impl Default for UndeleteWindow {
    fn default() -> Self {
        Self(Some(Duration::from_secs(24 * 3600)))
    }
}

impl FromStr for UndeleteWindow {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        seconds(text)
            .filter(|seconds| (1..=WINDOW_MAX_SECONDS).contains(seconds))
            .map(|seconds| Self(Some(Duration::from_secs(seconds))))
            .ok_or_else(|| format!("{text:?} is neither a time such as \"24h\" (s, m, h or d, up to 365d) nor \"off\""))
    }
}

/// The longest that is waited at boot for disks.
const ACTIVATE_WAIT_MAX_SECONDS: u64 = 600;

/// What is to be attached at boot: `VG/VOLUME`, `VG/VOLUME@SNAPSHOT`, or `VG/*` for all volumes of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtBoot {
    One(Name, VolumeName),
    All(Name),
}

impl FromStr for AtBoot {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(vg) = text.strip_suffix("/*") {
            return Name::new(vg).map(Self::All).map_err(|error| error.to_string());
        }
        if text.contains('@') {
            let SnapshotPath { volume: VolumePath { vg, volume }, snapshot } =
                text.parse().map_err(|error: vol_types::NameError| error.to_string())?;
            return Ok(Self::One(vg, VolumeName { volume, snapshot: Some(snapshot) }));
        }
        let VolumePath { vg, volume } = text.parse().map_err(|error: vol_types::NameError| error.to_string())?;
        Ok(Self::One(vg, VolumeName { volume, snapshot: None }))
    }
}

/// A time of `NUMBER` and a unit: `s`, `m`, `h` or `d`; in seconds.
fn seconds(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    })
}

/// How long disks are waited for at boot.
pub(crate) fn parse_wait(text: &str) -> Result<Duration, String> {
    match seconds(text) {
        Some(seconds) if seconds <= ACTIVATE_WAIT_MAX_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{text:?} is no time such as \"10s\" (s or m, up to 10m)")),
    }
}

/// How many bytes a second are moved in the background at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveRate(
    /// `None`: as many as [`Config::move_share`] lets through.
    pub Option<Bytes>,
);

impl FromStr for MoveRate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        match parse_bytes(text) {
            Ok(rate) if rate >= RATE_MIN => Ok(Self(Some(rate))),
            Ok(rate) => Err(format!("{rate} a second is too little; the least is {RATE_MIN}, or \"off\"")),
            Err(error) => Err(format!("{error}, for each second, or \"off\"")),
        }
    }
}

/// Which volumes have metrics of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeMetrics {
    Off,
    /// Those that take most: [`crate::metrics::VOLUMES_TOP`].
    #[default]
    Top,
    /// As many as [`crate::metrics::VOLUMES_MAX`].
    All,
}

/// What the daemon runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Control socket; `control.sock` in [`Config::run_dir`] unless given.
    pub socket: PathBuf,
    pub metrics_listen: MetricsListen,
    pub volume_metrics: VolumeMetrics,
    /// Members may do everything. `None`: root alone.
    pub admin_group: Option<String>,
    /// Members may create, unmount and delete volumes and snapshots. `volumed` unless given; empty for none.
    pub provision_group: Option<String>,
    /// Members may look.
    pub observe_group: Option<String>,
    /// What is remembered on this host.
    pub state_dir: PathBuf,
    /// Lock file and sockets.
    pub run_dir: PathBuf,
    pub io: IoChoice,
    pub undelete_window: UndeleteWindow,
    /// Share of the time, in percent, in which disks are kept busy with moving blocks in the background: 1 to 100.
    pub move_share: u32,
    pub move_rate: MoveRate,
    /// Attached at boot, besides what `/etc/fstab` names.
    pub activate_at_boot: Vec<AtBoot>,
    /// How long it is waited at boot for disks of what is to be attached; at most 10 minutes.
    pub activate_wait: Duration,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or filter directives of `tracing-subscriber`.
    pub log: String,
    pub runtimes: Runtimes,
    pub csi: Csi,
}

impl Default for Config {
    fn default() -> Self {
        // A test looks at that an empty file is a good one.
        Self::from_file(File::default()).expect("an empty configuration")
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {what}", .path.display())]
    Malformed { path: PathBuf, what: String },
}

/// The file as it stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    socket: Option<PathBuf>,
    metrics_listen: Option<String>,
    volume_metrics: VolumeMetrics,
    admin_group: Option<String>,
    provision_group: Option<String>,
    observe_group: Option<String>,
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    io: IoChoice,
    undelete_window: Option<String>,
    move_share: Option<u32>,
    move_rate: Option<String>,
    activate_at_boot: Vec<String>,
    activate_wait: Option<String>,
    log: Option<String>,
    runtimes: runtimes::File,
    csi: csi::File,
    profiles: BTreeMap<String, toml::Table>,
}

/// Levels of the log, as a word of its own.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Every key there is; those with a point are of a table.
pub(crate) const KEYS: [&str; 30] = [
    "socket",
    "metrics_listen",
    "volume_metrics",
    "admin_group",
    "provision_group",
    "observe_group",
    "state_dir",
    "run_dir",
    "io",
    "undelete_window",
    "move_share",
    "move_rate",
    "activate_at_boot",
    "activate_wait",
    "log",
    "runtimes.docker_socket",
    "runtimes.podman_socket",
    "runtimes.pool",
    "runtimes.size",
    "runtimes.profile",
    "profiles",
    "csi.socket",
    "csi.driver",
    "csi.node",
    "csi.kubelet_dir",
    "csi.register",
    "csi.pool",
    "csi.size",
    "csi.max_volumes",
    "csi.version",
];

impl Config {
    /// Reads the file that `args` name, or the usual one if it exists, and applies `args`.
    ///
    /// # Errors
    /// A file that cannot be read or is malformed; a given file that does not exist.
    pub fn load(args: &Args) -> Result<Self, ConfigError> {
        let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && args.config.is_none() => String::new(),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let malformed = |what| ConfigError::Malformed { path: path.to_owned(), what };
        let mut config = Self::parse(&text).map_err(malformed)?;
        config.apply(args);
        config.check().map_err(malformed)?;
        Ok(config)
    }

    /// Reads the text of a configuration file; errors are for its author.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let mut known: Vec<&str> =
            KEYS.iter().map(|key| key.split_once('.').map_or(*key, |(table, _)| table)).collect();
        known.dedup();
        for key in table.keys() {
            if !known.contains(&key.as_str()) {
                let near = vol_types::near::nearest(key, known.iter().copied())
                    .map_or(String::new(), |near| format!("; did you mean {near:?}?"));
                return Err(format!("unknown key {key:?}{near} (known: {})", known.join(", ")));
            }
        }
        runtimes::known(&table)?;
        csi::known(&table)?;
        let file: File = table.try_into().map_err(|error: toml::de::Error| error.to_string())?;
        if let Some(listen) = &file.metrics_listen {
            listen.parse::<MetricsListen>().map_err(|error| format!("metrics_listen: {error}"))?;
        }
        if let Some(window) = &file.undelete_window {
            window.parse::<UndeleteWindow>().map_err(|error| format!("undelete_window: {error}"))?;
        }
        if let Some(rate) = &file.move_rate {
            rate.parse::<MoveRate>().map_err(|error| format!("move_rate: {error}"))?;
        }
        for one in &file.activate_at_boot {
            one.parse::<AtBoot>().map_err(|error| format!("activate_at_boot: {one:?}: {error}"))?;
        }
        if let Some(wait) = &file.activate_wait {
            parse_wait(wait).map_err(|error| format!("activate_wait: {error}"))?;
        }
        let config = Self::from_file(file)?;
        config.check()?;
        Ok(config)
    }

    fn from_file(file: File) -> Result<Self, String> {
        let run_dir = file.run_dir.unwrap_or_else(|| PathBuf::from("/run/volumed"));
        let runtimes = runtimes::read(&file.runtimes, &file.profiles, &run_dir)?;
        let csi = csi::read(&file.csi, &run_dir)?;
        let group = |name: Option<String>| name.filter(|name| !name.is_empty());
        let usual = MetricsListen::At(SocketAddr::from(([127, 0, 0, 1], 9709)));
        Ok(Self {
            socket: file.socket.unwrap_or_else(|| run_dir.join("control.sock")),
            metrics_listen: file.metrics_listen.and_then(|listen| listen.parse().ok()).unwrap_or(usual),
            volume_metrics: file.volume_metrics,
            admin_group: group(file.admin_group),
            provision_group: group(Some(file.provision_group.unwrap_or_else(|| "volumed".to_owned()))),
            observe_group: group(file.observe_group),
            state_dir: file.state_dir.unwrap_or_else(|| PathBuf::from("/var/lib/volumed")),
            run_dir,
            io: file.io,
            undelete_window: file.undelete_window.and_then(|window| window.parse().ok()).unwrap_or_default(),
            move_share: file.move_share.unwrap_or(Pace::default().share),
            move_rate: file.move_rate.and_then(|rate| rate.parse().ok()).unwrap_or_default(),
            activate_at_boot: file.activate_at_boot.iter().filter_map(|one| one.parse().ok()).collect(),
            activate_wait: file
                .activate_wait
                .and_then(|wait| parse_wait(&wait).ok())
                .unwrap_or(Duration::from_secs(10)),
            log: file.log.unwrap_or_else(|| "info".to_owned()),
            runtimes,
            csi,
        })
    }

    /// The keys in which `other` differs, as they are ordered in `KEYS`.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        // Taken apart, so that a new key cannot be forgotten here.
        let Self {
            socket,
            metrics_listen,
            volume_metrics,
            admin_group,
            provision_group,
            observe_group,
            state_dir,
            run_dir,
            io,
            undelete_window,
            move_share,
            move_rate,
            activate_at_boot,
            activate_wait,
            log,
            runtimes,
            csi,
        } = self;
        let differs = [
            ("socket", *socket != other.socket),
            ("metrics_listen", *metrics_listen != other.metrics_listen),
            ("volume_metrics", *volume_metrics != other.volume_metrics),
            ("admin_group", *admin_group != other.admin_group),
            ("provision_group", *provision_group != other.provision_group),
            ("observe_group", *observe_group != other.observe_group),
            ("state_dir", *state_dir != other.state_dir),
            ("run_dir", *run_dir != other.run_dir),
            ("io", *io != other.io),
            ("undelete_window", *undelete_window != other.undelete_window),
            ("move_share", *move_share != other.move_share),
            ("move_rate", *move_rate != other.move_rate),
            ("activate_at_boot", *activate_at_boot != other.activate_at_boot),
            ("activate_wait", *activate_wait != other.activate_wait),
            ("log", *log != other.log),
        ];
        let of_runtimes = runtimes.differing(&other.runtimes);
        let of_csi = csi.differing(&other.csi);
        differs
            .into_iter()
            .chain(of_runtimes)
            .chain(of_csi)
            .filter(|(_, differs)| *differs)
            .map(|(key, _)| key)
            .collect()
    }

    /// Takes over from `other` what can change while the daemon runs (`reference::Key::live`).
    pub fn take_live(&mut self, other: &Self) {
        let keep = self.clone();
        *self = Self {
            socket: keep.socket,
            metrics_listen: keep.metrics_listen,
            volume_metrics: keep.volume_metrics,
            state_dir: keep.state_dir,
            run_dir: keep.run_dir,
            io: keep.io,
            activate_at_boot: keep.activate_at_boot,
            activate_wait: keep.activate_wait,
            runtimes: keep.runtimes.take_live(other.runtimes.clone()),
            csi: keep.csi.take_live(other.csi.clone()),
            ..other.clone()
        };
    }

    fn apply(&mut self, args: &Args) {
        if let Some(socket) = &args.socket {
            self.socket.clone_from(socket);
        }
        if let Some(listen) = args.metrics_listen {
            self.metrics_listen = listen;
        }
        if let Some(state_dir) = &args.state_dir {
            self.state_dir.clone_from(state_dir);
        }
    }

    fn check(&self) -> Result<(), String> {
        for (key, path) in [("socket", &self.socket), ("state_dir", &self.state_dir), ("run_dir", &self.run_dir)] {
            if !path.is_absolute() {
                return Err(format!("{key}: {:?} is not an absolute path", path.display().to_string()));
            }
        }
        if !(1..=100).contains(&self.move_share) {
            return Err(format!("move_share: {} is no percentage between 1 and 100", self.move_share));
        }
        // A bare word that is no level would be taken for the name of a module, and nothing at all be logged.
        let bare = !self.log.contains(['=', ',', '[']);
        if bare && !LEVELS.contains(&self.log.to_ascii_lowercase().as_str()) {
            return Err(format!("log: {:?} is none of {}", self.log, LEVELS.join(", ")));
        }
        tracing_subscriber::EnvFilter::try_new(&self.log).map_err(|error| format!("log: {:?}: {error}", self.log))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.socket, Path::new(vol_api::DEFAULT_SOCKET));
        assert_eq!(config.metrics_listen, "127.0.0.1:9709".parse().unwrap());
        assert_eq!(config.provision_group.as_deref(), Some("volumed"));
        assert_eq!((config.admin_group, config.observe_group), (None, None));
    }

    #[test]
    fn every_key_is_read() {
        let name = |text: &str| Name::new(text).unwrap();
        let config = Config::parse(
            r#"
            socket = "/tmp/s"
            metrics_listen = "off"
            volume_metrics = "all"
            admin_group = "wheel"
            provision_group = ""
            observe_group = "monitoring"
            state_dir = "/tmp/state"
            run_dir = "/tmp/run"
            io = "plain"
            undelete_window = "7d"
            move_share = 20
            move_rate = "100M"
            activate_at_boot = ["data/pg", "data/pg@before", "vms/*"]
            activate_wait = "1m"
            log = "warn,volumed=debug"
            runtimes.podman_socket = "off"
            runtimes.size = "20G"
            profiles.db.fs = "xfs"
            csi.node = "n1"
            "#,
        )
        .unwrap();
        let expected = Config {
            socket: "/tmp/s".into(),
            metrics_listen: MetricsListen::Off,
            volume_metrics: VolumeMetrics::All,
            admin_group: Some("wheel".into()),
            provision_group: None,
            observe_group: Some("monitoring".into()),
            state_dir: "/tmp/state".into(),
            run_dir: "/tmp/run".into(),
            io: IoChoice::Plain,
            undelete_window: UndeleteWindow(Some(Duration::from_secs(7 * 24 * 3600))),
            move_share: 20,
            move_rate: MoveRate(Some(Bytes::mib(100))),
            activate_at_boot: vec![
                AtBoot::One(name("data"), VolumeName { volume: name("pg"), snapshot: None }),
                AtBoot::One(name("data"), VolumeName { volume: name("pg"), snapshot: Some(name("before")) }),
                AtBoot::All(name("vms")),
            ],
            activate_wait: Duration::from_secs(60),
            log: "warn,volumed=debug".into(),
            runtimes: Runtimes {
                docker_socket: Some(DOCKER_SOCKET.into()),
                podman_socket: None,
                settings: vol_docker::Settings {
                    size: Some(Bytes::gib(20)),
                    profiles: [("db".to_owned(), [("fs".to_owned(), "xfs".to_owned())].into())].into(),
                    ..vol_docker::Settings::default()
                },
            },
            csi: Csi { socket: Some("/tmp/run/csi.sock".into()), node: Some("n1".into()), ..Config::default().csi },
        };
        assert_eq!(config, expected);
        assert_eq!(Config::parse("run_dir = \"/tmp/run\"").unwrap().socket, Path::new("/tmp/run/control.sock"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| Config::parse(text).unwrap_err();
        assert!(
            error("metrics_listn = \"off\"")
                .starts_with("unknown key \"metrics_listn\"; did you mean \"metrics_listen\"?")
        );
        assert!(error("provision-group = \"x\"").contains("did you mean \"provision_group\"?"));
        assert!(error("frobnicate = 1").starts_with("unknown key \"frobnicate\" (known: socket"));
        assert!(error("metrics_listen = \"9709\"").contains("neither ADDRESS:PORT nor \"off\""));
        assert!(error("socket = \"control.sock\"").contains("not an absolute path"));
        assert!(error("io = \"fast\"").contains("unknown variant `fast`"));
        assert!(error("volume_metrics = \"some\"").contains("expected one of `off`, `top`, `all`"));
        for wrong in ["", "24", "h", "0s", "-1h", "1w", "366d", "1.5h", "24ü", "OFF"] {
            let text = error(&format!("undelete_window = {wrong:?}"));
            assert!(text.contains("a time such as"), "{wrong}: {text}");
        }
        assert_eq!(Config::parse("undelete_window = \"off\"").unwrap().undelete_window, UndeleteWindow(None));
        for wrong in ["0", "101", "-1", "\"50\""] {
            assert!(error(&format!("move_share = {wrong}")).contains("move_share"), "{wrong}");
        }
        for wrong in ["", "fast", "100M/s", "0", "1023K", "OFF"] {
            let text = error(&format!("move_rate = {wrong:?}"));
            assert!(text.starts_with("move_rate: ") && text.ends_with("\"off\""), "{wrong}: {text}");
        }
        assert_eq!(Config::parse("move_rate = \"off\"").unwrap().move_rate, MoveRate(None));
        for wrong in ["pg", "/dev/volumed/data/pg", "*", "data/*/x", "data/pg@", "../*", ""] {
            let text = error(&format!("activate_at_boot = [{wrong:?}]"));
            assert!(text.starts_with(&format!("activate_at_boot: {wrong:?}: ")), "{wrong}: {text}");
        }
        for wrong in ["10", "", "off", "11m", "1h", "-1s"] {
            assert!(error(&format!("activate_wait = {wrong:?}")).contains("no time such as \"10s\""), "{wrong}");
        }
        assert_eq!(Config::parse("activate_wait = \"0s\"").unwrap().activate_wait, Duration::ZERO);
        assert!(error("log = \"volumed=loud\"").starts_with("log:"));
        assert!(error("log = \"loud\"").contains("none of off, error, warn"));
        assert!(error("socket = 5").contains("invalid type"));
        for nested in ["[move]\nshare = 5", "move.share = 5", "[[move]]\nshare = 5", "[metrics_listn]\nat = 1"] {
            assert!(error(nested).starts_with("unknown key \"m"), "{nested}: {}", error(nested));
        }
        for wrong in
            ["log = [\"info\"]", "[log]\nlevel = \"info\"", "move_share = 5.5", "io = true", "undelete_window = 24"]
        {
            let text = error(wrong);
            assert!(text.contains(wrong.trim_start_matches('[').split([' ', ']']).next().unwrap()), "{wrong}: {text}");
            assert!(text.contains("invalid type"), "{wrong}: {text}");
        }
        assert!(error("socket").contains("TOML parse error"));
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist_and_options_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volumed.toml");
        let mut args = Args { config: Some(path.clone()), socket: Some("/tmp/other".into()), ..Args::default() };
        assert!(matches!(Config::load(&args), Err(ConfigError::Read { .. })));
        fs::write(&path, "socket = \"/tmp/s\"\nlog = \"debug\"").unwrap();
        let config = Config::load(&args).unwrap();
        assert_eq!((config.socket.as_path(), config.log.as_str()), (Path::new("/tmp/other"), "debug"));
        args.socket = Some("relative".into());
        assert!(matches!(Config::load(&args), Err(ConfigError::Malformed { .. })));
    }
}
