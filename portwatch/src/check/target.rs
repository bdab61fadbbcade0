//! Where a listener is reached from here. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::Remote;
use crate::event::{CheckProtocol, Family, Protocol, Socket, SocketType};
use crate::text::escape;

/// Longest name of a unix socket, in bytes; of a path, one goes to the NUL at its end.
const UNIX_MAX: usize = 107;

/// How bytes get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// UDP datagrams.
    Udp,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A UDP port.
    Udp(SocketAddr),
    /// A unix socket; the bytes of an abstract name begin with NUL.
    Unix(Vec<u8>),
    /// A port of a host whose name must be resolved first.
    Host {
        /// The name.
        name: String,
        /// The port.
        port: u16,
        /// By what.
        transport: Transport,
    },
}

/// Where a listener is reached, or why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here.
    At(Target),
    /// Nowhere from here.
    Beyond(&'static str),
}

impl Place {
    /// Where this listener answers in this protocol; `host` is the network namespace that checks are made in.
    ///
    /// A listener on every address is reached on loopback of its family.
    #[must_use]
    pub fn of(socket: &Socket, protocol: CheckProtocol, host: u32) -> Self {
        if socket.netns != Some(host) {
            return Self::Beyond("it listens in another network namespace");
        }
        if !transports(protocol).contains(&socket.protocol) {
            return Self::Beyond("its protocol is not one that this check is made in");
        }
        match socket.family {
            Family::Ipv4 | Family::Ipv6 => inet(socket),
            Family::Unix => unix(socket),
            Family::Packet | Family::Vsock => Self::Beyond("nothing can connect to it"),
        }
    }
}

impl Remote {
    /// What to connect to.
    #[must_use]
    pub fn target(&self) -> Target {
        let (port, transport) = (self.port, self.transport);
        match self.host.parse::<IpAddr>() {
            Ok(address) => Target::inet(SocketAddr::new(address, port), transport),
            Err(_) => Target::Host {
                name: self.host.clone(),
                port,
                transport,
            },
        }
    }
}

impl Target {
    /// An address of a host.
    #[must_use]
    pub const fn inet(address: SocketAddr, transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp(address),
            Transport::Udp => Self::Udp(address),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.fmt(f),
            Self::Unix(name) => match name.split_first() {
                Some((0, name)) => write!(f, "@{}", escape(name)),
                _ => f.write_str(&escape(name)),
            },
            Self::Host { name, port, .. } => write!(f, "{}:{port}", escape(name.as_bytes())),
        }
    }
}

/// The protocols of sockets that this check is made over.
#[must_use]
pub(crate) const fn transports(protocol: CheckProtocol) -> &'static [Protocol] {
    match protocol {
        CheckProtocol::Dns => &[Protocol::Udp, Protocol::Tcp, Protocol::Mptcp],
        _ => &[Protocol::Tcp, Protocol::Mptcp, Protocol::Unix],
    }
}

fn inet(socket: &Socket) -> Place {
    if socket.interface.is_some() && !is_link_local(socket) {
        return Place::Beyond("it is bound to an interface, by which nothing of this host comes");
    }
    let address = socket.address.as_deref().map(str::parse::<IpAddr>);
    let (Some(Ok(address)), Some(port)) = (address, socket.port) else {
        return Place::Beyond("its address is not known");
    };
    if address.is_multicast() {
        return Place::Beyond("it listens to a group");
    }
    let reached = match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address.to_canonical(),
    };
    let reached = match reached {
        IpAddr::V4(address) => SocketAddr::from((address, port)),
        IpAddr::V6(address) => {
            SocketAddrV6::new(address, port, 0, socket.ifindex.unwrap_or(0)).into()
        }
    };
    let transport = match socket.protocol {
        Protocol::Udp => Transport::Udp,
        _ => Transport::Tcp,
    };
    Place::At(Target::inet(reached, transport))
}

/// Such an address says little without its interface.
fn is_link_local(socket: &Socket) -> bool {
    let address = socket.address.as_deref().map(str::parse::<Ipv6Addr>);
    matches!(address, Some(Ok(address)) if address.is_unicast_link_local())
}

fn unix(socket: &Socket) -> Place {
    if socket.kind != SocketType::Stream {
        return Place::Beyond("only stream sockets take connections that can be spoken over");
    }
    let name = match (&socket.path, &socket.abstract_name) {
        (Some(path), _) => unescape(path),
        (None, Some(name)) => [b"\0".as_slice(), &unescape(name)].concat(),
        (None, None) => return Place::Beyond("it has no name"),
    };
    if name.len() > UNIX_MAX {
        return Place::Beyond("its path is too long to connect to");
    }
    Place::At(Target::Unix(name))
}

/// The bytes that [`escape`] wrote so.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once("\\x") {
        bytes.extend_from_slice(plain.as_bytes());
        let digits = escaped.get(..2);
        bytes.extend(digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()));
        rest = escaped.get(2..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::EventType;
    use crate::event::example::examples;

    const HOST: u32 = 7;

    fn socket(change: impl FnOnce(&mut Socket)) -> Socket {
        let found = examples()
            .into_iter()
            .find(|event| event.kind == EventType::ListenerOpened);
        let mut socket = found.and_then(|event| event.socket).expect("a socket");
        socket.netns = Some(HOST);
        change(&mut socket);
        socket
    }

    fn at(address: &str) -> impl FnOnce(&mut Socket) {
        let address = address.to_owned();
        move |socket| socket.address = Some(address)
    }

    fn reached(socket: &Socket, protocol: CheckProtocol) -> Option<String> {
        match Place::of(socket, protocol, HOST) {
            Place::At(target) => Some(target.to_string()),
            Place::Beyond(_) => None,
        }
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback_of_its_family() {
        let http = |address| reached(&socket(at(address)), CheckProtocol::Http);
        assert_eq!(http("0.0.0.0").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(http("10.1.2.3").as_deref(), Some("10.1.2.3:80"));
        assert_eq!(http("::").as_deref(), Some("[::1]:80"));
        assert_eq!(http("::ffff:10.1.2.3").as_deref(), Some("10.1.2.3:80"));
        assert_eq!(http("224.0.0.251"), None);
        let linked = socket(|socket| {
            socket.address = Some("fe80::1".to_owned());
            (socket.interface, socket.ifindex) = (Some("eth0".to_owned()), Some(3));
        });
        assert_eq!(
            reached(&linked, CheckProtocol::Http).as_deref(),
            Some("[fe80::1%3]:80")
        );
    }

    #[test]
    fn what_cannot_be_reached_is_left_alone() {
        let elsewhere = socket(|socket| socket.netns = Some(HOST + 1));
        assert_eq!(reached(&elsewhere, CheckProtocol::Http), None);
        let udp = socket(|socket| socket.protocol = Protocol::Udp);
        assert_eq!(reached(&udp, CheckProtocol::Http), None);
        assert!(matches!(
            Place::of(&udp, CheckProtocol::Dns, HOST),
            Place::At(Target::Udp(_))
        ));
        let bound = socket(|socket| socket.interface = Some("eth0".to_owned()));
        assert_eq!(reached(&bound, CheckProtocol::Http), None);
    }

    #[test]
    fn unix_sockets_are_reached_by_their_bytes() {
        let unix = |change: fn(&mut Socket)| {
            socket(|socket| {
                (socket.family, socket.protocol) = (Family::Unix, Protocol::Unix);
                (socket.address, socket.port) = (None, None);
                change(socket);
            })
        };
        let path = unix(|socket| socket.path = Some(r"/run/a\x0a\x5c.sock".to_owned()));
        let place = Place::of(&path, CheckProtocol::Redis, HOST);
        assert_eq!(place, Place::At(Target::Unix(b"/run/a\n\\.sock".to_vec())));
        let hidden = unix(|socket| socket.abstract_name = Some("bus".to_owned()));
        assert_eq!(
            reached(&hidden, CheckProtocol::Connect).as_deref(),
            Some("@bus")
        );
        let dgram = unix(|socket| {
            socket.kind = SocketType::Dgram;
            socket.path = Some("/dev/log".to_owned());
        });
        assert_eq!(reached(&dgram, CheckProtocol::Connect), None);
    }

    proptest! {
        #[test]
        fn every_name_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(unescape(&escape(&bytes)), bytes);
        }
    }
}
