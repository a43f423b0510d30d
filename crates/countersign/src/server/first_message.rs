//! How long a call may keep its place without saying what it wants.
//!
//! The limit is for the first message of every call, also of one whose caller sends many: whoever opens a stream has
//! something to send. What comes after it has the time that the call has.

use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use crate::server::exceeded::Exceeded;

/// The body to go on with, and a future that resolves, with what to say, when its first message does not come within
/// `limit`. It never does when the message came, or when nobody waits for it.
pub(crate) fn within(
    limit: Duration,
    body: Body,
) -> (Body, impl Future<Output = Status> + Send + 'static) {
    let (waiting, over) = oneshot::channel::<()>();
    let late = async move {
        match timeout(limit, over).await {
            Err(_elapsed) => Exceeded::FirstMessageTooSlow { limit }.into(),
            Ok(_over) => std::future::pending().await,
        }
    };
    (base::call::first_message(body, waiting), late)
}
