//! Connections of gRPC clients that name a unix socket's path as `:authority`.
//!
//! gRPC's C core (Python, C++, Ruby, PHP) sends the path of the socket, percent-encoded or as it is, where HTTP/2 has
//! the host. RFC 3986 allows neither there, and the HTTP library below tonic answers with RST_STREAM before any code of
//! ours sees the request. containerd's library doesn't look. So what a client sends passes through a filter that puts
//! an allowed name of the same length in the place of such a value.
//!
//! The same length is what keeps it simple: frames, HPACK's lengths and the sizes in both sides' dynamic tables stay as
//! they are, an entry that is referred to later has the allowed name already, and all other bytes pass unchanged. What
//! the filter can't read it leaves to the HTTP library to judge.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// What every HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Header blocks beyond it pass as they are; the HTTP library refuses them.
const BLOCK_LIMIT: usize = 64 << 10;
/// How much is read at a time.
const READ: usize = 16 << 10;

/// A connection whose requests have an authority that HTTP allows.
#[derive(Debug)]
pub struct Tolerant<T> {
    inner: T,
    filter: Filter,
    input: BytesMut,
    output: BytesMut,
}

impl<T> Tolerant<T> {
    /// Wraps a connection.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            filter: Filter::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Tolerant<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.output.is_empty() {
            this.input.reserve(READ);
            let inner = Pin::new(&mut this.inner);
            match tokio_util::io::poll_read_buf(inner, cx, &mut this.input) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // Half a frame at the end is nothing that anybody could use.
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => this.filter.pass(&mut this.input, &mut this.output),
            }
        }
        let length = this.output.len().min(buf.remaining());
        buf.put_slice(&this.output.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tolerant<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T: Connected> Connected for Tolerant<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

/// Where in the client's bytes the filter is.
#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    Preface,
    /// Before a frame.
    Frame,
    /// In a frame that passes, with so many bytes to come.
    Within(usize),
    /// In something that is no HTTP/2.
    Foreign,
}

#[derive(Debug, Default)]
struct Filter {
    place: Place,
    /// The frames of a header block whose end has not come.
    block: BytesMut,
}

impl Filter {
    /// Moves on what can be judged by now.
    fn pass(&mut self, input: &mut BytesMut, output: &mut BytesMut) {
        while !input.is_empty() {
            match self.place {
                Place::Foreign => output.unsplit(input.split()),
                Place::Within(left) => {
                    let length = left.min(input.len());
                    output.extend_from_slice(&input.split_to(length));
                    self.place = match left - length {
                        0 => Place::Frame,
                        left => Place::Within(left),
                    };
                }
                Place::Preface => {
                    if input.len() < PREFACE.len() && PREFACE.starts_with(input) {
                        return;
                    }
                    self.place = if input.starts_with(PREFACE) {
                        Place::Within(PREFACE.len())
                    } else {
                        Place::Foreign
                    };
                }
                Place::Frame => {
                    let Some(head) = Head::read(input) else {
                        return;
                    };
                    let of_block = head.kind == HEADERS
                        || (head.kind == CONTINUATION && !self.block.is_empty());
                    let whole = FRAME_HEAD + head.length;
                    if !of_block || self.block.len() + whole > BLOCK_LIMIT {
                        output.unsplit(self.block.split());
                        self.place = Place::Within(whole);
                        continue;
                    }
                    if input.len() < whole {
                        return;
                    }
                    self.block.extend_from_slice(&input.split_to(whole));
                    if head.flags & END_HEADERS != 0 {
                        let mut block = self.block.split();
                        allow_authority(&mut block);
                        output.unsplit(block);
                    }
                }
            }
        }
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, _, _, _, _] = *bytes.first_chunk::<FRAME_HEAD>()?;
        Some(Self {
            length: (usize::from(a) << 16) | (usize::from(b) << 8) | usize::from(c),
            kind,
            flags,
        })
    }
}

/// Puts an allowed authority in the place of one that is not, in the frames of one header block.
fn allow_authority(frames: &mut [u8]) {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(head) = frames.get(at..).and_then(Head::read) {
        let Some(part) = fragment(frames, at, head) else {
            return;
        };
        parts.push(part);
        at += FRAME_HEAD + head.length;
    }
    let mut block: Vec<u8> = parts
        .iter()
        .flat_map(|part| frames[part.clone()].iter().copied())
        .collect();
    let mut changed = false;
    for range in authorities(&block) {
        let value = &mut block[range];
        if !value.is_empty() && Authority::try_from(&*value).is_err() {
            value.iter_mut().for_each(allow);
            changed = true;
        }
    }
    if !changed {
        return;
    }
    let mut rest = block.as_slice();
    for part in parts {
        let (now, later) = rest.split_at(part.len());
        frames[part].copy_from_slice(now);
        rest = later;
    }
}

/// What every host may be made of stays, so that a log still shows which path it was.
fn allow(byte: &mut u8) {
    if !byte.is_ascii_alphanumeric() && *byte != b'.' {
        *byte = b'-';
    }
}

/// The part of a frame that belongs to the header block.
fn fragment(frames: &[u8], at: usize, head: Head) -> Option<Range<usize>> {
    let (mut start, mut end) = (at + FRAME_HEAD, at + FRAME_HEAD + head.length);
    if head.kind == HEADERS && head.flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*frames.get(start)?))?;
        start += 1;
    }
    if head.kind == HEADERS && head.flags & PRIORITY != 0 {
        start += 5;
    }
    (start <= end && end <= frames.len()).then_some(start..end)
}

/// The values of `:authority` in a header block, as far as they are written out in it and not in Huffman's code.
fn authorities(block: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut reader = Reader { block, at: 0 };
    while reader.field(&mut found).is_some() {}
    found
}

/// Reads HPACK's representations (RFC 7541, section 6) without a table of headers.
struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Reads one field; `None` at the end, and where the block is broken.
    fn field(&mut self, found: &mut Vec<Range<usize>>) -> Option<()> {
        let first = *self.block.get(self.at)?;
        let prefix = match first {
            0x80.. => return self.number(7).map(drop),
            0x40..0x80 => 6,
            0x20..0x40 => return self.number(5).map(drop),
            0x00..0x20 => 4,
        };
        // The static table's first entry is `:authority`; 0 announces a name that is written out.
        let is_authority = match self.number(prefix)? {
            0 => {
                let (name, plain) = self.text()?;
                plain && self.block[name] == *b":authority"
            }
            index => index == 1,
        };
        let (value, plain) = self.text()?;
        if is_authority && plain {
            found.push(value);
        }
        Some(())
    }

    /// A string, and whether it is written out.
    fn text(&mut self) -> Option<(Range<usize>, bool)> {
        let plain = *self.block.get(self.at)? & 0x80 == 0;
        let length = self.number(7)?;
        let end = self.at.checked_add(length)?;
        if end > self.block.len() {
            return None;
        }
        let start = std::mem::replace(&mut self.at, end);
        Some((start..end, plain))
    }

    /// An integer whose first byte has so many bits of it.
    fn number(&mut self, bits: u32) -> Option<usize> {
        let mask = u8::MAX >> (8 - bits);
        let first = *self.block.get(self.at)? & mask;
        self.at += 1;
        let mut value = usize::from(first);
        if first < mask {
            return Some(value);
        }
        for shift in (0..28).step_by(7) {
            let byte = *self.block.get(self.at)?;
            self.at += 1;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
