//! A message as Slack's incoming webhooks take it, and what speaks like them (Mattermost, Rocket.Chat). Pure.

use serde_json::{Value, json};

use super::message::{Entry, Message};
use crate::event::words::Word as _;
use crate::text::{clip, guard};

/// Entries that are told one by one; a message has at most 50 blocks.
const ENTRIES: usize = 20;
/// Groups of incidents that are only counted.
const GROUPS: usize = 10;
/// Characters of a sentence, and of a group's name; a block has at most 3000, of which an escape takes five.
const SENTENCE: usize = 280;
const GROUP: usize = 50;
/// Characters of a header, at most 150.
const HEADER: usize = 150;

/// The body of the request.
#[must_use]
pub fn json(message: &Message) -> Value {
    let mut blocks = vec![header(message)];
    let shown = message.entries.iter().take(ENTRIES);
    blocks.extend(shown.map(|entry| section(&of_entry(entry))));
    let untold = message.entries.len().saturating_sub(ENTRIES) as u64 + message.uncounted();
    if untold > 0 {
        let mut lines = vec![format!("And {untold} more.")];
        let groups = message.more.iter().take(GROUPS);
        lines.extend(groups.map(|(what, count)| format!("{count} {}", safe(what, GROUP))));
        blocks.push(section(&lines.join("\n")));
    }
    if let Some(until) = &message.silent_until {
        blocks.push(section(&format!(
            "Further alerts are silenced until {}, and counted until then.",
            safe(until, SENTENCE)
        )));
    }
    json!({
        // Where blocks are not shown: notifications, other programs.
        "text": format!("[{}] {}", safe(&message.host, SENTENCE), safe(&message.subject(), SENTENCE)),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

fn header(message: &Message) -> Value {
    let text = match message.count() {
        1 => format!("{}: {}", message.host, message.severity.word()),
        count => format!(
            "{}: {}, {count} alerts",
            message.host,
            message.severity.word()
        ),
    };
    let text = clip(&guard(&text), HEADER, |_| 1).into_owned();
    json!({"type": "header", "text": {"type": "plain_text", "text": text, "emoji": false}})
}

/// Nothing in it becomes a link or calls anybody.
fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}})
}

fn of_entry(entry: &Entry) -> String {
    let event = &entry.event;
    let mut line = vec![event.severity.word().to_owned(), event.ts.clone()];
    let process = event.process.as_ref();
    line.extend(process.and_then(|process| process.exe.clone()));
    line.extend(process.and_then(|process| process.unit.clone()));
    let policy = event.policy.as_ref();
    line.extend(policy.map(|policy| format!("{}, {}", policy.state.word(), policy.rule)));
    format!(
        "{}\n{}",
        safe(&entry.sentence(), SENTENCE),
        safe(&line.join(" · "), SENTENCE)
    )
}

/// On one line, of bounded length, with Slack's three characters escaped: `<!channel>` must not call a whole company.
fn safe(text: &str, most: usize) -> String {
    let text = guard(text);
    let mut safe = String::with_capacity(text.len());
    for c in clip(&text, most, |_| 1).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::json;
    use crate::alert::Entry;
    use crate::alert::message::tests::{message, notice};

    fn texts(value: &Value) -> Vec<String> {
        let blocks = value["blocks"].as_array().expect("blocks");
        let text = |block: &Value| block["text"]["text"].as_str().expect("a text").to_owned();
        blocks.iter().map(text).collect()
    }

    #[test]
    fn a_message_has_a_text_and_a_block_for_each_entry() {
        let of = message(vec![Entry::from(notice(81, "/usr/bin/nc"))]);
        let value = json(&of);
        assert_eq!(
            value["text"],
            "[web1] nc (pid 812, root) listens on 0.0.0.0:81/tcp"
        );
        assert_eq!(
            texts(&value),
            [
                "web1: warning",
                "nc (pid 812, root) listens on 0.0.0.0:81/tcp\n\
                 notice · 2026-11-21T19:00:00.001000000Z · /usr/bin/nc · new, default",
            ]
        );
        assert_eq!(value["blocks"][1]["text"]["verbatim"], true);
    }

    #[test]
    fn nobody_is_called_and_nothing_is_a_link() {
        let mut entry = Entry::from(notice(81, "/tmp/<!channel>"));
        entry.event.message = "<!here> <https://evil|click> & <@U1>\n".to_owned();
        let value = json(&message(vec![entry]));
        let all = [texts(&value), vec![value["text"].to_string()]].concat();
        for text in all {
            assert!(!text.contains(['<', '>']), "{text}");
        }
        assert_eq!(
            value["text"],
            r"[web1] &lt;!here&gt; &lt;https://evil|click&gt; &amp; &lt;@U1&gt;\x0a"
        );
    }

    #[test]
    fn lengths_are_bounded_and_the_rest_is_counted() {
        let mut entry = Entry::from(notice(81, "/usr/bin/nc"));
        entry.event.message = "&".repeat(5_000);
        if let Some(process) = &mut entry.event.process {
            process.exe = Some("<".repeat(4_000));
        }
        let mut of = message(vec![entry; 100]);
        of.host = "h".repeat(300);
        of.more = (0..50)
            .map(|n| (format!("by {n}{}", "<".repeat(200)), 1))
            .collect();
        of.silent_until = Some("2026-11-22T11:00:00Z".to_owned());
        let value = json(&of);
        let texts = texts(&value);
        assert!(texts.len() <= 50, "{} blocks", texts.len());
        assert!(texts[0].chars().count() <= 150);
        assert!(
            texts
                .iter()
                .all(|text| text.chars().count() <= 3_000 && !text.is_empty())
        );
        assert!(
            texts
                .iter()
                .any(|text| text.starts_with("And 130 more.\n1 by 0&lt;"))
        );
    }
}
