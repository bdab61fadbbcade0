//! Each output counts its own lines: 1, 2, 3 … in the order it writes them, whatever filters, kinds or a
//! slow reader kept from it. `id` is what one event has in common in all of them.

use std::io::Write as _;

use super::block::Block;
use super::states_json::StateWriter;
use crate::event::{Event, SCHEMA};
use crate::sink::{Line, States, encode_line};

/// The counter of one output. A fresh one begins at 1.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    last: u64,
    writer: StateWriter,
}

impl Numbering {
    /// What the number may add to a line's [`Line::json`], in bytes: at most 20 digits in place of at
    /// least one.
    pub const GROWTH: usize = 19;

    /// Appends the line's JSON, newline included, with the next number as its `seq`; at most
    /// [`crate::sink::MAX_LINE`] bytes. The shared JSON is copied, not made anew.
    pub fn append(&mut self, line: &Line, out: &mut Vec<u8>) {
        let Some((head, tail)) = around_seq(line.json()) else {
            out.extend(encode_line(&self.event(line)));
            return;
        };
        self.last += 1;
        out.extend_from_slice(head);
        // Writing to memory does not fail.
        let _ = write!(out, "{}", self.last);
        out.extend_from_slice(tail);
    }

    /// The same for a line of JSON that another output has numbered; one that is no event's is appended as it is.
    pub fn append_json(&mut self, json: &[u8], out: &mut Vec<u8>) {
        let Some((head, tail)) = around_seq(json) else {
            out.extend_from_slice(json);
            return;
        };
        self.last += 1;
        out.extend_from_slice(head);
        // Writing to memory does not fail.
        let _ = write!(out, "{}", self.last);
        out.extend_from_slice(tail);
    }

    /// Appends the JSON of one state change of a batch, newline included, with the next number as its
    /// `seq`; nothing beyond the last.
    pub fn append_state(&mut self, states: &States, index: usize, out: &mut Vec<u8>) {
        if index < states.count() {
            self.last += 1;
            self.writer.append(states, index, self.last, out);
        }
    }

    /// Appends those state changes of a batch that are wanted, with the next numbers, as blocks for our own
    /// client; what a block cannot hold goes as a line. Tells how many there were.
    pub fn append_blocks(
        &mut self,
        states: &States,
        wanted: impl Fn(usize) -> bool,
        out: &mut Vec<u8>,
    ) -> u64 {
        let before = self.last;
        let mut block = Block::default();
        for (index, transition) in states.transitions.iter().enumerate() {
            if !wanted(index) || block.add(transition) {
                continue;
            }
            self.finish(std::mem::take(&mut block), states, out);
            if !block.add(transition) {
                self.append_state(states, index, out);
            }
        }
        self.finish(block, states, out);
        self.last - before
    }

    fn finish(&mut self, block: Block<'_>, states: &States, out: &mut Vec<u8>) {
        let count = u64::from(block.count());
        block.finish(&states.occasion, self.last + 1, out);
        self.last += count;
    }

    /// The number that was given last; 0 before the first.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Goes on with this number: somebody else has counted.
    pub const fn go_on_with(&mut self, seq: u64) {
        self.last = seq.saturating_sub(1);
    }

    /// One state change of a batch with the next number as its `seq`, for outputs that are not JSON.
    pub fn state_event(&mut self, states: &States, index: usize) -> Option<Event> {
        let event = states.event(index)?;
        self.last += 1;
        Some(Event {
            seq: self.last,
            ..event
        })
    }

    /// A copy of the line's event with the next number as its `seq`, for outputs that are not JSON.
    #[must_use]
    pub fn event(&mut self, line: &Line) -> Event {
        self.numbered(Event::clone(line.event()))
    }

    /// An event that another output has numbered, with the next number of this one.
    #[must_use]
    pub fn numbered(&mut self, mut event: Event) -> Event {
        self.last += 1;
        event.seq = self.last;
        event
    }
}

/// What stands before and after the digits of `seq`, where the JSON begins as [`Event`] orders its
/// fields: `{"schema":"portwatch.event/1","id":"…","seq":1042,`. `None` for anything else.
fn around_seq(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let id = json
        .strip_prefix(br#"{"schema":""#)?
        .strip_prefix(SCHEMA.as_bytes())?
        .strip_prefix(br#"","id":""#)?;
    // An escaped quote inside the id is never followed by this: its quotes would be escaped too.
    let end = id.iter().position(|byte| *byte == b'"')?;
    let number = id[end..].strip_prefix(br#"","seq":"#)?;
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit());
    let tail = &number[digits.count()..];
    let is_number = tail.len() < number.len() && tail.starts_with(b",");
    is_number.then(|| (&json[..json.len() - number.len()], tail))
}

#[cfg(test)]
#[path = "numbering_tests.rs"]
mod tests;
