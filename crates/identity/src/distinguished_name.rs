//! Distinguished names as text.
//!
//! Do not search in that text: an escaped comma is part of a value.

use x509_parser::asn1_rs::{Any, Oid, Tag, ToDer as _};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attributes in one name. No CA issues more, and each becomes text.
const MAX_ATTRIBUTES: usize = 64;

/// A name that cannot be written as text safely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It is not the DER of a name.
    #[error("it is not the DER of a distinguished name")]
    Unreadable,
    /// It has too many attributes.
    #[error("it has more than {MAX_ATTRIBUTES} attributes")]
    TooLong,
    /// A value is not valid text of its type.
    #[error("the value of {0} is not text of its type")]
    NotText(String),
    /// A value holds a control character, which could forge a line of a log.
    #[error("the value of {0} holds a control character")]
    ControlCharacter(String),
}

/// Writes the DER of a name as a string by RFC 4514, byte for byte as `openssl x509 -nameopt RFC2253` prints it.
///
/// The attributes come in the reverse of their encoded order, so that the most specific one is usually first. Types
/// that RFC 4519 or X.520 names have their short name, others are dotted numbers with the value in hexadecimal DER.
/// A `,` `+` `"` `\` `<` `>` `;` in a value is escaped by a backslash, as are a leading `#` and a space at either
/// end; what is not ASCII is escaped as the hexadecimal of its UTF-8.
///
/// # Errors
/// [`InvalidName`], also for a control character in a value.
pub fn distinguished_name(der: &[u8]) -> Result<String, InvalidName> {
    match X509Name::from_der(der) {
        Ok(([], name)) => to_text(&name),
        Ok(_) | Err(_) => Err(InvalidName::Unreadable),
    }
}

pub(crate) fn to_text(name: &X509Name<'_>) -> Result<String, InvalidName> {
    if name.iter_attributes().take(MAX_ATTRIBUTES + 1).count() > MAX_ATTRIBUTES {
        return Err(InvalidName::TooLong);
    }
    let mut text = String::new();
    let names: Vec<_> = name.iter_rdn().collect();
    for name in names.into_iter().rev() {
        let attributes: Vec<_> = name.iter().collect();
        for (position, attribute) in attributes.into_iter().rev().enumerate() {
            if !text.is_empty() {
                text.push(if position == 0 { ',' } else { '+' });
            }
            push_attribute(&mut text, attribute)?;
        }
    }
    Ok(text)
}

fn push_attribute(
    text: &mut String,
    attribute: &AttributeTypeAndValue<'_>,
) -> Result<(), InvalidName> {
    let dotted = attribute.attr_type().to_id_string();
    let short = short_name(&dotted);
    text.push_str(short.unwrap_or(&dotted));
    text.push('=');
    let value = short.map_or(Ok(None), |name| decode(name, attribute.attr_value()))?;
    match value {
        Some(value) => push_escaped(text, &value),
        None => push_hexadecimal(text, attribute.attr_value())?,
    }
    Ok(())
}

/// The value as text, or `None` when its type is not a text type.
fn decode(name: &str, value: &Any<'_>) -> Result<Option<String>, InvalidName> {
    let Some(text) = text_of(value.tag().0, value.data) else {
        return Ok(None);
    };
    let text = text.ok_or_else(|| InvalidName::NotText(name.to_owned()))?;
    if text.chars().any(char::is_control) {
        return Err(InvalidName::ControlCharacter(name.to_owned()));
    }
    Ok(Some(text))
}

/// The text of an ASN.1 string by its universal tag. `None` when the type is no string, and `Some(None)` when the bytes
/// are not text of that type.
pub fn text_of(tag: u32, bytes: &[u8]) -> Option<Option<String>> {
    Some(match Tag(tag) {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => bytes
            .is_ascii()
            .then(|| bytes.iter().copied().map(char::from).collect()),
        // The full rules are those of T.61; in practice the text is Latin-1.
        Tag::T61String => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let units: Option<Vec<u16>> =
                exact(bytes).map(|pairs| pairs.map(u16::from_be_bytes).collect());
            units.and_then(|units| String::from_utf16(&units).ok())
        }
        Tag::UniversalString => exact(bytes).and_then(|points| {
            points
                .map(|point| char::from_u32(u32::from_be_bytes(point)))
                .collect()
        }),
        _ => return None,
    })
}

fn exact<const N: usize>(bytes: &[u8]) -> Option<impl Iterator<Item = [u8; N]>> {
    let (chunks, rest) = bytes.as_chunks();
    rest.is_empty().then(|| chunks.iter().copied())
}

/// One value of an attribute as [`distinguished_name`] writes it, if its type has a short name and it is text.
pub fn escaped_value(value: &str) -> String {
    let mut text = String::new();
    push_escaped(&mut text, value);
    text
}

fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (position, c) in value.chars().enumerate() {
        let special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => position == 0,
            ' ' => position == 0 || position == last,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        if c.is_ascii() {
            text.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            text.push_str(&format!("\\{byte:02X}"));
        }
    }
}

fn push_hexadecimal(text: &mut String, value: &Any<'_>) -> Result<(), InvalidName> {
    let der = value
        .to_der_vec()
        .map_err(|_not_der| InvalidName::Unreadable)?;
    text.push('#');
    for byte in der {
        text.push_str(&format!("{byte:02X}"));
    }
    Ok(())
}

pub(crate) fn is_common_name(oid: &Oid<'_>) -> bool {
    oid.to_id_string() == "2.5.4.3"
}

/// The short names of OpenSSL, which include those of RFC 4514 §3.
const SHORT_NAMES: [(&str, &str); 42] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.16", "postalAddress"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.18", "postOfficeBox"),
    ("2.5.4.19", "physicalDeliveryOfficeName"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.31", "member"),
    ("2.5.4.32", "owner"),
    ("2.5.4.33", "roleOccupant"),
    ("2.5.4.34", "seeAlso"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.49", "distinguishedName"),
    ("2.5.4.51", "houseIdentifier"),
    ("2.5.4.54", "dmdName"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.72", "role"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.3", "mail"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.2.840.113549.1.9.8", "unstructuredAddress"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

fn short_name(oid: &str) -> Option<&'static str> {
    SHORT_NAMES
        .iter()
        .find(|(known, _)| *known == oid)
        .map(|(_, name)| *name)
}

/// The short name that [`distinguished_name`] writes, for a name in any case or an object identifier.
pub fn attribute_name(name: &str) -> Option<&'static str> {
    SHORT_NAMES
        .iter()
        .find(|(oid, known)| known.eq_ignore_ascii_case(name) || *oid == name)
        .map(|(_, known)| *known)
}

/// The value of an attribute that is not in a certificate.
#[derive(Clone, Copy, Debug)]
pub enum AttributeValue<'a> {
    /// Text, of whichever type.
    Text(&'a str),
    /// Its DER.
    Der(&'a [u8]),
}

/// By this the attributes of one part of a name are sorted in a certificate (X.690 §11.6); [`distinguished_name`] writes
/// the last one first. `None` for a type that is neither a short name nor an object identifier.
pub fn encoded_order(kind: &str, value: AttributeValue<'_>) -> Option<impl Ord + use<>> {
    let known = SHORT_NAMES.iter().find(|(_, name)| *name == kind);
    let oid: Oid<'_> = known.map_or(kind, |(oid, _)| oid).parse().ok()?;
    let value = match value {
        // The types differ within a part, so that the type of the text decides nothing.
        AttributeValue::Text(text) => text.to_der_vec().ok()?,
        AttributeValue::Der(der) => der.to_vec(),
    };
    let attribute = [oid.to_der_vec().ok()?, value].concat();
    let length = attribute.len();
    Some((length, attribute))
}
