//! Two programs on one hook, where the kernel preempts probes: what one of them is skipped for, the other does.
//!
//! Trap `preempted_probe`: the kernel skips a program that runs on this CPU already. Where it preempts
//! programs, that is every call which another task makes on this CPU while the first one waits for its
//! turn. Disabling preemption inside the program would not help: the kernel makes up for it at the very
//! moment it is enabled again, and the program still counts as running then. So the same body is attached twice.

use portwatch_common::counters::Hook;

use crate::count::{add_one, counters};
use crate::emit::thread;
use crate::kernel::setting;
use crate::maps::{PendingKey, TURNS};

/// A program's part in a hook.
#[derive(Clone, Copy)]
pub struct Turn {
    hook: Hook,
    is_spare: bool,
}

impl Turn {
    /// The program that is always there, and runs first.
    pub const fn first(hook: Hook) -> Self {
        Self {
            hook,
            is_spare: false,
        }
    }

    /// The one that stands in.
    pub const fn spare(hook: Hook) -> Self {
        Self {
            hook,
            is_spare: true,
        }
    }

    /// Is this call to be told by this program? Ask once a call; `is_news` must be what both programs find.
    ///
    /// The first one tells every call that it is not skipped for, and leaves a mark, which the spare one takes
    /// away. Where there is none, it tells the call itself.
    #[inline(always)]
    pub fn is_mine(self, is_news: bool) -> bool {
        if setting!(spares) == 0 {
            return is_news;
        }
        let is_mine = is_news && (!self.is_spare || !self.is_told());
        if is_mine && !self.is_spare {
            // The table is LRU: an insert only fails for want of memory. Then both tell, and user space
            // hears it twice rather than not at all.
            let _ = TURNS.insert(self.key(), 1, 0);
        }
        // What the kernel skips it counts without knowing whether it was news; so all of it is counted.
        if let Some(counters) = counters() {
            // SAFETY: this CPU's own counters; the hook is one of few constants.
            unsafe {
                let counted = &raw mut (*counters).spares[self.hook.0 as usize];
                if !self.is_spare && !is_news {
                    add_one(&raw mut (*counted).left);
                } else if self.is_spare && (is_mine || !is_news) {
                    add_one(&raw mut (*counted).covered);
                }
            }
        }
        is_mine
    }

    /// Does no other program look at this call after this one?
    #[inline(always)]
    pub fn is_last(self) -> bool {
        setting!(spares) == 0 || self.is_spare
    }

    /// Did the first one tell this call?
    #[inline(always)]
    fn is_told(self) -> bool {
        let key = self.key();
        let is_told = TURNS.get_ptr(key).is_some();
        if is_told {
            let _ = TURNS.remove(key);
        }
        is_told
    }

    #[inline(always)]
    fn key(self) -> PendingKey {
        PendingKey {
            thread: thread(),
            call: self.hook.0 as u64,
        }
    }
}
