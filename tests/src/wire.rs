//! The control API spoken from scratch: what a test says and hears shares no code with the product.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The longest that a change may take in a test.
const PATIENCE: Duration = Duration::from_secs(300);

/// One request: HTTP status and body. `body` is empty for none.
///
/// # Errors
/// Nobody answers, the daemon dies before it has answered, or the answer is no HTTP with JSON.
pub fn request(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} /v1/{path} HTTP/1.1\r\nhost: volumed\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer)
}

/// Status and JSON of an answer with a content length.
fn parse(answer: &[u8]) -> io::Result<(u16, Value)> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::UnexpectedEof, format!("the answer has no {what}"));
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| broken("end of its head"))?;
    let (head, body) = answer.split_at(end);
    let body = body.get(4..).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| broken("status"))?;
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let body = body.get(..length.unwrap_or(body.len())).ok_or_else(|| broken("whole body"))?;
    if body.is_empty() {
        return Ok((status, Value::Null));
    }
    let json = serde_json::from_slice(body).map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
    Ok((status, json))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_answer_is_taken_apart_and_a_cut_one_is_an_error() {
        let whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
        assert_eq!(super::parse(whole).unwrap(), (404, serde_json::json!({"a": 1})));
        assert!(super::parse(&whole[..whole.len() - 1]).is_err());
        assert!(super::parse(&whole[..20]).is_err());
        assert!(super::parse(b"").is_err());
    }
}
