//! What all changes share: questions before, plan or outcome after.

use serde::Serialize;
use vol_api::{Changed, Outcome, Plan};

use super::{Run, Session};
use crate::cli::Output;
use crate::render::{clean, plan_text};
use crate::{Failure, exit};

/// What to ask before something is destroyed.
pub enum Question {
    /// y/N.
    YesNo(String),
    /// The name must be typed; the text says of what and what follows.
    TypeName { what: String, name: String },
}

impl Session<'_> {
    /// Asks `question`; `plan` is shown before it if given.
    ///
    /// # Errors
    /// [`exit::DECLINED`] for any other answer than yes, and when there is nobody to ask.
    pub(super) fn confirm(&mut self, plan: Option<&Plan>, question: &Question) -> Result<(), Failure> {
        if let Some(plan) = plan {
            self.say(&plan_text(plan));
        }
        if !self.dialog.is_interactive() {
            let message = "this destroys data, and there is no terminal to ask at";
            return Err(Failure::new(
                exit::DECLINED,
                message,
                Some("give --yes if you mean it, --dry-run to see the plan"),
            ));
        }
        let text = match question {
            Question::YesNo(what) => format!("{} [y/N] ", clean(what)),
            Question::TypeName { what, name } => format!("{} Type its name ({name}) to go on: ", clean(what)),
        };
        let answer = self
            .dialog
            .ask(&text)
            .map_err(|error| Failure::new(exit::DECLINED, format!("cannot ask: {error}"), Some("give --yes")))?;
        let agreed = match question {
            Question::YesNo(_) => matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"),
            Question::TypeName { name, .. } => answer.trim() == name,
        };
        if agreed { Ok(()) } else { Err(Failure::new(exit::DECLINED, "declined: nothing was changed", None)) }
    }

    /// Shows what came of a change: the plan of a dry run, or the outcome with `line` as its summary. Several names have a line each.
    pub(super) fn report<T: Serialize>(
        &mut self,
        changed: &Changed<T>,
        name: String,
        line: impl FnOnce(&Outcome<T>) -> String,
    ) -> Run {
        let outcome = match changed {
            Changed::Planned(plan) => {
                match self.output {
                    Output::Json => self.print_json(plan)?,
                    Output::Table | Output::Name => self.print(&plan_text(plan))?,
                }
                return Ok(exit::OK);
            }
            Changed::Done(outcome) => outcome,
        };
        match self.output {
            Output::Json => self.print_json(outcome)?,
            Output::Name => self.print_names(name.lines().map(str::to_owned))?,
            Output::Table if self.quiet => {}
            Output::Table => {
                let line = clean(&line(outcome));
                self.print(&format!("{line}\n"))?;
            }
        }
        for warning in &outcome.warnings {
            self.say(&format!("warning: {}\n", clean(warning)));
        }
        Ok(if outcome.warnings.is_empty() { exit::OK } else { exit::WARNINGS })
    }
}

/// The plan that a dry run answered. The client answers an outcome only when none was asked for.
pub fn plan_of<T>(changed: Changed<T>) -> Option<Plan> {
    match changed {
        Changed::Planned(plan) => Some(plan),
        Changed::Done(_) => None,
    }
}

/// `done` when something changed, else that it was so already.
pub fn line(what: &str, changed: bool, done: &str, already: &str, next: &str) -> String {
    let said = if changed { done } else { already };
    if next.is_empty() { format!("{what} {said}.") } else { format!("{what} {said}. {next}") }
}
