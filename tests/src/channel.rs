//! A line at a time over a unix stream, with descriptors riding along: how harness and actor talk.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Longest line either side accepts; a thousand inodes fit.
const LINE_MAX: usize = 64 * 1024;

/// One end.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    pending: Vec<u8>,
    arrived: VecDeque<OwnedFd>,
}

impl Channel {
    /// Talks over this stream.
    #[must_use]
    pub const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
            arrived: VecDeque::new(),
        }
    }

    /// Gives up with an error when the other side is silent for this long.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set_patience(&self, patience: Duration) -> Result<()> {
        self.stream
            .set_read_timeout(Some(patience))
            .context("cannot set a read timeout")
    }

    /// Sends one line, and a descriptor with it.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn send(&self, line: &str, passenger: Option<BorrowedFd<'_>>) -> Result<()> {
        let bytes = [line.as_bytes(), b"\n"].concat();
        let passengers: Vec<BorrowedFd<'_>> = passenger.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !passengers.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&passengers)) {
            bail!("no room for a descriptor");
        }
        let first = sendmsg(
            &self.stream,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .context("the other side is gone")?;
        let rest = bytes.get(first..).unwrap_or_default();
        std::io::Write::write_all(&mut &self.stream, rest).context("the other side is gone")
    }

    /// The next line; `None` when the other side has closed.
    ///
    /// # Errors
    /// Silence beyond the patience set, a line that is too long or no UTF-8.
    pub fn receive(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let rest = self.pending.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                return Ok(Some(
                    String::from_utf8(line).context("a line that is no UTF-8")?,
                ));
            }
            if self.pending.len() > LINE_MAX {
                bail!("a line longer than {LINE_MAX} bytes");
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// The oldest descriptor that came with a line and was not taken yet.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.arrived.pop_front()
    }

    /// The stream itself, for a process that is to inherit it.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    fn fill(&mut self) -> Result<usize> {
        let mut chunk = [0u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            match recvmsg(
                &self.stream,
                &mut [IoSliceMut::new(&mut chunk)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(0),
                other => break other.context("no answer from the other side")?.bytes,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.arrived.extend(descriptors);
            }
        }
        self.pending.extend(chunk.get(..got).unwrap_or_default());
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::Channel;

    #[test]
    fn lines_and_descriptors_arrive_in_order() {
        let (left, right) = UnixStream::pair().expect("pair");
        let (left, mut right) = (Channel::new(left), Channel::new(right));
        let (mut inside, outside) = UnixStream::pair().expect("pair");
        left.send("one", None).expect("send");
        left.send("two", Some(std::os::fd::AsFd::as_fd(&outside)))
            .expect("send");
        assert_eq!(right.receive().expect("line").as_deref(), Some("one"));
        assert_eq!(right.receive().expect("line").as_deref(), Some("two"));
        let mut travelled = UnixStream::from(right.take_descriptor().expect("descriptor"));
        travelled.write_all(b"x").expect("write");
        let mut byte = [0];
        inside.read_exact(&mut byte).expect("read");
        assert_eq!(byte, *b"x");
        drop(left);
        assert_eq!(right.receive().expect("end"), None);
    }
}
