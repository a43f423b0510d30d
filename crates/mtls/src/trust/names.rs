//! Whether two distinguished names are equal, regardless of their encoding (RFC 5280 §7.1).

use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{RelativeDistinguishedName, X509Name};

use crate::trust::der::{elements, sequence};

/// Whether two distinguished names (DER) are equal, however each is encoded (RFC 5280 §7.1).
pub fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    one == other || canonical(one) == canonical(other)
}

/// A form that is equal for equal names. A name that cannot be parsed is its own form.
///
/// Strings are compared as text of whichever type, without case, without spaces at their ends and with one space for
/// many; values of other types byte for byte. The attributes of a relative name are a set.
pub(crate) fn canonical(der: &[u8]) -> Vec<u8> {
    let read = |der: &[u8]| match X509Name::from_der(der) {
        Ok(([], name)) => Some(of_name(&name)),
        Ok(_) | Err(_) => None,
    };
    // webpki gives names with and without their outermost tag and length.
    read(der)
        .or_else(|| read(&sequence(der)?))
        .unwrap_or_else(|| der.to_vec())
}

fn of_name(name: &X509Name<'_>) -> Vec<u8> {
    let mut out = vec![b'N'];
    for relative in relative(name) {
        push(&mut out, &relative);
    }
    out
}

/// The relative names of a name, each in a form that is equal for those that are equal.
pub(crate) fn relative(name: &X509Name<'_>) -> Vec<Vec<u8>> {
    let of_one = |relative: &RelativeDistinguishedName<'_>| {
        let mut attributes: Vec<Vec<u8>> = relative
            .iter()
            .map(|attribute| {
                let mut one = Vec::new();
                push(&mut one, attribute.attr_type().as_bytes());
                push(&mut one, &of_value(attribute.attr_value()));
                one
            })
            .collect();
        attributes.sort_unstable();
        attributes.concat()
    };
    name.iter_rdn().map(of_one).collect()
}

/// Whether all values of a name are text, so that they can be compared as such.
pub(crate) fn is_text(name: &X509Name<'_>) -> bool {
    name.iter_attributes()
        .all(|attribute| text(attribute.attr_value()).is_some())
}

/// Whether `content` is the content of a name, to its last byte: sets of pairs of a type and a value (RFC 5280 §4.1.2.4).
/// The parsers of names stop without an error at what is none.
pub(crate) fn is_whole(content: &[u8]) -> bool {
    let is_universal = |it: &Any<'_>, tag| it.class() == Class::Universal && it.tag() == tag;
    let is_attribute = |it: &Any<'_>| {
        is_universal(it, Tag::Sequence)
            && it.header.is_constructed()
            && matches!(elements(it.data).as_deref(), Some([(_, kind), _]) if is_universal(kind, Tag::Oid))
    };
    let is_relative = |it: &Any<'_>| {
        is_universal(it, Tag::Set)
            && it.header.is_constructed()
            && elements(it.data)
                .is_some_and(|it| !it.is_empty() && it.iter().all(|(_, it)| is_attribute(it)))
    };
    elements(content).is_some_and(|it| it.iter().all(|(_, it)| is_relative(it)))
}

fn push(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&part.len().to_be_bytes());
    out.extend_from_slice(part);
}

fn of_value(value: &Any<'_>) -> Vec<u8> {
    match text(value) {
        Some(text) => {
            let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
            format!("T{}", words.join(" ")).into_bytes()
        }
        None => {
            let (class, is_constructed) = (value.class(), value.header.is_constructed());
            let kind = format!("B{class:?}{is_constructed}{}:", value.tag().0);
            let mut bytes = kind.into_bytes();
            bytes.extend_from_slice(value.data);
            bytes
        }
    }
}

fn text(value: &Any<'_>) -> Option<String> {
    if value.class() != Class::Universal || value.header.is_constructed() {
        return None;
    }
    identity::text_of(value.tag().0, value.data)?
}

#[cfg(test)]
mod tests {
    use super::canonical;

    /// The DER of a name of one common name.
    fn name(tag: u8, value: &[u8]) -> Vec<u8> {
        let tlv =
            |tag: u8, value: &[u8]| [&[tag, u8::try_from(value.len()).unwrap()], value].concat();
        let attribute = [&[0x06, 0x03, 0x55, 0x04, 0x03][..], &tlv(tag, value)].concat();
        tlv(0x30, &tlv(0x31, &tlv(0x30, &attribute)))
    }

    #[test]
    fn a_name_is_one_in_every_encoding_and_no_other() {
        const UTF8: u8 = 12;
        const PRINTABLE: u8 = 19;
        const T61: u8 = 20;
        const IA5: u8 = 22;
        const UNIVERSAL: u8 = 28;
        const BMP: u8 = 30;
        let one = canonical(&name(UTF8, b"Acme Issuing"));
        for same in [
            name(PRINTABLE, b"Acme Issuing"),
            name(IA5, b"acme issuing"),
            name(T61, b"ACME  ISSUING"),
            name(UTF8, b" Acme   Issuing "),
            name(
                UNIVERSAL,
                &b"Acme Issuing".map(|byte| [0, 0, 0, byte]).concat(),
            ),
            name(BMP, b"\0A\0c\0m\0e\0 \0I\0s\0s\0u\0i\0n\0g"),
        ] {
            assert_eq!(canonical(&same), one, "{same:02x?}");
            assert_eq!(
                canonical(&same[2..]),
                one,
                "without its outermost header: {same:02x?}"
            );
        }
        for other in [
            name(PRINTABLE, b"AcmeIssuing"),
            name(UTF8, b"Acme Issuing 2"),
            name(4, b"Acme Issuing"),
            Vec::new(),
        ] {
            assert_ne!(canonical(&other), one, "{other:02x?}");
        }
    }
}
