//! How much memory a zstd stream may make its reader use.
//!
//! A frame says in its head how large a window it wants, up to terabytes. Ordinary images want at most 8 MiB;
//! `--long` and `--ultra` want up to 128 MiB, which are let through one stream at a time, so that several layers of
//! such an image don't add up. More is refused, and so is a later frame that wants more than the first one said.

use std::io;

use parking_lot::{Condvar, Mutex};

/// What every decoder must take (RFC 8878, section 3.1.1.1.2).
const ORDINARY_LOG: u32 = 23;
/// What `zstd` itself takes without being told to.
const MAX_LOG: u32 = 27;

/// Whether a stream with a large window is under way.
static LARGE: Mutex<bool> = Mutex::new(false);
static DONE: Condvar = Condvar::new();

/// The turn of the one stream with a large window.
struct Turn;

impl Turn {
    fn wait() -> Self {
        let mut taken = LARGE.lock();
        while *taken {
            DONE.wait(&mut taken);
        }
        *taken = true;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *LARGE.lock() = false;
        DONE.notify_one();
    }
}

/// What a stream may use, while it holds this.
pub(super) struct Window {
    /// The most that a frame's window may have, as a power of two.
    pub(super) log: u32,
    _turn: Option<Turn>,
}

impl Window {
    /// Judges a stream by its beginning, and waits for its turn.
    pub(super) fn of(start: &[u8]) -> io::Result<Self> {
        let wanted = wanted(start).unwrap_or(0);
        if wanted > 1 << MAX_LOG {
            return Err(io::Error::other(format!(
                "a zstd frame wants a window of {wanted} bytes, more than the {} that are allowed",
                1_u64 << MAX_LOG
            )));
        }
        if wanted <= 1 << ORDINARY_LOG {
            return Ok(Self {
                log: ORDINARY_LOG,
                _turn: None,
            });
        }
        Ok(Self {
            log: MAX_LOG,
            _turn: Some(Turn::wait()),
        })
    }
}

/// The window in the head of a frame; `None` when it can't be told.
fn wanted(start: &[u8]) -> Option<u64> {
    let (magic, rest) = start.split_first_chunk::<4>()?;
    if *magic != [0x28, 0xb5, 0x2f, 0xfd] {
        return None;
    }
    let (descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 == 0 {
        let byte = rest.first()?;
        let base = 1_u64 << (10 + (byte >> 3));
        return Some(base + base / 8 * u64::from(byte & 7));
    }
    // A single segment: the window is the content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = rest.get(dictionary..)?;
    Some(match descriptor >> 6 {
        0 => u64::from(*size.first()?),
        1 => u64::from(u16::from_le_bytes(*size.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*size.first_chunk()?)),
        _ => u64::from_le_bytes(*size.first_chunk()?),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_frames_head_is_read() {
        for (head, window) in [
            (&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00][..], Some(1 << 10)),
            (
                &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x69],
                Some((1 << 23) + (1 << 20)),
            ),
            (
                &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff],
                Some((1 << 41) + 7 * (1 << 38)),
            ),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 9], Some(9)),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0x61, 0, 1, 0], Some(257)),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 8], Some(1 << 27)),
            (
                &[0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0],
                Some(1 << 40),
            ),
            (&[0x50, 0x2a, 0x4d, 0x18, 0, 0], None),
            (&[0x28, 0xb5, 0x2f, 0xfd], None),
        ] {
            assert_eq!(wanted(head), window, "{head:x?}");
        }
        // As the library itself writes it.
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(25).unwrap();
        encoder.write_all(&[0; 100]).unwrap();
        assert_eq!(wanted(&encoder.finish().unwrap()), Some(1 << 25));
    }

    #[test]
    fn large_windows_take_turns_and_huge_ones_are_refused() {
        let large = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (25 - 10) << 3];
        let held = Window::of(&large).unwrap();
        assert_eq!(held.log, MAX_LOG);
        assert!(*LARGE.lock());
        // Ordinary ones pass by meanwhile.
        assert_eq!(
            Window::of(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0]).unwrap().log,
            ORDINARY_LOG
        );
        drop(held);
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3];
        let error = Window::of(&huge).err().unwrap().to_string();
        assert!(error.contains("2147483648 bytes"), "{error}");
    }
}
