//! A client of the control API that keeps its connection, as an agent does, or makes a new one for each request, as `volctl` does. It
//! shares no code with the product.

use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The longest that a change may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Whether a connection serves more than one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    Kept,
    OneForEach,
}

/// Clients of one socket, for any number of threads.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    how: Connections,
    idle: Mutex<Vec<BufReader<UnixStream>>>,
}

impl Client {
    pub fn new(socket: &Path, how: Connections) -> Self {
        Self { socket: socket.to_owned(), how, idle: Mutex::default() }
    }

    /// One request that must be granted; what was answered.
    ///
    /// # Errors
    /// Nobody answers, what is answered is no HTTP, or it is a refusal: that is told.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.request(method, path, body).with_context(|| format!("{method} {path}"))?;
        ensure!(status < 300, "{method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// One request: status and answer.
    ///
    /// # Errors
    /// Nobody answers, or what is answered is no HTTP.
    pub fn request(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let (status, bytes) = self.bytes(method, path, body)?;
        let answer = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
        Ok((status, answer))
    }

    /// One request: status and answer, as it came.
    ///
    /// # Errors
    /// Nobody answers, or what is answered is no HTTP.
    pub fn bytes(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Vec<u8>)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let connection = if self.how == Connections::Kept { "keep-alive" } else { "close" };
        let text = format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: volumed\r\nconnection: {connection}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // What was kept may have been closed meanwhile. Asked twice, volumed does a thing once.
        if let Some(answer) = kept.and_then(|stream| self.exchange(stream, &text).ok()) {
            return Ok(answer);
        }
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        self.exchange(BufReader::new(stream), &text)
    }

    fn exchange(&self, mut stream: BufReader<UnixStream>, text: &str) -> Result<(u16, Vec<u8>)> {
        stream.get_mut().write_all(text.as_bytes())?;
        let (status, length) = head_of(&mut stream)?;
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes)?;
        if self.how == Connections::Kept {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
        Ok((status, bytes))
    }
}

/// Status and length of an answer, up to its body.
fn head_of(stream: &mut impl std::io::BufRead) -> Result<(u16, usize)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).context("an answer without a status")?;
    let mut length = None;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            bail!("an answer without the end of its head");
        }
        let field = line.trim_end();
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').unwrap_or((field, ""));
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        }
    }
    Ok((status, length.context("an answer without a length")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_and_not_a_byte_more() {
        let mut answer: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nx: y\r\n\r\n{}HTTP/1.1 200";
        assert_eq!(head_of(&mut answer).unwrap(), (201, 2));
        assert_eq!(answer, b"{}HTTP/1.1 200");
        assert!(head_of(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]).is_err());
        assert!(head_of(&mut &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"[..]).is_err());
        assert!(head_of(&mut &b""[..]).is_err());
    }
}
