//! `volctl pool usage`, `volume usage`, `map`, and the extents of `pv show`.

use serde::Serialize;
use vol_api::{PvInfo, PvMap, PvSegment, VgMapList};
use vol_types::{Name, PoolPath, VolumePath};

use super::{Run, Session};
use crate::cli::Output;
use crate::render::{map_text, pool_usage_text, pv_facts, segments_text, volume_usage_text};
use crate::{Failure, exit};

/// Columns where there is no terminal to ask.
const WIDTH: usize = 80;

pub async fn pool(pool: &PoolPath, session: &mut Session<'_>) -> Run {
    let usage = session.client.pool_usage(pool).await?;
    match session.output {
        Output::Json => session.print_json(&usage)?,
        Output::Name => {
            let volumes = usage.volumes.iter().flat_map(|volume| {
                let snapshots = volume.snapshots.iter().map(|snapshot| snapshot.full_name.clone());
                std::iter::once(format!("{}/{}", volume.vg, volume.volume)).chain(snapshots)
            });
            let orphans = usage.snapshots.iter().map(|snapshot| snapshot.full_name.clone());
            session.print_names(volumes.chain(orphans))?;
        }
        Output::Table => session.print(&pool_usage_text(&usage, session.format))?,
    }
    Ok(exit::OK)
}

pub async fn volume(volume: &VolumePath, session: &mut Session<'_>) -> Run {
    let usage = session.client.volume_usage(volume).await?;
    let text = volume_usage_text(&usage, session.format);
    session.show(&usage, format!("{}/{}", usage.vg, usage.volume), &text)
}

pub async fn map(vg: Option<Name>, width: Option<u16>, session: &mut Session<'_>) -> Run {
    let names = match vg {
        Some(vg) => vec![vg],
        None => {
            let known = session.client.vgs().await?.vgs;
            known.iter().map(|vg| parsed(&vg.name)).collect::<Result<_, _>>()?
        }
    };
    let mut vgs = Vec::new();
    for name in names {
        vgs.push(session.client.vg_map(&name).await?);
    }
    match session.output {
        Output::Json => session.print_json(&VgMapList { vgs })?,
        Output::Name => session.print_names(vgs.into_iter().map(|vg| vg.vg))?,
        Output::Table if vgs.is_empty() && session.quiet => {}
        Output::Table if vgs.is_empty() => {
            session.say("No volume groups: volctl vg create NAME DISK… makes one, or volctl init DISK….\n");
        }
        Output::Table => {
            let width = width.map_or_else(terminal_width, usize::from);
            let drawn: Vec<_> = vgs.iter().map(|vg| map_text(vg, width, session.format)).collect();
            session.print(&drawn.join("\n"))?;
        }
    }
    Ok(exit::OK)
}

fn parsed(name: &str) -> Result<Name, Failure> {
    Name::new(name)
        .map_err(|_| Failure::new(exit::FAILURE, format!("the daemon answered with the name {name:?}"), None))
}

fn terminal_width() -> usize {
    // No terminal, or one that does not know.
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(WIDTH)
}

/// What `pv show -o json` prints: the PV, and what lies where on it.
#[derive(Serialize)]
struct PvWithSegments<'a> {
    #[serde(flatten)]
    pv: &'a PvInfo,
    /// Empty for a disk that the volume group does not know.
    segments: &'a [PvSegment],
}

/// A PV with its extents.
pub async fn show_pv(pv: &PvInfo, name: String, session: &mut Session<'_>) -> Run {
    if session.output == Output::Name {
        return session.show(pv, name, "");
    }
    let mut own = PvMap::default();
    let mut facts = pv_facts(pv, session.format);
    if !pv.unknown {
        let mut map = session.client.vg_map(&parsed(&pv.vg)?).await?;
        if let Some(at) = map.pvs.iter().position(|one| one.id == pv.id) {
            own = map.pvs.swap_remove(at);
            facts = format!("{facts}\n{}", segments_text(&own, map.extent_size_bytes, session.format));
        }
    }
    session.show(&PvWithSegments { pv, segments: &own.segments }, name, &facts)
}
