//! Frames of RELP: `NUMBER COMMAND LENGTH[ DATA]\n`. Pure.

use crate::text::{clip, guard};

/// Longest head of a frame: nine digits, a command of 32 letters, nine digits.
const HEAD: usize = 64;
/// Longest data of an answer.
const DATA: usize = 64 * 1024;
/// Characters of an answer that are shown.
const SHOWN: usize = 200;

/// A frame of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// That of the frame that it answers; 0 for what answers none.
    pub(super) number: u32,
    /// `rsp`, or what the receiver wants.
    command: String,
    data: Vec<u8>,
}

impl Frame {
    /// Does it say that all is well?
    pub(super) fn is_fine(&self) -> bool {
        self.command == "rsp"
            && self.data.starts_with(b"200")
            && !self.data.get(3).is_some_and(u8::is_ascii_digit)
    }

    /// What it says, for people.
    pub(super) fn told(&self) -> String {
        if self.command == "serverclose" {
            return "it hung up".to_owned();
        }
        let text = String::from_utf8_lossy(&self.data);
        let line = text.lines().next().unwrap_or_default();
        let told = format!("{} {line}", self.command);
        clip(&guard(told.trim_end()), SHOWN, |_| 1).into_owned()
    }
}

/// Bytes of a receiver, until they are whole.
#[derive(Debug, Default)]
pub(super) struct Heard {
    unread: Vec<u8>,
    at: usize,
}

impl Heard {
    /// Takes bytes in.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Else a peer that never ends at the end of something would fill the memory.
        self.unread.drain(..self.at);
        self.at = 0;
        self.unread.extend_from_slice(bytes);
    }

    /// The next frame; none before it is whole.
    ///
    /// # Errors
    /// It is none; then nothing after it can be understood.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, &'static str> {
        let rest = self.unread.get(self.at..).unwrap_or_default();
        match parse(rest)? {
            None => Ok(None),
            Some((frame, length)) => {
                self.at += length;
                Ok(Some(frame))
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Frame, usize)>, &'static str> {
    const WRONG: &str = "it does not speak RELP";
    let mut at = 0;
    let mut words = ["", "", ""];
    for (place, word) in words.iter_mut().enumerate() {
        let rest = bytes.get(at..).unwrap_or_default();
        let is_end = |byte: &u8| *byte == b' ' || (place == 2 && *byte == b'\n');
        let Some(end) = rest.iter().take(HEAD).position(is_end) else {
            return if rest.len() < HEAD {
                Ok(None)
            } else {
                Err(WRONG)
            };
        };
        let text = rest.get(..end).unwrap_or_default();
        *word = std::str::from_utf8(text).map_err(|_| WRONG)?;
        at += end + 1;
    }
    let [number, command, length] = words;
    if command.is_empty()
        || command.len() > 32
        || !command.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Err(WRONG);
    }
    let digits = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(number) || !digits(length) {
        return Err(WRONG);
    }
    let number = number.parse().map_err(|_| WRONG)?;
    let length: usize = length.parse().map_err(|_| WRONG)?;
    if length > DATA {
        return Err("its answer has no end");
    }
    // Without data the head ends the frame.
    let is_over = bytes.get(at - 1) == Some(&b'\n');
    if is_over && length > 0 {
        return Err(WRONG);
    }
    let data = bytes.get(at..at + length);
    let (data, end) = match (is_over, data, bytes.get(at + length)) {
        (true, ..) => (&[][..], at),
        (false, Some(data), Some(b'\n')) => (data, at + length + 1),
        (false, Some(_), Some(_)) => return Err(WRONG),
        (false, ..) => return Ok(None),
    };
    let frame = Frame {
        number,
        command: command.to_owned(),
        data: data.to_vec(),
    };
    Ok(Some((frame, end)))
}

/// Puts a frame of ours behind others.
pub(super) fn put(number: u32, command: &str, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{number} {command} {}", data.len()).as_bytes());
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::{Heard, put};

    #[test]
    fn frames_are_read_in_whatever_pieces() {
        let said = b"1 rsp 30 200 OK\nrelp_version=0\ncommands\n2 rsp 6 200 OK\n3 rsp 8 500 no\x1b \n0 serverclose 0\n";
        for piece in 1..said.len() {
            let (mut heard, mut all) = (Heard::default(), Vec::new());
            for bytes in said.chunks(piece) {
                heard.push(bytes);
                while let Some(frame) = heard.next().expect("RELP") {
                    all.push(frame);
                }
            }
            assert_eq!(all.len(), 4, "in pieces of {piece}");
            let fine: Vec<bool> = all.iter().map(super::Frame::is_fine).collect();
            assert_eq!(fine, [true, true, false, false]);
            assert_eq!(
                (all[2].number, all[2].told().as_str()),
                (3, r"rsp 500 no\x1b")
            );
            assert_eq!(all[3].told(), "it hung up");
        }
    }

    #[test]
    fn what_is_no_frame_is_not_waited_for() {
        for wrong in [
            b"HTTP/1.1 400 Bad\n".as_slice(),
            b"1 rsp x \n",
            b"-1 rsp 0\n",
            b"1 rsp 99999999 x",
            b"1 rsp 3\nabc",
            b"1 rsp 3 abcd\n",
            &[b'1'; 70],
        ] {
            let mut heard = Heard::default();
            heard.push(wrong);
            assert!(
                heard.next().is_err(),
                "{:?}",
                String::from_utf8_lossy(wrong)
            );
        }
    }

    #[test]
    fn a_frame_has_the_length_of_its_data() {
        let mut out = Vec::new();
        put(1, "open", b"a=0\nb", &mut out);
        put(2, "close", b"", &mut out);
        assert_eq!(out, b"1 open 5 a=0\nb\n2 close 0\n");
    }
}
