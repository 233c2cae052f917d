//! Whether a pool may be changed: its metadata and ours must agree, and the kernel must be able to commit. And whether what
//! is in it can at least be read.

use vol_types::{Name, Pool, PoolState};

use crate::catalog::Catalog;
use crate::observed::{PoolMode, PoolStatus};
use crate::plan::{Kernel, agreement};
use crate::refusal::{Refusal, RefusalCode};

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

/// What to do about metadata that the kernel does not trust. `VG` stands for a name that is not known here; [`explained`] has it.
fn way_out(pool: &Name) -> String {
    format!("unmount its volumes and run `volctl pool repair VG/{pool}`")
}

/// Judges a pool by its record and the kernel's status line. `in_transaction` says that an intent is open, which recovery
/// has to settle first.
pub fn of_pool(pool: &Pool, status: Option<&PoolStatus>, in_transaction: bool) -> PoolHealth {
    let bad = |message: String, hint: &str| PoolHealth::Bad { message, hint: hint.to_owned() };
    let name = &pool.name;
    if pool.state != PoolState::Ready {
        return bad(format!("pool {name} is not ready"), "run `volctl status` to see what it waits for");
    }
    if pool.repair.is_some() {
        return bad(
            format!("pool {name} is down while its metadata are checked or repaired"),
            "wait until that is done; a check or repair that was cut short is taken back by itself",
        );
    }
    let usage = match status {
        Some(PoolStatus::Working(usage)) => usage,
        Some(PoolStatus::Fail | PoolStatus::Error) => {
            return bad(
                format!("the kernel gave up on pool {name}: all its I/O fails"),
                &format!("its disks or its metadata are damaged: {}", way_out(name)),
            );
        }
        None => {
            return bad(
                format!("pool {name} is not active"),
                &format!(
                    "a disk may be missing: see `volctl status` and the daemon's log; if all are there, its metadata may be \
                     damaged: {}",
                    way_out(name)
                ),
            );
        }
    };
    if usage.needs_check {
        return bad(format!("the metadata of pool {name} needs a check after a failed commit"), &way_out(name));
    }
    match usage.mode {
        PoolMode::ReadWrite | PoolMode::OutOfDataSpace => {}
        // The kernel says `ro` of this too, and takes no message, not even to delete (`dm-thin.c`, `PM_OUT_OF_METADATA_SPACE`).
        PoolMode::ReadOnly if usage.used_metadata >= usage.total_metadata => {
            return bad(
                format!("the metadata of pool {name} are full: nothing can be made or deleted in it"),
                "give them space, and all goes on: `volctl pool extend VG/POOL --metadata +256M`",
            );
        }
        PoolMode::ReadOnly => {
            return bad(
                format!("the kernel made pool {name} read-only after an error"),
                &format!("its volumes can be read; the kernel log says which disk failed; {}", way_out(name)),
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
            "nothing of it is changed; its volumes can be read (`volctl volume mount --read-only`); \
             see pool_refused in docs/troubleshooting.md",
        );
    }
    PoolHealth::Ok
}

/// What is to be thought of an active pool that stands on a disk which is gone: the kernel notices when it next writes to it, and then
/// gives the pool up. `None`: all of its disks are there.
pub fn without_disk(kernel: &Kernel, pool: &Pool) -> Option<PoolHealth> {
    if !kernel.pools.contains_key(&pool.id) {
        return None;
    }
    let pv = pool.metadata.iter().chain(&pool.data).map(|segment| segment.pv).find(|pv| kernel.away.contains(pv))?;
    Some(PoolHealth::Bad {
        message: format!("PV {pv} is missing, on which pool {} stands: I/O that needs it fails", pool.name),
        hint: "attach the disk again: it is taken up by itself; see pv_missing in docs/troubleshooting.md".to_owned(),
    })
}

/// As [`of_pool`], with what each side holds.
pub fn explained(catalog: &Catalog, kernel: &Kernel, pool: &Pool) -> PoolHealth {
    if let Some(bad) = without_disk(kernel, pool) {
        return bad;
    }
    let status = kernel.pools.get(&pool.id);
    let open: Vec<_> = catalog.intents_of(pool.id).collect();
    let PoolHealth::Bad { message, hint } = of_pool(pool, status, !open.is_empty()) else { return PoolHealth::Ok };
    let path = format!("{}/{}", catalog.vg().name, pool.name);
    let exact = |hint: String| hint.replace(&format!("VG/{}", pool.name), &path).replace("VG/POOL", &path);
    let hint = exact(hint);
    let usage = match status {
        Some(PoolStatus::Working(usage)) if pool.state == PoolState::Ready => usage,
        _ => return PoolHealth::Bad { message, hint },
    };
    // Recovery settles an intent at either side of its swap; at any other number it cannot.
    let known = |id: u64| match open.as_slice() {
        [] => id == pool.transaction_id,
        open => open.iter().any(|intent| id == intent.from || id == intent.from.saturating_add(1)),
    };
    let (mut message, mut hint) = (message, hint);
    if !known(usage.transaction_id)
        && let PoolHealth::Bad { message: mismatch, hint: way_on } = of_pool(pool, status, false)
    {
        // The mismatch is the reason, not the change that it keeps from being settled.
        (message, hint) = (mismatch, exact(way_on));
    }
    let mut parts = vec![message];
    if !known(usage.transaction_id) || usage.needs_check {
        let intents: Vec<_> = open.iter().map(|intent| agreement::intent_in_words(intent)).collect();
        if !intents.is_empty() {
            parts.push(format!("our metadata have an open change from transaction {}", intents.join("; ")));
        }
        if let Some(findings) = kernel.findings.get(&pool.id) {
            if !findings.strays.is_empty() {
                parts.push(format!("only the kernel has thin ids {}", agreement::listed(findings.strays.keys())));
            }
            let lost: Vec<u32> = findings.lost.iter().filter_map(|id| catalog.volume(*id)?.thin_id()).collect();
            if !lost.is_empty() {
                parts.push(format!("only we have thin ids {}", agreement::listed(&lost)));
            }
            if findings.strays.is_empty() && lost.is_empty() {
                parts.push("both have the same thin ids".to_owned());
            }
        }
    }
    PoolHealth::Bad { message: parts.join("; "), hint }
}

/// How a volume of the pool is activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Full,
    /// The pool is refused but answers: for reading only, and without a journal being replayed, so that nothing is written.
    ReadOnly,
}

/// How a volume of the pool may be activated now, by somebody who wants to write to it or not.
pub fn access(catalog: &Catalog, kernel: &Kernel, pool: &Pool, read_only: bool) -> Result<Access, Refusal> {
    let PoolHealth::Bad { message, hint } = explained(catalog, kernel, pool) else { return Ok(Access::Full) };
    let answers = matches!(kernel.pools.get(&pool.id), Some(PoolStatus::Working(_))) && pool.state == PoolState::Ready;
    match (answers, read_only) {
        (true, true) => Ok(Access::ReadOnly),
        (true, false) => Err(Refusal::new(RefusalCode::Degraded, message)
            .hint(format!("it can be read: ask again with --read-only. {hint}"))),
        (false, _) => Err(Refusal::new(RefusalCode::Degraded, message).hint(hint)),
    }
}
