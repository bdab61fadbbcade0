//! A record of the buffer in bytes: found again behind whatever a crash or a bad disk left in between. Pure.
//!
//! ```text
//! mark 4 │ length 4 │ index 8 │ CRC-32 4 │ payload      numbers little-endian; the CRC is of length, index, payload
//! ```
//! Payloads are UTF-8, and the mark is not: no payload can look like the begin of a record. A record without a payload
//! says only which index comes next.

use crate::sink::MAX_LINE;

/// What a record begins with.
const MARK: [u8; 4] = [0xff, b'P', b'W', 0xfe];
/// Bytes before the payload.
pub(super) const HEADER: usize = 20;
/// Longest record.
pub(super) const MAX_FRAME: usize = HEADER + MAX_LINE;

/// What stands at the begin of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'b> {
    /// A record; it takes so many bytes.
    Record {
        index: u64,
        payload: &'b [u8],
        size: usize,
    },
    /// So many bytes are no record.
    Damage(usize),
    /// The begin of a record; the rest is not here. Never when there are [`MAX_FRAME`] bytes.
    Part,
}

/// Appends a record. A payload that is too long is none: the reader would not take it.
pub(super) fn append(index: u64, payload: &[u8], out: &mut Vec<u8>) {
    let length = (payload.len() as u32).to_le_bytes();
    let index = index.to_le_bytes();
    let crc = crc(&length, &index, payload).to_le_bytes();
    out.reserve(HEADER + payload.len());
    for part in [&MARK[..], &length, &index, &crc, payload] {
        out.extend_from_slice(part);
    }
}

/// Looks at the begin of `bytes`, which are not empty; nothing comes behind them when it is the `end`.
pub(super) fn first(bytes: &[u8], is_end: bool) -> Found<'_> {
    let damage = || Found::Damage(next_mark(bytes, is_end));
    let prefix = &bytes[..bytes.len().min(MARK.len())];
    if !MARK.starts_with(prefix) {
        return damage();
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return if is_end { damage() } else { Found::Part };
    };
    let number = |at: usize| {
        let bytes = header[at..].first_chunk().copied().unwrap_or_default();
        u32::from_le_bytes(bytes)
    };
    let length = number(4) as usize;
    let index = u64::from(number(8)) | u64::from(number(12)) << 32;
    if length > MAX_LINE {
        return damage();
    }
    let Some(payload) = rest.get(..length) else {
        return if is_end { damage() } else { Found::Part };
    };
    if crc(&header[4..8], &header[8..16], payload) != number(16) {
        return damage();
    }
    Found::Record {
        index,
        payload,
        size: HEADER + length,
    }
}

/// How far it is to the next place where a record may begin.
fn next_mark(bytes: &[u8], is_end: bool) -> usize {
    let mut windows = bytes.windows(MARK.len()).skip(1);
    if let Some(at) = windows.position(|window| window == MARK) {
        return at + 1;
    }
    // The last bytes may be the begin of a mark.
    let kept = if is_end { 0 } else { MARK.len() - 1 };
    bytes.len().saturating_sub(kept).max(1)
}

fn crc(length: &[u8], index: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [length, index, payload] {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Indices and payloads of all records, and how many bytes were none.
    fn all(mut bytes: &[u8], is_end: bool) -> (Vec<(u64, Vec<u8>)>, usize) {
        let (mut records, mut damage) = (Vec::new(), 0);
        while !bytes.is_empty() {
            match first(bytes, is_end) {
                Found::Record {
                    index,
                    payload,
                    size,
                } => {
                    records.push((index, payload.to_vec()));
                    bytes = &bytes[size..];
                }
                Found::Damage(size) => {
                    damage += size;
                    bytes = &bytes[size..];
                }
                Found::Part => break,
            }
        }
        (records, damage)
    }

    fn written(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, payload) in (7..).zip(payloads) {
            append(index, payload, &mut out);
        }
        out
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            payloads in proptest::collection::vec("\\PC{0,60}", 0..20),
        ) {
            let payloads: Vec<_> = payloads.into_iter().map(String::into_bytes).collect();
            let (records, damage) = all(&written(&payloads), true);
            prop_assert_eq!(damage, 0);
            let expected: Vec<_> = (7..).zip(payloads).collect();
            prop_assert_eq!(records, expected);
        }

        /// Bytes that are changed cost the records that they are in, and no other.
        #[test]
        fn damage_costs_no_other_record(
            payloads in proptest::collection::vec("[a-z]{0,40}", 1..12),
            at in any::<proptest::sample::Index>(),
            length in 1_usize..60,
            junk in any::<u8>(),
        ) {
            let payloads: Vec<_> = payloads.into_iter().map(String::into_bytes).collect();
            let mut bytes = written(&payloads);
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(junk);
            let (records, _) = all(&bytes, true);
            let mut place = 0;
            for (index, payload) in (7..).zip(payloads) {
                let next = place + HEADER + payload.len();
                let is_touched = at < next && place < end;
                let is_there = records.contains(&(index, payload));
                prop_assert!(is_there || is_touched);
                place = next;
            }
        }

        /// However the bytes come in pieces, the same is found.
        #[test]
        fn a_part_waits_for_the_rest(
            payloads in proptest::collection::vec("[a-z]{0,40}", 1..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let payloads: Vec<_> = payloads.into_iter().map(String::into_bytes).collect();
            let bytes = written(&payloads);
            let (records, damage) = all(&bytes[..cut.index(bytes.len())], false);
            prop_assert_eq!(damage, 0);
            let expected: Vec<_> = (7..).zip(payloads).take(records.len()).collect();
            prop_assert_eq!(records, expected);
        }
    }
}
