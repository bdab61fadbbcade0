//! The network interfaces of this process's namespace and their addresses, asked for over netlink.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::exposure::{Interface, Interfaces};
use super::netlink::{Ask, Netlink, attributes, read_u32};
use crate::text::escape;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
/// `struct ifinfomsg`; the index at 4.
const LINK_LEN: usize = 16;
/// `struct ifaddrmsg`; the index at 4.
const ADDRESS_LEN: usize = 8;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
/// The host's own address where `IFA_ADDRESS` is the peer's (point to point).
const IFA_LOCAL: u16 = 2;

/// Asks for every interface and address.
///
/// # Errors
/// What the netlink socket says.
pub fn interfaces() -> io::Result<Interfaces> {
    let mut by_index: HashMap<u32, Interface> = HashMap::new();
    let mut netlink = Netlink::open(None)?;
    let request = [0; LINK_LEN];
    netlink.ask(Ask::Dump, RTM_GETLINK, &request, RTM_NEWLINK, |link| {
        if let Some((index, name)) = name(link) {
            by_index.entry(index).or_default().name = name;
        }
    })?;
    let request = [0; ADDRESS_LEN];
    netlink.ask(Ask::Dump, RTM_GETADDR, &request, RTM_NEWADDR, |reply| {
        if let Some((index, address)) = address(reply) {
            by_index.entry(index).or_default().addresses.push(address);
        }
    })?;
    Ok(Interfaces { by_index })
}

fn name(link: &[u8]) -> Option<(u32, String)> {
    let index = read_u32(link, 4)?;
    let mut found = attributes(link.get(LINK_LEN..)?);
    let (_, name) = found.find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Some((index, escape(name)))
}

fn address(reply: &[u8]) -> Option<(u32, IpAddr)> {
    let index = read_u32(reply, 4)?;
    let found: Vec<_> = attributes(reply.get(ADDRESS_LEN..)?).collect();
    let value = |wanted: u16| found.iter().find(|(kind, _)| *kind == wanted);
    let (_, bytes) = value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS))?;
    let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let v6 = <[u8; 16]>::try_from(*bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
    Some((index, v4.or(v6).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::interfaces;

    #[test]
    fn loopback_is_there_with_its_address() {
        let interfaces = interfaces().expect("netlink");
        let loopback = interfaces.by_index.get(&1).expect("the loopback interface");
        assert_eq!(interfaces.name(1), Some("lo"));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(loopback.addresses.contains(&address), "{loopback:?}");
    }
}
