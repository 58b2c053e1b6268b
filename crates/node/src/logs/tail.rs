//! The end of a log, found from its end.

use std::fs::File;
use std::io;
use std::path::Path;

use super::Options;
use super::view::View;
use crate::pod_files::{last_bytes, read_at, read_end};

/// What a step backwards reads.
const STEP: u64 = 256 << 10;
/// A short text is found in this much of a log's end: 80 heads of entries take less than half of it.
const WINDOW: usize = 64 << 10;

/// Looks for the beginning of the last lines, a step at a time: a log may be much larger than the time that one
/// call should take.
#[derive(Clone, Copy, Debug)]
pub(super) struct TailSearch {
    size: u64,
    /// Everything from here on was looked at.
    at: u64,
    wanted: usize,
    found: usize,
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is more to look at.
    NotYet,
    /// The last lines begin at `offset`; there are so many.
    Lines { offset: u64, lines: usize },
}

impl TailSearch {
    pub(super) fn new(file: &File, wanted: usize) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self {
            size,
            at: size,
            wanted,
            found: 0,
        })
    }

    /// Reads one step further back.
    pub(super) fn step(&mut self, file: &File) -> io::Result<Found> {
        if self.wanted == 0 {
            return Ok(Found::Lines {
                offset: self.size,
                lines: 0,
            });
        }
        let start = self.at.saturating_sub(STEP);
        let length = usize::try_from(self.at - start).unwrap_or(0);
        let data = read_at(file, start, length)?;
        for (index, _) in data.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let place = start + index as u64;
            // The last byte ends the last line; every other line break ends the one before a line.
            if place + 1 == self.size {
                continue;
            }
            self.found += 1;
            if self.found == self.wanted {
                return Ok(Found::Lines {
                    offset: place + 1,
                    lines: self.found,
                });
            }
        }
        self.at = start;
        if start > 0 {
            return Ok(Found::NotYet);
        }
        Ok(Found::Lines {
            offset: 0,
            lines: self.found + usize::from(self.size > 0),
        })
    }
}

/// The content of the last `lines` lines, at most `limit` bytes of it. Blocks; reads no more than 64 KiB.
pub(crate) fn tail_text(log: &Path, lines: usize, limit: usize) -> io::Result<String> {
    let (data, whole) = read_end(&super::open(log)?, WINDOW)?;
    let from = tail_offset(&data, lines);
    let mut view = View::new(Options::default());
    if from == 0 && !whole {
        view.in_the_middle();
    }
    let text = view.text(&data[from..]);
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(limit)..]);
    Ok(last_bytes(&text, limit).to_owned())
}

/// Where the last `lines` lines begin.
fn tail_offset(data: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return data.len();
    }
    let end = data.strip_suffix(b"\n").map_or(data.len(), <[u8]>::len);
    let mut breaks = (0..end).rev().filter(|i| data[*i] == b'\n');
    breaks.nth(lines - 1).map_or(0, |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn search(file: &File, wanted: usize) -> (u64, usize) {
        let mut search = TailSearch::new(file, wanted).unwrap();
        loop {
            match search.step(file).unwrap() {
                Found::NotYet => {}
                Found::Lines { offset, lines } => return (offset, lines),
            }
        }
    }

    #[test]
    fn tails() {
        for (data, lines, want) in [
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\nc", 1, "c"),
            ("a\n", 0, ""),
            ("", 3, ""),
        ] {
            let from = tail_offset(data.as_bytes(), lines);
            assert_eq!(&data[from..], want, "{data:?} {lines}");
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(data.as_bytes(), 0).unwrap();
            let (from, found) = search(&file, lines);
            let from = usize::try_from(from).unwrap();
            assert_eq!(&data[from..], want, "{data:?} {lines}");
            assert_eq!(found, want.lines().count(), "{data:?} {lines}");
        }
    }

    #[test]
    fn lines_are_found_across_steps() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"first\n", 0).unwrap();
        let far = 6 + 5 * STEP;
        file.write_all_at(b"\nlast\n", far).unwrap();
        assert_eq!(search(&file, 1), (far + 1, 1));
        assert_eq!(search(&file, 2), (6, 2));
        assert_eq!(search(&file, 7), (0, 3));
    }

    #[test]
    fn the_end_of_a_line_of_20_gb_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let file = File::create(&log).unwrap();
        file.write_all_at(b"2026-11-21T22:00:00Z stdout F x", 0)
            .unwrap();
        let end = b"the end\n2026-11-21T22:00:00Z stdout F after\n";
        file.write_all_at(end, 20 << 30).unwrap();
        let text = tail_text(&log, 80, 2048).unwrap();
        assert!(text.ends_with("the end\nafter\n"), "{text:?}");
        assert_eq!(text.len(), 2048);
        // Bytes that are no text become longer; the limit holds all the same.
        std::fs::write(&log, [b"t stdout F ".as_slice(), &[0xff; 5000]].concat()).unwrap();
        assert!(tail_text(&log, 80, 2048).unwrap().len() <= 2048);
    }
}
