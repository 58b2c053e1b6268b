//! Keeping the resident memory of the daemons small.

/// Tells glibc's allocator to use few arenas and to give freed memory back early. Call it before the
/// first thread starts.
pub(crate) fn be_frugal() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt only sets parameters of the allocator; no thread runs yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 256 * 1024);
            libc::mallopt(libc::M_MMAP_THRESHOLD, 256 * 1024);
        }
    }
}

/// Gives the memory that was freed since the start back to the system.
pub(crate) fn give_back() {
    crate::allocator::give_back();
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim may be called at any time from any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
