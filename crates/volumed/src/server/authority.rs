//! HTTP/2 over Unix sockets as clients of gRPC speak it: some send the path of the socket as `:authority` (the kubelet when it registers a
//! driver: kubernetes/kubernetes#109081), which is none, and for which `h2` resets the stream (hyperium/h2#487). Nothing here reads an
//! authority, so what a client sends is overwritten on its way in, byte by byte and without changing any length: the characters of the value by
//! `a`, the mark that they are Huffman codes by none (RFC 7541, 5.2). Later fields that refer to it find it so in the table of fields, where it
//! takes no more room than the client reckons with.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client sends before its first frame (RFC 9113, 3.4).
const PREFACE: usize = 24;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const FRAME_HEADER: usize = 9;
/// `:authority` in the static table.
const AUTHORITY: u64 = 1;
/// The same as text, and as Huffman codes (gRPC's C core writes it out).
const PLAIN: &[u8] = b":authority";
const HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// What the next byte of a block of fields belongs to (RFC 7541, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Begin,
    /// An integer goes on: its value so far, the shift of the next seven bits, and what follows it.
    Integer(u64, u32, After),
    /// The first byte of a string's length, and what the string is.
    Length(Part),
    /// So many bytes of a string.
    Text(u64, Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    /// An index of a name; zero: the name follows.
    Name,
    Text(Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Whether it is of Huffman codes, and how many of its bytes are those of `:authority` so far; `None`: it is another one.
    Name(bool, Option<usize>),
    Value,
    Authority,
}

/// Where in the stream the next byte is.
#[derive(Debug)]
struct Overwriter {
    preface: usize,
    header: [u8; FRAME_HEADER],
    /// Bytes of the header of a frame.
    has: usize,
    /// Bytes of the frame that are left.
    left: usize,
    /// Of those, first, what is no part of the block: the length of padding, a priority.
    skip: usize,
    /// The first of these has the length of the padding.
    padded: bool,
    /// Bytes of padding at the frame's end.
    padding: usize,
    is_block: bool,
    field: Field,
}

impl Overwriter {
    const fn new() -> Self {
        Self {
            preface: PREFACE,
            header: [0; FRAME_HEADER],
            has: 0,
            left: 0,
            skip: 0,
            padded: false,
            padding: 0,
            is_block: false,
            field: Field::Begin,
        }
    }

    fn bytes(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            // What is in no block is passed over as a whole.
            let in_frame = self.preface == 0 && self.left > 0;
            if in_frame && !self.is_block {
                let passed = rest.len().min(self.left);
                self.left -= passed;
                at += passed;
            } else if let [first, ..] = rest {
                self.byte(first);
                at += 1;
            }
        }
    }

    fn byte(&mut self, byte: &mut u8) {
        if self.preface > 0 {
            self.preface -= 1;
        } else if self.left == 0 {
            self.header_byte(*byte);
        } else {
            self.left -= 1;
            if self.skip > 0 {
                self.skip -= 1;
                if std::mem::take(&mut self.padded) {
                    self.padding = usize::from(*byte);
                }
            } else if self.left >= self.padding {
                self.field = next(self.field, byte);
            }
        }
    }

    fn header_byte(&mut self, byte: u8) {
        if let Some(place) = self.header.get_mut(self.has) {
            *place = byte;
        }
        self.has += 1;
        if self.has < FRAME_HEADER {
            return;
        }
        self.has = 0;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.left = (usize::from(high) << 16) | (usize::from(middle) << 8) | usize::from(low);
        self.is_block = kind == HEADERS || kind == CONTINUATION;
        let is = |flag: u8| kind == HEADERS && flags & flag != 0;
        self.padded = is(PADDED);
        self.padding = 0;
        self.skip = usize::from(self.padded) + if is(PRIORITY) { 5 } else { 0 };
        if kind == HEADERS {
            self.field = Field::Begin;
        }
    }
}

/// An integer with a prefix of so many bits (RFC 7541, 5.1): its value, if it ends with its first byte.
fn prefix(byte: u8, bits: u32) -> Result<u64, u64> {
    let most = (1u64 << bits) - 1;
    let value = u64::from(byte) & most;
    if value < most { Ok(value) } else { Err(value) }
}

fn after(value: u64, after: After) -> Field {
    match after {
        After::Nothing => Field::Begin,
        After::Name if value == 0 => Field::Length(Part::Name(false, Some(0))),
        After::Name if value == AUTHORITY => Field::Length(Part::Authority),
        After::Name => Field::Length(Part::Value),
        After::Text(part) => text(value, part),
    }
}

/// `:authority` as it may be written out.
const fn name(huffman: bool) -> &'static [u8] {
    if huffman { HUFFMAN } else { PLAIN }
}

/// So many bytes of a string are left.
const fn text(len: u64, part: Part) -> Field {
    match (len, part) {
        (0, Part::Name(huffman, Some(same))) if same == name(huffman).len() => Field::Length(Part::Authority),
        (0, Part::Name(..)) => Field::Length(Part::Value),
        (0, _) => Field::Begin,
        _ => Field::Text(len, part),
    }
}

fn next(field: Field, byte: &mut u8) -> Field {
    let integer = |byte: u8, bits: u32, then: After| match prefix(byte, bits) {
        Ok(value) => after(value, then),
        Err(value) => Field::Integer(value, 0, then),
    };
    match field {
        Field::Begin => match *byte {
            0x80.. => integer(*byte, 7, After::Nothing),
            0x40.. => integer(*byte, 6, After::Name),
            0x20.. => integer(*byte, 5, After::Nothing),
            _ => integer(*byte, 4, After::Name),
        },
        Field::Integer(value, shift, then) => {
            let more = u64::from(*byte & 0x7f).checked_shl(shift).unwrap_or(u64::MAX);
            let value = value.saturating_add(more);
            if *byte & 0x80 != 0 { Field::Integer(value, shift.saturating_add(7), then) } else { after(value, then) }
        }
        Field::Length(part) => {
            let part = match part {
                Part::Name(..) => Part::Name(*byte & 0x80 != 0, Some(0)),
                other => other,
            };
            if part == Part::Authority {
                *byte &= 0x7f;
            }
            integer(*byte, 7, After::Text(part))
        }
        Field::Text(left, part) => {
            let part = match part {
                Part::Name(huffman, Some(same)) if name(huffman).get(same) == Some(byte) => {
                    Part::Name(huffman, Some(same + 1))
                }
                Part::Name(huffman, _) => Part::Name(huffman, None),
                other => other,
            };
            if part == Part::Authority {
                *byte = b'a';
            }
            text(left - 1, part)
        }
    }
}

/// A connection whose client's authorities are overwritten.
#[derive(Debug)]
pub struct AnyAuthority<S> {
    stream: S,
    overwriter: Overwriter,
}

impl<S> AnyAuthority<S> {
    pub const fn new(stream: S) -> Self {
        Self { stream, overwriter: Overwriter::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(new) = buf.filled_mut().get_mut(before..) {
            self.overwriter.bytes(new);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = payload.len();
        let mut all = vec![(len >> 16) as u8, (len >> 8) as u8, len as u8, kind, flags, 0, 0, 0, 1];
        all.extend(payload);
        all
    }

    /// Whatever the pieces are in which it comes.
    fn overwritten(sent: &[u8], pieces: usize) -> Vec<u8> {
        let mut overwriter = Overwriter::new();
        let mut all = sent.to_vec();
        all.chunks_mut(pieces).for_each(|piece| overwriter.bytes(piece));
        all
    }

    #[test]
    fn the_value_of_an_authority_alone_is_overwritten_wherever_frames_and_reads_are_cut() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let path = b"/run/volumed/csi.sock";
        let long = vec![b'%'; 300];
        // Method, scheme, a path, the authority, a new name; a size update; a value that is never indexed; the authority again.
        let mut block = vec![0x83, 0x86, 0x44, 3, b'/', b'a', b'%', 0x41, 0x80 | path.len() as u8];
        block.extend(path);
        block.extend([0x40, 2, b't', b'e', 8]);
        block.extend(b"trailers");
        block.extend([0x3f, 0xe1, 0x1f, 0x10, 1, b'x', 0, 0xbe, 0x11, 0x7f, 0xad, 0x01]);
        block.extend(&long);
        block.extend([0x41, 0, 0x88]);
        let mut wanted = block.clone();
        let at = wanted.windows(path.len()).position(|part| part == path).unwrap();
        wanted[at..at + path.len()].fill(b'a');
        wanted[at - 1] &= 0x7f;
        let at = wanted.windows(long.len()).position(|part| part == long).unwrap();
        wanted[at..at + long.len()].fill(b'a');
        let stream = |block: &[u8]| {
            let (one, rest) = block.split_at(12);
            let (two, three) = rest.split_at(7);
            let mut padded = vec![2, 0, 0, 0, 0, 16];
            padded.extend(one);
            padded.extend([0x41, 0x41]);
            let settings = frame(4, 0, &[0, 3, 0, 0, 0, 100]);
            let data = frame(0, 1, &[0x41, 5, b'/', b'/', b'/', b'/', b'/']);
            let parts = [
                preface.clone(),
                settings,
                frame(HEADERS, PADDED | PRIORITY, &padded),
                frame(CONTINUATION, 0, two),
                frame(CONTINUATION, 4, three),
                data,
            ];
            parts.concat()
        };
        for pieces in [1, 2, 3, 7, 64, 4096] {
            assert_eq!(overwritten(&stream(&block), pieces), stream(&wanted), "{pieces}");
        }
    }

    #[test]
    fn a_name_that_is_written_out_is_known_as_text_and_as_codes() {
        for (mark, name) in [(0, PLAIN), (0x80, HUFFMAN)] {
            for (begin, known) in [(0x40, true), (0x00, true), (0x10, true), (0x40, false)] {
                let mut text = name.to_vec();
                if !known {
                    *text.last_mut().unwrap() ^= 1;
                }
                let mut block = vec![0x83, begin, mark | name.len() as u8];
                block.extend(&text);
                block.extend([0x85, b'/', b'r', b'u', b'n', b'/', 0x86]);
                let mut wanted = block.clone();
                if known {
                    let at = block.len() - 7;
                    wanted[at] = 5;
                    wanted[at + 1..at + 6].fill(b'a');
                }
                let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
                let stream = |block: &[u8]| [preface.clone(), frame(HEADERS, 4, block)].concat();
                assert_eq!(overwritten(&stream(&block), 3), stream(&wanted), "{mark} {begin} {known}");
            }
        }
    }

    #[test]
    fn nothing_that_is_sent_makes_it_panic_or_changes_a_length() {
        let mut seed = 1u64;
        for _ in 0..2000 {
            let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            for _ in 0..200 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                sent.push((seed >> 33) as u8);
            }
            assert_eq!(overwritten(&sent, 5).len(), sent.len());
        }
    }
}
