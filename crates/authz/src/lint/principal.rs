//! Which principals a certificate can have, in the form in which they are compared.
//!
//! A principal is a URI, a DNS name or a subject as [`identity::distinguished_name`] writes it (gRFC A41). A pattern
//! that fits none of these matches no caller: harmless in an allow rule, but a hole in a deny rule.

use std::net::IpAddr;

use identity::{AttributeValue, SpiffeId, attribute_name, encoded_order, escaped_value};

use crate::lint::coverage::{NameKind, has_scheme, kind};
use crate::policy::pattern::Pattern;

/// Why no certificate has a name that `pattern` fits, and what to write instead.
pub(crate) fn impossible(pattern: &Pattern) -> Option<(&'static str, String)> {
    match pattern {
        Pattern::Present => None,
        Pattern::Exact(text) if text.is_empty() => None,
        Pattern::Exact(text) => common(text).or_else(|| match kind(text) {
            NameKind::Uri => uri(text).or_else(|| spiffe(text, &[""])),
            NameKind::Subject => subject(text),
            NameKind::Dns => dns(text),
        }),
        Pattern::Prefix(text) => common(text).or_else(|| match kind(text) {
            NameKind::Uri => uri(text).or_else(|| spiffe(text, &["", "x", "/x", "a.test/x"])),
            NameKind::Subject => subject(text.strip_suffix(',').unwrap_or(text)),
            NameKind::Dns => beginning(text),
        }),
        Pattern::Suffix(text) => end(text),
    }
}

/// Why a text is not a name of any kind, where the fix is easy.
fn common(text: &str) -> Option<(&'static str, String)> {
    if text.trim() != text && !text.ends_with("\\ ") {
        let message = format!(
            "{text:?} has spaces around it, which are part of it: write {:?}",
            text.trim()
        );
        return Some(("spaces", message));
    }
    let labels = ["URI:", "DNS:", "IP Address:", "IP:", "email:", "DirName:"];
    if let Some(rest) = labels.iter().find_map(|label| text.strip_prefix(label)) {
        let message = format!(
            "no certificate has the name {text:?}: the text before {rest:?} is a label that OpenSSL prints, not part of the name"
        );
        return Some(("labelled-name", message));
    }
    if let Some((host, _)) = text.split_once(':').filter(is_host_and_port) {
        let message = format!(
            "no certificate has the DNS name {text:?}: write it without the port, {host:?}"
        );
        return Some(("malformed-dns-name", message));
    }
    if text.parse::<IpAddr>().is_ok() {
        let message = format!(
            "{text:?} is an IP address, which is never an identity (gRFC A41): write the URI, the DNS name or the subject"
        );
        return Some(("no-identity", message));
    }
    None
}

/// By its form this could be a URI, whose scheme would be a host name and its path a port.
fn is_host_and_port((host, port): &(&str, &str)) -> bool {
    !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && host.contains('.')
        && dns(host).is_none()
}

/// RFC 3986 §2: what a URI consists of.
fn is_uri_text(text: &str) -> bool {
    let hexadecimal = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    text.bytes().enumerate().all(|(at, byte)| match byte {
        b'%' => hexadecimal(at + 1) && hexadecimal(at + 2),
        _ => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte),
    })
}

fn uri(text: &str) -> Option<(&'static str, String)> {
    let message = if !has_scheme(text) {
        format!("no certificate has the URI {text:?}: a scheme begins with a letter (RFC 3986)")
    } else if !is_uri_text(text) {
        format!(
            "no certificate has the URI {text:?}: blanks, quotes and what is not ASCII are percent-encoded (RFC 3986)"
        )
    } else if text.ends_with(':') {
        format!("no certificate has the URI {text:?}: there is nothing after its scheme")
    } else {
        return None;
    };
    Some(("malformed-uri", message))
}

fn spiffe(text: &str, ends: &[&str]) -> Option<(&'static str, String)> {
    if !text.to_ascii_lowercase().starts_with("spiffe:") {
        return None;
    }
    let mut first = None;
    for end in ends {
        match format!("{text}{end}").parse::<SpiffeId>() {
            Ok(_) => return None,
            Err(invalid) => first = first.or(Some(invalid)),
        }
    }
    let invalid = first?;
    let message = format!("no certificate has the SPIFFE ID {text:?}: {invalid}");
    Some(("malformed-spiffe-id", message))
}

/// The longest label of a DNS name (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

fn dns(text: &str) -> Option<(&'static str, String)> {
    let fault = |why: String| Some(("malformed-dns-name", why));
    let whole = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.contains('@') {
        let why = "an e-mail address is never an identity (gRFC A41)";
        return Some((
            "no-identity",
            format!("no certificate is known by {text:?}: {why}"),
        ));
    }
    if let Some(at) = text.find('/') {
        let hint = match at {
            0 => "a subject is written by RFC 4514: CN=x,O=y".to_owned(),
            _ => format!("a SPIFFE ID begins with its scheme: \"spiffe://{text}\""),
        };
        return fault(format!("no certificate has the name {text:?}: {hint}"));
    }
    if let Some(name) = text.strip_suffix('.') {
        return fault(format!(
            "no certificate has the DNS name {text:?}: write it without the dot at its end, {name:?}"
        ));
    }
    if !text.bytes().all(whole) {
        return fault(format!(
            "no certificate has the DNS name {text:?}: a label has letters, digits, hyphens and underscores; a name in \
             another script is in the form xn--…"
        ));
    }
    if text
        .split('.')
        .any(|label| label.is_empty() || label.len() > MAX_LABEL)
    {
        return fault(format!(
            "no certificate has the DNS name {text:?}: a label has 1 to {MAX_LABEL} characters"
        ));
    }
    None
}

/// A text without a colon or an equals sign: the beginning of a scheme or of a DNS name.
fn beginning(text: &str) -> Option<(&'static str, String)> {
    let scheme = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if scheme && !text.starts_with('.') && !text.contains("..") {
        return None;
    }
    dns(&format!("{text}x"))
        .map(|(code, _)| (code, format!("\"{}*\" fits no name of a certificate: it begins neither a URI, nor a DNS name, nor a subject", text.escape_debug())))
}

/// A URI may end in nearly anything, so that only what cannot end one is told.
fn end(text: &str) -> Option<(&'static str, String)> {
    let rdn = text.strip_prefix(',').unwrap_or(text);
    let is_subject = text.starts_with(',')
        || rdn
            .split_once('=')
            .is_some_and(|(name, _)| attribute(name.trim()).is_some());
    if is_subject || (!is_uri_text(text) && rdn.contains('=')) {
        return subject(rdn);
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.bytes().all(name) && text.ends_with('.') {
        return dns(text);
    }
    if is_uri_text(text) {
        return None;
    }
    let message = format!(
        "\"*{}\" fits no name of a certificate: a URI, a DNS name and an RFC 4514 subject do not end so",
        text.escape_debug()
    );
    Some(("no-identity", message))
}

fn subject(text: &str) -> Option<(&'static str, String)> {
    let spaced = text.contains(", ") && !text.contains("\\, ");
    let code = match spaced {
        true => "subject-spaces",
        false => "subject-form",
    };
    match canonical(text) {
        Ok(Canonical { as_ordered, .. }) if as_ordered == text => None,
        Ok(Canonical { encoded, .. }) => Some((
            code,
            format!("no subject is written like {text:?}: write {encoded:?}"),
        )),
        Err(why) => Some((
            code,
            format!(
                "no subject is written like {text:?}: {why}; `cert show` prints the subject of a certificate"
            ),
        )),
    }
}

/// The order that attributes joined by a plus sign have in certificates, if it is another one than in `pattern`. Not
/// every authority sorts them, as DER does.
pub(crate) fn misordered(pattern: &Pattern) -> Option<String> {
    let (Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::Suffix(text)) = pattern else {
        return None;
    };
    let text = text.trim_matches(',');
    let Canonical { encoded, .. } = canonical(text).ok()?;
    (kind(text) == NameKind::Subject && encoded != text).then(|| {
        format!(
            "certificates have what is joined by + in the order of its encoding (X.690 §11.6), and names are compared \
             byte for byte: write {encoded:?}"
        )
    })
}

/// A subject in the form that is compared.
#[derive(Default)]
struct Canonical {
    /// What is joined by a plus sign is in the order that people wrote.
    as_ordered: String,
    /// And here as it is encoded.
    encoded: String,
}

impl Canonical {
    fn push(&mut self, mut part: Vec<(impl Ord, String)>) {
        fn joined<O>(part: &[(O, String)]) -> String {
            let written: Vec<&str> = part.iter().map(|(_, written)| written.as_str()).collect();
            written.join("+")
        }
        for text in [&mut self.as_ordered, &mut self.encoded] {
            if !text.is_empty() {
                text.push(',');
            }
        }
        self.as_ordered.push_str(&joined(&part));
        part.sort_by(|(one, _), (other, _)| other.cmp(one));
        self.encoded.push_str(&joined(&part));
    }
}

/// Converts a subject from a form that people write to the form that is compared.
fn canonical(text: &str) -> Result<Canonical, String> {
    if let Some(openssl) = text.strip_prefix('/') {
        let mut names: Vec<&str> = openssl.split('/').collect();
        names.reverse();
        return canonical(&names.join(","));
    }
    let mut rest = text;
    let mut canonical = Canonical::default();
    let mut part = Vec::new();
    let mut common_names = 0;
    loop {
        let (name, after) = rest
            .split_once('=')
            .ok_or_else(|| format!("{rest:?} has no equals sign"))?;
        let (name, after) = (name.trim(), after.trim_start_matches(' '));
        let dotted = name.contains('.')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let known = match (dotted, attribute(name)) {
            (true, Some(short)) => return Err(format!("the type {name} is written {short}")),
            (true, None) => name,
            (false, known) => known.ok_or_else(|| format!("the attribute {name:?} is unknown"))?,
        };
        common_names += usize::from(known == "CN");
        if common_names > 1 {
            return Err("a certificate with two common names is refused".to_owned());
        }
        let Value {
            written,
            order,
            separator,
            rest: next,
        } = value(known, after)?;
        if dotted && !after.starts_with('#') {
            return Err(format!(
                "the value of {name} is its DER in hexadecimal after a #"
            ));
        }
        part.push((order, format!("{known}={written}")));
        if separator != Some('+') {
            canonical.push(std::mem::take(&mut part));
        }
        if separator.is_none() {
            return Ok(canonical);
        }
        rest = next;
    }
}

/// The value of an attribute.
struct Value<'a, O> {
    /// As it is compared.
    written: String,
    /// Where it stands among others of its part.
    order: O,
    /// What ends it.
    separator: Option<char>,
    /// What follows that.
    rest: &'a str,
}

/// The value at the beginning of `text`, of an attribute of the type `name`.
fn value<'a>(name: &str, text: &'a str) -> Result<Value<'a, impl Ord + use<>>, String> {
    let mut bytes = Vec::new();
    // How many bytes at the end are blanks that are not escaped.
    let mut loose = 0;
    let mut quoted = false;
    let mut chars = text.char_indices();
    let mut end = (None, "");
    while let Some((at, c)) = chars.next() {
        let blank = c == ' ' && !quoted;
        match c {
            '\\' => {
                let (_, next) = chars
                    .next()
                    .ok_or_else(|| format!("the backslash at the end of {name} escapes nothing"))?;
                match next.to_digit(16) {
                    Some(high) => {
                        let low = chars.next().and_then(|(_, low)| low.to_digit(16));
                        let octet = low.and_then(|low| u8::try_from(high * 16 + low).ok());
                        bytes.push(octet.ok_or_else(|| {
                            format!("a backslash in {name} has one hexadecimal digit")
                        })?);
                    }
                    None => bytes.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            '"' => quoted = !quoted,
            ',' | '+' | ';' if !quoted => {
                let separator = if c == '+' { '+' } else { ',' };
                end = (Some(separator), text.get(at + 1..).unwrap_or_default());
                break;
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        loose = if blank { loose + 1 } else { 0 };
    }
    bytes.truncate(bytes.len() - loose);
    let value = String::from_utf8(bytes).map_err(|_not| format!("{name} is not UTF-8"))?;
    if value.contains(char::is_control) {
        return Err(format!("{name} has a control character"));
    }
    let (written, order) = match text.strip_prefix('#') {
        Some(_) => {
            let digits = value.trim_start_matches('#').to_ascii_uppercase();
            let der = der(&digits).ok_or_else(|| {
                format!("the value of {name} begins with # and is not hexadecimal: write \\#")
            })?;
            let is_text = der.first().is_some_and(|tag| TEXT_TAGS.contains(tag));
            if is_text && !name.contains('.') {
                return Err(format!(
                    "the value of {name} is text: write it as text, not in hexadecimal"
                ));
            }
            (
                format!("#{digits}"),
                encoded_order(name, AttributeValue::Der(&der)),
            )
        }
        None => (
            escaped_value(&value),
            encoded_order(name, AttributeValue::Text(&value)),
        ),
    };
    Ok(Value {
        written,
        order,
        separator: end.0,
        rest: end.1,
    })
}

/// The tags of the types of text, the values of which are written as such.
const TEXT_TAGS: [u8; 8] = [0x0c, 0x12, 0x13, 0x14, 0x16, 0x1a, 0x1c, 0x1e];

/// The octets that hexadecimal digits stand for, which are not none.
fn der(digits: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let octet = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    };
    let octets: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(octet).collect();
    octets.filter(|octets| !octets.is_empty())
}

/// Other names of some attributes.
const ALIASES: [(&str, &str); 14] = [
    ("E", "emailAddress"),
    ("EMAIL", "emailAddress"),
    ("S", "ST"),
    ("STATE", "ST"),
    ("T", "title"),
    ("G", "GN"),
    ("GIVENNAME", "GN"),
    ("SURNAME", "SN"),
    ("COMMONNAME", "CN"),
    ("ORGANIZATIONNAME", "O"),
    ("ORGANIZATIONALUNITNAME", "OU"),
    ("COUNTRYNAME", "C"),
    ("LOCALITYNAME", "L"),
    ("DOMAINCOMPONENT", "DC"),
];

fn attribute(name: &str) -> Option<&'static str> {
    attribute_name(name).or_else(|| {
        let alias = ALIASES
            .iter()
            .find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        alias.map(|(_, own)| *own)
    })
}
