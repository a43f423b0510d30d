//! Mints what the fuzzer of credentials begins with. Nothing of it is committed: some of it is keys.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds` writes to fuzz/corpus/credentials.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cli::pki::{Authority, KeyType, LeafSpec, Purpose, Revocation, Validity};
use pki_types::pem::{PemObject as _, SectionKind};
use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;

/// As the target numbers the labels; the last is that of a file as it is.
const KINDS: [SectionKind; 6] = [
    SectionKind::Certificate,
    SectionKind::Crl,
    SectionKind::PrivateKey,
    SectionKind::EcPrivateKey,
    SectionKind::RsaPrivateKey,
    SectionKind::Csr,
];

fn main() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/credentials");
    fs::create_dir_all(&dir).unwrap();
    let mut count = 0;
    let mut seed = |kind: usize, bytes: &[u8]| {
        let bytes = [&[u8::try_from(kind).unwrap()], bytes].concat();
        fs::write(dir.join(format!("seed-{count}")), bytes).unwrap();
        count += 1;
    };
    let mut file = |text: &str| {
        seed(KINDS.len(), text.as_bytes());
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            let (kind, der) = section.unwrap();
            seed(KINDS.iter().position(|known| *known == kind).unwrap(), &der);
        }
    };

    // Valid at the time that the target judges at.
    let at = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let years = Validity::starting(at, Duration::from_secs(100_000_000)).unwrap();
    let root = Authority::root("root", years).unwrap();
    let issuing = root.issuing("issuing", years).unwrap();
    let plain = LeafSpec {
        uris: vec!["spiffe://acme.test/orders".to_owned()],
        dns: vec!["localhost".to_owned()],
        purposes: vec![Purpose::Client, Purpose::Server],
        ..LeafSpec::client(years)
    };
    for spec in [
        plain.clone(),
        LeafSpec { key_type: KeyType::Ed25519, uris: Vec::new(), ..plain.clone() },
        LeafSpec { key_type: KeyType::Rsa2048, ips: vec!["::1".parse().unwrap()], ..plain.clone() },
        LeafSpec { subject: Some("CN=mainframe,OU=batch\\, b,O=Zürich,C=US".parse().unwrap()), ..plain.clone() },
        LeafSpec { emails: vec!["a@b.test".to_owned()], authority: true, ..plain.clone() },
        LeafSpec { uris: vec!["x:\u{1b}[2J\n".to_owned()], purposes: vec![Purpose::Other(vec![1, 2, 3])], ..plain },
    ] {
        let leaf = issuing.issue(&spec).unwrap();
        let revoked = [Revocation { serial: leaf.serial.clone(), at }];
        let crl = issuing.crl(7, &revoked, at - Duration::from_secs(60), at + Duration::from_secs(60)).unwrap();
        file(&leaf.chain_pem);
        file(&(leaf.key_pem + &leaf.chain_pem + root.certificate_pem() + &crl));
    }
    let request = CertificateParams::new(["localhost".to_owned()]).unwrap();
    file(&request.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap());
    println!("{count} seeds in {}", dir.display());
}
