//! The watchdog of the service manager, and what `systemctl status` shows of a daemon that serves.
//!
//! `WATCHDOG=1` is sent by a thread that, each time before, has had an answer from everything that an answer to a client needs: the
//! locks of the engine's state, which no change holds for longer than it takes to apply a commit in memory; the threads that work in
//! the background; and the server's own loop. What takes long and is healthy holds none of these: a change, a recovery of one group, a
//! wipe, a disk that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::api::{Backend, Summary};
use crate::notify;

/// How often it is looked without a watchdog, for the status line alone.
const WITHOUT: Duration = Duration::from_secs(10);
/// In each period of the watchdog it is fed so often.
const TIMES: u32 = 3;

/// Starts the thread, if a service manager listens. It ends, at its next turn, when this is dropped.
///
/// `says` is what is shown of a summary.
pub fn start(
    runtime: Handle,
    backend: Arc<dyn Backend>,
    server: AbortHandle,
    says: impl Fn(&Summary) -> String + Send + 'static,
) -> Option<Watch> {
    if !notify::somebody_listens() {
        return None;
    }
    let every = notify::watchdog().map_or(WITHOUT, |period| period / TIMES);
    let on = Arc::new(AtomicBool::new(true));
    let still = on.clone();
    let loops = move || {
        let mut shown = None;
        while still.load(Ordering::Acquire) {
            match answers(&runtime, &*backend, &server, every) {
                Ok(summary) if still.load(Ordering::Acquire) => {
                    notify::alive();
                    let line = says(&summary);
                    if shown.as_ref() != Some(&line) {
                        notify::status(&line);
                        shown = Some(line);
                    }
                }
                Ok(_) => {}
                Err(what) => tracing::error!("{what}; the watchdog is not fed"),
            }
            thread::sleep(every);
        }
    };
    match thread::Builder::new().name("watch".to_owned()).spawn(loops) {
        Ok(_) => Some(Watch(on)),
        Err(error) => {
            tracing::error!(%error, "the thread that feeds the watchdog could not be started");
            None
        }
    }
}

/// Keeps the thread going.
pub struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Waits for all of them; what does not answer within `limit` is named. A lock that is never given back is waited for without end,
/// which is as good.
fn answers(runtime: &Handle, backend: &dyn Backend, server: &AbortHandle, limit: Duration) -> Result<Summary, String> {
    let summary = backend.alive()?;
    if server.is_finished() {
        return Err("the server has ended".to_owned());
    }
    let (turned, turns) = mpsc::channel();
    runtime.spawn(async move { turned.send(()) });
    turns.recv_timeout(limit).map_err(|_| "the server's loop does not turn".to_owned())?;
    Ok(summary)
}

/// `Serving 1 volume group with 12 volumes and 3 snapshots`, and how many problems there are.
pub fn line(summary: &Summary) -> String {
    let count = |number: u64, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut line = format!(
        "Serving {} with {} and {}",
        count(summary.vgs, "volume group"),
        count(summary.volumes, "volume"),
        count(summary.snapshots, "snapshot")
    );
    if summary.problems > 0 {
        line.push_str(&format!("; {}, see `volctl status`", count(summary.problems, "problem")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::fake::Fake;

    #[test]
    fn what_is_served_is_said_in_one_line() {
        let mut summary = Summary { vgs: 1, volumes: 12, snapshots: 0, problems: 0 };
        assert_eq!(line(&summary), "Serving 1 volume group with 12 volumes and 0 snapshots");
        summary.problems = 2;
        assert!(line(&summary).ends_with("; 2 problems, see `volctl status`"));
    }

    #[test]
    fn a_server_that_ended_or_does_not_turn_is_not_alive() {
        let limit = Duration::from_millis(200);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (fake, handle) = (Fake::default(), runtime.handle().clone());
        let ended = runtime.spawn(async {});
        let server = runtime.spawn(std::future::pending::<()>());
        answers(&handle, &fake, &server.abort_handle(), Duration::from_secs(10)).unwrap();
        runtime.block_on(async {
            while !ended.is_finished() {
                tokio::task::yield_now().await
            }
        });
        assert!(answers(&handle, &fake, &ended.abort_handle(), limit).unwrap_err().contains("ended"));
        let (stuck, release) = mpsc::channel::<()>();
        runtime.spawn(async move { _ = release.recv() });
        let error = answers(&handle, &fake, &server.abort_handle(), limit).unwrap_err();
        assert!(error.contains("does not turn"), "{error}");
        drop(stuck);
        server.abort();
    }
}
