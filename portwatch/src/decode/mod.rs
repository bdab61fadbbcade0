//! Ring bytes to typed records: checked parsing, no I/O, no panic on any input.
//!
//! A record is data from another program, even when that program is ours: every length is checked
//! against the bytes at hand and every number against what this version knows, so that a probe and a
//! daemon of different versions disagree with a sentence and not with a wrong event.

mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod path;
pub mod record;
mod socket;
mod storm;
mod task;
#[cfg(test)]
mod wire_test;

use portwatch_common::connection::{OwnedStateRecord, StateRecord};
use portwatch_common::header::{EventKind, Header, Mechanism as WireMechanism};
use portwatch_common::listener::{CloseRecord, HeldRecord, ListenerFlags, ListenerRecord};
use portwatch_common::process::{ExecRecord, LifeRecord};
use portwatch_common::socket::TcpState;
use portwatch_common::storm::CrossingRecord;
use zerocopy::FromBytes;

pub use error::DecodeError;
pub use path::unix_name_of;
pub use socket::{IPPROTO_MPTCP, protocol_of};
pub use storm::{address, cell_key, listener_key};

use self::record::{
    CloseSeen, ExecSeen, Held, LifeSeen, ListenerSeen, ProcessKey, Record, RingPlace, StateSeen,
};
use crate::event::Mechanism;
use crate::time::BootNs;

/// Turns the bytes of one ring record into a typed record.
///
/// `bytes` may be longer than the record says it is, because a ring hands out fixed sizes; what lies
/// behind `header.len` is never looked at.
///
/// # Errors
/// Names the first length that does not fit or the first number that this version does not know.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (header, record) = whole(bytes)?;
    match header.kind {
        EventKind::LISTENER_OPENED => {
            let seen = listener(record)?;
            Ok(Record::Opened(Box::new(seen)))
        }
        EventKind::BIND_FAILED => {
            let seen = listener(record)?;
            Ok(Record::Refused(Box::new(seen)))
        }
        EventKind::LISTENER_CLOSED => Ok(Record::Closed(Box::new(closed(record)?))),
        EventKind::PROCESS_EXEC => Ok(Record::Exec(Box::new(exec(record)?))),
        EventKind::PROCESS_EXIT => Ok(Record::Exit(Box::new(life(record)?))),
        EventKind::PROCESS_FORK => Ok(Record::Fork(Box::new(life(record)?))),
        EventKind::CONNECTION_STATE => Ok(Record::State(Box::new(state(record)?))),
        EventKind::SOCKET_HELD => Ok(Record::Held(Box::new(held(record)?))),
        EventKind::RATE_CROSSED => {
            let (wire, _): (CrossingRecord, _) = split(record)?;
            Ok(Record::Crossed(Box::new(storm::crossing(&wire)?)))
        }
        EventKind(other) => Err(DecodeError::UnknownKind(other)),
    }
}

/// As [`decode`] for a ring that carries nothing but state changes, without an allocation.
///
/// # Errors
/// As [`decode`]; a record of any other kind is not known here.
pub fn decode_state(bytes: &[u8]) -> Result<StateSeen, DecodeError> {
    match whole(bytes)? {
        (header, record) if header.kind == EventKind::CONNECTION_STATE => state(record),
        (header, _) => Err(DecodeError::UnknownKind(header.kind.0)),
    }
}

/// Decodes a record of the inventory iterator, which gives thousands at a time: as [`decode`], without
/// a box for each.
///
/// # Errors
/// As [`decode`]; a record of another kind is an unknown one here.
pub fn decode_held(bytes: &[u8]) -> Result<Held, DecodeError> {
    match whole(bytes)? {
        (header, record) if header.kind == EventKind::SOCKET_HELD => held(record),
        (header, _) => Err(DecodeError::UnknownKind(header.kind.0)),
    }
}

/// The header, and as many bytes as it says that the record has.
fn whole(bytes: &[u8]) -> Result<(Header, &[u8]), DecodeError> {
    let (header, _) = Header::read_from_prefix(bytes).map_err(|_| DecodeError::TooShort {
        have: bytes.len(),
        need: size_of::<Header>(),
    })?;
    let record = usize::try_from(header.len)
        .ok()
        .and_then(|len| bytes.get(..len))
        .ok_or(DecodeError::LengthBeyondBytes {
            len: header.len,
            have: bytes.len(),
        })?;
    Ok((header, record))
}

/// The fixed part of a record and the data area behind it.
fn split<T: FromBytes>(record: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(record).map_err(|_| DecodeError::TooShort {
        have: record.len(),
        need: size_of::<T>(),
    })
}

fn listener(record: &[u8]) -> Result<ListenerSeen, DecodeError> {
    let (wire, data): (ListenerRecord, _) = split(record)?;
    let refused = wire.header.kind == EventKind::BIND_FAILED;
    if refused != (wire.ret < 0) {
        return Err(DecodeError::Result {
            kind: wire.header.kind.0,
            ret: wire.ret,
        });
    }
    let resolved_len = usize::from(wire.unix.resolved_len);
    let (image, resolved) = task::image(&wire.image, resolved_len, data)?;
    let cwd = image.as_ref().and_then(|image| image.cwd.as_deref());
    let unix = path::unix_name(&wire.unix, resolved, cwd)?;
    let who = record::Who {
        task: task::task(&wire.task),
        image: image.filter(|_| wire.task.is_kthread == 0),
        ancestors: task::ancestors(&wire.ancestors),
    };
    Ok(ListenerSeen {
        at: BootNs(wire.header.boot_ns),
        mechanism: mechanism(wire.header.mechanism)?,
        sock: socket::sock(&wire.sock)?,
        unix,
        who,
        errno: if refused { wire.ret.unsigned_abs() } else { 0 },
        tentative: wire.flags & ListenerFlags::TENTATIVE != 0,
    })
}

fn closed(record: &[u8]) -> Result<CloseSeen, DecodeError> {
    let (wire, _): (CloseRecord, _) = split(record)?;
    Ok(CloseSeen {
        at: BootNs(wire.header.boot_ns),
        mechanism: mechanism(wire.header.mechanism)?,
        sock: socket::sock(&wire.sock)?,
    })
}

fn held(record: &[u8]) -> Result<Held, DecodeError> {
    let (wire, data): (HeldRecord, _) = split(record)?;
    let resolved =
        data.get(..usize::from(wire.unix.resolved_len))
            .ok_or(DecodeError::DataOverrun {
                have: data.len(),
                need: usize::from(wire.unix.resolved_len),
            })?;
    Ok(Held {
        at: BootNs(wire.header.boot_ns),
        sock: socket::sock(&wire.sock)?,
        unix: path::unix_name(&wire.unix, resolved, None)?,
        holder: task::task(&wire.task),
        fd: wire.fd,
    })
}

fn exec(record: &[u8]) -> Result<ExecSeen, DecodeError> {
    let (wire, data): (ExecRecord, _) = split(record)?;
    let (image, _) = task::image(&wire.image, 0, data)?;
    Ok(ExecSeen {
        at: BootNs(wire.header.boot_ns),
        task: task::task(&wire.task),
        image: image.unwrap_or_default(),
    })
}

fn life(record: &[u8]) -> Result<LifeSeen, DecodeError> {
    let (wire, _): (LifeRecord, _) = split(record)?;
    let is_fork = wire.header.kind == EventKind::PROCESS_FORK;
    Ok(LifeSeen {
        at: BootNs(wire.header.boot_ns),
        task: task::task(&wire.task),
        parent: is_fork.then_some(ProcessKey {
            pid: wire.task.ppid,
            start: BootNs(wire.parent_start_boot_ns),
        }),
        exit_code: wire.exit_code,
    })
}

fn state(record: &[u8]) -> Result<StateSeen, DecodeError> {
    let (wire, rest): (StateRecord, _) = split(record)?;
    let mut sock = socket::sock(&wire.sock)?;
    if wire.old == TcpState::LISTEN && wire.new != TcpState::CLOSE {
        // A connection that a listener has just made still has the listener's cookie (its own comes
        // later) and, before 6.15, no peer.
        sock.cookie = None;
    }
    // A record without an owner ends here; one that is longer has it whole.
    let owner = if rest.is_empty() {
        None
    } else {
        let (owned, _): (OwnedStateRecord, _) = split(record)?;
        task::owner(&owned.owner)
    };
    Ok(StateSeen {
        at: BootNs(wire.header.boot_ns),
        place: RingPlace {
            cpu: wire.header.cpu,
            before: wire.header.cpu_seq,
        },
        mechanism: mechanism(wire.header.mechanism)?,
        sock,
        owner,
        old: known_state(wire.old)?,
        new: known_state(wire.new)?,
    })
}

/// A transition between states that have no name could not be told.
fn known_state(state: TcpState) -> Result<TcpState, DecodeError> {
    if TcpState::ALL.contains(&state) {
        Ok(state)
    } else {
        Err(DecodeError::UnknownState(state.0))
    }
}

/// The rung as events name it.
fn mechanism(wire: WireMechanism) -> Result<Mechanism, DecodeError> {
    Ok(match wire {
        WireMechanism::FEXIT => Mechanism::Fexit,
        WireMechanism::FENTRY => Mechanism::Fentry,
        WireMechanism::KRETPROBE => Mechanism::Kretprobe,
        WireMechanism::KPROBE => Mechanism::Kprobe,
        WireMechanism::TP_BTF => Mechanism::TpBtf,
        WireMechanism::TRACEPOINT => Mechanism::Tracepoint,
        WireMechanism::CGROUP => Mechanism::Cgroup,
        WireMechanism::ITERATOR => Mechanism::Iterator,
        WireMechanism(other) => return Err(DecodeError::UnknownMechanism(other)),
    })
}
