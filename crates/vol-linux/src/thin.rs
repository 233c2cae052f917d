//! The tools that own the format of a thin pool's metadata: `thin_check(8)` and `thin_repair(8)`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use vol_core::observed::{DevNumber, ThinVerdict};
use vol_core::plan::repair::Known;
use vol_engine::host::{HostError, HostErrorKind, HostResult};
use vol_types::Bytes;

use crate::disk::{self, Access};
use crate::{dm, error, files, fs, tool};

const PACKAGE: &str = "thin-provisioning-tools";

/// Ten minutes, and ten for each GiB of metadata: a check reads all of them, and a repair looks for what belongs together.
fn limit(size: Bytes) -> Duration {
    Duration::from_secs(600u64.saturating_mul(size.get().div_ceil(Bytes::GIB).saturating_add(1)))
}

/// `Unsupported` with the name of the package if one of them is missing.
pub(crate) fn tools() -> HostResult<()> {
    for name in ["thin_check", "thin_repair"] {
        find("look for the tools of thin pools", name)?;
    }
    Ok(())
}

fn find(what: &str, name: &str) -> HostResult<PathBuf> {
    tool::find(what, name, PACKAGE)
}

/// Looks at the metadata on a device; with `clear` the mark `needs_check` goes if they are sound.
pub(crate) fn check(dev: DevNumber, dm_uuid: &str, clear: bool) -> HostResult<ThinVerdict> {
    let node = dm::node(dev);
    let what = format!("thin_check on {}", node.display());
    // As long as this is open the number cannot become another device's.
    let device = tool::open_own(&what, dev, dm_uuid, if clear { Access::ReadWrite } else { Access::Read })?;
    files::keep_udev_away(&device);
    let size = disk::identity(&what, &device)?.size;
    let program = find(&what, "thin_check")?;
    fs::wait_until_unused(&node)?;
    let mut arguments: Vec<OsString> = Vec::new();
    if clear {
        arguments.push("--clear-needs-check-flag".into());
    }
    arguments.push("--".into());
    arguments.push(node.into());
    let (status, said) = tool::run_to_end(&what, &program, &arguments, limit(size))?;
    if clear {
        device.sync_all().map_err(|e| error::block(format!("{what}: flush"), &e))?;
    }
    match status.code() {
        Some(0) => Ok(ThinVerdict::Sound),
        Some(_) => Ok(ThinVerdict::Damaged(fs::last_lines(&said))),
        None => Err(HostError::new(HostErrorKind::Tool, what, format!("{status}: {said}"))),
    }
}

/// Writes what can be read of the metadata on one device to another.
pub(crate) fn repair(from: (DevNumber, &str), to: (DevNumber, &str), known: &Known) -> HostResult<()> {
    let (old, new) = (dm::node(from.0), dm::node(to.0));
    let what = format!("thin_repair from {} to {}", old.display(), new.display());
    let source = tool::open_own(&what, from.0, from.1, Access::Read)?;
    let target = tool::open_own(&what, to.0, to.1, Access::ReadWrite)?;
    files::keep_udev_away(&source);
    files::keep_udev_away(&target);
    let limit = limit(disk::identity(&what, &source)?.size);
    let program = find(&what, "thin_repair")?;
    fs::wait_until_unused(&old)?;
    fs::wait_until_unused(&new)?;
    let ends: [OsString; 4] = ["-i".into(), old.into(), "-o".into(), new.into()];
    // What stands in a superblock that can be read is nearer to the truth than what we know.
    let by_itself = tool::run(&what, &program, &ends, limit);
    if by_itself.as_ref().is_err_and(|error| error.kind == HostErrorKind::Tool) {
        let mut arguments: Vec<OsString> = ends.to_vec();
        for (flag, value) in [
            ("--transaction-id", known.transaction_id),
            ("--data-block-size", known.chunk_sectors),
            ("--nr-data-blocks", known.data_chunks),
        ] {
            arguments.push(flag.into());
            arguments.push(value.to_string().into());
        }
        tool::run(&what, &program, &arguments, limit)?;
    } else {
        by_itself?;
    }
    target.sync_all().map_err(|e| error::block(format!("{what}: flush"), &e))
}
