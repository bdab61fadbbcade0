//! Any bytes as a file of a buffer: every one is looked at, and what comes behind them is found.

use super::frame::{Found, HEADER, append, first};
use crate::sink::Head;

/// The property of the target `buffer`.
pub fn buffer(bytes: &[u8]) {
    let (records, left) = all(bytes, true);
    assert_eq!(left, 0, "not everything was looked at");
    for (index, payload) in &records {
        let mut written = Vec::new();
        append(*index, payload, &mut written);
        assert_eq!(written.len(), HEADER + payload.len());
        assert!(contains(bytes, &written), "a record that is not there");
    }
    // What waits for its rest is no other than what is found at the end.
    let (begin, _) = all(bytes, false);
    assert!(records.starts_with(&begin));
    // Whatever is torn or damaged, the next record is found.
    let mut longer = bytes.to_vec();
    append(u64::MAX, b"{}", &mut longer);
    let (records, _) = all(&longer, true);
    assert_eq!(records.last(), Some(&(u64::MAX, b"{}".to_vec())));
    // What is in a record is read without trust as well.
    let _ = Head::read(bytes);
}

/// Indices and payloads of all records, and how many bytes were not looked at.
fn all(mut bytes: &[u8], is_end: bool) -> (Vec<(u64, Vec<u8>)>, usize) {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let size = match first(bytes, is_end) {
            Found::Record {
                index,
                payload,
                size,
            } => {
                records.push((index, payload.to_vec()));
                size
            }
            Found::Damage(size) => size,
            Found::Part => break,
        };
        assert!((1..=bytes.len()).contains(&size), "{size} bytes");
        bytes = &bytes[size..];
    }
    (records, bytes.len())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Inputs by hand.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut whole = Vec::new();
    for (index, event) in (7..).zip(crate::event::example::examples().iter().take(2)) {
        append(index, &crate::sink::encode_line(event), &mut whole);
    }
    append(12, b"", &mut whole);
    let mut damaged = whole.clone();
    damaged[30] ^= 1;
    let torn = whole[..whole.len() - 25].to_vec();
    let mut twice = torn.clone();
    twice.extend_from_slice(&whole[..300]);
    vec![
        ("damaged", damaged),
        ("torn", torn),
        ("twice", twice),
        ("whole", whole),
    ]
}
