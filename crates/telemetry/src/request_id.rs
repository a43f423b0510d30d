//! The id of a request, which caller and server share.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::{Builder, Uuid};

/// The header of the request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: a UUID, so that a caller cannot put other text into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A new one, of version 7: they sort by time.
    /// It distinguishes calls and protects nothing, so it need not come from the system's random generator, which would
    /// cost a system call each time.
    pub fn random() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        Self(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The caller's id if it is a UUID, otherwise a new one.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let given = headers
            .get(&REQUEST_ID)
            .and_then(|id| Uuid::try_parse_ascii(id.as_bytes()).ok());
        given.map_or_else(Self::random, Self)
    }

    /// The header value. It is never repeated, so HPACK must not index it (RFC 7541 §6.2.3).
    pub fn value(&self) -> HeaderValue {
        let mut text = Uuid::encode_buffer();
        let text: &str = self.0.hyphenated().encode_lower(&mut text);
        // A hyphenated UUID is visible ASCII.
        let mut value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        value.set_sensitive(true);
        value
    }
}

/// The text of the header value.
impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
