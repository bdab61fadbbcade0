//! A rate that was crossed.

use std::net::{IpAddr, Ipv6Addr};

use portwatch_common::storm::{CellKey, CrossingRecord, StormRate};

use super::DecodeError;
use crate::storm::{Crossing, ListenerKey, Rate, Subject};
use crate::time::BootNs;

/// `IPPROTO_UDP`.
const IPPROTO_UDP: u32 = 17;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

pub(super) fn crossing(wire: &CrossingRecord) -> Result<Crossing, DecodeError> {
    let rate = rate(wire.rate)?;
    let subject = match rate {
        Rate::Syn | Rate::Accept | Rate::Unanswered | Rate::Reset => {
            Subject::Listener(listener(wire.subject.listener)?)
        }
        Rate::Connect => Subject::Process(wire.subject.process.pid, wire.subject.process.start),
        Rate::Ports => Subject::Source(wire.subject.listener.netns, address(wire.subject.address)),
    };
    Ok(Crossing {
        at: BootNs(wire.header.boot_ns),
        subject,
        rate,
        is_udp: wire.protocol == IPPROTO_UDP,
        count: wire.count,
        window_ns: if rate == Rate::Ports {
            0
        } else {
            wire.window_ns
        },
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

/// The key of a listener that user space made a cell for; none where that cannot be.
#[must_use]
pub fn listener_key(key: CellKey) -> Option<ListenerKey> {
    listener(key).ok()
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

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use portwatch_common::header::{EventKind, Header, Mechanism};
    use portwatch_common::storm::{
        CellKey, CrossingRecord, ProcessId, StormRate, StormSubject, WINDOW_NS,
    };
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use crate::decode::record::Record;
    use crate::decode::{DecodeError, decode};
    use crate::storm::{ListenerKey, Rate, Subject};
    use crate::time::BootNs;

    /// A well-formed record.
    pub(in crate::decode) fn sample() -> Vec<u8> {
        crossing(StormRate::SYN).as_bytes().to_vec()
    }

    fn crossing(rate: StormRate) -> CrossingRecord {
        let mut address = [0; 16];
        address[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 7]);
        CrossingRecord {
            header: Header {
                kind: EventKind::RATE_CROSSED,
                mechanism: Mechanism::TP_BTF,
                len: u32::try_from(size_of::<CrossingRecord>()).expect("small"),
                boot_ns: 77,
                ..Header::new_zeroed()
            },
            subject: StormSubject {
                listener: CellKey {
                    netns: 4_026_531_840,
                    port: 80,
                    family: 10,
                },
                process: ProcessId {
                    pid: 812,
                    reserved: 0,
                    start: 55,
                },
                address,
            },
            rate,
            protocol: 6,
            count: 100,
            window_ns: WINDOW_NS,
        }
    }

    #[test]
    fn a_crossing_names_its_subject() {
        let told = |rate| match decode(crossing(rate).as_bytes()) {
            Ok(Record::Crossed(told)) => *told,
            other => panic!("{other:?}"),
        };
        let listener = Subject::Listener(ListenerKey {
            netns: 4_026_531_840,
            is_v6: true,
            port: 80,
        });
        let syn = told(StormRate::SYN);
        assert_eq!((syn.subject, syn.rate), (listener, Rate::Syn));
        assert_eq!(
            (syn.at, syn.count, syn.window_ns),
            (BootNs(77), 100, WINDOW_NS)
        );
        assert_eq!(told(StormRate::CONNECT).subject, Subject::Process(812, 55));
        let ports = told(StormRate::PORTS);
        let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(ports.subject, Subject::Source(4_026_531_840, source));
        assert_eq!(ports.window_ns, 0, "since the first knock");
        for rate in StormRate::ALL {
            told(*rate);
        }
    }

    #[test]
    fn a_crossing_that_is_not_known_is_refused() {
        let unknown = crossing(StormRate(99));
        assert_eq!(
            decode(unknown.as_bytes()),
            Err(DecodeError::UnknownRate(99))
        );
        let mut of_nobody = crossing(StormRate::SYN);
        of_nobody.subject.listener.family = 1;
        assert_eq!(
            decode(of_nobody.as_bytes()),
            Err(DecodeError::UnknownFamily(1))
        );
        let whole = crossing(StormRate::SYN);
        let cut = &whole.as_bytes()[..size_of::<CrossingRecord>() - 1];
        assert!(decode(cut).is_err());
    }
}
