//! Giving memory back once the start is over: parsing kernel types takes tens of megabytes for moments.

/// Returns what the allocator keeps unused. The C library would hold on to it for ever, in the arena of
/// every thread that took part in the start.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` has no preconditions; it locks each arena by itself.
    unsafe {
        libc::malloc_trim(0);
    }
}
