//! A port on the command line: `22`, or `53/udp`.

use std::str::FromStr;

use crate::event::Protocol;
use crate::event::words::Word as _;

/// A port, of one protocol or of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortOf {
    /// The port.
    pub port: u16,
    /// The protocol, where it is said.
    pub protocol: Option<Protocol>,
}

impl FromStr for PortOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (port, protocol) = match text.split_once('/') {
            Some((port, protocol)) => (port, Some(protocol)),
            None => (text, None),
        };
        let number = port.parse().ok().filter(|&port| port > 0);
        let port = number.ok_or("a port is a number from 1 to 65535")?;
        let protocol = protocol.map(|name| {
            let known = WITH_PORTS.iter().find(|known| known.word() == name);
            known.copied().ok_or_else(|| {
                let known = WITH_PORTS.map(Protocol::word).join(", ");
                format!("the protocols with ports are {known}")
            })
        });
        Ok(Self {
            port,
            protocol: protocol.transpose()?,
        })
    }
}

const WITH_PORTS: [Protocol; 5] = [
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::Mptcp,
    Protocol::Udplite,
    Protocol::Sctp,
];
