//! Any bytes as a server's side of a check: bounded, plain, and the same in whatever pieces they come.

use super::exchange::{Exchange, LIMIT};
use super::{Check, Failure, Remote, Target, Transport};
use crate::event::CheckProtocol;
use crate::event::words::Word as _;
use crate::fuzzing::assert_plain;

/// More than portwatch says in any check, in bytes.
const SAID_MAX: usize = 1_024;

/// The property of the target `answer`: the first byte chooses the protocol, the second the pieces.
pub fn answer(bytes: &[u8]) {
    let [choice, pieces, said @ ..] = bytes else {
        return;
    };
    let protocols = CheckProtocol::ALL;
    let protocol = protocols[usize::from(*choice) % protocols.len()];
    for transport in [Transport::Tcp, Transport::Udp] {
        let whole = converse(protocol, transport, said, said.len().max(1));
        // A datagram comes whole or not at all.
        if transport == Transport::Tcp {
            let split = converse(protocol, transport, said, usize::from(*pieces).max(1));
            assert_eq!(whole, split, "in pieces of {pieces}");
        }
    }
}

/// What we said, and what became of it.
fn converse(
    protocol: CheckProtocol,
    transport: Transport,
    said: &[u8],
    piece: usize,
) -> (Vec<u8>, Result<(), Failure>) {
    let remote = Remote {
        host: "::1".to_owned(),
        port: 80,
        transport,
    };
    let target = remote.target();
    assert!(matches!(target, Target::Tcp(_) | Target::Udp(_)));
    let check = Check {
        protocol,
        every: std::time::Duration::from_secs(30),
        timeout: std::time::Duration::from_secs(5),
        failures: 3,
        host: Some(remote),
        name: None,
        path: None,
    };
    let mut exchange = Exchange::new(&check, &target, 7);
    let begun = exchange.begin();
    let (mut ours, mut verdict) = (begun.say, begun.verdict);
    let mut heard = 0;
    for chunk in said.chunks(piece) {
        if verdict.is_some() {
            break;
        }
        // A reader asks for no more than there is room for.
        for chunk in chunk.chunks(exchange.room()) {
            heard += chunk.len().min(exchange.room());
            let step = exchange.hear(chunk);
            ours.extend(step.say);
            verdict = step.verdict;
            if verdict.is_some() {
                break;
            }
            assert!(exchange.room() > 0, "undecided with nothing left to hear");
        }
    }
    assert!(heard <= LIMIT && ours.len() <= SAID_MAX);
    let verdict = verdict.unwrap_or_else(|| exchange.end());
    if let Err(failure) = &verdict {
        let told = failure.to_string();
        assert_plain(&told);
        assert!(told.chars().count() < 120, "{told}");
    }
    (ours, verdict)
}

/// One healthy server of each protocol, and some that are not.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seed = |protocol: CheckProtocol, said: &[u8]| [&[protocol.place(), 3], said].concat();
    vec![
        (
            "ssh",
            seed(CheckProtocol::Ssh, b"hello\r\nSSH-2.0-OpenSSH_9.2p1\r\n\0\0\x04\x1c"),
        ),
        (
            "smtp",
            seed(CheckProtocol::Smtp, b"220-mx\r\n220 ESMTP\r\n250-mx\r\n250 OK\r\n221 bye\r\n"),
        ),
        (
            "http",
            seed(
                CheckProtocol::Http,
                b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            ),
        ),
        (
            "imap",
            seed(CheckProtocol::Imap, b"* OK ready\r\n* BYE out\r\na OK done\r\n"),
        ),
        ("pop3", seed(CheckProtocol::Pop3, b"+OK ready\r\n-ERR \x1b[2J\r\n")),
        ("redis", seed(CheckProtocol::Redis, b"-NOAUTH Authentication required.\r\n")),
        (
            "dns",
            seed(
                CheckProtocol::Dns,
                b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0\0\0\x02\0\x01\0\0\x02\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x0c",
            ),
        ),
        (
            "dns-tcp",
            seed(CheckProtocol::Dns, b"\0\x11\0\x07\x80\x05\0\x01\0\0\0\0\0\0\0\0\x02\0\x01"),
        ),
        ("nothing", seed(CheckProtocol::Connect, b"")),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Bytes that lines are made of come more often than others.
        #[test]
        fn whatever_a_server_says_is_borne(
            choice in any::<u8>(),
            pieces in any::<u8>(),
            parts in prop::collection::vec(
                prop_oneof![
                    Just(b"\r\n".to_vec()), Just(b"220 ".to_vec()), Just(b"250-".to_vec()), Just(b"* OK".to_vec()),
                    Just(b"+OK".to_vec()), Just(b"HTTP/1.1 200 ".to_vec()), Just(b"HTTP/1.1 100 ".to_vec()),
                    Just(b"SSH-2.0-".to_vec()), Just(b"\0\x07\x80\0\0\x01\xff\xff\0\0\0\0".to_vec()),
                    Just(b"\0\x20\0\x07\x80\0\0\0\0\x01\0\0\0\0\xc0".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..300),
                ],
                0..60,
            ),
        ) {
            answer(&[&[choice, pieces], parts.concat().as_slice()].concat());
        }
    }
}
