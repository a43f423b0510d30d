//! The bytes are a file of certificates, revocation lists, keys or requests, or one of them in DER: each reader takes
//! it or refuses it, and what they say has nothing in it that a terminal would obey. Never a panic.
#![no_main]

use std::path::Path;
use std::time::{Duration, SystemTime};

use cli::OutputFormat;
use cli::cert::{self, Platform, Verification};
use cli::pki::certificate::Certificate;
use cli::pki::{Authority, Revocations, SigningRequest, Subject};
use cli::text::Printable;
use identity::{Peer, Role};
use libfuzzer_sys::fuzz_target;
use mtls::{Authorities, ExpiredCrls, PemFile, Snapshot};
use pem::Pem;
use pki_types::CertificateDer;
use time::OffsetDateTime;

/// What the first byte says that the others are. Beyond these: a file as it is.
const LABELS: [&str; 6] = [
    "CERTIFICATE",
    "X509 CRL",
    "PRIVATE KEY",
    "EC PRIVATE KEY",
    "RSA PRIVATE KEY",
    "CERTIFICATE REQUEST",
];

const PLATFORMS: [Platform; 3] = [Platform::Macos, Platform::Chrome, Platform::Java];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match LABELS.get(usize::from(*kind)) {
        Some(label) => {
            der(bytes);
            file(pem::encode(&Pem::new(*label, bytes)).into_bytes());
        }
        None => file(bytes.to_vec()),
    }
});

fn der(bytes: &[u8]) {
    for role in [Role::Client, Role::Server] {
        match Peer::from_verified_path(role, &[bytes]) {
            Ok(peer) => one_line(&peer.to_string()),
            Err(invalid) => one_line(&invalid.to_string()),
        }
    }
    if let Ok(name) = identity::distinguished_name(bytes) {
        one_line(&name);
        // What is shown can be typed again, or is refused for what it is.
        drop(name.parse::<Subject>());
    }
    if let Ok(certificate) = Certificate::from_der(&CertificateDer::from(bytes)) {
        certificate.is_signed_by(&certificate);
        certificate.names_issuer(&certificate);
    }
}

fn file(bytes: Vec<u8>) {
    let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for output in [OutputFormat::Text, OutputFormat::Json] {
        let mut shown = Vec::new();
        match cert::describe(Path::new("input"), bytes.clone(), output, &PLATFORMS, now, &mut shown) {
            Ok(()) => shown.split(|b| *b == b'\n').for_each(|line| one_line(&String::from_utf8_lossy(line))),
            Err(error) => one_line(&countersign::base::text::in_one_line(&*error)),
        }
    }
    let input = PemFile::new("input", bytes.clone());
    let at = SystemTime::from(now);
    for (purpose, name, crls) in [
        (Role::Client, "spiffe://acme.test/orders", None),
        (Role::Server, "localhost", Some(input.clone())),
    ] {
        let name = cert::expected_name(name).unwrap();
        let roots = [input.clone()];
        let issuers = input.certificates().unwrap_or_default();
        match Authorities::of_files(&roots, crls.as_slice(), &issuers, ExpiredCrls::Refuse) {
            Ok(authorities) => match cert::judge(&authorities, &input, purpose, Some(&name), at) {
                Verification::Accepted(peer) => one_line(&Printable(peer).to_string()),
                Verification::Refused { code: _, reason } => one_line(&Printable(reason).to_string()),
            },
            Err(unusable) => one_line(&countersign::base::text::in_one_line(&unusable)),
        }
    }
    let [chain, key, roots, crls] = [(); 4].map(|()| input.clone());
    match Snapshot::of_files(Role::Client, chain, key, roots, Some(crls), ExpiredCrls::Honour) {
        Ok(snapshot) => drop(snapshot.own().map(|own| one_line(&own.to_string()))),
        Err(invalid) => one_line(&countersign::base::text::in_one_line(&invalid)),
    }
    let Ok(text) = String::from_utf8(bytes) else { return };
    if let Err(invalid) = SigningRequest::from_pem(text.as_bytes()) {
        one_line(&countersign::base::text::in_one_line(&*invalid));
    }
    if let Err(invalid) = Revocations::from_pem(&text) {
        one_line(&countersign::base::text::in_one_line(&*invalid));
    }
    if let Err(invalid) = Authority::from_pem(&text, &text) {
        one_line(&countersign::base::text::in_one_line(&*invalid));
    }
}

fn one_line(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}
