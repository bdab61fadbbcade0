//! Protocols of lines: what is said in each turn, and which line is a good answer. Pure.

use super::Failure;
use super::exchange::Step;

/// The name by which portwatch introduces itself.
const NAME: &str = concat!("portwatch_", env!("CARGO_PKG_VERSION"));

/// A line of the server, judged.
enum Line {
    /// The answer, or the last line of it.
    Good,
    /// The same, and no more turns are needed.
    Done,
    /// Part of an answer, or not yet one.
    More,
    /// A refusal, or nothing that belongs here.
    Bad,
}

type Judge = fn(&[u8]) -> Line;

/// One of us says something, and the other answers.
#[derive(Debug)]
struct Turn {
    /// Empty where the server speaks first.
    say: Vec<u8>,
    judge: Judge,
}

/// A conversation in lines.
#[derive(Debug)]
pub(super) struct Dialogue {
    turns: Vec<Turn>,
    /// The turn that waits for an answer.
    turn: usize,
    /// Said when all is well.
    farewell: Vec<u8>,
    /// A line that has not ended yet.
    line: Vec<u8>,
}

impl Dialogue {
    /// RFC 4253, 4.2: other lines may come before the version. Ours is said, and then that we leave, so that the
    /// server's log tells of a client that has gone and not of one that spoke something else.
    pub(super) fn ssh() -> Self {
        let version = format!("SSH-2.0-{NAME}\r\n").into_bytes();
        let farewell = [version, ssh_disconnect(b"check")].concat();
        let version = |line: &[u8]| match line.starts_with(b"SSH-") {
            true => Line::Good,
            false => Line::More,
        };
        Self::new(&[("", version)], &farewell)
    }

    /// RFC 5321: the greeting, and the answer to EHLO.
    pub(super) fn smtp() -> Self {
        Self::new(
            &[
                ("", |line| reply(line, b"220")),
                ("EHLO localhost\r\n", |line| reply(line, b"250")),
            ],
            b"QUIT\r\n",
        )
    }

    /// RFC 9051: the greeting, and the answer to LOGOUT.
    pub(super) fn imap() -> Self {
        Self::new(
            &[
                ("", |line| begins(line, &[b"* OK", b"* PREAUTH"])),
                ("a LOGOUT\r\n", |line| begins(line, &[b"* BYE", b"a OK"])),
            ],
            b"",
        )
    }

    /// RFC 1939: the greeting, and the answer to QUIT.
    pub(super) fn pop3() -> Self {
        let ok = |line: &[u8]| begins(line, &[b"+OK"]);
        Self::new(&[("", ok), ("QUIT\r\n", ok)], b"")
    }

    /// A server that wants a password first, or no strangers, is alive; one that still loads its data answers nobody.
    pub(super) fn redis() -> Self {
        let alive = |line: &[u8]| begins(line, &[b"+PONG", b"-NOAUTH", b"-NOPERM", b"-DENIED"]);
        Self::new(&[("*1\r\n$4\r\nPING\r\n", alive)], b"QUIT\r\n")
    }

    /// RFC 9112: a status from 200 to 399 is good, an interim one (1xx) is followed by another. The path and the name
    /// have no control characters and no spaces; the configuration takes no others.
    pub(super) fn http(name: &str, path: &str) -> Self {
        let name = match name.contains(':') {
            true => format!("[{name}]"),
            false => name.to_owned(),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: {}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            NAME.replace('_', "/")
        );
        Self::new(&[(&request, status), ("", behind_interim)], b"")
    }

    fn new(turns: &[(&str, Judge)], farewell: &[u8]) -> Self {
        let turn = |(say, judge): &(&str, Judge)| Turn {
            say: say.as_bytes().to_vec(),
            judge: *judge,
        };
        Self {
            turns: turns.iter().map(turn).collect(),
            turn: 0,
            farewell: farewell.to_vec(),
            line: Vec::new(),
        }
    }

    pub(super) fn begin(&self) -> Step {
        let first = self.turns.first();
        Step {
            say: first.map_or_else(Vec::new, |turn| turn.say.clone()),
            verdict: None,
        }
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) -> Step {
        let mut step = Step::default();
        for &byte in bytes {
            if step.verdict.is_some() {
                break;
            }
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.line(&line, &mut step);
            } else {
                self.line.push(byte);
            }
        }
        step
    }

    /// What it did not end with a line feed counts as a line.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return Err(Failure::HungUp);
        }
        let mut step = Step::default();
        self.line(&line, &mut step);
        step.verdict.unwrap_or_else(|| Err(Failure::said(&line)))
    }

    fn line(&mut self, line: &[u8], step: &mut Step) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(turn) = self.turns.get(self.turn) else {
            return;
        };
        match (turn.judge)(line) {
            Line::More => {}
            Line::Bad => step.verdict = Some(Err(Failure::said(line))),
            good @ (Line::Good | Line::Done) => {
                self.turn += 1;
                match self.turns.get(self.turn) {
                    Some(next) if matches!(good, Line::Good) => {
                        step.say.extend_from_slice(&next.say);
                    }
                    _ => {
                        step.say.extend_from_slice(&self.farewell);
                        step.verdict = Some(Ok(()));
                    }
                }
            }
        }
    }
}

fn begins(line: &[u8], good: &[&[u8]]) -> Line {
    match good.iter().any(|good| line.starts_with(good)) {
        true => Line::Good,
        false => Line::Bad,
    }
}

/// An answer of one line or, with `-` behind the code, of several.
fn reply(line: &[u8], code: &[u8; 3]) -> Line {
    match line.split_at_checked(3) {
        Some((found, rest)) if found == code => match rest.first() {
            Some(b'-') => Line::More,
            _ => Line::Good,
        },
        _ => Line::Bad,
    }
}

/// The first line of an answer.
fn status(line: &[u8]) -> Line {
    let rest = line.strip_prefix(b"HTTP/1.").unwrap_or_default();
    match rest.split(|byte| *byte == b' ').nth(1) {
        Some([b'1', b'0'..=b'9', b'0'..=b'9']) => Line::Good,
        Some([b'2' | b'3', b'0'..=b'9', b'0'..=b'9']) => Line::Done,
        _ => Line::Bad,
    }
}

/// What follows an interim answer: its header lines, an empty one, and another answer.
fn behind_interim(line: &[u8]) -> Line {
    if !line.starts_with(b"HTTP/1.") {
        return Line::More;
    }
    match status(line) {
        Line::Good => Line::More,
        judged => judged,
    }
}

/// `SSH_MSG_DISCONNECT` (RFC 4253, 11.1), by application, as a packet before any key exchange.
fn ssh_disconnect(words: &[u8]) -> Vec<u8> {
    let mut payload = vec![1, 0, 0, 0, 11];
    for text in [words, b""] {
        payload.extend(u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
        payload.extend_from_slice(text);
    }
    // Length, padding length, payload and at least four bytes of padding fill blocks of eight.
    let padding = 4 + (8 - (4 + 1 + payload.len() + 4) % 8) % 8;
    let length = u32::try_from(1 + payload.len() + padding).unwrap_or(0);
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap_or(4));
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

#[cfg(test)]
mod tests {
    use super::ssh_disconnect;

    #[test]
    fn packets_of_ssh_fill_whole_blocks() {
        for words in [
            &b""[..],
            b"check",
            b"12345678",
            b"a longer word of farewell",
        ] {
            let packet = ssh_disconnect(words);
            assert_eq!(packet.len() % 8, 0);
            let length = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
            assert_eq!(length as usize + 4, packet.len());
            assert!(packet[4] >= 4, "padding {}", packet[4]);
        }
    }
}
