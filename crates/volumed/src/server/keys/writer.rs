//! The thread that reads and writes the file of keys, so that a state directory which hangs holds up nobody else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use vol_api::{ApiError, ErrorCode, Problem};

use super::file::{File, Record};
use super::{Keys, now};

/// Hands records to the thread. It ends when this is dropped; one that hangs is not waited for.
pub struct Writer {
    dir: PathBuf,
    orders: mpsc::Sender<(Record, bool)>,
    asked: Arc<Mutex<Asked>>,
    /// Orders that are done.
    done: watch::Receiver<u64>,
}

/// The first order.
const READ: u64 = 1;

struct Asked {
    orders: u64,
    /// Since when the thread has been at the order that it is at.
    busy_since: Option<Instant>,
    /// Why the file could not be written the last time.
    failed: Option<String>,
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Reads what is in `dir`, for the keys, and writes there from now on.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(dir: &Path, keys: &Arc<Keys>) -> std::io::Result<Self> {
        let (orders, wanted) = mpsc::channel::<(Record, bool)>();
        let (tell, done) = watch::channel(0_u64);
        let asked = Arc::new(Mutex::new(Asked { orders: READ, busy_since: Some(Instant::now()), failed: None }));
        let (keys, told, from) = (Arc::downgrade(keys), Arc::clone(&asked), dir.to_owned());
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            let finished = |file: &File| {
                let mut asked = lock(&told);
                asked.failed = file.failed().map(str::to_owned);
                let done = tell.borrow().saturating_add(1);
                asked.busy_since = (done < asked.orders).then(Instant::now);
                tell.send_replace(done);
            };
            let (mut file, records) = File::open(&from, now());
            if let Some(keys) = keys.upgrade() {
                keys.remember(records);
            }
            finished(&file);
            while let Ok((record, sync)) = wanted.recv() {
                write(&mut file, &record, sync, &keys);
                finished(&file);
            }
        })?;
        Ok(Self { dir: dir.to_owned(), orders, asked, done })
    }

    /// Has it written, on the disk then if `sync`; the number of the order.
    pub fn order(&self, record: Record, sync: bool) -> u64 {
        let mut asked = lock(&self.asked);
        asked.orders = asked.orders.saturating_add(1);
        asked.busy_since.get_or_insert_with(Instant::now);
        // The thread never ends before this does; had it, the order would be waited for in vain, and not without end.
        let _ = self.orders.send((record, sync));
        asked.orders
    }

    /// The last order that there is.
    pub fn last(&self) -> u64 {
        lock(&self.asked).orders
    }

    /// Waits until the file has been read; if the thread hangs, that is said at once.
    ///
    /// # Errors
    /// `not_ready`: the state directory hangs.
    pub async fn ready(&self, limit: Duration) -> Result<(), ApiError> {
        if self.busy_for() >= limit {
            return Err(self.not_ready(limit));
        }
        self.wait(READ, limit).await
    }

    /// Waits until this order is done, for so long.
    ///
    /// # Errors
    /// `not_ready`: the state directory hangs.
    pub async fn wait(&self, order: u64, limit: Duration) -> Result<(), ApiError> {
        let mut done = self.done.clone();
        let waited = tokio::time::timeout(limit, done.wait_for(|done| *done >= order)).await;
        if matches!(waited, Ok(Ok(_))) { Ok(()) } else { Err(self.not_ready(limit)) }
    }

    fn not_ready(&self, limit: Duration) -> ApiError {
        let problem = self.hangs(limit);
        ApiError::new(ErrorCode::NotReady, problem.message).with_hint(problem.hint)
    }

    fn busy_for(&self) -> Duration {
        lock(&self.asked).busy_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn hangs(&self, limit: Duration) -> Problem {
        let dir = self.dir.display();
        Problem {
            code: "idempotency_keys_unwritten".to_owned(),
            message: format!(
                "{dir} has not answered for {} s: idempotency keys cannot be written down, and requests that have one are not carried out",
                limit.as_secs_f64()
            ),
            hint: format!(
                "see what the file system of {dir} hangs on (the kernel's log); requests without a key are carried out"
            ),
        }
    }

    /// That keys are not kept, if so.
    pub fn problem(&self, limit: Duration) -> Option<Problem> {
        if self.busy_for() >= limit {
            return Some(self.hangs(limit));
        }
        let failed = lock(&self.asked).failed.clone()?;
        let dir = self.dir.display();
        Some(Problem {
            code: "idempotency_keys_unwritten".to_owned(),
            message: format!(
                "idempotency keys cannot be written down in {dir}: {failed}; a restart of volumed forgets them"
            ),
            hint: format!("make {dir} writable (df, mount); the next request that has a key tries again"),
        })
    }
}

fn write(file: &mut File, record: &Record, sync: bool, keys: &Weak<Keys>) {
    if file.append(record, sync)
        && let Some(keys) = keys.upgrade()
    {
        // It has become long, or there is none: only what is known is written anew.
        let records = keys.records();
        file.rewrite(&records);
    }
}
