//! The policy before the calls of one connection, in parts: asked when a call begins, and again, of a call that runs,
//! when another policy comes into force.
//!
//! Remembers that a policy allowed a method, and only where no call of that caller could be decided otherwise: by the
//! same policy, for the same caller, when no rule reads a header. A denial is decided each time.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tonic::Status;

use crate::enforcement::authorization::Authorization;
use crate::policy::caller::Caller;
use crate::policy::path::routed_path;

/// How many methods are remembered at once, so that a connection's memory does not follow the size of an API.
const REMEMBERED: usize = 16;

/// How much of what is remembered is the number of a method. The rest is a generation.
const METHOD_BITS: u32 = 16;

/// The policy before the calls of one connection.
#[derive(Debug)]
pub struct Gate {
    authorization: Authorization,
    caller: Caller,
    /// A method at each place, and the generation of a policy that allowed it whatever the headers.
    allowed: [AtomicU64; REMEMBERED],
}

/// That a call was let begin, and by which policy.
#[derive(Debug)]
pub struct Allowed {
    generation: u64,
}

/// What a policy may ask of a call, kept for as long as it runs.
#[derive(Debug)]
pub struct Head {
    path: Option<PathAndQuery>,
    headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Head {
    /// A copy of what `request` has of it.
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

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        headers
    }
}

impl Authorization {
    /// The policy before the calls of `caller`, whose connection this is.
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

    /// Decides a call that is about to begin, and records it. `method` is the number of its method among those that
    /// are served, always the same for the same path, or `None` when its path is none of theirs.
    ///
    /// # Errors
    /// What to answer instead: PERMISSION_DENIED, or UNIMPLEMENTED for what is no method at all.
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

    /// Where an allow of this method is remembered, and as what, unless the numbers are too large for that.
    fn memory(&self, method: usize, generation: u64) -> Option<(&AtomicU64, u64)> {
        let number = u64::try_from(method).ok()?;
        let fits = number < 1 << METHOD_BITS && generation < 1 << (u64::BITS - METHOD_BITS);
        let place = self.allowed.get(method % REMEMBERED)?;
        fits.then_some((place, generation << METHOD_BITS | number))
    }

    /// Resolves when a policy that came after `allowed` does not allow the call, with what to answer.
    pub async fn refused(&self, allowed: &Allowed, head: &Head) -> Status {
        let mut policy = self.authorization.policy().subscribe();
        let path = head.path.as_ref().map_or("", PathAndQuery::as_str);
        let mut judged = allowed.generation;
        loop {
            let in_force = policy.borrow_and_update().clone();
            if in_force.generation != judged {
                judged = in_force.generation;
                let headers = head.headers();
                let kept = self
                    .authorization
                    .keep(&in_force, &self.caller, path, &headers);
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
