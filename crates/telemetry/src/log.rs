//! Where events go: one line each on standard error, so that standard output carries results alone.
//!
//! Never a call that waits for whoever reads the lines, never a line that a peer wrote, never a flood of one refusal.

use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, SystemTime};

use crate::page::Page;
use clap::ValueEnum;
use time::OffsetDateTime;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

use crate::limiter::Limiter;
use crate::line::{Fields, Line, Style};
use crate::writer::Writer;

/// How long the last lines may take to be written when the program ends.
const FLUSH: Duration = Duration::from_secs(1);

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log of this process. What waits to be written is written when it is dropped.
#[derive(Debug)]
#[must_use = "the last lines are written when it is dropped"]
pub struct Logs {
    writer: Writer,
}

/// Starts logging at `RUST_LOG`, or at `default` when that is unset or not readable.
pub fn init_logs(format: LogFormat, default: &str) -> Logs {
    let terminal = io::stderr().is_terminal();
    let style = match (format, terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => Style::Json,
        (LogFormat::Text | LogFormat::Auto, true) => Style::Colour,
        (LogFormat::Text, false) => Style::Text,
    };
    let write = |line: &str| io::stderr().write_all(line.as_bytes());
    let writer = Writer::start(write, move |lost| {
        let mut line = Line::new(style, &now(), Level::WARN, module_path!());
        line.message("log lines were lost: nobody read them in time");
        line.number("count", lost);
        line.end()
    });
    let filter = EnvFilter::try_from_default_env();
    let unreadable = filter.as_ref().is_err() && std::env::var_os(EnvFilter::DEFAULT_ENV).is_some();
    let lines = Lines {
        style,
        writer: writer.clone(),
        limiter: Limiter::default(),
    };
    let subscriber = Registry::default()
        .with(filter.unwrap_or_else(|_unset| EnvFilter::new(default)))
        .with(lines);
    // A second subscriber is refused; the first one keeps working.
    drop(subscriber.try_init());
    if unreadable {
        warn!(default, "RUST_LOG cannot be read, so the default is used");
    }
    Logs { writer }
}

impl Logs {
    /// Waits until all lines so far are written, or a second is over.
    pub fn flush(&self) {
        self.writer.flush(FLUSH);
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Writes the families of the log of this process.
pub fn log_metrics(page: &mut Page) {
    let lost = crate::writer::lost();
    page.counter(
        "log_lines_lost_total",
        "Log lines that were not written, because nobody read them in time, or at all.",
    )
    .sample(&[("reason", "queue_full")], lost.queue_full)
    .sample(&[("reason", "write_failed")], lost.write_failed);
    page.counter(
        "log_lines_suppressed_total",
        "Warnings that were not logged because the same place in the code had warned too often in that second.",
    )
    .sample(&[], crate::limiter::suppressed());
}

/// Makes a line of each event, with the fields of the spans that it is in.
struct Lines {
    style: Style,
    writer: Writer,
    limiter: Limiter,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let Some(suppressed) = self.limiter.admit(metadata) else {
            return;
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = Line::new(self.style, &now(), *metadata.level(), metadata.target());
        line.fields(&fields);
        if suppressed > 0 {
            line.number("suppressed", suppressed);
        }
        // From the inside out: what the inner span says counts.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.fields(fields);
            }
        }
        self.writer.write(line.end());
    }
}

/// RFC 3339 in UTC, to the microsecond.
fn now() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    let (date, time) = (now.date(), now.time());
    format!(
        "{}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}
