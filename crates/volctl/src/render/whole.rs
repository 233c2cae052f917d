//! The whole picture: `status`, `df`, and the plan of a dry run.

use std::fmt::Write as _;

use vol_api::{Df, DfPool, Plan, Status};

use super::Align::{Left, Right};
use super::fact::time_text;
use super::{Format, Table, clean, count, percent, percent_text};

/// Cells of the bar that shows how full a pool is.
const BAR_CELLS: u64 = 10;

/// `[###.......]`; rounded up, so that a pool in use never looks empty.
fn bar(percent: Option<u64>) -> String {
    let Some(percent) = percent else { return String::new() };
    let filled = (percent * BAR_CELLS).div_ceil(100).min(BAR_CELLS);
    (0..BAR_CELLS).fold("[".to_owned(), |bar, cell| bar + if cell < filled { "#" } else { "." }) + "]"
}

/// The space of VGs, and below it of pools.
pub fn df_tables(df: &Df, format: Format) -> (Table, Table) {
    let mut vgs = Table::new(&[("VG", Left), ("SIZE", Right), ("ALLOCATED", Right), ("FREE", Right), ("HEALTH", Left)]);
    for vg in &df.vgs {
        vgs.push([
            vg.vg.clone(),
            format.size(vg.size_bytes),
            format.size(vg.allocated_bytes),
            format.size(vg.free_bytes),
            vg.health.as_str().to_owned(),
        ]);
    }
    let mut pools = Table::new(&[
        ("POOL", Left),
        ("SIZE", Right),
        ("USED", Right),
        ("FREE", Right),
        ("USED%", Right),
        ("META%", Right),
        ("VIRTUAL", Right),
        ("OVER-COMMIT", Right),
        ("HEALTH", Left),
    ]);
    for pool in &df.pools {
        pools.push([
            format!("{}/{}", pool.vg, pool.pool),
            format.size(pool.size_bytes),
            format.size(pool.used_bytes),
            format.size(pool.free_bytes),
            percent_text(percent(pool.used_bytes, pool.size_bytes)),
            percent_text(percent(pool.metadata_used_bytes, pool.metadata_size_bytes)),
            format.size(pool.virtual_bytes),
            format!("{} of {} %", percent_text(Some(pool.overcommit_percent)), pool.overcommit_limit_percent),
            pool.health.as_str().to_owned(),
        ]);
    }
    (vgs, pools)
}

/// When a pool will be full; a guess has a question mark.
fn full_in(pool: &DfPool) -> String {
    let doubt = if pool.time_to_full_confidence.as_deref() == Some("low") { "?" } else { "" };
    pool.time_to_full_seconds.map_or("–".to_owned(), |seconds| time_text(seconds) + doubt)
}

/// The daemon, the VGs, the pools with a bar, the problems with their hints.
pub fn status_text(status: &Status, df: &Df, format: Format) -> String {
    let kernel = &status.kernel;
    let targets: Vec<_> = kernel.targets.iter().map(|target| format!("{} {}", target.name, target.version)).collect();
    let dm = kernel.dm_version.as_deref().map_or("no device-mapper".to_owned(), |v| format!("device-mapper {v}"));
    let reason = match (status.io_backend.as_str(), status.io_backend_reason.as_str()) {
        (name, "") if name.starts_with("io_uring") => String::new(),
        (_, "") => " (not io_uring, and the daemon does not say why)".to_owned(),
        (_, reason) => format!(" ({reason})"),
    };
    let counts = &status.counts;
    let mut head = Table::new(&[("", Left), ("", Left)]);
    for (key, value) in [
        (
            "volumed",
            format!(
                "{} on {}: {}, up since {}",
                status.version,
                status.host,
                status.health.as_str(),
                status.started_at
            ),
        ),
        ("I/O", format!("{}{reason}", status.io_backend)),
        ("kernel", [vec![kernel.release.clone(), dm], targets].concat().join(", ")),
        ("metrics", status.metrics_listen.as_ref().map_or("off".to_owned(), |at| format!("http://{at}/metrics"))),
        (
            "restart",
            match status.restart_needed.join(", ") {
                keys if keys.is_empty() => keys,
                keys => format!("needed: changed in the configuration was {keys}"),
            },
        ),
        (
            "objects",
            [
                count(counts.vgs, "VG"),
                count(counts.pvs, "PV"),
                count(counts.pools, "pool"),
                count(counts.volumes, "volume"),
                count(counts.snapshots, "snapshot"),
                format!("{} mounted", counts.mounted),
            ]
            .join(", "),
        ),
    ] {
        if !value.is_empty() {
            head.push([key.to_owned(), value]);
        }
    }
    let mut text = head.render(true);

    let mut vgs = Table::new(&[("VG", Left), ("SIZE", Right), ("FREE", Right), ("HEALTH", Left)]);
    for vg in &df.vgs {
        vgs.push([
            vg.vg.clone(),
            format.size(vg.size_bytes),
            format.size(vg.free_bytes),
            vg.health.as_str().to_owned(),
        ]);
    }
    let mut pools = Table::new(&[
        ("POOL", Left),
        ("SIZE", Right),
        ("", Left),
        ("USED", Right),
        ("META", Right),
        ("FULL IN", Right),
        ("VIRTUAL", Right),
        ("HEALTH", Left),
    ]);
    for pool in &df.pools {
        let used = percent(pool.used_bytes, pool.size_bytes);
        pools.push([
            format!("{}/{}", pool.vg, pool.pool),
            format.size(pool.size_bytes),
            bar(used),
            percent_text(used),
            percent_text(percent(pool.metadata_used_bytes, pool.metadata_size_bytes)),
            full_in(pool),
            format.size(pool.virtual_bytes),
            pool.health.as_str().to_owned(),
        ]);
    }
    for table in [vgs, pools].iter().filter(|table| !table.is_empty()) {
        text.push('\n');
        text.push_str(&table.render(format.no_headers));
    }

    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{}", if status.problems.is_empty() { "No problems." } else { "Problems:" });
    for problem in &status.problems {
        let _ = writeln!(text, "  {}: {}", clean(&problem.code), clean(&problem.message));
        if !problem.hint.is_empty() {
            let _ = writeln!(text, "    hint: {}", clean(&problem.hint));
        }
    }
    text
}

/// The steps of a plan, each with what it requires.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = format!("{}\n", clean(&plan.title));
    if !plan.changes {
        text.push_str("Nothing has to be done: it is already so.\n");
        return text;
    }
    let width = plan.steps.len().to_string().len();
    for step in &plan.steps {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:>width$}. {}", step.number, clean(&step.description));
        for requirement in &step.requires {
            let _ = writeln!(text, "  {:>width$}  requires: {}", "", clean(requirement));
        }
    }
    text
}
