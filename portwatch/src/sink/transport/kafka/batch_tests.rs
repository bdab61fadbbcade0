use std::io::Read as _;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use uuid::Uuid;

use super::{crc32c, encode, fitting, put_number};
use crate::event::{EventType, Severity};
use crate::sink::transport::Parcel;
use crate::sink::transport::kafka::numbers::Numbered;
use crate::sink::transport::testing::parcels;

const NUMBERED: Numbered = Numbered {
    producer: 77,
    epoch: 3,
    sequence: 9,
};

/// What a consumer reads: time in ms, key, value, headers.
type Record = (i64, Vec<u8>, Vec<u8>, Vec<(String, String)>);

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken.to_vec()
    }

    fn big(&mut self, count: usize) -> i64 {
        let bytes = self.take(count);
        let negative = if bytes[0] >= 0x80 { -1 } else { 0 };
        bytes
            .iter()
            .fold(negative, |sum, byte| sum << 8 | i64::from(*byte))
    }

    fn small(&mut self) -> i64 {
        let (mut sum, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)[0];
            sum |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return (sum >> 1).cast_signed() ^ -((sum & 1).cast_signed());
            }
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.small();
        self.take(length.try_into().expect("a length"))
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes()).expect("text")
    }
}

/// Reads a batch as the description of the format has it.
fn decode(batch: &[u8]) -> (Numbered, Vec<Record>) {
    let mut bytes = Bytes(batch);
    assert_eq!(bytes.big(8), 0, "offset");
    assert_eq!(bytes.big(4), batch.len() as i64 - 12, "length");
    assert_eq!((bytes.big(4), bytes.big(1)), (-1, 2), "epoch and format");
    let crc = bytes.big(4) as u32;
    assert_eq!(crc, crc32c(bytes.0));
    let (attributes, last) = (bytes.big(2), bytes.big(4));
    let (first_ms, last_ms) = (bytes.big(8), bytes.big(8));
    let numbered = Numbered {
        producer: bytes.big(8),
        epoch: bytes.big(2) as i16,
        sequence: bytes.big(4) as i32,
    };
    let count = bytes.big(4);
    assert_eq!(last, count - 1);
    let mut unpacked = Vec::new();
    let mut bytes = match attributes {
        0 => bytes,
        1 => {
            let read = GzDecoder::new(bytes.0).read_to_end(&mut unpacked);
            assert_eq!(read.expect("gzip"), unpacked.len());
            Bytes(&unpacked)
        }
        other => panic!("attributes {other}"),
    };
    let records = (0..count).map(|at| {
        let record = bytes.bytes();
        let mut record = Bytes(&record);
        assert_eq!(record.big(1), 0, "attributes");
        let ms = first_ms + record.small();
        assert_eq!(record.small(), at, "offset");
        let (key, value, headers) = (record.bytes(), record.bytes(), record.small());
        let headers = (0..headers)
            .map(|_| (record.text(), record.text()))
            .collect();
        assert!(record.0.is_empty());
        assert!(ms <= last_ms);
        (ms, key, value, headers)
    });
    let records: Vec<Record> = records.collect();
    assert!(bytes.0.is_empty());
    assert_eq!(records.iter().map(|record| record.0).max(), Some(last_ms));
    (numbered, records)
}

/// The value that RFC 3720 and everybody else has for these.
#[test]
fn a_checksum_is_the_one_of_castagnoli() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
}

#[test]
fn a_number_is_short_when_it_is_small() {
    let put = |number| {
        let mut out = Vec::new();
        put_number(number, &mut out);
        out
    };
    assert_eq!(put(0), [0]);
    assert_eq!(put(-1), [1]);
    assert_eq!(put(1), [2]);
    assert_eq!(put(-64), [0x7f]);
    assert_eq!(put(64), [0x80, 1]);
    assert_eq!(put(i64::MIN).len(), 10);
}

#[test]
fn a_batch_is_no_longer_than_it_may_be_unless_one_record_is() {
    let mut all = parcels(100);
    for parcel in &mut all {
        parcel.line = vec![b'x'; 5_000];
    }
    for bytes in [0, 6_000, 50_000, 1 << 20] {
        let count = fitting(&all, b"key", 64, bytes);
        let length = encode(&all[..count], b"key", NUMBERED, false, None)
            .expect("a batch")
            .len();
        assert!(count == 1 || length <= bytes, "{count} in {bytes}");
    }
    assert_eq!(fitting(&all, b"key", 64, usize::MAX), 64);
    assert_eq!(fitting(&all, b"key", 64, 50_000), 9);
    assert_eq!(fitting(&all, b"key", 0, 50_000), 1);
    assert_eq!(fitting(&[], b"key", 64, 50_000), 0);
}

fn parcel() -> impl Strategy<Value = Parcel> {
    let line = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 1..80),
        1 => (1_usize..20_000).prop_map(|length| vec![b'a'; length]),
    ];
    let times = prop_oneof![0..i64::MAX / 2, Just(0), Just(1_795_290_121_123_456_789)];
    (any::<u128>(), times, line).prop_map(|(id, ts_ns, line)| Parcel {
        id: Uuid::from_u128(id),
        ts_ns,
        kind: EventType::ListenerOpened,
        severity: Severity::Notice,
        line,
    })
}

proptest! {
    #[test]
    fn a_consumer_reads_what_went_in(
        all in proptest::collection::vec(parcel(), 1..40),
        key in "[a-f0-9]{1,32}",
        gzip in any::<bool>(),
        now in prop::option::of(0..i64::MAX / 2),
    ) {
        let batch = encode(&all, key.as_bytes(), NUMBERED, gzip, now).expect("a batch");
        let (numbered, records) = decode(&batch);
        prop_assert_eq!(numbered, NUMBERED);
        let expected: Vec<Record> = all
            .into_iter()
            .map(|parcel| {
                let headers = [("id", parcel.id.to_string()), ("type", "listener.opened".to_owned())];
                let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
                (now.unwrap_or(parcel.ts_ns / 1_000_000), key.clone().into_bytes(), parcel.line, headers)
            })
            .collect();
        prop_assert_eq!(records, expected);
    }
}
