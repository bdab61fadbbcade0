//! Mails as a reader has them: unfolded, decoded.

/// A mail.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    head: Vec<(String, String)>,
    /// Its first part, the plain text.
    pub text: String,
}

impl Mail {
    /// Reads one as it went over the wire.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let whole = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        let (head, body) = whole.split_once("\n\n").unwrap_or((&whole, ""));
        // The first part, between its own head and the next boundary.
        let part = body.split_once("\n\n").map_or("", |(_, part)| part);
        let part = part.split("\n--").next().unwrap_or_default();
        let encoding = body.split("\n\n").next().unwrap_or_default();
        Self {
            head: lines(head),
            text: match encoding.contains("quoted-printable") {
                true => unquoted(part),
                false => part.to_owned(),
            },
        }
    }

    /// The value of a header; empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self
            .head
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// Its subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.header("Subject")
    }

    /// What a repetition is known by.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header("Message-ID")
    }
}

/// Headers, their continued lines put together.
fn lines(head: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for line in head.lines() {
        match (line.starts_with([' ', '\t']), all.last_mut()) {
            (true, Some((_, value))) => value.push_str(line),
            _ => {
                let (key, value) = line.split_once(':').unwrap_or((line, ""));
                all.push((key.to_owned(), value.trim().to_owned()));
            }
        }
    }
    all
}

fn unquoted(text: &str) -> String {
    let text = text.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'=')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|code| std::str::from_utf8(code).ok())
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::Mail;

    #[test]
    fn it_is_unfolded_and_decoded() {
        let mail = Mail::read(
            b"Subject: one\r\n two\r\nMessage-ID: <a@b>\r\n\r\n--x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
              a=3Db=\r\nc\r\n=C3=A9\r\n--x\r\nother\r\n",
        );
        assert_eq!((mail.subject(), mail.id()), ("one two", "<a@b>"));
        assert_eq!(mail.text, "a=bc\n\u{e9}");
    }
}
