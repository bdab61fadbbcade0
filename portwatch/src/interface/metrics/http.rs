//! As much of HTTP/1.1 as a scraper needs: the head of one request in, one answer out. Pure.
//!
//! Our own and no framework's: one method, one path, no bodies, no connection that stays. What is left is small enough to
//! be fuzzed whole, and a server crate would add more to the program than all of this page.

use std::net::IpAddr;

use super::exposition::Format;

/// Bytes of a request's head, at most.
pub(super) const MAX_HEAD: usize = 8 * 1024;
/// Lines of headers, at most.
const MAX_HEADERS: usize = 64;

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The page in this format; of HEAD only its head.
    Page { format: Format, is_head: bool },
    /// What is wrong.
    Refusal(Refusal),
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no request.
    Malformed,
    /// Another path.
    NotFound,
    /// Another method.
    Method,
    /// The name of another host: a browser was lured here.
    Misdirected,
    /// The request did not come in time.
    Late,
    /// Its head is too long.
    TooLong,
    /// Too many clients, or a daemon that does not answer.
    Busy,
}

impl Refusal {
    /// Status line and sentence.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Malformed => ("400 Bad Request", "This is no HTTP/1.1 request."),
            Self::NotFound => ("404 Not Found", "Metrics are at /metrics."),
            Self::Method => ("405 Method Not Allowed", "Only GET and HEAD are answered."),
            Self::Misdirected => (
                "421 Misdirected Request",
                "This server answers to localhost and addresses of loopback only.",
            ),
            Self::Late => ("408 Request Timeout", "The request did not come in time."),
            Self::TooLong => (
                "431 Request Header Fields Too Large",
                "The head of a request has at most 8192 bytes.",
            ),
            Self::Busy => (
                "503 Service Unavailable",
                "There are too many clients, or the daemon does not answer; try again.",
            ),
        }
    }

    /// The whole answer.
    pub(super) fn bytes(self) -> Vec<u8> {
        let (status, sentence) = self.words();
        let more = match self {
            Self::Method => "Allow: GET, HEAD\r\n",
            Self::Busy => "Retry-After: 5\r\n",
            _ => "",
        };
        let body = format!("{sentence}\n");
        let mut bytes = head(status, "text/plain; charset=utf-8", body.len(), more);
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }
}

/// The page with its head, or the head alone.
pub(super) fn page_bytes(page: &str, format: Format, is_head: bool) -> Vec<u8> {
    let mut bytes = head("200 OK", format.content_type(), page.len(), "");
    if !is_head {
        bytes.extend_from_slice(page.as_bytes());
    }
    bytes
}

fn head(status: &str, kind: &str, length: usize, more: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// Where the head of a request ends in what came so far.
pub(super) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut windows = bytes.windows(4);
    windows
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// What to answer to this head, which ends with an empty line. With `any_host`, whatever host was asked for.
pub(super) fn answer(head: &[u8], any_host: bool) -> Answer {
    match read(head, any_host) {
        Ok((format, is_head)) => Answer::Page { format, is_head },
        Err(refusal) => Answer::Refusal(refusal),
    }
}

fn read(head: &[u8], any_host: bool) -> Result<(Format, bool), Refusal> {
    let text = str::from_utf8(head).map_err(|_| Refusal::Malformed)?;
    let text = text.strip_suffix("\r\n\r\n").ok_or(Refusal::Malformed)?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else {
        return Err(Refusal::Malformed);
    };
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
    let is_modern = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(Refusal::Malformed),
    };
    if !is_token(method) || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::Malformed);
    }
    let (mut host, mut format) = (None, Format::Text);
    for (nth, line) in lines.enumerate() {
        let (name, value) = line.split_once(':').ok_or(Refusal::Malformed)?;
        let is_plain = value.chars().all(|c| c == '\t' || !c.is_control());
        if nth >= MAX_HEADERS || !is_token(name) || !is_plain {
            return Err(Refusal::Malformed);
        }
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("host") && host.replace(value).is_some() {
            return Err(Refusal::Malformed);
        }
        if name.eq_ignore_ascii_case("accept") && wants_open_metrics(value) {
            format = Format::OpenMetrics;
        }
    }
    match host {
        None if is_modern => return Err(Refusal::Malformed),
        Some(host) if !any_host && !is_loopback(host) => return Err(Refusal::Misdirected),
        _ => {}
    }
    let path = target.split('?').next().unwrap_or_default();
    match (path, method) {
        ("/metrics", "GET") => Ok((format, false)),
        ("/metrics", "HEAD") => Ok((format, true)),
        ("/metrics", _) => Err(Refusal::Method),
        _ => Err(Refusal::NotFound),
    }
}

/// `tchar` of RFC 9110.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// A page of the net that has its own name lead to this host would have a browser ask with that name.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether OpenMetrics 1.0.0 is among what is accepted. Who asks for it does so because it is liked better.
fn wants_open_metrics(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
        is_it
            && parts.all(|part| match part.split_once('=') {
                Some(("version", version)) => version.trim_matches('"') == "1.0.0",
                Some(("q", weight)) => weight.parse::<f32>().is_ok_and(|weight| weight > 0.0),
                _ => true,
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(head: &str) -> Answer {
        answer(head.replace('\n', "\r\n").as_bytes(), false)
    }

    const PAGE: Answer = Answer::Page {
        format: Format::Text,
        is_head: false,
    };

    #[test]
    fn scrapers_get_the_format_that_they_ask_for() {
        assert_eq!(ask("GET /metrics HTTP/1.1\nHost: localhost:9731\n\n"), PAGE);
        assert_eq!(ask("GET /metrics?x=1 HTTP/1.0\n\n"), PAGE);
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            (
                "application/openmetrics-text; version=1.0.0; q=0",
                Format::Text,
            ),
            ("application/openmetrics-text;version=0.0.1", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("*/*", Format::Text),
        ] {
            let head = format!("GET /metrics HTTP/1.1\nhost: [::1]:9731\nACCEPT: {accept}\n\n");
            let expected = Answer::Page {
                format,
                is_head: false,
            };
            assert_eq!(ask(&head), expected, "{accept}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let host = "Host: 127.0.0.1\n\n";
        for (head, refusal) in [
            (format!("POST /metrics HTTP/1.1\n{host}"), Refusal::Method),
            (format!("GET / HTTP/1.1\n{host}"), Refusal::NotFound),
            (
                format!("GET http://x/metrics HTTP/1.1\n{host}"),
                Refusal::NotFound,
            ),
            (format!("GET /metrics HTTP/2\n{host}"), Refusal::Malformed),
            (
                format!("GET  /metrics HTTP/1.1\n{host}"),
                Refusal::Malformed,
            ),
            (
                format!("GET /metrics HTTP/1.1\nHost: ::1\n{host}"),
                Refusal::Malformed,
            ),
            (
                format!("GET /metrics HTTP/1.1\n folded\n{host}"),
                Refusal::Malformed,
            ),
            (
                format!("GET /metrics HTTP/1.1\nA : b\n{host}"),
                Refusal::Malformed,
            ),
            (
                format!("GET /metrics HTTP/1.1\nA: \x1b\n{host}"),
                Refusal::Malformed,
            ),
            (
                format!("GET /metrics HTTP/1.1\n{}{host}", "A: b\n".repeat(64)),
                Refusal::Malformed,
            ),
            ("GET /metrics HTTP/1.1\n\n".to_owned(), Refusal::Malformed),
            (
                "GET /metrics HTTP/1.1\nHost: evil.example\n\n".to_owned(),
                Refusal::Misdirected,
            ),
            (
                "GET /metrics HTTP/1.1\nHost: 127.0.0.1.evil.example\n\n".to_owned(),
                Refusal::Misdirected,
            ),
            (
                "GET /metrics HTTP/1.1\nHost:\n\n".to_owned(),
                Refusal::Misdirected,
            ),
        ] {
            assert_eq!(ask(&head), Answer::Refusal(refusal), "{head:?}");
        }
        assert_eq!(
            answer(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", true),
            PAGE
        );
    }

    #[test]
    fn answers_say_how_long_they_are() {
        let whole = page_bytes("a 1\n", Format::Text, false);
        let head = page_bytes("a 1\n", Format::Text, true);
        assert_eq!(whole, [&head[..], b"a 1\n"].concat());
        assert!(String::from_utf8_lossy(&head).contains("\r\nContent-Length: 4\r\n"));
        let refusal = String::from_utf8(Refusal::Method.bytes()).expect("text");
        assert!(
            refusal.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
            "{refusal}"
        );
        assert!(refusal.contains("\r\nAllow: GET, HEAD\r\n"), "{refusal}");
    }
}
