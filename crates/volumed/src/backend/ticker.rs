//! Threads that do something again and again, and wait without waking up where they can.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a ticker is told while it waits or works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    /// There is work.
    Work,
    Stop,
}

/// Wakes a ticker that waits without a time.
#[derive(Clone, Debug, Default)]
pub struct Poker(Arc<(Mutex<Told>, Condvar)>);

impl Poker {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is work. While it works already, or waits for a time, nothing comes of this.
    pub fn poke(&self) {
        let mut told = self.told();
        if *told == Told::Nothing {
            *told = Told::Work;
            self.0.1.notify_all();
        }
    }

    fn stop(&self) {
        *self.told() = Told::Stop;
        self.0.1.notify_all();
    }

    /// Whether to work, after so long; `None`: when it is poked.
    fn wait(&self, pause: Option<Duration>) -> bool {
        let (told, changed) = (self.told(), &self.0.1);
        let mut told = match pause {
            // It has said when it wants to look again: after a failure, most likely.
            Some(pause) => {
                let waited = changed.wait_timeout_while(told, pause, |told| *told != Told::Stop);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => changed.wait_while(told, |told| *told == Told::Nothing).unwrap_or_else(PoisonError::into_inner),
        };
        let go_on = *told != Told::Stop;
        if go_on {
            *told = Told::Work;
        }
        go_on
    }

    /// The work is done: who pokes from now on is heard.
    fn done(&self) {
        let mut told = self.told();
        if *told == Told::Work {
            *told = Told::Nothing;
        }
    }
}

/// A thread that does something again and again.
pub struct Ticker {
    name: &'static str,
    poker: Poker,
    thread: JoinHandle<()>,
}

impl Ticker {
    /// Works for the first time after `first`, then each time after what the work before said; `None`: when it is poked.
    /// The work is told whether to go on.
    pub fn start(
        name: &'static str,
        poker: Poker,
        first: Option<Duration>,
        work: impl Fn(&dyn Fn() -> bool) -> Option<Duration> + Send + 'static,
    ) -> std::io::Result<Self> {
        let told = poker.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut pause = first;
            while told.wait(pause) {
                pause = work(&|| *told.told() != Told::Stop);
                told.done();
            }
        })?;
        Ok(Self { name, poker, thread })
    }

    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether its thread is no more, which it never should be before [`Ticker::stop`].
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for what is under way.
    pub fn stop(self) {
        self.poker.stop();
        if self.thread.join().is_err() {
            tracing::error!("the thread {:?} had failed", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_ticker_without_a_time_waits_until_it_is_poked_and_can_be_stopped() {
        let (worked, works) = mpsc::channel();
        let poker = Poker::default();
        let work = move |go_on: &dyn Fn() -> bool| {
            worked.send(go_on()).unwrap();
            None
        };
        let ticker = Ticker::start("test", poker.clone(), Some(Duration::ZERO), work).unwrap();
        assert!(works.recv_timeout(PATIENCE).unwrap(), "the first time by itself");
        assert!(works.recv_timeout(Duration::from_millis(50)).is_err(), "and then not");
        // Who pokes while the work before is being put away is not heard: that is a moment, or more where the machine is busy.
        let heard = (0..20).find_map(|_| {
            poker.poke();
            works.recv_timeout(PATIENCE / 20).ok()
        });
        assert_eq!(heard, Some(true));
        assert!(works.recv_timeout(Duration::from_millis(50)).is_err(), "one poke is one time");
        ticker.stop();
        assert!(works.recv().is_err(), "the thread has ended");
    }

    #[test]
    fn a_ticker_with_a_time_works_again_and_again() {
        let (worked, works) = mpsc::channel();
        let work = move |_: &dyn Fn() -> bool| worked.send(()).ok().map(|()| Duration::from_millis(1));
        let ticker = Ticker::start("test", Poker::default(), Some(Duration::ZERO), work).unwrap();
        (0..5).for_each(|_| works.recv_timeout(PATIENCE).unwrap());
        ticker.stop();
    }
}
