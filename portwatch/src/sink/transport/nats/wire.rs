//! What a NATS server says, from bytes of any kind, and what we say to it. Pure.

use serde_json::Value;

use crate::text::{clip, guard};

/// Longest line of a server: what it tells of itself, with the addresses of its cluster.
const LINE: usize = 64 * 1024;
/// Longest message to us. An acknowledgement has some hundred bytes.
const MESSAGE: usize = 64 * 1024;
/// Characters of a server's text that are shown.
const SHOWN: usize = 200;

/// One thing that a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Who it is.
    Info(Info),
    /// It wants to know whether we are there.
    Ping,
    /// It is there.
    Pong,
    /// Fine.
    Ok,
    /// Not fine. Holds no control character.
    Error(String),
    /// A message to an inbox of ours.
    Message(Message),
}

/// What a server tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    /// Longest message that it takes, headers and all, in bytes.
    pub(crate) max_payload: usize,
    /// It takes no client without TLS.
    pub(crate) tls_required: bool,
    /// To be signed by who logs in with a key.
    pub(crate) nonce: String,
}

/// A message to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The last part of its subject as a number.
    pub(crate) number: Option<u64>,
    /// Its status, where it has one: 503 when nobody answers.
    pub(crate) status: Option<u16>,
    /// Its text.
    pub(crate) body: Vec<u8>,
}

/// What a stream says to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has it.
    Taken,
    /// Not now.
    Later(String),
    /// Never.
    Refused(String),
}

/// Bytes of a server, until they are whole.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    unread: Vec<u8>,
    /// Where the first line that is not understood yet begins.
    at: usize,
}

impl Heard {
    /// Takes bytes in.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Else a peer that never ends at the end of something would fill the memory.
        self.unread.drain(..self.at);
        self.at = 0;
        self.unread.extend_from_slice(bytes);
    }

    /// Is there nothing that was not understood yet?
    pub(crate) const fn is_empty(&self) -> bool {
        self.at == self.unread.len()
    }

    /// The next thing that it said; none before it is whole.
    ///
    /// # Errors
    /// It is none; then nothing after it can be understood.
    pub(crate) fn next(&mut self) -> Result<Option<Said>, &'static str> {
        let rest = self.unread.get(self.at..).unwrap_or_default();
        let Some(end) = rest.iter().take(LINE).position(|byte| *byte == b'\n') else {
            return match rest.len() < LINE {
                true => Ok(None),
                false => Err("its line has no end"),
            };
        };
        let line = rest.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let rest = rest.get(end + 1..).unwrap_or_default();
        let (word, after) = match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
            Some(blank) => line.split_at(blank),
            None => (line, [].as_slice()),
        };
        let (said, length) = match word.to_ascii_uppercase().as_slice() {
            b"INFO" => (Said::Info(info(after)?), 0),
            b"PING" => (Said::Ping, 0),
            b"PONG" => (Said::Pong, 0),
            b"+OK" => (Said::Ok, 0),
            b"-ERR" => (Said::Error(shown(&String::from_utf8_lossy(after))), 0),
            word @ (b"MSG" | b"HMSG") => {
                let line = Line::parse(after, word == b"HMSG")?;
                if rest.len() < line.total + 2 {
                    return Ok(None);
                }
                (Said::Message(line.message(rest)?), line.total + 2)
            }
            _ => return Err("it does not speak NATS"),
        };
        self.at += end + 1 + length;
        Ok(Some(said))
    }
}

/// The line before a message.
struct Line {
    number: Option<u64>,
    headers: usize,
    total: usize,
}

impl Line {
    /// `SUBJECT SID [REPLY] [HEADERS] TOTAL`.
    fn parse(line: &[u8], has_headers: bool) -> Result<Self, &'static str> {
        const WRONG: &str = "its message has no length";
        let line = std::str::from_utf8(line).map_err(|_| WRONG)?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let numbers = if has_headers { 2 } else { 1 };
        if !(2 + numbers..=3 + numbers).contains(&words.len()) {
            return Err(WRONG);
        }
        let length = |back: usize| -> Result<usize, &'static str> {
            let word = words.iter().rev().nth(back).ok_or(WRONG)?;
            word.parse().map_err(|_| WRONG)
        };
        let total = length(0)?;
        let headers = if has_headers { length(1)? } else { 0 };
        if total > MESSAGE || headers > total {
            return Err("its message is longer than any acknowledgement");
        }
        let last = words.first().and_then(|subject| subject.rsplit('.').next());
        Ok(Self {
            number: last.and_then(|last| last.parse().ok()),
            headers,
            total,
        })
    }

    fn message(&self, rest: &[u8]) -> Result<Message, &'static str> {
        let whole = rest.get(..self.total).unwrap_or_default();
        if rest.get(self.total..self.total + 2) != Some(b"\r\n") {
            return Err("its message ends elsewhere");
        }
        let (headers, body) = whole.split_at(self.headers);
        Ok(Message {
            number: self.number,
            status: status(headers),
            body: body.to_vec(),
        })
    }
}

/// `NATS/1.0 503 No Responders`.
fn status(headers: &[u8]) -> Option<u16> {
    let first = headers.split(|byte| *byte == b'\r').next()?;
    let first = std::str::from_utf8(first).ok()?;
    let rest = first.strip_prefix("NATS/1.0")?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

fn info(json: &[u8]) -> Result<Info, &'static str> {
    let json: Value =
        serde_json::from_slice(json).map_err(|_| "what it tells of itself is no JSON")?;
    let truth = |key| json.get(key).and_then(Value::as_bool).unwrap_or(false);
    let max = json.get("max_payload").and_then(Value::as_u64);
    let nonce = json.get("nonce").and_then(Value::as_str);
    Ok(Info {
        max_payload: max
            .and_then(|max| max.try_into().ok())
            .unwrap_or(usize::MAX),
        tls_required: truth("tls_required"),
        nonce: nonce.unwrap_or_default().to_owned(),
    })
}

impl Message {
    /// What a stream says to a record.
    pub(crate) fn answer(&self) -> Answer {
        if let Some(status) = self.status {
            let why = match status {
                503 => "no stream takes this subject; create one, or say `create_stream = true`"
                    .to_owned(),
                status => format!("status {status}"),
            };
            return Answer::Later(why);
        }
        let Ok(json) = serde_json::from_slice::<Value>(&self.body) else {
            return Answer::Later("its acknowledgement is no JSON".to_owned());
        };
        match json.get("error") {
            None if json.get("stream").is_some_and(Value::is_string) => Answer::Taken,
            None => Answer::Later("it acknowledges nothing".to_owned()),
            Some(error) => {
                let code = error.get("err_code").and_then(Value::as_u64).unwrap_or(0);
                let text = error.get("description").and_then(Value::as_str);
                let why = format!("{} ({code})", shown(text.unwrap_or("an error")));
                match code {
                    // The message is longer than the stream takes.
                    10_054 => Answer::Refused(why),
                    _ => Answer::Later(why),
                }
            }
        }
    }

    /// Is the stream there that we asked for? It may have been before, and be somebody else's: then it is as it is.
    pub(crate) fn created(&self) -> Result<(), String> {
        const IN_USE: u64 = 10_058;
        if self.status.is_some() {
            return Err("it has no JetStream, or we may not use it".to_owned());
        }
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let Some(error) = json.get("error") else {
            return Ok(());
        };
        let code = error.get("err_code").and_then(Value::as_u64);
        let text = error.get("description").and_then(Value::as_str);
        match code {
            Some(IN_USE) => Ok(()),
            _ => Err(format!(
                "the stream cannot be created: {}",
                shown(text.unwrap_or("an error"))
            )),
        }
    }
}

fn shown(text: &str) -> String {
    clip(&guard(text.trim()), SHOWN, |_| 1).into_owned()
}

/// Publishes a record; the stream's answer comes to the inbox.
pub(crate) fn publish(subject: &str, inbox: &str, headers: &str, body: &[u8], out: &mut Vec<u8>) {
    let lengths = (headers.len(), headers.len() + body.len());
    let line = format!(
        "HPUB {subject} {inbox} {} {}\r\n{headers}",
        lengths.0, lengths.1
    );
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

/// Asks the server something; the answer comes to the inbox.
pub(crate) fn request(subject: &str, inbox: &str, body: &str) -> String {
    format!("PUB {subject} {inbox} {}\r\n{body}\r\n", body.len())
}

/// One part of a subject, whatever the text is.
pub(crate) fn token(text: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
        true => c,
        false => '_',
    };
    let token: String = text.chars().take(128).map(plain).collect();
    match token.is_empty() {
        true => "_".to_owned(),
        false => token,
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Heard, Message, Said, publish, token};

    fn all(bytes: &[u8], piece: usize) -> Result<Vec<Said>, &'static str> {
        let (mut heard, mut all) = (Heard::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            heard.push(piece);
            while let Some(said) = heard.next()? {
                all.push(said);
            }
        }
        Ok(all)
    }

    fn message(bytes: &[u8]) -> Message {
        match all(bytes, 3).expect("NATS").pop() {
            Some(Said::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_server_says_is_understood_in_whatever_pieces() {
        let said = b"INFO {\"max_payload\":1048576,\"jetstream\":true,\"nonce\":\"abc\"}\r\nPING\r\npong\r\n+OK\r\n\
            -ERR 'Authorization Violation\x1b[2J'\r\nMSG _INBOX.x.7 1 3\r\na\r\n\r\n";
        let whole = all(said, said.len()).expect("NATS");
        assert_eq!(whole.len(), 6);
        for piece in 1..40 {
            assert_eq!(all(said, piece).as_ref(), Ok(&whole));
        }
        assert!(
            matches!(&whole[0], Said::Info(info) if info.max_payload == 1_048_576 && info.nonce == "abc")
        );
        assert_eq!(
            whole[4],
            Said::Error(r"'Authorization Violation\x1b[2J'".to_owned())
        );
        assert!(
            matches!(&whole[5], Said::Message(message) if message.number == Some(7) && message.body == b"a\r\n")
        );
    }

    #[test]
    fn what_is_not_nats_or_has_no_end_is_not_waited_for() {
        for wrong in [
            b"HTTP/1.1 400\r\n".as_slice(),
            b"INFO x\r\n",
            b"MSG a 1\r\n",
            b"MSG a 1 99999999999999999999999\r\n",
            b"MSG a 1 70000\r\n",
            b"HMSG a 1 9 5\r\n12345\r\n",
            b"MSG a 1 1\r\nabc\r\n",
            &[b'x'; 70_000],
        ] {
            assert!(
                all(wrong, 1000).is_err(),
                "{:?}",
                String::from_utf8_lossy(wrong)
            );
        }
    }

    #[test]
    fn an_answer_is_what_the_stream_means_by_it() {
        let answer = |body: &str| {
            message(format!("MSG _INBOX.x.1 1 {}\r\n{body}\r\n", body.len()).as_bytes()).answer()
        };
        assert_eq!(answer(r#"{"stream":"E","seq":4}"#), Answer::Taken);
        assert_eq!(
            answer(r#"{"stream":"E","seq":4,"duplicate":true}"#),
            Answer::Taken
        );
        let full = answer(
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#,
        );
        assert_eq!(
            full,
            Answer::Later("maximum messages exceeded (10077)".to_owned())
        );
        let long = answer(
            r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#,
        );
        assert!(matches!(long, Answer::Refused(_)));
        assert!(matches!(answer("{}"), Answer::Later(_)));
        assert!(matches!(answer("+OK"), Answer::Later(_)));
        let nobody = message(b"HMSG _INBOX.x.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
        assert!(matches!(nobody.answer(), Answer::Later(why) if why.contains("no stream takes")));
    }

    #[test]
    fn a_record_is_published_with_its_headers() {
        let mut out = Vec::new();
        publish(
            "a.b",
            "i.1",
            "NATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n",
            b"{}",
            &mut out,
        );
        assert_eq!(
            out,
            b"HPUB a.b i.1 28 30\r\nNATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n{}\r\n"
        );
    }

    #[test]
    fn no_name_breaks_out_of_its_part_of_a_subject() {
        assert_eq!(token("web1.example.org"), "web1_example_org");
        assert_eq!(token("a b\r\nPUB x > *"), "a_b__PUB_x____");
        assert_eq!(token(""), "_");
    }
}
