//! What a server's answer to a request means for each record of it. Pure.

use serde_json::Value;

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server has it.
    Taken,
    /// Not now.
    Later(String),
    /// Never.
    Refused(String),
}

/// Elasticsearch's and OpenSearch's: an item for each record, in the order of the request.
pub(crate) fn bulk(count: usize, body: &[u8]) -> Result<Vec<Fate>, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|_| "its answer is no JSON".to_owned())?;
    if json.get("errors").and_then(Value::as_bool) == Some(false) {
        return Ok(vec![Fate::Taken; count]);
    }
    let items = json.get("items").and_then(Value::as_array);
    let items = items.filter(|items| items.len() == count);
    let items = items.ok_or_else(|| "its answer is not one to each record".to_owned())?;
    Ok(items.iter().map(item).collect())
}

fn item(item: &Value) -> Fate {
    let inner = item.as_object().and_then(|item| item.values().next());
    let Some(inner) = inner else {
        return Fate::Later("an item without an answer".to_owned());
    };
    let status = inner.get("status").and_then(Value::as_u64).unwrap_or(0);
    let text = |key: &str| {
        let error = inner.get("error")?;
        error.get(key).and_then(Value::as_str)
    };
    let kind = text("type").unwrap_or("an error");
    let why = format!("{status} {kind}: {}", text("reason").unwrap_or_default());
    // Not about the record: a cluster that is full, or an index that is closed or has a wrong name.
    const NOT_NOW: [&str; 4] = [
        "cluster_block_exception",
        "index_closed_exception",
        "invalid_index_name_exception",
        "validation_exception",
    ];
    match status {
        400 if NOT_NOW.contains(&kind) => Fate::Later(why),
        // It is there already: it came before, and its answer was lost.
        200..=299 | 409 => Fate::Taken,
        400 | 413 | 422 => Fate::Refused(why),
        _ => Fate::Later(why),
    }
}

/// OpenTelemetry's: how many it will never take, but not which.
pub(crate) fn otlp(count: usize, body: &[u8]) -> Vec<Fate> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let partial = json.get("partialSuccess");
    let rejected = partial.and_then(|partial| partial.get("rejectedLogRecords"));
    // A number of 64 bits is a text there.
    let rejected = rejected
        .and_then(|number| number.as_u64().or_else(|| number.as_str()?.parse().ok()))
        .and_then(|number| usize::try_from(number).ok());
    let rejected = rejected.unwrap_or(0).min(count);
    let why = partial.and_then(|partial| partial.get("errorMessage"));
    let why = why.and_then(Value::as_str).unwrap_or("rejected");
    let mut fates = vec![Fate::Taken; count - rejected];
    fates.resize(
        count,
        Fate::Refused(format!("{why} (it does not say which)")),
    );
    fates
}

/// Is it one of the records for which Splunk refused a request with 400? By the code in its answer, of which its manual
/// has a table ("Possible error codes" in "Troubleshoot HTTP Event Collector",
/// <https://help.splunk.com/en/splunk-enterprise/get-data-in/collect-http-event-data/troubleshoot-http-event-collector>):
///
/// | code | meaning | whose fault | so |
/// |---|---|---|---|
/// | 5, 6 | no data, invalid data format | a record's | refused |
/// | 7 | incorrect index | the configuration's, here or there: the token may not write to this index | later |
/// | 10, 11 | data channel missing, invalid | the request's; a proxy may have cut the header off | later |
/// | 12, 13 | event field is required, cannot be blank | a record's | refused |
/// | 14 | acknowledgement is disabled | the token's | later |
/// | 15 | error in handling indexed fields | a record's | refused |
/// | 16 | query string authorization is not enabled | the request's | later |
///
/// Those of the login (1 to 4, with 401 and 403) and of the server (8, 9 and from 17 on, with 429, 500 and 503) come with
/// another status. What is none of these says nothing of a record.
pub(crate) fn is_a_records_fault(body: &[u8]) -> bool {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = json.get("code").and_then(Value::as_u64);
    matches!(code, Some(5 | 6 | 12 | 13 | 15))
}

/// The number by which Splunk is asked for an acknowledgement.
pub(crate) fn number(body: &[u8]) -> Option<u64> {
    let json: Value = serde_json::from_slice(body).ok()?;
    json.get("ackId")?.as_u64()
}

/// Has Splunk what it gave this number for?
pub(crate) fn is_confirmed(body: &[u8], number: u64) -> bool {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let acks = json.get("acks");
    let ack = acks.and_then(|acks| acks.get(number.to_string()));
    ack.and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::{Fate, bulk, is_a_records_fault, is_confirmed, number, otlp};

    #[test]
    fn each_item_has_its_fate() {
        let body = br#"{"errors":true,"items":[{"create":{"status":201}},
            {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"exists"}}},
            {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"queue full"}}},
            {"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"bad date"}}},
            {"index":{"status":404,"error":{"type":"index_not_found_exception","reason":"no index"}}}]}"#;
        let fates = bulk(5, body).expect("an answer");
        assert_eq!(fates[..2], [Fate::Taken, Fate::Taken]);
        assert!(matches!(&fates[2], Fate::Later(why) if why.starts_with("429 es_rejected")));
        assert_eq!(
            fates[3],
            Fate::Refused("400 document_parsing_exception: bad date".to_owned())
        );
        assert!(matches!(&fates[4], Fate::Later(_)));
        assert_eq!(bulk(2, br#"{"errors":false}"#), Ok(vec![Fate::Taken; 2]));
    }

    #[test]
    fn an_answer_that_is_not_one_to_each_acknowledges_nothing() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"errors":true,"items":[]}"#,
            r#"{"errors":true,"items":[{"create":{"status":201}}]}"#,
        ] {
            assert!(bulk(2, body.as_bytes()).is_err(), "{body}");
        }
        let odd = bulk(1, br#"{"errors":true,"items":[7]}"#).expect("an answer");
        assert!(matches!(odd[0], Fate::Later(_)));
    }

    #[test]
    fn what_a_collector_rejects_is_counted() {
        assert_eq!(otlp(2, b"{}"), vec![Fate::Taken; 2]);
        let fates = otlp(
            3,
            br#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}"#,
        );
        assert_eq!(fates[0], Fate::Taken);
        assert_eq!(
            fates[2],
            Fate::Refused("too old (it does not say which)".to_owned())
        );
        assert_eq!(
            otlp(1, br#"{"partialSuccess":{"rejectedLogRecords":99}}"#).len(),
            1
        );
    }

    #[test]
    fn splunk_tells_by_a_code_whose_fault_it_is() {
        let faults: Vec<u8> = (0..=27)
            .filter(|code| {
                is_a_records_fault(format!(r#"{{"text":"x","code":{code}}}"#).as_bytes())
            })
            .collect();
        assert_eq!(faults, [5, 6, 12, 13, 15]);
        for body in ["", "<html>400</html>", r#"{"code":"6"}"#, "[6]"] {
            assert!(!is_a_records_fault(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn splunk_confirms_by_number() {
        assert_eq!(number(br#"{"text":"Success","code":0,"ackId":7}"#), Some(7));
        assert_eq!(number(br#"{"text":"Success","code":0}"#), None);
        assert!(is_confirmed(br#"{"acks":{"7":true}}"#, 7));
        assert!(!is_confirmed(br#"{"acks":{"7":false,"8":true}}"#, 7));
    }
}
