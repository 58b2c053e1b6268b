//! Where memory comes from: mimalloc in a process with the API server, the C library's allocator in all others.
//!
//! A server allocates some hundred times for a request, on all threads; with mimalloc a create takes a fifth less of the
//! processor. A shim, a runtime or an agent allocates little, and there are many shims: what mimalloc keeps for itself would be
//! most of what they have.
//!
//! A block must be freed by whoever gave it out, so the choice is made before the first block is allocated: when the program is
//! loaded, by its arguments.

use std::alloc::{GlobalAlloc, Layout, System};
#[cfg(target_env = "gnu")]
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Subcommands that run an API server. A word of theirs elsewhere on a command line only chooses the other allocator.
#[cfg(target_env = "gnu")]
const SERVERS: [&[u8]; 2] = [b"server", b"up"];

static IS_SERVER: AtomicBool = AtomicBool::new(false);

#[global_allocator]
static ALLOCATOR: ByRole = ByRole;

struct ByRole;

// SAFETY: all methods go to the same one of two allocators for as long as the process lives, since `IS_SERVER` is only written
// by `choose`, which runs before anything is allocated; and both keep the contract of the trait.
unsafe impl GlobalAlloc for ByRole {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !IS_SERVER.load(Ordering::Relaxed) {
            // SAFETY: the caller's promises are those of this method.
            return unsafe { System.alloc(layout) };
        }
        // SAFETY: the size is not zero, and the alignment a power of two, as the caller promises.
        unsafe { libmimalloc_sys::mi_malloc_aligned(layout.size(), layout.align()).cast() }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !IS_SERVER.load(Ordering::Relaxed) {
            // SAFETY: the caller's promises are those of this method.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: as in `alloc`.
        unsafe { libmimalloc_sys::mi_zalloc_aligned(layout.size(), layout.align()).cast() }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !IS_SERVER.load(Ordering::Relaxed) {
            // SAFETY: the caller's promises are those of this method, and the block is from the same allocator.
            return unsafe { System.dealloc(block, layout) };
        }
        // SAFETY: the block is from mimalloc, and nobody uses it any more.
        unsafe { libmimalloc_sys::mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !IS_SERVER.load(Ordering::Relaxed) {
            // SAFETY: the caller's promises are those of this method, and the block is from the same allocator.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the block is from mimalloc with this alignment, and the new size is not zero.
        unsafe { libmimalloc_sys::mi_realloc_aligned(block.cast(), size, layout.align()).cast() }
    }
}

/// Gives memory that was freed back to the system, if it is mimalloc's.
pub(crate) fn give_back() {
    if IS_SERVER.load(Ordering::Relaxed) {
        // SAFETY: it may be called at any time from any thread.
        unsafe { mi_collect(true) }
    }
}

unsafe extern "C" {
    /// mimalloc's, which libmimalloc-sys names only together with much else.
    fn mi_collect(force: bool);
}

/// What glibc calls with the program's arguments when it is loaded; other C libraries give none, and the choice stays as it is.
#[cfg(target_env = "gnu")]
#[used]
// SAFETY: the section holds pointers to functions that take what glibc gives them, and this is one. It comes before those of
// the standard library and of C++ (which have no number or a greater one), none of which allocates by this allocator anyway.
#[unsafe(link_section = ".init_array.00090")]
static CHOOSE: extern "C" fn(libc::c_int, *const *const libc::c_char, *const *const libc::c_char) =
    choose;

#[cfg(target_env = "gnu")]
extern "C" fn choose(
    count: libc::c_int,
    arguments: *const *const libc::c_char,
    _environment: *const *const libc::c_char,
) {
    let count = usize::try_from(count).unwrap_or(0);
    let arguments = (1..count).filter_map(|at| {
        // SAFETY: there are `count` pointers, each null or to a string that ends with a zero byte and lives as long as the process.
        unsafe {
            let argument = *arguments.add(at);
            (!argument.is_null()).then(|| CStr::from_ptr(argument))
        }
    });
    IS_SERVER.store(are_of_server(arguments), Ordering::Relaxed);
}

/// Whether the program is run as a server with these arguments.
#[cfg(target_env = "gnu")]
fn are_of_server<'a>(mut arguments: impl Iterator<Item = &'a CStr>) -> bool {
    arguments.any(|argument| SERVERS.contains(&argument.to_bytes()))
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_arguments() {
        for (arguments, is_server) in [
            (&[c"up"][..], true),
            (
                &[c"--log", c"warn", c"server", c"--secure-port", c"1"],
                true,
            ),
            (&[c"shim", c"-id", c"p", c"start"], false),
            (&[c"node", c"--server", c"https://127.0.0.1:6443"], false),
            (&[c"cri", c"--data-dir=/up"], false),
            (&[], false),
        ] {
            let of_server = are_of_server(arguments.iter().copied());
            assert_eq!(of_server, is_server, "{arguments:?}");
        }
    }

    #[test]
    fn blocks_of_all_alignments_are_kept_when_they_grow() {
        for align in [1, 8, 16, 64, 4096] {
            let layout = Layout::from_size_align(100, align).unwrap();
            // SAFETY: the sizes are not zero, and each block is freed with the layout that it has by then.
            unsafe {
                let block = ALLOCATOR.alloc_zeroed(layout);
                assert!(block.addr().is_multiple_of(align));
                assert_eq!(block.add(99).read(), 0);
                block.add(99).write(7);
                let block = ALLOCATOR.realloc(block, layout, 100_000);
                assert!(block.addr().is_multiple_of(align));
                assert_eq!(block.add(99).read(), 7);
                ALLOCATOR.dealloc(block, Layout::from_size_align(100_000, align).unwrap());
            }
        }
    }
}
