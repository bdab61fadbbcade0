//! The text tables of `/proc/net`, for what sock_diag does not show: raw and ping sockets, and any
//! table that the kernel refuses over netlink.
//!
//! The text has no cookie, no backlog and no interface of inet sockets.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portwatch_common::socket::TcpState;

use super::identity::is_listener;
use super::sock_diag::{Row, Table, bare};
use crate::decode::unix_name_of;

/// More than any table of a healthy host; a longer one is reported as cut short.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// `SO_ACCEPTCON` in the flags of `/proc/net/unix`.
const ACCEPTS: u64 = 0x10000;

/// Which text holds which sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// File name in `/proc/net`.
    name: &'static str,
    family: u16,
    /// `SOCK_*`; not used for unix and packet, whose rows tell it.
    kind: u16,
    protocol: u16,
}

const fn text(name: &'static str, family: u16, kind: u16, protocol: u16) -> Text {
    Text {
        name,
        family,
        kind,
        protocol,
    }
}

/// Tables that are always read as text.
pub(super) const ALWAYS: [Text; 4] = [
    text("raw", 2, 3, 0),
    text("raw6", 10, 3, 0),
    text("icmp", 2, 2, 1),
    text("icmp6", 10, 2, 58),
];

/// The text that shows what a table would; MPTCP sockets have none.
pub(super) fn instead_of(table: Table) -> Option<Text> {
    Some(match table {
        Table::Unix => text("unix", 1, 0, 0),
        Table::Packet => text("packet", 17, 0, 0),
        Table::Inet {
            family, protocol, ..
        } => match (family, protocol) {
            (2, 6) => text("tcp", 2, 1, 6),
            (2, 17) => text("udp", 2, 2, 17),
            (2, 136) => text("udplite", 2, 2, 136),
            (10, 6) => text("tcp6", 10, 1, 6),
            (10, 17) => text("udp6", 10, 2, 17),
            (10, 136) => text("udplite6", 10, 2, 136),
            _ => return None,
        },
    })
}

/// Reads one table of the calling thread's namespace. A table that is not there is empty: its protocol
/// is not compiled in or not loaded.
///
/// # Errors
/// What reading says, or `FileTooLarge`.
pub(super) fn read(text: Text, netns: u32) -> io::Result<Vec<Row>> {
    let file = match File::open(format!("/proc/thread-self/net/{}", text.name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    if bytes.len() as u64 >= MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(rows(text, netns, &bytes))
}

/// The rows that parse; the first line is the heading.
pub(super) fn rows(text: Text, netns: u32, bytes: &[u8]) -> Vec<Row> {
    let lines = bytes.split(|&byte| byte == b'\n').skip(1);
    lines
        .filter_map(|line| match text.family {
            1 => unix_row(line, netns),
            17 => packet_row(line, netns),
            _ => inet_row(text, line, netns),
        })
        .collect()
}

/// `sl local_address rem_address st … inode …`, numbers in hexadecimal but for the inode.
fn inet_row(text: Text, line: &[u8], netns: u32) -> Option<Row> {
    let fields = fields(line);
    let inode = decimal(fields.get(9)?)?;
    let (local, number) = endpoint(fields.get(1)?)?;
    let (peer, peer_port) = endpoint(fields.get(2)?)?;
    let is_of_family = |address: IpAddr| address.is_ipv4() == (text.family == 2);
    if !(is_of_family(local) && is_of_family(peer)) {
        return None;
    }
    // A raw socket has its protocol in place of a port.
    let is_raw = text.kind == 3;
    let protocol = if is_raw { number } else { text.protocol };
    let mut sock = bare(text.family, text.kind, protocol, inode, netns)?;
    let has_port = !is_raw && !text.name.starts_with("icmp");
    sock.protocol_number = is_raw.then_some(number);
    sock.local = Some(local);
    sock.peer = (!peer.is_unspecified()).then_some(peer);
    sock.port = (has_port && number != 0).then_some(number);
    sock.peer_port = (has_port && peer_port != 0).then_some(peer_port);
    sock.state = TcpState(u8::try_from(hex(fields.get(3)?)?).ok()?);
    Some(Row { sock, unix: None })
}

/// `sk RefCnt Type Proto Iface R Rmem User Inode`.
fn packet_row(line: &[u8], netns: u32) -> Option<Row> {
    let fields = fields(line);
    let kind = decimal(fields.get(2)?)?;
    let ethertype = u16::try_from(hex(fields.get(3)?)?).ok()?;
    let inode = decimal(fields.get(8)?)?;
    let mut sock = bare(17, u16::try_from(kind).ok()?, ethertype, inode, netns)?;
    sock.protocol_number = Some(ethertype);
    sock.ifindex = decimal(fields.get(4)?).filter(|&index| index != 0);
    Some(Row { sock, unix: None })
}

/// `Num RefCount Protocol Flags Type St Inode Path`. A NUL of an abstract name is printed as `@`, so a
/// name that begins with `@` is taken for an abstract one.
fn unix_row(line: &[u8], netns: u32) -> Option<Row> {
    let fields = fields(line);
    let inode = decimal(fields.get(6)?)?;
    let kind = u16::try_from(hex(fields.get(4)?)?).ok()?;
    let mut sock = bare(1, kind, 0, inode, netns)?;
    if hex(fields.get(3)?)? & ACCEPTS != 0 {
        sock.state = TcpState::LISTEN;
    }
    // The path is all that follows one blank behind the inode; it may hold blanks itself.
    let is_padding = |byte: &u8| byte.is_ascii_whitespace();
    let mut rest = line;
    for field in &fields[..7] {
        let start = rest.iter().position(|byte| !is_padding(byte))?;
        rest = rest.get(start + field.len()..)?;
    }
    let mut name = rest.get(1..).unwrap_or_default().to_vec();
    if let Some(first) = name.first_mut().filter(|first| **first == b'@') {
        *first = 0;
    }
    let unix = unix_name_of(&name, None);
    is_listener(&sock, unix.as_ref()).then_some(Row { sock, unix })
}

fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
        .collect()
}

fn decimal(field: &[u8]) -> Option<u32> {
    str::from_utf8(field).ok()?.parse().ok()
}

fn hex(field: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(field).ok()?, 16).ok()
}

/// `0100007F:1F90`: 32-bit words of the address in the host's byte order, then the port.
fn endpoint(field: &[u8]) -> Option<(IpAddr, u16)> {
    let colon = field.iter().position(|&byte| byte == b':')?;
    let (address, port) = (&field[..colon], &field[colon + 1..]);
    if !matches!(address.len(), 8 | 32) {
        return None;
    }
    let mut bytes = Vec::with_capacity(16);
    for word in address.chunks(8) {
        bytes.extend(u32::try_from(hex(word)?).ok()?.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some((address, u16::try_from(hex(port)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::{endpoint, rows, text};
    use crate::decode::record::UnixName;
    use crate::event::{Protocol, SocketType};
    use proptest::prelude::*;

    fn unix(line: &str) -> Vec<super::Row> {
        rows(
            text("unix", 1, 0, 0),
            1,
            format!("Num\n{line}\n").as_bytes(),
        )
    }

    #[test]
    fn endpoints_are_words_in_host_order() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let v4 = format!("{}:1F90", word([127, 0, 0, 1]));
        let expected = ("127.0.0.1".parse().expect("an address"), 8080);
        assert_eq!(endpoint(v4.as_bytes()), Some(expected));
        let v6 = [[0x20, 1, 0xd, 0xb8], [0; 4], [0; 4], [0, 0, 0, 1]]
            .map(word)
            .concat();
        let expected = ("2001:db8::1".parse().expect("an address"), 53);
        assert_eq!(endpoint(format!("{v6}:0035").as_bytes()), Some(expected));
        assert_eq!(endpoint(b"00000000"), None);
        assert_eq!(endpoint(b"000000:0000"), None);
    }

    #[test]
    fn a_raw_socket_has_its_protocol_for_a_port() {
        let line = b"heading\n    1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4242 2 0 0\n";
        let rows = rows(text("raw", 2, 3, 0), 1, line);
        let sock = &rows[0].sock;
        assert_eq!(
            (sock.protocol, sock.protocol_number),
            (Protocol::Raw, Some(1))
        );
        assert_eq!((sock.port, sock.inode), (None, Some(4242)));
    }

    #[test]
    fn addresses_are_those_of_the_table() {
        let zeros = "0".repeat(32);
        let of = |local: &str, peer: &str, table| {
            let line = format!("heading\n 0: {local}:0016 {peer}:0000 0A 0:0 0:0 0 0 0 4242");
            rows(table, 1, line.as_bytes()).len()
        };
        let (tcp, tcp6) = (text("tcp", 2, 1, 6), text("tcp6", 10, 1, 6));
        assert_eq!(of("0100007F", "00000000", tcp), 1);
        assert_eq!(of(&zeros, &zeros, tcp6), 1);
        for (local, peer, table) in [
            (zeros.as_str(), "00000000", tcp),
            ("00000000", zeros.as_str(), tcp),
            ("00000000", zeros.as_str(), tcp6),
        ] {
            assert_eq!(of(local, peer, table), 0, "{local} {peer} in {table:?}");
        }
    }

    #[test]
    fn unix_paths_may_hold_blanks_and_names_may_be_abstract() {
        let rows = unix("0000000000000000: 00000002 00000000 00010000 0001 01  1562 /run/a b");
        let path = UnixName::Path {
            as_bound: b"/run/a b".to_vec(),
            resolved: Some(b"/run/a b".to_vec()),
        };
        assert_eq!(rows[0].unix, Some(path));
        let rows = unix("0000000000000000: 00000002 00000000 00000000 0002 01 1562000 @x");
        assert_eq!(rows[0].unix, Some(UnixName::Abstract(b"x".to_vec())));
        assert_eq!(rows[0].sock.kind, SocketType::Dgram);
        // Neither a connected stream nor an unnamed datagram socket is a listener.
        let connected = unix("0000000000000000: 00000003 00000000 00000000 0001 03  1562 /run/x");
        assert!(connected.is_empty());
        let unnamed = unix("0000000000000000: 00000002 00000000 00000000 0002 01  1562");
        assert!(unnamed.is_empty());
    }

    proptest! {
        #[test]
        fn no_text_causes_a_panic(line in "[ 0-9a-fA-F:@/x]{0,120}", bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            for family in [1, 2, 17] {
                let text = text("tcp", family, 1, 6);
                let _ = rows(text, 1, format!("\n{line}").as_bytes());
                let _ = rows(text, 1, &[b"\n".as_slice(), &bytes].concat());
            }
        }
    }
}
