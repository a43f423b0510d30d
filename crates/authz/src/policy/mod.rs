//! The engine of gRFC A43: pure, from a text to a decision.
//!
//! - reading: `parse` over `cursor` and `json`; refused as `invalid`
//! - a rule: `pattern`, `path`, `caller`, `rpc`, put together by `rule`
//! - the whole: `compiled`, which decides by `decide` and tells why by `explain`

pub(crate) mod caller;
pub(crate) mod compiled;
pub(crate) mod cursor;
pub(crate) mod decide;
pub(crate) mod explain;
pub(crate) mod invalid;
pub(crate) mod json;
pub(crate) mod parse;
pub(crate) mod path;
pub(crate) mod pattern;
pub(crate) mod rpc;
pub(crate) mod rule;
