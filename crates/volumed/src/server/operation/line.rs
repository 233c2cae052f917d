//! The line that the log has of each operation.

use tracing::Level;
use vol_api::ErrorCode;

use super::{Finished, Outcome};

/// The target of the lines, for filters: `log = "info,volumed::operation=debug"` shows reads too.
pub const LOG_TARGET: &str = "volumed::operation";
/// The longest message of an error in the log.
const MESSAGE_MAX_CHARS: usize = 1000;

/// `text` with control characters escaped, so that nobody writes lines of the log for us, and cut to `max` characters.
pub fn printable(text: &str, max: usize) -> String {
    let mut safe: String = text
        .chars()
        .take(max.saturating_add(1))
        .flat_map(|c| -> Box<dyn Iterator<Item = char>> {
            if c.is_control() { Box::new(c.escape_default()) } else { Box::new(std::iter::once(c)) }
        })
        .collect();
    if let Some((cut, _)) = safe.char_indices().nth(max) {
        safe.truncate(cut);
        safe.pop();
        safe.push('…');
    }
    safe
}

/// Changes at info, reads at debug; what is a defect of ours is an error. Who has no role may not fill the log.
fn level(operation: &Finished) -> Level {
    match operation.outcome {
        Outcome::Failed { code: ErrorCode::Internal, .. } => Level::ERROR,
        _ if operation.who.role.is_none() => Level::DEBUG,
        Outcome::Failed { code: ErrorCode::Denied, .. } => Level::INFO,
        _ if operation.is_change => Level::INFO,
        _ => Level::DEBUG,
    }
}

/// Writes the line. Its fields are those of docs/logging.md.
pub fn log(operation: &Finished) {
    macro_rules! line {
        ($level:expr) => {{
            let Finished { what, who, outcome, took, .. } = operation;
            let ms = |time: &std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let object = operation.object.as_deref();
            let error = match outcome {
                Outcome::Failed { message, .. } => Some(printable(message, MESSAGE_MAX_CHARS)),
                _ => None,
            };
            let (space, about) = object.map_or(("", ""), |object| (" ", object));
            let (colon, why) = error.as_deref().map_or(("", ""), |error| (": ", error));
            let dry = if operation.dry_run && *outcome != Outcome::Planned { " (dry run)" } else { "" };
            tracing::event!(
                target: LOG_TARGET,
                $level,
                operation = what,
                operation_id = %operation.id,
                object,
                uid = who.uid,
                role = who.role.map_or("none", |role| role.as_str()),
                pid = who.pid,
                dry_run = operation.dry_run,
                outcome = outcome.word(),
                warnings = outcome.warnings(),
                duration_ms = ms(took),
                waited_ms = operation.waited.as_ref().map(ms),
                late = operation.late,
                "{what}{space}{about} by uid {}: {}{dry}{colon}{why} ({} ms)",
                who.uid,
                outcome.word(),
                ms(took),
            );
        }};
    }
    match level(operation) {
        Level::ERROR => line!(Level::ERROR),
        Level::INFO => line!(Level::INFO),
        _ => line!(Level::DEBUG),
    }
}
