//! The SPIFFE Workload API: the address of its agent, which identity is ours, and how a response is parsed.
//!
//! The messages are those of the standard (SPIFFE Workload API §5, `workload.proto`). This module does not verify
//! certificates; a response is parsed completely or refused.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use identity::SpiffeId;
use prost::Message;
use rustls::pki_types::pem::SectionKind;
use x509_parser::asn1_rs::{Any, FromDer as _};
use zeroize::Zeroizing;

use crate::trust::invalid::InvalidCredentials;
use crate::trust::invalid_workload::InvalidWorkload;
use crate::trust::material::{Material, NewBundle, NoLists};
use crate::trust::pem_file::PemFile;
use crate::trust::root::Vouches;
use base::pem::Label;

/// How many SVIDs, federated bundles and revocation lists a response may have.
const MAX_SVIDS: usize = 64;
const MAX_BUNDLES: usize = 256;
const MAX_LISTS: usize = 256;

/// How long to wait for the first response by default: an agent learns of a new workload within seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent that provides identity and trust bundles over a Unix socket, and which of its identities is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadApi {
    socket: PathBuf,
    wanted: Wanted,
    pub(crate) patience: Duration,
}

/// Which SVID is ours when an agent has several for us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The first, which is the default identity (SPIFFE Workload API §5.2).
    #[default]
    First,
    /// The one with this ID.
    Id(SpiffeId),
    /// The one with this hint, which the operator set.
    Hint(String),
}

impl WorkloadApi {
    /// The agent behind the socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            socket: path.into(),
            wanted: Wanted::First,
            patience: PATIENCE,
        }
    }

    /// Sets which identity to use.
    pub fn with_svid(self, wanted: Wanted) -> Self {
        Self { wanted, ..self }
    }

    /// Sets how long to wait for the first response.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn malformed(&self, reason: impl Into<String>) -> InvalidWorkload {
        InvalidWorkload::Malformed {
            socket: self.to_string(),
            reason: base::text::escape(&reason.into()),
        }
    }
}

impl fmt::Display for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.socket.display())
    }
}

/// An address as the standard writes it: `unix:///run/spire/agent.sock` (SPIFFE Workload Endpoint §4).
impl FromStr for WorkloadApi {
    type Err = InvalidWorkload;

    fn from_str(address: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| Err(InvalidWorkload::Address(reason));
        let Some(rest) = address.strip_prefix("unix:") else {
            return invalid(if address.starts_with("tcp:") {
                "over TCP anybody on the network could pose as the agent"
            } else {
                "it does not begin with unix:"
            });
        };
        let path = match rest.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(_) => return invalid("it has a host, or its path is not absolute"),
            None => rest,
        };
        if !path.starts_with('/') || path.len() < 2 {
            return invalid("its path is not absolute");
        }
        if path.contains(['?', '#', '%']) {
            return invalid("it has a query, a fragment or an escape");
        }
        Ok(Self::new(path))
    }
}

impl FromStr for Wanted {
    type Err = identity::InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("spiffe:") {
            return text.parse().map(Self::Id);
        }
        Ok(Self::Hint(text.to_owned()))
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("at all"),
            Self::Id(id) => id.fmt(f),
            Self::Hint(hint) => write!(f, "with the hint {hint:?}"),
        }
    }
}

/// `X509SVIDResponse`. Its parts are decoded only after they are counted, and none takes more memory than it has bytes.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(bytes = "vec", repeated, tag = "1")]
    svids: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    crl: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    federated_bundles: Vec<Vec<u8>>,
}

/// `X509SVID`.
#[derive(Clone, PartialEq, Message)]
struct Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    hint: String,
}

/// An entry of the map `federated_bundles`.
#[derive(Clone, PartialEq, Message)]
struct Federated {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(bytes = "vec", tag = "2")]
    bundle: Vec<u8>,
}

/// A parsed response: our identities and the trust bundles, not verified yet.
pub(crate) struct Answer {
    id: SpiffeId,
    chain: Vec<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    bundles: Vec<(String, Vec<Vec<u8>>)>,
    lists: Vec<Vec<u8>>,
}

impl Answer {
    /// Parses a message, and selects our SVID.
    pub(crate) fn read(api: &WorkloadApi, message: &[u8]) -> Result<Self, InvalidWorkload> {
        let malformed = |reason: String| api.malformed(reason);
        let undecodable = |what: &str, error: &prost::DecodeError| {
            api.malformed(format!("{what} is not a message of the standard: {error}"))
        };
        let response = Response::decode(message).map_err(|e| undecodable("it", &e))?;
        for (what, count, max) in [
            ("SVIDs", response.svids.len(), MAX_SVIDS),
            ("bundles", response.federated_bundles.len(), MAX_BUNDLES),
            ("revocation lists", response.crl.len(), MAX_LISTS),
        ] {
            if count > max {
                return Err(malformed(format!("it has {count} {what}, more than {max}")));
            }
        }
        let svids = response.svids.iter().map(|der| Svid::decode(&**der));
        let svids: Vec<_> = svids
            .collect::<Result<_, _>>()
            .map_err(|e| undecodable("an SVID in it", &e))?;
        let svid = ours(api, svids)?;
        let id: SpiffeId = svid
            .spiffe_id
            .parse()
            .map_err(|e| malformed(format!("{:?} is no SPIFFE ID: {e}", svid.spiffe_id)))?;
        let ders = |what: String, bytes: &[u8]| {
            sequences(bytes).ok_or_else(|| malformed(format!("{what} is not DER")))
        };
        let mut bundles = vec![(
            id.trust_domain().to_owned(),
            ders(format!("the bundle of {}", id.trust_domain()), &svid.bundle)?,
        )];
        for entry in &response.federated_bundles {
            let entry =
                Federated::decode(&**entry).map_err(|e| undecodable("a bundle in it", &e))?;
            let Some(domain) = trust_domain(&entry.trust_domain) else {
                let name = entry.trust_domain;
                return Err(malformed(format!(
                    "{name:?} is not a trust domain to federate with"
                )));
            };
            // Our own bundle comes with the SVID, and none may be repeated.
            if bundles.iter().any(|(other, _)| other == domain) {
                return Err(malformed(format!("it has two bundles of {domain}")));
            }
            let roots = ders(format!("the bundle of {domain}"), &entry.bundle)?;
            bundles.push((domain.to_owned(), roots));
        }
        let chain = ders(format!("the SVID {id}"), &svid.x509_svid)?;
        if chain.is_empty() {
            return Err(malformed(format!("the SVID {id} has no certificate")));
        }
        Ok(Self {
            chain,
            key: svid.x509_svid_key.into(),
            lists: response.crl,
            id,
            bundles,
        })
    }

    /// The contents, with the names of their origin for errors.
    pub(crate) fn material(&self, api: &WorkloadApi) -> Material {
        let id = &self.id;
        let file = |what: String, label, ders: &[Vec<u8>]| {
            PemFile::of_der(format!("{what} from {api}"), &label, ders.to_vec())
        };
        let bundle = |(domain, roots): &(String, Vec<Vec<u8>>)| NewBundle {
            vouches: Vouches::ForTrustDomain(domain.as_str().into()),
            roots: if roots.is_empty() {
                Err(InvalidCredentials::Workload(InvalidWorkload::NoRoots {
                    socket: api.to_string(),
                    trust_domain: domain.clone(),
                }))
            } else {
                Ok(file(
                    format!("the bundle of {domain}"),
                    Label::Certificate,
                    roots,
                ))
            },
        };
        let lists = "the revocation lists".to_owned();
        let key = Label::PrivateKey(SectionKind::PrivateKey);
        Material {
            chain: Ok(file(
                format!("the SVID {id}"),
                Label::Certificate,
                &self.chain,
            )),
            key: Some(Ok(file(
                format!("the key of {id}"),
                key,
                std::slice::from_ref(&*self.key),
            ))),
            bundles: self.bundles.iter().map(bundle).collect(),
            crls: if self.lists.is_empty() {
                Err(NoLists::Absent(format!("{lists} from {api}").into()))
            } else {
                Ok(file(lists, Label::RevocationList, &self.lists))
            },
            id: Some(id.clone()),
            trouble: None,
        }
    }
}

/// Without the key.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The requested SVID. Of several with one hint, the first counts (SPIFFE Workload API §5.2).
fn ours(api: &WorkloadApi, svids: Vec<Svid>) -> Result<Svid, InvalidWorkload> {
    const SHOWN: usize = 5;
    let is_ours = |svid: &Svid| match &api.wanted {
        Wanted::First => true,
        Wanted::Id(id) => svid.spiffe_id == id.as_str(),
        Wanted::Hint(hint) => svid.hint == *hint,
    };
    let offered = || {
        let shown = svids.iter().take(SHOWN).map(|svid| match &*svid.hint {
            "" => svid.spiffe_id.clone(),
            hint => format!("{} ({hint})", svid.spiffe_id),
        });
        let shown: Vec<_> = shown.collect();
        match svids.len() {
            0 => "none".to_owned(),
            more @ 6.. => format!("{} and {} more", shown.join(", "), more - SHOWN),
            _ => shown.join(", "),
        }
    };
    match svids.iter().position(is_ours) {
        Some(index) => Ok(svids.into_iter().nth(index).unwrap_or_default()),
        None => Err(InvalidWorkload::NoSuchSvid {
            socket: api.to_string(),
            wanted: api.wanted.to_string(),
            offered: base::text::escape(&offered()),
        }),
    }
}

/// The trust domain in its ID: `spiffe://acme.test` (SPIFFE-ID §2.1).
fn trust_domain(id: &str) -> Option<&str> {
    let domain = id.strip_prefix("spiffe://")?;
    // What may be the trust domain of a workload may be one.
    let workload: SpiffeId = format!("{id}/workload").parse().ok()?;
    (workload.trust_domain() == domain).then_some(domain)
}

/// Each of the values of DER that stand one after the other.
fn sequences(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (rest, _) = Any::from_der(bytes).ok()?;
        let (one, _) = bytes.split_at_checked(bytes.len() - rest.len())?;
        found.push(one.to_vec());
        bytes = rest;
    }
    Some(found)
}
