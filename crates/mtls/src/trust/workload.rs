//! The SPIFFE Workload API: the address of its agent, which identity is ours, and how a response is parsed.
//!
//! The messages are those of the standard (SPIFFE Workload API §5, `workload.proto`). This module does not verify
//! certificates; a response is parsed completely or refused.

use std::fmt;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use base::pem::Label;
use base::text::escape;
use identity::SpiffeId;
use prost::Message;
use rustls::pki_types::pem::SectionKind;
use zeroize::{Zeroize as _, Zeroizing};

use crate::codes;
use crate::trust::der;
use crate::trust::invalid::InvalidCredentials;
use crate::trust::material::{Material, NewBundle, NewLists};
use crate::trust::pem_file::PemFile;
use crate::trust::root::Vouches;

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

    pub(crate) fn unreachable(&self, reason: &str) -> InvalidCredentials {
        let text = format!("no agent answers at {self}: {}", escape(reason));
        InvalidCredentials::new(codes::WORKLOAD_API_UNREACHABLE, text)
    }

    /// Its answer breaks the standard, or is larger than any real one.
    pub(crate) fn malformed(&self, reason: &str) -> InvalidCredentials {
        let text = format!(
            "the response of the agent at {self} is not usable: {}",
            escape(reason)
        );
        InvalidCredentials::new(codes::WORKLOAD_API_MALFORMED, text)
    }
}

impl fmt::Display for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.socket.display())
    }
}

/// An address as the standard writes it: `unix:///run/spire/agent.sock` (SPIFFE Workload Endpoint §4).
impl FromStr for WorkloadApi {
    type Err = InvalidCredentials;

    fn from_str(address: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| {
            let text = format!(
                "the address of a Workload API is unix:///PATH (SPIFFE Workload Endpoint §4): {reason}"
            );
            Err(InvalidCredentials::new(codes::WORKLOAD_API_ADDRESS, text))
        };
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

impl Drop for Svid {
    fn drop(&mut self) {
        self.x509_svid_key.zeroize();
    }
}

/// An entry of the map `federated_bundles`.
#[derive(Clone, PartialEq, Message)]
struct Federated {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(bytes = "vec", tag = "2")]
    bundle: Vec<u8>,
}

impl WorkloadApi {
    /// Parses a message, and selects our SVID. Its parts get the names of their origin for errors.
    pub(crate) fn read(&self, message: &[u8]) -> Result<Material, InvalidCredentials> {
        let malformed = |reason: String| self.malformed(&reason);
        let undecodable = |what: &str, error: &prost::DecodeError| {
            malformed(format!("{what} is not a message of the standard: {error}"))
        };
        let mut response = Response::decode(message).map_err(|e| undecodable("it", &e))?;
        // They have the keys.
        let svids = Zeroizing::new(take(&mut response.svids));
        for (what, count, max) in [
            ("SVIDs", svids.len(), MAX_SVIDS),
            ("bundles", response.federated_bundles.len(), MAX_BUNDLES),
            ("revocation lists", response.crl.len(), MAX_LISTS),
        ] {
            if count > max {
                return Err(malformed(format!("it has {count} {what}, more than {max}")));
            }
        }
        let svids = svids.iter().map(|der| Svid::decode(&**der));
        let svids: Vec<_> = svids
            .collect::<Result<_, _>>()
            .map_err(|e| undecodable("an SVID in it", &e))?;
        let mut svid = self.ours(svids)?;
        let id: SpiffeId = svid
            .spiffe_id
            .parse()
            .map_err(|e| malformed(format!("{:?} is no SPIFFE ID: {e}", svid.spiffe_id)))?;

        let mut bundles = vec![self.bundle(id.trust_domain(), &svid.bundle)?];
        for entry in &response.federated_bundles {
            let entry =
                Federated::decode(&**entry).map_err(|e| undecodable("a bundle in it", &e))?;
            let name = &entry.trust_domain;
            let domain = trust_domain(name).ok_or_else(|| {
                malformed(format!("{name:?} is not a trust domain to federate with"))
            })?;
            // Our own bundle comes with the SVID, and none may be repeated.
            let mut domains = bundles.iter().map(|other| other.vouches.trust_domain());
            if domains.any(|other| other == Some(domain)) {
                return Err(malformed(format!("it has two bundles of {domain}")));
            }
            bundles.push(self.bundle(domain, &entry.bundle)?);
        }
        let chain_name = format!("the SVID {id}");
        let chain = self.ders(&chain_name, &svid.x509_svid)?;
        if chain.is_empty() {
            return Err(malformed(format!("{chain_name} has no certificate")));
        }
        let key = Label::PrivateKey(SectionKind::PrivateKey);
        let der = take(&mut svid.x509_svid_key);
        let key = self.file(&format!("the key of {id}"), &key, vec![der]);
        // An empty list is not the same as none.
        let has_lists = !response.crl.is_empty();
        let lists = self.file("the revocation lists", &Label::RevocationList, response.crl);
        Ok(Material {
            chain: Ok(self.file(&chain_name, &Label::Certificate, chain)),
            key: Some(Ok(key)),
            bundles,
            lists: NewLists {
                path: lists.path.clone(),
                file: Ok(has_lists.then_some(lists)),
            },
            id: Some(id),
            trouble: None,
        })
    }

    fn bundle(&self, domain: &str, ders: &[u8]) -> Result<NewBundle, InvalidCredentials> {
        let name = format!("the bundle of {domain}");
        let ders = self.ders(&name, ders)?;
        let roots = match ders.is_empty() {
            true => Err(InvalidCredentials::new(
                codes::BUNDLE_EMPTY,
                format!(
                    "{name} from the agent at {self} has no root, so no peer of it could be accepted"
                ),
            )),
            false => Ok(self.file(&name, &Label::Certificate, ders)),
        };
        Ok(NewBundle {
            vouches: Vouches::ForTrustDomain(domain.into()),
            roots,
        })
    }

    fn file(&self, what: &str, label: &Label, ders: Vec<Vec<u8>>) -> PemFile {
        PemFile::of_der(format!("{what} from {self}"), label, ders)
    }

    /// Each of the values of DER that stand one after the other.
    fn ders(&self, what: &str, bytes: &[u8]) -> Result<Vec<Vec<u8>>, InvalidCredentials> {
        let ders = der::encodings(bytes);
        let ders = ders.ok_or_else(|| self.malformed(&format!("{what} is not DER")))?;
        Ok(ders.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The requested SVID. Of several with one hint, the first counts (SPIFFE Workload API §5.2).
    fn ours(&self, svids: Vec<Svid>) -> Result<Svid, InvalidCredentials> {
        const SHOWN: usize = 5;
        let is_ours = |svid: &Svid| match &self.wanted {
            Wanted::First => true,
            Wanted::Id(id) => svid.spiffe_id == id.as_str(),
            Wanted::Hint(hint) => svid.hint == *hint,
        };
        if let Some(index) = svids.iter().position(is_ours) {
            return Ok(svids.into_iter().nth(index).unwrap_or_default());
        }
        let shown = svids.iter().take(SHOWN).map(|svid| match &*svid.hint {
            "" => svid.spiffe_id.clone(),
            hint => format!("{} ({hint})", svid.spiffe_id),
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        let offered = match svids.len() {
            0 => "none".to_owned(),
            more @ 6.. => format!("{shown} and {} more", more - SHOWN),
            _ => shown,
        };
        let (wanted, offered) = (&self.wanted, escape(&offered));
        let text =
            format!("the agent at {self} has no SVID {wanted} for this process, but {offered}");
        Err(InvalidCredentials::new(codes::SVID_NOT_FOUND, text))
    }
}

/// The trust domain in its ID: `spiffe://acme.test` (SPIFFE-ID §2.1).
fn trust_domain(id: &str) -> Option<&str> {
    let domain = id.strip_prefix("spiffe://")?;
    // What may be the trust domain of a workload may be one.
    let workload: SpiffeId = format!("{id}/workload").parse().ok()?;
    (workload.trust_domain() == domain).then_some(domain)
}
