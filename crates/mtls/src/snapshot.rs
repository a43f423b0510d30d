//! One validated set of credentials: chain, key, roots and revocation lists that belong together.
//!
//! Never half a set: everything is parsed and held against everything else before a [`Snapshot`] exists.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use identity::{Peer, Role};
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use webpki::EndEntityCert;

use crate::crl::{CrlFacts, InvalidCrl};
use crate::crypto::{self, Digest};
use crate::source::{Contents, Material, Unreadable};
use crate::verify::{Authorities, ExpiredCrls, Refusal, Root};

/// Credentials that were found to be in order, and what they say about their owner.
pub struct Snapshot {
    role: Role,
    generation: u64,
    digest: Digest,
    chain: Vec<CertificateDer<'static>>,
    resolver: Arc<SingleCertAndKey>,
    authorities: Arc<Authorities>,
    crl_facts: Vec<CrlFacts>,
    own: Result<Peer, Refusal>,
    rejudged: Mutex<HashMap<Digest, Result<(), Refusal>>>,
}

/// Why a set of credentials cannot be used. The text names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCredentials {
    /// A file is missing, not readable by this user, not a file, or too large.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The file is binary where text is expected.
    #[error("{} is DER, not PEM: convert it with `openssl {tool} -inform DER -in … -out …`", path.display())]
    Der {
        /// The file.
        path: PathBuf,
        /// The openssl command that reads it.
        tool: &'static str,
    },
    /// The text between the PEM markers does not decode.
    #[error("{} is not well-formed PEM: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds nothing of the kind that it is for.
    #[error("{} holds no {what}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The key is protected by a passphrase.
    #[error("{} is an encrypted private key: decrypt it with `openssl pkey -in … -out …`", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind or form that is not supported, or there are several.
    #[error("{} holds no usable private key: {reason}", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is not that of the first certificate.
    #[error(
        "the key in {} is not that of the first certificate in {}: the pair is mixed, or the chain is in the wrong order (the leaf comes first)",
        key.display(), chain.display()
    )]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The chain's file.
        chain: PathBuf,
    },
    /// A certificate is malformed.
    #[error("certificate {position} in {} is not usable: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate was not issued by the one after it.
    #[error("certificate {position} in {} was not issued by the next one: the order is leaf, then each issuer", path.display())]
    ChainOrder {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        position: usize,
    },
    /// A revocation list is malformed, of an unsupported kind, badly signed, or older than the one in force.
    #[error("revocation list {position} in {}: {source}", path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        position: usize,
        /// What is wrong with it.
        source: InvalidCrl,
    },
    /// An issuer had a revocation list and has none any more. Checking is not switched off while running.
    #[error("{} no longer holds the revocation list of {issuer}: put a current one back, or restart to stop checking", path.display())]
    CrlGone {
        /// The file.
        path: PathBuf,
        /// The issuer, RFC 4514.
        issuer: String,
    },
    /// Peers with the same roots would refuse the chain.
    #[error("{}: peers would refuse it: {refusal}", path.display())]
    SelfCheck {
        /// The chain's file.
        path: PathBuf,
        /// Why.
        refusal: Refusal,
    },
}

impl Snapshot {
    /// Parses and validates what was read. `previous` is what it would replace.
    ///
    /// A server needs a certificate that its peers would believe. A client may go and ask the server, which knows
    /// better; but neither side replaces a good leaf by one that fails.
    pub(crate) fn build(
        role: Role,
        material: Material,
        expired_crls: ExpiredCrls,
        previous: Option<&Self>,
    ) -> Result<Self, InvalidCredentials> {
        let chain = certificates(&material.chain)?;
        in_order(&material.chain, &chain)?;
        let certified = certified_key(&material, chain.clone())?;
        let mut authorities = Authorities {
            roots: roots(&material.roots)?,
            crls: Vec::new(),
            expired_crls,
        };
        let own = authorities.judge(role, &chain, SystemTime::now());
        let leaf_is_new = previous.is_none_or(|previous| previous.chain.first() != chain.first());
        if let Err(refusal) = &own {
            let previous_is_good = previous.is_some_and(|previous| previous.own.is_ok());
            if leaf_is_new && (role == Role::Server || previous_is_good) {
                return Err(InvalidCredentials::SelfCheck {
                    path: material.chain.path,
                    refusal: refusal.clone(),
                });
            }
        }

        let issuers: Vec<_> = chain
            .iter()
            .skip(1)
            .chain(authorities.roots.iter().map(|r| &r.der))
            .collect();
        let mut crl_facts: Vec<CrlFacts> = Vec::new();
        if let Some(crls) = &material.crls {
            for (index, der) in revocation_lists(crls)?.iter().enumerate() {
                let fault = |source| InvalidCredentials::Crl {
                    path: crls.path.clone(),
                    position: index + 1,
                    source,
                };
                let facts = CrlFacts::read(der, &issuers).map_err(fault)?;
                if crl_facts
                    .iter()
                    .any(|other| other.covers_the_same_as(&facts))
                {
                    return Err(fault(InvalidCrl::Duplicate {
                        issuer: facts.issuer,
                    }));
                }
                if let Some(previous) = previous {
                    facts.not_older_than(&previous.crl_facts).map_err(fault)?;
                }
                authorities.crls.push(facts.list(der).map_err(fault)?);
                crl_facts.push(facts);
            }
        }
        for before in previous.iter().flat_map(|previous| &previous.crl_facts) {
            if !crl_facts
                .iter()
                .any(|facts| facts.covers_the_same_as(before))
            {
                return Err(InvalidCredentials::CrlGone {
                    path: material
                        .crls
                        .map_or_else(|| PathBuf::from("crl.pem"), |crls| crls.path),
                    issuer: before.issuer.clone(),
                });
            }
        }

        Ok(Self {
            role,
            generation: previous.map_or(1, |previous| previous.generation + 1),
            digest: material.digest,
            chain,
            resolver: Arc::new(SingleCertAndKey::from(certified)),
            authorities: Arc::new(authorities),
            crl_facts,
            own,
            rejudged: Mutex::default(),
        })
    }

    /// Which side of a connection these credentials are for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Counts the snapshots of one [`crate::Trust`], from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Our own certificate as a peer with the same roots would see it, or why it would not believe it.
    ///
    /// # Errors
    /// The refusal that such a peer would give.
    pub fn own(&self) -> Result<&Peer, &Refusal> {
        self.own.as_ref()
    }

    /// What decides about the other side.
    pub fn authorities(&self) -> &Arc<Authorities> {
        &self.authorities
    }

    /// The revocation lists in force.
    pub fn crls(&self) -> &[CrlFacts] {
        &self.crl_facts
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        self.resolver.clone()
    }

    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// Judges a chain that an older snapshot believed. A thousand connections of one peer cost one verification.
    pub(crate) fn rejudge(
        &self,
        role: Role,
        chain: &[CertificateDer<'static>],
    ) -> Result<(), Refusal> {
        let id = crypto::digest(chain.iter().map(AsRef::as_ref));
        let mut rejudged = self.rejudged.lock().unwrap_or_else(PoisonError::into_inner);
        rejudged
            .entry(id)
            .or_insert_with(|| {
                self.authorities
                    .judge(role, chain, SystemTime::now())
                    .map(drop)
            })
            .clone()
    }
}

/// Never the key.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("role", &self.role)
            .field("generation", &self.generation)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// The certificates of a PEM file, in order; anything between them is commentary (RFC 7468 §2).
///
/// # Errors
/// [`InvalidCredentials`] when the file is not PEM or holds no certificate.
pub(crate) fn certificates(
    file: &Contents,
) -> Result<Vec<CertificateDer<'static>>, InvalidCredentials> {
    sections(file, "certificate", "x509")
}

fn revocation_lists(
    file: &Contents,
) -> Result<Vec<CertificateRevocationListDer<'static>>, InvalidCredentials> {
    sections(file, "revocation list", "crl")
}

fn sections<T: PemObject>(
    file: &Contents,
    what: &'static str,
    tool: &'static str,
) -> Result<Vec<T>, InvalidCredentials> {
    not_der(file, tool)?;
    let items = T::pem_slice_iter(&file.bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| malformed_pem(file, &e))?;
    if items.is_empty() {
        return Err(InvalidCredentials::Missing {
            path: file.path.clone(),
            what,
        });
    }
    Ok(items)
}

/// A DER structure begins with a SEQUENCE, which no PEM text does.
fn not_der(file: &Contents, tool: &'static str) -> Result<(), InvalidCredentials> {
    if file.bytes.starts_with(&[0x30, 0x82]) || file.bytes.starts_with(&[0x30, 0x81]) {
        return Err(InvalidCredentials::Der {
            path: file.path.clone(),
            tool,
        });
    }
    Ok(())
}

fn malformed_pem(file: &Contents, error: &pem::Error) -> InvalidCredentials {
    InvalidCredentials::Pem {
        path: file.path.clone(),
        reason: format!("{error:?}"),
    }
}

fn in_order(file: &Contents, chain: &[CertificateDer<'_>]) -> Result<(), InvalidCredentials> {
    let mut parsed = Vec::with_capacity(chain.len());
    for (index, der) in chain.iter().enumerate() {
        parsed.push(
            EndEntityCert::try_from(der).map_err(|e| InvalidCredentials::Certificate {
                path: file.path.clone(),
                position: index + 1,
                reason: format!("{e:?}"),
            })?,
        );
    }
    let mismatch = parsed.windows(2).position(|pair| match pair {
        [cert, issuer] => cert.issuer() != issuer.subject(),
        _ => false,
    });
    mismatch.map_or(Ok(()), |index| {
        Err(InvalidCredentials::ChainOrder {
            path: file.path.clone(),
            position: index + 1,
        })
    })
}

fn certified_key(
    material: &Material,
    chain: Vec<CertificateDer<'static>>,
) -> Result<CertifiedKey, InvalidCredentials> {
    let path = || material.key.path.clone();
    not_der(&material.key, "pkey")?;
    let key = private_key(&material.key)?;
    CertifiedKey::from_der(chain, key, crypto::provider()).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            return InvalidCredentials::KeyMismatch {
                key: path(),
                chain: material.chain.path.clone(),
            };
        }
        InvalidCredentials::UnusableKey {
            path: path(),
            reason: error.to_string(),
        }
    })
}

fn private_key(file: &Contents) -> Result<PrivateKeyDer<'static>, InvalidCredentials> {
    let contains = |needle: &[u8]| {
        file.bytes
            .windows(needle.len())
            .any(|window| window == needle)
    };
    if contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED") {
        return Err(InvalidCredentials::EncryptedKey {
            path: file.path.clone(),
        });
    }
    let keys = <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(&file.bytes)
        .filter_map(|section| {
            section
                .map(|(kind, der)| PrivateKeyDer::from_pem(kind, der))
                .transpose()
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| malformed_pem(file, &e))?;
    let [key] = <[_; 1]>::try_from(keys).map_err(|keys| match keys.len() {
        0 => InvalidCredentials::Missing {
            path: file.path.clone(),
            what: "private key",
        },
        n => InvalidCredentials::UnusableKey {
            path: file.path.clone(),
            reason: format!("it has {n} keys, and one is needed"),
        },
    })?;
    Ok(key)
}

fn roots(file: &Contents) -> Result<Vec<Root>, InvalidCredentials> {
    let root = |(index, der): (usize, CertificateDer<'static>)| {
        let anchor = webpki::anchor_from_trusted_cert(&der)
            .map_err(|e| InvalidCredentials::Certificate {
                path: file.path.clone(),
                position: index + 1,
                reason: format!("{e:?}"),
            })?
            .to_owned();
        Ok(Root { der, anchor })
    };
    certificates(file)?
        .into_iter()
        .enumerate()
        .map(root)
        .collect()
}
