//! Threads that hear of something and act on it: of disks which come and go, of mounts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vol_engine::host::{DiskEvents, HostMut, MountEvents};

use super::EngineBackend;

/// How often what there is is compared with what there was, in case that something was said and not heard: one listing of a folder.
const COMPARE_EVERY: Duration = Duration::from_secs(30);
/// At most so often, whatever is in the way.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A disk that hangs while it is looked at does not keep the daemon from ending.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Between two looks at mounts that change again and again.
const MOUNTS_REST: Duration = Duration::from_millis(100);
/// When it is looked although nothing was said.
const MOUNTS_AGAIN: Duration = Duration::from_secs(3600);

/// The thread, and how it is ended.
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    wake: Box<dyn Fn() + Send + Sync>,
    thread: JoinHandle<()>,
}

impl Watcher {
    pub(super) fn name(&self) -> &str {
        self.thread.thread().name().unwrap_or_default()
    }

    /// Whether its thread is no more, which it never should be before [`Watcher::stop`].
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        (self.wake)();
        let begun = Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > STOP_LIMIT {
                tracing::warn!("what is being looked at (a disk, mount tables) does not answer; it is not waited for");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.thread.join().is_err() {
            tracing::error!("a thread that watches disks or mounts had failed");
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
        self.watch(Watcher { stop, wake: Box::new(move || events.wake()), thread });
        Ok(())
    }

    fn watch(&self, watcher: Watcher) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    /// Starts the thread that calls `changed` whenever the host's mount table changed, and not more often than every [`MOUNTS_REST`].
    pub(super) fn watch_mounts(
        &self,
        events: Arc<dyn MountEvents>,
        changed: impl Fn() + Send + 'static,
    ) -> std::io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, from) = (stop.clone(), events.clone());
        let thread = std::thread::Builder::new().name("mounts".to_owned()).spawn(move || {
            loop {
                from.wait(MOUNTS_AGAIN);
                if told.load(Ordering::Acquire) {
                    return;
                }
                changed();
                std::thread::sleep(MOUNTS_REST);
            }
        })?;
        self.watch(Watcher { stop, wake: Box::new(move || events.wake()), thread });
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
