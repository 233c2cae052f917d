//! The thread that hears of disks which come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vol_engine::host::{DiskEvents, HostMut};

use super::EngineBackend;

/// How often what there is is compared with what there was, in case that something was said and not heard: one listing of a folder.
const COMPARE_EVERY: Duration = Duration::from_secs(30);
/// At most so often, whatever is in the way.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A disk that hangs while it is looked at does not keep the daemon from ending.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// The thread, and how it is ended.
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    events: Arc<dyn DiskEvents>,
    thread: JoinHandle<()>,
}

impl Watcher {
    /// Whether its thread is no more, which it never should be before [`Watcher::stop`].
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.events.wake();
        let begun = Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > STOP_LIMIT {
                tracing::warn!("a disk that is being looked at does not answer; it is not waited for");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.thread.join().is_err() {
            tracing::error!("the thread that watches the disks had failed");
        }
    }
}

impl<H: HostMut + 'static> EngineBackend<H> {
    /// Starts the thread that takes up disks which come, and tells of those that go.
    pub fn start_watching_disks(&self, events: Arc<dyn DiskEvents>) -> std::io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let (engine, told, from) = (self.engine.clone(), stop.clone(), events.clone());
        let mut attach = self.attaching_late();
        let thread = std::thread::Builder::new().name("disks".to_owned()).spawn(move || {
            let mut pause = COMPARE_EVERY;
            while !told.load(Ordering::Acquire) {
                let news = from.wait(pause);
                if told.load(Ordering::Acquire) {
                    return;
                }
                pause = engine.follow(&news).map_or(COMPARE_EVERY, |again| again.clamp(AGAIN_AFTER, COMPARE_EVERY));
                attach();
            }
        })?;
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(Watcher { stop, events, thread });
        Ok(())
    }
}

/// What is waited for where nothing can be heard: looking more often must do.
#[derive(Default)]
pub(super) struct Deaf {
    woken: std::sync::Mutex<bool>,
    changed: std::sync::Condvar,
}

impl Deaf {
    const EVERY: Duration = Duration::from_secs(5);
}

impl DiskEvents for Deaf {
    fn wait(&self, most: Duration) -> vol_engine::host::DiskNews {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(woken, most.min(Self::EVERY), |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
        vol_engine::host::DiskNews::Nothing
    }

    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}
