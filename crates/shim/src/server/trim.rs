//! Gives pages of the program back that only a burst of work needed.
//!
//! A shim idles for days after some milliseconds of work. Pages of code and constants are clean copies of the file:
//! dropping them costs nothing but a soft fault when one is needed again.
//!
//! Some pages of a file's mapping are no copies of it: the loader writes into them (relocations) before it takes the
//! right to write away. Such a page is anonymous memory, and may have been moved to swap; it must stay, for the kernel
//! would give the file's content in its place. So a mapping is left alone when any page of it is anonymous, in memory or
//! in swap, or is locked, and when the kernel doesn't say so. None can become so later, without write access. (What
//! smaps counts as dirty and not anonymous is the file's own page, of a program that was just installed: it stays in the
//! page cache.)
//!
//! What it brings, by the kernel's count for a debug build: of 8 shims each had 13.0 MB resident before and 8.2 MB after
//! (Rss), of which 6.1 and 5.5 MB were its own share (Pss).

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

/// Drops the pages of mappings that are whole copies of their files.
fn trim() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for (start, length) in droppable(&maps) {
        // SAFETY: these mappings are private, backed by a file, not writable, and have no page that differs from the
        // file, neither in memory nor in swap: the kernel reads dropped pages again when they are touched.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// What smaps must say to be nothing of a mapping before its pages may be dropped.
const NOTHING_OF: [&str; 3] = ["Anonymous", "Swap", "Locked"];

/// Start and length of the mappings that may be dropped.
fn droppable(smaps: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    // The mapping that is being read, and how many of the fields said nothing.
    let mut current: Option<((usize, usize), usize)> = None;
    for line in smaps.lines() {
        if let Some(mapping) = header(line) {
            take(&mut current, &mut out);
            current = mapping.map(|mapping| (mapping, 0));
        } else if let Some((name, value)) = line.split_once(':')
            && let Some((_, clean)) = &mut current
            && NOTHING_OF.contains(&name)
            && value.trim() == "0 kB"
        {
            *clean += 1;
        }
    }
    take(&mut current, &mut out);
    out
}

fn take(current: &mut Option<((usize, usize), usize)>, out: &mut Vec<(usize, usize)>) {
    if let Some((mapping, clean)) = current.take()
        && clean == NOTHING_OF.len()
    {
        out.push(mapping);
    }
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

    /// A mapping in smaps, with what is in kB beside the size.
    fn mapping(head: &str, fields: &[(&str, u32)]) -> String {
        let mut text = format!("{head}\nSize: 8 kB\nRss: 8 kB\n");
        for name in NOTHING_OF {
            let said = fields.iter().find(|(field, _)| *field == name);
            text += &format!("{name}: {:10} kB\n", said.map_or(0, |(_, kb)| *kb));
        }
        text + "THPeligible: 0\nVmFlags: rd mr mw me\n"
    }

    #[test]
    fn only_whole_copies_of_files_are_dropped() {
        let file = "400000-500000 r-xp 00000000 fe:00 1 /bin/x";
        assert_eq!(
            droppable(&mapping(file, &[])),
            [(0x40_0000, 0x10_0000)],
            "a clean one"
        );
        // Relocated constants in memory, in swap, and before anybody looked; and what the kernel doesn't tell of.
        for field in NOTHING_OF {
            assert_eq!(droppable(&mapping(file, &[(field, 4)])), [], "{field}");
            let silent = mapping(file, &[]).replace(&format!("\n{field}:"), "\nOther:");
            assert_eq!(droppable(&silent), [], "no {field}");
        }
        for head in [
            "501000-502000 rw-p 00101000 fe:00 1 /bin/x",
            "501000-502000 r--s 00101000 fe:00 1 /bin/x",
            "7f0000000000-7f0000001000 r--p 00000000 00:00 0 [vvar]",
            "7f0000000000-7f0000001000 r--p 00000000 00:00 0",
        ] {
            assert_eq!(droppable(&mapping(head, &[])), [], "{head}");
        }
        let several = mapping(file, &[("Swap", 4)])
            + &mapping(
                "7f0000002000-7f0000004000 r--p 0 fe:00 2 /lib/libc.so.6",
                &[],
            );
        assert_eq!(droppable(&several), [(0x7f00_0000_2000, 0x2000)]);
    }

    /// A page that was written to and then protected, as the loader does, is what it was after a trim.
    #[test]
    fn written_pages_of_a_file_survive() {
        use std::os::fd::AsRawFd;
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), vec![1_u8; 8192]).expect("write");
        // SAFETY: a new mapping of a file that nobody else has, writable and private.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                8192,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE,
                file.as_file().as_raw_fd(),
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        let bytes = start.cast::<u8>();
        // SAFETY: it is within the mapping, which is ours until the end of the process.
        unsafe { bytes.write_volatile(7) };
        // Out of memory into swap, where there is any.
        // SAFETY: the mapping is ours; neither call changes what is in it.
        unsafe {
            libc::madvise(start, 8192, libc::MADV_PAGEOUT);
            assert_eq!(libc::mprotect(start, 8192, libc::PROT_READ), 0);
        }
        trim();
        // SAFETY: both bytes are within the mapping, which may be read.
        let kept = unsafe { (bytes.read_volatile(), bytes.add(4096).read_volatile()) };
        assert_eq!(kept, (7, 1));
    }

    #[test]
    fn we_go_on_after_a_trim() {
        let before = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        assert!(!droppable(&before).is_empty(), "{before}");
        trim();
        assert_eq!(
            format!("{:?}", std::time::Duration::from_millis(1500)),
            "1.5s"
        );
    }
}
