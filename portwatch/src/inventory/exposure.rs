//! Who can reach a listener, judged by its address, its interface and its namespace.
//!
//! Routing and firewalls are out of sight: this is the widest reach that the binding allows.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::decode::record::{SockInfo, UnixName};
use crate::event::{Exposure, Family};

/// Index of the loopback interface, the same in every network namespace.
const LOOPBACK_IFINDEX: u32 = 1;

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Its addresses of both families.
    pub addresses: Vec<IpAddr>,
}

/// The interfaces of the host's network namespace, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// By index.
    pub by_index: HashMap<u32, Interface>,
}

impl Interfaces {
    /// The name of an interface of the host.
    #[must_use]
    pub fn name(&self, index: u32) -> Option<&str> {
        self.by_index.get(&index).map(|it| it.name.as_str())
    }
}

/// How far a listener can be reached. A socket in another namespace than the host's is told as such,
/// unless it is bound to loopback there.
///
/// A socket on one interface of which no address is known (a packet socket on a bridge port) counts as
/// public: nothing says that it is not.
#[must_use]
pub fn exposure(
    sock: &SockInfo,
    unix: Option<&UnixName>,
    host_netns: u32,
    interfaces: &Interfaces,
) -> Exposure {
    let address = sock.local.map(|address| address.to_canonical());
    if unix.is_some()
        || sock.family == Family::Unix
        || sock.ifindex == Some(LOOPBACK_IFINDEX)
        || address.is_some_and(|address| address.is_loopback())
    {
        return Exposure::Loopback;
    }
    if sock.netns != host_netns {
        return Exposure::OtherNamespace;
    }
    match (
        address.filter(|address| !address.is_unspecified()),
        sock.ifindex,
    ) {
        (Some(address), ifindex) if address.is_multicast() => {
            let link = of_address(address);
            ifindex.map_or(link, |index| link.min(of_interface(index, interfaces)))
        }
        (Some(address), _) => of_address(address),
        (None, Some(index)) => of_interface(index, interfaces),
        (None, None) => Exposure::AllInterfaces,
    }
}

/// The widest reach of an interface's addresses. Every IPv6 interface has a link-local address, and
/// every host a private one beside it may have: the widest decides.
fn of_interface(index: u32, interfaces: &Interfaces) -> Exposure {
    let addresses = interfaces
        .by_index
        .get(&index)
        .map(|interface| interface.addresses.as_slice());
    addresses
        .unwrap_or_default()
        .iter()
        .map(|address| of_address(address.to_canonical()))
        .max()
        .unwrap_or(Exposure::PublicInterface)
}

/// The reach of one address that is neither a wildcard nor v4-mapped.
fn of_address(address: IpAddr) -> Exposure {
    match address {
        address if address.is_loopback() => Exposure::Loopback,
        IpAddr::V4(v4) if v4.is_link_local() || v4.is_broadcast() => Exposure::LinkLocal,
        IpAddr::V4(v4) if v4.is_multicast() => {
            if v4.octets()[..3] == [224, 0, 0] {
                Exposure::LinkLocal
            } else {
                Exposure::AllInterfaces
            }
        }
        IpAddr::V4(v4) if v4.is_private() || is_shared(v4) => Exposure::PrivateInterface,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Exposure::LinkLocal,
        IpAddr::V6(v6) if v6.is_multicast() => multicast_scope(v6),
        IpAddr::V6(v6) if v6.is_unique_local() => Exposure::PrivateInterface,
        _ => Exposure::PublicInterface,
    }
}

/// 100.64.0.0/10, RFC 6598: addresses that carriers share among customers.
fn is_shared(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    a == 100 && b & 0b1100_0000 == 64
}

/// RFC 4291, 2.7: scope 1 stays on the interface, 2 on the link.
fn multicast_scope(address: Ipv6Addr) -> Exposure {
    match address.octets()[1] & 0x0f {
        1 => Exposure::Loopback,
        2 => Exposure::LinkLocal,
        _ => Exposure::AllInterfaces,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Interface, Interfaces, exposure};
    use crate::event::{Exposure, Family, Protocol};
    use crate::inventory::fixture::{tcp, unix_path, unix_stream};

    const HOST: u32 = 1;

    fn interfaces() -> Interfaces {
        let interface = |name: &str, addresses: &[&str]| Interface {
            name: name.to_owned(),
            addresses: addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
        };
        Interfaces {
            by_index: [
                (1, interface("lo", &["127.0.0.1", "::1"])),
                (2, interface("eth0", &["203.0.113.5", "fe80::5"])),
                (3, interface("eth1", &["10.0.0.5", "fe80::6", "fd00::6"])),
                (4, interface("ll", &["fe80::7"])),
                (5, interface("port", &[])),
            ]
            .into(),
        }
    }

    fn at(address: &str, ifindex: Option<u32>, netns: u32) -> Exposure {
        let local: IpAddr = address.parse().expect("an address");
        let mut sock = tcp(1, 1, 80);
        sock.family = if local.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        };
        sock.local = Some(local);
        sock.ifindex = ifindex;
        sock.netns = netns;
        exposure(&sock, None, HOST, &interfaces())
    }

    #[test]
    fn addresses_decide() {
        let cases = [
            ("127.0.0.1", Exposure::Loopback),
            ("127.255.1.2", Exposure::Loopback),
            ("::1", Exposure::Loopback),
            ("::ffff:127.0.0.1", Exposure::Loopback),
            ("169.254.3.4", Exposure::LinkLocal),
            ("fe80::1", Exposure::LinkLocal),
            ("febf::1", Exposure::LinkLocal),
            ("224.0.0.251", Exposure::LinkLocal),
            ("ff02::fb", Exposure::LinkLocal),
            ("10.1.2.3", Exposure::PrivateInterface),
            ("172.16.0.1", Exposure::PrivateInterface),
            ("172.32.0.1", Exposure::PublicInterface),
            ("192.168.0.1", Exposure::PrivateInterface),
            ("::ffff:192.168.0.1", Exposure::PrivateInterface),
            ("100.64.0.1", Exposure::PrivateInterface),
            ("100.127.255.255", Exposure::PrivateInterface),
            ("100.128.0.1", Exposure::PublicInterface),
            ("fc00::1", Exposure::PrivateInterface),
            ("fd12::1", Exposure::PrivateInterface),
            ("8.8.8.8", Exposure::PublicInterface),
            ("2001:4860::1", Exposure::PublicInterface),
            ("239.1.1.1", Exposure::AllInterfaces),
            ("0.0.0.0", Exposure::AllInterfaces),
            ("::", Exposure::AllInterfaces),
            ("::ffff:0.0.0.0", Exposure::AllInterfaces),
        ];
        for (address, expected) in cases {
            assert_eq!(at(address, None, HOST), expected, "{address}");
        }
    }

    #[test]
    fn a_bound_interface_decides_for_a_wildcard() {
        assert_eq!(at("0.0.0.0", Some(1), HOST), Exposure::Loopback);
        assert_eq!(at("0.0.0.0", Some(2), HOST), Exposure::PublicInterface);
        assert_eq!(at("::", Some(3), HOST), Exposure::PrivateInterface);
        assert_eq!(at("::", Some(4), HOST), Exposure::LinkLocal);
        assert_eq!(at("::", Some(5), HOST), Exposure::PublicInterface);
        assert_eq!(at("::", Some(99), HOST), Exposure::PublicInterface);
        assert_eq!(at("8.8.8.8", Some(3), HOST), Exposure::PublicInterface);
    }

    #[test]
    fn another_namespace_hides_all_but_loopback_and_unix() {
        assert_eq!(at("0.0.0.0", None, 2), Exposure::OtherNamespace);
        assert_eq!(at("10.0.0.1", None, 2), Exposure::OtherNamespace);
        assert_eq!(at("127.0.0.1", None, 2), Exposure::Loopback);
        assert_eq!(at("0.0.0.0", Some(1), 2), Exposure::Loopback);
        let mut local = unix_stream(1, 1);
        local.netns = 2;
        let name = unix_path("/run/x");
        assert_eq!(
            exposure(&local, Some(&name), HOST, &interfaces()),
            Exposure::Loopback
        );
    }

    #[test]
    fn a_packet_socket_hears_every_interface_or_its_own() {
        let mut packet = tcp(1, 1, 0);
        packet.family = Family::Packet;
        packet.protocol = Protocol::Packet;
        packet.local = None;
        assert_eq!(
            exposure(&packet, None, HOST, &interfaces()),
            Exposure::AllInterfaces
        );
        packet.ifindex = Some(3);
        assert_eq!(
            exposure(&packet, None, HOST, &interfaces()),
            Exposure::PrivateInterface
        );
    }
}
