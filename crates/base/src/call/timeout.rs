//! How long a caller waits: `grpc-timeout` of the gRPC over HTTP/2 protocol.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::Status;

/// A malformed `grpc-timeout` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout is not 1 to 8 digits and one of H, M, S, m, u, n")]
pub struct MalformedTimeout;

impl From<MalformedTimeout> for Status {
    fn from(malformed: MalformedTimeout) -> Self {
        Self::internal(malformed.to_string())
    }
}

/// The time by which a call must have ended, among the extensions of its request. A server puts it there, and a call that
/// a client makes with it ends no later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// How long the caller waits, counted from when it sent these headers; `None` when it sent no timeout.
///
/// # Errors
/// [`MalformedTimeout`], also when the header is repeated.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, MalformedTimeout> {
    let mut values = headers.get_all("grpc-timeout").iter();
    let (Some(value), more) = (values.next(), values.next()) else {
        return Ok(None);
    };
    match (value.to_str().ok().and_then(parse), more) {
        (Some(timeout), None) => Ok(Some(timeout)),
        (_, _) => Err(MalformedTimeout),
    }
}

/// The value of `grpc-timeout` for a call that may take so long: whole milliseconds, or seconds where eight digits do
/// not hold them. It is rounded up, as other clients do, so that the same value recurs and HPACK can index it.
pub fn timeout_value(timeout: Duration) -> HeaderValue {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    let value = if millis <= MAX_AMOUNT {
        format!("{millis}m")
    } else {
        format!("{}S", millis.div_ceil(1_000).min(MAX_AMOUNT))
    };
    // Digits and a letter are visible ASCII.
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("0m"))
}

/// The largest amount that eight digits hold.
const MAX_AMOUNT: u128 = 99_999_999;

fn parse(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 60 * 60),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_written_in_whole_units_and_never_shorter() {
        for (timeout, written) in [
            (Duration::ZERO, "0m"),
            (Duration::from_nanos(1), "1m"),
            (Duration::from_secs(5), "5000m"),
            (Duration::from_secs(5) - Duration::from_nanos(1), "5000m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_nanos(99_999_999_000_001), "100000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(timeout_value(timeout), written, "{timeout:?}");
        }
    }

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        for (value, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("123456789S", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1s", None),
            ("1é", None),
        ] {
            assert_eq!(parse(value), expected, "{value:?}");
        }
    }

    #[test]
    fn no_timeout_is_no_limit_and_two_are_an_error() {
        let mut headers = HeaderMap::new();
        assert_eq!(timeout(&headers), Ok(None));
        headers.insert("grpc-timeout", "1S".parse().unwrap());
        assert_eq!(timeout(&headers), Ok(Some(Duration::from_secs(1))));
        headers.append("grpc-timeout", "9S".parse().unwrap());
        assert_eq!(timeout(&headers), Err(MalformedTimeout));
    }
}
