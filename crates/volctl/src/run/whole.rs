//! `volctl status`, `df`, `completion` and the hidden `man`.

use std::path::Path;

use clap::CommandFactory as _;
use vol_api::Health;

use super::{Run, Session};
use crate::cli::{Cli, Output};
use crate::render::{df_tables, status_text};
use crate::{Failure, exit};

/// Exit code 10 when anything is degraded, whatever the form of the answer.
pub async fn status(session: &mut Session<'_>) -> Run {
    let status = session.client.status().await?;
    match session.output {
        Output::Json => session.print_json(&status)?,
        Output::Name => session.print_names([status.health.as_str().to_owned()])?,
        Output::Table => {
            let df = session.client.df().await?;
            let text = status_text(&status, &df, session.format);
            session.print(&text)?;
        }
    }
    Ok(if status.health == Health::Ok { exit::OK } else { exit::WARNINGS })
}

pub async fn df(session: &mut Session<'_>) -> Run {
    let df = session.client.df().await?;
    match session.output {
        Output::Json => session.print_json(&df)?,
        Output::Name => {
            let vgs = df.vgs.iter().map(|vg| vg.vg.clone());
            session.print_names(vgs.chain(df.pools.iter().map(|pool| format!("{}/{}", pool.vg, pool.pool))))?;
        }
        Output::Table => {
            let (vgs, pools) = df_tables(&df, session.format);
            if vgs.is_empty() && !session.quiet {
                session.say("No volume groups: volctl vg create NAME DISK… makes one, or volctl init DISK….\n");
            }
            let shown = [vgs, pools]
                .iter()
                .filter(|table| !table.is_empty())
                .map(|t| t.render(session.format.no_headers))
                .collect::<Vec<_>>();
            session.print(&shown.join("\n"))?;
        }
    }
    Ok(exit::OK)
}

pub fn completion(shell: clap_complete::Shell, session: &mut Session<'_>) -> Run {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "volctl", &mut script);
    session.print(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}

/// One page per command, `volctl.1`, `volctl-vg.1`, `volctl-vg-create.1` …
pub fn man(dir: &Path) -> Run {
    clap_mangen::generate_to(Cli::command(), dir)
        .map_err(|error| Failure::new(exit::FAILURE, format!("{}: {error}", dir.display()), None))?;
    Ok(exit::OK)
}
