//! The self-test's listener: opened at start, to be seen by the very path that everything else takes.

use std::net::TcpListener;

use rustix::fs::fstat;

/// A listener on the loopback interface that nobody is told of.
#[derive(Debug)]
pub(super) struct SelfTest {
    listener: Option<TcpListener>,
    inode: u64,
    opened: bool,
    closed: bool,
}

impl SelfTest {
    /// Opens it.
    pub(super) fn begin() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let inode = fstat(&listener)?.st_ino;
        Ok(Self {
            listener: Some(listener),
            inode,
            opened: false,
            closed: false,
        })
    }

    /// Closes it.
    pub(super) fn close(&mut self) {
        self.listener = None;
    }

    /// Is this record about the self-test's own socket? Then it is not for anybody else.
    pub(super) fn takes(&mut self, inode: Option<u64>, opens: bool) -> bool {
        if inode != Some(self.inode) {
            return false;
        }
        if opens {
            self.opened = true;
        } else {
            self.closed = true;
        }
        true
    }

    /// It was seen opening.
    pub(super) const fn saw_opening(&self) -> bool {
        self.opened
    }

    /// It was seen closing.
    pub(super) const fn saw_closing(&self) -> bool {
        self.closed
    }
}
