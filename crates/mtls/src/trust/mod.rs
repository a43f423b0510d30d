//! Live trust from files or from an agent: credentials are read, verified as a peer would verify them, and published as
//! one snapshot.
//!
//! - reading: `source` of `material`, by `pem_file` over `pem`, or from an `agent` of the `workload` API
//! - what is wrong: `invalid`, and in which part: `faults`
//! - the parts: `root`, `bundles`, `issuers`, `crl`, `lists`, `key`, put together by `authorities`
//! - the verifier: `verify` of a `server_identity`, over `names` in `der`, `name_constraints`, the rules of `revocation` and
//!   what is `shown` to webpki; its errors are in `explain`, its caches in `parsed`, `signatures` and `memo`
//! - what outlasts a restart: `crl_state`
//! - the result: `snapshot` with our `own_chain`, kept current by `live`; `no_subscriber`
//!   warns of a program without a log

pub(crate) mod agent;
pub(crate) mod authorities;
pub(crate) mod bundles;
pub(crate) mod crl;
pub(crate) mod crl_state;
pub(crate) mod der;
pub(crate) mod explain;
pub(crate) mod faults;
pub(crate) mod invalid;
pub(crate) mod issuers;
pub(crate) mod key;
pub(crate) mod lists;
pub(crate) mod live;
pub(crate) mod material;
pub(crate) mod memo;
pub(crate) mod name_constraints;
pub(crate) mod names;
pub(crate) mod no_subscriber;
pub(crate) mod own_chain;
pub(crate) mod parsed;
pub(crate) mod pem_file;
pub(crate) mod revocation;
pub(crate) mod root;
pub(crate) mod server_identity;
pub(crate) mod shown;
pub(crate) mod signatures;
pub(crate) mod snapshot;
pub(crate) mod source;
pub(crate) mod verify;
pub(crate) mod workload;
