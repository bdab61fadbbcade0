//! Any bytes as a request for metrics: they are read within their bounds, and the answer is whole.

use super::exposition::Format;
use super::http::{Answer, MAX_HEAD, Refusal, answer, end_of_head, page_bytes};

/// The property of the target `scrape`.
pub fn scrape(bytes: &[u8]) {
    let head = match end_of_head(bytes) {
        Some(end) => bytes.get(..end).unwrap_or_default(),
        None => bytes,
    };
    if head.len() > MAX_HEAD {
        return;
    }
    let (strict, lax) = (answer(head, false), answer(head, true));
    // Which host was asked for decides nothing but whether there is an answer.
    assert!(strict == lax || strict == Answer::Refusal(Refusal::Misdirected));
    let answered = match strict {
        Answer::Page { format, is_head } => page_bytes("a 1\n", format, is_head),
        Answer::Refusal(refusal) => refusal.bytes(),
    };
    let is_head = matches!(strict, Answer::Page { is_head: true, .. });
    let end = end_of_head(&answered).unwrap_or_default();
    let text = str::from_utf8(answered.get(..end).unwrap_or_default()).unwrap_or_default();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let body = if is_head { 4 } else { answered.len() - end };
    assert_eq!(length, Some(&*body.to_string()));
    if matches!(strict, Answer::Page { .. }) {
        assert!(head.starts_with(b"GET /metrics") || head.starts_with(b"HEAD /metrics"));
    }
    let wants = |format: Format| matches!(strict, Answer::Page { format: is, .. } if is == format);
    assert!(!wants(Format::OpenMetrics) || text.contains("openmetrics-text"));
}

/// What scrapers say, and what they do not.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let prometheus = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9731\r\nUser-Agent: Prometheus/2.42.0\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\nAccept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n";
    [
        ("prometheus", prometheus),
        (
            "curl",
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
        ),
        ("old", "HEAD /metrics?a=b HTTP/1.0\r\n\r\n"),
        (
            "lured",
            "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        ),
        (
            "post",
            "POST /metrics HTTP/1.1\r\nHost: [::1]:9731\r\nContent-Length: 3\r\n\r\nabc",
        ),
        ("half", "GET /metrics HTTP/1.1\r\nHost: loc"),
        (
            "folded",
            "GET / HTTP/1.1\r\nHost: localhost\r\n more\r\n\r\n",
        ),
    ]
    .map(|(name, text)| (name, text.as_bytes().to_vec()))
    .to_vec()
}
