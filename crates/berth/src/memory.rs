//! The allocator, and keeping the resident memory of the daemons small.

use mimalloc::MiMalloc;

/// A write makes and drops hundreds of small values; with glibc's allocator that is a quarter of its time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Tells glibc's allocator, which SQLite and other C code use, to have few arenas and to give freed memory back early. Call
/// it before the first thread starts.
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

/// Gives the memory that C code has freed since the start back to the system; the rest goes back by itself.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim may be called at any time from any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
