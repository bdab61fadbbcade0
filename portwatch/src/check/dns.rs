//! A question for the name servers of the root, and whether an answer to it is well formed (RFC 1035). Pure.
//!
//! Any answer will do, a refusal too: a server that refuses is one that works.

use super::Failure;
use super::exchange::{LIMIT, Step};

/// The root, NS, IN.
const QUESTION: [u8; 5] = [0, 0, 2, 0, 1];
const HEADER: usize = 12;

/// A question under way.
#[derive(Debug)]
pub(super) struct Question {
    number: u16,
    /// Messages on a stream have their length in front.
    is_stream: bool,
    heard: Vec<u8>,
}

impl Question {
    pub(super) const fn new(number: u16, is_stream: bool) -> Self {
        Self {
            number,
            is_stream,
            heard: Vec::new(),
        }
    }

    pub(super) fn begin(&self) -> Step {
        let mut message = self.number.to_be_bytes().to_vec();
        // A standard query of one question. No recursion: the server is asked, not the rest of the world.
        message.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend(QUESTION);
        if self.is_stream {
            let length = u16::try_from(message.len()).unwrap_or(0);
            message.splice(..0, length.to_be_bytes());
        }
        Step {
            say: message,
            verdict: None,
        }
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) -> Step {
        let message = if self.is_stream {
            self.heard.extend_from_slice(bytes);
            let Some((&[high, low], rest)) = self.heard.split_first_chunk() else {
                return Step::default();
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            match rest.get(..length) {
                Some(message) => message,
                // More than may be heard will never be whole.
                None if length + 2 > LIMIT => return decided(Err(Failure::TooMuch(LIMIT))),
                None => return Step::default(),
            }
        } else {
            bytes
        };
        decided(judge(message, self.number).map_or(Ok(()), |wrong| Err(Failure::Malformed(wrong))))
    }
}

const fn decided(verdict: Result<(), Failure>) -> Step {
    Step {
        say: Vec::new(),
        verdict: Some(verdict),
    }
}

/// What is wrong with an answer.
fn judge(message: &[u8], number: u16) -> Option<&'static str> {
    let Some((header, mut rest)) = message.split_first_chunk::<HEADER>() else {
        return Some("too little for an answer");
    };
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if field(0) != number {
        return Some("an answer to another question");
    }
    let flags = field(2);
    if flags & 0x8000 == 0 || flags & 0x7800 != 0 {
        return Some("a message that is no answer");
    }
    for _ in 0..field(4) {
        match rest.split_at_checked(QUESTION.len()) {
            Some((question, behind)) if question == QUESTION => rest = behind,
            _ => return Some("an answer to another question"),
        }
    }
    // A cut answer is one all the same.
    let is_cut = flags & 0x0200 != 0;
    let records = u32::from(field(6)) + u32::from(field(8)) + u32::from(field(10));
    for _ in 0..records {
        match record(rest) {
            Some(behind) => rest = behind,
            None if is_cut => return None,
            None => return Some("an answer that is not well formed"),
        }
    }
    None
}

/// What is behind a record: its name, type, class, time to live, length and as many bytes.
fn record(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, behind) = rest.split_first()?;
        rest = behind;
        match length {
            0 => break,
            // A pointer ends a name.
            0xc0.. => {
                rest = rest.get(1..)?;
                break;
            }
            1..=63 => rest = rest.get(usize::from(length)..)?,
            _ => return None,
        }
    }
    let fixed = rest.get(..10)?;
    let length = u16::from_be_bytes([*fixed.get(8)?, *fixed.get(9)?]);
    rest.get(10 + usize::from(length)..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with one record, a name server of the root.
    fn answer(number: u16, flags: u16) -> Vec<u8> {
        let mut message = number.to_be_bytes().to_vec();
        message.extend(flags.to_be_bytes());
        message.extend([0, 1, 0, 1, 0, 0, 0, 0]);
        message.extend(QUESTION);
        message.extend([0, 0, 2, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'a', 0xc0, 12]);
        message
    }

    #[test]
    fn any_well_formed_answer_will_do() {
        assert_eq!(judge(&answer(7, 0x8180), 7), None);
        // Refused, with nothing but the question.
        let mut refused = answer(7, 0x8005);
        refused.truncate(HEADER + QUESTION.len());
        refused[7] = 0;
        assert_eq!(judge(&refused, 7), None);
        // Cut in the middle of its record.
        let mut cut = answer(7, 0x8380);
        cut.truncate(cut.len() - 3);
        assert_eq!(judge(&cut, 7), None);
    }

    #[test]
    fn what_is_none_is_told() {
        assert_eq!(judge(b"\0\x07", 7), Some("too little for an answer"));
        assert_eq!(
            judge(&answer(8, 0x8180), 7),
            Some("an answer to another question")
        );
        assert_eq!(
            judge(&answer(7, 0x0100), 7),
            Some("a message that is no answer")
        );
        let mut short = answer(7, 0x8180);
        short.truncate(short.len() - 3);
        assert_eq!(judge(&short, 7), Some("an answer that is not well formed"));
    }

    #[test]
    fn on_a_stream_the_length_goes_first() {
        let mut question = Question::new(7, true);
        assert_eq!(question.begin().say[..4], [0, 17, 0, 7]);
        let message = answer(7, 0x8180);
        let length = u16::try_from(message.len()).expect("short").to_be_bytes();
        assert_eq!(question.hear(&length).verdict, None);
        assert_eq!(question.hear(&message[..9]).verdict, None);
        assert_eq!(question.hear(&message[9..]).verdict, Some(Ok(())));
        let endless = Question::new(7, true).hear(b"\xff\xff").verdict;
        assert_eq!(endless, Some(Err(Failure::TooMuch(LIMIT))));
    }
}
