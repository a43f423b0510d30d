//! A strict PEM parser (RFC 7468): every section is read, or the text is refused with the line.
//!
//! No section is skipped: text between sections is commentary only when no line of it could have
//! been meant as a marker or as the body of a section. No text is repeated in an error, because it may be a key's.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

/// What the first line of a section says that it holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    /// An X.509 certificate.
    Certificate,
    /// An X.509 CRL.
    RevocationList,
    /// PKCS#10; keytool and older tools say `NEW CERTIFICATE REQUEST`.
    SigningRequest,
    /// PKCS#8, SEC1 or PKCS#1.
    PrivateKey(SectionKind),
    /// PKCS#8 under a passphrase, or the old form with `Proc-Type: 4,ENCRYPTED` (RFC 1421 §4.6.1.1).
    EncryptedPrivateKey,
    /// The name of a curve, as `openssl ecparam -genkey` writes before the key.
    EcParameters,
    /// Something that is not read here.
    Other(String),
}

impl Label {
    fn new(label: &str) -> Self {
        match label {
            "CERTIFICATE" => Self::Certificate,
            "X509 CRL" => Self::RevocationList,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Self::SigningRequest,
            "PRIVATE KEY" => Self::PrivateKey(SectionKind::PrivateKey),
            "RSA PRIVATE KEY" => Self::PrivateKey(SectionKind::RsaPrivateKey),
            "EC PRIVATE KEY" => Self::PrivateKey(SectionKind::EcPrivateKey),
            "ENCRYPTED PRIVATE KEY" => Self::EncryptedPrivateKey,
            "EC PARAMETERS" => Self::EcParameters,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// One section, decoded. That of an encrypted key, of parameters or of an unknown label is left empty.
#[derive(Clone)]
pub struct Section {
    /// Where it begins, from 1.
    pub line: usize,
    /// The label as written.
    pub name: String,
    /// What it says that it holds.
    pub label: Label,
    /// Its content, wiped when it is dropped.
    pub der: Zeroizing<Vec<u8>>,
}

impl Section {
    /// What it holds. The caller wipes it if it is a key.
    pub fn into_der(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.der)
    }
}

/// Without its content, which may be a key.
impl std::fmt::Debug for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Section")
            .field("line", &self.line)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The line with the error, and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub struct PemFault {
    /// From 1.
    pub line: usize,
    /// What is wrong, and how to fix it where that is known.
    pub reason: String,
}

/// The mark that some editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a file is that is not text, by its first bytes, and the command that makes PEM of it: `der` is the one for DER.
pub fn binary(bytes: &[u8], der: &'static str) -> Option<(&'static str, &'static str)> {
    match bytes {
        // A PFX begins with its version, 3 (RFC 7292 §4).
        [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] => {
            Some(("PKCS#12", "openssl pkcs12 -in … -nodes -out …"))
        }
        [0xfe, 0xed, 0xfe, 0xed, ..] => Some((
            "a Java keystore",
            "keytool -importkeystore -srckeystore … -destkeystore ….p12 -deststoretype PKCS12",
        )),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(("UTF-16", "iconv -f UTF-16 -t ASCII")),
        [0x30, 0x81..=0x84, ..] | [0x30, _, 0x02, 0x01, ..] => Some(("DER", der)),
        _ => None,
    }
}

/// All sections of a text, in order.
///
/// # Errors
/// The first line that is not as it must be, or that could have been meant as a marker.
pub fn sections(text: &[u8]) -> Result<Vec<Section>, PemFault> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut sections = Vec::new();
    let mut open: Option<OpenSection<'_>> = None;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let fault = |reason: String| PemFault {
            line: number,
            reason,
        };
        let line = line.trim_ascii_end();
        let marker = marker(line).map_err(|reason| fault(reason.to_owned()))?;
        match (open.take(), marker) {
            (None, None) => commentary(line).map_err(|reason| fault(reason.to_owned()))?,
            (None, Some(Marker::Begin(name))) => {
                open = Some(OpenSection::new(number, name, text.len()));
            }
            (None, Some(Marker::End(_))) => {
                return Err(fault("an -----END line without its -----BEGIN".to_owned()));
            }
            (Some(section), None) => {
                open = Some(
                    section
                        .with(line)
                        .map_err(|reason| fault(reason.to_owned()))?,
                );
            }
            (Some(section), Some(Marker::Begin(_))) => return Err(section.cut_off()),
            (Some(section), Some(Marker::End(name))) => {
                if name != section.name {
                    let begun = section.line;
                    return Err(fault(format!(
                        "it ends another section than line {begun} begins"
                    )));
                }
                sections.push(section.decoded()?);
            }
        }
    }
    match open {
        None => Ok(sections),
        Some(section) => Err(section.cut_off()),
    }
}

/// A section whose end has not been met.
struct OpenSection<'a> {
    line: usize,
    name: &'a str,
    label: Label,
    /// Base64, one line after another.
    body: Zeroizing<String>,
}

impl<'a> OpenSection<'a> {
    /// In a text of `length` bytes.
    fn new(line: usize, name: &'a str, length: usize) -> Self {
        let label = Label::new(name);
        // A key is never moved to a larger place, since the one before would keep a copy.
        let room = match label {
            Label::PrivateKey(_) => length,
            _ => 0,
        };
        Self {
            line,
            name,
            label,
            body: String::with_capacity(room).into(),
        }
    }

    fn with(mut self, line: &[u8]) -> Result<Self, &'static str> {
        let line = line.trim_ascii();
        let line = str::from_utf8(line).map_err(|_bytes| "a section is not base64")?;
        if let Some((name, value)) = line.split_once(':') {
            let encrypted = name == "Proc-Type" && value.contains("ENCRYPTED");
            match self.label {
                Label::PrivateKey(_) if encrypted => self.label = Label::EncryptedPrivateKey,
                Label::EncryptedPrivateKey => {}
                _ => return Err("a section has a header, which RFC 7468 forbids"),
            }
            return Ok(self);
        }
        if !line.bytes().all(is_base64) {
            return Err("a section is not base64");
        }
        self.body.push_str(line);
        if !matches!(self.label, Label::PrivateKey(_)) {
            self.body.push('\n');
        }
        Ok(self)
    }

    fn decoded(self) -> Result<Section, PemFault> {
        let der = match self.label {
            Label::PrivateKey(_) => {
                let mut der = Zeroizing::new(vec![0; self.body.len()]);
                let length = BASE64_STANDARD.decode_slice(&*self.body, &mut der);
                let length =
                    length.map_err(|_undecodable| self.fault("a section is not base64"))?;
                der.truncate(length);
                der
            }
            Label::Certificate | Label::RevocationList | Label::SigningRequest => {
                // The decoder knows no other spelling than that of RFC 7468.
                let name = self.name.trim_start_matches("NEW ");
                let body = &*self.body;
                let text = format!("-----BEGIN {name}-----\n{body}-----END {name}-----\n");
                let decoded =
                    <(SectionKind, Vec<u8>) as PemObject>::from_pem_slice(text.as_bytes());
                let (_, der) =
                    decoded.map_err(|_undecodable| self.fault("a section is not base64"))?;
                der.into()
            }
            Label::EncryptedPrivateKey | Label::EcParameters | Label::Other(_) => {
                Zeroizing::default()
            }
        };
        Ok(Section {
            line: self.line,
            name: self.name.to_owned(),
            label: self.label,
            der,
        })
    }

    fn cut_off(&self) -> PemFault {
        self.fault("it is cut off: a section has no -----END line")
    }

    fn fault(&self, reason: &str) -> PemFault {
        PemFault {
            line: self.line,
            reason: reason.to_owned(),
        }
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}

enum Marker<'a> {
    Begin(&'a str),
    End(&'a str),
}

/// The marker of a line, or why the line is not a valid marker although it looks like one.
fn marker(line: &[u8]) -> Result<Option<Marker<'_>>, &'static str> {
    if let Some(name) = label(line, b"-----BEGIN ") {
        return Ok(Some(Marker::Begin(name)));
    }
    if let Some(name) = label(line, b"-----END ") {
        return Ok(Some(Marker::End(name)));
    }
    match looks_like_marker(line) {
        true => Err(why_no_marker(line)),
        false => Ok(None),
    }
}

/// The label of a line that is a marker from its first byte to its last (RFC 7468 §3).
fn label<'a>(line: &'a [u8], begin: &[u8]) -> Option<&'a str> {
    let label = line.strip_prefix(begin)?.strip_suffix(b"-----")?;
    let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'-' && !byte.is_ascii_lowercase();
    let words = label.split(|byte| *byte == b' ');
    let is_label = label.len() <= 64
        && words
            .into_iter()
            .all(|word| !word.is_empty() && word.iter().all(plain));
    str::from_utf8(label).ok().filter(|_| is_label)
}

/// Whether a line looks like a marker. It is generous, because other lines are ignored as commentary.
fn looks_like_marker(line: &[u8]) -> bool {
    const KINDS: [&str; 8] = [
        "CERTIFICATE",
        "CRL",
        "KEY",
        "X509",
        "X.509",
        "PKCS",
        "PARAMETERS",
        "REVOCATION",
    ];
    // The body of a section, which is not copied: it may be of a key.
    if line.iter().all(|byte| is_base64(*byte)) {
        return false;
    }
    let line = plain(line);
    let named = KINDS.iter().any(|kind| line.contains(kind));
    let meant = |word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line.get(..at).unwrap_or_default().trim_end();
            let dashes = before
                .bytes()
                .rev()
                .take_while(|byte| *byte == b'-')
                .count();
            let after = line.get(at + word.len()..).unwrap_or_default();
            let whole = !after.starts_with(|next: char| next.is_ascii_alphanumeric());
            dashes >= 4 || (dashes > 0 && named && whole)
        })
    };
    let bare = [
        "BEGIN CERTIFICATE",
        "BEGIN X509 CRL",
        "END CERTIFICATE",
        "END X509 CRL",
    ];
    meant("BEGIN") || meant("END") || bare.iter().any(|marker| line.starts_with(marker))
}

/// A line in capitals, with every dash a hyphen and without what cannot be seen.
fn plain(line: &[u8]) -> String {
    let unseen = |c: &char| {
        matches!(
            c,
            '\0' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
        )
    };
    let hyphen = |c: char| match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => '-',
        '\u{a0}' | '_' => ' ',
        other => other.to_ascii_uppercase(),
    };
    let line = String::from_utf8_lossy(line);
    line.chars().filter(|c| !unseen(c)).map(hyphen).collect()
}

fn why_no_marker(line: &[u8]) -> &'static str {
    let has = |needle: &[u8]| line.windows(needle.len()).any(|window| window == needle);
    let rest = line.trim_ascii_start();
    if has(b"\\n") {
        return "its line breaks are written as \\n: write the text with real ones (`printf '%b'`)";
    }
    if has(b"\r") {
        return "its lines end in CR alone: convert it with `tr '\\r' '\\n'`";
    }
    if has(b"%20") || has(b"%0A") || has(b"%0a") {
        return "it is URL-encoded: decode it first";
    }
    if has(b"\0") {
        return "it is UTF-16: convert it with `iconv -f UTF-16 -t ASCII`";
    }
    if line.starts_with(BYTE_ORDER_MARK) {
        return "a byte order mark stands before a marker, as when files are joined: remove it";
    }
    match rest.first() {
        Some(b'"' | b'\'' | b'`') => return "a marker is quoted: remove the quotation marks",
        Some(b'#' | b';' | b'/' | b'>') => {
            return "a section is commented out or quoted: remove it, or the characters before its lines";
        }
        Some(_) if rest.len() < line.len() => {
            return "a marker is indented: remove the blanks before it";
        }
        Some(_) | None => {}
    }
    if has(b"----------") {
        return "two markers stand on one line, as when files are joined: put a line break between them";
    }
    if !line.is_ascii() {
        return "a marker has characters other than ASCII: write its hyphens and blanks anew";
    }
    if has(b"----- ") || has(b"-----M") {
        return "more follows a marker on its line: its line breaks are lost";
    }
    if line.starts_with(b"-----BEGIN ") && !line.ends_with(b"-----") {
        return "a -----BEGIN line does not end in -----";
    }
    if line.starts_with(b"-----END ") && !line.ends_with(b"-----") {
        return "an -----END line does not end in -----";
    }
    "a marker is -----BEGIN LABEL----- or -----END LABEL-----, in capitals, alone on its line, with five hyphens on each side"
}

/// Whether a line outside of all sections may be passed over.
fn commentary(line: &[u8]) -> Result<(), &'static str> {
    /// `-----BEGIN` in base64, at each of its three places in a group of bytes.
    const ENCODED: [&[u8]; 3] = [b"LS0tLS1CRUdJT", b"0tLS0tQkVHSU", b"tLS0tLUJFR0lO"];
    /// In hexadecimal.
    const HEXADECIMAL: &[u8] = b"2d2d2d2d2d424547494e";
    let has = |needle: &[u8]| {
        line.windows(needle.len())
            .any(|window| window.eq_ignore_ascii_case(needle))
    };
    if ENCODED
        .iter()
        .any(|encoded| line.windows(encoded.len()).any(|window| window == *encoded))
    {
        return Err(
            "it is PEM in base64 once more, as in a Kubernetes Secret: decode it with `base64 -d`",
        );
    }
    if has(HEXADECIMAL) {
        return Err("it is PEM in hexadecimal: decode it with `xxd -r -p`");
    }
    let start = line.trim_ascii_start();
    if ["<!doctype", "<html", "<?xml"].iter().any(|tag| {
        start
            .get(..tag.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(tag.as_bytes()))
    }) {
        return Err("it is a page of HTML or XML: fetch the file itself");
    }
    // DER begins with a SEQUENCE of more than 255 bytes, or of more than 127.
    let body = [&b"MII"[..], b"MIG", b"MIH"]
        .iter()
        .any(|der| start.starts_with(der));
    if body && start.len() >= 40 && start.iter().all(|byte| is_base64(*byte)) {
        return Err("the body of a section without its -----BEGIN line");
    }
    let no_text = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\x0c');
    if line.iter().any(no_text) {
        return Err("it has bytes that are no text: is a part of it DER or UTF-16?");
    }
    Ok(())
}
