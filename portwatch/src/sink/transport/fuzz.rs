//! Any bytes as what a peer says: in whatever pieces they come, the same is understood.

use std::fmt::Debug;

/// Takes bytes as they come, and hands on what is whole.
pub(super) trait Hears: Default {
    /// What a peer says.
    type Said: Debug + PartialEq;

    fn take(&mut self, bytes: &[u8]);

    /// The next one; nothing when it is not all there.
    fn hand_on(&mut self) -> Result<Option<Self::Said>, &'static str>;
}

/// What is understood of the bytes. The first one chooses the pieces.
pub(super) fn heard<H: Hears>(bytes: &[u8]) -> Vec<H::Said> {
    let [pieces, said @ ..] = bytes else {
        return Vec::new();
    };
    let whole = listen::<H>(said, said.len().max(1));
    assert_eq!(
        whole,
        listen::<H>(said, usize::from(*pieces).max(1)),
        "in pieces of {pieces}"
    );
    whole.0
}

/// What was understood, and whether it broke off.
fn listen<H: Hears>(said: &[u8], piece: usize) -> (Vec<H::Said>, Option<&'static str>) {
    let (mut heard, mut all) = (H::default(), Vec::new());
    for chunk in said.chunks(piece) {
        heard.take(chunk);
        loop {
            match heard.hand_on() {
                Ok(Some(said)) => all.push(said),
                Ok(None) => break,
                Err(why) => return (all, Some(why)),
            }
        }
    }
    (all, None)
}
