//! The link in a line: where it goes, how it is written, how it is found again.

use super::Hash;
use crate::render::Format;

/// What a line says of its place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, from 1.
    pub number: u64,
    /// The hash of the line before; zeros in the first.
    pub previous: Hash,
    /// Its own hash, as the line claims it.
    pub claimed: Hash,
    /// Its own hash, as its bytes have it.
    pub actual: Hash,
}

/// A form of link: the texts around its three values.
struct Form {
    open: &'static str,
    previous: &'static str,
    hash: &'static str,
    close: &'static str,
}

const JSON: Form = Form {
    open: r#","chain":{"number":"#,
    previous: r#","previous":""#,
    hash: r#"","hash":""#,
    close: r#""}"#,
};
const CEF: Form = Form {
    open: " pwNumber=",
    previous: " pwPrevious=",
    hash: " pwHash=",
    close: "",
};
const SYSLOG: Form = Form {
    open: r#"[chain@32473 number=""#,
    previous: r#"" previous=""#,
    hash: r#"" hash=""#,
    close: r#""]"#,
};

const fn form(format: Format) -> &'static Form {
    match format {
        Format::Json | Format::Ecs | Format::Ocsf => &JSON,
        Format::Cef => &CEF,
        Format::Rfc5424 => &SYSLOG,
    }
}

/// Where the link of a line goes; `None` when the line is none of this format.
pub(super) fn place(line: &[u8], format: Format) -> Option<usize> {
    let body = line.strip_suffix(b"\n").unwrap_or(line);
    match format {
        Format::Json => body.strip_suffix(b"}").map(<[u8]>::len),
        // Within our own key, which is the last and never empty.
        Format::Ecs | Format::Ocsf => body.strip_suffix(b"}}").map(<[u8]>::len),
        Format::Cef => body.starts_with(b"CEF:").then_some(body.len()),
        Format::Rfc5424 => structured_data(body),
    }
}

/// Behind the header: six fields without spaces, each with one behind it.
fn structured_data(line: &[u8]) -> Option<usize> {
    let spaces = line.iter().enumerate().filter(|(_, byte)| **byte == b' ');
    let (at, _) = spaces.take(6).nth(5)?;
    line.starts_with(b"<").then_some(at + 1)
}

/// The link up to its hash, in two parts, and what follows the hash.
pub(super) fn text(format: Format, number: u64, previous: Hash) -> [String; 3] {
    let form = form(format);
    [
        format!("{}{number}", form.open),
        format!("{}{previous}{}", form.previous, form.hash),
        form.close.to_owned(),
    ]
}

impl Link {
    /// Reads the link of a line, without its newline. Text of others cannot look like one: quotes and equal signs in
    /// it are escaped. `None` where there is none, or not in the form in which it was written.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        let (form, at) = match line.first()? {
            b'{' => (&JSON, rfind(line, JSON.open)?),
            b'C' => (&CEF, rfind(line, CEF.open)?),
            b'<' => (&SYSLOG, structured_data(line)?),
            _ => return None,
        };
        let rest = line.get(at..)?.strip_prefix(form.open.as_bytes())?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = rest.split_at(digits);
        let number: u64 = str::from_utf8(number).ok()?.parse().ok()?;
        let (previous, rest) = hash(rest.strip_prefix(form.previous.as_bytes())?)?;
        let rest = rest.strip_prefix(form.hash.as_bytes())?;
        let hash_at = line.len() - rest.len();
        let (claimed, behind) = hash(rest)?;
        behind.strip_prefix(form.close.as_bytes())?;
        Some(Self {
            number,
            previous,
            claimed,
            actual: Hash::of(line.get(..hash_at)?, behind),
        })
    }
}

/// The hash that a text begins with, and the rest.
fn hash(text: &[u8]) -> Option<(Hash, &[u8])> {
    let (digits, rest) = text.split_at_checked(Hash::DIGITS)?;
    Some((str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// The last place of a text in a line.
fn rfind(line: &[u8], text: &str) -> Option<usize> {
    let mut windows = line.windows(text.len());
    windows.rposition(|window| window == text.as_bytes())
}
