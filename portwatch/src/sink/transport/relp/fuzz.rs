//! Any bytes as a receiver of RELP: bounded, plain, and the same in whatever pieces they come.

use super::frame::{Frame, Heard};
use crate::fuzzing::assert_plain;
use crate::sink::transport::fuzz::{Hears, heard};

impl Hears for Heard {
    type Said = Frame;

    fn take(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    fn hand_on(&mut self) -> Result<Option<Frame>, &'static str> {
        self.next()
    }
}

/// The property of the target `relp`: the first byte chooses the pieces.
pub fn relp(bytes: &[u8]) {
    for frame in heard::<Heard>(bytes) {
        let told = frame.told();
        assert_plain(&told);
        assert!(told.chars().count() <= 200, "{told}");
    }
}

/// A session as it should be, and frames that are not.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seed = |said: &[u8]| [b"\x05", said].concat();
    vec![
        (
            "session",
            seed(b"1 rsp 30 200 OK\nrelp_version=0\ncommands\n2 rsp 6 200 OK\n3 rsp 0\n0 serverclose 0\n"),
        ),
        ("refused", seed(b"1 rsp 12 500 no\x1b[2J no\n")),
        ("length", seed(b"1 rsp 99999999999999999999 x\n")),
    ]
}
