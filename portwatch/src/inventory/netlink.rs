//! Just enough netlink to ask the kernel for its tables: requests, replies, attributes, all checked.
//!
//! A small codec of our own, because the published sock_diag crate knows neither packet sockets nor
//! MPTCP and brings a dependency tree that is no longer kept.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send,
    socket_with, sockopt,
};

const HEADER_LEN: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// The table changed while it was dumped.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Larger than any part of a dump that the kernel builds (32 KiB).
const BUFFER_LEN: usize = 64 * 1024;
/// The kernel answers at once; this only keeps a defect from hanging us.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A question's extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// The whole table.
    Dump,
    /// One object.
    One,
}

/// A socket that talks to the kernel alone.
pub(super) struct Netlink {
    fd: OwnedFd,
    seq: u32,
}

impl Netlink {
    /// Opens one in the calling thread's network namespace; no protocol is `NETLINK_ROUTE`.
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        // Connected to the kernel, nobody else can send to it.
        connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(TIMEOUT))?;
        Ok(Self { fd, seq: 0 })
    }

    /// Asks, and gives the payload of every answer of type `reply` to `each`. The result tells whether
    /// the table stood still meanwhile.
    ///
    /// # Errors
    /// The kernel's refusal (`NotFound` where it has no such table), or what the socket says.
    pub(super) fn ask(
        &mut self,
        extent: Ask,
        request: u16,
        payload: &[u8],
        reply: u16,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        self.seq = self.seq.wrapping_add(1);
        let flags = match extent {
            Ask::Dump => NLM_F_REQUEST | NLM_F_DUMP,
            Ask::One => NLM_F_REQUEST,
        };
        send(
            &self.fd,
            &message(request, flags, self.seq, payload),
            SendFlags::empty(),
        )?;
        let mut buffer = vec![0_u8; BUFFER_LEN];
        let mut stood_still = true;
        loop {
            // A socket with a timeout is interrupted by every signal.
            let (_, len) = retry_on_intr(|| recv(&self.fd, &mut buffer[..], RecvFlags::TRUNC))?;
            let part = buffer.get(..len).ok_or_else(|| {
                io::Error::other(format!("a netlink answer of {len} bytes is too long"))
            })?;
            for message in messages(part).filter(|message| message.seq == self.seq) {
                stood_still &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return refusal(message.payload).map_or(Ok(stood_still), Err);
                    }
                    kind if kind == reply => {
                        each(message.payload);
                        if extent == Ask::One {
                            return Ok(stood_still);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    pub(super) payload: &'a [u8],
}

/// An attribute's type (without its flag bits) and value.
pub(super) type Attribute<'a> = (u16, &'a [u8]);

/// The attributes behind a fixed part; they end where the first one does not fit.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    const FLAGS: u16 = 0xc000;
    std::iter::from_fn(move || {
        let len = usize::from(read_u16(bytes, 0)?);
        let kind = read_u16(bytes, 2)? & !FLAGS;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Builds one attribute, padded.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A number at an offset, in the host's byte order.
pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// A number at an offset, in the host's byte order.
pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

pub(super) fn message(kind: u16, flags: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER_LEN + payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&seq.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = usize::try_from(read_u32(bytes, 0)?).ok()?;
        let message = Message {
            kind: read_u16(bytes, 4)?,
            flags: read_u16(bytes, 6)?,
            seq: read_u32(bytes, 8)?,
            payload: bytes.get(HEADER_LEN..len)?,
        };
        let next = len.checked_next_multiple_of(4)?;
        bytes = bytes.get(next..).unwrap_or_default();
        Some(message)
    })
}

/// The errno that ends an answer, when it is not 0. A dump that ends without one has ended well.
pub(super) fn refusal(payload: &[u8]) -> Option<io::Error> {
    let errno = read_u32(payload, 0).unwrap_or_default().cast_signed();
    (errno != 0).then(|| io::Error::from_raw_os_error(errno.saturating_neg()))
}

#[cfg(test)]
mod tests {
    use super::{attribute, attributes, message, messages, refusal};
    use proptest::prelude::*;

    #[test]
    fn messages_and_attributes_read_back() {
        let payload = [attribute(3, b"lo\0"), attribute(0x8001, b"")].concat();
        let bytes = [message(20, 5, 7, &payload), message(3, 0, 7, &[0; 4])].concat();
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].seq), (20, 5, 7));
        let read: Vec<_> = attributes(read[0].payload).collect();
        assert_eq!(read, [(3, &b"lo\0"[..]), (1, &b""[..])]);
    }

    #[test]
    fn an_errno_is_a_refusal() {
        assert!(refusal(&0_i32.to_ne_bytes()).is_none());
        assert!(refusal(&[]).is_none());
        let error = refusal(&(-2_i32).to_ne_bytes()).expect("ENOENT");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_or_an_endless_walk(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
            let _ = refusal(&bytes);
        }
    }
}
