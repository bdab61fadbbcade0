//! Any bytes as a receiver of RELP: bounded, plain, and the same in whatever pieces they come.

use super::frame::{Frame, Heard};
use crate::fuzzing::assert_plain;

/// The property of the target `relp`: the first byte chooses the pieces.
pub fn relp(bytes: &[u8]) {
    let [pieces, said @ ..] = bytes else {
        return;
    };
    let whole = listen(said, said.len().max(1));
    assert_eq!(
        whole,
        listen(said, usize::from(*pieces).max(1)),
        "in pieces of {pieces}"
    );
}

fn listen(said: &[u8], piece: usize) -> (Vec<Frame>, Option<&'static str>) {
    let (mut heard, mut all) = (Heard::default(), Vec::new());
    for chunk in said.chunks(piece) {
        heard.push(chunk);
        loop {
            match heard.next() {
                Ok(Some(frame)) => all.push(frame),
                Ok(None) => break,
                Err(why) => return (all, Some(why)),
            }
        }
    }
    for frame in &all {
        let told = frame.told();
        assert_plain(&told);
        assert!(told.chars().count() <= 200, "{told}");
    }
    (all, None)
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
