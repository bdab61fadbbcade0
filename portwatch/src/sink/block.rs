//! State changes between the daemon and its own client: rows of fixed length with their owners beside
//! them, a tenth of their JSON. The client makes the lines, so that half a million a second cost the daemon's
//! one thread, and the socket between, next to nothing.
//!
//! ```text
//! {"states":2,"owners":1,"seq":17,"id":"…","at":…,"epoch_ns":…,"host":{…},"interfaces":[]}   a line
//! {"pid":812,"name":"nginx",…}                                                     a line for each owner
//! 2 rows                                                                           of `ROW` bytes each
//! ```
//! Both sides are one program of one version ([`crate::interface::protocol`] sees to that), but the reader takes no
//! byte on trust: what a row says is looked up, not assumed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use portwatch_common::socket::TcpState;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::states::{ConnectionOwner, Occasion, States, Transition};
use crate::decode::record::{SockId, SockInfo};
use crate::event::words::Word;
use crate::event::{Host, Process};
use crate::time::{BootNs, WallClock};

/// Bytes of a row.
pub const ROW: usize = size_of::<Row>();
/// Bytes of owners that go into one block; the rest goes into the next.
const OWNERS: usize = 128 * 1024;
/// Owners that a reader remembers.
const REMEMBERED: usize = 1024;
/// Stands for "no owner" and "no interface".
const NONE: u16 = u16::MAX;

/// The line that leads a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Rows that follow the owners.
    pub states: u16,
    /// Lines of owners that follow.
    pub owners: u16,
    /// Number of the first row in this answer.
    seq: u64,
    /// The batch's id, from which each row's is made.
    id: Uuid,
    /// When the batch was published, nanoseconds since boot.
    at: u64,
    /// Where boot time zero lies on the wall clock, nanoseconds since 1970.
    epoch_ns: i64,
    host: Host,
    interfaces: Vec<String>,
}

/// What is not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block of states whose {0}")]
pub struct Malformed(&'static str);

impl Head {
    /// How the line begins.
    pub const START: &'static str = r#"{"states":"#;

    /// Reads the line.
    ///
    /// # Errors
    /// It is not one, or promises more than a batch holds.
    pub fn parse(line: &str) -> Result<Self, Malformed> {
        let head: Self = serde_json::from_str(line).map_err(|_| Malformed("head is unreadable"))?;
        let is_bounded = (1..=States::MAX).contains(&usize::from(head.states));
        let has_owners = head.owners <= head.states;
        if is_bounded && has_owners {
            Ok(head)
        } else {
            Err(Malformed("head promises too much"))
        }
    }

    /// Bytes of all rows.
    #[must_use]
    pub fn rows_len(&self) -> usize {
        usize::from(self.states) * ROW
    }
}

/// One state change.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Row {
    at: u64,
    cookie: u64,
    inode: u64,
    local: [u8; 16],
    peer: [u8; 16],
    netns: u32,
    ifindex: u32,
    backlog: u32,
    port: u16,
    peer_port: u16,
    protocol_number: u16,
    place: u16,
    owner: u16,
    interface: u16,
    /// Bits of [`Has`].
    has: u16,
    family: u8,
    kind: u8,
    protocol: u8,
    exposure: u8,
    old: u8,
    new: u8,
    mechanism: u8,
    state: u8,
    reserved: [u8; 6],
}

/// What a row has: a number of 0 is a value like any other.
struct Has;
impl Has {
    const COOKIE: u16 = 1;
    const INODE: u16 = 1 << 1;
    const IFINDEX: u16 = 1 << 2;
    const PORT: u16 = 1 << 3;
    const PEER_PORT: u16 = 1 << 4;
    const NUMBER: u16 = 1 << 5;
    const LOCAL: u16 = 1 << 6;
    const LOCAL_V6: u16 = 1 << 7;
    const PEER: u16 = 1 << 8;
    const PEER_V6: u16 = 1 << 9;
    const V6ONLY: u16 = 1 << 10;
    const REUSEPORT: u16 = 1 << 11;
}

/// Collects the rows of one block.
#[derive(Debug, Default)]
pub(super) struct Block<'a> {
    rows: Vec<u8>,
    owners: Vec<&'a Arc<ConnectionOwner>>,
    owners_len: usize,
    interfaces: Vec<&'a str>,
    count: u16,
}

impl<'a> Block<'a> {
    /// Adds a state change; false when there is no room for its owner, or the owner is too long for any
    /// block: then it goes into the next one, or as a line.
    pub(super) fn add(&mut self, transition: &'a Transition) -> bool {
        let Some(owner) = self.owner(transition.owner.as_ref()) else {
            return false;
        };
        let interface = match transition.interface.as_deref() {
            Some(name) => position_or_push(&mut self.interfaces, name, |known| *known == name),
            None => NONE,
        };
        let row = Row::of(transition, owner, interface);
        self.rows.extend_from_slice(row.as_bytes());
        self.count += 1;
        true
    }

    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    /// Appends the block, the first row of which has this number; nothing when it is empty.
    pub(super) fn finish(self, occasion: &Occasion, seq: u64, out: &mut Vec<u8>) {
        if self.count == 0 {
            return;
        }
        let head = Head {
            states: self.count,
            owners: u16::try_from(self.owners.len()).unwrap_or(NONE),
            seq,
            id: occasion.id,
            at: occasion.at.0,
            epoch_ns: occasion.clock.epoch_ns(),
            host: Host::clone(&occasion.host),
            interfaces: self.interfaces.into_iter().map(str::to_owned).collect(),
        };
        // Fails only for values that are not JSON, and this type is.
        let _ = serde_json::to_writer(&mut *out, &head);
        out.push(b'\n');
        for owner in self.owners {
            out.extend_from_slice(owner.process_json());
            out.push(b'\n');
        }
        out.extend_from_slice(&self.rows);
    }

    fn owner(&mut self, owner: Option<&'a Arc<ConnectionOwner>>) -> Option<u16> {
        let Some(owner) = owner else {
            return Some(NONE);
        };
        let known = self
            .owners
            .iter()
            .rposition(|known| Arc::ptr_eq(known, owner));
        if let Some(known) = known {
            return u16::try_from(known).ok();
        }
        let length = owner.process_json().len();
        if !owner.is_short() || self.owners_len + length > OWNERS {
            return None;
        }
        self.owners_len += length;
        self.owners.push(owner);
        u16::try_from(self.owners.len() - 1).ok()
    }
}

/// Reads blocks; remembers owners, which come again and again.
#[derive(Debug, Default)]
pub struct BlockReader {
    owners: HashMap<Box<str>, Arc<ConnectionOwner>>,
    host: Option<Arc<Host>>,
}

impl BlockReader {
    /// The batch that a block was made of, or the part of it that was sent; [`States::first_seq`] is then the
    /// number in this answer.
    ///
    /// # Errors
    /// Something is not what the head promises.
    pub fn read<'a>(
        &mut self,
        head: Head,
        owners: impl Iterator<Item = &'a str>,
        rows: &[u8],
    ) -> Result<Arc<States>, Malformed> {
        let owners = owners
            .map(|json| self.owner(json))
            .collect::<Result<Vec<_>, _>>()?;
        let interfaces: Vec<Arc<str>> = head
            .interfaces
            .iter()
            .map(|name| name.as_str().into())
            .collect();
        let transitions = rows
            .chunks_exact(ROW)
            .map(|row| {
                let row = Row::read_from_bytes(row).map_err(|_| Malformed("rows are short"))?;
                row.transition(&owners, &interfaces)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let host = match self.host.take() {
            Some(known) if *known == head.host => known,
            _ => Arc::new(head.host),
        };
        self.host = Some(Arc::clone(&host));
        let occasion = Occasion {
            host,
            clock: WallClock::from_epoch_ns(head.epoch_ns.into()),
            first_seq: head.seq,
            id: head.id,
            at: BootNs(head.at),
        };
        States::received(occasion, transitions).ok_or(Malformed("rows are missing"))
    }

    fn owner(&mut self, json: &str) -> Result<Arc<ConnectionOwner>, Malformed> {
        if let Some(known) = self.owners.get(json) {
            return Ok(Arc::clone(known));
        }
        let process: Process =
            serde_json::from_str(json).map_err(|_| Malformed("owner is no process"))?;
        if self.owners.len() >= REMEMBERED {
            self.owners.clear();
        }
        let owner = Arc::new(ConnectionOwner::new(process));
        self.owners.insert(json.into(), Arc::clone(&owner));
        Ok(owner)
    }
}

impl Row {
    fn of(transition: &Transition, owner: u16, interface: u16) -> Self {
        let sock = &transition.sock;
        let mut has = 0;
        let mut set = |is_there: bool, bit: u16| has |= if is_there { bit } else { 0 };
        set(sock.cookie.is_some(), Has::COOKIE);
        set(sock.inode.is_some(), Has::INODE);
        set(sock.ifindex.is_some(), Has::IFINDEX);
        set(sock.port.is_some(), Has::PORT);
        set(sock.peer_port.is_some(), Has::PEER_PORT);
        set(sock.protocol_number.is_some(), Has::NUMBER);
        set(sock.local.is_some(), Has::LOCAL);
        set(
            sock.local.is_some_and(|local| local.is_ipv6()),
            Has::LOCAL_V6,
        );
        set(sock.peer.is_some(), Has::PEER);
        set(sock.peer.is_some_and(|peer| peer.is_ipv6()), Has::PEER_V6);
        set(sock.v6only, Has::V6ONLY);
        set(sock.reuseport, Has::REUSEPORT);
        Self {
            at: transition.at.0,
            cookie: sock.cookie.unwrap_or(0),
            inode: sock.inode.unwrap_or(0),
            local: octets(sock.local),
            peer: octets(sock.peer),
            netns: sock.netns,
            ifindex: sock.ifindex.unwrap_or(0),
            backlog: sock.backlog,
            port: sock.port.unwrap_or(0),
            peer_port: sock.peer_port.unwrap_or(0),
            protocol_number: sock.protocol_number.unwrap_or(0),
            place: transition.place,
            owner,
            interface,
            has,
            family: sock.family.place(),
            kind: sock.kind.place(),
            protocol: sock.protocol.place(),
            exposure: transition.exposure.place(),
            old: transition.old.place(),
            new: transition.new.place(),
            mechanism: transition.mechanism.place(),
            state: sock.state.0,
            reserved: [0; 6],
        }
    }

    fn transition(
        &self,
        owners: &[Arc<ConnectionOwner>],
        interfaces: &[Arc<str>],
    ) -> Result<Transition, Malformed> {
        let has = |bit: u16| self.has & bit != 0;
        Ok(Transition {
            at: BootNs(self.at),
            place: self.place,
            sock: SockInfo {
                // The address in the kernel stays in the daemon.
                id: SockId(0),
                cookie: has(Has::COOKIE).then_some(self.cookie),
                inode: has(Has::INODE).then_some(self.inode),
                netns: self.netns,
                family: word(self.family)?,
                kind: word(self.kind)?,
                protocol: word(self.protocol)?,
                protocol_number: has(Has::NUMBER).then_some(self.protocol_number),
                local: has(Has::LOCAL).then(|| address(self.local, has(Has::LOCAL_V6))),
                port: has(Has::PORT).then_some(self.port),
                peer: has(Has::PEER).then(|| address(self.peer, has(Has::PEER_V6))),
                peer_port: has(Has::PEER_PORT).then_some(self.peer_port),
                state: TcpState(self.state),
                backlog: self.backlog,
                ifindex: has(Has::IFINDEX).then_some(self.ifindex),
                v6only: has(Has::V6ONLY),
                reuseport: has(Has::REUSEPORT),
            },
            interface: at_hand(interfaces, self.interface)?,
            exposure: word(self.exposure)?,
            old: word(self.old)?,
            new: word(self.new)?,
            mechanism: word(self.mechanism)?,
            owner: at_hand(owners, self.owner)?,
        })
    }
}

fn word<W: Word>(place: u8) -> Result<W, Malformed> {
    let found = W::ALL.get(usize::from(place));
    found.copied().ok_or(Malformed("row has an unknown word"))
}

fn at_hand<T: ?Sized>(known: &[Arc<T>], place: u16) -> Result<Option<Arc<T>>, Malformed> {
    match (place, known.get(usize::from(place))) {
        (NONE, _) => Ok(None),
        (_, Some(found)) => Ok(Some(Arc::clone(found))),
        (_, None) => Err(Malformed("row names what did not come")),
    }
}

fn position_or_push<T>(all: &mut Vec<T>, new: T, is_it: impl Fn(&T) -> bool) -> u16 {
    let place = all.iter().position(is_it).unwrap_or_else(|| {
        all.push(new);
        all.len() - 1
    });
    u16::try_from(place).unwrap_or(NONE)
}

fn octets(address: Option<IpAddr>) -> [u8; 16] {
    match address {
        Some(IpAddr::V6(address)) => address.octets(),
        Some(IpAddr::V4(address)) => {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&address.octets());
            all
        }
        None => [0; 16],
    }
}

fn address(octets: [u8; 16], is_v6: bool) -> IpAddr {
    let [a, b, c, d, ..] = octets;
    if is_v6 {
        octets.into()
    } else {
        [a, b, c, d].into()
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
