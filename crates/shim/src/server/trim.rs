//! Gives pages of the program back that only a burst of work needed.
//!
//! A shim idles for days after some milliseconds of work. Pages of code and constants are clean copies of the file:
//! dropping them costs nothing but a soft fault when one is needed again.

use std::time::Duration;

use tokio::sync::Notify;

/// Work that follows sooner belongs to the same burst.
const QUIET: Duration = Duration::from_millis(500);

/// Trims once after each burst of work. `work` rings at each call.
pub(super) async fn task(work: &Notify) {
    loop {
        work.notified().await;
        while tokio::time::timeout(QUIET, work.notified()).await.is_ok() {}
        trim();
    }
}

/// Drops all clean, file-backed, unwritable pages.
fn trim() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for (start, length) in droppable(&maps) {
        // SAFETY: these mappings are private, backed by a file, not writable, and have no page that differs from the
        // file: the kernel reads dropped pages again when they are touched.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Start and length of the mappings that may be dropped.
fn droppable(smaps: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(mapping) = header(line) {
            current = mapping;
        } else if let Some(value) = line.strip_prefix("Anonymous:") {
            let clean = value.trim() == "0 kB";
            out.extend(current.take().filter(|_| clean));
        }
    }
    out
}

/// The line that opens a mapping; the inner value is there for those of interest.
#[allow(clippy::option_option)] // not a header; a header to pass over; a header of interest
fn header(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let private = matches!(fields.next()?, "r--p" | "r-xp");
    let file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    Some((private && file).then_some((start, end - start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_pages_of_files_are_dropped() {
        let smaps = "\
400000-500000 r-xp 00000000 fe:00 1 /bin/x\nSize: 1024 kB\nAnonymous:             0 kB\n\
500000-501000 r--p 00100000 fe:00 1 /bin/x\nAnonymous:             4 kB\n\
501000-502000 rw-p 00101000 fe:00 1 /bin/x\nAnonymous:             0 kB\n\
7f0000000000-7f0000001000 r--p 00000000 00:00 0 [vvar]\nAnonymous:             0 kB\n\
7f0000002000-7f0000004000 r--p 00000000 fe:00 2 /lib/libc.so.6\nAnonymous:             0 kB\n";
        assert_eq!(
            droppable(smaps),
            [(0x40_0000, 0x10_0000), (0x7f00_0000_2000, 0x2000)]
        );
    }

    #[test]
    fn we_go_on_after_a_trim() {
        trim();
        assert_eq!(
            format!("{:?}", std::time::Duration::from_millis(1500)),
            "1.5s"
        );
    }
}
