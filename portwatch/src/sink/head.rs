//! What every JSON line of ours begins with, read without reading the rest. Pure.

use jiff::Timestamp;
use uuid::Uuid;

use crate::event::words::Word as _;
use crate::event::{EventType, SCHEMA, Severity};

/// The begin of a line: `{"schema":"portwatch.event/1","id":"…","seq":1042,"ts":"…","type":"…","severity":"…"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Id of the event.
    pub id: Uuid,
    /// When the kernel saw it, ns since 1970.
    pub ts_ns: i64,
    /// What happened.
    pub kind: EventType,
    /// How much it matters.
    pub severity: Severity,
}

impl Head {
    /// Reads a line that [`crate::sink::encode_line`] made; `None` for anything else.
    #[must_use]
    pub fn read(json: &[u8]) -> Option<Self> {
        let rest = json
            .strip_prefix(br#"{"schema":""#)?
            .strip_prefix(SCHEMA.as_bytes())?;
        let (id, rest) = text(rest, br#"","id":""#)?;
        let rest = rest.strip_prefix(br#"","seq":"#)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        let rest = &rest[digits.count()..];
        let (ts, rest) = text(rest, br#","ts":""#)?;
        let (kind, rest) = text(rest, br#"","type":""#)?;
        let (severity, _) = text(rest, br#"","severity":""#)?;
        let ts: Timestamp = ts.parse().ok()?;
        Some(Self {
            id: id.parse().ok()?,
            ts_ns: i64::try_from(ts.as_nanosecond()).ok()?,
            kind: word(EventType::ALL.iter(), kind)?,
            severity: word(Severity::ALL.iter(), severity)?,
        })
    }
}

/// The text behind this key, up to its quote, and what comes from there on.
fn text<'j>(json: &'j [u8], key: &[u8]) -> Option<(&'j str, &'j [u8])> {
    let rest = json.strip_prefix(key)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    Some((str::from_utf8(&rest[..end]).ok()?, &rest[end..]))
}

fn word<'w, W: crate::event::words::Word + 'w>(
    mut all: impl Iterator<Item = &'w W>,
    text: &str,
) -> Option<W> {
    all.find(|word| word.word() == text).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::example::{examples, variants};
    use crate::sink::encode_line;

    #[test]
    fn the_head_says_what_the_event_says() {
        for event in examples().into_iter().chain(variants()) {
            let head = Head::read(&encode_line(&event)).expect("a line of ours");
            assert_eq!(head.id.to_string(), event.id);
            let ts = Timestamp::from_nanosecond(head.ts_ns.into()).expect("a time");
            assert_eq!(ts, event.ts.parse().expect("a time"));
            assert_eq!((head.kind, head.severity), (event.kind, event.severity));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(cut in 0_usize..300, junk in any::<Vec<u8>>()) {
            let line = encode_line(&examples()[0]);
            let mut bytes = line[..cut.min(line.len())].to_vec();
            bytes.extend(junk);
            let _ = Head::read(&bytes);
        }
    }
}
