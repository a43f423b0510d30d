//! Callers and their metadata as JSON describes them. Strict: nothing unknown, nothing twice, no contradiction.

use std::collections::HashSet;
use std::fmt;

use authz::Caller;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

/// A file of callers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeersFile {
    pub(super) peers: Vec<NamedPeer>,
}

/// A caller of such a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedPeer {
    pub(super) name: String,
    pub(super) peer: DescribedCaller,
}

/// A caller, as TLS has verified it.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "PeerFields")]
pub(super) struct DescribedCaller(pub(super) Caller);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerFields {
    #[serde(default = "yes")]
    tls: bool,
    /// Whether it presented a certificate that was verified. By default a caller has, as on our port.
    authenticated: Option<bool>,
    #[serde(default)]
    uri_sans: Vec<String>,
    #[serde(default)]
    dns_sans: Vec<String>,
    #[serde(default)]
    subject: String,
}

fn yes() -> bool {
    true
}

impl TryFrom<PeerFields> for DescribedCaller {
    type Error = &'static str;

    fn try_from(fields: PeerFields) -> Result<Self, Self::Error> {
        let PeerFields {
            tls,
            authenticated,
            uri_sans,
            dns_sans,
            subject,
        } = fields;
        let nameless = uri_sans.is_empty() && dns_sans.is_empty() && subject.is_empty();
        match (tls, authenticated.unwrap_or(tls)) {
            (false, true) => Err("a peer without TLS cannot be authenticated"),
            (false | true, false) if !nameless => {
                Err("a peer that is not authenticated has no names: they come from its certificate")
            }
            (false, false) => Ok(Self(Caller::Plaintext)),
            (true, false) => Ok(Self(Caller::Anonymous)),
            (true, true) => Ok(Self(Caller::Authenticated {
                uri_sans,
                dns_sans,
                subject,
            })),
        }
    }
}

/// The metadata of a call: `{"key": ["value", ...]}`.
#[derive(Debug, Default)]
pub(super) struct Metadata(pub(super) HeaderMap);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of lists of values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Metadata, A::Error> {
        let mut headers = HeaderMap::new();
        let mut seen = HashSet::new();
        while let Some((key, values)) = fields.next_entry::<String, Vec<String>>()? {
            for value in &values {
                append(&mut headers, &key, value).map_err(A::Error::custom)?;
            }
            if !seen.insert(key.to_ascii_lowercase()) {
                let text = format!("the key {key:?} is there twice: put its values into one list");
                return Err(A::Error::custom(text));
            }
        }
        Ok(Metadata(headers))
    }
}

/// Adds a value of a key, whose case does not matter.
pub(super) fn append(headers: &mut HeaderMap, key: &str, value: &str) -> Result<(), String> {
    let name = HeaderName::from_bytes(key.as_bytes())
        .map_err(|_invalid| format!("{key:?} is no key that metadata can have"))?;
    let value = HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_invalid| format!("{value:?} is no value that metadata can have"))?;
    match headers.try_append(name, value) {
        Ok(_present) => Ok(()),
        Err(_full) => Err("more metadata than a call can have".to_owned()),
    }
}
