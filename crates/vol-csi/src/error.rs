//! Errors as gRPC has them. What an orchestrator does next hangs on the code: some end a provisioning for good, one makes it choose
//! another node, some are asked again.

use tonic::{Code, Status};
use vol_api::{ApiError, ErrorCode};

/// Why a request was not done, with the code that its client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    pub error: ApiError,
}

impl Refused {
    pub const fn new(code: Code, error: ApiError) -> Self {
        Self { code, error }
    }
    /// `INVALID_ARGUMENT`.
    pub fn invalid(message: impl Into<String>) -> Self {
        ApiError::invalid(message).into()
    }
    /// `NOT_FOUND`.
    pub fn not_found(message: impl Into<String>) -> Self {
        ApiError::not_found(message).into()
    }
    /// `ALREADY_EXISTS`: something of that name, or at that place, is not what is asked for.
    pub fn exists(message: impl Into<String>) -> Self {
        ApiError::new(ErrorCode::Exists, message).into()
    }
    /// `FAILED_PRECONDITION`: it would be another request's turn first.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, ApiError::new(ErrorCode::Refused, message))
    }
    /// `OUT_OF_RANGE`: no volume has such a size.
    pub fn out_of_range(message: impl Into<String>) -> Self {
        Self::new(Code::OutOfRange, ApiError::invalid(message))
    }
    /// The same with a hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { error: self.error.with_hint(hint), ..self }
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        let code = match error.code {
            ErrorCode::Invalid => Code::InvalidArgument,
            ErrorCode::NotFound => Code::NotFound,
            ErrorCode::Exists => Code::AlreadyExists,
            // It is worked on: to be asked again, and nothing has failed.
            ErrorCode::Busy => Code::Aborted,
            // A provisioner chooses another node then.
            ErrorCode::NoSpace => Code::ResourceExhausted,
            ErrorCode::Denied => Code::PermissionDenied,
            ErrorCode::Refused | ErrorCode::Degraded | ErrorCode::Unsupported => Code::FailedPrecondition,
            ErrorCode::Timeout => Code::DeadlineExceeded,
            ErrorCode::NotReady => Code::Unavailable,
            ErrorCode::Io | ErrorCode::Internal => Code::Internal,
        };
        Self { code, error }
    }
}

impl From<Refused> for Status {
    /// All that helps in one text, for nothing else is shown to people.
    fn from(refused: Refused) -> Self {
        let Refused { code, error } = refused;
        let mut text = error.message;
        for more in error.details.iter().chain(error.hint.as_ref()) {
            text.push_str("; ");
            text.push_str(more);
        }
        if text.is_empty() {
            text.push_str(error.code.as_str());
        }
        Self::new(code, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_with_a_message() {
        for code in ErrorCode::ALL {
            let status = Status::from(Refused::from(ApiError::new(code, "")));
            assert!(status.code() != Code::Ok && !status.message().is_empty() && status.details().is_empty(), "{code}");
        }
        let status = Status::from(Refused::from(ApiError::invalid("a").with_details(vec!["b".into()]).with_hint("c")));
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "a; b; c"));
    }
}
