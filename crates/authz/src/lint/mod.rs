//! Finds likely mistakes in a valid policy, by itself and against the API that it is for.
//!
//! - `check`: the whole policy, by `coverage`; `lints`: one rule by itself, by `principal`; `finding`: what they say

pub(crate) mod check;
pub(crate) mod coverage;
pub(crate) mod finding;
pub(crate) mod lints;
pub(crate) mod principal;
