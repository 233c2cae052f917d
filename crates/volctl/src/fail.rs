//! A failure as a person reads it: `error: …`, details, `hint: …`, and the exit code that goes with it.

use std::fmt::Write as _;
use std::path::Path;

use vol_api::{ApiError, ClientError, ErrorCode};

use crate::exit;
use crate::render::clean;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: u8,
    /// Word for programs: the API's error code, or `unreachable`, `denied`, `timeout`, `protocol`, `volctl`.
    pub code: &'static str,
    pub message: String,
    pub details: Vec<String>,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: u8, message: impl Into<String>, hint: Option<&str>) -> Self {
        Self { exit, code: "volctl", message: message.into(), details: Vec::new(), hint: hint.map(str::to_owned) }
    }

    fn coded(code: &'static str, exit: u8, message: impl Into<String>, hint: Option<&str>) -> Self {
        Self { code, ..Self::new(exit, message, hint) }
    }

    /// As a program reads it: one line of JSON in the form of the API's own errors, with the exit code.
    pub fn json(&self) -> String {
        let body = serde_json::json!({"error": {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
            "exit_code": self.exit,
        }});
        format!("{body}\n")
    }

    /// The lines for standard error, each with its line end. Texts of others are shown without control characters.
    pub fn text(&self) -> String {
        let mut text = format!("error: {}\n", clean(&self.message));
        // Writing to a String cannot fail.
        for detail in &self.details {
            let _ = writeln!(text, "  {}", clean(detail));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {}", clean(hint));
        }
        text
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            exit: error.code.exit_code(),
            code: error.code.as_str(),
            message: error.message,
            details: error.details,
            hint: error.hint,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Api(error) => error.into(),
            ClientError::Unreachable { socket, source } => Self {
                exit: exit::UNREACHABLE,
                code: "unreachable",
                message: format!("{message} ({})", source.kind()),
                details: Vec::new(),
                hint: Some(start_hint(&socket)),
            },
            ClientError::Denied { .. } => Self::coded(
                "denied",
                exit::DENIED,
                message,
                Some("run volctl as root, or as a member of the group that the socket belongs to (default: volumed)"),
            ),
            ClientError::Timeout { .. } => Self::coded(
                "timeout",
                ErrorCode::Timeout.exit_code(),
                message,
                Some("a change may still be under way: look with volctl status, and see the daemon's log"),
            ),
            ClientError::Protocol { .. } => Self::coded(
                "protocol",
                exit::FAILURE,
                message,
                Some("is it the socket of volumed, and of the same release as volctl?"),
            ),
        }
    }
}

/// How to start the daemon, and for another socket than the usual one how to name the right one.
fn start_hint(socket: &Path) -> String {
    let start = "start it with `systemctl start volumed`, or run `volumed` as root";
    if socket == Path::new(vol_api::DEFAULT_SOCKET) {
        start.to_owned()
    } else {
        format!("{start}; if it listens elsewhere, name its socket with --socket or VOLUMED_SOCKET")
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_error_shows_its_details_and_its_hint() {
        let error = ApiError::new(ErrorCode::Refused, "/dev/sdb carries signatures")
            .with_details(vec!["ext4 at 1080, label \"\u{1b}[31mroot\"".to_owned()])
            .with_hint("--wipe destroys them");
        let failure = Failure::from(error);
        assert_eq!(failure.exit, 1);
        assert_eq!(
            failure.text(),
            "error: /dev/sdb carries signatures\n  ext4 at 1080, label \"\\u{1b}[31mroot\"\nhint: --wipe destroys them\n"
        );
    }

    #[test]
    fn a_program_gets_the_error_as_json() {
        let error =
            ApiError::new(ErrorCode::Exists, "there is a volume data/pg already").with_hint("choose another name");
        assert_eq!(
            Failure::from(error).json(),
            concat!(
                r#"{"error":{"code":"exists","details":[],"exit_code":5,"hint":"choose another name","#,
                r#""message":"there is a volume data/pg already"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_daemon_that_does_not_run_says_how_to_start_it() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        let failure = Failure::from(ClientError::Unreachable { socket: vol_api::DEFAULT_SOCKET.into(), source });
        assert_eq!(failure.exit, 8);
        assert_eq!(
            failure.text(),
            "error: volumed is not running: nothing answers at /run/volumed/control.sock (entity not found)\n\
             hint: start it with `systemctl start volumed`, or run `volumed` as root\n"
        );
    }

    #[test]
    fn a_closed_socket_is_denied() {
        assert_eq!(Failure::from(ClientError::Denied { socket: "/s".into() }).exit, 7);
    }
}
