//! What arrived at one output: which events, how often, under which numbers, and which gaps it tells.

use std::collections::{HashMap, HashSet};

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
    /// Places where a number is missing; nothing where the numbers say nothing.
    pub(crate) holes: Option<u64>,
    /// Events in the order in which they came first, each with the run of the daemon that told it.
    order: Vec<(u128, u32)>,
    /// Openings and closings of listeners at the address that was asked for, by run.
    made: Vec<u64>,
    /// Gaps of this output alone: no other one has them.
    own: HashSet<u128>,
    /// Lines by number and id, to know those that come again.
    seen: HashSet<(u64, u128)>,
    last: u64,
    run: u32,
}

/// What became of events that one output has and another one has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The last ones before the daemon was killed: they were in its memory.
    pub(crate) in_memory: u64,
    /// Later ones of the same run are there: a gap has to tell of them.
    pub(crate) on_the_way: u64,
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
        if seq == 1 {
            self.run += 1;
        }
        self.count(line, id);
        let is_new = self.seen.insert((seq, id));
        let holes = self.holes.get_or_insert(0);
        if seq == self.last + 1 || seq == 1 {
            // The next, or the first of another run.
            self.last = seq;
        } else if is_new {
            *holes += 1;
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

    /// What `other` has not of what is here, where runs of the daemon are those of `file`.
    pub(crate) fn missing_in(&self, other: &Self, file: &Self) -> Missing {
        let runs: HashMap<u128, u32> = file.order.iter().copied().collect();
        let (mut missing, mut waiting, mut last) = (Missing::default(), 0, 0);
        for (id, _) in &self.order {
            let run = runs.get(id).copied();
            if !other.ids.contains(id) {
                if self.own.contains(id) {
                    continue;
                }
                if let Some(run) = run.filter(|run| *run != last) {
                    missing.in_memory += std::mem::take(&mut waiting);
                    last = run;
                }
                waiting += 1;
            } else if let Some(run) = run {
                let waited = std::mem::take(&mut waiting);
                match run == last {
                    true => missing.on_the_way += waited,
                    false => missing.in_memory += waited,
                }
                last = run;
            }
        }
        missing.in_memory += waiting;
        missing
    }

    /// Openings and closings of the listeners that were made, in all runs and in the last one.
    pub(crate) fn made(&self) -> (u64, u64) {
        let last = self.made.get(self.run as usize).copied();
        (self.made.iter().sum(), last.unwrap_or(0))
    }

    fn count(&mut self, line: &[u8], id: u128) {
        self.lines += 1;
        if !self.ids.insert(id) {
            return;
        }
        self.order.push((id, self.run));
        if find(line, br#""address":"127.93.0.1""#).is_some() {
            let run = self.run as usize;
            self.made.resize(self.made.len().max(run + 1), 0);
            self.made[run] += 1;
        }
        if find(&line[..line.len().min(200)], br#","type":"gap","#).is_none() {
            return;
        }
        self.gaps += 1;
        let mut values = serde_json::Deserializer::from_slice(line).into_iter::<Value>();
        let value = values.next().and_then(Result::ok).unwrap_or_default();
        self.lost += value["gap"]["lost"].as_u64().unwrap_or(0);
        if ["sink", "client"]
            .map(Value::from)
            .contains(&value["gap"]["ring"])
        {
            self.own.insert(id);
        }
    }
}

/// The ids of all whole events in some bytes. One that a kill broke off in the middle was not synced: a sync comes
/// behind the write, and the output tells of it in a gap.
pub(crate) fn ids(bytes: &[u8]) -> Vec<u128> {
    places(bytes)
        .into_iter()
        .map(|at| &bytes[at..])
        .filter(|event| is_whole(event))
        .filter_map(id)
        .collect()
}

/// The lines of a file that were written to their end.
pub(crate) fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    &bytes[..end.map_or(0, |at| at + 1)]
}

fn is_whole(event: &[u8]) -> bool {
    let mut values = serde_json::Deserializer::from_slice(event).into_iter::<Value>();
    matches!(values.next(), Some(Ok(_)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn output(lines: &[(u64, u128)]) -> Output {
        let mut output = Output::default();
        for (seq, id) in lines {
            let id = uuid_of(*id);
            let line =
                format!(r#"{{"schema":"portwatch.event/1","id":"{id}","seq":{seq},"ts":"x"}}"#);
            output.line(line.as_bytes());
        }
        output
    }

    fn uuid_of(id: u128) -> String {
        let digits = format!("{id:032x}");
        let parts = [
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..],
        ];
        parts.join("-")
    }

    #[test]
    fn what_a_kill_took_is_told_apart_from_what_was_lost_on_the_way() {
        let file = output(&[
            (1, 10),
            (2, 11),
            (3, 12),
            (4, 13),
            (1, 20),
            (2, 21),
            (3, 22),
        ]);
        let there = output(&[(1, 10), (2, 12), (1, 21)]);
        let missing = file.missing_in(&there, &file);
        // 13 was the last of its run; 11 and 20 were not, nor 22 of the last run, which ended.
        assert_eq!(
            missing,
            Missing {
                in_memory: 2,
                on_the_way: 2
            }
        );
        let more = output(&[
            (1, 10),
            (2, 11),
            (3, 12),
            (4, 13),
            (5, 14),
            (1, 20),
            (2, 99),
            (3, 21),
        ]);
        let missing = more.missing_in(&file, &file);
        assert_eq!(
            missing,
            Missing {
                in_memory: 1,
                on_the_way: 1
            }
        );
    }

    #[test]
    fn what_a_kill_broke_off_was_not_synced() {
        let line = |id| {
            let id = uuid_of(id);
            format!(r#"{{"schema":"portwatch.event/1","id":"{id}","seq":1,"ts":"x"}}"#)
        };
        let (first, torn) = (line(1), line(2));
        let torn = &torn[..torn.len() - 1];
        // Records of a buffer have something in between, lines of a file have not.
        assert_eq!(ids(format!("mark{first}mark{torn}").as_bytes()), [1]);
        assert_eq!(ids(format!("{torn}mark{first}").as_bytes()), [1]);
        let lines = format!("{first}\n{}", line(3));
        assert_eq!(ids(whole_lines(lines.as_bytes())), [1]);
        assert_eq!(whole_lines(first.as_bytes()), b"");
    }

    #[test]
    fn a_number_that_is_missing_is_a_hole_and_stored_lines_have_none() {
        assert_eq!(output(&[(1, 1), (2, 2), (2, 2), (1, 3)]).holes, Some(0));
        assert_eq!(output(&[(1, 1), (3, 2)]).holes, Some(1));
        let mut stored = Output::default();
        stored.stored(b"nothing of ours");
        assert_eq!(stored.holes, None);
    }
}
