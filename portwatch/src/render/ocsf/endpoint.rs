//! The ends of a connection, and what is between.

use std::net::IpAddr;

use serde::Serialize;

use super::Coded;
use crate::event::words::Word as _;
use crate::event::{Event, Exposure, Family, Socket};
use crate::render::facts::{self, Direction};

/// One end.
#[derive(Debug, Serialize)]
pub(super) struct Endpoint<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Path, abstract name, or an address that is none of IP's.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface_name: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface_uid: Option<String>,
}

impl<'e> Endpoint<'e> {
    fn local(event: &'e Event, socket: Option<&'e Socket>) -> Self {
        let ip = facts::ip(socket.and_then(|socket| socket.address.as_deref()));
        Self {
            hostname: Some(&event.host.name),
            ip,
            port: socket.and_then(|socket| socket.port),
            name: socket.and_then(|socket| {
                let address = socket.address.clone().filter(|_| ip.is_none());
                facts::local_name(socket).or(address)
            }),
            interface_name: socket.and_then(|socket| socket.interface.as_deref()),
            interface_uid: socket
                .and_then(|socket| socket.ifindex)
                .map(|index| index.to_string()),
        }
    }

    /// Whoever sends a storm, or scans.
    pub(super) const fn source(address: IpAddr) -> Self {
        Self {
            hostname: None,
            ip: Some(address),
            port: None,
            name: None,
            interface_name: None,
            interface_uid: None,
        }
    }

    /// `None` where nothing names it.
    fn peer(socket: &Socket) -> Option<Self> {
        let address = socket.peer_address.as_deref()?;
        let ip = facts::ip(Some(address));
        Some(Self {
            hostname: None,
            ip,
            port: socket.peer_port,
            name: ip.is_none().then(|| address.to_owned()),
            interface_name: None,
            interface_uid: None,
        })
    }
}

/// Both ends.
#[derive(Debug, Default)]
pub(super) struct Ends<'e> {
    pub(super) src: Option<Endpoint<'e>>,
    pub(super) dst: Option<Endpoint<'e>>,
    pub(super) is_assignment_known: Option<bool>,
}

impl<'e> Ends<'e> {
    /// A listener is the destination: the one who responds.
    pub(super) fn of(event: &'e Event) -> Self {
        let socket = event.socket.as_ref();
        let local = Some(Endpoint::local(event, socket));
        let Some(peer) = socket.and_then(Endpoint::peer) else {
            return Self {
                src: None,
                dst: local,
                is_assignment_known: None,
            };
        };
        let (src, dst) = match facts::direction(event) {
            Direction::Inbound => (Some(peer), local),
            Direction::Outbound | Direction::Unknown => (local, Some(peer)),
        };
        Self {
            src,
            dst,
            is_assignment_known: Some(facts::direction(event) != Direction::Unknown),
        }
    }
}

/// What is between the ends.
#[derive(Debug, Serialize)]
pub(super) struct Connection {
    /// The socket's cookie, which no other socket of this boot has.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    direction_id: u16,
    direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_num: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_ver_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boundary_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boundary: Option<&'static str>,
}

impl Connection {
    /// Of this event; of nothing known where it has no socket.
    pub(super) fn of(event: &Event) -> Self {
        let socket = event.socket.as_ref();
        let Coded(direction_id, direction) = direction(event);
        let transport = socket.and_then(facts::transport);
        let is_local = socket.is_some_and(is_local);
        Self {
            uid: socket
                .and_then(|socket| socket.cookie)
                .map(|cookie| cookie.to_string()),
            direction_id,
            direction,
            // Not of IP, but the name that people know.
            protocol_name: transport
                .map(|(name, _)| name)
                .or_else(|| socket.map(|socket| socket.protocol.word())),
            protocol_num: transport.map(|(_, number)| number),
            protocol_ver_id: socket.and_then(facts::ip_version).map(Into::into),
            boundary_id: is_local.then_some(1),
            boundary: is_local.then_some("Localhost"),
        }
    }
}

fn is_local(socket: &Socket) -> bool {
    socket.family == Family::Unix || socket.exposure == Some(Exposure::Loopback)
}

/// Of a connection; a listener has none yet.
fn direction(event: &Event) -> Coded {
    let socket = event.socket.as_ref();
    let has_peer = socket.is_some_and(|socket| socket.peer_address.is_some());
    if socket.is_some_and(is_local) {
        return Coded(4, "Local");
    }
    match facts::direction(event) {
        Direction::Inbound if has_peer => Coded(1, "Inbound"),
        Direction::Outbound if has_peer => Coded(2, "Outbound"),
        _ => Coded(0, "Unknown"),
    }
}
