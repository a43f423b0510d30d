//! What the connections of one port share.

use tokio::sync::watch;

use crate::server::admission::Admission;
use crate::server::limits::Limits;
use crate::trust::live::Trust;

/// What every connection of one port shares.
pub(crate) struct Port<M> {
    pub(crate) trust: Trust,
    pub(crate) limits: Limits,
    pub(crate) service_for: M,
    pub(crate) draining: watch::Receiver<bool>,
    pub(crate) admission: Admission,
}

impl<M> Port<M> {
    /// A port, and what makes it drain.
    pub(crate) fn new(trust: Trust, limits: Limits, service_for: M) -> (Self, watch::Sender<bool>) {
        let (drain, draining) = watch::channel(false);
        let port = Self {
            admission: Admission::new(&limits),
            trust,
            limits,
            service_for,
            draining,
        };
        (port, drain)
    }
}

/// Resolves when the port begins to drain.
pub(crate) async fn drain(mut draining: watch::Receiver<bool>) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        std::future::pending().await
    }
}
