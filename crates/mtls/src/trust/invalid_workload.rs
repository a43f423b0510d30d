//! Why a Workload API gives no identity: no agent, no right to one, or an answer that cannot be used.

use crate::codes;

/// Why the agent gave no new identity. The text names its socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidWorkload {
    /// The address is not that of a Unix socket.
    #[error("the address of a Workload API is unix:///PATH (SPIFFE Workload Endpoint §4): {0}")]
    Address(&'static str),
    /// There is no agent, or it went away.
    #[error("no agent answers at {socket}: {reason}")]
    Unreachable {
        /// Its socket.
        socket: String,
        /// What the system, or HTTP/2, said.
        reason: String,
    },
    /// It has no identity for this process.
    #[error(
        "the agent at {socket} gives this process no identity: {reason}; register an entry whose selectors are those of this process"
    )]
    Denied {
        /// Its socket.
        socket: String,
        /// What it said.
        reason: String,
    },
    /// Its answer breaks the standard, or is larger than any real one.
    #[error("the answer of the agent at {socket} is not usable: {reason}")]
    Malformed {
        /// Its socket.
        socket: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It has identities for this process, but not the one that a setting names.
    #[error("the agent at {socket} has no SVID {wanted} for this process, but {offered}")]
    NoSuchSvid {
        /// Its socket.
        socket: String,
        /// The SPIFFE ID or the hint that was asked for.
        wanted: String,
        /// The identities that it has.
        offered: String,
    },
    /// The bundle of a trust domain has no root.
    #[error(
        "the bundle of {trust_domain} from the agent at {socket} has no root, so no peer of it could be accepted"
    )]
    NoRoots {
        /// Its socket.
        socket: String,
        /// Whose bundle it is.
        trust_domain: String,
    },
}

impl InvalidWorkload {
    /// The stable name of this reason, as docs/errors.md lists it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Address(_) => codes::WORKLOAD_API_ADDRESS,
            Self::Unreachable { .. } => codes::WORKLOAD_API_UNREACHABLE,
            Self::Denied { .. } => codes::WORKLOAD_API_DENIED,
            Self::Malformed { .. } => codes::WORKLOAD_API_MALFORMED,
            Self::NoSuchSvid { .. } => codes::SVID_NOT_FOUND,
            Self::NoRoots { .. } => codes::BUNDLE_EMPTY,
        }
    }
}
