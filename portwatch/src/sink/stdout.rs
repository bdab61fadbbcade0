//! The sink that writes to standard output of the daemon, for whoever started it to read.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::intake::Place;

/// How long a reader that does not read is waited for.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Standard output. A reader that does not read holds nobody up but this.
///
/// Whoever started the daemon may have made it a pipe that does not block: then a part of the lines may be out when there
/// is no more room, and must not be written again.
#[derive(Debug)]
pub struct Stdout {
    out: File,
    /// Bytes of the lines that are out already.
    done: usize,
    /// The last byte of them is not the end of a line …
    is_within: bool,
    /// … and its rest never comes.
    is_torn: bool,
}

impl Stdout {
    /// Takes it, without a buffer.
    ///
    /// # Errors
    /// When it is closed.
    pub fn open() -> io::Result<Self> {
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self::on(out.into()))
    }

    const fn on(out: File) -> Self {
        Self {
            out,
            done: 0,
            is_within: false,
            is_torn: false,
        }
    }

    /// As `write`; waits a while where there is no room.
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&self.out, PollFlags::OUT)];
                    if poll(&mut fds, Some(&PATIENCE))? == 0 {
                        return Err(error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Place for Stdout {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.put(b"\n")?;
            self.is_torn = false;
        }
        while let Some(rest) = lines.get(self.done..).filter(|rest| !rest.is_empty()) {
            let put = self.put(rest)?;
            self.is_within = rest.get(..put).is_some_and(|out| !out.ends_with(b"\n"));
            self.done += put;
        }
        self.done = 0;
        Ok(())
    }

    fn give_up(&mut self) {
        self.is_torn = self.is_within;
        self.done = 0;
    }

    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn pipe() -> (File, Stdout) {
        let (reads, writes): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::NONBLOCK).expect("a pipe");
        (reads.into(), Stdout::on(writes.into()))
    }

    fn read(from: &mut File) -> Vec<u8> {
        let mut all = Vec::new();
        // It ends where there is nothing more for now.
        let _ = from.read_to_end(&mut all);
        all
    }

    fn lines(count: usize) -> Vec<u8> {
        let line = |n: usize| format!("{n:0999}\n");
        (0..count).map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn a_pipe_that_is_full_gets_the_rest_and_nothing_twice() {
        let (mut reads, mut stdout) = pipe();
        let lines = lines(200);
        let mut got = Vec::new();
        let mut failures = 0;
        while stdout.write(&lines).is_err() {
            failures += 1;
            assert!(failures < 10, "it never ends");
            got.extend(read(&mut reads));
        }
        got.extend(read(&mut reads));
        assert!(failures > 0, "there was room for all of it");
        assert!(got == lines, "{} bytes of {}", got.len(), lines.len());
        stdout.write(b"next\n").expect("written");
        assert_eq!(read(&mut reads), b"next\n");
    }

    #[test]
    fn a_line_whose_rest_never_comes_spoils_no_other() {
        let (mut reads, mut stdout) = pipe();
        stdout.write(&lines(200)).expect_err("full");
        stdout.give_up();
        let begin = read(&mut reads);
        assert_eq!(begin.last(), Some(&b'0'), "it ends within a line");
        stdout.write(b"next\n").expect("written");
        assert_eq!(read(&mut reads), b"\nnext\n");
    }
}
