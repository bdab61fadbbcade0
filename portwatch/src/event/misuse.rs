//! Ports known for back doors, worms, attack tools and proxies. Never a verdict: any program may use any port.
//!
//! A row is here because a document that can be named says so. The long lists of the net repeat each other's
//! mistakes, so each entry has its own source: an advisory, a description by who took the thing apart, or
//! the documentation of the tool itself.

use super::Protocol;

/// What a port is known for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misuse {
    /// The port.
    pub port: u16,
    /// What carries it.
    pub transport: Transport,
    /// What it is called.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Where that is written.
    pub source: &'static str,
}

/// The protocol below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, and what looks like it from outside.
    Tcp,
    /// UDP.
    Udp,
}

/// What kind of thing uses a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lets somebody in.
    BackDoor,
    /// Spreads by itself, and waits there.
    Worm,
    /// Waits for orders to flood others.
    FloodAgent,
    /// What attackers work with.
    AttackTool,
    /// Passes connections of others on.
    Proxy,
}

impl Kind {
    /// As a word in a sentence.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BackDoor => "back door",
            Self::Worm => "worm",
            Self::FloodAgent => "agent for distributed floods",
            Self::AttackTool => "attack tool",
            Self::Proxy => "proxy",
        }
    }
}

/// Everything that a port is known for; there may be several.
pub fn of(port: u16, protocol: Protocol) -> impl Iterator<Item = &'static Misuse> {
    let transport = match protocol {
        Protocol::Tcp | Protocol::Mptcp => Some(Tcp),
        Protocol::Udp | Protocol::Udplite => Some(Udp),
        _ => None,
    };
    let rows = TABLE.iter();
    rows.filter(move |row| row.port == port && Some(row.transport) == transport)
}

const fn row(
    port: u16,
    transport: Transport,
    name: &'static str,
    kind: Kind,
    source: &'static str,
) -> Misuse {
    Misuse {
        port,
        transport,
        name,
        kind,
        source,
    }
}

use Kind::{AttackTool, BackDoor, FloodAgent, Proxy, Worm};
use Transport::{Tcp, Udp};

const TRINOO: &str = "CERT Incident Note IN-99-07";
const MSTREAM: &str = "CERT Incident Note IN-2000-05";
const STACHELDRAHT: &str =
    "Dittrich, The stacheldraht distributed denial of service attack tool (1999)";
const SUBSEVEN: &str = "CERT Incident Note IN-2001-07";
const SASSER: &str = "Symantec, W32.Sasser.Worm";
const BACK_ORIFICE: &str = "CERT Vulnerability Note VN-98.07";
const METASPLOIT: &str = "Metasploit documentation, default LPORT and RPC ports";
const TOR: &str = "tor(1), default and customary ports";
const VON_BRAUN: &str = "SANS, What port numbers do well-known trojan horses use?";

/// By port.
pub const TABLE: &[Misuse] = &[
    row(1080, Tcp, "SOCKS", Proxy, "IANA registry; RFC 1928"),
    row(1243, Tcp, "SubSeven", BackDoor, VON_BRAUN),
    row(
        1524,
        Tcp,
        "ingreslock shell",
        BackDoor,
        "CERT Incident Note IN-99-04",
    ),
    row(2140, Udp, "Deep Throat", BackDoor, VON_BRAUN),
    row(
        2375,
        Tcp,
        "Docker without TLS",
        AttackTool,
        "Docker documentation, Protect the Docker daemon socket",
    ),
    row(
        3127,
        Tcp,
        "MyDoom",
        Worm,
        "US-CERT Technical Alert TA04-028A",
    ),
    row(3128, Tcp, "Squid", Proxy, "Squid documentation, http_port"),
    row(
        4444,
        Tcp,
        "Blaster's shell",
        Worm,
        "CERT Advisory CA-2003-20",
    ),
    row(4444, Tcp, "Metasploit", AttackTool, METASPLOIT),
    row(5554, Tcp, "Sasser", Worm, SASSER),
    row(
        5555,
        Tcp,
        "Android Debug Bridge",
        BackDoor,
        "Android documentation, adb over TCP",
    ),
    row(6200, Tcp, "vsftpd 2.3.4", BackDoor, "CVE-2011-2523"),
    row(
        6667,
        Tcp,
        "IRC, also for control of bots",
        Proxy,
        "RFC 1459; RFC 7194",
    ),
    row(6711, Tcp, "SubSeven", BackDoor, VON_BRAUN),
    row(6723, Tcp, "mstream", FloodAgent, MSTREAM),
    row(6776, Tcp, "SubSeven", BackDoor, VON_BRAUN),
    row(
        8118,
        Tcp,
        "Privoxy",
        Proxy,
        "Privoxy documentation, listen-address",
    ),
    row(9001, Tcp, "Tor relay", Proxy, TOR),
    row(9030, Tcp, "Tor directory", Proxy, TOR),
    row(9050, Tcp, "Tor", Proxy, TOR),
    row(9150, Tcp, "Tor Browser", Proxy, TOR),
    row(9996, Tcp, "Sasser's shell", Worm, SASSER),
    row(10498, Udp, "mstream", FloodAgent, MSTREAM),
    row(12345, Tcp, "NetBus", BackDoor, VON_BRAUN),
    row(12346, Tcp, "NetBus", BackDoor, VON_BRAUN),
    row(12754, Tcp, "mstream", FloodAgent, MSTREAM),
    row(15104, Tcp, "mstream", FloodAgent, MSTREAM),
    row(16660, Tcp, "Stacheldraht", FloodAgent, STACHELDRAHT),
    row(20034, Tcp, "NetBus Pro", BackDoor, VON_BRAUN),
    row(27374, Tcp, "SubSeven", BackDoor, SUBSEVEN),
    row(27444, Udp, "Trinoo", FloodAgent, TRINOO),
    row(27665, Tcp, "Trinoo", FloodAgent, TRINOO),
    row(31335, Udp, "Trinoo", FloodAgent, TRINOO),
    row(
        31337,
        Tcp,
        "Back Orifice's number, and many a shell since",
        BackDoor,
        VON_BRAUN,
    ),
    row(31337, Udp, "Back Orifice", BackDoor, BACK_ORIFICE),
    row(32764, Tcp, "SerComm routers", BackDoor, "CVE-2014-0659"),
    row(
        48101,
        Tcp,
        "Mirai",
        FloodAgent,
        "Mirai's source, single instance port",
    ),
    row(
        50050,
        Tcp,
        "Cobalt Strike team server",
        AttackTool,
        "Cobalt Strike documentation, team server",
    ),
    row(54320, Tcp, "Back Orifice 2000", BackDoor, VON_BRAUN),
    row(54321, Udp, "Back Orifice 2000", BackDoor, VON_BRAUN),
    row(55552, Tcp, "Metasploit RPC", AttackTool, METASPLOIT),
    row(55553, Tcp, "Metasploit RPC", AttackTool, METASPLOIT),
    row(65000, Tcp, "Stacheldraht", FloodAgent, STACHELDRAHT),
];

#[cfg(test)]
mod tests {
    use super::{Kind, TABLE, of};
    use crate::event::Protocol;

    #[test]
    fn the_table_is_in_order_and_each_row_has_a_source() {
        assert!(TABLE.is_sorted_by_key(|row| row.port));
        for row in TABLE {
            assert!(
                row.port > 0 && !row.name.is_empty() && row.source.len() > 5,
                "{row:?}"
            );
        }
    }

    #[test]
    fn a_port_is_known_by_its_transport() {
        let names = |port, protocol| of(port, protocol).map(|row| row.name).collect::<Vec<_>>();
        assert_eq!(names(31335, Protocol::Udp), ["Trinoo"]);
        assert!(names(31335, Protocol::Tcp).is_empty());
        assert_eq!(names(4444, Protocol::Mptcp).len(), 2);
        assert!(names(4444, Protocol::Sctp).is_empty() && names(80, Protocol::Tcp).is_empty());
        assert!(of(27374, Protocol::Tcp).all(|row| row.kind == Kind::BackDoor));
    }
}
