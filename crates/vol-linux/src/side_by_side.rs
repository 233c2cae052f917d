//! Work that waits for different disks, done by a few threads that end with it.

use std::sync::{Mutex, PoisonError};

/// Threads that are at it at once, this one included: metadata stand on a few disks, whatever the number of disks.
const AT_ONCE_MAX: usize = 8;

/// Returns when all of it is done. Where no thread can be started this one does what there is to do.
pub(crate) fn all(work: Vec<Box<dyn FnOnce() + Send + '_>>) {
    let others = work.len().min(AT_ONCE_MAX).saturating_sub(1);
    let queue = Mutex::new(work.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let go_on = || {
        while let Some(piece) = next() {
            piece();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..others {
            if std::thread::Builder::new().name("side-by-side".to_owned()).spawn_scoped(scope, go_on).is_err() {
                break;
            }
        }
        go_on();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn pieces_run_beside_each_other_and_all_of_them_have_run_at_the_end() {
        all(Vec::new());
        // Neither gets past it alone.
        let both = Barrier::new(2);
        let done = AtomicUsize::new(0);
        let piece = || -> Box<dyn FnOnce() + Send + '_> {
            Box::new(|| {
                both.wait();
                done.fetch_add(1, Ordering::SeqCst);
            })
        };
        all(vec![piece(), piece()]);
        assert_eq!(done.load(Ordering::SeqCst), 2);
        let more = || -> Box<dyn FnOnce() + Send + '_> {
            Box::new(|| {
                done.fetch_add(1, Ordering::SeqCst);
            })
        };
        all((0..100).map(|_| more()).collect());
        assert_eq!(done.load(Ordering::SeqCst), 102);
    }
}
