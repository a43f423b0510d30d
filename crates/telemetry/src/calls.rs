//! How long calls took, by method and code, under the names of OpenTelemetry's RPC conventions.
//!
//! The methods are given at the start. Whatever else is called is one method more, so that no caller adds a series.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tonic::Code;

use crate::code::{CODES, code_name};
use crate::histogram::Histogram;
use crate::page::Page;

/// What a method that nobody knows is called.
pub(crate) const OTHER: &str = "_OTHER";

/// Which end of the calls we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We answer them.
    Server,
    /// We make them.
    Client,
}

impl Side {
    /// The name of a code that is an error on this side: a server is at fault for some, a client's call failed by any.
    pub fn error(self, code: Code) -> Option<&'static str> {
        let is_error = match (self, code) {
            (_, Code::Ok) => false,
            (Self::Client, _) => true,
            (
                Self::Server,
                Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss,
            ) => true,
            (
                Self::Server,
                Code::Cancelled
                | Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unauthenticated,
            ) => false,
        };
        is_error.then(|| code_name(code))
    }
}

/// The calls of one side, since the start.
#[derive(Debug)]
pub struct Calls {
    side: Side,
    /// The place of each path among `methods`: `/package.Service/Method`, as a request has it.
    places: HashMap<String, usize>,
    methods: Vec<(Arc<str>, Codes)>,
    other: Codes,
    open: AtomicU64,
}

/// A distribution for each code that there was.
type Codes = [OnceLock<Box<Histogram>>; CODES.len()];

impl Calls {
    /// None yet, of methods with these paths: `/package.Service/Method`.
    pub fn new(side: Side, paths: impl IntoIterator<Item = String>) -> Self {
        let paths: Vec<String> = paths.into_iter().collect();
        let method = |path: &String| (path.trim_start_matches('/').into(), Codes::default());
        Self {
            side,
            methods: paths.iter().map(method).collect(),
            places: paths.into_iter().zip(0..).collect(),
            other: Codes::default(),
            open: AtomicU64::new(0),
        }
    }

    /// The name of a path for people and machines, without its leading slash; `_OTHER` when it is no method of ours.
    pub fn name<'a>(&self, path: &'a str) -> &'a str {
        named(path, self.place(path))
    }

    /// The place of a method among the paths that were given, or `None` when it is not one of them.
    pub fn place(&self, path: &str) -> Option<usize> {
        self.places.get(path).copied()
    }

    /// The name of the method at this place.
    pub(crate) fn name_at(&self, place: usize) -> Option<Arc<str>> {
        self.methods.get(place).map(|(name, _)| name.clone())
    }

    /// One began.
    pub fn began(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// One that began is over.
    pub fn ended(&self, path: &str, code: Code, took: Duration) {
        self.ended_at(self.place(path), code, took);
    }

    /// One that began is over, by the place of its method.
    pub(crate) fn ended_at(&self, place: Option<usize>, code: Code, took: Duration) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let method = place.and_then(|place| self.methods.get(place));
        let codes = method.map_or(&self.other, |(_, codes)| codes);
        let number = usize::try_from(i32::from(code)).unwrap_or_default();
        if let Some(times) = codes.get(number) {
            times.get_or_init(Box::default).record(took);
        }
    }

    /// Writes the families of this side.
    pub fn metrics(&self, page: &mut Page) {
        let (duration, open) = match self.side {
            Side::Server => ("rpc_server_call_duration_seconds", "rpc_server_open_calls"),
            Side::Client => ("rpc_client_call_duration_seconds", "rpc_client_open_calls"),
        };
        page.gauge(open, "Calls that are under way.")
            .sample(&[], self.open.load(Ordering::Relaxed));
        let mut family = page.histogram(
            duration,
            "How long calls took from their first byte to their status.",
        );
        let mut methods: Vec<_> = self
            .methods
            .iter()
            .map(|(name, codes)| (&**name, codes))
            .chain([(OTHER, &self.other)])
            .collect();
        methods.sort_by_key(|(name, _)| *name);
        for (name, codes) in methods {
            for (code, times) in CODES.into_iter().zip(codes) {
                let Some(times) = times.get() else { continue };
                let labels = [
                    ("rpc_system_name", "grpc"),
                    ("rpc_method", name),
                    ("rpc_status_code", code_name(code)),
                ];
                family.distribution(&labels, times);
            }
        }
    }
}

/// How the method of a path is called, when this is its place.
pub(crate) fn named(path: &str, place: Option<usize>) -> &str {
    match place {
        Some(_) => path.trim_start_matches('/'),
        None => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(calls: &Calls) -> String {
        let mut page = Page::default();
        calls.metrics(&mut page);
        page.into_text()
    }

    #[test]
    fn a_thousand_unknown_paths_are_one_series() {
        let calls = Calls::new(Side::Server, ["/a.B/C".to_owned()]);
        for n in 0..1000 {
            calls.began();
            calls.ended(&format!("/x.Y/{n}"), Code::Unimplemented, Duration::ZERO);
        }
        let text = text(&calls);
        let series: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("rpc_server_call_duration_seconds_count"))
            .collect();
        assert_eq!(
            series,
            [
                r#"rpc_server_call_duration_seconds_count{rpc_system_name="grpc",rpc_method="_OTHER",rpc_status_code="UNIMPLEMENTED"} 1000"#
            ]
        );
        assert!(text.contains("rpc_server_open_calls 0\n"), "{text}");
    }

    #[test]
    fn a_call_counts_under_its_method_and_code() {
        let calls = Calls::new(Side::Client, ["/a.B/C".to_owned()]);
        calls.began();
        calls.began();
        calls.ended("/a.B/C", Code::PermissionDenied, Duration::from_millis(1));
        let text = text(&calls);
        assert!(
            text.contains(
                r#"rpc_client_call_duration_seconds_count{rpc_system_name="grpc",rpc_method="a.B/C",rpc_status_code="PERMISSION_DENIED"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains("rpc_client_open_calls 1\n"), "{text}");
        assert_eq!(calls.name("/a.B/C"), "a.B/C");
        assert_eq!(calls.name("/a.B/D"), "_OTHER");
    }
}
