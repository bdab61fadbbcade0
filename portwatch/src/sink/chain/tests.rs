use std::sync::LazyLock;

use proptest::prelude::*;

use super::{Chain, Fault, GROWTH, Head, Link, Verifier};
use crate::event::example::{examples, variants};
use crate::render::Format;

/// The pinned events as sealed lines, and the head.
fn sealed(format: Format) -> (Vec<Vec<u8>>, Head) {
    static SEALED: LazyLock<Vec<(Vec<Vec<u8>>, Head)>> =
        LazyLock::new(|| Format::ALL.map(seal).to_vec());
    let at = Format::ALL.iter().position(|known| *known == format);
    SEALED[at.expect("one of all")].clone()
}

fn seal(format: Format) -> (Vec<Vec<u8>>, Head) {
    let mut chain = Chain::default();
    let lines = [examples(), variants()]
        .concat()
        .iter()
        .map(|event| {
            let mut line = format.line(event);
            let before = line.len();
            chain.seal(&mut line, 0, format);
            assert!(line.len() > before && line.len() <= before + GROWTH);
            line
        })
        .collect();
    (lines, chain.head())
}

fn verify(text: &[u8], head: Head) -> Result<Head, Fault> {
    let mut verifier = Verifier::from(1, Some(head));
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        // A file ends with a newline; what does not was cut off.
        verifier.push(line.strip_suffix(b"\n").unwrap_or(b""))?;
    }
    verifier.finish()
}

fn formats() -> impl Strategy<Value = Format> {
    proptest::sample::select(Format::ALL.to_vec())
}

#[test]
fn what_was_sealed_holds_in_every_format() {
    for format in Format::ALL {
        let (lines, head) = sealed(format);
        assert_eq!(verify(&lines.concat(), head), Ok(head));
        assert_eq!(head.to_string().parse(), Ok(head));
    }
}

#[test]
fn a_sealed_line_is_still_json() {
    for (format, pointer) in [
        (Format::Json, "/chain"),
        (Format::Ecs, "/portwatch/chain"),
        (Format::Ocsf, "/unmapped/chain"),
    ] {
        for (line, number) in sealed(format).0.iter().zip(1_u64..) {
            let value: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            let chain = value.pointer(pointer).expect(pointer);
            assert_eq!(chain["number"], number);
        }
    }
}

#[test]
fn a_chain_goes_on_where_it_ended() {
    let (lines, _) = sealed(Format::Json);
    let last = lines[4].strip_suffix(b"\n").expect("a line");
    let link = Link::read(last).expect("a link");
    let mut chain = Chain::after(Head {
        number: link.number,
        hash: link.claimed,
    });
    let mut line = Format::Json.line(&examples()[5]);
    chain.seal(&mut line, 0, Format::Json);
    assert_eq!(line, lines[5]);
}

#[test]
fn what_is_wrong_is_named() {
    let (lines, head) = sealed(Format::Ecs);
    let without = |gone: std::ops::Range<usize>| {
        let mut lines = lines.clone();
        lines.drain(gone);
        verify(&lines.concat(), head)
    };
    assert_eq!(without(0..1), Err(Fault::Missing { from: 1, to: 2 }));
    assert_eq!(without(3..6), Err(Fault::Missing { from: 4, to: 7 }));
    let count = lines.len() as u64;
    let cut = Fault::Cut {
        from: count,
        to: count,
    };
    assert_eq!(without(lines.len() - 1..lines.len()), Err(cut));
    let mut twice = lines.clone();
    twice.insert(3, lines[2].clone());
    let again = Fault::Reordered {
        number: 3,
        expected: 4,
    };
    assert_eq!(verify(&twice.concat(), head), Err(again));
    assert_eq!(
        again.to_string(),
        "record 3 is out of order: 4 should stand here"
    );
    // Written anew from the third on, each record whole in itself.
    let mut chain = Chain::default();
    let mut anew = Vec::new();
    for event in examples().iter().skip(1) {
        let mut line = Format::Ecs.line(event);
        chain.seal(&mut line, 0, Format::Ecs);
        anew.push(line);
    }
    let mixed = [&lines[..2], &anew[2..]].concat();
    assert_eq!(
        verify(&mixed.concat(), head),
        Err(Fault::Replaced { number: 3 })
    );
    let early = Head {
        number: 2,
        hash: head.hash,
    };
    let other = Fault::OtherHead { number: 2 };
    assert_eq!(verify(&lines.concat(), early), Err(other));
    let mut later = Verifier::from(4, None);
    let line = lines[3].strip_suffix(b"\n").expect("a line");
    assert_eq!(later.push(line), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn each_changed_byte_is_found(format in formats(), at: prop::sample::Index, byte: u8) {
        let (lines, head) = sealed(format);
        let mut text = lines.concat();
        let at = at.index(text.len());
        prop_assume!(text[at] != byte);
        text[at] = byte;
        let first = lines.iter().scan(0, |end, line| { *end += line.len(); Some(*end) })
            .position(|end| at < end).expect("a line") as u64 + 1;
        match verify(&text, head).expect_err("found") {
            Fault::Altered { .. } => {}
            Fault::Unlinked { number } => prop_assert_eq!(number, first),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn each_deleted_record_is_found(format in formats(), at: prop::sample::Index) {
        let (mut lines, head) = sealed(format);
        let at = at.index(lines.len());
        lines.remove(at);
        let missing = at as u64 + 1;
        let expected = if at == lines.len() {
            Fault::Cut { from: missing, to: missing }
        } else {
            Fault::Missing { from: missing, to: missing + 1 }
        };
        prop_assert_eq!(verify(&lines.concat(), head), Err(expected));
    }

    #[test]
    fn each_swap_is_found(format in formats(), a: prop::sample::Index, b: prop::sample::Index) {
        let (mut lines, head) = sealed(format);
        let (a, b) = (a.index(lines.len()), b.index(lines.len()));
        prop_assume!(a != b);
        lines.swap(a, b);
        let (first, later) = (a.min(b) as u64 + 1, a.max(b) as u64 + 1);
        let fault = Fault::Missing { from: first, to: later };
        prop_assert_eq!(verify(&lines.concat(), head), Err(fault));
    }

    #[test]
    fn each_deleted_byte_is_found(format in formats(), at: prop::sample::Index) {
        let (lines, head) = sealed(format);
        let mut text = lines.concat();
        text.remove(at.index(text.len()));
        prop_assert!(verify(&text, head).is_err());
    }

    #[test]
    fn any_bytes_are_no_panic(bytes: Vec<u8>) {
        let _ = Link::read(&bytes);
        let _ = verify(&bytes, Head::default());
        for format in Format::ALL {
            Chain::default().seal(&mut bytes.clone(), 0, format);
        }
    }
}
