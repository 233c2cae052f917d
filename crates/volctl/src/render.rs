//! Answers as text for people: tables, facts and the whole picture. Pure: data in, text out.
//!
//! Every text that comes from elsewhere passes [`clean`] before it reaches a terminal.

mod doctor;
mod fact;
mod list;
mod refs;
mod table;
#[cfg(test)]
mod tests;
mod usage;
mod watch;
mod whole;

pub use doctor::doctor_text;
pub use fact::{place_text, pool_facts, pv_facts, snapshot_facts, vg_facts, volume_facts};
pub use list::{deleted_table, pool_table, pv_table, snapshot_table, vg_table, volume_table};
pub use refs::{refs_table, runtime_df_text, unneeded_table};
pub use table::{Align, Table};
pub use usage::{map_text, pool_usage_text, segments_text, volume_usage_text};
pub use watch::{event_line, job_facts, job_progress, job_table};
pub use whole::{df_tables, plan_text, status_text};

use vol_api::{Health, MountInfo, ObjectState};
use vol_types::Bytes;

/// What is not known.
pub const UNKNOWN: &str = "–";

/// How sizes and heads are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Sizes as plain numbers of bytes.
    pub bytes: bool,
    /// Tables without their head.
    pub no_headers: bool,
}

impl Format {
    /// A size, or "–".
    pub fn size(self, bytes: impl Into<Option<u64>>) -> String {
        match bytes.into() {
            None => UNKNOWN.to_owned(),
            Some(bytes) if self.bytes => bytes.to_string(),
            Some(bytes) => Bytes(bytes).to_string(),
        }
    }
}

/// `text` with control characters and the marks that turn the direction of writing shown as `\u{…}`, so that a name
/// or a label cannot steer the terminal or forge a line.
pub fn clean(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// Rounded to the nearest percent; `None` when either is unknown or the whole is nothing.
fn percent(part: Option<u64>, whole: u64) -> Option<u64> {
    let (part, whole) = (u128::from(part?), u128::from(whole));
    (part * 100 + whole / 2).checked_div(whole).and_then(|percent| u64::try_from(percent).ok())
}

fn percent_text(percent: Option<u64>) -> String {
    percent.map_or_else(|| UNKNOWN.to_owned(), |percent| format!("{percent} %"))
}

fn or_unknown(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or(UNKNOWN).to_owned()
}

/// `ok`, `degraded`, `failed`, or for what is not ready its state.
fn condition(state: ObjectState, health: Health) -> String {
    if state == ObjectState::Ready { health.as_str() } else { state.as_str() }.to_owned()
}

fn mounts_text(mounts: &[MountInfo]) -> String {
    if mounts.is_empty() {
        return UNKNOWN.to_owned();
    }
    let text = |mount: &MountInfo| if mount.read_only { format!("{} (ro)", mount.path) } else { mount.path.clone() };
    mounts.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// `1 volume`, `2 volumes`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
