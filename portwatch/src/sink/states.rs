//! State changes of connections on their way to the readers: many at a time, each small, with one text of
//! each owner for all of its connections. JSON and [`Event`]s are made of them by whoever reads.

use std::sync::Arc;

use uuid::Uuid;

use crate::decode::record::SockInfo;
use crate::event::message;
use crate::event::{
    Event, EventType, Exposure, Host, Mechanism, Process, SCHEMA, Sensor, Severity, State,
};
use crate::inventory::described;
use crate::text::guard;
use crate::time::{BootNs, WallClock};

/// The longest JSON of an owner, and the longest text in a sentence, that are spliced into lines as they
/// are: such a line is shorter than [`crate::sink::MAX_LINE`] and [`message::MAX_CHARS`] whatever else
/// is in it. Longer ones take the way of all other events, which shortens them.
const SPLICED_JSON: usize = 32 * 1024;
const SPLICED_TEXT: usize = 500;
/// So many owners in a row are told apart when the memory of a batch is estimated.
const OWNERS_AT_HAND: usize = 4;
/// How the JSON of an owner begins.
const PROCESS_KEY: &[u8] = br#""process":"#;

/// The process that owns connections, with the texts that all their events share.
#[derive(Debug)]
pub struct ConnectionOwner {
    process: Process,
    /// `"process":{…},`
    pub(super) json: Box<[u8]>,
    /// `, owned by nginx (pid 812, root)`, escaped for JSON.
    pub(super) said: Box<[u8]>,
}

impl ConnectionOwner {
    /// Makes the texts.
    #[must_use]
    pub fn new(process: Process) -> Self {
        let mut json = PROCESS_KEY.to_vec();
        // Fails only for values that are not JSON, and this type is.
        let _ = serde_json::to_writer(&mut json, &process);
        json.push(b',');
        let said = message::owned_by(&process);
        let said = serde_json::to_vec(&*guard(&said)).unwrap_or_default();
        Self {
            process,
            json: json.into(),
            said: unquoted(&said).into(),
        }
    }

    /// The process.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// The process as JSON.
    pub(super) fn process_json(&self) -> &[u8] {
        let json = self.json.strip_prefix(PROCESS_KEY).unwrap_or_default();
        json.strip_suffix(b",").unwrap_or_default()
    }

    /// Are the texts short enough to be spliced?
    pub(super) const fn is_short(&self) -> bool {
        self.json.len() <= SPLICED_JSON && self.said.len() <= SPLICED_TEXT
    }

    fn weight(&self) -> usize {
        // The process holds about what its JSON says.
        size_of::<Self>() + 2 * self.json.len() + self.said.len()
    }
}

/// The JSON of a text without the quotes around it.
fn unquoted(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\"")
        .and_then(|text| text.strip_suffix(b"\""))
        .unwrap_or_default()
}

/// One state change.
#[derive(Clone, Debug)]
pub struct Transition {
    /// When the kernel saw it.
    pub at: BootNs,
    /// Where it stood in the batch that was published; [`States::new`] sees to it.
    pub place: u16,
    /// The socket.
    pub sock: SockInfo,
    /// The interface that it is bound to.
    pub interface: Option<Arc<str>>,
    /// Who can reach it.
    pub exposure: Exposure,
    /// State before.
    pub old: State,
    /// State after.
    pub new: State,
    /// How it was seen.
    pub mechanism: Mechanism,
    /// Whose socket it is.
    pub owner: Option<Arc<ConnectionOwner>>,
}

/// What state changes of one batch have in common.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// The host.
    pub host: Arc<Host>,
    /// The wall clock.
    pub clock: WallClock,
    /// Number of the first one in the daemon's stream.
    pub first_seq: u64,
    /// Ids begin with it; see [`States::id`].
    pub id: Uuid,
    /// When the batch was published.
    pub at: BootNs,
}

/// A batch of state changes in the order of the stream; never empty.
#[derive(Debug)]
pub struct States {
    pub(super) occasion: Occasion,
    pub(super) transitions: Vec<Transition>,
    weight: usize,
}

impl States {
    /// Most that go into one batch: small enough for the allocator to reuse memory.
    pub const MAX: usize = 512;

    /// A batch to be published; `None` of nothing.
    #[must_use]
    pub fn new(occasion: Occasion, mut transitions: Vec<Transition>) -> Option<Arc<Self>> {
        for (place, transition) in (0..=u16::MAX).zip(&mut transitions) {
            transition.place = place;
        }
        Self::received(occasion, transitions)
    }

    /// A batch that was published elsewhere, or a part of one; `None` of nothing.
    #[must_use]
    pub(super) fn received(occasion: Occasion, transitions: Vec<Transition>) -> Option<Arc<Self>> {
        let weight = weight(&transitions);
        (!transitions.is_empty()).then(|| {
            Arc::new(Self {
                occasion,
                transitions,
                weight,
            })
        })
    }

    /// How many.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.transitions.len()
    }

    /// Position of the first one in the daemon's stream.
    #[must_use]
    pub const fn first_seq(&self) -> u64 {
        self.occasion.first_seq
    }

    /// Memory that it holds, about, in bytes.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// Times of the first one, of the one that the kernel saw first and of the one that it saw last.
    pub(super) fn times(&self) -> (BootNs, BootNs, BootNs) {
        let times = || self.transitions.iter().map(|one| one.at);
        (
            times().next().unwrap_or_default(),
            times().min().unwrap_or_default(),
            times().max().unwrap_or_default(),
        )
    }

    /// UUIDv7: the batch's own, with the position in its last 16 bits. The 42 bits before those count up
    /// with each batch of a millisecond from a random number, so no two batches meet.
    pub(super) fn id(&self, transition: &Transition) -> Uuid {
        let base = self.occasion.id.as_u128() & !0xffff;
        Uuid::from_u128(base | u128::from(transition.place))
    }

    /// From the kernel's time to that of the line, microseconds.
    pub(super) const fn latency_us(&self, transition: &Transition) -> u64 {
        self.occasion.at.since(transition.at) / 1_000
    }

    /// One of them as an event; `None` beyond the last.
    #[must_use]
    pub fn event(&self, index: usize) -> Option<Event> {
        let transition = self.transitions.get(index)?;
        let interface = transition.interface.as_deref().map(str::to_owned);
        let owner = transition.owner.as_ref();
        let mut event = Event {
            schema: SCHEMA.to_owned(),
            id: self.id(transition).to_string(),
            seq: self.occasion.first_seq + index as u64,
            ts: self.occasion.clock.rfc3339(transition.at),
            kind: EventType::ConnectionState,
            severity: Severity::Debug,
            message: String::new(),
            host: Arc::clone(&self.occasion.host),
            socket: Some(described(&transition.sock, interface, transition.exposure)),
            process: owner.map(|owner| owner.process.clone()),
            owners: Vec::new(),
            policy: None,
            previous: None,
            old_state: Some(transition.old),
            new_state: Some(transition.new),
            duration_ms: None,
            check: None,
            error: None,
            gap: None,
            reconciled: None,
            heartbeat: None,
            sensor: Some(Sensor {
                mechanism: Some(transition.mechanism),
                latency_us: Some(self.latency_us(transition)),
                ..Sensor::default()
            }),
            storm: None,
            scan: None,
            response: None,
        };
        event.severity = message::severity(&event);
        event.message = message::sentence(&event);
        Some(event)
    }
}

/// An owner is counted again when others came between: too much is better than too little.
fn weight(transitions: &[Transition]) -> usize {
    let mut at_hand: [Option<&Arc<ConnectionOwner>>; OWNERS_AT_HAND] = [None; OWNERS_AT_HAND];
    let mut next = 0;
    let mut weight = size_of_val(transitions);
    for owner in transitions.iter().filter_map(|one| one.owner.as_ref()) {
        let is_at_hand = |known: &Option<&Arc<ConnectionOwner>>| {
            known.is_some_and(|known| Arc::ptr_eq(known, owner))
        };
        if !at_hand.iter().any(is_at_hand) {
            weight += owner.weight();
            at_hand[next % OWNERS_AT_HAND] = Some(owner);
            next += 1;
        }
    }
    weight
}
