//! What the daemon runs with, and how that changes while it runs: the file is read again when asked to (`SIGHUP`,
//! `systemctl reload`).
//!
//! Invariant: a file that would be refused at a start is refused as a whole; what the daemon runs with is then what it was. Keys
//! that count from the next start on only are remembered, so that `status` can name them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use vol_api::Problem;

use crate::cli::Args;
use crate::config::{Config, ConfigError, DEFAULT_FILE};
use crate::logging::SetFilter;
use crate::reference;

/// The configuration of a running daemon.
pub struct Settings {
    args: Args,
    state: RwLock<State>,
    /// Makes the log follow its key.
    set_log: Option<SetFilter>,
}

#[derive(Clone, Debug)]
struct State {
    /// What counts.
    running: Config,
    /// What the file said when it was last accepted.
    wanted: Config,
    /// Why the file was not accepted, if it was read after that.
    refused: Option<String>,
}

/// What came of reading the file again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// What counts from now on.
    pub config: Config,
    /// Keys that have changed and count already.
    pub changed: Vec<&'static str>,
    /// Keys that differ from what the daemon runs with, until it is started anew.
    pub restart_needed: Vec<&'static str>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("args", &self.args).field("state", &self.state).finish_non_exhaustive()
    }
}

impl From<Config> for Settings {
    /// Of no particular file.
    fn from(config: Config) -> Self {
        Self::new(Args::default(), config)
    }
}

impl Settings {
    /// `config` as it was read with `args`.
    pub fn new(args: Args, config: Config) -> Self {
        let state = State { running: config.clone(), wanted: config, refused: None };
        Self { args, state: RwLock::new(state), set_log: None }
    }

    /// With something that makes the log follow its key.
    #[must_use]
    pub fn with_log(self, set: SetFilter) -> Self {
        Self { set_log: Some(set), ..self }
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What counts now.
    pub fn running(&self) -> Config {
        self.state().running
    }

    /// The file that the configuration comes from, whether or not it exists.
    pub fn file(&self) -> PathBuf {
        self.args.config.clone().unwrap_or_else(|| Path::new(DEFAULT_FILE).to_owned())
    }

    /// Reads the file as a start would, and changes nothing. With it the keys in which it differs from what the daemon runs with.
    ///
    /// # Errors
    /// A start with this file would fail.
    pub fn look(&self) -> Result<Vec<&'static str>, ConfigError> {
        Ok(self.state().running.differing(&Config::load(&self.args)?))
    }

    /// Reads the file again and takes over what can change while the daemon runs.
    ///
    /// # Errors
    /// The file is refused, for the reason that is also given by [`Settings::problem`] from then on; nothing has changed.
    pub fn reload(&self) -> Result<Reloaded, ConfigError> {
        let wanted = match Config::load(&self.args) {
            Ok(wanted) => wanted,
            Err(error) => {
                let why = format!("{:#}", Chain(&error));
                self.state.write().unwrap_or_else(PoisonError::into_inner).refused = Some(why);
                return Err(error);
            }
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let (changed, restart_needed) =
            state.running.differing(&wanted).into_iter().partition(|key| reference::is_live(key));
        state.running.take_live(&wanted);
        state.wanted = wanted;
        state.refused = None;
        let config = state.running.clone();
        drop(state);
        if let Some(set) = &self.set_log {
            set(&config.log);
        }
        Ok(Reloaded { config, changed, restart_needed })
    }

    /// Keys that were changed in the file as it was last accepted, and count from the next start on only.
    pub fn restart_needed(&self) -> Vec<String> {
        let state = self.state();
        state.running.differing(&state.wanted).into_iter().map(str::to_owned).collect()
    }

    /// What there is to say of it in one line, if there is.
    pub fn remark(&self) -> Option<String> {
        if let Some(why) = self.state().refused {
            return Some(format!("the changed configuration is refused: {why}"));
        }
        let keys = self.restart_needed();
        (!keys.is_empty()).then(|| format!("needs a restart for {}", keys.join(", ")))
    }

    /// Why the file was refused when it was last read, if it was.
    pub fn problem(&self) -> Option<Problem> {
        let why = self.state().refused?;
        Some(Problem {
            code: "configuration_refused".to_owned(),
            message: format!("the changed configuration was not taken over: {why}"),
            hint: "correct it (volumed --check-config tells whether it is good), then systemctl reload volumed; until then \
                   the daemon runs with what it had, and would not start again"
                .to_owned(),
        })
    }
}

/// An error with its causes, on one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        f.write_str(&lines.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::{Arc, Mutex};

    use super::*;

    fn with_file(text: &str) -> (tempfile::TempDir, PathBuf, Settings) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("volumed.toml");
        fs::write(&file, text).unwrap();
        let args = Args { config: Some(file.clone()), ..Args::default() };
        let config = Config::load(&args).unwrap();
        (dir, file, Settings::new(args, config))
    }

    #[test]
    fn what_can_change_changes_and_what_cannot_is_named() {
        let (_dir, file, settings) = with_file("move_share = 20\nio = \"plain\"");
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let settings = settings.with_log(Box::new(move |filter: &str| heard.lock().unwrap().push(filter.to_owned())));
        let text =
            "move_share = 70\nlog = \"debug\"\nobserve_group = \"monitoring\"\nio = \"auto\"\nrun_dir = \"/run/else\"";
        fs::write(&file, text).unwrap();
        let look = settings.look().unwrap();
        assert_eq!(settings.running().move_share, 20, "looking changes nothing: {look:?}");
        let reloaded = settings.reload().unwrap();
        assert_eq!(reloaded.changed, ["observe_group", "move_share", "log"]);
        // The socket's usual place is in the run directory.
        assert_eq!(reloaded.restart_needed, ["socket", "run_dir", "io", "runtimes.podman_socket", "csi.socket"]);
        let running = settings.running();
        assert_eq!((running.move_share, running.log.as_str()), (70, "debug"));
        assert_eq!(
            (running.io, running.run_dir.as_path()),
            (crate::config::IoChoice::Plain, Path::new("/run/volumed"))
        );
        assert_eq!(*said.lock().unwrap(), ["debug"]);
        assert_eq!(settings.restart_needed(), ["socket", "run_dir", "io", "runtimes.podman_socket", "csi.socket"]);
        // Asked again without a change: nothing new, and what waits for a start still does.
        let again = settings.reload().unwrap();
        assert_eq!((again.changed.len(), again.restart_needed.len()), (0, 5));
        fs::write(&file, "move_share = 70\nio = \"plain\"").unwrap();
        assert!(settings.reload().unwrap().restart_needed.is_empty(), "taken back");
        assert!(settings.restart_needed().is_empty());
    }

    #[test]
    fn a_file_that_is_refused_changes_nothing_until_it_is_corrected() {
        let (_dir, file, settings) = with_file("move_share = 20");
        for (text, why) in [
            ("move_share = 70\nlog = \"loud\"", "log: \"loud\" is none of"),
            ("move_share = 70\nmove_shre = 1", "did you mean \"move_share\"?"),
            ("move_share = 70\n[move]\nrate = 5", "unknown key \"move\""),
            ("move_share = [70]", "invalid type"),
        ] {
            fs::write(&file, text).unwrap();
            settings.reload().unwrap_err();
            assert_eq!(settings.running().move_share, 20, "{text}");
            let told = settings.problem().unwrap();
            assert!(told.message.contains(why) && !told.message.contains('\n'), "{told:?}");
        }
        fs::remove_file(&file).unwrap();
        settings.reload().unwrap_err();
        assert!(settings.problem().unwrap().message.contains("No such file"), "{:?}", settings.problem());
        fs::write(&file, "move_share = 70").unwrap();
        assert_eq!(settings.reload().unwrap().changed, ["move_share"]);
        assert_eq!(settings.problem(), None);
    }

    #[test]
    fn each_key_counts_after_a_reload_or_is_named_as_waiting_for_a_restart() {
        let (_dir, file, settings) = with_file("");
        let all = "socket = \"/tmp/s\"\nmetrics_listen = \"off\"\nvolume_metrics = \"off\"\nadmin_group = \"a\"\nprovision_group = \"\"\n\
                   observe_group = \"o\"\nstate_dir = \"/tmp/state\"\nrun_dir = \"/tmp/run\"\nio = \"plain\"\n\
                   undelete_window = \"7d\"\nmove_share = 20\nmove_rate = \"100M\"\nactivate_at_boot = [\"data/*\"]\nactivate_wait = \"20s\"\n\
                   log = \"warn\"\nruntimes.docker_socket = \"off\"\nruntimes.podman_socket = \"off\"\nruntimes.pool = \"data/tank\"\n\
                   runtimes.size = \"1G\"\nruntimes.profile = \"db\"\nprofiles.db.fs = \"xfs\"\n\
                   csi.socket = \"off\"\ncsi.driver = \"csi.example.org\"\ncsi.node = \"n1\"\ncsi.kubelet_dir = \"/k\"\ncsi.register = false\n\
                   csi.pool = \"data/tank\"\ncsi.size = \"1G\"\ncsi.max_volumes = 9\ncsi.version = \"1.13\"";
        fs::write(&file, all).unwrap();
        let mut given: Vec<_> = settings.look().unwrap();
        assert_eq!(given, crate::config::KEYS, "a key that this test does not change");
        given.retain(|key| !reference::is_live(key));
        let reloaded = settings.reload().unwrap();
        assert_eq!(reloaded.restart_needed, given);
        assert_eq!(settings.look().unwrap(), given, "what a reload said it took over, it took over");
    }

    #[test]
    fn options_of_the_command_line_still_win() {
        let (_dir, file, settings) = with_file("");
        let args = Args { socket: Some("/tmp/given".into()), ..settings.args.clone() };
        let settings = Settings::new(args.clone(), Config::load(&args).unwrap());
        fs::write(&file, "socket = \"/tmp/other\"").unwrap();
        assert_eq!(settings.reload().unwrap().restart_needed, Vec::<&str>::new());
        assert_eq!(settings.running().socket, Path::new("/tmp/given"));
    }
}
