//! A request that will not be carried out, and why, in words for the person who made it.

/// What kind of refusal, to branch on; front ends map it to their own codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The request itself makes no sense.
    Invalid,
    NotFound,
    Exists,
    /// In use.
    Busy,
    NoSpace,
    /// It would destroy or endanger something.
    Refused,
    /// What it is about is damaged or incomplete.
    Degraded,
}

/// Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: RefusalCode,
    /// What is wrong, and where.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Refusal {
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Invalid, message)
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::NotFound, message)
    }
    pub fn exists(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Exists, message)
    }
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Busy, message)
    }
    pub fn no_space(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::NoSpace, message)
    }
}
