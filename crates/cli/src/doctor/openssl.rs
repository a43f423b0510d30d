//! The `openssl` commands that show what the doctor saw. They are for people to run; nothing here runs them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use mtls::Target;

use crate::text::shell_word;

/// Builds commands about one server and one directory of credentials.
#[derive(Debug)]
pub(super) struct Openssl<'a> {
    target: &'a Target,
    dir: &'a Path,
}

impl<'a> Openssl<'a> {
    pub(super) fn new(target: &'a Target, dir: &'a Path) -> Self {
        Self { target, dir }
    }

    /// The handshake that a client of ours does.
    pub(super) fn handshake(&self) -> String {
        let (ca, chain, key) = (
            self.file("ca.crt"),
            self.file("tls.crt"),
            self.file("tls.key"),
        );
        format!(
            "{} -verify_return_error -CAfile {ca} -cert {chain} -cert_chain {chain} -key {key} </dev/null",
            self.connect()
        )
    }

    /// The same with revocation lists.
    pub(super) fn revocation(&self) -> String {
        let (ca, crl) = (self.file("ca.crt"), self.file("crl.pem"));
        format!(
            "{} -verify_return_error -CAfile {ca} -CRL {crl} -crl_check </dev/null",
            self.connect()
        )
    }

    /// What the certificate of the server says.
    pub(super) fn server_certificate(&self) -> String {
        format!(
            "{} </dev/null 2>/dev/null | openssl x509 {SHOWN}",
            self.connect()
        )
    }

    /// Which certificates the server sends.
    pub(super) fn server_chain(&self) -> String {
        format!("{} -showcerts </dev/null", self.connect())
    }

    /// What is wrong with our own files, by the code of the fault.
    pub(super) fn own_files(&self, code: &str) -> String {
        match code {
            "KEY_MISMATCH" => self.own_pair(),
            "KEY_ENCRYPTED" | "KEY_UNUSABLE" => {
                format!("openssl pkey -in {} -noout", self.file("tls.key"))
            }
            "CHAIN_OUT_OF_ORDER" => self.own_order(),
            mtls::codes::CERTIFICATE_REVOKED => self.own_revocation(),
            code if code.starts_with("CRL_") => {
                format!("openssl crl -in {} -noout -text", self.file("crl.pem"))
            }
            _ => self.own_chain(),
        }
    }

    /// What our own certificate says.
    pub(super) fn own_certificate(&self) -> String {
        format!("openssl x509 -in {} {SHOWN}", self.file("tls.crt"))
    }

    /// Whether our own chain leads to our own roots.
    pub(super) fn own_chain(&self) -> String {
        let (ca, chain) = (self.file("ca.crt"), self.file("tls.crt"));
        format!("openssl verify -show_chain -CAfile {ca} -untrusted {chain} {chain}")
    }

    /// The same with our revocation list.
    fn own_revocation(&self) -> String {
        let (ca, chain, crl) = (
            self.file("ca.crt"),
            self.file("tls.crt"),
            self.file("crl.pem"),
        );
        format!(
            "openssl verify -show_chain -crl_check -CRLfile {crl} -CAfile {ca} -untrusted {chain} {chain}"
        )
    }

    /// Which certificates we send, in order.
    pub(super) fn own_order(&self) -> String {
        let chain = self.file("tls.crt");
        format!("openssl crl2pkcs7 -nocrl -certfile {chain} | openssl pkcs7 -print_certs -noout")
    }

    /// The public keys of our key and our certificate, which must be the same.
    fn own_pair(&self) -> String {
        let (chain, key) = (self.file("tls.crt"), self.file("tls.key"));
        format!("openssl pkey -in {key} -pubout; openssl x509 -in {chain} -noout -pubkey")
    }

    fn connect(&self) -> String {
        let port = self.target.port();
        let name = self.target.server_name();
        let host = name.to_str();
        // An IP address is never sent as a name (RFC 6066 §3).
        let at = host.parse::<IpAddr>().map_or_else(
            |_name| format!("{host}:{port} -servername {host}"),
            |ip| SocketAddr::new(ip, port).to_string(),
        );
        format!("openssl s_client -connect {at} -alpn h2 -tls1_3")
    }

    fn file(&self, name: &str) -> String {
        shell_word(&self.dir.join(name).to_string_lossy())
    }
}

/// What is shown of a certificate.
const SHOWN: &str = "-noout -subject -issuer -serial -dates -ext subjectAltName,extendedKeyUsage";
