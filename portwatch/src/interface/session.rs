//! One client of the control socket: its request, and the answer at the client's own pace.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::peer::Peer;
use super::protocol::{Fault, Format, Reply, Request, Verb, to_line};
use super::server::{Backend, Limits, Query};
use crate::sink::{Interest, Item, Line, Numbering, Reader, Selection, Subscriber};

/// Bytes that go into one write.
const BATCH: usize = 64 * 1024;
/// What may be on its way to a client that streams states, in bytes: on a busy machine it waits for its
/// turn while tens of thousands of them happen.
const STREAM_BUFFER: usize = 1 << 20;
/// How often a client that shut its sending side down is asked whether it is still there.
const HALF_CLOSED_CHECK: Duration = Duration::from_secs(1);

/// What all sessions share.
pub(super) struct Context {
    pub(super) backend: Backend,
    pub(super) limits: Limits,
}

/// Why a session ends before its answer is complete.
enum Ended {
    /// The client is gone, or does not read at all: nothing can be said to it.
    Gone,
    /// It can be told.
    Fault(Fault),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Serves one client to its end.
pub(super) async fn run(stream: UnixStream, peer: Peer, context: &Context) {
    let mut session = Session {
        stream,
        peer,
        context,
        out: Vec::new(),
        has_blocks: false,
    };
    if let Err(Ended::Fault(fault)) = session.answer().await {
        tracing::debug!(peer.uid, %fault, "a control session ended with an error");
        session.push(&Reply::fault(fault));
        let _ = session.flush(|| true).await;
    }
}

struct Session<'a> {
    stream: UnixStream,
    peer: Peer,
    context: &'a Context,
    /// Whole lines and blocks that wait to be written.
    out: Vec<u8>,
    /// There are blocks among them, in which a newline ends nothing.
    has_blocks: bool,
}

impl Session<'_> {
    async fn answer(&mut self) -> Result<(), Ended> {
        let limits = &self.context.limits;
        let line = timeout(limits.request_time, self.read_request())
            .await
            .map_err(|_| {
                Fault::usage(format!(
                    "no request within {} s",
                    limits.request_time.as_secs()
                ))
            })??;
        let request = Request::parse(&line)?;
        let selection = self.selection(request.filter.as_deref())?;
        match request.request {
            Verb::Tail => self.tail(&request, &selection).await,
            Verb::List => self.list(&selection).await,
            Verb::Status => self.status().await,
            Verb::Stats => self.stats().await,
            Verb::Storms => self.storms().await,
            Verb::Reload => self.reload().await,
        }
    }

    /// One line, or all there is up to the end of the client's sending side.
    async fn read_request(&self) -> Result<Vec<u8>, Ended> {
        let limit = self.context.limits.request_bytes;
        let mut line = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let got = read(&self.stream, &mut chunk).await?;
            line.extend_from_slice(&chunk[..got]);
            let end = line.iter().position(|byte| *byte == b'\n');
            if end.unwrap_or(line.len()) >= limit {
                return Err(Fault::usage(format!("a request has at most {limit} bytes")).into());
            }
            match end {
                Some(end) if end + 1 == line.len() => {
                    line.truncate(end);
                    return Ok(line);
                }
                Some(_) => return Err(unexpected_data()),
                None if got == 0 && line.is_empty() => return Err(Ended::Gone),
                None if got == 0 => return Ok(line),
                None => {}
            }
        }
    }

    fn selection(&self, filter: Option<&str>) -> Result<Selection, Fault> {
        let predicate = filter
            .map(|text| (self.context.backend.compile)(text))
            .transpose()
            .map_err(Fault::usage)?;
        Ok(Selection::new(predicate))
    }

    async fn tail(&mut self, request: &Request, selection: &Selection) -> Result<(), Ended> {
        let reader = Reader {
            uid: self.peer.uid,
            pid: self.peer.pid,
            is_own: false,
        };
        let interest = Interest {
            states: request.states,
            since: request.since_ms.map(cutoff),
        };
        if request.states
            && let Err(error) = set_socket_send_buffer_size_force(&self.stream, STREAM_BUFFER)
        {
            tracing::debug!(%error, "a stream keeps the buffer of every socket");
        }
        let subscription = self.context.backend.bus.subscribe(reader, interest);
        let mut subscriber = subscription.subscriber;
        self.push(&Reply::accepted(subscription.replay_from));
        self.flush(|| false).await?;
        let mut numbering = Numbering::default();
        loop {
            let batch = {
                let items = subscriber.next_batch(BATCH);
                tokio::select! {
                    items = items => items,
                    ended = hung_up(&self.stream) => return Err(ended),
                }
            };
            let Some(items) = batch else {
                self.push(&Reply::end());
                return self.flush(|| true).await;
            };
            let mut count = 0;
            for item in &items {
                match item {
                    Item::Line(line) if selection.admits(line.event()) => {
                        let size = line.json().len() + Numbering::GROWTH;
                        self.make_room(size, &subscriber).await?;
                        numbering.append(line, &mut self.out);
                        count += 1;
                    }
                    Item::Line(_) => {}
                    Item::States(states) if request.format == Format::Compact => {
                        let wanted = |index| selection.admits_state(states, index);
                        count += numbering.append_blocks(states, wanted, &mut self.out);
                        self.has_blocks = true;
                        if self.out.len() >= BATCH {
                            self.flush(|| subscriber.is_overrun()).await?;
                        }
                    }
                    Item::States(states) => {
                        for index in 0..states.count() {
                            if selection.admits_state(states, index) {
                                numbering.append_state(states, index, &mut self.out);
                                count += 1;
                                if self.out.len() >= BATCH {
                                    self.flush(|| subscriber.is_overrun()).await?;
                                }
                            }
                        }
                    }
                }
            }
            self.flush(|| subscriber.is_overrun()).await?;
            subscriber.count_delivered(count);
            // A stream that never runs dry must not keep the thread from the pipeline.
            tokio::task::yield_now().await;
        }
    }

    async fn list(&mut self, selection: &Selection) -> Result<(), Ended> {
        let time = self.context.limits.query_time;
        let events = self.context.backend.ask(time, Query::List).await?;
        self.push(&Reply::accepted(None));
        let mut numbering = Numbering::default();
        for event in events.into_iter().filter(|event| selection.admits(event)) {
            numbering.append(&Line::new(event), &mut self.out);
            if self.out.len() >= BATCH {
                self.flush(|| true).await?;
            }
        }
        self.push(&Reply::end());
        self.flush(|| true).await
    }

    async fn storms(&mut self) -> Result<(), Ended> {
        let time = self.context.limits.query_time;
        let events = self.context.backend.ask(time, Query::Storms).await?;
        self.push(&Reply::accepted(None));
        let mut numbering = Numbering::default();
        for event in events {
            numbering.append(&Line::new(event), &mut self.out);
            if self.out.len() >= BATCH {
                self.flush(|| true).await?;
            }
        }
        self.push(&Reply::end());
        self.flush(|| true).await
    }

    async fn status(&mut self) -> Result<(), Ended> {
        let limits = &self.context.limits;
        let status = self.context.backend.status(limits.query_time).await?;
        self.push(&Reply::accepted(None));
        self.push(&status);
        self.push(&Reply::end());
        self.flush(|| true).await
    }

    async fn stats(&mut self) -> Result<(), Ended> {
        let time = self.context.limits.query_time;
        let stats = self.context.backend.ask(time, Query::Stats).await?;
        self.push(&Reply::accepted(None));
        self.push(&stats);
        self.push(&Reply::end());
        self.flush(|| true).await
    }

    async fn reload(&mut self) -> Result<(), Ended> {
        // Members of the group read; what the daemon does is not theirs to say.
        let may = [0, rustix::process::getuid().as_raw()].contains(&self.peer.uid);
        let reload = self.context.backend.reload.as_ref().filter(|_| may);
        let reload = reload.ok_or_else(|| {
            Fault::not_permitted("only root may have the configuration read anew".to_owned())
        })?;
        let time = self.context.limits.query_time;
        let reloaded = timeout(time, reload()).await.unwrap_or_else(|_| {
            Err(Fault::unavailable(format!(
                "the configuration was not read within {} s; the daemon's log says what becomes of it",
                time.as_secs()
            )))
        })?;
        self.push(&Reply::accepted(None));
        self.push(&reloaded);
        self.push(&Reply::end());
        self.flush(|| true).await
    }

    fn push<T: serde::Serialize>(&mut self, line: &T) {
        // Fails only for values that are not JSON, and these types are.
        self.out.extend(to_line(line).unwrap_or_default());
    }

    async fn make_room(&mut self, bytes: usize, subscriber: &Subscriber) -> Result<(), Ended> {
        if self.out.len() + bytes > BATCH {
            self.flush(|| subscriber.is_overrun()).await?;
        }
        Ok(())
    }

    /// Writes all that waits. A client that takes nothing for the stall time is cut off if `is_full`.
    async fn flush(&mut self, is_full: impl Fn() -> bool) -> Result<(), Ended> {
        let mut written = 0;
        while written < self.out.len() {
            match self.stream.try_write(&self.out[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let stall = self.context.limits.stall_time;
                    match timeout(stall, self.stream.writable()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return Err(Ended::Gone),
                        Err(_) if is_full() => return Err(self.cut_off(written)),
                        Err(_) => {}
                    }
                }
                Err(_) => return Err(Ended::Gone),
            }
        }
        self.out.clear();
        self.has_blocks = false;
        Ok(())
    }

    /// Gives up on a client that does not read. It is told if that is possible without waiting and
    /// without breaking a line in two.
    fn cut_off(&mut self, written: usize) -> Ended {
        tracing::warn!(
            self.peer.uid,
            self.peer.pid,
            "a client that does not read was cut off"
        );
        let ends_a_line = || self.out[written - 1] == b'\n' && !self.has_blocks;
        let is_between_lines = written == 0 || ends_a_line();
        self.out.clear();
        if is_between_lines {
            self.push(&Reply::fault(Fault::unavailable(format!(
                "nothing was read for {} s and the queue is full: cut off",
                self.context.limits.stall_time.as_secs()
            ))));
            let _ = self.stream.try_write(&self.out);
        }
        Ended::Gone
    }
}

/// Reads what there is; 0 at the end of the client's sending side.
async fn read(stream: &UnixStream, chunk: &mut [u8]) -> Result<usize, Ended> {
    loop {
        stream.readable().await.map_err(|_| Ended::Gone)?;
        match stream.try_read(chunk) {
            Ok(bytes) => return Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Ended::Gone),
        }
    }
}

/// Completes when the client goes, or says more than its one line. A client that only shut its sending
/// side down (as `socat` does at the end of its input) still listens.
async fn hung_up(stream: &UnixStream) -> Ended {
    match read(stream, &mut [0]).await {
        Ok(0) => {}
        Ok(_) => return unexpected_data(),
        Err(ended) => return ended,
    }
    while !is_closed(stream) {
        tokio::time::sleep(HALF_CLOSED_CHECK).await;
    }
    Ended::Gone
}

/// POLLHUP on a unix stream: both directions are shut.
fn is_closed(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&at_once)).is_err() || !fds[0].revents().is_empty()
}

fn unexpected_data() -> Ended {
    Fault::usage("there is data after the request; one connection carries one request".to_owned())
        .into()
}

/// The time this many milliseconds ago.
fn cutoff(since_ms: u64) -> Timestamp {
    SystemTime::now()
        .checked_sub(Duration::from_millis(since_ms))
        .and_then(|time| Timestamp::try_from(time).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}
