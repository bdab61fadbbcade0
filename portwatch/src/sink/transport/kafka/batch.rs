//! Records as Kafka stores them: a batch of format 2, with its checksum. Pure.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::numbers::Numbered;
use crate::sink::transport::Parcel;

/// What a batch and a record in it take besides key, value and headers, in bytes; rather too much.
const AROUND_BATCH: usize = 61;
const AROUND_RECORD: usize = 128;

/// How many records from the front fit into so many bytes; one always does.
pub(super) fn fitting(parcels: &[Parcel], key: &[u8], most: usize, bytes: usize) -> usize {
    let mut length = AROUND_BATCH;
    let fits = |parcel: &&Parcel| {
        length += parcel.line.len() + key.len() + AROUND_RECORD;
        length <= bytes
    };
    let fitting = parcels.iter().take(most).take_while(fits).count();
    fitting.max(1).min(parcels.len())
}

/// One batch of all of them, in this order, each under the key, and at its time or, if that is given, at this one (ms).
///
/// # Errors
/// It cannot be packed.
pub(super) fn encode(
    parcels: &[Parcel],
    key: &[u8],
    numbered: Numbered,
    gzip: bool,
    now: Option<i64>,
) -> io::Result<Vec<u8>> {
    let millis = |parcel: &Parcel| now.unwrap_or_else(|| millis(parcel));
    let first = parcels.first().map_or(0, millis);
    let last = parcels.iter().map(millis).max().unwrap_or(first);
    let mut records = Vec::new();
    for (at, parcel) in (0..).zip(parcels) {
        put_record(parcel, key, millis(parcel) - first, at, &mut records);
    }
    let count = i32::try_from(parcels.len()).unwrap_or(i32::MAX);
    let packed = gzip.then(|| packed(&records)).transpose()?;
    let packed = packed.filter(|packed| packed.len() < records.len());
    let attributes = i16::from(packed.is_some());
    let records = packed.unwrap_or(records);
    // From the attributes on: what the checksum is of.
    let mut rest = Vec::with_capacity(AROUND_BATCH + records.len());
    rest.extend(attributes.to_be_bytes());
    rest.extend((count - 1).to_be_bytes());
    rest.extend(first.to_be_bytes());
    rest.extend(last.to_be_bytes());
    rest.extend(numbered.producer.to_be_bytes());
    rest.extend(numbered.epoch.to_be_bytes());
    rest.extend(numbered.sequence.to_be_bytes());
    rest.extend(count.to_be_bytes());
    rest.extend(records);
    const OFFSET: i64 = 0;
    const LEADER_EPOCH: i32 = -1;
    const FORMAT: i8 = 2;
    let length = i32::try_from(rest.len() + 9).unwrap_or(i32::MAX);
    let mut batch = Vec::with_capacity(AROUND_BATCH + rest.len());
    batch.extend(OFFSET.to_be_bytes());
    batch.extend(length.to_be_bytes());
    batch.extend(LEADER_EPOCH.to_be_bytes());
    batch.extend(FORMAT.to_be_bytes());
    batch.extend(crc32c(&rest).to_be_bytes());
    batch.extend(rest);
    Ok(batch)
}

const fn millis(parcel: &Parcel) -> i64 {
    parcel.ts_ns / 1_000_000
}

fn put_record(parcel: &Parcel, key: &[u8], after: i64, at: i64, out: &mut Vec<u8>) {
    let mut record = Vec::with_capacity(parcel.line.len() + key.len() + AROUND_RECORD);
    // Attributes, of which there are none.
    record.push(0);
    put_number(after, &mut record);
    put_number(at, &mut record);
    put_bytes(key, &mut record);
    put_bytes(&parcel.line, &mut record);
    let id = parcel.id.to_string();
    let headers = [("id", id.as_str()), ("type", parcel.kind.as_str())];
    put_length(headers.len(), &mut record);
    for (name, value) in headers {
        put_bytes(name.as_bytes(), &mut record);
        put_bytes(value.as_bytes(), &mut record);
    }
    put_bytes(&record, out);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    put_number(i64::try_from(length).unwrap_or(i64::MAX), out);
}

/// Small ones of both signs are short: the sign is the last bit, and each byte says whether more follow.
fn put_number(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    while rest > 0x7f {
        out.push((rest & 0x7f | 0x80) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn packed(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(records)?;
    encoder.finish()
}

/// CRC-32C of Castagnoli, which is another one than the CRC-32 of gzip and of our buffers.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| crc >> 8 ^ TABLE[(crc as u8 ^ byte) as usize];
    !bytes.iter().fold(!0, step)
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
