//! How the allocator treats memory that is free: a watcher that is idle should weigh little.
//!
//! The start parses kernel types, and a look at a busy host takes megabytes for moments. Left alone, the
//! C library keeps an arena for each thread that ever took part in that, learns from each large block
//! that was freed to keep such blocks, and gives nothing back.

/// Blocks of this size and above are returned to the kernel when they are freed; so is this much at the
/// end of the heap, in bytes.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 512 * 1024;

/// Sets the allocator up; before there are other threads. All threads share one arena: those that look
/// things up are idle most of the time.
pub(crate) fn settle() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, KEPT),
        (libc::M_TRIM_THRESHOLD, KEPT),
    ] {
        // SAFETY: `mallopt` takes any two numbers and locks what it changes.
        let is_set = unsafe { libc::mallopt(parameter, value) } == 1;
        if !is_set {
            tracing::debug!(parameter, value, "the allocator took no notice");
        }
    }
}

/// Returns what the allocator keeps unused, also between blocks that are in use.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` has no preconditions; it locks each arena by itself.
    unsafe {
        libc::malloc_trim(0);
    }
}
