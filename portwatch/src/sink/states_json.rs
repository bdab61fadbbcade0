//! State changes as JSON lines, half a million a second: what does not change is copied, the rest is
//! written digit by digit. Byte for byte what [`encode_line`] makes of the same event; a test holds it to that.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use super::states::{States, Transition};
use crate::event::words::Word as _;
use crate::event::{Event, Family, Host};
use crate::inventory::has_backlog;
use crate::sink::encode_line;
use crate::time::Rfc3339;

/// About as many bytes does a line have besides its owner's.
const REST: usize = 1024;

/// Writes lines into a buffer; remembers what the one before had in common with the next.
#[derive(Clone, Debug, Default)]
pub(super) struct StateWriter {
    time: Rfc3339,
    host: Option<(Arc<Host>, Vec<u8>)>,
}

impl StateWriter {
    /// Appends one state change with this number, newline included; nothing beyond the last.
    pub(super) fn append(&mut self, states: &States, index: usize, seq: u64, out: &mut Vec<u8>) {
        let Some(transition) = states.transitions.get(index) else {
            return;
        };
        if is_spliced(transition) {
            self.splice(states, transition, seq, out);
        } else if let Some(event) = states.event(index) {
            out.extend(encode_line(&Event { seq, ..event }));
        }
    }

    /// The fields in the order of [`Event`].
    fn splice(&mut self, states: &States, transition: &Transition, seq: u64, out: &mut Vec<u8>) {
        let owner = transition.owner.as_deref();
        out.reserve(REST + owner.map_or(0, |owner| owner.json.len()));
        let (local, peer) = (Text::of(transition.sock.local), Text::of(peer(transition)));
        out.extend_from_slice(br#"{"schema":"portwatch.event/1","id":""#);
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        states.id(transition).hyphenated().encode_lower(&mut id);
        out.extend_from_slice(&id);
        number(br#"","seq":"#, seq, out);
        out.extend_from_slice(br#","ts":""#);
        self.time.append(states.occasion.clock, transition.at, out);
        out.extend_from_slice(br#"","type":"connection.state","severity":"debug","message":""#);
        sentence(transition, &local, &peer, out);
        if let Some(owner) = owner {
            out.extend_from_slice(&owner.said);
        }
        out.extend_from_slice(br#"","host":"#);
        self.host(&states.occasion.host, out);
        socket(transition, &local, &peer, out);
        if let Some(owner) = owner {
            out.extend_from_slice(&owner.json);
        }
        for (key, word) in [
            (&br#""old_state":""#[..], transition.old.word()),
            (br#"","new_state":""#, transition.new.word()),
            (
                br#"","sensor":{"mechanism":""#,
                transition.mechanism.as_str(),
            ),
        ] {
            out.extend_from_slice(key);
            out.extend_from_slice(word.as_bytes());
        }
        number(br#"","latency_us":"#, states.latency_us(transition), out);
        out.extend_from_slice(b"}}\n");
    }

    fn host(&mut self, host: &Arc<Host>, out: &mut Vec<u8>) {
        let json = match &self.host {
            Some((known, json)) if Arc::ptr_eq(known, host) => json,
            _ => {
                // Fails only for values that are not JSON, and this type is.
                let json = serde_json::to_vec(&**host).unwrap_or_default();
                &self.host.insert((Arc::clone(host), json)).1
            }
        };
        out.extend_from_slice(json);
    }
}

/// Is there nothing in it that must be shortened or escaped first?
fn is_spliced(transition: &Transition) -> bool {
    matches!(transition.sock.family, Family::Ipv4 | Family::Ipv6)
        && transition.sock.local.is_some()
        && transition.interface.is_none()
        && transition
            .owner
            .as_ref()
            .is_none_or(|owner| owner.is_short())
}

/// As the event has it: an address without a port is no peer.
fn peer(transition: &Transition) -> Option<IpAddr> {
    transition
        .sock
        .peer
        .filter(|_| transition.sock.peer_port.is_some())
}

/// The part of the sentence before the owner: as `event::message` says it.
fn sentence(transition: &Transition, local: &Text, peer: &Text, out: &mut Vec<u8>) {
    let sock = &transition.sock;
    endpoint(local, sock.port, out);
    out.push(b'/');
    out.extend_from_slice(sock.protocol.word().as_bytes());
    if peer.length > 0 {
        out.extend_from_slice(b" with ");
        endpoint(peer, sock.peer_port, out);
    }
    out.extend_from_slice(b" went from ");
    out.extend_from_slice(transition.old.word().as_bytes());
    out.extend_from_slice(b" to ");
    out.extend_from_slice(transition.new.word().as_bytes());
}

fn endpoint(address: &Text, port: Option<u16>, out: &mut Vec<u8>) {
    let is_v6 = address.is_v6;
    if is_v6 {
        out.push(b'[');
    }
    address.append(out);
    if is_v6 {
        out.push(b']');
    }
    optional(b":", port.map(u64::from), out);
}

/// The `socket` object and the commas around it, in the order of [`crate::event::Socket`].
fn socket(transition: &Transition, local: &Text, peer: &Text, out: &mut Vec<u8>) {
    let sock = &transition.sock;
    for (key, word) in [
        (&br#","socket":{"family":""#[..], sock.family.word()),
        (br#"","type":""#, sock.kind.word()),
        (br#"","protocol":""#, sock.protocol.word()),
    ] {
        out.extend_from_slice(key);
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(br#"","address":""#);
    local.append(out);
    out.push(b'"');
    optional(br#","port":"#, sock.port.map(u64::from), out);
    if peer.length > 0 {
        out.extend_from_slice(br#","peer_address":""#);
        peer.append(out);
        out.push(b'"');
    }
    optional(br#","peer_port":"#, sock.peer_port.map(u64::from), out);
    let backlog = has_backlog(sock).then_some(u64::from(sock.backlog));
    optional(br#","backlog":"#, backlog, out);
    optional(br#","cookie":"#, sock.cookie, out);
    optional(br#","inode":"#, sock.inode, out);
    number(br#","netns":"#, u64::from(sock.netns), out);
    optional(br#","ifindex":"#, sock.ifindex.map(u64::from), out);
    let is_mptcp = sock.protocol == crate::event::Protocol::Mptcp;
    let protocol_number = sock.protocol_number.filter(|_| !is_mptcp);
    optional(
        br#","protocol_number":"#,
        protocol_number.map(u64::from),
        out,
    );
    if sock.family == Family::Ipv6 {
        let v6only: &[u8] = if sock.v6only { b"true" } else { b"false" };
        out.extend_from_slice(br#","v6only":"#);
        out.extend_from_slice(v6only);
    }
    if sock.reuseport {
        out.extend_from_slice(br#","reuseport":true"#);
    }
    out.extend_from_slice(br#","exposure":""#);
    out.extend_from_slice(transition.exposure.word().as_bytes());
    out.extend_from_slice(br#""},"#);
}

/// An address as text, written once and used twice; empty when there is none.
struct Text {
    bytes: [u8; Self::MAX],
    length: usize,
    is_v6: bool,
}

impl Text {
    /// The longest IPv6 address.
    const MAX: usize = 45;

    fn of(address: Option<IpAddr>) -> Self {
        let mut bytes = [0; Self::MAX];
        let length = match address {
            Some(IpAddr::V4(address)) => quad(address.octets(), &mut bytes),
            Some(IpAddr::V6(address)) => {
                let mut rest = &mut bytes[..];
                // Every address fits.
                let _ = write!(rest, "{address}");
                Self::MAX - rest.len()
            }
            None => 0,
        };
        Self {
            bytes,
            length,
            is_v6: matches!(address, Some(IpAddr::V6(_))),
        }
    }

    /// A copy of fixed length, cut afterwards.
    #[inline(always)]
    fn append(&self, out: &mut Vec<u8>) {
        let length = out.len() + self.length;
        out.extend_from_slice(&self.bytes);
        out.truncate(length);
    }
}

/// Writes an IPv4 address; tells its length.
fn quad(octets: [u8; 4], out: &mut [u8; Text::MAX]) -> usize {
    let mut at = 0;
    for octet in octets {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let leading = match octet {
            0..10 => 2,
            10..100 => 1,
            _ => 0,
        };
        for digit in &digits[leading..] {
            out[at] = b'0' + digit;
            at += 1;
        }
        out[at] = b'.';
        at += 1;
    }
    // Without the last point.
    at - 1
}

#[inline(always)]
fn optional(key: &[u8], value: Option<u64>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        number(key, value, out);
    }
}

/// Inlined, so that the key's length is known, and copies of fixed length, cut afterwards: a call of
/// `memmove` for five digits takes longer than the digits.
#[inline(always)]
fn number(key: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    let mut digits = [0; 2 * MOST_DIGITS];
    let start = digits_before(&mut digits, value);
    let Some(fixed) = digits[start..].first_chunk::<MOST_DIGITS>() else {
        return;
    };
    let length = out.len() + (MOST_DIGITS - start);
    out.extend_from_slice(fixed);
    out.truncate(length);
}

/// Digits of the largest number.
const MOST_DIGITS: usize = 20;

/// Writes the digits so that they end in the middle; tells where they start.
fn digits_before(digits: &mut [u8; 2 * MOST_DIGITS], mut value: u64) -> usize {
    let mut at = MOST_DIGITS;
    while value >= 10_000 {
        let low = (value % 10_000) as u16;
        value /= 10_000;
        at -= 4;
        digits[at..at + 4].copy_from_slice(&four_digits(low));
    }
    let text = four_digits(value as u16);
    let length = match value {
        0..10 => 1,
        10..100 => 2,
        100..1_000 => 3,
        _ => 4,
    };
    digits[at - 4..at].copy_from_slice(&text);
    at - length
}

/// Of a number below 10,000, with leading zeros.
const fn four_digits(value: u16) -> [u8; 4] {
    [
        b'0' + (value / 1_000) as u8,
        b'0' + (value / 100 % 10) as u8,
        b'0' + (value / 10 % 10) as u8,
        b'0' + (value % 10) as u8,
    ]
}

#[cfg(test)]
#[path = "states_tests.rs"]
pub(in crate::sink) mod tests;
