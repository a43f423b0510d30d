//! The examination, step by step: our files, the socket, the handshake, the RPC. The first fault that is found is it.

use base::text::timestamp;
use std::net::SocketAddr;
use std::time::SystemTime;

use identity::{Peer, Role};
use mtls::{
    ChannelOptions, ExpiredCrls, HandshakeError, InvalidCredentials, PemFile, Present, Refusal,
    Reload, Snapshot, Source, Trust,
};
use pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Attempt;
use super::call;
use super::diagnosis::{Diagnosis, Whose};
use super::openssl::Openssl;
use crate::cert::{Verification, verification};
use crate::codes;
use crate::pki::certificate::Certificate;

/// The alerts that need a second look (RFC 8446 §6.2).
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;

/// Finds out why `attempt` does not work, or that it does. Call it within a tokio runtime.
pub(super) async fn examine(attempt: &Attempt) -> Diagnosis {
    let examination = Examination {
        attempt,
        openssl: Openssl::new(&attempt.target, &attempt.tls_dir),
    };
    examination
        .run()
        .await
        .unwrap_or_else(|diagnosis| diagnosis)
}

struct Examination<'a> {
    attempt: &'a Attempt,
    openssl: Openssl<'a>,
}

impl Examination<'_> {
    async fn run(&self) -> Result<Diagnosis, Diagnosis> {
        let source = Source::directory(&self.attempt.tls_dir);
        let trust = Trust::open(Role::Client, source, Reload::default())
            .map_err(|invalid| self.unusable(&invalid))?;
        self.not_revoked()?;
        let snapshot = trust.current();
        let address = self.reach().await?;
        let server = self.shake_hands(address, &snapshot).await?;
        let options = ChannelOptions {
            connect_timeout: self.attempt.patience,
            ..ChannelOptions::default()
        };
        let (target, expected) = (self.attempt.target.clone(), self.attempt.expected.clone());
        let channel = mtls::connect(target, expected, trust, options);
        let who = format!("{server} at {address}");
        call::examine(channel, self.attempt, &who, &self.openssl).await
    }

    /// Our own files cannot be used, so nothing can be tried.
    fn unusable(&self, invalid: &InvalidCredentials) -> Diagnosis {
        let code = invalid.code();
        let shown = self.openssl.own_files(code);
        Diagnosis::new(code, Whose::Ours, invalid.to_string(), shown)
    }

    /// Our own list does not name our own certificate: every peer that has the list refuses us.
    fn not_revoked(&self) -> Result<(), Diagnosis> {
        let file = |name| PemFile::read(&self.attempt.tls_dir.join(name));
        let lists = PemFile::read_lists(&self.attempt.tls_dir.join("crl.pem"));
        let (Ok(chain), Ok(roots), Ok(lists)) = (file("tls.crt"), file("ca.crt"), lists) else {
            return Ok(());
        };
        let judged = verification(
            &chain,
            Role::Client,
            None,
            SystemTime::now(),
            &[roots],
            &[lists],
            ExpiredCrls::Honour,
        );
        match judged {
            Ok(Verification::Refused { code, reason }) if code == "CERTIFICATE_REVOKED" => {
                let shown = self.openssl.own_files(code);
                Err(Diagnosis::new(code, Whose::Ours, reason, shown))
            }
            Ok(Verification::Refused { .. } | Verification::Accepted(_)) | Err(_) => Ok(()),
        }
    }

    /// The first address of the name that takes a connection.
    async fn reach(&self) -> Result<SocketAddr, Diagnosis> {
        let target = &self.attempt.target;
        let unreachable = |code, cause: String| {
            Diagnosis::new(code, Whose::Between, cause, self.openssl.server_chain())
        };
        let name = target.server_name();
        let resolved = timeout(
            self.attempt.patience,
            lookup_host((name.to_str().into_owned(), target.port())),
        );
        let addresses: Vec<_> = match resolved.await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                let cause = format!("the name of {target} does not resolve: {error}");
                return Err(unreachable("NAME_NOT_RESOLVED", cause));
            }
            Err(_late) => Vec::new(),
        };
        let mut last = unreachable(
            "NAME_NOT_RESOLVED",
            format!("the name of {target} has no address"),
        );
        for address in addresses {
            let attempt = timeout(self.attempt.patience, TcpStream::connect(address)).await;
            let cause = |why: &str| format!("cannot reach {target} at {address}: {why}");
            last = match attempt {
                Ok(Ok(_connected)) => return Ok(address),
                Ok(Err(error)) => unreachable("UNREACHABLE", cause(&error.to_string())),
                Err(_late) => unreachable("CONNECT_TIMEOUT", cause("no answer in time")),
            };
        }
        Err(last)
    }

    async fn shake_hands(
        &self,
        address: SocketAddr,
        snapshot: &Snapshot,
    ) -> Result<String, Diagnosis> {
        let Attempt {
            target,
            expected,
            patience,
            ..
        } = self.attempt;
        let present = Present::Certificate;
        let done = mtls::probe(
            address,
            target,
            expected.clone(),
            snapshot,
            present,
            *patience,
        );
        let error = match done.await {
            Ok(server) => return Ok(server.to_string()),
            Err(error) => error,
        };
        let chain = mtls::presented_chain(address, target, *patience).await;
        if let HandshakeError::Refused(refusal) = &error {
            return Err(self.refused(address, refusal, &chain, snapshot));
        }
        if let HandshakeError::RefusedByPeer(alert) = &error {
            return Err(self.refused_by_peer(address, u8::from(*alert), &error, &chain, snapshot));
        }
        let cause = format!("{target} at {address}: {error}");
        let shown = self.openssl.handshake();
        Err(Diagnosis::new(
            error.code(),
            Whose::TheServers,
            cause,
            shown,
        ))
    }

    /// We do not accept the certificate of the server.
    fn refused(
        &self,
        address: SocketAddr,
        refusal: &Refusal,
        chain: &[CertificateDer<'_>],
        snapshot: &Snapshot,
    ) -> Diagnosis {
        let Attempt {
            target, expected, ..
        } = self.attempt;
        let found = |code, cause: String, shown| {
            let cause = format!("we refuse the certificate of {target} at {address}: {cause}");
            Diagnosis::new(code, Whose::TheServers, cause, shown)
        };
        if let Some(position) = out_of_order(chain) {
            let cause = format!(
                "certificate {position} of the chain that it sends was not issued by the next one"
            );
            return found("CHAIN_OUT_OF_ORDER", cause, self.openssl.server_chain());
        }
        if *refusal != Refusal::UnknownIssuer {
            let shown = match refusal.code() {
                "CERTIFICATE_REVOKED" | "CRL_EXPIRED" | "REVOCATION_UNKNOWN" => {
                    self.openssl.revocation()
                }
                _ => self.openssl.server_certificate(),
            };
            return found(refusal.code(), refusal.to_string(), shown);
        }
        let whole = joined(chain, snapshot.chain());
        let authorities = snapshot.authorities();
        let judged = authorities.judge_server(expected, &whole, SystemTime::now());
        let issuer = issuer(chain);
        let shown = self.openssl.server_chain();
        if judged.is_ok() {
            let cause = format!("it does not send the certificate of its issuer {issuer}");
            return found(codes::INTERMEDIATE_MISSING, cause, shown);
        }
        let roots = self.attempt.tls_dir.join("ca.crt");
        let cause = format!(
            "its issuer {issuer} does not lead to a root in {}",
            roots.display()
        );
        found(refusal.code(), cause, shown)
    }

    /// The server does not accept our certificate. What our own rules find wrong with it is the likely reason.
    fn refused_by_peer(
        &self,
        address: SocketAddr,
        alert: u8,
        error: &HandshakeError,
        server_chain: &[CertificateDer<'_>],
        snapshot: &Snapshot,
    ) -> Diagnosis {
        let target = &self.attempt.target;
        let at = format!("{target} at {address}: {error}");
        let ours = |code, cause: String, shown| Diagnosis::new(code, Whose::Ours, cause, shown);
        match snapshot.own() {
            Err(Refusal::UnknownIssuer) => {
                let whole = joined(snapshot.chain(), server_chain);
                let authorities = snapshot.authorities();
                let judged = authorities.judge(Role::Client, &whole, SystemTime::now());
                if judged.is_ok() {
                    let cause = format!(
                        "{at}; we do not send the certificate of our issuer {}",
                        issuer(snapshot.chain())
                    );
                    return ours(codes::INTERMEDIATE_MISSING, cause, self.openssl.own_order());
                }
                let issuer = issuer(snapshot.chain());
                let cause =
                    format!("{at}; ours is from {issuer}, which is not under our own roots either");
                ours(error.code(), cause, self.openssl.own_chain())
            }
            Err(refusal) => ours(
                refusal.code(),
                format!("{at}; by our own rules too: {refusal}"),
                self.openssl.own_certificate(),
            ),
            Ok(own) if alert == CERTIFICATE_EXPIRED => Diagnosis::new(
                codes::CLOCK_SKEW,
                Whose::Between,
                format!(
                    "{at}; by our clock it is {} now, and {}",
                    now(),
                    described(own)
                ),
                self.openssl.own_certificate(),
            ),
            Ok(own) if alert == UNKNOWN_CA => ours(
                error.code(),
                format!(
                    "{at}; {}, from {}",
                    described(own),
                    issuer(snapshot.chain())
                ),
                self.openssl.handshake(),
            ),
            Ok(own) => ours(
                error.code(),
                format!("{at}; {}", described(own)),
                self.openssl.handshake(),
            ),
        }
    }
}

fn described(own: &Peer) -> String {
    format!(
        "ours is {own}, serial {}, valid from {} until {}",
        own.serial(),
        timestamp(own.not_before()),
        timestamp(own.not_after())
    )
}

fn now() -> String {
    timestamp(OffsetDateTime::now_utc())
}

/// A chain with what else is at hand.
fn joined<'a>(
    chain: &[CertificateDer<'a>],
    others: &[CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    chain.iter().chain(others.iter().skip(1)).cloned().collect()
}

/// The place, from 1, of the first certificate that the next one did not issue.
fn out_of_order(chain: &[CertificateDer<'_>]) -> Option<usize> {
    let chain = chain.iter().map(|der| Certificate::from_der(der).ok());
    let chain: Option<Vec<_>> = chain.collect();
    let position = chain?.windows(2).position(|pair| match pair {
        [certificate, next] => !certificate.names_issuer(next),
        _ => false,
    })?;
    Some(position + 1)
}

/// The issuer of the leaf.
fn issuer(chain: &[CertificateDer<'_>]) -> String {
    let issuer = chain
        .first()
        .and_then(|leaf| Certificate::from_der(leaf).ok())
        .and_then(|leaf| leaf.issuer().ok());
    issuer.map_or_else(|| "(unreadable)".to_owned(), |issuer| format!("{issuer:?}"))
}
