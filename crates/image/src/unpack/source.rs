//! From a blob to the bytes of a tar archive: decompression, the digest of what comes out, and the
//! bounds on it.

mod zstd_window;

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use crate::bounds::{Bounds, Spent};
use crate::digest::Digest;
use zstd_window::Window;

/// How a blob is compressed, told by its first bytes and not by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, with which zstd:chunked and pzstd begin.
            [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50 => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Decompresses whatever it is.
pub(crate) fn decompress<'a>(
    reader: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(128 << 10, reader);
    Ok(match Compression::detect(reader.fill_buf()?) {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let window = Window::of(reader.fill_buf()?)?;
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(window.log)?;
            Box::new(Zstd {
                decoder,
                _window: window,
            })
        }
    })
}

/// A zstd stream with its share of memory, which it gives back when it is dropped.
struct Zstd<R: BufRead> {
    decoder: zstd::stream::read::Decoder<'static, R>,
    _window: Window,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer)
    }
}

/// The tar archive in a layer blob, hashed while it is read.
pub(crate) struct Source<'a> {
    reader: Box<dyn Read + Send + 'a>,
    hasher: Sha256,
    read: u64,
    compressed: Arc<AtomicU64>,
    /// How much of `compressed` the image's bounds know of.
    reported: u64,
    bounds: Bounds,
}

impl<'a> Source<'a> {
    pub(crate) fn new(blob: impl Read + Send + 'a, bounds: Bounds) -> io::Result<Self> {
        let compressed = Arc::new(AtomicU64::new(0));
        let reader = decompress(Counted {
            reader: blob,
            count: compressed.clone(),
        })?;
        Ok(Self {
            reader,
            hasher: Sha256::new(),
            read: 0,
            compressed,
            reported: 0,
            bounds,
        })
    }

    /// Bytes that came out and went in.
    pub(crate) fn spent(&self) -> Spent {
        Spent {
            bytes: self.read,
            compressed: self.reported,
            entries: 0,
        }
    }

    /// The digest of everything read.
    pub(crate) fn digest(self) -> Digest {
        Digest::from_hasher(self.hasher)
    }
}

/// A bound that was hit, carried through [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OverLimit(pub(crate) String);

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.read += n as u64;
        let compressed = self.compressed.load(Ordering::Relaxed);
        let more = compressed - self.reported;
        self.reported = compressed;
        self.bounds
            .read(n as u64, more)
            .map_err(|limit| io::Error::other(OverLimit(limit)))?;
        Ok(n)
    }
}

struct Counted<R> {
    reader: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
