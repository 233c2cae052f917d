//! The log: to the journal in its own protocol when standard error goes there, else lines on standard error, with colours for a
//! terminal and without for a file.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, Format, FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

mod journal;

/// Changes the filter of the log while it is written.
pub type SetFilter = Box<dyn Fn(&str) + Send + Sync>;

/// Starts the log with the filter of the configuration, which has been checked. What it returns changes the filter.
pub fn start(filter: &str) -> SetFilter {
    let parse = |filter: &str| EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let native = if goes_to_journal() { journal::Native::open(Path::new(journal::SOCKET)).ok() } else { None };
    let set: SetFilter;
    let started = if let Some(native) = native {
        // The default hook writes to standard error, which waits for a journal that is stuck.
        std::panic::set_hook(Box::new(|info| {
            tracing::error!(backtrace = %std::backtrace::Backtrace::capture(), "a thread failed: {info}");
        }));
        let (filter, handle) = reload::Layer::new(parse(filter));
        set = Box::new(move |filter| told(handle.reload(parse(filter))));
        tracing_subscriber::registry().with(filter).with(native).try_init()
    } else {
        let log = tracing_subscriber::fmt().with_env_filter(parse(filter)).with_writer(io::stderr);
        if std::env::var_os(JOURNAL_STREAM).is_some() {
            let inner = format::format().without_time().with_level(false).with_ansi(false);
            let log = log.with_ansi(false).event_format(Prioritized { inner }).with_filter_reloading();
            let handle = log.reload_handle();
            set = Box::new(move |filter| told(handle.reload(parse(filter))));
            log.finish().try_init()
        } else {
            let log = log.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
            let handle = log.reload_handle();
            set = Box::new(move |filter| told(handle.reload(parse(filter))));
            log.finish().try_init()
        }
    };
    if let Err(error) = started {
        eprintln!("volumed: the log was already started: {error}");
    }
    set
}

fn told(changed: Result<(), reload::Error>) {
    if let Err(error) = changed {
        tracing::warn!(%error, "the log goes on as it was");
    }
}

/// systemd sets it to the device and inode of the stream when output goes to the journal (`systemd.exec(5)`).
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Whether standard error is the stream that systemd made, and not redirected since.
fn goes_to_journal() -> bool {
    let Ok(named) = std::env::var(JOURNAL_STREAM) else { return false };
    let Ok(stat) = std::fs::metadata("/proc/self/fd/2") else { return false };
    named == format!("{}:{}", stat.st_dev(), stat.st_ino())
}

/// Lines that begin with `<N>`, the priority as the journal reads it (`sd-daemon(3)`).
struct Prioritized {
    inner: Format<format::Full, ()>,
}

impl<S, N> FormatEvent<S, N> for Prioritized
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.inner.format_event(context, writer, event)
    }
}

/// As syslog counts: error, warning, informational, debug.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}
