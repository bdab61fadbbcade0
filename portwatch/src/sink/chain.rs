//! A hash chain over the lines of an output: each carries its number, the hash of the line before, and its own.
//!
//! Whoever can write the file can also compute it anew; what he cannot is to make it agree with a head that was kept
//! elsewhere. Pure: whoever writes seals each line, whoever checks hands every line to a [`Verifier`].
//!
//! ```text
//! {…,"chain":{"number":17,"previous":"…","hash":"…"}}                    JSON; in ECS and OCSF within our own key
//! CEF:0|… pwNumber=17 pwPrevious=… pwHash=…
//! <29>1 … [chain@32473 number="17" previous="…" hash="…"][meta …          RFC 5424
//! ```
//! The hash is SHA-256 of the line without the newline and without the 64 digits of the hash itself.

mod link;
mod verify;

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::render::Format;
pub use link::Link;
pub use verify::{Fault, Verifier};

/// What a chain adds to a line at most, in bytes; every format leaves that much room below [`crate::sink::MAX_LINE`].
pub const GROWTH: usize = 256;

/// SHA-256 of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Digits of its text.
    pub const DIGITS: usize = 64;

    /// Of a line that is in two parts, before and behind the digits of its hash.
    fn of(before: &[u8], behind: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(before).chain_update(behind);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// It is no hash: 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is the number of a record, a colon, and 64 hexadecimal digits")]
pub struct NoHead;

impl FromStr for Hash {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NoHead),
        };
        let text: &[u8; Self::DIGITS] = text.as_bytes().try_into().map_err(|_| NoHead)?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}

/// How far a chain has come: the number and the hash of its last record. As text `17:9f86d0…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Head {
    /// Records so far.
    pub number: u64,
    /// Of the last one; zeros before the first.
    pub hash: Hash,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let (number, hash) = text.split_once(':').ok_or(NoHead)?;
        Ok(Self {
            number: number.parse().map_err(|_| NoHead)?,
            hash: hash.parse()?,
        })
    }
}

/// Seals the lines of one output.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    head: Head,
}

impl Chain {
    /// Goes on behind this head; a new chain goes on behind [`Head::default`].
    #[must_use]
    pub const fn after(head: Head) -> Self {
        Self { head }
    }

    /// The last record.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Gives a rendered line, newline included, its link: the line that stands in `out` from `start` on. One that is
    /// none of this format stays as it is, and the chain does not count it.
    pub fn seal(&mut self, out: &mut Vec<u8>, start: usize, format: Format) {
        let Some(at) = out.get(start..).and_then(|line| link::place(line, format)) else {
            return;
        };
        let at = start + at;
        let number = self.head.number + 1;
        let [open, between, close] = link::text(format, number, self.head.hash);
        let hash_at = at + open.len() + between.len();
        let zeros = [b'0'; Hash::DIGITS];
        let link = [
            open.as_bytes(),
            between.as_bytes(),
            &zeros,
            close.as_bytes(),
        ]
        .concat();
        out.splice(at..at, link);
        let end = out.len() - usize::from(out.ends_with(b"\n"));
        let hash = Hash::of(&out[start..hash_at], &out[hash_at + Hash::DIGITS..end]);
        let digits = hash.to_string();
        out[hash_at..hash_at + Hash::DIGITS].copy_from_slice(digits.as_bytes());
        self.head = Head { number, hash };
    }
}

#[cfg(test)]
mod tests;
