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
            self.splice(states, transition, index, seq, out);
        } else if let Some(event) = states.event(index) {
            out.extend(encode_line(&Event { seq, ..event }));
        }
    }

    /// The fields in the order of [`Event`].
    fn splice(
        &mut self,
        states: &States,
        transition: &Transition,
        index: usize,
        seq: u64,
        out: &mut Vec<u8>,
    ) {
        let owner = transition.owner.as_deref();
        let (local, peer) = (Text::of(transition.sock.local), Text::of(peer(transition)));
        out.extend_from_slice(br#"{"schema":"portwatch.event/1","id":""#);
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        states.id(index).hyphenated().encode_lower(&mut id);
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
    let is_v6 = address.as_bytes().contains(&b':');
    if is_v6 {
        out.push(b'[');
    }
    out.extend_from_slice(address.as_bytes());
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
    out.extend_from_slice(local.as_bytes());
    out.push(b'"');
    optional(br#","port":"#, sock.port.map(u64::from), out);
    if peer.length > 0 {
        out.extend_from_slice(br#","peer_address":""#);
        out.extend_from_slice(peer.as_bytes());
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
}

impl Text {
    /// The longest IPv6 address.
    const MAX: usize = 45;

    fn of(address: Option<IpAddr>) -> Self {
        let mut bytes = [0; Self::MAX];
        let mut rest = &mut bytes[..];
        // Every address fits.
        let _ = match address {
            Some(IpAddr::V4(address)) => quad(address.octets(), &mut rest),
            Some(IpAddr::V6(address)) => write!(rest, "{address}"),
            None => Ok(()),
        };
        let length = Self::MAX - rest.len();
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn quad(octets: [u8; 4], out: &mut &mut [u8]) -> std::io::Result<()> {
    for (index, octet) in octets.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b".")?;
        }
        let digits = [
            b'0' + octet / 100,
            b'0' + octet / 10 % 10,
            b'0' + octet % 10,
        ];
        let leading = if octet >= 100 {
            0
        } else if octet >= 10 {
            1
        } else {
            2
        };
        out.write_all(&digits[leading..])?;
    }
    Ok(())
}

fn optional(key: &[u8], value: Option<u64>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        number(key, value, out);
    }
}

fn number(key: &[u8], mut value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
#[path = "states_tests.rs"]
mod tests;
