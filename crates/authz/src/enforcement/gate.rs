//! Decides the calls of one connection: when a call begins, and again when a new policy comes into force.
//!
//! It caches that a policy allowed a method, only for the same policy and the same caller, and only when no rule reads a
//! header: then the decision cannot differ. Denials are not cached.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tonic::Status;

use crate::enforcement::authorization::Authorization;
use crate::policy::caller::Caller;
use crate::policy::path::routed_path;

/// How many methods are cached, so that a connection's memory does not depend on the size of an API.
const REMEMBERED: usize = 16;

/// How many bits of a cache entry are the number of a method. The rest is a generation.
const METHOD_BITS: u32 = 16;

/// Decides the calls of one connection.
#[derive(Debug)]
pub struct Gate {
    authorization: Authorization,
    caller: Caller,
    /// Each entry: a method, and the generation of a policy that allows it for any headers.
    allowed: [AtomicU64; REMEMBERED],
}

/// An allowed call, with the generation of the policy that allowed it.
#[derive(Debug)]
pub struct Allowed {
    generation: u64,
}

/// What a policy may read of a call, kept while the call runs.
#[derive(Debug)]
pub struct Head {
    path: Option<PathAndQuery>,
    headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Head {
    /// Copies it from `request`.
    pub fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let mut copy = Vec::with_capacity(headers.len());
        copy.extend(
            headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Self {
            path: request.uri().path_and_query().cloned(),
            headers: copy.into_boxed_slice(),
        }
    }

    fn path(&self) -> &str {
        self.path.as_ref().map_or("", PathAndQuery::as_str)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        headers
    }
}

impl Authorization {
    /// A gate for the connection of `caller`.
    pub fn gate(&self, caller: impl Into<Caller>) -> Gate {
        Gate::new(self.clone(), caller.into())
    }
}

impl Gate {
    pub(crate) fn new(authorization: Authorization, caller: Caller) -> Self {
        Self {
            authorization,
            caller,
            allowed: Default::default(),
        }
    }

    /// Decides a new call, and records the decision. `method` is the number of its method among those that are served,
    /// always the same for the same path, or `None`.
    ///
    /// # Errors
    /// The status for the caller: PERMISSION_DENIED, or UNIMPLEMENTED for a path that is not a method.
    pub fn admit<B>(&self, method: Option<usize>, request: &Request<B>) -> Result<Allowed, Status> {
        let method = method.filter(|_| request.uri().query().is_none());
        let generation = self.authorization.policy().generation();
        if let Some((place, allow)) = method.and_then(|method| self.memory(method, generation))
            && place.load(Ordering::Relaxed) == allow
        {
            self.authorization.admit_again();
            return Ok(Allowed { generation });
        }
        let in_force = self.authorization.policy().in_force();
        let path = routed_path(request);
        self.authorization
            .admit(&in_force, &self.caller, path, request.headers())?;
        let generation = in_force.generation;
        if self.authorization.is_silent(&in_force.policy)
            && let Some((place, allow)) = method.and_then(|method| self.memory(method, generation))
        {
            place.store(allow, Ordering::Relaxed);
        }
        Ok(Allowed { generation })
    }

    /// Whether the policy in force allows this caller a call of `path` without headers. This is a question and no call:
    /// it is neither counted nor audited.
    pub fn would_allow(&self, path: &str) -> bool {
        let in_force = self.authorization.policy().in_force();
        let none = HeaderMap::new();
        let decision = in_force.policy.decide(&self.caller, path, &none);
        decision.is_allowed()
    }

    /// Whether a rule of the policy in force reads headers, so that a call with some may be decided otherwise.
    pub fn reads_headers(&self) -> bool {
        self.authorization
            .policy()
            .in_force()
            .policy
            .reads_metadata()
    }

    /// The cache entry of this method and its value, unless the numbers are too large.
    fn memory(&self, method: usize, generation: u64) -> Option<(&AtomicU64, u64)> {
        let number = u64::try_from(method).ok()?;
        let fits = number < 1 << METHOD_BITS && generation < 1 << (u64::BITS - METHOD_BITS);
        let place = self.allowed.get(method % REMEMBERED)?;
        fits.then_some((place, generation << METHOD_BITS | number))
    }

    /// Whether the policy that let the call begin is still the one in force.
    pub fn is_current(&self, allowed: &Allowed) -> bool {
        self.authorization.policy().generation() == allowed.generation
    }

    /// Whether the policy in force still allows a call that `allowed` let begin. It is neither counted nor audited.
    pub fn still_allows(&self, allowed: &Allowed, head: &Head) -> bool {
        if self.is_current(allowed) {
            return true;
        }
        let in_force = self.authorization.policy().in_force();
        let headers = head.headers();
        let decision = in_force.policy.decide(&self.caller, head.path(), &headers);
        decision.is_allowed()
    }

    /// Resolves with the status for the caller when a policy newer than `allowed` does not allow the call.
    pub async fn refused(&self, allowed: &Allowed, head: &Head) -> Status {
        let mut policy = self.authorization.policy().subscribe();
        let mut judged = allowed.generation;
        loop {
            let in_force = policy.borrow_and_update().clone();
            if in_force.generation != judged {
                judged = in_force.generation;
                let headers = head.headers();
                let kept = self
                    .authorization
                    .keep(&in_force, &self.caller, head.path(), &headers);
                if let Err(refusal) = kept {
                    return refusal;
                }
            }
            if policy.changed().await.is_err() {
                return pending().await;
            }
        }
    }
}
