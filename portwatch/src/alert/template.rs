//! Templates of subjects: text with macros such as `$HOST`. Strict: what is no macro is a mistake that `portwatch
//! check` tells, and not a text that goes out with a hole. Pure.

use std::fmt;

use super::message::Message;
use crate::event::words::Word as _;
use crate::text::guard;

/// Longest subject, in characters; mail programs show less.
const MAX_CHARS: usize = 250;

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Macro(Macro),
}

/// What stands in for something of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Macro {
    Host,
    Severity,
    Event,
    Service,
    Date,
    Description,
    Count,
}

impl Macro {
    const ALL: [(&'static str, Self); 7] = [
        ("HOST", Self::Host),
        ("SEVERITY", Self::Severity),
        ("EVENT", Self::Event),
        ("SERVICE", Self::Service),
        ("DATE", Self::Date),
        ("DESCRIPTION", Self::Description),
        ("COUNT", Self::Count),
    ];

    fn of(self, message: &Message) -> String {
        let first = message.entries.first();
        match self {
            Self::Host => message.host.clone(),
            Self::Severity => message.severity.word().to_owned(),
            Self::Event => {
                first.map_or_else(String::new, |entry| entry.event.kind.as_str().to_owned())
            }
            Self::Service => first.map_or_else(String::new, |entry| {
                let socket = entry.event.socket.as_ref();
                let service = socket.and_then(|socket| socket.service.clone());
                service.unwrap_or_else(|| crate::event::message::socket_of(&entry.event))
            }),
            Self::Date => message.ts.clone(),
            Self::Description => message.subject(),
            Self::Count => message.count().to_string(),
        }
    }
}

impl Template {
    /// Reads a template; `$$` is a dollar.
    ///
    /// # Errors
    /// What is wrong, as a clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            push(&mut parts, before);
            if let Some(after) = after.strip_prefix('$') {
                push(&mut parts, "$");
                rest = after;
                continue;
            }
            let end = after
                .find(|c: char| !c.is_ascii_uppercase())
                .unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            let known = Macro::ALL.iter().find(|(known, _)| *known == name);
            let Some((_, found)) = known else {
                let known = Macro::ALL.map(|(name, _)| format!("${name}")).join(", ");
                return Err(format!(
                    "`${name}` is no macro; there are {known}, and $$ for a dollar"
                ));
            };
            parts.push(Part::Macro(*found));
            rest = after;
        }
        push(&mut parts, rest);
        Ok(Self(parts))
    }

    /// The text for a message: one line, whatever the message holds.
    #[must_use]
    pub fn fill(&self, message: &Message) -> String {
        let filled: String = self
            .0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Macro(of) => of.of(message),
            })
            .collect();
        guard(&filled).chars().take(MAX_CHARS).collect()
    }
}

/// `[web1] nc (pid 812, www-data) listens on 0.0.0.0:4444/tcp`.
impl Default for Template {
    fn default() -> Self {
        Self(vec![
            Part::Text("[".to_owned()),
            Part::Macro(Macro::Host),
            Part::Text("] ".to_owned()),
            Part::Macro(Macro::Description),
        ])
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(&text.replace('$', "$$"))?,
                Part::Macro(of) => {
                    let name = Macro::ALL.iter().find(|(_, known)| known == of);
                    write!(f, "${}", name.map_or("", |(name, _)| name))?;
                }
            }
        }
        Ok(())
    }
}

fn push(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::Template;
    use crate::alert::message::Entry;
    use crate::alert::message::tests::{message, notice};

    #[test]
    fn macros_are_filled_in() {
        let template =
            Template::parse("$SEVERITY on $HOST: $EVENT x$COUNT for $$5").expect("right");
        let of = message(vec![Entry::from(notice(81, "/usr/bin/nc"))]);
        assert_eq!(
            template.fill(&of),
            "warning on web1: listener.opened x1 for $5"
        );
        assert_eq!(
            Template::default().fill(&of),
            "[web1] nc (pid 812, root) listens on 0.0.0.0:81/tcp"
        );
    }

    #[test]
    fn what_is_no_macro_is_a_mistake() {
        let wrong = Template::parse("$HOSTNAME is $DOWN").expect_err("none");
        assert!(
            wrong.contains("`$HOSTNAME` is no macro; there are $HOST,"),
            "{wrong}"
        );
        assert!(Template::parse("5 $").is_err());
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for text in ["$HOST: $DESCRIPTION", "$$ $SERVICE$DATE", "plain", ""] {
            let template = Template::parse(text).expect("right");
            assert_eq!(Template::parse(&template.to_string()), Ok(template));
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_the_subject() {
        let mut entry = Entry::from(notice(81, "/usr/bin/nc"));
        entry.event.message = "a\r\nBcc: everybody".to_owned();
        let subject = Template::default().fill(&message(vec![entry]));
        assert!(!subject.contains(char::is_control), "{subject:?}");
    }
}
