//! Raw volumes of the service Node. A staged one is *attached*: its device is there, and nothing is in the directory for staging. Where a
//! workload wants it the node of that device is shown, on a file.
//!
//! A device is writable or not as a whole, whatever the mount of its node says: so that is decided when it is staged, by the access mode.

use vol_api::ErrorCode;

use crate::capability::Capability;
use crate::node::{alone, differs, is_there};
use crate::{Placed, Refused, Volume, Volumes};

/// What is noted in the place of mount flags, which no raw volume has.
const HOW: &str = "block";

/// Attaches it; whether it was not before.
pub(crate) fn stage(
    volumes: &dyn Volumes,
    volume: &Volume,
    at: &str,
    capability: &Capability,
) -> Result<bool, Refused> {
    let read_only = capability.reads_only();
    let asked = Placed { volume: volume.id.clone(), staging: true, single: false, read_only, how: HOW.to_owned() };
    if let Some(is) = volume.attached.filter(|is| *is != read_only) {
        return Err(differs(volume, at, &Placed { read_only: is, ..asked.clone() }, &asked));
    }
    let changed = volumes.attach(volume, read_only)?;
    volumes.note(at, Some(asked));
    Ok(changed)
}

/// Shows it; whether it was not there before.
pub(crate) fn publish(
    volumes: &dyn Volumes,
    volume: &Volume,
    (from, at): (&str, &str),
    readonly: bool,
    capability: &Capability,
) -> Result<bool, Refused> {
    let Some(device_read_only) = volume.attached else {
        return Err(Refused::precondition(format!("volume {} is not staged at {from}", volume.path)));
    };
    let asked = Placed {
        volume: volume.id.clone(),
        staging: false,
        single: capability.is_single(),
        read_only: readonly || capability.reads_only() || device_read_only,
        how: HOW.to_owned(),
    };
    if is_there(volumes, volume, at, &asked)? {
        return Ok(false);
    }
    if asked.read_only && !device_read_only {
        return Err(Refused::precondition(format!(
            "volume {} is a raw block device that was staged writable, and no place of it can be for reading only: a device is writable or \
             not as a whole",
            volume.path
        ))
        .with_hint("claim it with access mode ReadOnlyMany, by which the device itself is for reading only, or publish it writable"));
    }
    alone(volumes, volume, from, &asked)?;
    let changed = volumes.show(volume, at)?;
    volumes.note(at, Some(asked));
    Ok(changed)
}

/// Detaches it; whether it was attached.
pub(crate) fn unstage(volumes: &dyn Volumes, volume: &Volume, at: &str) -> Result<bool, Refused> {
    if let Some((place, _)) = volume.mounts.first() {
        return Err(Refused::precondition(format!("volume {} is still published at {place}", volume.path)));
    }
    let elsewhere = volumes.places(&volume.id).into_iter().any(|(place, placed)| placed.staging && place != at);
    let changed = match volume.attached {
        Some(_) if !elsewhere => volumes.detach(volume).map_err(in_use)?,
        _ => false,
    };
    volumes.note(at, None);
    Ok(changed)
}

/// Somebody has it open whom the orchestrator has to wait for.
fn in_use(refused: Refused) -> Refused {
    match refused.error.code {
        ErrorCode::Busy => Refused::new(tonic::Code::FailedPrecondition, refused.error),
        _ => refused,
    }
}
