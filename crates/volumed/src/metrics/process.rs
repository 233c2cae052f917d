//! What the daemon itself takes of the machine.
//!
//! Looked at by the thread that refreshes everything else, not by a scrape: then a scrape makes no system call of its own, and answers when no
//! descriptor is left to read `/proc` with.

use std::fs;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{SysconfVar, sysconf};

use super::families::Id;
use super::page::Page;

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Taken {
    cpu_seconds: f64,
    threads: f64,
    start_seconds: Option<f64>,
    resident_bytes: f64,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

/// What was seen last.
#[derive(Debug, Default)]
pub struct Process(Mutex<Option<Taken>>);

impl Process {
    /// Looks again. What cannot be read is not shown.
    pub fn look(&self) {
        let taken = look();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = taken;
    }

    /// Bytes that were resident then.
    pub fn resident_bytes(&self) -> Option<f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|taken| taken.resident_bytes)
    }

    pub fn write(&self, page: &mut Page) {
        let Some(taken) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else { return };
        page.put(Id::ProcessCpu, &[], taken.cpu_seconds);
        page.put(Id::ProcessThreads, &[], taken.threads);
        page.put(Id::ProcessResident, &[], taken.resident_bytes);
        let known = [
            (Id::ProcessStart, taken.start_seconds),
            (Id::ProcessOpenFds, taken.open_fds),
            (Id::ProcessMaxFds, taken.max_fds),
        ];
        for (id, value) in known {
            if let Some(value) = value {
                page.put(id, &[], value);
            }
        }
    }
}

/// How much more than after the last time must be resident before memory is given back again.
const WORTH_IT: f64 = (2 << 20) as f64;

/// Many requests at once leave memory behind that was freed, and that the allocator keeps. This says when to give it back: after each
/// growth, once it has come to an end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Burst {
    /// After the last time, in bytes.
    least: f64,
    /// At the last look.
    before: f64,
}

impl Burst {
    /// To be asked at each look: whether more is resident than was, and no more than at the last look.
    pub fn is_over(&mut self, resident: f64) -> bool {
        let rests = resident <= std::mem::replace(&mut self.before, resident);
        rests && resident > self.least + WORTH_IT
    }

    /// So much is resident now, after what could be given back was: what is left is in use.
    pub fn given_back(&mut self, resident: Option<f64>) {
        if let Some(resident) = resident {
            (self.least, self.before) = (resident, resident);
        }
    }
}

fn look() -> Option<Taken> {
    let constant = |name| sysconf(name).ok().flatten().filter(|value| *value > 0).map(|value| value as f64);
    let ticks = constant(SysconfVar::CLK_TCK)?;
    let page_size = constant(SysconfVar::PAGE_SIZE)?;
    let stat = stat(&fs::read_to_string("/proc/self/stat").ok()?)?;
    let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse::<f64>().ok()
    });
    let limits = fs::read_to_string("/proc/self/limits").ok();
    Some(Taken {
        cpu_seconds: stat.cpu_ticks / ticks,
        threads: stat.threads,
        start_seconds: boot.map(|boot| boot + stat.start_ticks / ticks),
        resident_bytes: stat.resident_pages * page_size,
        // Less the one that lists them.
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64),
        max_fds: limits.as_deref().and_then(max_fds),
    })
}

struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
    resident_pages: f64,
}

/// `proc_pid_stat(5)`; the name in the second field may hold anything, a parenthesis included.
fn stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // The first field here is number 3 of the manual page.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        threads: field(20)?,
        start_ticks: field(22)?,
        resident_pages: field(24)?,
    })
}

/// The soft limit; `None` if there is none.
fn max_fds(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_process_are_found_whatever_its_name() {
        let line = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 77 1000 256 18446744073709551615 1";
        let found = stat(line).unwrap();
        assert_eq!(
            (found.cpu_ticks, found.threads, found.start_ticks, found.resident_pages),
            (200.0, 9.0, 77.0, 256.0)
        );
        for cut in 0..line.len() - 30 {
            let _ = stat(&line[..cut]);
        }
        assert!(stat("42 (volumed").is_none() && stat("").is_none() && stat("1 (x) S 1").is_none());
        assert_eq!(max_fds("Max open files            1024                 524288               files"), Some(1024.0));
        assert_eq!(max_fds("Max open files            unlimited            unlimited            files"), None);
    }

    #[test]
    fn memory_is_given_back_when_a_growth_is_over_and_not_again_for_what_stays() {
        let mib = |n: f64| n * 1_048_576.0;
        let mut burst = Burst::default();
        assert!(!burst.is_over(mib(15.0)), "a start is a growth");
        assert!(burst.is_over(mib(15.0)), "which is over");
        burst.given_back(Some(mib(14.0)));
        assert!((0..5).all(|_| !burst.is_over(mib(15.5))), "a little more is nothing");
        assert!(!burst.is_over(mib(30.0)) && !burst.is_over(mib(38.0)), "it grows");
        assert!(burst.is_over(mib(37.0)));
        burst.given_back(Some(mib(25.0)));
        assert!((0..5).all(|_| !burst.is_over(mib(25.0))), "what is left is in use");
        assert!(!burst.is_over(mib(28.0)));
        assert!(burst.is_over(mib(28.0)), "and so on");
    }

    #[test]
    fn this_process_is_seen() {
        let taken = look().unwrap();
        assert!(taken.resident_bytes > 1e6 && taken.threads >= 1.0 && taken.open_fds.unwrap() >= 3.0, "{taken:?}");
        assert!(taken.start_seconds.unwrap() > 1.5e9, "{taken:?}");
    }
}
