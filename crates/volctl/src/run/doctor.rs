//! `volctl doctor`.

use vol_api::Level;

use super::{Run, Session};
use crate::cli::Output;
use crate::doctor::Machine;
use crate::exit;
use crate::render::doctor_text;

/// Exit code 1 for a problem, 10 for a warning.
pub async fn run(session: &mut Session<'_>) -> Run {
    let doctor = Machine::this().examine(&session.client).await;
    match session.output {
        Output::Json => session.print_json(&doctor)?,
        Output::Name => {
            let bad = doctor.findings.iter().filter(|finding| finding.level >= Level::Warning);
            session.print_names(bad.map(|finding| finding.check.clone()))?;
        }
        Output::Table => session.print(&doctor_text(&doctor, session.quiet))?,
    }
    Ok(match doctor.level {
        Level::Ok | Level::Note => exit::OK,
        Level::Warning => exit::WARNINGS,
        Level::Problem => exit::FAILURE,
    })
}
