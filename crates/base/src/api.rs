//! The methods of an API, from its protobuf descriptors.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;

/// The methods of one or more services, by their paths: `/package.Service/Method`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    methods: BTreeMap<String, MethodKind>,
    /// What a policy may name beside `methods`, and need not.
    optional: BTreeSet<String>,
}

/// What the contract says of one method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodKind {
    /// The request is a stream of messages, not one.
    pub streams_request: bool,
    /// The response is a stream of messages, not one.
    pub streams_response: bool,
    /// Its `idempotency_level` says that calling it twice has the effect of calling it once.
    pub is_idempotent: bool,
}

impl MethodKind {
    /// Whether only the server can end a call, because it answers one message with a stream.
    pub fn is_feed(self) -> bool {
        self.streams_response && !self.streams_request
    }
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
    /// They describe no method, so that any policy would look wrong.
    #[error("the descriptor set has no service with a method")]
    NoMethod,
}

impl Api {
    /// Reads a serialized `google.protobuf.FileDescriptorSet`, or several of them one after the other.
    ///
    /// # Errors
    /// [`InvalidApi`], also when it has no method.
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Self, InvalidApi> {
        let mut methods = BTreeMap::new();
        for file in FileDescriptorSet::decode(bytes)?.file {
            let package = match file.package() {
                "" => String::new(),
                package => format!("{package}."),
            };
            for service in &file.service {
                for method in &service.method {
                    let (service, name) = (format!("{package}{}", service.name()), method.name());
                    let path = format!("/{service}/{name}");
                    if !is_path_segment(&service) || !is_path_segment(name) {
                        return Err(InvalidApi::NotAMethod(path));
                    }
                    let level = method.options.as_ref().map(|of| of.idempotency_level());
                    let method = MethodKind {
                        streams_request: method.client_streaming(),
                        streams_response: method.server_streaming(),
                        is_idempotent: level
                            .is_some_and(|level| level != IdempotencyLevel::IdempotencyUnknown),
                    };
                    methods.insert(path, method);
                }
            }
        }
        if methods.is_empty() {
            return Err(InvalidApi::NoMethod);
        }
        Ok(Self {
            methods,
            optional: BTreeSet::new(),
        })
    }

    /// With one path more that is authorized as a method is.
    #[must_use]
    pub fn with(mut self, path: &str) -> Self {
        self.methods.insert(path.to_owned(), MethodKind::default());
        self
    }

    /// With one path more that a server has only if a setting says so: a policy may name it, and need not.
    #[must_use]
    pub fn with_optional(mut self, path: &str) -> Self {
        self.optional.insert(path.to_owned());
        self
    }

    /// The path of each method, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.methods.keys().map(String::as_str)
    }

    /// Each method, in the order of [`Self::paths`].
    pub fn methods(&self) -> impl Iterator<Item = MethodKind> {
        self.methods.values().copied()
    }

    /// The method at `path`.
    pub fn method(&self, path: &str) -> Option<MethodKind> {
        self.methods.get(path).copied()
    }

    /// The full name, `package.Service`, of each service that has a method.
    pub fn services(&self) -> BTreeSet<&str> {
        self.paths()
            .filter_map(|path| path.strip_prefix('/')?.rsplit_once('/'))
            .map(|(service, _)| service)
            .collect()
    }

    /// All that a policy may name.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.paths().chain(self.optional.iter().map(String::as_str))
    }

    /// Whether a policy may name `path`.
    pub fn is_known(&self, path: &str) -> bool {
        self.methods.contains_key(path) || self.optional.contains(path)
    }

    /// The path that was probably meant, if one is similar enough.
    pub fn nearest(&self, path: &str) -> Option<&str> {
        let near = |known: &&str| known.len().abs_diff(path.len()) <= MAX_TYPOS;
        let path = path.to_ascii_lowercase();
        let typos = |known: &str| strsim::levenshtein(&known.to_ascii_lowercase(), &path);
        self.known()
            .filter(near)
            .map(|known| (typos(known), known))
            .min()
            .filter(|(typos, _)| *typos <= MAX_TYPOS)
            .map(|(_, known)| known)
    }
}

/// Whether `name` is one segment of a path, as gRPC clients and servers take it.
fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '?', '#'])
}

/// With a greater distance a guess would mislead.
const MAX_TYPOS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_method_is_what_its_descriptor_says() {
        use prost_types::{
            FileDescriptorProto, MethodDescriptorProto, MethodOptions, ServiceDescriptorProto,
        };
        let method = |name: &str, level: Option<IdempotencyLevel>| MethodDescriptorProto {
            name: Some(name.to_owned()),
            server_streaming: Some(level.is_none()),
            options: Some(MethodOptions {
                idempotency_level: level.map(i32::from),
                ..MethodOptions::default()
            }),
            ..MethodDescriptorProto::default()
        };
        let api = |name: &str| {
            let service = ServiceDescriptorProto {
                name: Some(name.to_owned()),
                method: vec![
                    method("Get", Some(IdempotencyLevel::NoSideEffects)),
                    method("Watch", None),
                ],
                ..ServiceDescriptorProto::default()
            };
            let file = FileDescriptorProto {
                package: Some("a.v1".to_owned()),
                service: vec![service],
                ..FileDescriptorProto::default()
            };
            Api::from_descriptor_set(&FileDescriptorSet { file: vec![file] }.encode_to_vec())
        };
        let known = api("B").unwrap().with_optional("/a.v1.B/Page");
        let get = known.method("/a.v1.B/Get").unwrap();
        assert!(get.is_idempotent && !get.streams_request && !get.streams_response);
        let watch = known.method("/a.v1.B/Watch").unwrap();
        assert!(!watch.is_idempotent && watch.is_feed());
        assert_eq!(known.method("/a.v1.B/get"), None);
        assert_eq!(known.nearest("/a.v1.B/get"), Some("/a.v1.B/Get"));
        assert!(known.is_known("/a.v1.B/Page") && known.method("/a.v1.B/Page").is_none());
        assert!(known.services().contains("a.v1.B") && !known.services().contains("a.v1"));
        for name in ["B/C", "B?", "B#"] {
            assert!(
                matches!(api(name), Err(InvalidApi::NotAMethod(_))),
                "{name}"
            );
        }
    }
}
