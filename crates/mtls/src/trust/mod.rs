//! From files to live trust: credentials are read, checked as a peer would check them, and published as one snapshot.
//!
//! - reading: `source`, `pem_file` over `pem`; what is wrong: `unreadable`, `invalid`, `invalid_crl`, `faults`
//! - the parts: `root`, `issuers`, `crl`, `lists`, `key`, put together by `authorities`
//! - the verifier: `verify`, over `names`, and `signatures` with `memo`
//! - the result: `snapshot` with its `configurations`, kept current by `live`

pub(crate) mod authorities;
pub(crate) mod configurations;
pub(crate) mod crl;
pub(crate) mod faults;
pub(crate) mod invalid;
pub(crate) mod invalid_crl;
pub(crate) mod issuers;
pub(crate) mod key;
pub(crate) mod lists;
pub(crate) mod live;
pub(crate) mod memo;
pub(crate) mod names;
pub(crate) mod pem;
pub(crate) mod pem_file;
pub(crate) mod root;
pub(crate) mod signatures;
pub(crate) mod snapshot;
pub(crate) mod source;
pub(crate) mod unreadable;
pub(crate) mod verify;
