//! A crowded ring of listeners is shared out by cgroup: no workload can blind us to the others.
//!
//! Whoever opens and closes listeners as fast as he can fills any ring. So its last part is not first
//! come, first served: each cgroup gets a small share of it a lap of the reader. The flood loses records,
//! and the account says whose they were; a listener of any other cgroup still finds a place.
//! While there is room, all of this is one comparison.

use aya_ebpf::maps::RingBuf;
use portwatch_common::share::{CROWDED_PART, LAP_PART, SHARE_PART, Share};

use crate::count::add;
use crate::emit::{AVAILABLE_DATA, RING_SIZE, current};
use crate::maps::CROWD;
use crate::task::cgroup_id;

/// `bpf_ringbuf_query`: how far the reader has come, in bytes since the start.
const CONSUMER_POSITION: u64 = 2;

/// May the current task's cgroup put a record of this many bytes into the ring?
#[inline(always)]
pub fn admits(ring: &'static RingBuf, bytes: u64) -> bool {
    let size = ring.query(RING_SIZE);
    if ring.query(AVAILABLE_DATA) < size - size / CROWDED_PART {
        return true;
    }
    // By what the reader took out and not by the clock: a reader that stands still gives nobody more. A
    // mask and not a division, which could panic: sizes of rings are powers of two.
    let lap = ring.query(CONSUMER_POSITION) & !(size / LAP_PART).wrapping_sub(1);
    let Some(share) = account(lap) else {
        return true;
    };
    // SAFETY: a map value stays in place while the program runs; other CPUs only add to it too.
    unsafe {
        if (*share).lap != lap {
            // Two CPUs that begin a lap at once give this cgroup one record too much, no more.
            (*share).lap = lap;
            (*share).used = 0;
        }
        add(&raw mut (*share).used, bytes);
        // What it had before counts: one record always fits, however small the ring.
        (*share).used.wrapping_sub(bytes) < size / SHARE_PART
    }
}

/// Counts a dropped record against the current task's cgroup.
#[inline(always)]
pub fn lost() {
    if let Some(share) = account(0) {
        // SAFETY: as above.
        unsafe { add(&raw mut (*share).lost, 1) };
    }
}

/// The account of the current task's cgroup; none only when the map cannot be written.
#[inline(always)]
fn account(lap: u64) -> Option<*mut Share> {
    let cgroup = cgroup_id(current());
    if let Some(share) = CROWD.get_ptr_mut(cgroup) {
        return Some(share);
    }
    let new = Share {
        lap,
        used: 0,
        lost: 0,
    };
    // BPF_NOEXIST (1): another CPU's account of the same moment stays.
    let _ = CROWD.insert(cgroup, new, 1);
    CROWD.get_ptr_mut(cgroup)
}
