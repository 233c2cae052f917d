//! What a change answers: what was done, or for `?dry_run=true` the plan that would be executed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A change that was carried out, or was already so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ChangeOf{T}")]
pub struct Outcome<T> {
    /// False when everything was already as asked for: the same request twice is one effect.
    pub changed: bool,
    /// The object after the change; for a deletion the object as it was, `null` if it was not there.
    pub object: Option<T>,
    /// What is not as it should be although the change was done, for example a PV that missed it.
    pub warnings: Vec<String>,
}

impl<T> Outcome<T> {
    /// A change that was carried out without warnings.
    pub fn changed(object: T) -> Self {
        Self { changed: true, object: Some(object), warnings: Vec::new() }
    }
    /// Nothing had to be done.
    pub fn unchanged(object: Option<T>) -> Self {
        Self { changed: false, object, warnings: Vec::new() }
    }
}

/// The very plan that would run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// One line: what the plan is for.
    pub title: String,
    /// False when nothing has to be done.
    pub changes: bool,
    pub steps: Vec<PlanStep>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanStep {
    /// 1 for the first step.
    pub number: u32,
    /// Stable word for programs, for example `wipe_signatures`.
    pub action: String,
    /// The step in words, with its object.
    pub description: String,
    /// What must be true right before the step, in words; the step is not taken otherwise.
    pub requires: Vec<String>,
}

/// The answer of a changing endpoint: an [`Outcome`], or a [`Plan`] if a dry run was asked for.
///
/// On the wire it is the one or the other, without a wrapper: who asked knows which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Changed<T> {
    Done(Outcome<T>),
    Planned(Plan),
}
