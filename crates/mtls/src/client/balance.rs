//! Chooses the connection for a call: the less busy of two, and not one whose calls all fail while there are others.

use std::sync::Arc;

use crate::client::dial::OpenConnection;

/// One of `ready`: the less busy of two picked at random ("power of two choices"). One that was avoided long enough gets
/// a single call as a probe.
pub(crate) fn pick(mut ready: Vec<Arc<OpenConnection>>) -> Option<Arc<OpenConnection>> {
    if ready.len() > 1 {
        if let Some(due) = ready.iter().find(|one| one.record.is_to_be_probed()) {
            return Some(due.clone());
        }
        if ready.iter().any(|one| one.record.is_good()) {
            ready.retain(|one| one.record.is_good());
        }
    }
    if ready.is_empty() {
        return None;
    }
    let one = ready.swap_remove(fastrand::usize(..ready.len()));
    if ready.is_empty() {
        return Some(one);
    }
    let other = ready.swap_remove(fastrand::usize(..ready.len()));
    Some(if other.in_flight() < one.in_flight() {
        other
    } else {
        one
    })
}
