//! The server of metrics: bounded in clients, bytes, time, and in what it costs. One connection carries one request.
//!
//! Every user of the host reaches an address of loopback. So a page is made once a second at most, however often it is
//! asked for, and clients are let in one after the other; what a flood of them costs is bounded, and small.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::exposition::Format;
use super::http::{Answer, MAX_HEAD, Refusal, answer, end_of_head, page_bytes};
use super::listen::{Listener, Stream};
use super::page::page;
use crate::interface::server::Backend;
use crate::interface::status::{MetricsStatus, Status};

/// Clients at once.
const CLIENTS: usize = 16;
/// Time in which the head of the request must come.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Time in which the answer must be taken.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Time in which the daemon must give its figures.
const STATUS_TIME: Duration = Duration::from_secs(5);
/// How long one page is as good as a new one.
const FRESH: Duration = Duration::from_secs(1);
/// From one client to the next: two hundred in a second.
const ACCEPT_GAP: Duration = Duration::from_millis(5);
/// Pause after a failed accept, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a client may have sent after its request, in bytes, and how long it is listened to. Closing on unread bytes would
/// tear down the connection before the answer is read.
const REST: (usize, Duration) = (16 * 1024, Duration::from_millis(500));

/// How it goes; shared by the listener, the text file and `status`.
#[derive(Debug, Default)]
pub struct Figures {
    answered: AtomicU64,
    turned_away: AtomicU64,
    error: StdMutex<Option<String>>,
    textfile_error: StdMutex<Option<String>>,
}

impl Figures {
    /// For `status`.
    #[must_use]
    pub fn status(&self) -> MetricsStatus {
        let text = |place: &StdMutex<Option<String>>| {
            place.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        MetricsStatus {
            answered: self.answered.load(Ordering::Relaxed),
            turned_away: self.turned_away.load(Ordering::Relaxed),
            error: text(&self.error),
            textfile_error: text(&self.textfile_error),
        }
    }

    /// There is no listener, and why; or there is one. Tells whether that is new.
    pub fn listens(&self, error: Option<String>) -> bool {
        replace(&self.error, error)
    }

    /// The text file was written, or why not. Tells whether that is new.
    pub fn wrote(&self, error: Option<String>) -> bool {
        replace(&self.textfile_error, error)
    }
}

fn replace(place: &StdMutex<Option<String>>, error: Option<String>) -> bool {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = *place != error;
    *place = error;
    is_new
}

/// The pages of the last status that was asked for.
struct Pages {
    made: Instant,
    text: Arc<str>,
    open: Arc<str>,
}

/// Makes pages.
pub struct Press {
    backend: Backend,
    pages: Mutex<Option<Pages>>,
}

impl Press {
    /// Out of what the daemon says of itself.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        Self {
            backend,
            pages: Mutex::new(None),
        }
    }

    /// A page of the last second; none when the daemon does not answer.
    pub async fn page(&self, format: Format) -> Option<Arc<str>> {
        // Whoever comes meanwhile waits for the same answer.
        let mut pages = self.pages.lock().await;
        if pages
            .as_ref()
            .is_none_or(|pages| pages.made.elapsed() >= FRESH)
        {
            let status: Status = self.backend.status(STATUS_TIME).await.ok()?;
            *pages = Some(Pages {
                made: Instant::now(),
                text: page(&status, Format::Text).into(),
                open: page(&status, Format::OpenMetrics).into(),
            });
        }
        pages.as_ref().map(|pages| match format {
            Format::Text => Arc::clone(&pages.text),
            Format::OpenMetrics => Arc::clone(&pages.open),
        })
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: Listener, press: Arc<Press>, figures: Arc<Figures>) {
    let seats = Arc::new(Semaphore::new(CLIENTS));
    let any_host = listener.takes_any_host();
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client of metrics");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (press, figures) = (Arc::clone(&press), Arc::clone(&figures));
        // None, and it is closed at once: a word to each of a crowd would be work for nothing.
        if let Ok(seat) = Arc::clone(&seats).try_acquire_owned() {
            tokio::spawn(async move {
                if converse(stream, &press, any_host).await {
                    figures.answered.fetch_add(1, Ordering::Relaxed);
                } else {
                    figures.turned_away.fetch_add(1, Ordering::Relaxed);
                }
                drop(seat);
            });
        } else {
            figures.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        sleep(ACCEPT_GAP).await;
    }
}

/// One request, one answer. Tells whether the answer was taken.
async fn converse(mut stream: Box<dyn Stream>, press: &Press, any_host: bool) -> bool {
    let read = timeout(REQUEST_TIME, read_head(&mut stream));
    let answer = match read.await {
        Ok(Ok(head)) => answer(&head, any_host),
        Ok(Err(refusal)) => Answer::Refusal(refusal),
        Err(_) => Answer::Refusal(Refusal::Late),
    };
    let bytes = match answer {
        // One asks the daemon, the others wait for that; together no longer than one may.
        Answer::Page { format, is_head } => match timeout(STATUS_TIME, press.page(format)).await {
            Ok(Some(page)) => page_bytes(&page, format, is_head),
            Ok(None) | Err(_) => Refusal::Busy.bytes(),
        },
        Answer::Refusal(refusal) => refusal.bytes(),
    };
    let write = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    };
    if !matches!(timeout(ANSWER_TIME, write).await, Ok(Ok(()))) {
        return false;
    }
    let (most, time) = REST;
    let mut rest = stream.take(most as u64);
    // What more it has to say is of no interest.
    let _ = timeout(time, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    true
}

async fn read_head(stream: &mut Box<dyn Stream>) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        let got = stream.read(&mut chunk).await.unwrap_or(0);
        bytes.extend_from_slice(chunk.get(..got).unwrap_or_default());
        let end = end_of_head(&bytes);
        bytes.truncate(end.unwrap_or(bytes.len()));
        if bytes.len() > MAX_HEAD {
            return Err(Refusal::TooLong);
        }
        if end.is_some() {
            return Ok(bytes);
        }
        if got == 0 {
            return Err(Refusal::Malformed);
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
