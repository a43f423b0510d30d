//! One RPC as rules see it: who calls what, with which headers.

use http::HeaderMap;

use crate::policy::caller::{Caller, Identity};
use crate::policy::path::MethodPath;

/// What rules are matched against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rpc<'a> {
    pub(crate) identity: Identity<'a>,
    pub(crate) path: MethodPath<'a>,
    pub(crate) headers: &'a HeaderMap,
}

impl<'a> Rpc<'a> {
    /// `None` when `path` is not `/service/method`.
    pub(crate) fn new(caller: &'a Caller, path: &'a str, headers: &'a HeaderMap) -> Option<Self> {
        Some(Self {
            identity: caller.identity(),
            path: MethodPath::parse(path)?,
            headers,
        })
    }
}
