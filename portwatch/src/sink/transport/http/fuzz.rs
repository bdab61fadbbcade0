//! Any bytes as an HTTP server's answer to records: one fate for each record, or none at all.

use super::answer::{bulk, is_a_records_fault, is_confirmed, number, otlp};

/// The property of the target `reply`: the first byte is the number of records.
pub fn reply(bytes: &[u8]) {
    let [count, body @ ..] = bytes else {
        return;
    };
    let count = usize::from(*count);
    if let Ok(fates) = bulk(count, body) {
        assert_eq!(fates.len(), count);
    }
    assert_eq!(otlp(count, body).len(), count);
    assert!(!is_a_records_fault(body) || body.windows(4).any(|part| part == b"code"));
    if let Some(number) = number(body) {
        assert!(!is_confirmed(body, number) || body.windows(4).any(|part| part == b"acks"));
    }
}

/// Answers as they should be, and one that is short.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seed = |count: u8, body: &[u8]| [&[count], body].concat();
    vec![
        ("fine", seed(2, br#"{"errors":false}"#)),
        (
            "mixed",
            seed(
                2,
                br#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":400,"error":{"type":"t","reason":"r"}}}]}"#,
            ),
        ),
        ("short", seed(3, br#"{"errors":true,"items":[{"create":{"status":201}}]}"#)),
        ("partial", seed(3, br#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"no"}}"#)),
        ("ack", seed(1, br#"{"text":"Success","code":0,"ackId":3,"acks":{"3":true}}"#)),
    ]
}
