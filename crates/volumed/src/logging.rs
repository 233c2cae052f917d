//! The log, on standard error: with priorities for the journal, with colours for a terminal, with neither for a file.

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, Format, FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Changes the filter of the log while it is written.
pub type SetFilter = Box<dyn Fn(&str) + Send + Sync>;

/// Starts the log with the filter of the configuration, which has been checked. What it returns changes the filter.
pub fn start(filter: &str) -> SetFilter {
    let parse = |filter: &str| EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(parse(filter)).with_writer(io::stderr);
    // systemd sets JOURNAL_STREAM when standard error goes to the journal (`systemd.exec(5)`).
    let set: SetFilter;
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        let inner = format::format().without_time().with_level(false).with_ansi(false);
        let log = log.with_ansi(false).event_format(Journal { inner }).with_filter_reloading();
        let handle = log.reload_handle();
        set = Box::new(move |filter| told(handle.reload(parse(filter))));
        log.try_init()
    } else {
        let log = log.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
        let handle = log.reload_handle();
        set = Box::new(move |filter| told(handle.reload(parse(filter))));
        log.try_init()
    };
    if let Err(error) = started {
        eprintln!("volumed: the log was already started: {error}");
    }
    set
}

fn told(changed: Result<(), tracing_subscriber::reload::Error>) {
    if let Err(error) = changed {
        tracing::warn!(%error, "the log goes on as it was");
    }
}

/// Lines that begin with `<N>`, the priority as the journal reads it (`sd-daemon(3)`).
struct Journal {
    inner: Format<format::Full, ()>,
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writer.write_str(priority(*event.metadata().level()))?;
        self.inner.format_event(context, writer, event)
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}
