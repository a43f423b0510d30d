//! The policy in force. It is replaced atomically while calls run: a call sees the old policy or the new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::policy::compiled::Policy;

/// A policy and when it came into force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The policy.
    pub policy: Arc<Policy>,
    /// How many policies there have been, this one included: the first is 1.
    pub generation: u64,
    /// When it came into force, by the wall clock.
    pub since: SystemTime,
}

/// The policy in force; clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct LivePolicy {
    in_force: Arc<watch::Sender<InForce>>,
    /// The generation of `in_force`, to be read without a lock.
    generation: Arc<AtomicU64>,
}

impl LivePolicy {
    /// Puts a first policy in force, as generation 1.
    pub fn new(policy: Policy) -> Self {
        let first = InForce {
            policy: Arc::new(policy),
            generation: 1,
            since: SystemTime::now(),
        };
        Self {
            in_force: Arc::new(watch::Sender::new(first)),
            generation: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The policy in force.
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.in_force.borrow().policy)
    }

    /// Puts `policy` in force at once, for new calls and for those that run, and returns its generation.
    pub fn replace(&self, policy: Policy) -> u64 {
        let mut generation = 0;
        self.in_force.send_modify(|in_force| {
            generation = in_force.generation.saturating_add(1);
            *in_force = InForce {
                policy: Arc::new(policy),
                generation,
                since: SystemTime::now(),
            };
            // Within the lock, so that the two agree.
            self.generation.store(generation, Ordering::Release);
        });
        generation
    }

    /// The generation of the policy in force.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Since when the policy has been in force.
    pub fn since(&self) -> SystemTime {
        self.in_force.borrow().since
    }

    /// The policy in force, with its generation.
    pub(crate) fn in_force(&self) -> InForce {
        self.in_force.borrow().clone()
    }

    /// A receiver of each replacement from now on.
    pub fn subscribe(&self) -> watch::Receiver<InForce> {
        self.in_force.subscribe()
    }
}
