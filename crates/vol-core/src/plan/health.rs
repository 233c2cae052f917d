//! Whether a pool may be changed: its metadata and ours must agree, and the kernel must be able to commit.

use vol_types::{Pool, PoolState};

use crate::observed::{PoolMode, PoolStatus};

/// What is to be thought of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolHealth {
    Ok,
    /// Refused until somebody has looked: nothing is created, deleted or mounted in it.
    Bad {
        message: String,
        hint: String,
    },
}

/// Judges a pool by its record and the kernel's status line. `in_transaction` says that an intent is open, which recovery
/// has to settle first.
pub fn of_pool(pool: &Pool, status: Option<&PoolStatus>, in_transaction: bool) -> PoolHealth {
    let bad = |message: String, hint: &str| PoolHealth::Bad { message, hint: hint.to_owned() };
    let name = &pool.name;
    if pool.state != PoolState::Ready {
        return bad(format!("pool {name} is not ready"), "run `volctl status` to see what it waits for");
    }
    let usage = match status {
        Some(PoolStatus::Working(usage)) => usage,
        Some(PoolStatus::Fail | PoolStatus::Error) => {
            return bad(
                format!("the kernel gave up on pool {name}: all its I/O fails"),
                "its disks or its metadata are damaged; look at the kernel log, then run thin_check on the metadata",
            );
        }
        None => {
            return bad(
                format!("pool {name} is not active"),
                "a disk may be missing or a step may have failed: see `volctl status` and the daemon's log",
            );
        }
    };
    if usage.needs_check {
        return bad(
            format!("the metadata of pool {name} needs a check after a failed commit"),
            "unmount its volumes and run thin_check on the metadata; nothing is changed until then",
        );
    }
    match usage.mode {
        PoolMode::ReadWrite | PoolMode::OutOfDataSpace => {}
        PoolMode::ReadOnly => {
            return bad(
                format!("the kernel made pool {name} read-only after an error"),
                "its volumes can be read; look at the kernel log for the disk that failed",
            );
        }
    }
    if in_transaction {
        return bad(
            format!("pool {name} has an unfinished change that could not be settled"),
            "see `volctl status` for the reason; it is tried again at every change and at start",
        );
    }
    if usage.transaction_id != pool.transaction_id {
        return bad(
            format!(
                "pool {name} is at transaction {} in the kernel, but at {} in the volume group's metadata: \
                 one of them was changed by somebody else or restored from an old copy",
                usage.transaction_id, pool.transaction_id
            ),
            "nothing is changed and no volume of it is activated; restore the copy that belongs to the other",
        );
    }
    PoolHealth::Ok
}
