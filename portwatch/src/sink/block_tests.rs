//! Blocks against the lines that the daemon would have written itself.

use proptest::prelude::*;

use super::super::states_json::tests::{batch, transition};
use super::*;
use crate::sink::Numbering;

/// What a client makes of these bytes, as lines.
fn as_lines(mut bytes: &[u8]) -> Result<String, Malformed> {
    let mut reader = BlockReader::default();
    let (mut all, mut numbering) = (Vec::new(), Numbering::default());
    let line = |bytes: &mut &[u8]| {
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a line");
        let (line, rest) = bytes.split_at(end);
        *bytes = &rest[1..];
        String::from_utf8(line.to_vec()).expect("text")
    };
    while !bytes.is_empty() {
        let head = line(&mut bytes);
        if !head.starts_with(Head::START) {
            all.extend_from_slice(head.as_bytes());
            all.push(b'\n');
            continue;
        }
        let head = Head::parse(&head)?;
        let owners: Vec<String> = (0..head.owners).map(|_| line(&mut bytes)).collect();
        let (rows, rest) = bytes.split_at(head.rows_len());
        bytes = rest;
        let states = reader.read(head, owners.iter().map(String::as_str), rows)?;
        numbering.go_on_with(states.first_seq());
        for index in 0..states.count() {
            numbering.append_state(&states, index, &mut all);
        }
    }
    Ok(String::from_utf8(all).expect("text"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_block_says_what_the_lines_would_have_said(
        transitions in proptest::collection::vec(transition(), 1..6),
        again in proptest::collection::vec(0_usize..6, 0..40),
        unwanted in any::<u64>(),
        at in any::<u64>(),
    ) {
        let mut all = transitions.clone();
        all.extend(again.iter().filter_map(|index| transitions.get(*index)).cloned());
        let states = batch(all, at);
        let wanted = |index: usize| unwanted.rotate_right(index as u32) & 3 != 0;
        let (mut lines, mut blocks) = (Vec::new(), Vec::new());
        let mut numbering = Numbering::default();
        for index in (0..states.count()).filter(|index| wanted(*index)) {
            numbering.append_state(&states, index, &mut lines);
        }
        let count = Numbering::default().append_blocks(&states, wanted, &mut blocks);
        prop_assert_eq!(count, lines.iter().filter(|byte| **byte == b'\n').count() as u64);
        let lines = String::from_utf8(lines).expect("text");
        prop_assert_eq!(as_lines(&blocks), Ok(lines));
    }

    #[test]
    fn no_row_makes_it_panic(rows in proptest::collection::vec(any::<u8>(), ROW..4 * ROW)) {
        let mut blocks = Vec::new();
        let states = batch(vec![one()], 1);
        Numbering::default().append_blocks(&states, |_| true, &mut blocks);
        let text = String::from_utf8_lossy(&blocks);
        let head = Head::parse(text.lines().next().expect("a head")).expect("ours");
        let _ = BlockReader::default().read(head, std::iter::empty(), &rows);
    }
}

fn one() -> Transition {
    let crate::sink::Item::States(states) = crate::sink::testing::states(1, 1) else {
        unreachable!("states were asked for")
    };
    states.transitions[0].clone()
}

#[test]
fn owners_are_sent_once_and_long_ones_as_lines() {
    let owner = |length: usize| {
        Some(Arc::new(ConnectionOwner::new(Process {
            pid: 7,
            args: Some(vec!["x".repeat(length)]),
            ..Process::default()
        })))
    };
    let of = |owner: &Option<Arc<ConnectionOwner>>| Transition {
        owner: owner.clone(),
        ..one()
    };
    let (short, long) = (owner(3), owner(40_000));
    let states = batch([&short, &short, &long, &short].map(of).to_vec(), 1);
    let mut out = Vec::new();
    let count = Numbering::default().append_blocks(&states, |_| true, &mut out);
    assert_eq!(count, 4);
    let text = String::from_utf8_lossy(&out);
    assert_eq!(
        text.matches(Head::START).count(),
        2,
        "one on each side of the line"
    );
    assert!(out.len() < 50_000);

    // Many owners of some length do not fit into one head's worth.
    let many: Vec<Transition> = (0..20).map(|_| of(&owner(20_000))).collect();
    let mut out = Vec::new();
    let states = batch(many, 1);
    Numbering::default().append_blocks(&states, |_| true, &mut out);
    let lines = as_lines(&out).expect("blocks");
    assert_eq!(lines.lines().count(), 20);
    assert_eq!(
        String::from_utf8_lossy(&out).matches(Head::START).count(),
        4
    );
}

#[test]
fn what_does_not_fit_its_head_is_refused() {
    let mut out = Vec::new();
    let states = batch(vec![one()], 1);
    Numbering::default().append_blocks(&states, |_| true, &mut out);
    let end = out.iter().position(|byte| *byte == b'\n').expect("a head");
    let head = std::str::from_utf8(&out[..end]).expect("text");
    let parsed = Head::parse(head).expect("ours");
    let mut reader = BlockReader::default();
    let rows = &out[end + 1..];
    assert!(
        reader
            .read(parsed.clone(), std::iter::empty(), rows)
            .is_ok()
    );
    assert!(
        reader
            .read(parsed.clone(), std::iter::empty(), &[])
            .is_err()
    );
    assert!(
        reader
            .read(parsed.clone(), ["{"].into_iter(), rows)
            .is_err()
    );
    for promise in [r#""states":0,"#, r#""states":513,"#] {
        let lie = head.replace(r#""states":1,"#, promise);
        assert_ne!(lie, head);
        assert!(Head::parse(&lie).is_err(), "{lie}");
    }
}
