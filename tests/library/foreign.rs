//! Credentials as other tools write them: read as they are, or refused with what to change.

use cli::pki::{Authority, KeyType, LeafSpec};
use identity::Role;
use mtls::{ExpiredCrls, PemFile, Snapshot};
use pem::Pem;

use crate::world::{Pki, hour, spec};

/// The files of one server, to be changed one at a time.
#[derive(Clone)]
struct Files {
    chain: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<u8>,
    crls: Option<Vec<u8>>,
}

struct Minted {
    pki: Pki,
    files: Files,
}

fn minted(key_type: KeyType) -> Minted {
    let pki = Pki::empty();
    let leaf = pki
        .issuing
        .issue(&LeafSpec {
            key_type,
            ..spec("echo")
        })
        .unwrap();
    let files = Files {
        chain: leaf.chain_pem.into(),
        key: leaf.key_pem.into(),
        roots: pki.root.certificate_pem().into(),
        crls: None,
    };
    Minted { pki, files }
}

impl Files {
    /// Why they are refused, or nothing.
    fn refusal(&self) -> Option<String> {
        let file = |name: &str, bytes: &[u8]| PemFile::new(name, bytes.to_vec());
        Snapshot::of_files(
            Role::Server,
            file("tls.crt", &self.chain),
            file("tls.key", &self.key),
            file("ca.crt", &self.roots),
            self.crls.as_deref().map(|crls| file("crl.pem", crls)),
            ExpiredCrls::Refuse,
        )
        .err()
        .map(|invalid| invalid.to_string())
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn sections(pem: &[u8]) -> Vec<Pem> {
    pem::parse_many(pem).unwrap()
}

fn encode(label: &str, der: Vec<u8>) -> Vec<u8> {
    pem::encode(&Pem::new(label, der)).into_bytes()
}

/// The value of the first element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, header) = match der[1] {
        short @ ..=0x7f => (usize::from(short), 2),
        long => {
            let octets = usize::from(long & 0x7f);
            let length = der[2..2 + octets]
                .iter()
                .fold(0, |length, b| length << 8 | usize::from(*b));
            (length, 2 + octets)
        }
    };
    der[header..].split_at(length)
}

fn sequence(value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[0x30, 0x82], &length[..], value].concat()
}

/// What is inside a PKCS#8 key (RFC 5958 §2): SEC1 for EC, PKCS#1 for RSA.
fn unwrapped(pkcs8_pem: &[u8]) -> Vec<u8> {
    let pkcs8 = sections(pkcs8_pem).remove(0).into_contents();
    let (_version, rest) = element(element(&pkcs8).0);
    let (_algorithm, key) = element(rest);
    element(key).0.to_vec()
}

/// The list without its extensions, and so without a number; and as version 1, if told so.
fn without_number(crl_pem: &str, version_1: bool) -> Vec<u8> {
    let der = sections(crl_pem.as_bytes()).remove(0).into_contents();
    let outer = element(&der).0;
    let (list, signature) = element(outer);
    let (_version, mut rest) = element(list);
    let mut kept = if version_1 {
        Vec::new()
    } else {
        vec![0x02, 0x01, 0x01]
    };
    // The extensions are tagged [0] (RFC 5280 §5.1).
    while !rest.is_empty() && rest[0] != 0xa0 {
        let (_value, after) = element(rest);
        kept.extend_from_slice(&rest[..rest.len() - after.len()]);
        rest = after;
    }
    encode(
        "X509 CRL",
        sequence(&[sequence(&kept), signature.to_vec()].concat()),
    )
}

#[test]
fn keys_are_read_in_pkcs8_sec1_and_pkcs1() {
    for (key_type, label) in [
        (KeyType::P256, "EC PRIVATE KEY"),
        (KeyType::Rsa2048, "RSA PRIVATE KEY"),
        (KeyType::Ed25519, "PRIVATE KEY"),
    ] {
        let Minted { files, .. } = minted(key_type);
        assert_eq!(files.refusal(), None, "{label}");
        if label == "PRIVATE KEY" {
            continue;
        }
        // openssl's ecparam puts the curve before the key.
        let curve = encode(
            "EC PARAMETERS",
            b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07".to_vec(),
        );
        let key = [curve, encode(label, unwrapped(&files.key))].concat();
        assert_eq!(Files { key, ..files }.refusal(), None, "{label}");
    }
}

#[test]
fn what_is_written_around_the_certificates_does_not_matter() {
    let Minted { pki, files } = minted(KeyType::P256);
    let chain = text(&files.chain);
    let other = Authority::root("other", hour()).unwrap();
    let bundle = [other.certificate_pem(), text(&files.roots)].concat();
    for (what, changed) in [
        (
            "the root sent along",
            Files {
                chain: [&*files.chain, &*files.roots].concat(),
                ..files.clone()
            },
        ),
        (
            "comments, as `openssl pkcs12` and `pkcs7` write them",
            Files {
                chain: chain
                    .replace(
                        "-----BEGIN",
                        "Bag Attributes\n    friendlyName: x\nsubject=CN = x\n\n-----BEGIN",
                    )
                    .into(),
                ..files.clone()
            },
        ),
        (
            "the line ends of Windows",
            Files {
                chain: chain.replace('\n', "\r\n").into(),
                ..files.clone()
            },
        ),
        (
            "the mark of an editor",
            Files {
                chain: format!("\u{feff}{chain}").into(),
                ..files.clone()
            },
        ),
        (
            "no line end at the end",
            Files {
                chain: chain.trim_end().into(),
                ..files.clone()
            },
        ),
        (
            "several roots",
            Files {
                roots: bundle.into(),
                ..files.clone()
            },
        ),
        (
            "key and chain in one file",
            Files {
                chain: [&*files.key, &*files.chain].concat(),
                key: [&*files.key, &*files.chain].concat(),
                ..files.clone()
            },
        ),
        (
            "a list",
            Files {
                crls: Some(pki.crl(1, &[]).into()),
                ..files.clone()
            },
        ),
        (
            "lists of two issuers with a comment between",
            Files {
                crls: Some(
                    [&*pki.crl(1, &[]), "# ours\n", &foreign_list()]
                        .concat()
                        .into(),
                ),
                ..files.clone()
            },
        ),
    ] {
        assert_eq!(changed.refusal(), None, "{what}");
    }
}

/// A list of an issuer that nobody here has.
fn foreign_list() -> String {
    let other = Authority::root("another issuer", hour()).unwrap();
    let now = time::OffsetDateTime::now_utc();
    other.crl(1, &[], now, now + time::Duration::HOUR).unwrap()
}

#[test]
fn what_is_not_read_is_named_with_what_to_change() {
    let Minted { pki, files } = minted(KeyType::P256);
    let chain = sections(&files.chain);
    let [leaf, issuing] = &chain[..] else {
        panic!("a leaf and its issuer")
    };
    let encoded = |pem: &Pem| pem::encode(pem).into_bytes();
    let der = |pem: &[u8]| sections(pem).remove(0).into_contents();
    let utf16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain(files.chain.iter().flat_map(|b| [*b, 0]))
        .collect();
    let label = "RSA PRIVATE KEY";
    let traditional = format!(
        "-----BEGIN {label}-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END {label}-----\n"
    );
    let with_chain = |chain: Vec<u8>| Files {
        chain,
        ..files.clone()
    };
    let with_key = |key: Vec<u8>| Files {
        key,
        ..files.clone()
    };
    let with_crl = |crl: Vec<u8>| Files {
        crls: Some(crl),
        ..files.clone()
    };
    for (changed, expected) in [
        (
            with_chain([encoded(issuing), encoded(leaf)].concat()),
            "certificate 1 in tls.crt was not issued by the next one: the order is leaf, then each issuer",
        ),
        (
            with_chain(encoded(leaf)),
            "tls.crt: peers would refuse it: no path leads to a trusted root",
        ),
        (
            with_chain(der(&files.chain)),
            "tls.crt is DER, not PEM: convert it with `openssl x509 -inform DER",
        ),
        (with_chain(utf16), "tls.crt is UTF-16, not PEM"),
        (
            with_chain(sequence(&[&[0x02, 0x01, 0x03][..], &[0; 300]].concat())),
            "tls.crt is PKCS#12, not PEM: convert it with `openssl pkcs12",
        ),
        (
            with_chain(b"\xfe\xed\xfe\xed\0\0\0\x02".to_vec()),
            "tls.crt is a Java keystore, not PEM",
        ),
        (
            with_chain(files.key.clone()),
            "tls.crt holds no certificate, but PRIVATE KEY",
        ),
        (
            with_chain(Vec::new()),
            "tls.crt holds no certificate: there is no PEM section in it",
        ),
        (
            with_chain(encode("CERTIFICATE", sequence(&[0x30, 0]))),
            "certificate 1 in tls.crt is not usable: it is cut short, or bytes follow its end",
        ),
        (
            with_chain(encode("CERTIFICATE", sequence(&[0; 0xffff]))),
            "certificate 1 in tls.crt is not usable: it has 65539 bytes; at most 65535 are read",
        ),
        (
            with_key(der(&files.key)),
            "tls.key is DER, not PEM: convert it with `openssl pkey -inform DER",
        ),
        (
            with_key(files.chain.clone()),
            "tls.key holds no private key, but CERTIFICATE, CERTIFICATE",
        ),
        (
            with_key([&*files.key, &*files.key].concat()),
            "tls.key holds no usable private key: it has 2 keys, and one is needed",
        ),
        (
            with_key(encode("ENCRYPTED PRIVATE KEY", vec![0])),
            "tls.key is an encrypted private key: decrypt it with `openssl pkey",
        ),
        (
            with_key(traditional.into()),
            "tls.key is an encrypted private key",
        ),
        (
            with_key(minted(KeyType::P256).files.key),
            "they are from different pairs, or the chain is in the wrong order",
        ),
        (
            Files {
                roots: der(&files.roots),
                ..files.clone()
            },
            "ca.crt is DER, not PEM",
        ),
        (
            Files {
                roots: Vec::new(),
                ..files.clone()
            },
            "ca.crt holds no certificate",
        ),
        (
            with_crl(der(pki.crl(1, &[]).as_bytes())),
            "crl.pem is DER, not PEM: convert it with `openssl crl -inform DER",
        ),
        (
            with_crl(without_number(&pki.crl(1, &[]), true)),
            "it is of version 1, which has no number: issue it as version 2 with a CRL number",
        ),
        // As mtls-server writes it.
        (
            with_crl(without_number(&pki.crl(1, &[]), false)),
            "it has no CRL number (RFC 5280 §5.2.3): issue it with one",
        ),
        (
            with_crl(files.chain.clone()),
            "crl.pem holds no revocation list, but CERTIFICATE",
        ),
    ] {
        let refusal = changed.refusal().unwrap_or_default();
        assert!(refusal.contains(expected), "{expected}: {refusal}");
        assert!(!refusal.contains(char::is_control), "{refusal:?}");
    }
}
