//! What the descriptors of an API say about its methods: how many messages they have, and whether a call may be
//! repeated.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;

/// One method, as its contract describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MethodOptions {
    /// The client sends a stream of messages.
    pub(crate) sends_many: bool,
    /// The server answers with a stream of messages.
    pub(crate) answers_many: bool,
    /// Its `idempotency_level` says that calling it twice has the effect of calling it once.
    pub(crate) idempotent: bool,
}

/// The methods of an API, by their paths.
#[derive(Debug)]
pub(crate) struct Methods(HashMap<String, MethodOptions>);

/// Bytes that are not a `google.protobuf.FileDescriptorSet`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the descriptors of the API cannot be read: {0}")]
pub struct InvalidDescriptors(#[from] prost::DecodeError);

impl Methods {
    /// Reads encoded descriptor sets, one after the other.
    pub(crate) fn of_descriptors(sets: &[u8]) -> Result<Self, InvalidDescriptors> {
        let mut methods = HashMap::new();
        for file in FileDescriptorSet::decode(sets)?.file {
            let package = match file.package() {
                "" => String::new(),
                package => format!("{package}."),
            };
            for service in &file.service {
                for method in &service.method {
                    let level = method
                        .options
                        .as_ref()
                        .map_or(IdempotencyLevel::IdempotencyUnknown, |options| {
                            options.idempotency_level()
                        });
                    let path = format!("/{package}{}/{}", service.name(), method.name());
                    methods.insert(
                        path,
                        MethodOptions {
                            sends_many: method.client_streaming(),
                            answers_many: method.server_streaming(),
                            idempotent: level != IdempotencyLevel::IdempotencyUnknown,
                        },
                    );
                }
            }
        }
        Ok(Self(methods))
    }

    pub(crate) fn get(&self, path: &str) -> Option<MethodOptions> {
        self.0.get(path).copied()
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_what_its_descriptor_says() {
        let methods = Methods::of_descriptors(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
        let check = methods.get("/grpc.health.v1.Health/Check").unwrap();
        assert!(!check.sends_many && !check.answers_many && !check.idempotent);
        assert!(
            methods
                .get("/grpc.health.v1.Health/Watch")
                .unwrap()
                .answers_many
        );
        assert_eq!(methods.get("/grpc.health.v1.Health/check"), None);
        assert!(Methods::of_descriptors(b"\xff\xff").is_err());
    }
}
