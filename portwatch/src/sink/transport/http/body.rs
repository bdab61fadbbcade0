//! What a request looks like to each kind of server. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::answer::{self, Fate};
use crate::event::Severity;
use crate::sink::transport::Parcel;

/// What a server takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Elasticsearch's and OpenSearch's `_bulk`.
    Elasticsearch {
        /// Index or data stream.
        index: String,
    },
    /// Splunk's HTTP Event Collector.
    Splunk {
        /// Index; the token's where there is none.
        index: Option<String>,
        /// What Splunk calls this kind of events.
        sourcetype: String,
        /// Wait until the indexers have it.
        acknowledged: bool,
    },
    /// Loki's push API.
    Loki {
        /// Labels of every stream.
        labels: BTreeMap<String, String>,
    },
    /// A collector of OpenTelemetry, in JSON.
    Otlp,
    /// A record a line.
    Lines,
    /// A list of records.
    Array,
}

impl Shape {
    /// Where below the address a request goes; nowhere below it when it is the address itself.
    pub(super) fn path(&self) -> Option<String> {
        match self {
            // Of each answer only what is looked at: the first error tells what is wrong.
            Self::Elasticsearch { index } => Some(format!(
                "/{index}/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
            )),
            Self::Splunk { .. } => Some("/services/collector/event".to_owned()),
            Self::Loki { .. } => Some("/loki/api/v1/push".to_owned()),
            Self::Otlp => Some("/v1/logs".to_owned()),
            Self::Lines | Self::Array => None,
        }
    }

    pub(super) const fn content_type(&self) -> &'static str {
        match self {
            Self::Elasticsearch { .. } | Self::Lines => "application/x-ndjson",
            _ => "application/json",
        }
    }

    /// The body of a request.
    pub(super) fn body(&self, batch: &[&Parcel], host: &str, is_json: bool) -> Vec<u8> {
        let length: usize = batch.iter().map(|parcel| parcel.line.len() + 256).sum();
        let mut out = Vec::with_capacity(length);
        match self {
            Self::Elasticsearch { .. } => {
                for parcel in batch {
                    let action = format!("{{\"create\":{{\"_id\":\"{}\"}}}}\n", parcel.id);
                    out.extend_from_slice(action.as_bytes());
                    out.extend_from_slice(&parcel.line);
                    out.push(b'\n');
                }
            }
            Self::Splunk {
                index, sourcetype, ..
            } => {
                for parcel in batch {
                    let mut head = json!({
                        "host": host,
                        "source": "portwatch",
                        "sourcetype": sourcetype,
                        "fields": { "event_id": parcel.id.to_string() },
                    });
                    if let (Some(index), Value::Object(head)) = (index, &mut head) {
                        head.insert("index".to_owned(), index.clone().into());
                    }
                    let head = head.to_string();
                    out.extend_from_slice(head.strip_suffix('}').unwrap_or(&head).as_bytes());
                    let time = format!(",\"time\":{},\"event\":", seconds(parcel.ts_ns));
                    out.extend_from_slice(time.as_bytes());
                    value(&parcel.line, is_json, &mut out);
                    out.extend_from_slice(b"}\n");
                }
            }
            Self::Loki { labels } => out.extend_from_slice(loki(batch, host, labels).as_bytes()),
            Self::Otlp => out.extend_from_slice(otlp(batch, host, is_json).as_bytes()),
            Self::Lines => {
                for parcel in batch {
                    out.extend_from_slice(&parcel.line);
                    out.push(b'\n');
                }
            }
            Self::Array => {
                out.push(b'[');
                for (at, parcel) in batch.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    value(&parcel.line, is_json, &mut out);
                }
                out.push(b']');
            }
        }
        out
    }

    /// What an answer that is no error means to so many records.
    pub(super) fn judge(&self, count: usize, body: &[u8]) -> Result<Vec<Fate>, String> {
        match self {
            Self::Elasticsearch { .. } => answer::bulk(count, body),
            Self::Otlp => Ok(answer::otlp(count, body)),
            _ => Ok(vec![Fate::Taken; count]),
        }
    }
}

/// A record as a value of JSON.
fn value(line: &[u8], is_json: bool, out: &mut Vec<u8>) {
    match is_json {
        true => out.extend_from_slice(line),
        false => {
            let text = Value::from(String::from_utf8_lossy(line));
            out.extend_from_slice(text.to_string().as_bytes());
        }
    }
}

/// Seconds since 1970 with six digits behind the point.
fn seconds(ts_ns: i64) -> String {
    let micros = ts_ns.max(0) / 1_000;
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// A stream for each type and severity: few, whatever happens.
fn loki(batch: &[&Parcel], host: &str, labels: &BTreeMap<String, String>) -> String {
    let mut streams: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for parcel in batch {
        let line = String::from_utf8_lossy(&parcel.line);
        let values = streams.entry((parcel.kind, parcel.severity)).or_default();
        values.push(json!([parcel.ts_ns.to_string(), line]));
    }
    let streams = streams.into_iter().map(|((kind, severity), values)| {
        let mut stream: Map<String, Value> = labels
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect();
        stream.insert("host".to_owned(), host.into());
        stream.insert("type".to_owned(), kind.as_str().into());
        stream.insert("severity".to_owned(), severity.as_str().into());
        json!({ "stream": stream, "values": values })
    });
    json!({ "streams": streams.collect::<Vec<_>>() }).to_string()
}

fn otlp(batch: &[&Parcel], host: &str, is_json: bool) -> String {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let records = batch.iter().map(|parcel| {
        let body = match serde_json::from_slice(&parcel.line) {
            Ok(json) if is_json => any(&json),
            _ => json!({ "stringValue": String::from_utf8_lossy(&parcel.line) }),
        };
        json!({
            "timeUnixNano": parcel.ts_ns.to_string(),
            "observedTimeUnixNano": parcel.ts_ns.to_string(),
            "severityNumber": number(parcel.severity),
            "severityText": parcel.severity.as_str(),
            "eventName": parcel.kind.as_str(),
            "body": body,
            "attributes": [text("log.record.uid", &parcel.id.to_string())],
        })
    });
    json!({ "resourceLogs": [{
        "resource": { "attributes": [text("service.name", "portwatch"), text("host.name", host)] },
        "scopeLogs": [{
            "scope": { "name": "portwatch", "version": env!("CARGO_PKG_VERSION") },
            "logRecords": records.collect::<Vec<_>>(),
        }],
    }] })
    .to_string()
}

/// As OpenTelemetry's logs have syslog's severities.
const fn number(severity: Severity) -> u8 {
    match severity {
        Severity::Debug => 5,
        Severity::Info => 9,
        Severity::Notice => 10,
        Severity::Warning => 13,
        Severity::Critical => 18,
    }
}

/// JSON as OpenTelemetry's `AnyValue`. It is our own, and not deep.
fn any(json: &Value) -> Value {
    match json {
        Value::Null => json!({}),
        Value::Bool(truth) => json!({ "boolValue": truth }),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => json!({ "intValue": whole.to_string() }),
            // Beyond 63 bits only the digits are exact.
            None if number.is_u64() => json!({ "stringValue": number.to_string() }),
            None => json!({ "doubleValue": number }),
        },
        Value::String(text) => json!({ "stringValue": text }),
        Value::Array(all) => {
            json!({ "arrayValue": { "values": all.iter().map(any).collect::<Vec<_>>() } })
        }
        Value::Object(all) => {
            let pairs = all
                .iter()
                .map(|(key, value)| json!({ "key": key, "value": any(value) }));
            json!({ "kvlistValue": { "values": pairs.collect::<Vec<_>>() } })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Shape;
    use crate::sink::transport::testing::parcels;

    fn body(shape: &Shape, is_json: bool) -> String {
        let parcels = parcels(2);
        let batch: Vec<_> = parcels.iter().collect();
        String::from_utf8(shape.body(&batch, "web1", is_json)).expect("text")
    }

    #[test]
    fn a_bulk_has_an_action_before_each_record() {
        let shape = Shape::Elasticsearch {
            index: "logs-portwatch-default".to_owned(),
        };
        assert_eq!(
            body(&shape, true),
            "{\"create\":{\"_id\":\"00000000-0000-0000-0000-000000000000\"}}\n{\"n\":0}\n\
             {\"create\":{\"_id\":\"00000000-0000-0000-0000-000000000001\"}}\n{\"n\":1}\n"
        );
        assert!(
            shape
                .path()
                .expect("a path")
                .starts_with("/logs-portwatch-default/_bulk?")
        );
    }

    #[test]
    fn splunk_has_an_envelope_around_each_record() {
        let shape = Shape::Splunk {
            index: Some("soc".to_owned()),
            sourcetype: "portwatch".to_owned(),
            acknowledged: false,
        };
        let body = body(&shape, true);
        let lines: Vec<Value> = body
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["event"], json!({ "n": 1 }));
        assert!(body.contains("\"time\":1795290121.123456,"), "{body}");
        assert_eq!(
            (&lines[0]["index"], &lines[0]["host"]),
            (&json!("soc"), &json!("web1"))
        );
    }

    #[test]
    fn loki_has_a_stream_for_each_type_and_severity() {
        let labels = [("job".to_owned(), "portwatch".to_owned())];
        let shape = Shape::Loki {
            labels: labels.into(),
        };
        let json: Value = serde_json::from_str(&body(&shape, true)).expect("JSON");
        assert_eq!(
            json,
            json!({ "streams": [{
                "stream": { "host": "web1", "job": "portwatch", "severity": "notice", "type": "listener.opened" },
                "values": [["1795290121123456789", "{\"n\":0}"], ["1795290121123456789", "{\"n\":1}"]],
            }] })
        );
    }

    #[test]
    fn a_record_of_otlp_has_its_fields_as_values() {
        let json: Value = serde_json::from_str(&body(&Shape::Otlp, true)).expect("JSON");
        let record = &json["resourceLogs"][0]["scopeLogs"][0]["logRecords"][1];
        assert_eq!(record["timeUnixNano"], "1795290121123456789");
        assert_eq!(
            (&record["severityNumber"], &record["eventName"]),
            (&json!(10), &json!("listener.opened"))
        );
        assert_eq!(
            record["body"],
            json!({ "kvlistValue": { "values": [{ "key": "n", "value": { "intValue": "1" } }] } })
        );
    }

    #[test]
    fn lines_and_lists_hold_what_is_no_json_as_text() {
        assert_eq!(body(&Shape::Lines, true), "{\"n\":0}\n{\"n\":1}\n");
        assert_eq!(body(&Shape::Array, true), "[{\"n\":0},{\"n\":1}]");
        assert_eq!(body(&Shape::Array, false), r#"["{\"n\":0}","{\"n\":1}"]"#);
    }
}
