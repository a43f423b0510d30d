//! Wakes the task of a connection only from outside. Its parts wake one another while the task runs, and without this each
//! such call would schedule the task once more, and wake another thread of the runtime to take it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// How often the parts of a connection are polled in turn before other tasks of the thread have theirs.
const ROUNDS: usize = 4;

/// What wakes the parts of one task.
#[derive(Debug)]
pub(crate) struct Wakeups {
    shared: Arc<WakeState>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct WakeState {
    task: AtomicWaker,
    /// The parts are polled just now, or are about to be.
    is_polling: AtomicBool,
    /// A part was woken since they were last polled.
    is_woken: AtomicBool,
}

impl Wake for WakeState {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, SeqCst);
        if !self.is_polling.load(SeqCst) {
            self.task.wake();
        }
    }
}

impl Default for Wakeups {
    fn default() -> Self {
        let shared = Arc::<WakeState>::default();
        let waker = shared.clone().into();
        Self { shared, waker }
    }
}

impl Wakeups {
    /// Polls all parts by `parts`, and again when one of them woke another meanwhile.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut parts: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let WakeState {
            task,
            is_polling,
            is_woken,
        } = &*self.shared;
        task.register(cx.waker());
        is_polling.store(true, SeqCst);
        for _ in 0..ROUNDS {
            is_woken.store(false, SeqCst);
            if let Poll::Ready(done) = parts(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(done);
            }
            if !is_woken.load(SeqCst) {
                break;
            }
        }
        is_polling.store(false, SeqCst);
        // In this order: who wakes a part from now on wakes the task too, and who did before is seen here.
        if is_woken.load(SeqCst) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_part_that_wakes_another_is_followed_by_another_round_and_no_wake_of_the_task() {
        let (task, wakeups) = (Arc::<Woken>::default(), Wakeups::default());
        let mut rounds = 0;
        let polled = wakeups.poll(&mut Context::from_waker(&task.clone().into()), |cx| {
            rounds += 1;
            if rounds == 1 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, task.0.load(SeqCst)), (2, 0));
    }

    #[test]
    fn a_part_that_wakes_itself_again_and_again_leaves_other_tasks_their_turn() {
        let (task, wakeups) = (Arc::<Woken>::default(), Wakeups::default());
        let mut rounds = 0;
        let polled = wakeups.poll(&mut Context::from_waker(&task.clone().into()), |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, task.0.load(SeqCst)), (ROUNDS, 1));
    }

    #[test]
    fn a_part_that_is_woken_from_outside_wakes_the_task() {
        let (task, wakeups) = (Arc::<Woken>::default(), Wakeups::default());
        let mut part = None;
        let polled = wakeups.poll(&mut Context::from_waker(&task.clone().into()), |cx| {
            part = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        part.unwrap().wake();
        assert_eq!(task.0.load(SeqCst), 1);
    }
}
