//! Checks lines against their chain, and names the first that does not hold.

use super::{Head, Link};

/// What is wrong with a chain. Numbers are those of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line has no link that can be read.
    #[error("record {number} was altered: it has no link in the chain")]
    Unlinked {
        /// The number that it should have.
        number: u64,
    },
    /// The bytes of the line are not those that were hashed.
    #[error("record {number} was altered")]
    Altered {
        /// The number that it claims.
        number: u64,
    },
    /// Records are not there.
    #[error("{} missing: the next one here is {to}", records(*from, *to))]
    Missing {
        /// The first that is missing.
        from: u64,
        /// The first that is there again.
        to: u64,
    },
    /// A record comes too late, or twice.
    #[error("record {number} is out of order: {expected} should stand here")]
    Reordered {
        /// Its number.
        number: u64,
        /// The number that should stand here.
        expected: u64,
    },
    /// The record is whole, but of another chain: it was replaced, or the one before it.
    #[error("record {number} does not follow the one before it: one of the two was replaced")]
    Replaced {
        /// Its number.
        number: u64,
    },
    /// The last records are not there.
    #[error("{} missing at the end", records(*from, *to + 1))]
    Cut {
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// The chain has gone on differently than the head says.
    #[error("record {number} is not the one of the head: what led to it was written anew")]
    OtherHead {
        /// The number of the head.
        number: u64,
    },
}

/// `record 7 is`, `records 7 to 9 are`.
fn records(from: u64, behind: u64) -> String {
    match behind.saturating_sub(from) {
        0 | 1 => format!("record {from} is"),
        _ => format!("records {from} to {} are", behind - 1),
    }
}

/// Takes line after line.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// The last record that was right; of the start, what comes before it.
    last: Head,
    /// Is the hash of `last` known? That of the record before the first is not, unless there is none.
    is_anchored: bool,
    /// A head that was kept elsewhere.
    expected: Option<Head>,
}

impl Verifier {
    /// Begins with the record of this number; what came before it is gone for a reason. 1 is the begin of the chain.
    #[must_use]
    pub fn from(first: u64, expected: Option<Head>) -> Self {
        let number = first.saturating_sub(1);
        Self {
            last: Head {
                number,
                ..Head::default()
            },
            is_anchored: number == 0,
            expected,
        }
    }

    /// The last record that was right.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.last
    }

    /// Checks the next line, without its newline.
    ///
    /// # Errors
    /// It is not what the chain has next.
    pub fn push(&mut self, line: &[u8]) -> Result<(), Fault> {
        let expected = self.last.number + 1;
        let link = Link::read(line).ok_or(Fault::Unlinked { number: expected })?;
        let number = link.number;
        if link.actual != link.claimed {
            return Err(Fault::Altered { number });
        }
        if number > expected {
            let from = expected;
            return Err(Fault::Missing { from, to: number });
        }
        if number < expected {
            return Err(Fault::Reordered { number, expected });
        }
        if self.is_anchored && link.previous != self.last.hash {
            return Err(Fault::Replaced { number });
        }
        self.last = Head {
            number,
            hash: link.claimed,
        };
        self.is_anchored = true;
        match self.expected {
            Some(head) if head.number == number && head.hash != link.claimed => {
                Err(Fault::OtherHead { number })
            }
            _ => Ok(()),
        }
    }

    /// Checks that the last line was not before the head that was kept.
    ///
    /// # Errors
    /// It was.
    pub fn finish(&self) -> Result<Head, Fault> {
        match self.expected {
            Some(head) if head.number > self.last.number => Err(Fault::Cut {
                from: self.last.number + 1,
                to: head.number,
            }),
            _ => Ok(self.last),
        }
    }
}
