//! The examination, step by step: our files, the socket, the handshake, the RPC. The first fault that is found is it.

use base::text::timestamp;
use std::net::SocketAddr;
use std::time::SystemTime;

use identity::{Peer, Role};
use mtls::{
    ChannelOptions, HandshakeError, Present, Refusal, Reload, ServerIdentity, Snapshot, Source,
    Trust,
};
use pki_types::CertificateDer;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Doctor;
use super::call;
use super::diagnosis::{Diagnosis, Whose};
use super::openssl::Openssl;
use crate::codes;
use crate::pki::certificate::Certificate;

/// The alerts that need a second look (RFC 8446 §6.2).
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;

/// Finds out why the connection that `doctor` describes does not work, or that it does. Call it within a tokio runtime.
pub(super) async fn examine(doctor: &Doctor) -> Diagnosis {
    let examination = Examination {
        doctor,
        expected: doctor.expected(),
        openssl: Openssl::new(&doctor.target, &doctor.tls_dir),
    };
    let found = examination.run().await;
    found.unwrap_or_else(|diagnosis| diagnosis)
}

struct Examination<'a> {
    doctor: &'a Doctor,
    /// The identity that the server must have.
    expected: ServerIdentity,
    openssl: Openssl,
}

impl Examination<'_> {
    async fn run(&self) -> Result<Diagnosis, Diagnosis> {
        let source = Source::directory(&self.doctor.tls_dir);
        let trust = Trust::open(Role::Client, source, Reload::default())
            // Our own files cannot be used, so nothing can be tried.
            .map_err(|invalid| self.own_files(invalid.code(), invalid.to_string()))?;
        let snapshot = trust.current();
        if let Err(refusal) = snapshot.own()
            && *refusal.cause() == Refusal::Revoked
        {
            // The certificate or a CA above it, by our own list: every peer that has it refuses us.
            let file = self.doctor.tls_dir.join("tls.crt");
            let cause = format!("{}: {refusal}", file.display());
            return Err(self.own_files(refusal.code(), cause));
        }
        let address = self.reach().await?;
        let server = self.shake_hands(address, &snapshot).await?;
        let options = ChannelOptions {
            connect_timeout: self.doctor.patience.0,
            ..ChannelOptions::default()
        };
        let target = self.doctor.target.clone();
        let channel = mtls::connect(target, self.expected.clone(), trust, options);
        let who = format!("{server} at {address}");
        call::examine(channel, self.doctor, &who, self.openssl.handshake()).await
    }

    fn own_files(&self, code: &'static str, cause: String) -> Diagnosis {
        Diagnosis::new(code, Whose::Ours, cause, self.openssl.own_files(code))
    }

    /// The first address of the name that takes a connection.
    async fn reach(&self) -> Result<SocketAddr, Diagnosis> {
        let (target, patience) = (&self.doctor.target, self.doctor.patience.0);
        let unreachable = |code, cause: String| {
            Diagnosis::new(code, Whose::Between, cause, self.openssl.server_chain())
        };
        let name = target.server_name();
        let lookup = lookup_host((name.to_str().into_owned(), target.port()));
        let resolved = timeout(patience, lookup);
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
            let attempt = timeout(patience, TcpStream::connect(address)).await;
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
        let (target, patience) = (&self.doctor.target, self.doctor.patience.0);
        let (expected, present) = (self.expected.clone(), Present::Certificate);
        let done = mtls::probe(address, target, expected, snapshot, present, patience).await;
        let error = match done {
            Ok(server) => return Ok(server.to_string()),
            Err(error) => error,
        };
        let chain = mtls::presented_chain(address, target, patience).await;
        let at = format!("{target} at {address}");
        Err(match &error {
            HandshakeError::Refused(refusal) => self.refused(&at, refusal, &chain, snapshot),
            HandshakeError::RefusedByPeer(alert) => {
                let at = format!("{at}: {error}");
                self.refused_by_peer(&at, u8::from(*alert), error.code(), &chain, snapshot)
            }
            _ => {
                let cause = format!("{at}: {error}");
                let shown = self.openssl.handshake();
                Diagnosis::new(error.code(), Whose::TheServers, cause, shown)
            }
        })
    }

    /// We do not accept the certificate of the server.
    fn refused(
        &self,
        at: &str,
        refusal: &Refusal,
        chain: &[CertificateDer<'_>],
        snapshot: &Snapshot,
    ) -> Diagnosis {
        let found = |code, cause: String, shown| {
            let cause = format!("we refuse the certificate of {at}: {cause}");
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
        let authorities = snapshot.authorities();
        let (whole, now) = (joined(chain, snapshot.chain()), SystemTime::now());
        let judged = authorities.judge_server(&self.expected, &whole, now);
        let issuer = issuer(chain);
        let (code, cause) = match judged {
            Ok(_) => (
                codes::INTERMEDIATE_MISSING,
                format!("it does not send the certificate of its issuer {issuer}"),
            ),
            Err(_) => {
                let roots = self.doctor.tls_dir.join("ca.crt");
                let roots = roots.display();
                let cause = format!("its issuer {issuer} does not lead to a root in {roots}");
                (refusal.code(), cause)
            }
        };
        found(code, cause, self.openssl.server_chain())
    }

    /// The server does not accept our certificate, by this `alert`. What our own rules find wrong with it is the likely
    /// reason.
    fn refused_by_peer(
        &self,
        at: &str,
        alert: u8,
        code: &'static str,
        server_chain: &[CertificateDer<'_>],
        snapshot: &Snapshot,
    ) -> Diagnosis {
        let found = |code, whose, cause: String, shown| {
            Diagnosis::new(code, whose, format!("{at}; {cause}"), shown)
        };
        let issuer = issuer(snapshot.chain());
        match snapshot.own() {
            Err(Refusal::UnknownIssuer) => {
                let authorities = snapshot.authorities();
                let (whole, now) = (joined(snapshot.chain(), server_chain), SystemTime::now());
                let (code, cause, shown) = match authorities.judge(Role::Client, &whole, now) {
                    Ok(_) => (
                        codes::INTERMEDIATE_MISSING,
                        format!("we do not send the certificate of our issuer {issuer}"),
                        self.openssl.own_order(),
                    ),
                    Err(_) => (
                        code,
                        format!("ours is from {issuer}, which is not under our own roots either"),
                        self.openssl.own_chain(),
                    ),
                };
                found(code, Whose::Ours, cause, shown)
            }
            Err(refusal) => {
                let cause = format!("by our own rules too: {refusal}");
                let shown = self.openssl.own_certificate();
                found(refusal.code(), Whose::Ours, cause, shown)
            }
            Ok(own) if alert == CERTIFICATE_EXPIRED => {
                let now = timestamp(SystemTime::now());
                let cause = format!("by our clock it is {now} now, and {}", described(own));
                let shown = self.openssl.own_certificate();
                found(codes::CLOCK_SKEW, Whose::Between, cause, shown)
            }
            Ok(own) => {
                let from = match alert {
                    UNKNOWN_CA => format!(", from {issuer}"),
                    _ => String::new(),
                };
                let cause = format!("{}{from}", described(own));
                found(code, Whose::Ours, cause, self.openssl.handshake())
            }
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
