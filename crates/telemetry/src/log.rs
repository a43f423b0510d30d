//! Writes each event as one line on standard error; standard output is for results.
//!
//! A call does not wait for the reader of the log, a peer cannot forge a line, and repeated refusals are limited.

use std::io::{self, IsTerminal, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::events;
use crate::server_call;
use base::metrics::{self, NONE};
use base::text::now;
use clap::ValueEnum;
use prometheus_client::registry::Registry;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{self, LookupSpan};
use tracing_subscriber::util::SubscriberInitExt;

use crate::limiter::{Limiter, LineKind, Who};
use crate::line::{Line, LineFields, Style};
use crate::writer::QueueWriter;

/// The variable that says which targets are logged at which level.
const RUST_LOG: &str = "RUST_LOG";

/// The target of the audit log, which limits itself: no event is left out here.
const AUDIT_LOG: &str = "grpc_audit_log";

/// How long the last lines may take to be written when the program ends.
const FLUSH: Duration = Duration::from_secs(1);

/// How many bytes of lines are written at once: what a pipe takes (pipe(7)).
const TOGETHER: usize = 64 << 10;

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

/// The log of this process. Lines that still wait are written when it is dropped.
#[derive(Debug)]
#[must_use = "the last lines are written when it is dropped"]
pub struct Logs {
    writer: QueueWriter,
}

/// Starts logging at `RUST_LOG`, such as `info,calls=debug`, or at `default` when that is unset or not readable.
pub fn init_logs(format: LogFormat, default: &str) -> Logs {
    let terminal = io::stderr().is_terminal();
    let style = match (format, terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => Style::Json,
        (LogFormat::Text | LogFormat::Auto, true) => Style::Colour,
        (LogFormat::Text, false) => Style::Text,
    };
    let write = |line: &str| io::stderr().write_all(line.as_bytes());
    let limiter = Arc::new(Limiter::default());
    let limited = limiter.clone();
    let sorry = move |lost| {
        let mut line = Line::new(style, &now(), Level::WARN, module_path!());
        line.message(events::LINES_LOST);
        line.number("count", lost);
        line.end()
    };
    let writer = QueueWriter::in_batches(TOGETHER, write, sorry, move |all| {
        left_out(style, &limited, all)
    });
    let wanted = std::env::var_os(RUST_LOG).filter(|wanted| !wanted.is_empty());
    let filter = wanted.as_ref().and_then(|it| targets(it.to_str()?));
    let unreadable = filter.is_none() && wanted.is_some();
    let lines = LogLayer {
        style,
        writer: writer.clone(),
        limiter,
    };
    let subscriber = registry::Registry::default()
        .with(filter.or_else(|| targets(default)).unwrap_or_default())
        .with(lines);
    // A second subscriber is refused; the first one keeps working.
    drop(subscriber.try_init());
    if unreadable {
        warn!(default, "{}", events::RUST_LOG_MALFORMED);
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

/// Registers the metrics of this process's log.
pub fn register_log(registry: &mut Registry) {
    metrics::register(registry, |families| {
        let lost = crate::writer::lost();
        families.counter(
            "log_lines_lost",
            "Log lines that were lost, because the queue was full or the write failed.",
            [
                ([("reason", "queue_full")], lost.queue_full),
                ([("reason", "write_failed")], lost.write_failed),
            ],
        )?;
        families.counter(
            "log_lines_suppressed",
            "Log lines that were left out because there were too many about the same peer, or from the same place in the code.",
            [(NONE, crate::limiter::suppressed())],
        )
    });
}

/// Makes a line of each event, with the fields of the spans that it is in.
struct LogLayer {
    style: Style,
    writer: QueueWriter,
    limiter: Arc<Limiter>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = LineFields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<LineFields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = LineFields::default();
        event.record(&mut fields);
        let who = match metadata.target() {
            AUDIT_LOG => audited(&fields),
            _ => who(&fields, event, &context),
        };
        let is_good = fields
            .get("rpc.status_code")
            .is_some_and(|code| code == "OK");
        let is_told =
            *metadata.level() == Level::ERROR || is_good || metadata.target() == AUDIT_LOG;
        let suppressed = match &who {
            Some(_) if is_told => Some(0),
            Some(who) => self.limiter.admit_peer(&kind(who, &fields), Instant::now()),
            None => self.limiter.admit(metadata),
        };
        let Some(suppressed) = suppressed else {
            return;
        };
        // An error is our own, in any caller's call.
        let who = who.filter(|_| *metadata.level() != Level::ERROR);
        let mut line = Line::new(self.style, &now(), *metadata.level(), metadata.target());
        line.fields(&fields);
        if suppressed > 0 {
            line.number("suppressed", suppressed);
        }
        // From the inside out: the inner span takes precedence.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<LineFields>() {
                line.fields(fields);
            }
        }
        server_call::current(|call| {
            if let Some(call) = call {
                line.fields(&LineFields::of_call(call));
            }
        });
        self.writer.write(who, line.end());
    }
}

/// The caller that an event of the audit log is about, so that its events displace no line about another.
fn audited(fields: &LineFields) -> Option<Who> {
    let principal = fields.get("principal")?;
    // As `Debug` writes it.
    Some(Who::Identity(principal.trim_matches('"').to_owned()))
}

/// The peer that a line is about: the identity in the line or in its call, otherwise the address.
fn who<S: Subscriber + for<'a> LookupSpan<'a>>(
    fields: &LineFields,
    event: &Event<'_>,
    context: &Context<'_, S>,
) -> Option<Who> {
    if let Some(identity) = fields.get("peer.identity") {
        return Some(Who::Identity(identity.to_owned()));
    }
    for span in context.event_scope(event).into_iter().flatten() {
        if let Some(fields) = span.extensions().get::<LineFields>()
            && let Some(identity) = fields.get("peer.identity")
        {
            return Some(Who::Identity(identity.to_owned()));
        }
    }
    let of_call = server_call::current(|call| call.map(|call| call.peer().to_owned()));
    of_call
        .map(Who::Identity)
        .or_else(|| fields.get("peer.address").and_then(Who::at))
}

fn kind(who: &Who, fields: &LineFields) -> LineKind {
    LineKind {
        who: who.clone(),
        message: fields.get("message").unwrap_or_default().to_owned(),
        code: fields.get("code").map(str::to_owned),
    }
}

/// The lines that report suppressed lines.
fn left_out(style: Style, limiter: &Limiter, all: bool) -> Vec<String> {
    let begin = |count| {
        let mut line = Line::new(style, &now(), Level::WARN, module_path!());
        line.message(events::LINES_LEFT_OUT);
        line.number("count", count);
        line
    };
    let (each, together) = limiter.left_out(all, Instant::now());
    let of_others = Some(each.others + together).filter(|count| *count > 0);
    let each = each.parties.into_iter().map(|(kind, (), count)| {
        let mut line = begin(count);
        line.word("of", &kind.message);
        if let Some(code) = &kind.code {
            line.word("code", code);
        }
        match &kind.who {
            Who::Identity(identity) => line.word("peer.identity", identity),
            Who::Address(address) => line.word("peer.address", &address.to_string()),
        }
        line.end()
    });
    each.chain(of_others.map(|count| begin(count).end()))
        .collect()
}

/// Reads targets and levels, separated by commas. An empty one says nothing; `Targets` takes it for all at ERROR.
fn targets(text: &str) -> Option<Targets> {
    let parts: Vec<&str> = text.split(',').filter(|part| !part.is_empty()).collect();
    match &parts[..] {
        [] => None,
        parts => parts.join(",").parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing::{error, info};

    use super::*;

    #[test]
    fn levels_are_read_with_empty_places_between_them_or_not_at_all() {
        let info = targets("info").unwrap();
        assert!(info.would_enable("calls", &Level::INFO));
        assert!(!info.would_enable("calls", &Level::DEBUG));
        assert_eq!(targets("info,"), Some(info));
        assert_eq!(targets(",calls=debug,,info"), targets("calls=debug,info"));
        for unreadable in ["", ",", "calls=loud", "info,calls=loud"] {
            assert_eq!(targets(unreadable), None, "{unreadable:?}");
        }
    }

    #[test]
    fn audit_events_of_one_caller_displace_no_line_about_another_and_no_error() {
        let (release, held) = mpsc::channel::<()>();
        let (write, lines) = mpsc::channel::<String>();
        let slow = move |line: &str| {
            // Until the other side is gone.
            held.recv().ok();
            write.send(line.to_owned()).map_err(io::Error::other)
        };
        let layer = LogLayer {
            style: Style::Json,
            writer: QueueWriter::in_batches(0, slow, |_| String::new(), |_| Vec::new()),
            limiter: Arc::default(),
        };
        tracing::subscriber::with_default(registry::Registry::default().with(layer), || {
            warn!(peer.identity = "quiet", code = "X", "refused");
            for _ in 0..9_000 {
                info!(target: AUDIT_LOG, principal = ?"loud", authorized = true, "authorization");
            }
            warn!(peer.identity = "quiet", code = "Y", "refused");
            error!("our own");
        });
        drop(release);
        let lines: Vec<_> = lines.iter().collect();
        let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        assert_eq!((count("quiet"), count("our own")), (2, 1));
        assert!(count("loud") > 8_000, "{}", count("loud"));
    }
}
