//! Who is at which end, and what is between: `server`, `client`, `source`, `destination`, `network`.

use std::net::IpAddr;

use serde::Serialize;

use crate::event::{Event, EventType, Socket};
use crate::render::facts::{self, Direction};

/// One end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Address {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

impl Address {
    /// `None` of nothing.
    fn of(address: Option<String>, port: Option<u16>) -> Option<Self> {
        (address.is_some() || port.is_some()).then(|| Self {
            ip: facts::ip(address.as_deref()),
            address,
            port,
        })
    }

    fn local(socket: &Socket) -> Option<Self> {
        let address = socket.address.clone();
        Self::of(address.or_else(|| facts::local_name(socket)), socket.port)
    }

    fn peer(socket: &Socket) -> Option<Self> {
        Self::of(socket.peer_address.clone(), socket.peer_port)
    }
}

/// The ends of what an event is about.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) server: Option<Address>,
    pub(super) client: Option<Address>,
    pub(super) source: Option<Address>,
    pub(super) destination: Option<Address>,
}

impl Ends {
    /// A listener is a server. Of a connection, source is who opened it, where the state change tells; else this host.
    pub(super) fn of(event: &Event) -> Self {
        let source = facts::source(event).and_then(|ip| Address::of(Some(ip.to_string()), None));
        let Some(socket) = &event.socket else {
            return Self {
                source,
                ..Self::default()
            };
        };
        let local = Address::local(socket);
        let Some(peer) = Address::peer(socket) else {
            return Self {
                server: local.clone(),
                destination: source.is_some().then_some(local).flatten(),
                source,
                ..Self::default()
            };
        };
        let peer = Some(peer);
        match facts::direction(event) {
            Direction::Inbound => Self {
                server: local.clone(),
                client: peer.clone(),
                source: peer,
                destination: local,
            },
            Direction::Outbound => Self {
                server: peer.clone(),
                client: local.clone(),
                source: local,
                destination: peer,
            },
            Direction::Unknown => Self {
                source: local,
                destination: peer,
                ..Self::default()
            },
        }
    }

    /// Every address, once.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut all = Vec::new();
        for end in [&self.server, &self.client, &self.source, &self.destination] {
            let ip = end.as_ref().and_then(|end| end.ip);
            if let Some(ip) = ip
                && !all.contains(&ip)
            {
                all.push(ip);
            }
        }
        all
    }
}

/// What is between the ends.
#[derive(Debug, Serialize)]
pub(super) struct Network {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iana_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
}

impl Network {
    /// `None` where the event is about no network: a unix socket, a sensor.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let socket = event.socket.as_ref()?;
        let kind = facts::ip_version(socket).map(|version| match version {
            4 => "ipv4",
            _ => "ipv6",
        });
        let transport = facts::transport(socket);
        let direction = (event.kind == EventType::ConnectionState && socket.peer_address.is_some())
            .then(|| match facts::direction(event) {
                Direction::Inbound => "ingress",
                Direction::Outbound => "egress",
                Direction::Unknown => "unknown",
            });
        let is_any = kind.is_some() || transport.is_some() || direction.is_some();
        is_any.then(|| Self {
            kind,
            transport: transport.map(|(name, _)| name),
            iana_number: transport.map(|(_, number)| number.to_string()),
            direction,
        })
    }
}
