//! Takes DER apart and puts it together, where the parsers of certificates show less than is needed.

use x509_parser::asn1_rs::{Any, FromDer as _, Sequence, ToDer as _};

/// The elements that an encoding consists of, each with its own encoding.
pub(crate) fn elements(mut content: &[u8]) -> Option<Vec<(&[u8], Any<'_>)>> {
    let mut elements = Vec::new();
    while !content.is_empty() {
        let (rest, element) = Any::from_der(content).ok()?;
        elements.push((content.get(..content.len() - rest.len())?, element));
        content = rest;
    }
    Some(elements)
}

/// The encodings of these elements.
pub(crate) fn encodings(content: &[u8]) -> Option<Vec<&[u8]>> {
    Some(
        elements(content)?
            .into_iter()
            .map(|(encoding, _)| encoding)
            .collect(),
    )
}

/// The one element that an encoding consists of.
pub(crate) fn only(der: &[u8]) -> Option<Any<'_>> {
    match Any::from_der(der).ok()? {
        ([], element) => Some(element),
        _ => None,
    }
}

/// A SEQUENCE of this content.
pub(crate) fn sequence(content: &[u8]) -> Option<Vec<u8>> {
    Sequence::new(content.into()).to_der_vec().ok()
}
