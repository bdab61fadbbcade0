//! What Kafka's error codes mean for records that wait. Pure.
//!
//! Codes and names are those of the protocol guide of Apache Kafka (kafka.apache.org/protocol, "Error Codes"), those that
//! a producer without transactions can get. One that is not among them is tried again: it may be of a version to come.

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: the partition has the records.
    Taken,
    /// Ask again who leads the partition.
    Elsewhere,
    /// Try the same again; perhaps only after somebody has changed something.
    Later,
    /// Try fewer records; a single one will never be taken.
    Fewer,
    /// Number the records anew: what the broker knew of the old numbers is gone.
    Renumber,
    /// Send the records under the time of now: theirs is too far from the broker's. Their own is in the event.
    Redate,
}

const CODES: &[(i16, &str, Verdict)] = &[
    (-1, "UNKNOWN_SERVER_ERROR", Verdict::Later),
    (0, "NONE", Verdict::Taken),
    (2, "CORRUPT_MESSAGE", Verdict::Later),
    (3, "UNKNOWN_TOPIC_OR_PARTITION", Verdict::Elsewhere),
    (5, "LEADER_NOT_AVAILABLE", Verdict::Elsewhere),
    (6, "NOT_LEADER_OR_FOLLOWER", Verdict::Elsewhere),
    (7, "REQUEST_TIMED_OUT", Verdict::Later),
    (8, "BROKER_NOT_AVAILABLE", Verdict::Elsewhere),
    (9, "REPLICA_NOT_AVAILABLE", Verdict::Elsewhere),
    (10, "MESSAGE_TOO_LARGE", Verdict::Fewer),
    (13, "NETWORK_EXCEPTION", Verdict::Elsewhere),
    (17, "INVALID_TOPIC_EXCEPTION", Verdict::Later),
    (18, "RECORD_LIST_TOO_LARGE", Verdict::Fewer),
    (19, "NOT_ENOUGH_REPLICAS", Verdict::Later),
    (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Verdict::Later),
    (29, "TOPIC_AUTHORIZATION_FAILED", Verdict::Later),
    // Said to numbered batches where numbers are not given any more.
    (31, "CLUSTER_AUTHORIZATION_FAILED", Verdict::Renumber),
    (32, "INVALID_TIMESTAMP", Verdict::Redate),
    (33, "UNSUPPORTED_SASL_MECHANISM", Verdict::Later),
    (34, "ILLEGAL_SASL_STATE", Verdict::Later),
    (35, "UNSUPPORTED_VERSION", Verdict::Later),
    (42, "INVALID_REQUEST", Verdict::Later),
    (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", Verdict::Later),
    (44, "POLICY_VIOLATION", Verdict::Later),
    (45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Verdict::Renumber),
    (46, "DUPLICATE_SEQUENCE_NUMBER", Verdict::Taken),
    (47, "INVALID_PRODUCER_EPOCH", Verdict::Renumber),
    (49, "INVALID_PRODUCER_ID_MAPPING", Verdict::Renumber),
    (56, "KAFKA_STORAGE_ERROR", Verdict::Elsewhere),
    (58, "SASL_AUTHENTICATION_FAILED", Verdict::Later),
    (59, "UNKNOWN_PRODUCER_ID", Verdict::Renumber),
    (74, "FENCED_LEADER_EPOCH", Verdict::Elsewhere),
    (76, "UNSUPPORTED_COMPRESSION_TYPE", Verdict::Later),
    (87, "INVALID_RECORD", Verdict::Fewer),
    (89, "THROTTLING_QUOTA_EXCEEDED", Verdict::Later),
    (90, "PRODUCER_FENCED", Verdict::Renumber),
];

/// Its topic is not there.
pub(super) const NO_TOPIC: i16 = 3;
/// It may not do this.
pub(super) const NO_CLUSTER_RIGHT: i16 = 31;
/// There is no such way to log in.
pub(super) const NO_MECHANISM: i16 = 33;
/// It cannot unpack what was packed.
pub(super) const NO_COMPRESSION: i16 = 76;

/// What is to be done about this code.
pub(super) fn verdict(code: i16) -> Verdict {
    let known = CODES.iter().find(|(known, ..)| *known == code);
    known.map_or(Verdict::Later, |(.., verdict)| *verdict)
}

/// The code by name and number, and what the broker says of it.
pub(super) fn told(code: i16, words: Option<&str>) -> String {
    let known = CODES.iter().find(|(known, ..)| *known == code);
    let name = known.map_or("an error", |(_, name, _)| name);
    match words {
        Some(words) => format!("{name} ({code}): {words}"),
        None => format!("{name} ({code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::{CODES, Verdict, told, verdict};

    #[test]
    fn each_code_stands_there_once_and_in_order() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn what_nobody_knows_is_tried_again() {
        assert_eq!(verdict(0), Verdict::Taken);
        assert_eq!(verdict(46), Verdict::Taken);
        assert_eq!(verdict(6), Verdict::Elsewhere);
        assert_eq!(verdict(9_999), Verdict::Later);
        assert_eq!(told(9_999, None), "an error (9999)");
        assert_eq!(
            told(10, Some("too long")),
            "MESSAGE_TOO_LARGE (10): too long"
        );
    }
}
