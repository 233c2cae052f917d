use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use nix::sys::signal::{Signal, raise};
use vol_api::{Client, ClientError, ErrorCode, Health, Status};

use super::*;
use crate::cli::Args;
use crate::server::tests::fake::Fake;

fn config(dir: &Path) -> Config {
    let text = format!("run_dir = {:?}\nmetrics_listen = \"off\"\nruntimes.docker_socket = \"off\"", dir.join("run"));
    Config::parse(&text).unwrap()
}

fn status(socket: &Path) -> Result<Status, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Client::new(socket).status())
}

/// Asks until the answer is as wanted; the daemon runs on a thread of its own.
fn until(socket: &Path, wanted: impl Fn(&Result<Status, ClientError>) -> bool) -> Result<Status, ClientError> {
    for _ in 0..6000 {
        let answer = status(socket);
        if wanted(&answer) {
            return answer;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the daemon never answered as it should");
}

/// One test, because it sends this process a signal that every daemon in it would take for its own.
#[test]
fn the_life_of_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config { metrics_listen: MetricsListen::At(taken.local_addr().unwrap()), ..config(dir.path()) };
    let socket = config.socket.clone();
    std::fs::create_dir(&config.run_dir).unwrap();
    // Left behind by a daemon that was killed.
    drop(UnixListener::bind(&socket).unwrap());

    let (recovered, recovering) = mpsc::channel();
    let daemon = thread::spawn({
        let config = config.clone();
        let args = Args { config: Some(dir.path().join("volumed.toml")), ..Args::default() };
        move || {
            run(Settings::new(args, config), move |_: &Config, _: &Arc<Progress>| {
                recovering.recv()?;
                Ok(Arc::<Fake>::default() as Arc<dyn Backend>)
            })
        }
    });
    let not_ready = |answer: &Result<Status, ClientError>| matches!(answer, Err(ClientError::Api(e)) if e.code == ErrorCode::NotReady);
    until(&socket, not_ready).unwrap_err();

    let second =
        run(config, |_: &Config, _: &Arc<Progress>| panic!("a second daemon got as far as recovery")).unwrap_err();
    assert!(second.to_string().contains("is running: it holds"), "{second}");
    assert!(not_ready(&status(&socket)), "the second daemon disturbed the first");

    recovered.send(()).unwrap();
    let ready = until(&socket, Result::is_ok).unwrap();
    assert_eq!(ready.health, Health::Degraded);
    assert_eq!(ready.problems[0].code, "metrics_unavailable");

    // Read again: what can change does, what cannot is named, and a bad file changes nothing.
    let file = dir.path().join("volumed.toml");
    let reread = |text: &str| {
        std::fs::write(&file, text).unwrap();
        raise(Signal::SIGHUP).unwrap();
    };
    let base = format!(
        "run_dir = {:?}\nmetrics_listen = {:?}\nruntimes.docker_socket = \"off\"\n",
        dir.path().join("run"),
        taken.local_addr().unwrap().to_string()
    );
    let has = |code: &'static str| {
        move |answer: &Result<Status, ClientError>| {
            answer.as_ref().is_ok_and(|status| status.problems.iter().any(|problem| problem.code == code))
        }
    };
    reread(&format!("{base}move_shar = 7"));
    let refused = until(&socket, has("configuration_refused")).unwrap();
    assert!(refused.problems.iter().any(|one| one.message.contains("did you mean \"move_share\"?")), "{refused:?}");
    assert!(refused.restart_needed.is_empty());
    reread(&format!("{base}io = \"plain\"\nlog = \"debug\""));
    let accepted =
        until(&socket, |answer| answer.as_ref().is_ok_and(|status| !status.restart_needed.is_empty())).unwrap();
    assert_eq!(accepted.restart_needed, ["io"]);
    assert!(!has("configuration_refused")(&Ok(accepted)));

    raise(Signal::SIGTERM).unwrap();
    daemon.join().unwrap().unwrap();
    assert!(!socket.exists());
}

#[test]
fn a_recovery_that_fails_ends_the_daemon_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let socket = config.socket.clone();
    let error = run(config, |_: &Config, _: &Arc<Progress>| anyhow::bail!("no device-mapper")).unwrap_err();
    assert_eq!(format!("{error:#}"), "recovery failed: no device-mapper");
    assert!(!socket.exists());
}
