//! The `openssl` commands that show what the doctor saw. They are for people to run; nothing here runs them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use mtls::Target;

use crate::text::shell_word;

/// Builds commands about one server and one directory of credentials.
pub(super) struct Openssl {
    /// Connects to the server, as a client of ours does.
    connect: String,
    ca: String,
    chain: String,
    key: String,
    crl: String,
}

impl Openssl {
    pub(super) fn new(target: &Target, dir: &Path) -> Self {
        let port = target.port();
        let name = target.server_name();
        let host = name.to_str();
        // An IP address is never sent as a name (RFC 6066 §3).
        let at = host.parse::<IpAddr>().map_or_else(
            |_name| format!("{host}:{port} -servername {host}"),
            |ip| SocketAddr::new(ip, port).to_string(),
        );
        let file = |name| shell_word(&dir.join(name).to_string_lossy());
        Self {
            connect: format!("openssl s_client -connect {at} -alpn h2 -tls1_3"),
            ca: file("ca.crt"),
            chain: file("tls.crt"),
            key: file("tls.key"),
            crl: file("crl.pem"),
        }
    }

    /// The handshake that a client of ours does.
    pub(super) fn handshake(&self) -> String {
        let Self {
            connect,
            ca,
            chain,
            key,
            ..
        } = self;
        format!(
            "{connect} -verify_return_error -CAfile {ca} -cert {chain} -cert_chain {chain} -key {key} </dev/null"
        )
    }

    /// The same with revocation lists.
    pub(super) fn revocation(&self) -> String {
        let (connect, ca, crl) = (&self.connect, &self.ca, &self.crl);
        format!("{connect} -verify_return_error -CAfile {ca} -CRL {crl} -crl_check </dev/null")
    }

    /// What the certificate of the server says.
    pub(super) fn server_certificate(&self) -> String {
        let connect = &self.connect;
        format!("{connect} </dev/null 2>/dev/null | openssl x509 {SHOWN}")
    }

    /// Which certificates the server sends.
    pub(super) fn server_chain(&self) -> String {
        format!("{} -showcerts </dev/null", self.connect)
    }

    /// What is wrong with our own files, by the code of the fault.
    pub(super) fn own_files(&self, code: &str) -> String {
        let (ca, chain, key, crl) = (&self.ca, &self.chain, &self.key, &self.crl);
        match code {
            // The public keys of our key and our certificate, which must be the same.
            "KEY_MISMATCH" => {
                format!("openssl pkey -in {key} -pubout; openssl x509 -in {chain} -noout -pubkey")
            }
            "KEY_ENCRYPTED" | "KEY_UNUSABLE" => format!("openssl pkey -in {key} -noout"),
            "CHAIN_OUT_OF_ORDER" => self.own_order(),
            mtls::codes::CERTIFICATE_REVOKED => format!(
                "openssl verify -show_chain -crl_check -CRLfile {crl} -CAfile {ca} -untrusted {chain} {chain}"
            ),
            code if code.starts_with("CRL_") => format!("openssl crl -in {crl} -noout -text"),
            _ => self.own_chain(),
        }
    }

    /// What our own certificate says.
    pub(super) fn own_certificate(&self) -> String {
        format!("openssl x509 -in {} {SHOWN}", self.chain)
    }

    /// Whether our own chain leads to our own roots.
    pub(super) fn own_chain(&self) -> String {
        let (ca, chain) = (&self.ca, &self.chain);
        format!("openssl verify -show_chain -CAfile {ca} -untrusted {chain} {chain}")
    }

    /// Which certificates we send, in order.
    pub(super) fn own_order(&self) -> String {
        let chain = &self.chain;
        format!("openssl crl2pkcs7 -nocrl -certfile {chain} | openssl pkcs7 -print_certs -noout")
    }
}

/// What is shown of a certificate.
const SHOWN: &str = "-noout -subject -issuer -serial -dates -ext subjectAltName,extendedKeyUsage";
