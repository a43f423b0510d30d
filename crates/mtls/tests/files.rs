//! What stands in a file of certificates or lists and is not what it should be: nothing is skipped in silence.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use countersign_mtls::{Authorities, ExpiredCrls, PemFile};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

fn certificate(name: &str, is_ca: IsCa, usages: &[KeyUsagePurpose]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params.key_usages = usages.to_vec();
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

fn root(name: &str) -> String {
    let usages = [KeyUsagePurpose::KeyCertSign];
    certificate(name, IsCa::Ca(BasicConstraints::Unconstrained), &usages)
}

fn refusal(roots: &[u8]) -> Option<String> {
    let file = PemFile::new("ca.crt", roots.to_vec());
    Authorities::of_files(&[file], &[], &[], ExpiredCrls::default())
        .err()
        .map(|invalid| format!("{}: {invalid}", invalid.code()))
}

#[test]
fn a_section_that_is_not_read_refuses_the_file_with_its_line() {
    let (one, two) = (root("one"), root("two"));
    let line = one.lines().count() + 1;
    let each = |prefix: &str| -> String {
        two.lines()
            .map(|line| format!("{prefix}{line}\n"))
            .collect()
    };
    let label = |label: &str| two.replace(" CERTIFICATE-", &format!(" {label}-"));
    for (what, second, reason) in [
        (
            "a byte order mark",
            format!("\u{feff}{two}"),
            "byte order mark",
        ),
        ("indented", each(" "), "indented"),
        ("tabs", each("\t"), "indented"),
        ("quoted", format!("\"{two}\""), "quoted"),
        ("cited", each("> "), "quoted"),
        ("commented out", each("# "), "commented out"),
        ("escaped", two.replace('\n', "\\n"), "\\n"),
        (
            "CR alone",
            two.replace("\r\n", "\n").replace('\n', "\r"),
            "CR alone",
        ),
        ("URL-encoded", two.replace('\n', "%0A"), "URL-encoded"),
        (
            "on one line",
            two.replace('\n', " "),
            "line breaks are lost",
        ),
        ("four hyphens", two.replace("-----", "----"), "five hyphens"),
        (
            "lower case",
            two.replace("BEGIN CERTIFICATE", "begin certificate"),
            "in capitals",
        ),
        (
            "dashes",
            two.replace("-----", "\u{2014}\u{2014}"),
            "other than ASCII",
        ),
        ("no hyphens", two.replace("-----", ""), "five hyphens"),
        (
            "no markers",
            two.lines()
                .filter(|line| !line.starts_with('-'))
                .map(|line| format!("{line}\n"))
                .collect(),
            "without its -----BEGIN",
        ),
        (
            "no begin",
            two.lines()
                .skip(1)
                .map(|line| format!("{line}\n"))
                .collect(),
            "without its -----BEGIN",
        ),
        (
            "base64 once more",
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUI=\n".to_owned(),
            "base64 -d",
        ),
        ("HTML", "<!DOCTYPE html><html></html>\n".to_owned(), "HTML"),
        ("no text", "\u{1}\u{2}\n".to_owned(), "no text"),
        (
            "cut off",
            two.lines()
                .take(3)
                .map(|line| format!("{line}\n"))
                .collect(),
            "cut off",
        ),
        (
            "a key",
            KeyPair::generate().unwrap().serialize_pem(),
            "PRIVATE KEY is not read here",
        ),
        (
            "a trusted certificate",
            label("TRUSTED CERTIFICATE"),
            "openssl x509",
        ),
        (
            "an old label",
            label("X509 CERTIFICATE"),
            "write CERTIFICATE",
        ),
        ("a list", label("X509 CRL"), "X509 CRL is not read here"),
        ("PKCS#7", label("PKCS7"), "openssl pkcs7"),
    ] {
        let refusal =
            refusal(format!("{one}{second}").as_bytes()).unwrap_or_else(|| what.to_owned());
        assert!(refusal.contains(reason), "{what}: {refusal}");
        assert!(
            refusal.contains("line "),
            "{what}: {refusal} (it begins at line {line})"
        );
    }
    let joined = refusal(format!("{}{two}", one.trim_end()).as_bytes()).unwrap();
    assert!(joined.contains("two markers stand on one line"), "{joined}");
    assert!(joined.contains(&format!("line {}:", line - 1)), "{joined}");
}

#[test]
fn what_openssl_and_editors_write_around_a_section_is_read() {
    let (one, two) = (root("one"), root("two"));
    for (what, text) in [
        ("a mark at the start", format!("\u{feff}{one}{two}")),
        (
            "CRLF",
            format!("{one}{two}")
                .replace("\r\n", "\n")
                .replace('\n', "\r\n"),
        ),
        (
            "blanks at the ends",
            format!("{one}{two}").replace('\n', " \n"),
        ),
        (
            "commentary",
            format!(
                "# our roots --- 2026\nsubject=CN=one\n{one}\n\nsubject=CN=two\n{two}the end\n"
            ),
        ),
        ("no last line break", format!("{one}{}", two.trim_end())),
    ] {
        assert_eq!(refusal(text.as_bytes()), None, "{what}");
    }
}

#[test]
fn only_an_authority_can_be_a_root_and_the_refusal_has_its_position() {
    use KeyUsagePurpose::{CrlSign, DigitalSignature};
    let ca = || IsCa::Ca(BasicConstraints::Unconstrained);
    for (what, bad, reason) in [
        (
            "a leaf",
            certificate("orders", IsCa::ExplicitNoCa, &[DigitalSignature]),
            "CA:FALSE",
        ),
        (
            "a leaf that may sign",
            certificate(
                "orders",
                IsCa::ExplicitNoCa,
                &[KeyUsagePurpose::KeyCertSign],
            ),
            "CA:FALSE",
        ),
        (
            "no constraints",
            certificate("orders", IsCa::NoCa, &[]),
            "no basicConstraints",
        ),
        (
            "no keyCertSign",
            certificate("lists", ca(), &[CrlSign]),
            "lacks keyCertSign",
        ),
    ] {
        let refusal = refusal(format!("{}{bad}", root("root")).as_bytes()).unwrap_or_default();
        assert!(
            refusal.contains("certificate 2 in ca.crt"),
            "{what}: {refusal}"
        );
        assert!(refusal.contains(reason), "{what}: {refusal}");
    }
    assert_eq!(refusal(certificate("no usage", ca(), &[]).as_bytes()), None);
}
