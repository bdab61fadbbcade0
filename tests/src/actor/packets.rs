//! The actor's commands that make traffic of its own making: SYNs from invented senders, knocks at closed ports, and crowds
//! of connections; and what they need: addresses, routes, settings. Bounded, and only in a network namespace of the actor's
//! own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

use super::{Outcome, Slots, number, slot};
use crate::sys;

/// Packets or connections of one command, at most.
pub(super) const MOST: u32 = 200_000;
/// Senders are in 10.9.0.0/16 where nothing else is said.
const SENDERS: [u8; 2] = [10, 9];
/// Longest time that a flood may go on.
const LONGEST: Duration = Duration::from_secs(30);
/// Packets between two looks at the clock.
const BURST: u32 = 16;

pub(super) fn obey(verb: &str, words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    match verb {
        "senders" => senders(words),
        "address" => address(words),
        "syns" => syns(words),
        "blast" => blast(words),
        "probe" => probe(words),
        "knocks" => knocks(words),
        "crowd" => crowd(words, slots),
        "leave" => leave(words, slots),
        "sysctl" => sysctl(words),
        other => bail!("no command {other:?}"),
    }
}

/// `senders [NETWORK [BITS]]`: gives the invented senders, a network of 16 bits where nothing else is said, a route to nowhere,
/// without which the kernel would not answer them.
fn senders(words: &[&str]) -> Result<Outcome> {
    let [first, second] = network(words, 0)?;
    let bits: u8 = words.get(1).map_or(Ok(16), |_| number(words, 1))?;
    // `struct rtmsg`: AF_INET, bits of destination; main table, by boot, scope link, unicast.
    let mut message = vec![2, bits, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0];
    // RTA_DST and RTA_OIF: `lo` is the first interface of every namespace.
    message.extend_from_slice(&[8, 0, 1, 0, first, second, 0, 0]);
    message.extend_from_slice(&[8, 0, 4, 0, 1, 0, 0, 0]);
    ask_netlink(RTM_NEWROUTE, &message)
}

/// `address A.B.C.D`: gives `lo` this address and, with its /24, all others of that network.
fn address(words: &[&str]) -> Result<Outcome> {
    let address: Ipv4Addr = number(words, 0)?;
    // `struct ifaddrmsg`: AF_INET, 24 bits, no flags, scope of all, `lo`.
    let mut message = vec![2, 24, 0, 0, 1, 0, 0, 0];
    // IFA_ADDRESS and IFA_LOCAL.
    for kind in [1, 2] {
        message.extend_from_slice(&[8, 0, kind, 0]);
        message.extend_from_slice(&address.octets());
    }
    ask_netlink(RTM_NEWADDR, &message)
}

const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

/// Has routing done something, and waits until it is.
fn ask_netlink(kind: u16, body: &[u8]) -> Result<Outcome> {
    let netlink = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&netlink, &SocketAddrNetlink::new(0, 0))?;
    // `struct nlmsghdr`, with NLM_F_REQUEST, ACK, CREATE.
    let mut message = u32::try_from(16 + body.len())?.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&0x405_u16.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
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

/// The first 16 bits of the address at this place, or of [`SENDERS`].
fn network(words: &[&str], at: usize) -> Result<[u8; 2]> {
    match words.get(at) {
        None => Ok(SENDERS),
        Some(_) => {
            let [first, second, ..] = number::<Ipv4Addr>(words, at)?.octets();
            Ok([first, second])
        }
    }
}

/// `syns COUNT RATE PORT [NETWORK SENDERS]`: sends that many SYNs, so many a second (0: as fast as can be), each from another
/// of so many senders (65,536) that will never answer.
fn syns(words: &[&str]) -> Result<Outcome> {
    let (count, rate, port): (u32, u32, u16) =
        (number(words, 0)?, number(words, 1)?, number(words, 2)?);
    ensure!(count <= MOST, "at most {MOST} packets");
    let [a, b] = network(words, 3)?;
    let senders: u32 = words.get(4).map_or(Ok(65_536), |_| number(words, 4))?;
    let raw = Raw::new()?;
    let start = Instant::now();
    for nth in 0..count {
        let [_, _, c, d] = (nth % senders).to_be_bytes();
        raw.send(&syn([a, b, c, d], port, nth / senders, nth))?;
        if rate > 0 && nth % BURST == 0 {
            let due = Duration::from_secs(1) * nth / rate;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    Ok(sent(count, start))
}

/// `blast MILLIS PORT`: SYNs as fast as one processor can send them, for so long, each from another of 65,536 senders.
fn blast(words: &[&str]) -> Result<Outcome> {
    let time = Duration::from_millis(number(words, 0)?).min(LONGEST);
    let port: u16 = number(words, 1)?;
    let raw = Raw::new()?;
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < time {
        for _ in 0..BURST {
            let [_, _, c, d] = count.to_be_bytes();
            raw.send(&syn(
                [SENDERS[0], SENDERS[1], c, d],
                port,
                count >> 16,
                count,
            ))?;
            count += 1;
        }
    }
    Ok(sent(count, start))
}

/// `probe FIRST COUNT RATE SOURCE`: what a half-open scan is: one SYN to each of that many ports of 127.0.0.1, from one source.
fn probe(words: &[&str]) -> Result<Outcome> {
    let (first, count, rate): (u16, u16, u32) =
        (number(words, 0)?, number(words, 1)?, number(words, 2)?);
    let source: Ipv4Addr = number(words, 3)?;
    let raw = Raw::new()?;
    let start = Instant::now();
    for nth in 0..count {
        let port = first.saturating_add(nth);
        raw.send(&syn(source.octets(), port, 0, nth.into()))?;
        if rate > 0 {
            let due = Duration::from_secs(1) * u32::from(nth) / rate;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    Ok(sent(count.into(), start))
}

fn sent(count: u32, start: Instant) -> Outcome {
    Outcome::facts([
        ("sent", count.to_string()),
        ("millis", start.elapsed().as_millis().to_string()),
    ])
}

/// A socket that sends whole packets over loopback.
pub(super) struct Raw(OwnedFd);

impl Raw {
    pub(super) fn new() -> Result<Self> {
        let raw = sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
        Ok(Self(raw))
    }

    pub(super) fn send(&self, packet: &[u8]) -> Result<()> {
        let to = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        sendto(&self.0, packet, SendFlags::empty(), &to)?;
        Ok(())
    }
}

/// An IPv4 header and a TCP header, without options: the sender's `round`th connection.
pub(super) fn syn(source: [u8; 4], port: u16, round: u32, sequence: u32) -> [u8; 40] {
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
    let from = 1024 + u16::try_from(round % 60_000).unwrap_or(0);
    put(20, &from.to_be_bytes());
    put(22, &port.to_be_bytes());
    put(24, &sequence.to_be_bytes());
    // Length of the header, SYN; window.
    put(32, &[0x50, 0x02, 0xff, 0xff]);
    let sum = checksum([
        &source,
        &target,
        &[0, 6, 0, 20],
        packet.get(20..).unwrap_or_default(),
    ]);
    if let Some(place) = packet.get_mut(36..38) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Of parts that have an even number of bytes each. It is made for every packet of a flood, so nothing is copied.
fn checksum(parts: [&[u8]; 4]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks_exact(2) {
            if let [high, low] = *pair {
                sum += u32::from(u16::from_be_bytes([high, low]));
            }
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// `knocks tcp|udp FIRST COUNT [MILLIS]`: knocks at that many ports of 127.0.0.1, one after the other, with so long a pause
/// between them.
fn knocks(words: &[&str]) -> Result<Outcome> {
    let (first, count): (u16, u16) = (number(words, 1)?, number(words, 2)?);
    let pause: u64 = words.get(3).map_or(Ok(0), |_| number(words, 3))?;
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
            _ => bail!("knocks tcp|udp FIRST COUNT [MILLIS]"),
        }
        std::thread::sleep(Duration::from_millis(pause));
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

/// `sysctl NAME VALUE…`: of this namespace's IPv4, and how long the queue of a listener may be.
fn sysctl(words: &[&str]) -> Result<Outcome> {
    let Some((name, value @ [_, ..])) = words.split_first() else {
        bail!("sysctl NAME VALUE");
    };
    let is_known = name.starts_with("tcp_") || *name == "ip_local_port_range";
    let folder = match *name {
        "somaxconn" => "core",
        _ if is_known => "ipv4",
        _ => bail!("only those of TCP, the range of local ports, and somaxconn"),
    };
    std::fs::write(format!("/proc/sys/net/{folder}/{name}"), value.join(" "))?;
    Ok(Outcome::default())
}

#[cfg(test)]
mod tests {
    use super::{checksum, syn};

    /// A receiver sums everything, the checksum among it, and finds nothing missing.
    #[test]
    fn a_receiver_finds_the_checksum_right() {
        for nth in [0, 1, 65_535, 9_999_999] {
            let [_, b, c, d] = u32::to_be_bytes(nth);
            let packet = syn([10, b, c, d], 443, nth, nth);
            let (ip, tcp) = packet.split_at(20);
            assert_eq!(
                checksum([&ip[12..16], &ip[16..], &[0, 6, 0, 20], tcp]),
                0,
                "SYN {nth}"
            );
        }
    }
}
