//! The one line between xtask on the host and its agent in the guest: frames on a byte stream (a raw serial line or a virtio port),
//! so that standard output, standard error, standard input and the exit code never mix, with each other or with the kernel's console.

use std::io::{self, Read, Write};

/// Largest payload of a frame.
pub const MAX: usize = 4096;
/// Largest piece of standard input, sent only when the one before was taken: so a serial line's 4 KiB input buffer never fills. When
/// it does, UML's driver throttles, and now and then never comes back (seen in 2 of 48 runs that sent 1 MB on a busy machine).
pub const MAX_IN: usize = 2048;
const MAGIC: u8 = 0xA7;

/// What one side tells the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Guest: the agent runs, the devices are there, the daemon (if asked for) answers.
    Ready,
    /// Guest: the lab could not be brought up; why.
    Fail(String),
    /// Guest: bytes of the command's standard output.
    Stdout(Vec<u8>),
    /// Guest: bytes of the command's standard error.
    Stderr(Vec<u8>),
    /// Guest: the command ended and everything it wrote was sent before this.
    Exit(i32),
    /// Guest: the last `Stdin` frame was taken; the next may come.
    Taken,
    /// Host: bytes for the command's standard input, at most `MAX_IN`; empty means end of input.
    Stdin(Vec<u8>),
    /// Host: the terminal's rows and columns.
    Resize(u16, u16),
}

impl Frame {
    /// The bytes on the line: magic, kind, length (u16, little-endian), payload.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body): (u8, Vec<u8>) = match self {
            Frame::Ready => (b'r', vec![]),
            Frame::Taken => (b't', vec![]),
            Frame::Fail(text) => (b'f', text.as_bytes()[..text.len().min(MAX)].to_vec()),
            Frame::Stdout(bytes) => (b'o', bytes.clone()),
            Frame::Stderr(bytes) => (b'e', bytes.clone()),
            Frame::Exit(code) => (b'x', code.to_le_bytes().to_vec()),
            Frame::Stdin(bytes) => (b'i', bytes.clone()),
            Frame::Resize(rows, cols) => (b'w', [rows.to_le_bytes(), cols.to_le_bytes()].concat()),
        };
        assert!(body.len() <= MAX, "a frame's payload is at most {MAX} bytes");
        let mut out = vec![MAGIC, kind];
        out.extend((body.len() as u16).to_le_bytes());
        out.extend(body);
        out
    }

    /// Writes the frame in one piece.
    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.encode())?;
        to.flush()
    }

    /// Reads the next frame; `None` at the end of the stream. Bytes before a magic byte (a serial line's start-up noise) are passed over.
    pub fn receive(from: &mut impl Read) -> io::Result<Option<Frame>> {
        let mut byte = [0u8];
        loop {
            if from.read(&mut byte)? == 0 {
                return Ok(None);
            }
            if byte[0] == MAGIC {
                break;
            }
        }
        let mut head = [0u8; 3];
        let mut body = [0u8; MAX];
        let len = match from.read_exact(&mut head) {
            Ok(()) => u16::from_le_bytes([head[1], head[2]]) as usize,
            Err(err) => return end_or(err),
        };
        if len > MAX {
            return Err(io::Error::other("the line to the guest carries something that is no frame"));
        }
        let body = &mut body[..len];
        if let Err(err) = from.read_exact(body) {
            return end_or(err);
        }
        let frame = match (head[0], &*body) {
            (b'r', _) => Frame::Ready,
            (b't', _) => Frame::Taken,
            (b'f', text) => Frame::Fail(String::from_utf8_lossy(text).into_owned()),
            (b'o', bytes) => Frame::Stdout(bytes.to_vec()),
            (b'e', bytes) => Frame::Stderr(bytes.to_vec()),
            (b'x', &[a, b, c, d]) => Frame::Exit(i32::from_le_bytes([a, b, c, d])),
            (b'i', bytes) => Frame::Stdin(bytes.to_vec()),
            (b'w', &[a, b, c, d]) => Frame::Resize(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])),
            _ => return Err(io::Error::other("the line to the guest carries a frame of an unknown kind")),
        };
        Ok(Some(frame))
    }
}

fn end_or(err: io::Error) -> io::Result<Option<Frame>> {
    if err.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(err) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_comes_back() {
        let frames = [
            Frame::Ready,
            Frame::Taken,
            Frame::Fail("no udev".into()),
            Frame::Stdout((0..=255).collect()),
            Frame::Stderr(vec![0; MAX]),
            Frame::Exit(-7),
            Frame::Stdin(vec![]),
            Frame::Resize(24, 80),
        ];
        let mut line = b"noise".to_vec();
        for frame in &frames {
            frame.send(&mut line).unwrap();
        }
        let mut from = line.as_slice();
        for frame in &frames {
            assert_eq!(Frame::receive(&mut from).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(Frame::receive(&mut from).unwrap(), None);
    }

    #[test]
    fn a_cut_line_ends_and_garbage_is_refused() {
        let whole = Frame::Stdout(b"hello".to_vec()).encode();
        for cut in 0..whole.len() {
            assert_eq!(Frame::receive(&mut &whole[..cut]).unwrap(), None);
        }
        assert!(Frame::receive(&mut [MAGIC, b'?', 0, 0].as_slice()).is_err());
        assert!(Frame::receive(&mut [MAGIC, b'o', 0xff, 0xff].as_slice()).is_err());
    }
}
