//! A thread that waits for something asynchronous, or until some time. It needs no runtime: nothing of it runs in the
//! pipeline's.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// What comes out of `future`, or nothing when it is not there in time. The future must lose nothing when it is dropped,
/// and must not use timers or sockets of a runtime.
pub(super) fn wait<F: Future>(future: F, until: Option<Instant>) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match until {
            None => thread::park(),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn what_comes_from_another_thread_wakes_it_and_nothing_ends_in_time() {
        let notify = Arc::new(Notify::new());
        let until = Instant::now() + Duration::from_millis(20);
        assert_eq!(wait(notify.notified(), Some(until)), None);
        assert!(Instant::now() >= until);
        let other = Arc::clone(&notify);
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            other.notify_one();
        });
        assert_eq!(wait(notify.notified(), None), Some(()));
        thread.join().expect("ended");
    }
}
