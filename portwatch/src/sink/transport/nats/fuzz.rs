//! Any bytes as a NATS server: bounded, plain, and the same in whatever pieces they come.

use super::wire::{Answer, Heard, Said};
use crate::fuzzing::assert_plain;
use crate::sink::transport::fuzz::{Hears, heard};

impl Hears for Heard {
    type Said = Said;

    fn take(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    fn hand_on(&mut self) -> Result<Option<Said>, &'static str> {
        self.next()
    }
}

/// The property of the target `nats`: the first byte chooses the pieces.
pub fn nats(bytes: &[u8]) {
    for one in heard::<Heard>(bytes) {
        match one {
            Said::Error(text) => assert_short(&text),
            Said::Message(message) => {
                match message.answer() {
                    Answer::Taken => {}
                    Answer::Later(why) | Answer::Refused(why) => assert_short(&why),
                }
                if let Err(why) = message.created() {
                    assert_short(&why);
                }
            }
            Said::Info(_) | Said::Ping | Said::Pong | Said::Ok => {}
        }
    }
}

fn assert_short(text: &str) {
    assert_plain(text);
    assert!(text.chars().count() < 300, "{text}");
}

/// A conversation as it should be, and parts of it that are not.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seed = |said: &[u8]| [b"\x07", said].concat();
    vec![
        (
            "conversation",
            seed(
                b"INFO {\"server_id\":\"N\",\"max_payload\":1048576,\"tls_required\":true,\"nonce\":\"bm8\"}\r\n\
                PONG\r\nMSG _INBOX.x.0 1 26\r\n{\"stream\":\"EVENTS\",\"seq\":1}\r\nPING\r\n",
            ),
        ),
        (
            "refused",
            seed(
                b"MSG _INBOX.x.1 1 97\r\n{\"error\":{\"code\":400,\"err_code\":10054,\"description\":\
                \"message size exceeds maximum allowed\x1b\"}}      \r\n",
            ),
        ),
        (
            "nobody",
            seed(b"HMSG _INBOX.x.2 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"),
        ),
        ("error", seed(b"-ERR 'Authorization Violation'\r\n")),
        ("lengths", seed(b"HMSG a 1 9 5\r\nMSG a 1 18446744073709551615\r\n")),
    ]
}
