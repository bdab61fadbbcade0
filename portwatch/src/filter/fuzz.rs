//! Any text as a filter: it is refused in three lines, or it has a normal form and an answer for every event.

use std::sync::OnceLock;

use super::{Filter, MAX_BYTES, join_args};
use crate::event::Event;
use crate::event::example::examples;
use crate::fuzzing::assert_plain;

/// The property of the target `filter`.
pub fn filter(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    assert!(join_args(&words).len() <= text.len() + 2 * words.len());
    match Filter::parse(&text) {
        Ok(filter) => has_a_normal_form_and_answers(&filter),
        Err(error) => {
            assert!(error.column() <= text.chars().count() + 1);
            let shown = error.to_string();
            assert_eq!(shown.lines().count(), 3, "{shown}");
            shown.lines().for_each(assert_plain);
        }
    }
}

fn has_a_normal_form_and_answers(filter: &Filter) {
    let normal = filter.to_string();
    assert_plain(&normal);
    if normal.len() <= MAX_BYTES {
        assert_eq!(
            Filter::parse(&normal).as_ref(),
            Ok(filter),
            "from the normal form {normal:?}"
        );
    }
    let negation = Filter::parse(&format!("not ({normal})")).ok();
    for event in events() {
        let matches = filter.matches(event);
        assert!(matches || !filter.matches_all());
        let negated = negation.as_ref().is_some_and(|not| not.matches(event));
        assert!(!(matches && negated), "both {normal:?} and its negation");
    }
}

fn events() -> &'static [Event] {
    static EVENTS: OnceLock<Vec<Event>> = OnceLock::new();
    EVENTS.get_or_init(examples)
}

/// Filters of every form.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let deep = format!("{}tcp{}", "(".repeat(60), ")".repeat(60));
    vec![
        (
            "long",
            "proto == tcp and port in 1..1023 and not exe == \"/usr/sbin/sshd\"".into(),
        ),
        (
            "short",
            "tcp port:8080,80,1000..2000 user:www-data exe:/usr/*,*sh".into(),
        ),
        (
            "sets",
            "port not in (1, 2..3) or address in (10.0.0.0/8, ::1, fe80::/10)".into(),
        ),
        (
            "text",
            r#"name =~ "ng*" && args contains '-g' || !cwd != "\x0a\n\\\"""#.into(),
        ),
        (
            "ranks",
            "severity >= warning ts < 2026-11-21T19:42:01Z type:listener.opened".into(),
        ),
        (
            "braces",
            "{listener.closed or ESTABLISHED} loopback exe_deleted == true".into(),
        ),
        ("deep", deep.into()),
        ("wrong", "prot = tcp & ( port in 9..1 \"".into()),
    ]
}
