//! One event as one line of JSON that is never longer than 64 KiB.

use std::sync::Arc;

use crate::event::{Event, Socket};
use crate::sink::{Numbering, chain};

/// Longest line, its newline included, in bytes.
pub const MAX_LINE: usize = 64 * 1024;

/// Leaves room for whatever number an output gives the line, and for its link in a chain.
const LIMIT: usize = MAX_LINE - Numbering::GROWTH - chain::GROWTH;

/// What each text and list may keep, round by round, once leaving out arguments was not enough.
/// Bytes for a text as JSON; a list keeps a sixteenth as many entries. The last round fits whatever
/// the event held before: some sixty texts of 64 bytes each.
const ROUNDS: [usize; 5] = [16 * 1024, 4096, 1024, 256, 64];

/// Room for a line of a listener with a process, its ancestors, package and container, in bytes.
const TYPICAL: usize = 2048;

/// The event as JSON with its newline, at most [`MAX_LINE`] bytes whatever its `seq` becomes and
/// with a link in a chain.
///
/// What does not fit is left out, the most expendable first: trailing arguments (told by
/// `args_truncated`), then the ends of other long texts (told by a final `…`) and of long lists.
#[must_use]
pub fn encode_line(event: &Event) -> Vec<u8> {
    let line = to_line(event);
    if line.len() <= LIMIT {
        return line;
    }
    let mut smaller = event.clone();
    shorten_args(&mut smaller);
    let mut line = to_line(&smaller);
    for limit in ROUNDS {
        if line.len() <= LIMIT {
            break;
        }
        shorten(&mut smaller, limit);
        line = to_line(&smaller);
    }
    line
}

/// Bytes of arguments that are tried, as JSON, for a rendering that may tell them more than once.
const ARGS: [usize; 2] = [16 * 1024, 4096];

/// Tries the event, and shorter and shorter ones, until `fits` says that one does; for other renderings than
/// [`encode_line`]'s.
pub(crate) fn fit(event: &Event, mut fits: impl FnMut(&Event) -> bool) {
    if fits(event) {
        return;
    }
    let mut smaller = event.clone();
    for room in ARGS {
        keep_args(&mut smaller, room);
        if fits(&smaller) {
            return;
        }
    }
    for limit in ROUNDS {
        shorten(&mut smaller, limit);
        if fits(&smaller) {
            return;
        }
    }
}

/// Shortens every text and list.
fn shorten(event: &mut Event, limit: usize) {
    shorten_lists(event, limit / 16);
    for text in texts(event) {
        shorten_text(text, limit);
    }
}

fn to_line(event: &Event) -> Vec<u8> {
    // Most lines of a listener fit: memory that grows meanwhile is copied as often as it does.
    let mut line = Vec::with_capacity(TYPICAL);
    // Fails only for a map whose keys are not strings, and an event has no map.
    if serde_json::to_writer(&mut line, event).is_err() {
        line.clear();
    }
    line.push(b'\n');
    line
}

/// Keeps as many leading arguments as fit, the last of them perhaps in part.
fn shorten_args(event: &mut Event) {
    let Some(process) = event.process.as_mut() else {
        return;
    };
    let Some(args) = process.args.take() else {
        return;
    };
    process.args_truncated = Some(true);
    let without = to_line(event).len() + r#""args":[],"#.len();
    if let Some(process) = &mut event.process {
        process.args = Some(args);
    }
    keep_args(event, LIMIT.saturating_sub(without));
}

/// Keeps as many leading arguments as take `room` bytes of JSON, the last of them perhaps in part.
fn keep_args(event: &mut Event, mut room: usize) {
    let Some(process) = event.process.as_mut() else {
        return;
    };
    let Some(args) = process.args.take() else {
        return;
    };
    let count = args.len();
    let mut is_cut = false;
    let mut kept = Vec::new();
    for arg in args {
        // Two quotes and a comma.
        let Some(left) = room.checked_sub(3) else {
            break;
        };
        let size = json_len(&arg);
        if size > left {
            let start = prefix(&arg, left);
            if !start.is_empty() {
                kept.push(start.to_owned());
            }
            is_cut = true;
            break;
        }
        room = left - size;
        kept.push(arg);
    }
    if is_cut || kept.len() < count {
        process.args_truncated = Some(true);
    }
    if !kept.is_empty() {
        process.args = Some(kept);
    }
}

fn shorten_lists(event: &mut Event, entries: usize) {
    event.owners.truncate(entries);
    if let Some(previous) = &mut event.previous {
        previous.owners.truncate(entries);
    }
    if let Some(sensor) = &mut event.sensor {
        sensor.mechanisms.truncate(entries);
    }
    if let Some(heartbeat) = &mut event.heartbeat {
        heartbeat.sinks.truncate(entries);
        heartbeat.events.truncate(entries);
    }
    if let Some(process) = &mut event.process {
        process.ancestors.truncate(entries);
        if let Some(args) = &mut process.args {
            args.truncate(entries);
        }
    }
}

/// Every text of the event that somebody else's data can make long.
fn texts(event: &mut Event) -> Vec<&mut String> {
    let host = Arc::make_mut(&mut event.host);
    let mut all = vec![&mut event.message, &mut host.name, &mut host.kernel];
    all.extend(host.id.iter_mut().chain(&mut host.boot_id));
    all.extend(event.error.iter_mut());
    all.extend(event.owners.iter_mut().map(|owner| &mut owner.name));
    if let Some(socket) = &mut event.socket {
        all.extend(socket_texts(socket));
    }
    if let Some(previous) = &mut event.previous {
        all.extend(previous.owners.iter_mut().map(|owner| &mut owner.name));
        all.extend(previous.interface.iter_mut());
    }
    if let Some(process) = &mut event.process {
        all.push(&mut process.name);
        all.extend(process.args.iter_mut().flatten());
        let optional = [
            &mut process.exe,
            &mut process.cwd,
            &mut process.user,
            &mut process.group,
            &mut process.sha256,
            &mut process.package,
            &mut process.unit,
            &mut process.start_time,
            &mut process.unresolved,
        ];
        all.extend(optional.into_iter().flatten());
        if let Some(container) = &mut process.container {
            all.push(&mut container.id);
            all.extend(container.runtime.iter_mut());
        }
        for ancestor in &mut process.ancestors {
            all.push(&mut ancestor.name);
            all.extend(ancestor.exe.iter_mut());
        }
    }
    if let Some(gap) = &mut event.gap {
        all.extend(gap.probe.iter_mut());
        all.extend(gap.cgroups.iter_mut().flat_map(|cgroup| &mut cgroup.path));
    }
    for sink in event.heartbeat.iter_mut().flat_map(|beat| &mut beat.sinks) {
        all.push(&mut sink.name);
        all.extend(sink.head.iter_mut());
    }
    if let Some(sensor) = &mut event.sensor {
        let optional = [
            &mut sensor.signal,
            &mut sensor.reason,
            &mut sensor.blind_to,
            &mut sensor.remedy,
        ];
        all.extend(optional.into_iter().flatten());
        all.extend(sensor.mechanisms.iter_mut().map(|entry| &mut entry.signal));
    }
    all
}

fn socket_texts(socket: &mut Socket) -> impl Iterator<Item = &mut String> {
    [
        &mut socket.address,
        &mut socket.peer_address,
        &mut socket.path,
        &mut socket.path_as_bound,
        &mut socket.abstract_name,
        &mut socket.interface,
        &mut socket.service,
    ]
    .into_iter()
    .flatten()
}

fn shorten_text(text: &mut String, limit: usize) {
    if json_len(text) > limit {
        let keep = prefix(text, limit - '…'.len_utf8()).len();
        text.truncate(keep);
        text.push('…');
    }
}

/// The longest start of `text` whose JSON takes at most `limit` bytes and that does not end inside
/// an `\xNN` (every backslash begins one, see [`crate::text::escape`]).
fn prefix(text: &str, limit: usize) -> &str {
    let mut used = 0;
    let mut end = text.len();
    for (at, c) in text.char_indices() {
        used += char_json_len(c);
        if used > limit {
            end = at;
            break;
        }
    }
    let start = &text[..end];
    match start.rfind('\\') {
        Some(backslash) if end < text.len() && end - backslash < r"\xNN".len() => {
            &start[..backslash]
        }
        _ => start,
    }
}

/// Length of `text` in JSON, without its quotes.
fn json_len(text: &str) -> usize {
    text.chars().map(char_json_len).sum()
}

const fn char_json_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => r"\u0000".len(),
        _ => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Ancestor, EventType, Owner, Process};
    use crate::sink::testing;

    fn with_args(args: Vec<String>) -> Event {
        let mut event = testing::event(7, EventType::ListenerOpened);
        event.process = Some(Process {
            pid: 1,
            name: "x".to_owned(),
            args: Some(args),
            ..Process::default()
        });
        event
    }

    fn decode(line: &[u8]) -> Event {
        assert!(line.len() <= LIMIT, "{} bytes", line.len());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(line.ends_with(b"\n"));
        serde_json::from_slice(line).expect("JSON of an event")
    }

    #[test]
    fn what_fits_is_not_touched() {
        let event = with_args(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(decode(&encode_line(&event)), event);
    }

    #[test]
    fn arguments_that_grow_are_cut_between_escapes() {
        // 64 KiB of ESC become 256 KiB of text and 320 KiB of JSON.
        let hostile = crate::text::escape(&vec![0x1b; 64 * 1024]);
        let line = encode_line(&with_args(vec!["prog".to_owned(), hostile.clone()]));
        assert!(line.len() > LIMIT - 16, "room left: {}", line.len());
        let process = decode(&line).process.expect("process");
        assert_eq!(process.args_truncated, Some(true));
        let args = process.args.expect("args");
        assert_eq!(args[0], "prog");
        assert!(hostile.starts_with(&args[1]));
        assert_eq!(args[1].len() % r"\x1b".len(), 0, "cut inside an escape");
    }

    #[test]
    fn args_are_absent_not_empty_when_nothing_else_fits() {
        let mut event = with_args(vec!["a".repeat(1000)]);
        event.message = "m".repeat(MAX_LINE);
        let decoded = decode(&encode_line(&event));
        let process = decoded.process.expect("process");
        assert_eq!((process.args, process.args_truncated), (None, Some(true)));
        assert!(decoded.message.ends_with('…'));
    }

    #[test]
    fn thousands_of_holders_fit() {
        let mut event = with_args(vec![]);
        event.owners = (0..20_000)
            .map(|pid| Owner {
                pid,
                name: r"\x1b".repeat(15),
                fd: Some(3),
            })
            .collect();
        assert!(!decode(&encode_line(&event)).owners.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_event_fits(
            args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..20),
            repeat in 1_usize..400,
            long in "\\PC{0,100}",
            ancestors in 0_usize..200,
        ) {
            let args = args.iter().map(|arg| crate::text::escape(arg).repeat(repeat)).collect();
            let mut event = with_args(args);
            event.message = long.repeat(repeat);
            if let Some(process) = &mut event.process {
                process.exe = Some(long.repeat(repeat));
                process.ancestors = (0..ancestors)
                    .map(|_| Ancestor { pid: 1, name: long.clone(), exe: Some(long.repeat(repeat / 20)) })
                    .collect();
            }
            decode(&encode_line(&event));
        }

        #[test]
        fn json_len_is_what_serde_writes(text in any::<String>()) {
            let json = serde_json::to_string(&text).expect("JSON");
            prop_assert_eq!(json_len(&text) + 2, json.len());
        }
    }
}
