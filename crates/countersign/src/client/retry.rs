//! Retries calls that failed with a transient error, by gRFC A6.
//!
//! Only idempotent methods are retried here; the channel itself resends calls that were provably not processed. Retries
//! keep within the deadline, the server's pushback and the budget.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::backoff::Backoff;
use base::call::timeout_value;
use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, sleep};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::client::observed::CallId;

/// The trailer with the server's pushback in milliseconds; any other value means do not retry (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The header that tells the server the number of previous attempts (gRFC A6).
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// If the server asks for a longer pause, the call is not retried.
const MAX_PUSHBACK: Duration = Duration::from_secs(60);

/// How often, and after which pauses, a call is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub max_attempts: u32,
    /// The pause before the first retry, ±20 %.
    pub initial_backoff: Duration,
    /// The longest pause, ±20 %.
    pub max_backoff: Duration,
    /// The factor by which each pause is longer than the previous one.
    pub backoff_multiplier: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            backoff_multiplier: 2.0,
        }
    }
}

/// A retry policy and the budget that the calls of one client share. Clones share the budget.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    policy: RetryPolicy,
    budget: Arc<Budget>,
}

impl Retry {
    /// A policy with a full budget.
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            budget: Arc::default(),
        }
    }

    /// Sends a call, and retries it. `timeout` is for all attempts and pauses together.
    /// Retried are UNAVAILABLE, and RESOURCE_EXHAUSTED with a `google.rpc.RetryInfo`.
    ///
    /// # Errors
    /// The status of the last attempt.
    pub async fn call<T, F: Future<Output = Result<T, Status>>>(
        &self,
        timeout: Option<Duration>,
        mut send: impl FnMut(&Attempt) -> F,
    ) -> Result<T, Status> {
        let mut attempt = self.begin(timeout);
        loop {
            match send(&attempt).await {
                Ok(answer) => {
                    attempt.succeeded();
                    return Ok(answer);
                }
                Err(status) => attempt.failed(status).await?,
            }
        }
    }

    /// Begins a call that is sent by hand, because it keeps something from one attempt for the next.
    pub fn begin(&self, timeout: Option<Duration>) -> Attempt {
        let RetryPolicy {
            initial_backoff,
            max_backoff,
            backoff_multiplier,
            ..
        } = self.policy;
        Attempt {
            retry: self.clone(),
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            previous: 0,
            backoff: Backoff::new(initial_backoff, max_backoff, backoff_multiplier),
            id: CallId::random(),
        }
    }

    /// How many retries there were so far.
    pub(crate) fn repeated(&self) -> u64 {
        self.budget.repeated.get()
    }
}

/// One attempt of a call, and the state of the attempts before it.
#[derive(Debug)]
pub struct Attempt {
    retry: Retry,
    deadline: Option<Instant>,
    previous: u32,
    backoff: Backoff,
    id: CallId,
}

impl Attempt {
    /// A request with what is left of the time for the call, and with the number of attempts before this one.
    pub fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        self.mark_headers(request.metadata_mut().as_mut());
        request.extensions_mut().insert(self.id.clone());
        request
    }

    /// Does the same for a request that is made already.
    pub(crate) fn mark<B>(&self, request: &mut http::Request<B>) {
        self.mark_headers(request.headers_mut());
        request.extensions_mut().insert(self.id.clone());
    }

    fn mark_headers(&self, headers: &mut HeaderMap) {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            headers.insert("grpc-timeout", timeout_value(left));
        }
        if self.previous > 0 {
            headers.insert(PREVIOUS_ATTEMPTS, self.previous.into());
        }
    }

    /// This attempt got a response.
    pub fn succeeded(&self) {
        self.retry.budget.succeeded();
    }

    /// This attempt failed. Waits until it is time for the next one, which this then is.
    ///
    /// # Errors
    /// The same status, when the call is not to be sent again.
    pub async fn failed(&mut self, status: Status) -> Result<(), Status> {
        let policy = self.retry.policy;
        let decision = decision(&status);
        if decision == RetryDecision::Final {
            return Err(status);
        }
        self.previous += 1;
        let affordable = self.retry.budget.failed();
        let pause = match decision {
            RetryDecision::Final | RetryDecision::Never => return Err(status),
            RetryDecision::After(pause) if pause > MAX_PUSHBACK => return Err(status),
            RetryDecision::After(pause) => {
                self.backoff.reset();
                pause
            }
            RetryDecision::Backoff => self.backoff.pause(),
        };
        let in_time = self
            .deadline
            .is_none_or(|deadline| Instant::now() + pause < deadline);
        if !affordable || !in_time || self.previous >= policy.max_attempts {
            return Err(status);
        }
        sleep(pause).await;
        self.retry.budget.repeated.inc();
        Ok(())
    }
}

/// What a failure says about trying again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RetryDecision {
    /// This is the answer.
    Final,
    /// It may pass, but the server does not want to be asked again.
    Never,
    /// It may pass.
    Backoff,
    /// It may pass, and the server says when.
    After(Duration),
}

fn decision(status: &Status) -> RetryDecision {
    let retry_info = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    let passing = status.code() == Code::Unavailable
        || (status.code() == Code::ResourceExhausted && retry_info.is_some());
    if !passing {
        return RetryDecision::Final;
    }
    let advised = retry_info.map_or(RetryDecision::Backoff, RetryDecision::After);
    pushback(status.metadata()).unwrap_or(advised)
}

fn pushback(metadata: &MetadataMap) -> Option<RetryDecision> {
    let value = metadata.get(PUSHBACK)?;
    let millis = value.to_str().ok().and_then(|value| value.parse().ok());
    Some(millis.map_or(RetryDecision::Never, |millis| {
        RetryDecision::After(Duration::from_millis(millis))
    }))
}

/// The retry throttle of gRFC A6: failures take a token, successes give back a tenth, and while half of the tokens
/// are gone nothing is sent again.
#[derive(Debug)]
struct Budget {
    tenths: AtomicU32,
    repeated: Counter,
}

impl Budget {
    const MAX_TENTHS: u32 = 100;

    fn succeeded(&self) {
        self.update(|tenths| (tenths + 1).min(Self::MAX_TENTHS));
    }

    /// Whether a retry is affordable.
    fn failed(&self) -> bool {
        self.update(|tenths| tenths.saturating_sub(10)) > Self::MAX_TENTHS / 2
    }

    fn update(&self, change: impl Fn(u32) -> u32) -> u32 {
        let before = self
            .tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| {
                Some(change(tenths))
            });
        change(before.unwrap_or_else(|unchanged| unchanged))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tenths: AtomicU32::new(Self::MAX_TENTHS),
            repeated: Counter::default(),
        }
    }
}

#[cfg(test)]
mod tests;
