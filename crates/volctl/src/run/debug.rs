//! `volctl debug …`: without the daemon.

use super::{Run, Session};
use crate::cli::{Debug, Output};
use crate::dump::{self, Shown};

pub fn run(command: Debug, session: &mut Session<'_>) -> Run {
    let Debug::Dump { disks, records, objects, raw_offsets } = command;
    let disks = disks.iter().map(|path| dump::read(path)).collect::<Result<Vec<_>, _>>()?;
    let groups = dump::compare(&disks);
    match session.output {
        Output::Json => session.print_json(&dump::to_json(&disks, &groups))?,
        Output::Name => {
            let ids = disks.iter().filter_map(|disk| disk.found.label.as_ref()).map(|label| label.pv.to_string());
            session.print_names(ids)?;
        }
        Output::Table => {
            let shown = Shown { format: session.format, records, objects, raw_offsets };
            session.print(&dump::to_text(&disks, &groups, shown))?;
        }
    }
    Ok(dump::exit_code(&disks, &groups))
}
