//! What is said of disks that come and go, and of the mount table.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vol_engine::host::{DiskEvents, DiskNews, MountEvents};

use crate::host::SimHost;

#[derive(Debug)]
pub(crate) struct News {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    news: DiskNews,
    woken: bool,
}

impl Default for News {
    fn default() -> Self {
        Self { state: Mutex::new(State { news: DiskNews::Nothing, woken: false }), changed: Condvar::new() }
    }
}

impl News {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell(&self, node: &Path) {
        let mut state = self.lock();
        match &mut state.news {
            DiskNews::Of(nodes) => drop(nodes.insert(node.to_path_buf())),
            DiskNews::Nothing => state.news = DiskNews::Of([node.to_path_buf()].into()),
            DiskNews::Lost => {}
        }
        self.changed.notify_all();
    }
}

impl DiskEvents for News {
    fn wait(&self, most: Duration) -> DiskNews {
        let quiet = |state: &mut State| state.news == DiskNews::Nothing && !state.woken;
        let waited = self.changed.wait_timeout_while(self.lock(), most, quiet);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.woken = false;
        std::mem::replace(&mut state.news, DiskNews::Nothing)
    }

    fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }
}

impl SimHost {
    /// What was said of disks since it was asked last: each that was added, removed, or attached again.
    pub fn disk_news(&self) -> DiskNews {
        self.news.wait(Duration::ZERO)
    }

    /// What was said does not arrive, and the listener knows that something is missing.
    pub fn lose_disk_news(&self) {
        self.news.lock().news = DiskNews::Lost;
    }
}

/// That the mount table changed.
#[derive(Debug, Default)]
pub(crate) struct MountNews {
    changed: Mutex<bool>,
    told: Condvar,
}

impl MountNews {
    pub fn tell(&self) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }
}

impl MountEvents for MountNews {
    fn wait(&self, most: Duration) {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(changed, most, |changed| !*changed);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }

    fn wake(&self) {
        self.tell();
    }
}
