//! The one place where events fan out: the pipeline publishes and never waits; every reader has its own
//! bounded queue and is told what it missed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::queue::{Limits, Offered, Queue};
use super::replay::{Past, Replay};
use crate::sink::{Item, Line, States};

/// Fans events out to readers.
///
/// Architecture invariant: [`Bus::publish`] takes two uncontended locks and wakes no one who is already
/// awake; nothing a reader does can make it wait.
#[derive(Debug)]
pub struct Bus {
    shared: Mutex<Shared>,
    reader_limits: Limits,
    published: AtomicU64,
    missed: AtomicU64,
    next_id: AtomicU64,
    /// Whether any reader wants `connection.state`.
    states: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    mailboxes: Vec<Arc<Mailbox>>,
    replay: Replay,
    closed: bool,
}

/// The bus's end of one reader.
#[derive(Debug)]
struct Mailbox {
    id: u64,
    reader: Reader,
    states: bool,
    queue: Mutex<Queue>,
    wake: Notify,
    closed: AtomicBool,
    delivered: AtomicU64,
    missed: AtomicU64,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// User id.
    pub uid: u32,
    /// Process id, when it is visible from here.
    pub pid: Option<u32>,
    /// It is a part of the daemon, such as the history.
    pub is_own: bool,
}

/// What a reader asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// `connection.state` as well.
    pub states: bool,
    /// First the kept events from this time on.
    pub since: Option<Timestamp>,
}

/// A new reader's start.
#[derive(Debug)]
pub struct Subscription {
    /// The reader's end.
    pub subscriber: Subscriber,
    /// Set when `since` reached further back than the events that are kept: time of the oldest (RFC 3339).
    pub replay_from: Option<String>,
}

/// A reader's end of the bus. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscriber {
    bus: Arc<Bus>,
    mailbox: Arc<Mailbox>,
    past: VecDeque<Arc<Line>>,
}

/// A hold on a subscription whose subscriber is elsewhere, in a thread perhaps.
#[derive(Clone, Debug)]
pub struct Leash {
    bus: Arc<Bus>,
    mailbox: Arc<Mailbox>,
}

/// One reader's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderStatus {
    /// Who.
    pub reader: Reader,
    /// Gets `connection.state`.
    pub states: bool,
    /// Lines that were written out to it.
    pub delivered: u64,
    /// Lines that it was too slow for.
    pub missed: u64,
    /// Lines that wait for it now.
    pub queued: u64,
}

impl Bus {
    /// A bus without readers; [`Limits::READER`] and [`Limits::REPLAY`] are the defaults.
    #[must_use]
    pub fn new(reader_limits: Limits, replay_limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            shared: Mutex::new(Shared {
                mailboxes: Vec::new(),
                replay: Replay::new(replay_limits),
                closed: false,
            }),
            reader_limits,
            published: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            next_id: AtomicU64::new(0),
            states: watch::Sender::new(false),
        })
    }

    /// Hands a line to every reader that wants its kind. Every reader gets its lines in the order of
    /// these calls; it numbers what it writes itself, see [`crate::sink::Numbering`].
    pub fn publish(&self, line: &Arc<Line>) {
        self.published.fetch_add(1, Ordering::Relaxed);
        let is_state = line.is_state();
        if is_state && !*self.states.borrow() {
            return;
        }
        // Outside the lock: this is where a listener event is serialized.
        line.weight();
        let mut shared = lock(&self.shared);
        shared.replay.push(line);
        self.post_all(&shared, &Item::Line(Arc::clone(line)));
    }

    /// Hands a batch of state changes to every reader that asked for those.
    pub fn publish_states(&self, states: Arc<States>) {
        self.published
            .fetch_add(states.count() as u64, Ordering::Relaxed);
        if *self.states.borrow() {
            self.post_all(&lock(&self.shared), &Item::States(states));
        }
    }

    fn post_all(&self, shared: &Shared, item: &Item) {
        let is_state = item.is_state();
        for mailbox in &shared.mailboxes {
            if !is_state || mailbox.states {
                self.post(mailbox, item);
            }
        }
    }

    /// Adds a reader. Kept lines and live lines meet without a hole and without a double.
    pub fn subscribe(self: &Arc<Self>, reader: Reader, interest: Interest) -> Subscription {
        let limits = if interest.states {
            self.reader_limits.for_states()
        } else {
            self.reader_limits
        };
        let mailbox = Arc::new(Mailbox {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            reader,
            states: interest.states,
            queue: Mutex::new(Queue::new(limits)),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        });
        let mut shared = lock(&self.shared);
        mailbox.closed.store(shared.closed, Ordering::Release);
        let past = interest
            .since
            .map_or_else(Past::default, |cutoff| shared.replay.since(cutoff));
        shared.mailboxes.push(Arc::clone(&mailbox));
        self.update_states(&shared);
        drop(shared);
        Subscription {
            subscriber: Subscriber {
                bus: Arc::clone(self),
                mailbox,
                past: past.lines,
            },
            replay_from: past.starts_at,
        }
    }

    /// Changes when the first reader that wants `connection.state` comes and when the last one goes.
    #[must_use]
    pub fn wants_states(&self) -> watch::Receiver<bool> {
        self.states.subscribe()
    }

    /// No more lines will come: readers get what waits for them, then the end.
    pub fn close(&self) {
        let mut shared = lock(&self.shared);
        shared.closed = true;
        for mailbox in &shared.mailboxes {
            mailbox.closed.store(true, Ordering::Release);
            mailbox.wake.notify_one();
        }
    }

    /// Lines published since the start.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Lines that readers were too slow for, those that have left included.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Every reader of now.
    #[must_use]
    pub fn readers(&self) -> Vec<ReaderStatus> {
        lock(&self.shared)
            .mailboxes
            .iter()
            .map(|mailbox| mailbox.status())
            .collect()
    }

    fn post(&self, mailbox: &Mailbox, item: &Item) {
        // The reader that is woken needs the lock.
        let offered = lock(&mailbox.queue).offer(item);
        match offered {
            Offered::First => mailbox.wake.notify_one(),
            Offered::Queued => {}
            Offered::Refused => {
                let count = item.count() as u64;
                mailbox.missed.fetch_add(count, Ordering::Relaxed);
                self.missed.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    fn unsubscribe(&self, id: u64) {
        let mut shared = lock(&self.shared);
        shared.mailboxes.retain(|mailbox| mailbox.id != id);
        self.update_states(&shared);
    }

    fn update_states(&self, shared: &Shared) {
        let wanted = shared.mailboxes.iter().any(|mailbox| mailbox.states);
        self.states
            .send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
    }
}

impl Subscriber {
    /// Waits for lines and takes up to about `bytes` of them (at least one); `None` once the bus is
    /// closed and nothing waits. Cancelling it loses nothing.
    pub async fn next_batch(&mut self, bytes: usize) -> Option<Vec<Item>> {
        if !self.past.is_empty() {
            let mut size = 0;
            let mut batch = Vec::new();
            while size < bytes.max(1)
                && let Some(line) = self.past.pop_front()
            {
                size += line.weight();
                batch.push(line.into());
            }
            return Some(batch);
        }
        loop {
            // Read before the queue: what was published before the close is seen after it.
            let closed = self.mailbox.closed.load(Ordering::Acquire);
            {
                let mut queue = lock(&self.mailbox.queue);
                if !queue.is_empty() {
                    return Some(queue.take(bytes.max(1)));
                }
            }
            if closed {
                return None;
            }
            self.mailbox.wake.notified().await;
        }
    }

    /// A hold on this subscription for whoever gave it away.
    #[must_use]
    pub fn leash(&self) -> Leash {
        Leash {
            bus: Arc::clone(&self.bus),
            mailbox: Arc::clone(&self.mailbox),
        }
    }

    /// Counts lines that have left for good.
    pub fn count_delivered(&self, lines: u64) {
        self.mailbox.delivered.fetch_add(lines, Ordering::Relaxed);
    }

    /// Is the queue so full that lines are being refused?
    #[must_use]
    pub fn is_overrun(&self) -> bool {
        lock(&self.mailbox.queue).is_refusing()
    }
}

impl Leash {
    /// No more lines will come: the subscriber gets what waits for it, then the end.
    pub fn cut(&self) {
        self.bus.unsubscribe(self.mailbox.id);
        self.mailbox.closed.store(true, Ordering::Release);
        self.mailbox.wake.notify_one();
    }

    /// The figures of the subscription.
    #[must_use]
    pub fn status(&self) -> ReaderStatus {
        self.mailbox.status()
    }
}

impl Mailbox {
    fn status(&self) -> ReaderStatus {
        ReaderStatus {
            reader: self.reader,
            states: self.states,
            delivered: self.delivered.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
            queued: lock(&self.queue).len() as u64,
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.bus.unsubscribe(self.mailbox.id);
    }
}

/// Nothing that runs under these locks can leave half a change behind, so that a panic elsewhere is no
/// reason to stop telling.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;
    use crate::sink::testing::{self, opened, state, states};

    const READER: Reader = Reader {
        uid: 0,
        pid: Some(1),
        is_own: false,
    };
    const SMALL: Limits = Limits {
        lines: 4,
        bytes: 1 << 20,
    };

    fn interest(states: bool) -> Interest {
        Interest {
            states,
            since: None,
        }
    }

    async fn seqs(subscriber: &mut Subscriber) -> Vec<u64> {
        testing::seqs(&subscriber.next_batch(usize::MAX).await.expect("open"))
    }

    #[tokio::test]
    async fn a_slow_reader_holds_nobody_up() {
        let bus = Bus::new(SMALL, Limits::REPLAY);
        let mut slow = bus.subscribe(READER, interest(false)).subscriber;
        let mut quick = bus.subscribe(READER, interest(false)).subscriber;
        for seq in 1..=10 {
            bus.publish(&opened(seq));
            assert_eq!(seqs(&mut quick).await, [seq]);
        }
        let late = slow.next_batch(usize::MAX).await.expect("open");
        assert_eq!(late.len(), 5);
        let Item::Line(gap) = &late[4] else {
            panic!("not a line");
        };
        let gap = gap.event();
        assert_eq!((gap.kind, gap.seq), (EventType::Gap, 5));
        assert_eq!(gap.gap.as_ref().map(|gap| gap.lost), Some(6));
        assert_eq!(bus.missed(), 6);
        let missed: Vec<u64> = bus.readers().iter().map(|reader| reader.missed).collect();
        assert_eq!(missed, [6, 0]);
        drop(slow);
        assert_eq!(bus.missed(), 6, "a reader that left still counts");
        assert_eq!(bus.published(), 10);
    }

    #[tokio::test]
    async fn states_are_asked_for_and_not_replayed() {
        let bus = Bus::new(SMALL, Limits::REPLAY);
        let mut wanted = bus.wants_states();
        assert!(!*wanted.borrow_and_update());
        let mut plain = bus.subscribe(READER, interest(false)).subscriber;
        assert!(!wanted.has_changed().expect("open"));
        let mut curious = bus.subscribe(READER, interest(true)).subscriber;
        assert!(wanted.has_changed().expect("open") && *wanted.borrow_and_update());

        bus.publish(&state(1));
        bus.publish(&opened(2));
        let Item::States(batch) = states(3, 2) else {
            panic!("not a batch");
        };
        bus.publish_states(batch);
        assert_eq!(bus.published(), 4);
        assert_eq!(seqs(&mut curious).await, [1, 2, 3, 4]);
        assert_eq!(seqs(&mut plain).await, [2]);

        let since = Some(Timestamp::UNIX_EPOCH);
        let interest = Interest {
            states: true,
            since,
        };
        let mut past = bus.subscribe(READER, interest).subscriber;
        drop(curious);
        assert!(!wanted.has_changed().expect("open"), "one is still there");
        assert_eq!(seqs(&mut past).await, [2]);
        drop(past);
        assert!(wanted.has_changed().expect("open") && !*wanted.borrow());
    }

    #[tokio::test]
    async fn replay_meets_the_live_stream_exactly() {
        let bus = Bus::new(SMALL, SMALL);
        for seq in 1..=6 {
            bus.publish(&opened(seq));
        }
        let interest = Interest {
            states: false,
            since: Some(Timestamp::UNIX_EPOCH),
        };
        let mut subscription = bus.subscribe(READER, interest);
        assert_eq!(
            subscription.replay_from.as_ref(),
            Some(&opened(3).event().ts)
        );
        // The kept lines do not use up the room of the live ones.
        for seq in 7..=10 {
            bus.publish(&opened(seq));
        }
        let subscriber = &mut subscription.subscriber;
        assert_eq!(seqs(subscriber).await, [3, 4, 5, 6]);
        assert_eq!(seqs(subscriber).await, [7, 8, 9, 10]);
    }

    #[tokio::test]
    async fn close_delivers_what_waits_and_then_ends() {
        let bus = Bus::new(SMALL, SMALL);
        let mut subscriber = bus.subscribe(READER, interest(false)).subscriber;
        bus.publish(&opened(1));
        bus.close();
        assert_eq!(seqs(&mut subscriber).await, [1]);
        assert!(subscriber.next_batch(1).await.is_none());
        let mut late = bus.subscribe(READER, interest(false)).subscriber;
        assert!(late.next_batch(1).await.is_none());
    }

    #[tokio::test]
    async fn a_sleeping_reader_is_woken() {
        let bus = Bus::new(SMALL, SMALL);
        let mut subscriber = bus.subscribe(READER, interest(false)).subscriber;
        let reader = tokio::spawn(async move { seqs(&mut subscriber).await });
        tokio::task::yield_now().await;
        bus.publish(&opened(1));
        assert_eq!(reader.await.expect("joined"), [1]);
    }
}
