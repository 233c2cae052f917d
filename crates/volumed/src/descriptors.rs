//! How many files the daemon may have open, and how they are shared out: clients get no more than leaves enough for what brings a
//! machine back (disks that are opened, devices that are made, tools that are started).

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::server::Limits;

/// With fewer the daemon does not start: its own ones, a few clients, one change, and the reserve.
const LEAST: u64 = 160;
/// What the daemon has open before anybody asks for anything, one disk included, and what is kept for recovery: never given to clients.
const KEPT: u64 = 64 + 32;
/// Most that one change has open at a time: pipes of a tool, the device that it works on, directories of the mount point.
const PER_CHANGE: u64 = 12;
/// Beyond that nothing gets better.
const PLENTY: u64 = 65_536;

/// Too few descriptors to begin with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit on open files (RLIMIT_NOFILE) is {0}, and volumed needs {LEAST} at least: raise LimitNOFILE= in its unit, or `ulimit -n`"
)]
pub struct TooFew(u64);

/// How many files the daemon may have open. The limit is raised as far as that goes without a privilege.
///
/// # Errors
/// They are too few to work with.
pub fn available() -> Result<u64, TooFew> {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files cannot be read");
            return Ok(PLENTY);
        }
    };
    let wanted = hard.min(PLENTY);
    let raised = if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Err(Errno::EEXIST) };
    let limit = if raised.is_ok() { wanted } else { soft };
    if limit < LEAST { Err(TooFew(limit)) } else { Ok(limit) }
}

/// What clients may have of so many descriptors.
pub fn share(descriptors: u64, most: Limits) -> Limits {
    let free = descriptors.saturating_sub(KEPT);
    // Two fifths for changes, two fifths for connections (of root, of others, and half as many of strangers), a tenth for relief.
    let changes = (free / 5 * 2 / PER_CHANGE).max(1);
    let relief = (free / 10 / PER_CHANGE).max(1);
    let connections = usize::try_from(free / 5 * 2 / 5 * 2).unwrap_or(usize::MAX).max(2);
    let least = |a: u64, b: u32| u32::try_from(a).unwrap_or(u32::MAX).min(b);
    Limits {
        changes: least(changes, most.changes),
        relief: least(relief, most.relief),
        connections: connections.min(most.connections),
        strangers: (connections / 2).max(1).min(most.strangers),
        ..most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_few_descriptors_clients_get_few_and_with_many_all() {
        let most = Limits::default();
        for descriptors in [LEAST, 200, 256, 400, 1024, 4096, 65_536, u64::MAX] {
            let got = share(descriptors, most);
            assert!(got.changes >= 1 && got.relief >= 1 && got.connections >= 2 && got.strangers >= 1, "{got:?}");
            assert!(got.changes <= most.changes && got.connections <= most.connections);
            let used = u64::from(got.changes + got.relief) * PER_CHANGE + (2 * got.connections + got.strangers) as u64;
            assert!(used + KEPT <= descriptors, "{descriptors}: {used} and {KEPT} are more");
        }
        assert_eq!(share(65_536, most).connections, most.connections);
        assert_eq!(share(65_536, most).changes, most.changes);
    }

    #[test]
    fn too_few_are_refused_by_a_message_that_names_the_limit() {
        let said = TooFew(64).to_string();
        assert!(said.contains("RLIMIT_NOFILE") && said.contains("64") && said.contains("LimitNOFILE="), "{said}");
    }
}
