//! Questions to the person at the terminal, behind a trait so that tests can answer them.

use std::io::{self, BufRead, IsTerminal, Write};

/// Who answers questions.
pub trait Dialog {
    /// Whether there is somebody to ask.
    fn is_interactive(&self) -> bool;
    /// Shows `question` and returns the answer without its line end; an empty text at the end of input.
    ///
    /// # Errors
    /// The terminal cannot be read or written.
    fn ask(&mut self, question: &str) -> io::Result<String>;
}

/// The person at standard input; questions go to standard error, so that standard output holds answers only.
#[derive(Debug, Default)]
pub struct Terminal;

impl Dialog for Terminal {
    fn is_interactive(&self) -> bool {
        io::stdin().is_terminal()
    }

    fn ask(&mut self, question: &str) -> io::Result<String> {
        let mut stderr = io::stderr();
        write!(stderr, "{question}")?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(answer.trim_end_matches(['\n', '\r']).to_owned())
    }
}
