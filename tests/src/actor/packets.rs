//! The actor's commands that make traffic of its own making: SYNs from invented senders, knocks at closed ports, and crowds
//! of connections. Bounded, and only in a network namespace of the actor's own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

use super::{Outcome, Slots, number, slot};
use crate::sys;

/// Packets of one command, at most.
const MOST: u32 = 200_000;
/// Senders are in 10.9.0.0/16.
const SENDERS: [u8; 2] = [10, 9];
/// Packets between two looks at the clock.
const BURST: u32 = 16;

pub(super) fn obey(verb: &str, words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    match verb {
        "senders" => senders(),
        "syns" => syns(words),
        "knocks" => knocks(words),
        "crowd" => crowd(words, slots),
        "leave" => leave(words, slots),
        "sysctl" => sysctl(words),
        other => bail!("no command {other:?}"),
    }
}

/// `senders`: gives the invented senders a route to nowhere, without which the kernel would not answer them.
fn senders() -> Result<Outcome> {
    let netlink = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&netlink, &SocketAddrNetlink::new(0, 0))?;
    // `struct nlmsghdr`: RTM_NEWROUTE, with NLM_F_REQUEST, ACK, CREATE.
    let mut message = Vec::new();
    message.extend_from_slice(&44_u32.to_ne_bytes());
    message.extend_from_slice(&24_u16.to_ne_bytes());
    message.extend_from_slice(&0x405_u16.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // `struct rtmsg`: AF_INET, 16 bits of destination; main table, by boot, scope link, unicast.
    message.extend_from_slice(&[2, 16, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0]);
    // RTA_DST and RTA_OIF: `lo` is the first interface of every namespace.
    message.extend_from_slice(&[8, 0, 1, 0, SENDERS[0], SENDERS[1], 0, 0]);
    message.extend_from_slice(&[8, 0, 4, 0, 1, 0, 0, 0]);
    sendto(
        &netlink,
        &message,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    let mut answer = [0_u8; 256];
    let (_, length) = recv(&netlink, &mut answer, rustix::net::RecvFlags::empty())?;
    let error = answer
        .get(16..20)
        .filter(|_| length >= 20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    match error {
        Some(0) => Ok(Outcome::default()),
        Some(error) => Err(io::Error::from_raw_os_error(-error).into()),
        None => bail!("the kernel's answer cannot be understood"),
    }
}

/// `syns COUNT RATE PORT`: sends that many SYNs, so many a second (0: as fast as can be), each from another of 65,536
/// senders that will never answer.
fn syns(words: &[&str]) -> Result<Outcome> {
    let (count, rate, port): (u32, u32, u16) =
        (number(words, 0)?, number(words, 1)?, number(words, 2)?);
    ensure!(count <= MOST, "at most {MOST} packets");
    let raw = sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let to = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    let start = Instant::now();
    for nth in 0..count {
        sendto(&raw, &syn(nth, port), SendFlags::empty(), &to)?;
        if rate > 0 && nth % BURST == 0 {
            let due = Duration::from_secs(1) * nth / rate;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    Ok(Outcome::facts([
        ("sent", count.to_string()),
        ("millis", start.elapsed().as_millis().to_string()),
    ]))
}

/// An IPv4 header and a TCP header, without options.
fn syn(nth: u32, port: u16) -> [u8; 40] {
    let [_, _, third, fourth] = nth.to_be_bytes();
    let source = [SENDERS[0], SENDERS[1], third, fourth];
    let target = Ipv4Addr::LOCALHOST.octets();
    let mut packet = [0_u8; 40];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = packet.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    // Version and length; total length; do not fragment; hops; TCP. The kernel adds the checksum.
    put(0, &[0x45, 0, 0, 40]);
    put(6, &[0x40, 0, 64, 6]);
    put(12, &source);
    put(16, &target);
    let from = 1024 + u16::try_from(nth >> 16).unwrap_or(0);
    put(20, &from.to_be_bytes());
    put(22, &port.to_be_bytes());
    put(24, &nth.to_be_bytes());
    // Length of the header, SYN; window.
    put(32, &[0x50, 0x02, 0xff, 0xff]);
    let pseudo = [source, target, [0, 6, 0, 20]].concat();
    let sum = checksum(&[pseudo.as_slice(), packet.get(20..).unwrap_or_default()].concat());
    if let Some(place) = packet.get_mut(36..38) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// `knocks tcp|udp FIRST COUNT`: knocks at that many ports of 127.0.0.1, one after the other.
fn knocks(words: &[&str]) -> Result<Outcome> {
    let (first, count): (u16, u16) = (number(words, 1)?, number(words, 2)?);
    let mut refused = 0_u32;
    for port in first..first.saturating_add(count) {
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        match words.first() {
            Some(&"tcp") => refused += u32::from(TcpStream::connect(to).is_err()),
            Some(&"udp") => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.send_to(b"?", to)?;
                refused += 1;
            }
            _ => bail!("knocks tcp|udp FIRST COUNT"),
        }
    }
    Ok(Outcome::facts([("refused", refused.to_string())]))
}

/// `crowd COUNT SLOT PREFIX`: that many connections to the listener in the slot, both ends kept.
fn crowd(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let count: u32 = number(words, 0)?;
    ensure!(count <= MOST, "at most {MOST} connections");
    let prefix = words.get(2).context("crowd COUNT SLOT PREFIX")?;
    let listener =
        TcpListener::from(slot(slots, words.get(1..).unwrap_or_default())?.try_clone_to_owned()?);
    let address = listener.local_addr()?;
    for nth in 0..count {
        let client = TcpStream::connect(address)?;
        let (server, _) = listener.accept()?;
        slots.insert(format!("{prefix}c{nth}"), client.into());
        slots.insert(format!("{prefix}s{nth}"), server.into());
    }
    Ok(Outcome::default())
}

/// `leave FIRST COUNT PREFIX c|s`: the clients or the servers of that many connections close.
fn leave(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let (first, count): (u32, u32) = (number(words, 0)?, number(words, 1)?);
    let (Some(prefix), Some(side)) = (words.get(2), words.get(3)) else {
        bail!("leave FIRST COUNT PREFIX c|s");
    };
    for nth in first..first + count {
        slots
            .remove(&format!("{prefix}{side}{nth}"))
            .context("no such connection")?;
    }
    Ok(Outcome::default())
}

/// `sysctl NAME VALUE`: of this namespace's IPv4.
fn sysctl(words: &[&str]) -> Result<Outcome> {
    let (Some(name), Some(value)) = (words.first(), words.get(1)) else {
        bail!("sysctl NAME VALUE");
    };
    ensure!(name.starts_with("tcp_"), "only those of TCP");
    std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value)?;
    Ok(Outcome::default())
}
