//! The kernel's own tables of sockets in `/proc/net`: what no part of portwatch had a hand in.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// `TCP_LISTEN` and `TCP_CLOSE`, which a UDP socket without a peer has too.
const LISTEN: &str = "0A";
const CLOSE: &str = "07";
/// `__SO_ACCEPTCON`: a unix socket that listens.
const ACCEPTS: u32 = 0x1_0000;

/// A socket in one of the tables that can receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) protocol: &'static str,
    pub(crate) place: String,
    pub(crate) inode: u64,
}

/// Listening TCP sockets, UDP sockets with a port and no peer, and listening unix sockets with a path.
pub(crate) fn look() -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for (file, protocol, state) in [
        ("tcp", "tcp", LISTEN),
        ("tcp6", "tcp", LISTEN),
        ("udp", "udp", CLOSE),
        ("udp6", "udp", CLOSE),
    ] {
        let path = format!("/proc/net/{file}");
        // A kernel without IPv6 has no such file.
        if let Ok(text) = fs::read_to_string(&path) {
            let lines = text.lines().skip(1);
            seen.extend(lines.filter_map(|line| inet(line, protocol, state)));
        } else if !file.ends_with('6') {
            bail!("cannot read {path}");
        }
    }
    let unix = fs::read("/proc/net/unix").context("cannot read /proc/net/unix")?;
    let unix = String::from_utf8_lossy(&unix);
    seen.extend(unix.lines().skip(1).filter_map(unix_line));
    Ok(seen)
}

/// Waits until a socket is at this place, for programs that say nothing when they are ready.
///
/// # Errors
/// None is there in time.
pub(crate) fn await_inode(protocol: &str, place: &str, patience: Duration) -> Result<u64> {
    let deadline = Instant::now() + patience;
    loop {
        let all = look()?;
        let found = all
            .iter()
            .find(|seen| seen.protocol == protocol && seen.place == place);
        if let Some(seen) = found {
            return Ok(seen.inode);
        }
        if Instant::now() > deadline {
            bail!("nobody has {protocol} {place}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `sl local remote state tx:rx tr:when retransmits uid timeout inode …`
fn inet(line: &str, protocol: &'static str, state: &str) -> Option<Seen> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let inode = words.get(9)?.parse().ok()?;
    let fits = *words.get(3)? == state && port != 0 && inode != 0;
    fits.then_some(Seen {
        protocol,
        place: format!("{}:{port}", address_of(address)?),
        inode,
    })
}

/// Words of 32 bits, each in the machine's byte order.
fn address_of(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = digits.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
        }
        _ => None,
    }
}

/// `Num: RefCount Protocol Flags Type St Inode Path`
fn unix_line(line: &str) -> Option<Seen> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let flags = u32::from_str_radix(words.get(3)?, 16).ok()?;
    let place = words.get(7)?;
    (flags & ACCEPTS != 0).then_some(Seen {
        protocol: "unix",
        place: (*place).to_owned(),
        inode: words.get(6)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn own_sockets_are_in_the_tables() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("tcp");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("udp");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("socket");
        let _unix = UnixListener::bind(&path).expect("unix");
        let places = [
            ("tcp", tcp.local_addr().expect("address").to_string()),
            ("udp", udp.local_addr().expect("address").to_string()),
            ("unix", path.display().to_string()),
        ];
        for (protocol, place) in places {
            await_inode(protocol, &place, Duration::ZERO).expect("seen");
        }
        assert!(await_inode("tcp", "127.0.0.1:0", Duration::ZERO).is_err());
    }

    #[test]
    fn a_connected_socket_is_no_listener() {
        let line =
            "0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000 0 0 7 1";
        assert_eq!(inet(line, "tcp", LISTEN), None);
        let line =
            "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 7 1";
        let seen = inet(line, "tcp", LISTEN).expect("a listener");
        assert_eq!((seen.place.as_str(), seen.inode), ("127.0.0.1:8080", 7));
    }
}
