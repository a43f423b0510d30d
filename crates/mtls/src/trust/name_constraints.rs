//! Name constraints about directory names (RFC 5280 §4.2.1.10), which webpki refuses whatever the names are.
//!
//! webpki is shown such an authority with each of these subtrees under the tag of another form, which nobody uses, so
//! that it judges all the rest of the path. The subtrees that it does not see are compared here. What is not understood
//! is left to webpki, which refuses it.

use x509_parser::asn1_rs::{Any, Class};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use crate::trust::der::{elements, only};
use crate::trust::names;

/// The tags of the forms of names, in an encoding.
const DIRECTORY_NAME: u8 = 0xa4;
const EDI_PARTY_NAME: u8 = 0xa5;
const RFC822_NAME: u32 = 1;
const DIRECTORY: u32 = 4;

/// The names that an authority may give, as far as they are directory names. Each subtree is a list of relative names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subtrees {
    permitted: Vec<Vec<Vec<u8>>>,
    excluded: Vec<Vec<Vec<u8>>>,
    /// Mail addresses are constrained. webpki refuses them among the alternative names, and does not look at the subject.
    about_mail: bool,
}

impl Subtrees {
    /// Whether all directory names of these certificates are among those that may be given.
    pub(crate) fn check(&self, certificates: &[X509Certificate<'_>]) -> Result<(), webpki::Error> {
        for certificate in certificates {
            let alternative = certificate
                .subject_alternative_name()
                .map_err(|_malformed| webpki::Error::MalformedExtensions)?;
            let alternative = alternative.iter().flat_map(|it| &it.value.general_names);
            if !are_whole(certificate) {
                return Err(webpki::Error::BadDer);
            }
            let mut names = Vec::new();
            for name in alternative {
                match name {
                    GeneralName::DirectoryName(name) => names.push(name),
                    GeneralName::Invalid(..) => return Err(webpki::Error::MalformedExtensions),
                    GeneralName::OtherName(..)
                    | GeneralName::RFC822Name(_)
                    | GeneralName::DNSName(_)
                    | GeneralName::X400Address(_)
                    | GeneralName::EDIPartyName(_)
                    | GeneralName::URI(_)
                    | GeneralName::IPAddress(_)
                    | GeneralName::RegisteredID(_) => {}
                }
            }
            // An empty subject is no name.
            names.extend(Some(certificate.subject()).filter(|it| it.iter().next().is_some()));
            if !names.into_iter().all(|name| self.allow(name)) {
                return Err(webpki::Error::NameConstraintViolation);
            }
        }
        Ok(())
    }

    fn allow(&self, name: &X509Name<'_>) -> bool {
        let relative = names::relative(name);
        let is_in = |subtree: &Vec<Vec<u8>>| relative.starts_with(subtree);
        let permitted = self.permitted.is_empty() || self.permitted.iter().any(is_in);
        let excluded = self.excluded.iter().any(is_in)
            // What is no text cannot be compared.
            || !names::is_text(name);
        let has_mail = || name.iter_email().next().is_some();
        permitted && !excluded && !(self.about_mail && has_mail())
    }
}

/// A certificate with its subtrees of directory names under another tag, and those subtrees. None if it has none, or its
/// constraints are not well-formed.
pub(crate) fn retagged(der: &[u8]) -> Option<(Vec<u8>, Subtrees)> {
    let ([], certificate) = X509Certificate::from_der(der).ok()? else {
        return None;
    };
    let extension = certificate.get_extension_unique(&OID_X509_EXT_NAME_CONSTRAINTS);
    let extension = extension.ok()??;
    if !matches!(
        extension.parsed_extension(),
        ParsedExtension::NameConstraints(_)
    ) {
        return None;
    }
    let place = |part: &[u8]| part.as_ptr().addr().checked_sub(der.as_ptr().addr());
    let mut shown = der.to_vec();
    let mut subtrees = Subtrees::default();
    for (_, kind) in elements(only(extension.value)?.data)? {
        let list = match kind.tag().0 {
            0 => &mut subtrees.permitted,
            1 => &mut subtrees.excluded,
            _ => return None,
        };
        for (_, subtree) in elements(kind.data)? {
            let base = only(subtree.data)?;
            let tag = shown.get_mut(place(subtree.data)?)?;
            match *tag {
                DIRECTORY_NAME => {
                    if !names::is_whole(only(base.data)?.data) {
                        return None;
                    }
                    let ([], name) = X509Name::from_der(base.data).ok()? else {
                        return None;
                    };
                    *tag = EDI_PARTY_NAME;
                    list.push(names::relative(&name));
                }
                _ => {
                    subtrees.about_mail |=
                        base.class() == Class::ContextSpecific && base.tag().0 == RFC822_NAME;
                }
            }
        }
    }
    (subtrees != Subtrees::default()).then_some((shown, subtrees))
}

/// Whether the directory names among the alternative names are whole.
fn are_whole(certificate: &X509Certificate<'_>) -> bool {
    let extension = match certificate.get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME) {
        Ok(Some(extension)) => extension,
        Ok(None) => return true,
        Err(_repeated) => return false,
    };
    let names = only(extension.value).and_then(|it| elements(it.data));
    names.is_some_and(|names| {
        let is_directory =
            |it: &Any<'_>| it.class() == Class::ContextSpecific && it.tag().0 == DIRECTORY;
        let is_whole = |it: &Any<'_>| only(it.data).is_some_and(|it| names::is_whole(it.data));
        let mut names = names.iter();
        names.all(|(_, it)| !is_directory(it) || is_whole(it))
    })
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer as _;
    use x509_parser::x509::X509Name;

    use super::{Subtrees, names};

    #[test]
    fn a_name_that_is_no_text_is_not_beside_an_excluded_one() {
        // CN, as UTF8String and as OCTET STRING.
        let common_name = |kind, value| {
            let attribute = [0x31, 0x0a, 0x30, 0x08, 6, 3, 0x55, 4, 3, kind, 1, value];
            [&[0x30, 0x0c], attribute.as_slice()].concat()
        };
        let [a, b, bytes] = [(12, b'a'), (12, b'b'), (4, b'c')].map(|(k, v)| common_name(k, v));
        let read = |der| X509Name::from_der(der).unwrap().1;
        let excluding = |name| Subtrees {
            excluded: vec![names::relative(&read(name))],
            ..Subtrees::default()
        };
        assert!(!excluding(&a).allow(&read(&a)));
        assert!(excluding(&a).allow(&read(&b)));
        assert!(!excluding(&a).allow(&read(&bytes)));
    }
}
