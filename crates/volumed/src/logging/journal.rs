//! The journal's native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): one datagram for each line, with its fields.
//!
//! Nothing here waits. A journal that does not take a datagram at once, because it hangs or its disk is full, loses the line, and is
//! told how many it lost when it takes lines again. That is why this is not `tracing-journald`: its socket blocks.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::priority;
use crate::server::operation::LOG_TARGET;

/// Where the journal takes lines.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest value in bytes; the rest is cut off.
const VALUE_MAX: usize = 8 << 10;
/// The largest datagram in bytes: fields that would make it larger are left out. The kernel takes 200 KiB by default.
const DATAGRAM_MAX: usize = 64 << 10;

/// Lines for the journal.
#[derive(Debug)]
pub struct Native {
    socket: UnixDatagram,
    path: PathBuf,
    /// Lines that it did not take since the last one that it took.
    lost: AtomicU64,
}

impl Native {
    /// A log to the journal that listens at `path`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let native = Self { socket, path: path.to_owned(), lost: AtomicU64::new(0) };
        // An empty datagram means nothing, and fails if there is nobody.
        match native.send(&[]) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(native),
        }
    }

    /// By name each time: a journal that was restarted is found again.
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, &self.path).map(|_| ())
    }

    fn send_or_lose(&self, datagram: &[u8]) {
        if self.send(datagram).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let mut line = Line::new(Level::WARN, module_path!());
            line.field("VOLUMED_LOST", &lost.to_string());
            line.field("MESSAGE", &format!("{lost} lines of the log were lost: the journal did not take them"));
            if self.send(&line.bytes).is_err() {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Native {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about = event.metadata();
        let mut line = Line::new(*about.level(), about.target());
        if let (Some(file), Some(number)) = (about.file(), about.line()) {
            line.field("CODE_FILE", file);
            line.field("CODE_LINE", &number.to_string());
        }
        let mut fields = Fields { line: &mut line, message: String::new(), rest: String::new() };
        event.record(&mut fields);
        let Fields { mut message, rest, .. } = fields;
        // The line of an operation says in words what its fields say.
        if about.target() != LOG_TARGET {
            message.push_str(&rest);
        }
        line.field("MESSAGE", &message);
        self.send_or_lose(&line.bytes);
    }
}

/// A datagram as it is put together.
struct Line {
    bytes: Vec<u8>,
}

impl Line {
    fn new(level: Level, target: &str) -> Self {
        let mut line = Self { bytes: Vec::with_capacity(512) };
        line.field("PRIORITY", &priority(level).to_string());
        line.field("SYSLOG_IDENTIFIER", "volumed");
        line.field("TARGET", target);
        line
    }

    /// The form with a length, which any value may have. `name` is made of `A-Z0-9_`.
    fn field(&mut self, name: &str, value: &str) {
        let value = value.get(..floor_char_boundary(value, VALUE_MAX)).unwrap_or_default();
        if self.bytes.len().saturating_add(name.len()).saturating_add(value.len()) > DATAGRAM_MAX && name != "MESSAGE" {
            return;
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }
}

fn floor_char_boundary(text: &str, max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Collects the fields of an event, and what they are as text.
struct Fields<'a> {
    line: &'a mut Line,
    message: String,
    rest: String,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        // Writing to a String cannot fail.
        let _ = write!(self.rest, " {}={value}", field.name());
        let name: String = field.name().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        self.line.field(&format!("VOLUMED_{}", name.to_ascii_uppercase()), value);
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What a journal makes of a datagram.
    fn parse(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !bytes.is_empty() {
            let at = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            let name = String::from_utf8(bytes[..at].to_vec()).unwrap();
            let len = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
            let value = String::from_utf8(bytes[at + 9..at + 9 + len].to_vec()).unwrap();
            assert_eq!(bytes[at + 9 + len], b'\n');
            bytes = &bytes[at + 10 + len..];
            assert!(fields.insert(name, value).is_none());
        }
        fields
    }

    fn with_journal(test: impl FnOnce(&UnixDatagram, &mut dyn FnMut(&dyn Fn()))) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        assert!(Native::open(&path).is_err(), "nobody listens");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let log = tracing_subscriber::registry().with(Native::open(&path).unwrap());
        assert_eq!(journal.recv(&mut [0; 16]).unwrap(), 0, "the greeting is empty");
        let dispatch = tracing::Dispatch::new(log);
        test(&journal, &mut |work| tracing::dispatcher::with_default(&dispatch, work));
    }

    fn next(journal: &UnixDatagram) -> BTreeMap<String, String> {
        let mut buffer = vec![0; 1 << 20];
        let len = journal.recv(&mut buffer).unwrap();
        parse(&buffer[..len])
    }

    #[test]
    fn a_line_has_its_fields_and_cannot_be_forged_by_a_value() {
        with_journal(|journal, log| {
            log(&|| tracing::warn!(path = "/dev/sdb\nPRIORITY=0", count = 3, "it is\ngone"));
            let line = next(journal);
            assert_eq!(line["PRIORITY"], "4");
            assert_eq!(line["SYSLOG_IDENTIFIER"], "volumed");
            assert_eq!(line["VOLUMED_PATH"], "/dev/sdb\nPRIORITY=0");
            assert_eq!(line["VOLUMED_COUNT"], "3");
            assert_eq!(line["MESSAGE"], "it is\ngone path=/dev/sdb\nPRIORITY=0 count=3");
            log(&|| tracing::info!(target: LOG_TARGET, operation = "volume.create", "volume.create data/pg: changed"));
            let line = next(journal);
            assert_eq!((line["PRIORITY"].as_str(), line["VOLUMED_OPERATION"].as_str()), ("6", "volume.create"));
            assert_eq!(line["MESSAGE"], "volume.create data/pg: changed");
        });
    }

    #[test]
    fn a_journal_that_is_stuck_loses_lines_and_holds_up_nobody() {
        with_journal(|journal, log| {
            let begun = Instant::now();
            log(&|| (0..10_000).for_each(|number| tracing::info!(number, "a line")));
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
            journal.set_nonblocking(true).unwrap();
            let mut taken = 0;
            while journal.recv(&mut [0; 4096]).is_ok() {
                taken += 1;
            }
            assert!(taken < 10_000, "all of it fitted: nothing was stuck");
            log(&|| tracing::info!("it takes lines again"));
            assert_eq!(next(journal)["MESSAGE"], "it takes lines again");
            assert_eq!(next(journal)["VOLUMED_LOST"], (10_000 - taken).to_string());
        });
    }

    #[test]
    fn what_is_too_long_is_cut() {
        with_journal(|journal, log| {
            let long = "ä".repeat(100_000);
            log(
                &|| tracing::info!(a = %long, b = %long, c = %long, d = %long, e = %long, f = %long, g = %long, h = %long, "{long}"),
            );
            let line = next(journal);
            assert_eq!((line["VOLUMED_A"].len(), line["MESSAGE"].len()), (VALUE_MAX, VALUE_MAX));
            assert!(line.values().map(String::len).sum::<usize>() < DATAGRAM_MAX + VALUE_MAX);
        });
    }
}
