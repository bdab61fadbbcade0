//! `docs/schema/golden`: the pinned events, one a line, in every format.

use portwatch::event::example::{examples, variants};
use portwatch::render::Format;

/// The name of each file, and its text.
pub(super) fn files() -> impl Iterator<Item = (&'static str, String)> {
    let events = [examples(), variants()].concat();
    Format::ALL.into_iter().map(move |format| {
        let mut lines = Vec::new();
        for event in &events {
            format.append(event, &mut lines);
        }
        let name = match format {
            Format::Json => "docs/schema/golden/events.jsonl",
            Format::Ecs => "docs/schema/golden/ecs.jsonl",
            Format::Ocsf => "docs/schema/golden/ocsf.jsonl",
            Format::Cef => "docs/schema/golden/cef.log",
            Format::Rfc5424 => "docs/schema/golden/rfc5424.log",
        };
        (name, String::from_utf8_lossy(&lines).into_owned())
    })
}
