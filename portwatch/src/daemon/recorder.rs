//! Keeps the history: a reader of the bus like any other, whose output is a folder.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::history::Writer;
use crate::interface::status::HistoryStatus;
use crate::sink::{Item, Numbering, Subscriber};

/// Bytes of one write.
const BATCH: usize = 1 << 20;
/// Pause between two writes: what comes together is written together.
const PAUSE: Duration = Duration::from_millis(50);
/// How often what was written is made to survive the end of the machine.
const SETTLE: Duration = Duration::from_secs(5);

/// How keeping goes, for `portwatch status`.
#[derive(Debug, Default)]
pub(super) struct Kept {
    written: AtomicU64,
    lost: AtomicU64,
    is_failing: AtomicBool,
    error: Mutex<String>,
}

impl Kept {
    /// The figures of now.
    #[must_use]
    pub(super) fn status(&self) -> HistoryStatus {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        HistoryStatus {
            written: self.written.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            error: self
                .is_failing
                .load(Ordering::Relaxed)
                .then(|| error.clone()),
        }
    }

    /// Told once, until it works again: a disk stays full for a while.
    fn judge(&self, lines: u64, done: io::Result<()>) {
        match done {
            Ok(()) => {
                self.written.fetch_add(lines, Ordering::Relaxed);
                if lines > 0 && self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the history is kept again");
                }
            }
            Err(error) => {
                self.lost.fetch_add(lines, Ordering::Relaxed);
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the history is not kept; events go on");
                }
                let mut last = self.error.lock().unwrap_or_else(PoisonError::into_inner);
                *last = error.to_string();
            }
        }
    }
}

/// Writes what comes until there is no more. Numbers its lines itself, as every output does.
pub(super) async fn record(mut subscriber: Subscriber, mut writer: Writer, kept: Arc<Kept>) {
    let mut numbering = Numbering::default();
    let mut unsettled = None;
    loop {
        let batch = timeout(SETTLE, subscriber.next_batch(BATCH)).await;
        let (items, is_end) = match batch {
            Ok(Some(items)) => (items, false),
            Ok(None) => (Vec::new(), true),
            Err(_) => (Vec::new(), false),
        };
        let mut lines = Vec::new();
        for item in &items {
            if let Item::Line(line) = item {
                numbering.append(line, &mut lines);
            }
        }
        let count = items.len() as u64;
        if count > 0 {
            unsettled.get_or_insert_with(Instant::now);
        }
        let settles = unsettled.is_some_and(|since| is_end || since.elapsed() >= SETTLE);
        if settles {
            unsettled = None;
        }
        let done = spawn_blocking(move || {
            let appended = match lines.is_empty() {
                true => Ok(()),
                false => writer.append(&lines, Timestamp::now()),
            };
            let settled = if settles { writer.settle() } else { Ok(()) };
            (writer, appended, settled)
        });
        let (back, appended, settled) = match done.await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "the history is no longer kept");
                return;
            }
        };
        writer = back;
        kept.judge(count, appended);
        // What was appended is there, and readable, for as long as the machine runs.
        kept.judge(0, settled);
        subscriber.count_delivered(count);
        if is_end {
            return;
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Kept, record};
    use crate::history::{self, Bounds, Writer};
    use crate::sink::testing::opened;
    use crate::sink::{Bus, Interest, Limits, Reader};

    #[tokio::test]
    async fn every_line_is_kept_and_numbered_without_a_hole() {
        let dir = tempfile::tempdir().expect("dir");
        let bounds = Bounds {
            bytes: 1 << 20,
            age: Duration::from_secs(60),
        };
        let bus = Bus::new(Limits::READER, Limits::REPLAY);
        let reader = Reader {
            uid: 0,
            pid: None,
            is_own: true,
        };
        let subscriber = bus.subscribe(reader, Interest::default()).subscriber;
        let writer = Writer::open(dir.path(), bounds).expect("writable");
        let kept = Arc::new(Kept::default());
        let task = tokio::spawn(record(subscriber, writer, Arc::clone(&kept)));
        for seq in [1, 2, 5] {
            bus.publish(&opened(seq));
        }
        tokio::task::yield_now().await;
        bus.publish(&opened(6));
        bus.close();
        task.await.expect("ended");
        let mut seqs = Vec::new();
        let read = history::read(dir.path(), None, |past| {
            seqs.push(past.event.seq);
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(read.expect("readable"), ControlFlow::Continue(0));
        assert_eq!(seqs, [1, 2, 3, 4]);
        let status = kept.status();
        assert_eq!((status.written, status.lost, status.error), (4, 0, None));
    }
}
