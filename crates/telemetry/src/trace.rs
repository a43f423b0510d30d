//! The trace context of a call (W3C Trace Context): `traceparent` and `tracestate`.
//! The caller's headers decide only which trace its call belongs to. A malformed or repeated header begins a new trace,
//! and the id of our own span is never the caller's. The propagator of OpenTelemetry's SDK is too lax: it accepts the
//! first of two headers, ids of other lengths, blanks around them, and state of any size.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The bit of `trace-flags` that says that the caller may have recorded its span.
const SAMPLED: u8 = 1;

/// The largest `tracestate` that is passed on. The standard asks for at least 512 bytes.
const MAX_STATE: usize = 512;

/// A span and its trace.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
    state: Option<HeaderValue>,
}

/// A malformed `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedTraceContext;

impl TraceContext {
    /// A span in a new trace.
    pub fn root(sampled: bool) -> Self {
        Self {
            trace_id: fastrand::u128(1..),
            span_id: fastrand::u64(1..),
            flags: if sampled { SAMPLED } else { 0 },
            state: None,
        }
    }

    /// A new child span in the same trace.
    #[must_use]
    pub fn child(&self, sampled: bool) -> Self {
        Self {
            span_id: fastrand::u64(1..),
            flags: if sampled { SAMPLED } else { 0 },
            ..self.clone()
        }
    }

    /// This span with the given ids and this state.
    #[must_use]
    pub fn at(self, trace: u128, span: u64, sampled: bool) -> Self {
        Self {
            trace_id: trace,
            span_id: span,
            flags: if sampled { SAMPLED } else { 0 },
            state: self.state,
        }
    }

    /// The caller's span.
    ///
    /// # Errors
    /// [`MalformedTraceContext`], also when the header is repeated, since then it is ambiguous.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, MalformedTraceContext> {
        let mut values = headers.get_all(&TRACEPARENT).iter();
        let (Some(value), more) = (values.next(), values.next()) else {
            return Ok(None);
        };
        if more.is_some() {
            return Err(MalformedTraceContext);
        }
        let mut context = parse(value.as_bytes()).ok_or(MalformedTraceContext)?;
        context.state = state(headers);
        Ok(Some(context))
    }

    /// Makes this span the parent of the request with these headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        // Digits and hyphens are visible ASCII.
        if let Ok(mut value) = HeaderValue::from_bytes(&self.digits()) {
            // It is never repeated, so HPACK must not index it (RFC 7541 §6.2.3).
            value.set_sensitive(true);
            headers.insert(TRACEPARENT, value);
        }
        match &self.state {
            Some(state) => headers.insert(TRACESTATE, state.clone()),
            None => headers.remove(TRACESTATE),
        };
    }

    /// The value of `traceparent`.
    fn digits(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hexadecimal(&mut text[3..35], &self.trace_id.to_be_bytes());
        write_hexadecimal(&mut text[36..52], &self.span_id.to_be_bytes());
        write_hexadecimal(&mut text[53..], &[self.flags]);
        text
    }

    /// The trace, 32 hexadecimal digits.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        let id = self.trace_id;
        fmt::from_fn(move |f| write!(f, "{id:032x}"))
    }

    /// The span, 16 hexadecimal digits.
    pub fn span_id(&self) -> impl fmt::Display + use<> {
        let id = self.span_id;
        fmt::from_fn(move |f| write!(f, "{id:016x}"))
    }

    /// The trace as a number.
    pub fn trace_number(&self) -> u128 {
        self.trace_id
    }

    /// The span as a number.
    pub fn span_number(&self) -> u64 {
        self.span_id
    }

    /// Whether the span is, or may have been, recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// The value of `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.digits()))
    }
}

/// Without the state, which is for other vendors.
impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, in lower case. A later version may say more after that.
fn parse(value: &[u8]) -> Option<TraceContext> {
    let (known, more) = value.split_at_checked(55)?;
    let [version, trace_id, span_id, flags] = [(0, 2), (3, 32), (36, 16), (53, 2)]
        .map(|(at, len)| known.get(at..at + len).and_then(hexadecimal));
    let hyphens = [2, 35, 52].iter().all(|at| known.get(*at) == Some(&b'-'));
    let end = match version? {
        0 => more.is_empty(),
        0xff => false,
        _ => more.first().is_none_or(|next| *next == b'-'),
    };
    if !hyphens || !end {
        return None;
    }
    let (trace_id, span_id) = (trace_id?, u64::try_from(span_id?).ok()?);
    if trace_id == 0 || span_id == 0 {
        return None;
    }
    Some(TraceContext {
        trace_id,
        span_id,
        // Unknown flags are not passed on.
        flags: u8::try_from(flags?).ok()? & SAMPLED,
        state: None,
    })
}

fn write_hexadecimal(digits: &mut [u8], bytes: &[u8]) {
    const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = HEXADECIMAL[usize::from(byte >> 4)];
        pair[1] = HEXADECIMAL[usize::from(byte & 0xf)];
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// The state as received, its headers joined by commas, or nothing if it is too long to pass on.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let values: Vec<&[u8]> = headers
        .get_all(&TRACESTATE)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|value| !value.is_empty())
        .collect();
    let joined = values.join(&b","[..]);
    let printable = joined.iter().all(|byte| (b' '..=b'~').contains(byte));
    (!joined.is_empty() && joined.len() <= MAX_STATE && printable)
        .then(|| HeaderValue::from_bytes(&joined).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn read(value: &str) -> Result<Option<TraceContext>, MalformedTraceContext> {
        TraceContext::from_headers(&headers(&[("traceparent", value)]))
    }

    #[test]
    fn a_span_is_written_as_it_is_read() {
        let caller = read(GOOD).unwrap().unwrap();
        assert_eq!(caller.to_string(), GOOD);
        assert!(caller.is_sampled());
        let ours = caller.child(false);
        assert_eq!(
            ours.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_ne!(ours.span_id().to_string(), "b7ad6b7169203331");
        assert!(!ours.is_sampled());
        let mut sent = HeaderMap::new();
        ours.write(&mut sent);
        assert_eq!(TraceContext::from_headers(&sent), Ok(Some(ours)));
    }

    #[test]
    fn what_is_not_as_the_standard_writes_it_begins_a_new_trace() {
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(read(bad), Err(MalformedTraceContext), "{bad:?}");
        }
        let twice = headers(&[("traceparent", GOOD), ("traceparent", GOOD)]);
        assert_eq!(
            TraceContext::from_headers(&twice),
            Err(MalformedTraceContext)
        );
        assert_eq!(TraceContext::from_headers(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more";
        assert_eq!(read(later).unwrap().unwrap().to_string(), GOOD);
    }

    #[test]
    fn the_state_is_passed_on_within_its_limit() {
        let passed = |states: &[&str]| {
            let mut pairs = vec![("traceparent", GOOD)];
            pairs.extend(states.iter().map(|state| ("tracestate", *state)));
            let context = TraceContext::from_headers(&headers(&pairs));
            let mut sent = headers(&[("tracestate", "of another call")]);
            context.unwrap().unwrap().child(true).write(&mut sent);
            sent.get("tracestate")
                .map(|state| state.to_str().unwrap().to_owned())
        };
        assert_eq!(passed(&["a=1", "b=2"]), Some("a=1,b=2".to_owned()));
        assert_eq!(passed(&[]), None);
        assert_eq!(passed(&[&"x".repeat(MAX_STATE + 1)]), None);
    }
}
