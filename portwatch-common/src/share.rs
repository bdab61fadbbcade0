//! Who crowds the ring of listeners: one account a cgroup, kept while the ring is nearly full.

use crate::wire;

/// The last part of the ring, one in this many, is shared out by cgroup; before it there is room for all.
pub const CROWDED_PART: u64 = 4;
/// One cgroup gets one in this many parts of the ring out of that last part.
pub const SHARE_PART: u64 = 32;
/// Shares begin anew whenever the reader has taken out one in this many parts of the ring.
pub const LAP_PART: u64 = 2;
/// Cgroups that have an account at most; the one that was used longest ago gives way.
pub const SHARES: u32 = 1024;

wire! {
    /// The account of one cgroup; the value of a hash map by cgroup id.
    pub struct Share {
        /// Where the reader's lap began that `used` belongs to: bytes since the start.
        pub lap: u64,
        /// Bytes taken out of the crowded part in that lap.
        pub used: u64,
        /// Records of this cgroup that were dropped, since the account was opened.
        pub lost: u64,
    } size 24
}

// Eight cgroups that flood at once must not use up what is kept for all others.
const _: () = assert!(SHARE_PART / CROWDED_PART >= 8);
