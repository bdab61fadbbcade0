//! A rate that was crossed.

use std::net::{IpAddr, Ipv6Addr};

use portwatch_common::storm::{CellKey, CrossingRecord, StormRate, WINDOW_NS};

use super::DecodeError;
use crate::storm::{Crossing, ListenerKey, Rate, Subject};
use crate::time::BootNs;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

pub(super) fn crossing(wire: &CrossingRecord) -> Result<Crossing, DecodeError> {
    let rate = rate(wire.rate)?;
    let subject = match rate {
        Rate::Syn | Rate::Accept | Rate::Unanswered | Rate::Reset => {
            Subject::Listener(listener(wire.subject.listener)?)
        }
        Rate::Connect => Subject::Process(wire.subject.process.pid, wire.subject.process.start),
        Rate::Ports => Subject::Source(
            wire.subject.listener.netns,
            address(wire.subject.address),
        ),
    };
    Ok(Crossing {
        at: BootNs(wire.header.boot_ns),
        subject,
        rate,
        count: wire.count,
        window_ns: if rate == Rate::Ports { 0 } else { WINDOW_NS },
    })
}

/// The key of a listener.
pub(super) fn listener(key: CellKey) -> Result<ListenerKey, DecodeError> {
    if !matches!(key.family, AF_INET | AF_INET6) {
        return Err(DecodeError::UnknownFamily(key.family));
    }
    Ok(ListenerKey {
        netns: key.netns,
        is_v6: key.family == AF_INET6,
        port: key.port,
    })
}

/// The key as the probes have it.
#[must_use]
pub fn cell_key(key: ListenerKey) -> CellKey {
    CellKey {
        netns: key.netns,
        port: key.port,
        family: if key.is_v6 { AF_INET6 } else { AF_INET },
    }
}

/// An address; v4-mapped ones are IPv4.
#[must_use]
pub fn address(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

fn rate(wire: StormRate) -> Result<Rate, DecodeError> {
    Ok(match wire {
        StormRate::SYN => Rate::Syn,
        StormRate::ACCEPT => Rate::Accept,
        StormRate::UNANSWERED => Rate::Unanswered,
        StormRate::CONNECT => Rate::Connect,
        StormRate::PORTS => Rate::Ports,
        StormRate::RESET => Rate::Reset,
        StormRate(other) => return Err(DecodeError::UnknownRate(other)),
    })
}
