//! The paths of all RPCs of an API, from protobuf descriptors.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::policy::path::MethodPath;

/// The RPCs of one or more services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    paths: BTreeSet<String>,
    /// Those of `paths` whose requests are one message.
    one_message: BTreeSet<String>,
    /// Those of them whose answers are streams.
    feeds: BTreeSet<String>,
    /// What a policy may name beside `paths`, and need not.
    optional: BTreeSet<String>,
}

/// Bytes that do not describe an API.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidApi {
    /// They are not a `google.protobuf.FileDescriptorSet`.
    #[error(
        "not a descriptor set: {0}; make one with protoc --include_imports --descriptor_set_out=FILE"
    )]
    NotDescriptors(#[from] prost::DecodeError),
    /// A method with an invalid name.
    #[error("the descriptor set has a method that cannot be called: {0:?}")]
    NotAMethod(String),
    /// They describe no RPC, so that any policy would look wrong.
    #[error("the descriptor set has no service with a method")]
    NoMethod,
}

impl Api {
    /// Reads a serialized `google.protobuf.FileDescriptorSet`, or several of them one after the other.
    ///
    /// # Errors
    /// [`InvalidApi`], also when it has no method.
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Self, InvalidApi> {
        let mut paths = BTreeSet::new();
        let mut one_message = BTreeSet::new();
        let mut feeds = BTreeSet::new();
        for file in FileDescriptorSet::decode(bytes)?.file {
            let package = match file.package() {
                "" => String::new(),
                package => format!("{package}."),
            };
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{package}{}/{}", service.name(), method.name());
                    if MethodPath::parse(&path).is_none() {
                        return Err(InvalidApi::NotAMethod(path));
                    }
                    if method.server_streaming() && !method.client_streaming() {
                        feeds.insert(path.clone());
                    }
                    if !method.client_streaming() {
                        one_message.insert(path.clone());
                    }
                    paths.insert(path);
                }
            }
        }
        if paths.is_empty() {
            return Err(InvalidApi::NoMethod);
        }
        Ok(Self {
            paths,
            one_message,
            feeds,
            optional: BTreeSet::new(),
        })
    }

    /// With one path more that is authorized as an RPC is.
    #[must_use]
    pub fn with(mut self, path: &str) -> Self {
        self.paths.insert(path.to_owned());
        self
    }

    /// With one path more that a server has only if a setting says so: a policy may name it, and need not.
    #[must_use]
    pub fn with_optional(mut self, path: &str) -> Self {
        self.optional.insert(path.to_owned());
        self
    }

    /// The path of each RPC, `/package.Service/Method`, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Whether the service of this full name, `package.Service`, has an RPC.
    pub fn has_service(&self, name: &str) -> bool {
        let of_service = |path: &str| {
            path.trim_start_matches('/')
                .rsplit_once('/')
                .is_some_and(|(service, _)| service == name)
        };
        self.paths().any(of_service)
    }

    /// Whether a request of the RPC at `path` is exactly one message.
    pub fn takes_one_message(&self, path: &str) -> bool {
        self.one_message.contains(path)
    }

    /// Whether the RPC at `path` answers one message with a stream, so that only the server can end it.
    pub fn is_feed(&self, path: &str) -> bool {
        self.feeds.contains(path)
    }

    /// All that a policy may name.
    pub(crate) fn known(&self) -> impl Iterator<Item = &str> {
        self.paths().chain(self.optional.iter().map(String::as_str))
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.paths.contains(path) || self.optional.contains(path)
    }

    /// The RPC that was probably meant, if one is similar enough.
    pub(crate) fn nearest(&self, path: &str) -> Option<&str> {
        let near = |known: &&str| known.len().abs_diff(path.len()) <= MAX_TYPOS;
        let typos = |known: &str| {
            base::text::typos(&known.to_ascii_lowercase(), &path.to_ascii_lowercase())
        };
        self.known()
            .filter(near)
            .map(|known| (typos(known), known))
            .min()
            .filter(|(typos, _)| *typos <= MAX_TYPOS)
            .map(|(_, known)| known)
    }
}

/// With a greater distance a guess would mislead.
const MAX_TYPOS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_typos() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "adc", 1),
            ("abc", "ac", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(base::text::typos(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn what_describes_nothing_is_no_api() {
        assert!(matches!(
            Api::from_descriptor_set(b""),
            Err(InvalidApi::NoMethod)
        ));
        assert!(matches!(
            Api::from_descriptor_set(b"\xff\xff"),
            Err(InvalidApi::NotDescriptors(_))
        ));
    }
}
