//! Reads BTF, the kernel's own description of its types, as it stands in `/sys/kernel/btf/vmlinux`.
//!
//! The bytes stay as they are; parsing adds one `u32` a type and an index of the names, so six
//! megabytes of BTF cost one megabyte more. The layout is `Documentation/bpf/btf.rst` of the kernel:
//! a header, type records one after another (the first has id 1, id 0 is `void`), then the strings.
//! Split BTF (modules) is not read.
//!
//! The input is taken as hostile all the same: every access is checked, every walk has a budget.

mod attach;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod lookup;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use thiserror::Error;

pub use attach::AttachTypes;
pub use lookup::{Member, Prototype};

/// Where a kernel built with `CONFIG_DEBUG_INFO_BTF` shows its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// No more than this is read: ten times what distribution kernels have.
const MAX_LEN: u64 = 64 << 20;

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
const RECORD_LEN: usize = 12;
const BUCKETS: usize = 1 << 15;
/// Longest name that is read, its NUL included; the kernel's own limit is 512 (`KSYM_NAME_LEN`).
/// Without one, strings that never end would make every look at a name a walk to the end.
const MAX_STRING: usize = 1024;

/// Why BTF could not be read.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file cannot be opened or read.
    #[error(
        "cannot read kernel types from {path}: {source}; the kernel needs CONFIG_DEBUG_INFO_BTF"
    )]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// More than any kernel has.
    #[error("kernel types in {path} are larger than {MAX_LEN} bytes; this is not BTF")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// Not BTF, or of the other byte order.
    #[error("kernel types do not start with the BTF magic number of this machine's byte order")]
    Magic,
    /// A newer format.
    #[error("kernel types are BTF version {0}; only version 1 is known")]
    Version(u8),
    /// A section points outside the data.
    #[error("BTF is cut short: {0}")]
    Truncated(&'static str),
    /// A kind of type this version does not know, so that what follows it cannot be found.
    #[error("BTF type {id} is of kind {kind}, which this version does not know")]
    Kind {
        /// The id of the type.
        id: u32,
        /// The kind's number.
        kind: u8,
    },
}

/// The types of one kernel.
pub struct Btf {
    data: Vec<u8>,
    /// Start of each type record in `data`; the record of type id `n` is at `n - 1`.
    records: Vec<u32>,
    /// Where the strings begin and end in `data`.
    strings: (usize, usize),
    /// First type id of each bucket of names, 0 for none.
    heads: Vec<u32>,
    /// Next type id in the same bucket, by the index of `records`.
    next: Vec<u32>,
}

impl Btf {
    /// Reads and parses a file, [`VMLINUX`] as a rule.
    ///
    /// # Errors
    /// When the file cannot be read, or is not BTF of this machine.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let shown = || path.display().to_string();
        let io = |source| BtfError::Io {
            path: shown(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        // sysfs tells the real size; anything else that a test points at grows as it is read.
        let size = file.metadata().map_err(io)?.len().min(MAX_LEN);
        let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
        file.take(MAX_LEN + 1).read_to_end(&mut data).map_err(io)?;
        if data.len() as u64 > MAX_LEN {
            return Err(BtfError::TooLarge { path: shown() });
        }
        Self::parse(data)
    }

    /// Parses BTF: checks the header, finds every type record, indexes the names.
    ///
    /// # Errors
    /// When the bytes are not whole BTF of version 1 in this machine's byte order.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let cut_header = BtfError::Truncated("the header is not whole");
        if data.len() < HEADER_LEN {
            return Err(cut_header);
        }
        if u16::from_ne_bytes([data[0], data[1]]) != MAGIC {
            return Err(BtfError::Magic);
        }
        if data[2] != 1 {
            return Err(BtfError::Version(data[2]));
        }
        let word = |at| u32_at(&data, at).and_then(|word| usize::try_from(word).ok());
        let (Some(header), Some(type_off), Some(type_len), Some(str_off), Some(str_len)) =
            (word(4), word(8), word(12), word(16), word(20))
        else {
            return Err(cut_header);
        };
        let types = section(&data, header, type_off, type_len)
            .ok_or(BtfError::Truncated("the types end after the data"))?;
        let strings = section(&data, header, str_off, str_len)
            .ok_or(BtfError::Truncated("the strings end after the data"))?;

        let mut btf = Self {
            records: find_records(&data, types)?,
            data,
            strings,
            heads: vec![0; BUCKETS],
            next: Vec::new(),
        };
        btf.index_names();
        Ok(btf)
    }

    /// How many types there are, `void` not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Are there no types at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn index_names(&mut self) {
        self.next = vec![0; self.records.len()];
        for index in 0..self.records.len() {
            let Ok(id) = u32::try_from(index + 1) else {
                return;
            };
            let Some(record) = self.record(id).filter(|record| record.kind.is_looked_up()) else {
                continue;
            };
            let name = self.string(record.name);
            if !name.is_empty() {
                let bucket = bucket(name);
                self.next[index] = self.heads[bucket];
                self.heads[bucket] = id;
            }
        }
    }

    /// Every type with this name, the last one first.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u32, Record)> + 'a {
        let mut id = self.heads[bucket(name.as_bytes())];
        std::iter::from_fn(move || {
            // A chain only leads to lower ids, so it ends.
            while id != 0 {
                let this = id;
                id = usize::try_from(this - 1)
                    .ok()
                    .and_then(|index| self.next.get(index).copied())
                    .unwrap_or(0);
                if let Some(record) = self.record(this)
                    && self.string(record.name) == name.as_bytes()
                {
                    return Some((this, record));
                }
            }
            None
        })
    }

    /// The fixed part of a type record; `void` and ids out of range have none.
    fn record(&self, id: u32) -> Option<Record> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        let at = usize::try_from(*self.records.get(index)?).ok()?;
        Record::read(&self.data, at)
    }

    /// The `u32` number `index` behind the fixed part of a record.
    fn trailing(&self, record: &Record, index: usize) -> Option<u32> {
        u32_at(
            &self.data,
            record.at.checked_add(RECORD_LEN + index.checked_mul(4)?)?,
        )
    }

    /// A string without its NUL; empty when the offset is outside, and when no NUL ends it soon.
    fn string(&self, offset: u32) -> &[u8] {
        let (start, end) = self.strings;
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|offset| start.checked_add(offset))
            .filter(|&at| at < end)
            .map_or(&[][..], |at| &self.data[at..end.min(at + MAX_STRING)]);
        let len = bytes.iter().position(|&b| b == 0).unwrap_or(0);
        &bytes[..len]
    }
}

/// What a type is: the numbers of `include/uapi/linux/btf.h`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind(u8);

impl Kind {
    const INT: Self = Self(1);
    const PTR: Self = Self(2);
    const ARRAY: Self = Self(3);
    const STRUCT: Self = Self(4);
    const UNION: Self = Self(5);
    const ENUM: Self = Self(6);
    const FWD: Self = Self(7);
    const TYPEDEF: Self = Self(8);
    const VOLATILE: Self = Self(9);
    const CONST: Self = Self(10);
    const RESTRICT: Self = Self(11);
    const FUNC: Self = Self(12);
    const FUNC_PROTO: Self = Self(13);
    const VAR: Self = Self(14);
    const DATASEC: Self = Self(15);
    const FLOAT: Self = Self(16);
    const DECL_TAG: Self = Self(17);
    const TYPE_TAG: Self = Self(18);
    const ENUM64: Self = Self(19);

    /// Bytes that follow the fixed part, by the number of members; `None` for a kind not known.
    fn trailing_len(self, members: usize) -> Option<usize> {
        match self {
            Self::INT | Self::VAR | Self::DECL_TAG => Some(4),
            Self::ARRAY => Some(12),
            Self::STRUCT | Self::UNION | Self::DATASEC | Self::ENUM64 => members.checked_mul(12),
            Self::ENUM | Self::FUNC_PROTO => members.checked_mul(8),
            Self::PTR
            | Self::FWD
            | Self::TYPEDEF
            | Self::VOLATILE
            | Self::CONST
            | Self::RESTRICT
            | Self::FUNC
            | Self::FLOAT
            | Self::TYPE_TAG => Some(0),
            _ => None,
        }
    }

    fn is_aggregate(self) -> bool {
        matches!(self, Self::STRUCT | Self::UNION)
    }

    /// Says more about another type, without changing its layout.
    fn is_modifier(self) -> bool {
        matches!(
            self,
            Self::TYPEDEF | Self::VOLATILE | Self::CONST | Self::RESTRICT | Self::TYPE_TAG
        )
    }

    fn is_looked_up(self) -> bool {
        matches!(
            self,
            Self::STRUCT | Self::UNION | Self::FUNC | Self::TYPEDEF | Self::ENUM | Self::ENUM64
        )
    }
}

/// The fixed part of a type record.
#[derive(Clone, Copy)]
struct Record {
    /// Where it starts.
    at: usize,
    /// Offset of the name among the strings.
    name: u32,
    kind: Kind,
    /// Members, parameters or values that follow.
    members: usize,
    /// Members hold bit-field sizes.
    flag: bool,
    /// Size in bytes, or the type this one refers to; by kind.
    target: u32,
}

impl Record {
    fn read(data: &[u8], at: usize) -> Option<Self> {
        let name = u32_at(data, at)?;
        let info = u32_at(data, at.checked_add(4)?)?;
        let target = u32_at(data, at.checked_add(8)?)?;
        Some(Self {
            at,
            name,
            // Kernels before 7.1 use 16 bits for the members and 5 for the kind and leave the
            // others zero, so that the wider fields read both.
            kind: Kind(((info >> 24) & 0x7f) as u8),
            members: usize::try_from(info & 0x00ff_ffff).ok()?,
            flag: info >> 31 == 1,
            target,
        })
    }
}

/// Walks the type section once and notes where each record starts.
fn find_records(data: &[u8], (start, end): (usize, usize)) -> Result<Vec<u32>, BtfError> {
    let cut = || BtfError::Truncated("a type ends after its section");
    // The mean record of a kernel is 25 bytes; one allocation serves.
    let mut records = Vec::with_capacity((end - start) / 20);
    let mut at = start;
    while at < end {
        let record = Record::read(data, at).ok_or_else(cut)?;
        let trailing = record.kind.trailing_len(record.members).ok_or({
            BtfError::Kind {
                id: u32::try_from(records.len() + 1).unwrap_or(u32::MAX),
                kind: record.kind.0,
            }
        })?;
        records.push(u32::try_from(at).map_err(|_| cut())?);
        at = at
            .checked_add(RECORD_LEN)
            .and_then(|at| at.checked_add(trailing))
            .filter(|&at| at <= end)
            .ok_or_else(cut)?;
    }
    Ok(records)
}

fn section(data: &[u8], header: usize, offset: usize, len: usize) -> Option<(usize, usize)> {
    let start = header.checked_add(offset)?;
    let end = start.checked_add(len)?;
    (end <= data.len()).then_some((start, end))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// FNV-1a, folded: names are short and the index is rebuilt at every start.
fn bucket(name: &[u8]) -> usize {
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash ^ (hash >> 15)) as usize % BUCKETS
}
