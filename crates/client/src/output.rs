//! Results on standard output, one a line; everything else on standard error.
//!
//! Each line is flushed, so that a pipe's reader sees each answer when it comes.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use countersign::telemetry::code_name;
use proto::inventory::v1::reserve_many_response::Result as Answer;
use proto::inventory::v1::{
    ImportItemsResponse, Item, Reservation, ReservationFailure, ReserveManyRequest,
    ReserveManyResponse, UpdateKind, WatchStockResponse,
};
use serde_json::{Value, json};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::failure::Failure;
use crate::settings::Format;
use crate::tally::Tally;
use countersign::base::text::{escape, json_line};

/// Where results and errors go.
#[derive(Debug)]
pub struct Output<O = io::Stdout, E = io::Stderr> {
    format: Format,
    out: O,
    err: E,
}

impl Output {
    /// To the standard streams.
    pub fn standard(format: Format) -> Self {
        Self::new(format, io::stdout(), io::stderr())
    }
}

impl<O: Write, E: Write> Output<O, E> {
    /// To these.
    pub fn new(format: Format, out: O, err: E) -> Self {
        Self { format, out, err }
    }

    /// An item that was read.
    ///
    /// # Errors
    /// As all results: it cannot be written.
    pub fn item(&mut self, item: &Item) -> Result<(), Failure> {
        self.result(|| item_text(item), || json!({ "item": item_json(item) }))
    }

    /// A reservation that was made.
    pub fn reservation(&mut self, reservation: &Reservation) -> Result<(), Failure> {
        self.result(
            || reservation_text(reservation),
            || json!({ "reservation": reservation_json(reservation) }),
        )
    }

    /// The answer to one row of many.
    pub fn answer(
        &mut self,
        request: &ReserveManyRequest,
        answer: &ReserveManyResponse,
    ) -> Result<(), Failure> {
        let id = &answer.reservation_id;
        match &answer.result {
            Some(Answer::Reservation(reservation)) => self.result(
                || reservation_text(reservation),
                || json!({ "reservation_id": id, "reservation": reservation_json(reservation) }),
            ),
            Some(Answer::Failure(failure)) => self.result(
                || failure_text(request, failure),
                || json!({ "reservation_id": id, "failure": failure_json(failure) }),
            ),
            None => self.unanswered(request),
        }
    }

    /// A row that got no response: the reservation may or may not have been made, and can be retried with its
    /// identifier.
    pub fn unanswered(&mut self, request: &ReserveManyRequest) -> Result<(), Failure> {
        let ReserveManyRequest {
            reservation_id,
            sku,
            quantity,
        } = request;
        self.result(
            || {
                format!(
                    "unanswered {reservation_id}  {}  quantity {quantity}",
                    escape(sku)
                )
            },
            || {
                let request =
                    json!({ "reservation_id": reservation_id, "sku": sku, "quantity": quantity });
                json!({ "reservation_id": reservation_id, "unanswered": request })
            },
        )
    }

    /// A level that was watched.
    pub fn level(&mut self, level: &WatchStockResponse) -> Result<(), Failure> {
        let kind = level.kind();
        let word = match kind {
            UpdateKind::Unspecified => "unspecified",
            UpdateKind::Current => "current",
            UpdateKind::Changed => "changed",
        };
        self.result(
            || {
                format!(
                    "{word:<8} {}",
                    level.item.as_ref().map(item_text).unwrap_or_default()
                )
            },
            || json!({ "kind": kind.as_str_name(), "item": level.item.as_ref().map(item_json) }),
        )
    }

    /// What an import did.
    pub fn imported(&mut self, done: &ImportItemsResponse) -> Result<(), Failure> {
        let ImportItemsResponse {
            created,
            updated,
            unchanged,
        } = done;
        self.result(
            || format!("imported: {created} created, {updated} updated, {unchanged} unchanged"),
            || json!({ "created": created, "updated": updated, "unchanged": unchanged }),
        )
    }

    /// Whether a service is serving.
    pub fn health(&mut self, service: &str, status: ServingStatus) -> Result<(), Failure> {
        let status = status.as_str_name();
        self.result(
            || match service {
                "" => format!("server {status}"),
                service => format!("{} {status}", escape(service)),
            },
            || json!({ "service": service, "status": status }),
        )
    }

    /// The response of a readiness probe.
    pub fn probed(&mut self, answer: &str) -> Result<(), Failure> {
        self.result(|| answer.to_owned(), || json!({ "answer": answer }))
    }

    /// What a worker did.
    pub fn summary(&mut self, tally: &Tally, elapsed: Duration) -> Result<(), Failure> {
        self.result(|| tally.to_text(elapsed), || tally.to_json(elapsed))
    }

    /// Prints a new identifier on standard error before its first use, so that it is known even if no response arrives.
    pub fn identifier(&mut self, reservation_id: &str) {
        let line = match self.format {
            Format::Text => format!("reservation_id: {reservation_id}"),
            Format::Json => json_line(&json!({ "reservation_id": reservation_id })),
        };
        // Without a reader there is nowhere to report it.
        drop(writeln!(self.err, "{line}"));
    }

    /// Why the command failed, on standard error.
    pub fn failure(&mut self, failure: &Failure) {
        // Without a reader, the exit code alone reports it.
        drop(match self.format {
            Format::Text => write!(self.err, "{}", failure.to_text()),
            Format::Json => writeln!(self.err, "{}", json_line(&failure.to_json())),
        });
    }

    fn result(
        &mut self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        let line = match self.format {
            Format::Text => text(),
            Format::Json => json_line(&json()),
        };
        let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        written.map_err(Failure::Output)
    }
}

/// How far a long command is, on standard error and only if that is a terminal.
#[derive(Clone, Debug)]
pub struct ProgressLine {
    shown: std::sync::Arc<std::sync::Mutex<Option<Instant>>>,
    what: &'static str,
    total: usize,
    visible: bool,
}

impl ProgressLine {
    const PAUSE: Duration = Duration::from_millis(100);

    /// Of `total` pieces of `what`.
    pub fn new(what: &'static str, total: usize) -> Self {
        Self {
            shown: Default::default(),
            what,
            total,
            visible: io::stderr().is_terminal(),
        }
    }

    /// `done` of them are done.
    pub fn at(&self, done: usize) {
        let Ok(mut shown) = self.shown.lock() else {
            return;
        };
        let due = shown.is_none_or(|shown| shown.elapsed() >= Self::PAUSE) || done == self.total;
        if self.visible && due {
            *shown = Some(Instant::now());
            drop(write!(
                io::stderr(),
                "\r\x1b[K{}: {done} of {}",
                self.what,
                self.total
            ));
        }
    }

    /// Clears the line.
    pub fn end(&self) {
        if self.visible {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}

fn item_text(item: &Item) -> String {
    let Item {
        sku,
        name,
        quantity,
        reserved,
        available,
    } = item;
    let (sku, name) = (escape(sku), escape(name));
    format!("{sku:<16} quantity {quantity}  reserved {reserved}  available {available}  {name}")
}

fn item_json(item: &Item) -> Value {
    let Item {
        sku,
        name,
        quantity,
        reserved,
        available,
    } = item;
    json!({ "sku": sku, "name": name, "quantity": quantity, "reserved": reserved, "available": available })
}

fn reservation_text(reservation: &Reservation) -> String {
    let Reservation {
        reservation_id,
        sku,
        quantity,
        available,
    } = reservation;
    let (id, sku) = (escape(reservation_id), escape(sku));
    format!("reserved   {id}  {sku}  quantity {quantity}  available {available}")
}

fn reservation_json(reservation: &Reservation) -> Value {
    let Reservation {
        reservation_id,
        sku,
        quantity,
        available,
    } = reservation;
    json!({ "reservation_id": reservation_id, "sku": sku, "quantity": quantity, "available": available })
}

fn failure_text(request: &ReserveManyRequest, failure: &ReservationFailure) -> String {
    let ReserveManyRequest {
        reservation_id,
        sku,
        quantity,
    } = request;
    let code = code_name(Code::from_i32(failure.code));
    let (sku, reason, message) = (
        escape(sku),
        escape(&failure.reason),
        escape(&failure.message),
    );
    format!("failed     {reservation_id}  {sku}  quantity {quantity}  {code} {reason}: {message}")
}

fn failure_json(failure: &ReservationFailure) -> Value {
    let ReservationFailure {
        code,
        reason,
        message,
        metadata,
    } = failure;
    let code = code_name(Code::from_i32(*code));
    json!({ "code": code, "reason": reason, "message": message, "metadata": metadata })
}
