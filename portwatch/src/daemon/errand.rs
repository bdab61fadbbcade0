//! Work that may block, one piece at a time, on another thread. One that fails does not take the next one with it.

use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// What is done elsewhere, and brings something back.
#[derive(Debug)]
pub(super) struct Errand<T> {
    task: Option<JoinHandle<T>>,
}

impl<T> Default for Errand<T> {
    fn default() -> Self {
        Self { task: None }
    }
}

impl<T: Send + 'static> Errand<T> {
    /// Begins one. What is under way is no longer waited for.
    pub(super) fn begin(&mut self, work: impl FnOnce() -> T + Send + 'static) {
        self.task = Some(spawn_blocking(work));
    }

    /// Is one under way?
    pub(super) const fn is_under_way(&self) -> bool {
        self.task.is_some()
    }

    /// Completes when it has ended; never while none is under way. Cancel-safe.
    ///
    /// # Errors
    /// It panicked; what it had with it is gone.
    pub(super) async fn ended(&mut self) -> Result<T, JoinError> {
        let Some(task) = &mut self.task else {
            return std::future::pending().await;
        };
        let ended = task.await;
        self.task = None;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::Errand;

    #[tokio::test]
    async fn one_that_panics_ends_and_the_next_one_works() {
        let mut errand = Errand::default();
        errand.begin(|| -> u8 { panic!("as told") });
        assert!(errand.is_under_way());
        assert!(errand.ended().await.expect_err("panicked").is_panic());
        assert!(!errand.is_under_way());
        errand.begin(|| 7);
        assert_eq!(errand.ended().await.expect("well"), 7);
    }
}
