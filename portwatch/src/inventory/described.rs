//! A socket as events describe it, but for what only a unix socket has. Pure.

use super::has_backlog;
use crate::decode::record::SockInfo;
use crate::event::{Exposure, Family, Protocol, Socket};

/// The description of a socket without unix name and service.
#[must_use]
pub fn described(sock: &SockInfo, interface: Option<String>, exposure: Exposure) -> Socket {
    let is_inet = sock.local.is_some();
    Socket {
        family: sock.family,
        kind: sock.kind,
        protocol: sock.protocol,
        address: sock.local.map(|address| address.to_string()),
        port: sock.port,
        peer_address: sock
            .peer
            .filter(|_| sock.peer_port.is_some())
            .map(|ip| ip.to_string()),
        peer_port: sock.peer_port,
        path: None,
        path_as_bound: None,
        abstract_name: None,
        backlog: has_backlog(sock).then_some(sock.backlog),
        cookie: sock.cookie,
        inode: sock.inode,
        netns: Some(sock.netns),
        interface,
        ifindex: sock.ifindex,
        protocol_number: sock
            .protocol_number
            .filter(|_| sock.protocol != Protocol::Mptcp),
        v6only: (is_inet && sock.family == Family::Ipv6).then_some(sock.v6only),
        reuseport: (is_inet && sock.reuseport).then_some(true),
        service: None,
        exposure: Some(exposure),
    }
}
