//! SPDY/3.1 frames: an eight-byte head, then the body.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u16 = 3;
/// FIN on SYN_STREAM, SYN_REPLY and DATA.
pub(super) const FIN: u8 = 1;
/// Bodies are at most 2^24 - 1 bytes long; a control frame's far less.
const CONTROL_LIMIT: usize = 64 * 1024;

/// A frame from the client, header blocks still compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    /// HEADERS or SYN_REPLY: their blocks go through the same decompressor.
    Headers {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// SETTINGS, WINDOW_UPDATE and kinds to come.
    Ignored,
    Data {
        id: u32,
        fin: bool,
        bytes: Bytes,
    },
}

/// What is not SPDY/3.1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("frame of version {0}, not 3")]
    Version(u16),
    #[error("control frame of {0} bytes")]
    TooLong(usize),
    #[error("frame of kind {0} is cut short")]
    Short(u16),
}

/// Takes the first whole frame off `buffer`; `None` when more bytes are needed.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some((head, _)) = buffer.split_first_chunk::<8>() else {
        return Ok(None);
    };
    let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let flags = head[4];
    let length =
        usize::try_from(u32::from_be_bytes([0, head[5], head[6], head[7]])).unwrap_or(usize::MAX);
    let control = word & 0x8000_0000 != 0;
    if control && length > CONTROL_LIMIT {
        return Err(FrameError::TooLong(length));
    }
    if buffer.len() < 8 + length {
        buffer.reserve(8 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(8);
    let mut body = buffer.split_to(length).freeze();
    let fin = flags & FIN != 0;
    if !control {
        return Ok(Some(Frame::Data {
            id: word,
            fin,
            bytes: body,
        }));
    }
    let [high, low, kind_high, kind_low] = word.to_be_bytes();
    let version = u16::from_be_bytes([high & 0x7f, low]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let kind = u16::from_be_bytes([kind_high, kind_low]);
    let mut id = |rest: usize| {
        if body.len() < 4 + rest {
            return Err(FrameError::Short(kind));
        }
        Ok(body.get_u32() & 0x7fff_ffff)
    };
    Ok(Some(match kind {
        1 => {
            // Associated stream, priority and slot mean nothing here.
            let id = id(6)?;
            body.advance(6);
            Frame::SynStream {
                id,
                fin,
                block: body,
            }
        }
        2 | 8 => Frame::Headers {
            id: id(0)?,
            fin,
            block: body,
        },
        3 => Frame::Reset { id: id(4)? },
        6 => Frame::Ping { id: id(0)? },
        7 => Frame::GoAway,
        _ => Frame::Ignored,
    }))
}

fn head(kind: u16, flags: u8, length: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(8 + length);
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_length(&mut out, flags, length);
    out
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) {
    out.put_u8(flags);
    let length = u32::try_from(length).unwrap_or(0).to_be_bytes();
    out.put_slice(&length[1..]);
}

pub(super) fn syn_reply(id: u32, block: &[u8]) -> Bytes {
    let mut out = head(2, 0, 4 + block.len());
    out.put_u32(id);
    out.put_slice(block);
    out.freeze()
}

/// RST_STREAM with a reason of the specification.
pub(super) fn reset(id: u32, reason: u32) -> Bytes {
    let mut out = head(3, 0, 8);
    out.put_u32(id);
    out.put_u32(reason);
    out.freeze()
}

pub(super) fn ping(id: u32) -> Bytes {
    let mut out = head(6, 0, 4);
    out.put_u32(id);
    out.freeze()
}

pub(super) fn go_away(last: u32) -> Bytes {
    let mut out = head(7, 0, 8);
    out.put_u32(last);
    out.put_u32(0);
    out.freeze()
}

/// A DATA frame's head; the caller sends at most 2^24 - 1 bytes behind it.
pub(super) fn data_head(id: u32, fin: bool, length: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(8);
    out.put_u32(id & 0x7fff_ffff);
    put_length(&mut out, if fin { FIN } else { 0 }, length);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_across_any_cut() {
        let mut wire = BytesMut::new();
        wire.put_slice(&[
            0x80, 3, 0, 1, FIN, 0, 0, 12, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, b'h', b'b',
        ]);
        wire.put_slice(&data_head(5, true, 3));
        wire.put_slice(b"abc");
        wire.put_slice(&ping(7));
        wire.put_slice(&[0x80, 3, 0, 4, 0, 0, 0, 1, 9]);
        let wire = wire.freeze();
        let expected = [
            Frame::SynStream {
                id: 5,
                fin: true,
                block: Bytes::from_static(b"hb"),
            },
            Frame::Data {
                id: 5,
                fin: true,
                bytes: Bytes::from_static(b"abc"),
            },
            Frame::Ping { id: 7 },
            Frame::Ignored,
        ];
        for step in 1..wire.len() {
            let mut buffer = BytesMut::new();
            let mut frames = Vec::new();
            for chunk in wire.chunks(step) {
                buffer.put_slice(chunk);
                while let Some(frame) = decode(&mut buffer).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, expected, "step {step}");
        }
    }

    #[test]
    fn what_is_not_spdy_is_refused() {
        let read = |bytes: &[u8]| decode(&mut BytesMut::from(bytes));
        assert_eq!(
            read(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]),
            Err(FrameError::Version(2))
        );
        assert_eq!(
            read(&[0x80, 3, 0, 6, 0, 0, 0, 2, 0, 0]),
            Err(FrameError::Short(6))
        );
        assert_eq!(
            read(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
            Err(FrameError::TooLong(0xff_ffff))
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            while let Ok(Some(_)) = decode(&mut buffer) {}
        }
    }
}
