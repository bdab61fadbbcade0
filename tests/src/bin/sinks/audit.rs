//! What arrived at one output: which events, how often, under which numbers, and which gaps it tells.

use std::collections::HashSet;

use serde_json::Value;

/// What a line of ours begins with, up to its id.
const BEGIN: &[u8] = br#"{"schema":"portwatch.event/1","id":""#;
/// Characters of an id.
const ID: usize = 36;

/// One output.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Lines, with those that came again.
    pub(crate) lines: u64,
    /// Their events.
    pub(crate) ids: HashSet<u128>,
    /// Events that tell of a loss.
    pub(crate) gaps: u64,
    /// Events that they stand for.
    pub(crate) lost: u64,
    /// Places where a number is missing.
    pub(crate) holes: u64,
    /// Lines by number and id, to know those that come again.
    seen: HashSet<(u64, u128)>,
    last: u64,
}

impl Output {
    /// Takes whole lines.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        for line in bytes.split(|byte| *byte == b'\n') {
            self.line(line);
        }
    }

    /// Takes a line; one that is none of ours is a hole.
    pub(crate) fn line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let (Some(id), Some(seq)) = (id(line), seq(line)) else {
            // Cut off by the end of a receiver: it came again.
            return;
        };
        self.count(line, id);
        let is_new = self.seen.insert((seq, id));
        if seq == self.last + 1 || seq == 1 {
            // The next, or the first of another run.
            self.last = seq;
        } else if is_new {
            self.holes += 1;
            self.last = seq;
        }
    }

    /// Takes what a stream has on disk. Those that come again were known to it, so that numbers say nothing.
    pub(crate) fn stored(&mut self, bytes: &[u8]) {
        for at in places(bytes) {
            let line = &bytes[at..];
            if let Some(id) = id(line) {
                self.count(line, id);
            }
        }
    }

    fn count(&mut self, line: &[u8], id: u128) {
        self.lines += 1;
        let is_gap = find(&line[..line.len().min(200)], br#","type":"gap","#).is_some();
        if self.ids.insert(id) && is_gap {
            self.gaps += 1;
            let mut values = serde_json::Deserializer::from_slice(line).into_iter::<Value>();
            let value = values.next().and_then(Result::ok).unwrap_or_default();
            self.lost += value["gap"]["lost"].as_u64().unwrap_or(0);
        }
    }
}

/// The ids of all events in some bytes.
pub(crate) fn ids(bytes: &[u8]) -> Vec<u128> {
    places(bytes)
        .into_iter()
        .filter_map(|at| id(&bytes[at..]))
        .collect()
}

/// Where events begin.
fn places(bytes: &[u8]) -> Vec<usize> {
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&bytes[from..], BEGIN) {
        all.push(from + at);
        from += at + BEGIN.len();
    }
    all
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    let mut from = 0;
    // Few bytes are the first of the part.
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == part[0]) {
        if bytes[from + at..].starts_with(part) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn id(line: &[u8]) -> Option<u128> {
    let text = line.strip_prefix(BEGIN)?.get(..ID)?;
    let digits: String = str::from_utf8(text)
        .ok()?
        .chars()
        .filter(|c| *c != '-')
        .collect();
    u128::from_str_radix(&digits, 16).ok()
}

fn seq(line: &[u8]) -> Option<u64> {
    let rest = line.get(BEGIN.len() + ID..)?.strip_prefix(br#"","seq":"#)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    str::from_utf8(&rest[..end]).ok()?.parse().ok()
}
