//! Any bytes as a Kafka broker: bounded, plain, and the same in whatever pieces they come.

use super::error;
use super::login::{Login, Mechanism, Proof};
use super::partition;
use super::wire::{Heard, Reader};
use crate::fuzzing::assert_plain;

/// Longest text that may be shown of it.
const SHOWN: usize = 300;

/// The property of the target `kafka`: the first byte chooses the pieces.
pub fn kafka(bytes: &[u8]) {
    let [pieces, said @ ..] = bytes else {
        return;
    };
    let whole = listen(said, said.len().max(1));
    assert_eq!(
        whole,
        listen(said, usize::from(*pieces).max(1)),
        "in pieces of {pieces}"
    );
    for (_, answer) in &whole.0 {
        read(answer);
    }
}

/// The answers, and whether it broke off.
type Listened = (Vec<(i32, Vec<u8>)>, Option<&'static str>);

fn listen(said: &[u8], piece: usize) -> Listened {
    let (mut heard, mut all) = (Heard::default(), Vec::new());
    for chunk in said.chunks(piece) {
        heard.push(chunk);
        loop {
            match heard.next() {
                Ok(Some(answer)) => all.push(answer),
                Ok(None) => break,
                Err(why) => return (all, Some(why)),
            }
        }
    }
    (all, None)
}

/// As an answer to every question in every version.
fn read(answer: &[u8]) {
    let _ = Reader::new(answer).versions();
    for version in 2..=7 {
        if let Ok(metadata) = Reader::new(answer).metadata(version) {
            // No item is made out of nothing.
            assert!(metadata.brokers.len() + metadata.partitions.len() <= answer.len());
            match partition::place(&metadata, b"host") {
                Ok(place) => assert_short(&place.host),
                Err(why) => assert_short(&why),
            }
        }
    }
    let _ = Reader::new(answer).producer();
    for version in 3..=8 {
        if let Ok(produced) = Reader::new(answer).produced(version, 0) {
            assert_short(&error::told(produced.error, produced.words.as_deref()));
        }
    }
    if let Ok((_, names)) = Reader::new(answer).mechanisms() {
        names.iter().for_each(|name| assert_short(name));
    }
    if let Ok((_, words, said)) = Reader::new(answer).authenticated() {
        assert_short(&words);
        prove(said);
    }
}

/// As its part of a login; what asks for much work is left out.
fn prove(said: &[u8]) {
    let login = Login {
        mechanism: Mechanism::Sha256,
        user: "user".to_owned(),
        password: "pencil".to_owned(),
    };
    let Some(proof) = Proof::new(&login, "r".to_owned()) else {
        return;
    };
    if said.ends_with(b"i=4096")
        && let Ok((answer, expected)) = proof.answer(said)
    {
        assert!(!answer.contains("pencil"));
        assert!(!expected.is(said));
    }
}

fn assert_short(text: &str) {
    assert_plain(text);
    assert!(text.chars().count() < SHOWN, "{text}");
}

/// An answer with its length and number.
#[cfg(test)]
pub(super) fn framed(number: i32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&length.to_be_bytes(), &number.to_be_bytes(), body].concat()
}

/// Answers as they should be, and some that are not.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use super::tests::broker;
    let seed = |said: &[u8]| [b"\x07", said].concat();
    let login = b"\0\0\xff\xff\0\0\0\x19r=rxyz,s=c2FsdA==,i=4096 ";
    vec![
        ("versions", seed(&framed(0, &broker::versions(false)))),
        (
            "metadata",
            seed(&framed(
                1,
                &broker::metadata(7, "kafka1.example.org", 9093, 0),
            )),
        ),
        ("taken", seed(&framed(2, &broker::produced(8, 0, None)))),
        (
            "refused",
            seed(&framed(3, &broker::produced(8, 87, Some("no\x1b[2J")))),
        ),
        (
            "producer",
            seed(&framed(4, b"\0\0\0\0\0\0\0\0\0\0\0\0\x03\xe8\0\x01")),
        ),
        ("login", seed(&framed(5, &login[..login.len() - 1]))),
        ("length", seed(b"\x7f\xff\xff\xff\0\0\0\0")),
        ("count", seed(&framed(6, b"\0\0\x7f\xff\xff\xff\0\0"))),
    ]
}
