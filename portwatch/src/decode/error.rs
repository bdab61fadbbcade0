//! Why a record could not be understood.

/// A record that this version cannot read. It is counted and told, never guessed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the fixed part of the record.
    #[error("the record has {have} bytes and its fixed part needs {need}")]
    TooShort {
        /// Bytes at hand.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The header claims more bytes than the ring gave.
    #[error("the record's header says {len} bytes and the ring gave {have}")]
    LengthBeyondBytes {
        /// Claimed.
        len: u32,
        /// Given.
        have: usize,
    },
    /// The texts of the data area do not fit into the record.
    #[error("the record's texts need {need} bytes and its data area has {have}")]
    DataOverrun {
        /// Bytes of the data area.
        have: usize,
        /// Bytes the lengths add up to.
        need: usize,
    },
    /// A unix name longer than `sun_path`.
    #[error("a unix socket name of {0} bytes is longer than the kernel allows")]
    UnixNameLength(u16),
    /// No record of this kind exists.
    #[error("unknown record kind {0}")]
    UnknownKind(u16),
    /// No mechanism has this number.
    #[error("unknown mechanism {0}")]
    UnknownMechanism(u8),
    /// No TCP state has this number.
    #[error("unknown TCP state {0}")]
    UnknownState(u8),
    /// No rate of storms has this number.
    #[error("unknown rate {0}")]
    UnknownRate(u32),
    /// A socket family that portwatch does not watch.
    #[error("unknown socket family {0}")]
    UnknownFamily(u16),
    /// A socket type that portwatch does not watch.
    #[error("unknown socket type {kind} in family {family}")]
    UnknownSocketType {
        /// `AF_*`.
        family: u16,
        /// `SOCK_*`.
        kind: u16,
    },
    /// A protocol that portwatch does not watch.
    #[error("unknown protocol {protocol} of a socket of type {kind} in family {family}")]
    UnknownProtocol {
        /// `AF_*`.
        family: u16,
        /// `SOCK_*`.
        kind: u16,
        /// `IPPROTO_*`.
        protocol: u16,
    },
    /// An opening that failed or a refusal that succeeded.
    #[error("a record of kind {kind} cannot carry the result {ret}")]
    Result {
        /// Record kind.
        kind: u16,
        /// What the kernel returned.
        ret: i32,
    },
}

impl DecodeError {
    /// The record is whole, and about a socket that portwatch does not watch.
    #[must_use]
    pub const fn is_unwatched(&self) -> bool {
        matches!(
            self,
            Self::UnknownFamily(_) | Self::UnknownSocketType { .. } | Self::UnknownProtocol { .. }
        )
    }
}
