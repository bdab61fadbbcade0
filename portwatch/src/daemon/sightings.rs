//! Keeps the times at which each listener was first and last seen: a reader of the bus that writes once a minute.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::baseline::Frame;
use crate::history::{News, Sightings};
use crate::sink::{Item, Subscriber};

/// Bytes of lines that are taken at once.
const BATCH: usize = 256 * 1024;
/// How often what was seen is written: what a crash costs is a minute of last times.
const BEAT: Duration = Duration::from_secs(60);

/// Reads events until there are no more. A disk that is full is told once; what was seen waits, within bounds.
pub(super) async fn keep(mut subscriber: Subscriber, state_dir: PathBuf, frame: Frame) {
    let mut news = News::default();
    let mut is_failing = false;
    let mut due = Instant::now() + BEAT;
    loop {
        let is_end = match timeout_at(due, subscriber.next_batch(BATCH)).await {
            Ok(Some(items)) => {
                for item in &items {
                    if let Item::Line(line) = item {
                        news.observe(line.event(), &frame);
                    }
                }
                subscriber.count_delivered(items.len() as u64);
                false
            }
            Ok(None) => true,
            Err(_) => false,
        };
        if !is_end && Instant::now() < due {
            continue;
        }
        due = Instant::now() + BEAT;
        if !news.is_empty() {
            let (dir, taken) = (state_dir.clone(), std::mem::take(&mut news));
            let written = spawn_blocking(move || {
                let added = Sightings::open(&dir).and_then(|mut store| store.add(&taken));
                (taken, added)
            });
            match written.await {
                Ok((_, Ok(()))) => is_failing = false,
                Ok((back, Err(error))) => {
                    news = back;
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(%error, "when listeners were seen cannot be written; it waits");
                    }
                }
                Err(error) => tracing::error!(%error, "when listeners were seen is not kept"),
            }
        }
        if is_end {
            return;
        }
    }
}
