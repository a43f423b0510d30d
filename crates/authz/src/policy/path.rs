//! The path of an RPC: `/service/method`. It is not normalized or decoded: the path that is authorized is, byte for byte,
//! the path that is routed.

use http::Request;

/// A path that names a method of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MethodPath<'a> {
    path: &'a str,
    service_end: usize,
}

impl<'a> MethodPath<'a> {
    /// `None` for anything but two non-empty parts, each after one slash, without query and fragment.
    ///
    /// Such a path reaches no handler under its own name, but a router that is laxer than the policy would run a
    /// handler that a deny rule protects (CVE-2026-33186).
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let is_part = |part: &str| !part.is_empty() && !part.contains(['/', '?', '#']);
        (is_part(service) && is_part(method)).then_some(Self {
            path,
            service_end: service.len() + 2,
        })
    }

    pub(crate) fn as_str(self) -> &'a str {
        self.path
    }

    /// `/service/`, which all methods of a service have in common.
    pub(crate) fn service_prefix(self) -> &'a str {
        &self.path[..self.service_end]
    }
}

/// Whether a prefix pattern stands for the methods of exactly one service.
pub(crate) fn is_service_prefix(prefix: &str) -> bool {
    prefix
        .strip_prefix('/')
        .and_then(|rest| rest.strip_suffix('/'))
        .is_some_and(|service| !service.is_empty() && !service.contains('/'))
}

/// The path that the router sees; with a query, which the router would ignore, it is not a method.
pub(crate) fn routed_path<B>(request: &Request<B>) -> &str {
    match request.uri().query() {
        None => request.uri().path(),
        Some(_) => request
            .uri()
            .path_and_query()
            .map_or("", |whole| whole.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_service_and_method_make_a_path() {
        for path in [
            "", "/", "//", "///", "a", "/a", "/a/", "//a", "a/b", "//a/b", "/a//b", "/a/b/",
            "/a/b/c", "/a/b?x", "/a/b#x", "/a?/b", "*", "/*",
        ] {
            assert_eq!(MethodPath::parse(path), None, "{path}");
        }
        let path = MethodPath::parse("/a.v1.Service/Get").unwrap();
        assert_eq!(path.service_prefix(), "/a.v1.Service/");
    }

    #[test]
    fn a_service_prefix_is_a_service_between_slashes() {
        assert!(is_service_prefix("/a.B/"));
        for prefix in ["", "/", "//", "/a.B", "a.B/", "/a.B/C", "/a/b/", "///"] {
            assert!(!is_service_prefix(prefix), "{prefix}");
        }
    }
}
