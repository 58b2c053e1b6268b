//! A reader of tar streams that trusts nothing: headers are checked, long names and PAX records have
//! bounds, and only one 512-byte block is held besides them.
//!
//! The `tar` crate parses the fields of a header; its own iterator reads long names and PAX records
//! whole, whatever size they claim, so the framing is done here.

use std::io::{self, Read};
use std::ops::Range;

use tar::Header;

mod pax;

use pax::Pax;

const BLOCK: usize = 512;
const LONG_NAME_MAX: u64 = 32 << 10;
const PAX_MAX: u64 = 1 << 20;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
}

/// One entry, with everything that long names and PAX records say about it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why a stream is no tar archive that can be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("the stream can't be read: {0}")]
    Read(#[from] io::Error),
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    #[error("the archive has {0}, which is not supported")]
    Unsupported(String),
}

/// Reads entries one by one; the data of the present entry is read from [`TarStream::data`].
pub(crate) struct TarStream<R> {
    reader: R,
    /// Bytes of the present entry's data that were not read yet, and of its padding.
    data: u64,
    padding: u64,
    global: Pax,
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            data: 0,
            padding: 0,
            global: Pax::default(),
        }
    }

    /// The next entry, or none at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pax = self.global.clone();
        let (mut long_path, mut long_link) = (None, None);
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = natural(&header, at::SIZE)?;
            let kind = header.as_bytes()[156];
            match kind {
                b'L' => long_path = Some(self.text(size)?),
                b'K' => long_link = Some(self.text(size)?),
                b'x' => pax.merge(&self.bounded(size, PAX_MAX)?)?,
                b'g' => {
                    let records = self.bounded(size, PAX_MAX)?;
                    self.global.merge_global(&records)?;
                    pax.merge_global(&records)?;
                }
                b'V' => self.set_data(size)?,
                _ => {
                    return self
                        .entry(&header, kind, size, pax, long_path, long_link)
                        .map(Some);
                }
            }
        }
    }

    /// The data of the entry that [`TarStream::next`] gave last.
    pub(crate) fn data(&mut self) -> Data<'_, R> {
        Data { stream: self }
    }

    /// Reads what follows the end of the archive, which counts for the digest of the whole.
    pub(crate) fn finish(mut self) -> Result<R, TarError> {
        self.skip_rest()?;
        io::copy(&mut self.reader, &mut io::sink())?;
        Ok(self.reader)
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: u8,
        size: u64,
        pax: Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        if pax.sparse || kind == b'S' {
            return Err(TarError::Unsupported("a sparse file".to_owned()));
        }
        let path = pax
            .path
            .or(long_path)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax
            .link
            .or(long_link)
            .or_else(|| header.link_name_bytes().map(|l| l.into_owned()))
            .unwrap_or_default();
        let kind = match kind {
            // Before ustar there was no type for directories, only the slash at the end.
            b'\0' | b'0' | b'7' if path.ends_with(b"/") => Kind::Directory,
            b'\0' | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(TarError::Unsupported(format!(
                    "an entry of type {:?}",
                    char::from(other)
                )));
            }
        };
        let size = pax.size.unwrap_or(size);
        // Only files have data; some writers give links and directories a size that means nothing.
        let data = if kind == Kind::File { size } else { 0 };
        self.set_data(data)?;
        let id = |value: u64| match u32::try_from(value) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(TarError::Damaged("a user or group id is out of range")),
        };
        let device = |field: Range<usize>| {
            u32::try_from(natural(header, field)?)
                .map_err(|_| TarError::Damaged("a device number is out of range"))
        };
        let is_device = matches!(kind, Kind::Char | Kind::Block);
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => (number(header, at::MTIME)?, 0),
        };
        Ok(Entry {
            kind,
            path,
            link,
            mode: u32::try_from(natural(header, at::MODE)? & 0o7777).unwrap_or(0),
            uid: id(pax.uid.map_or_else(|| natural(header, at::UID), Ok)?)?,
            gid: id(pax.gid.map_or_else(|| natural(header, at::GID), Ok)?)?,
            mtime,
            device: if is_device {
                (device(at::MAJOR)?, device(at::MINOR)?)
            } else {
                (0, 0)
            },
            size: data,
            xattrs: pax.xattrs,
        })
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(TarError::Damaged("it ends in the middle of a header")),
                n => filled += n,
            }
        }
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let (mut unsigned, mut signed) = (8 * 32_u32, 8 * 32_i32);
        for (at, &byte) in block.iter().enumerate() {
            if !at::CHECKSUM.contains(&at) {
                unsigned += u32::from(byte);
                signed += i32::from(byte.cast_signed());
            }
        }
        let claimed = natural(&header, at::CHECKSUM)?;
        if claimed != u64::from(unsigned) && i64::try_from(claimed) != Ok(i64::from(signed)) {
            return Err(TarError::Damaged("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    fn set_data(&mut self, size: u64) -> Result<(), TarError> {
        if size > i64::MAX.unsigned_abs() - 1024 {
            return Err(TarError::Damaged("an entry's size is out of range"));
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn bounded(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, TarError> {
        if size > limit {
            return Err(TarError::Damaged(
                "a long name or PAX record is larger than any system can use",
            ));
        }
        self.set_data(size)?;
        let mut bytes = Vec::new();
        self.data().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A GNU long name: up to its NUL.
    fn text(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut bytes = self.bounded(size, LONG_NAME_MAX)?;
        if let Some(end) = bytes.iter().position(|&b| b == 0) {
            bytes.truncate(end);
        }
        Ok(bytes)
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let wanted = self.data + self.padding;
        let skipped = io::copy(&mut (&mut self.reader).take(wanted), &mut io::sink())?;
        // The padding of the last entry may be missing: some writers stop there.
        if skipped < self.data {
            return Err(TarError::Damaged("it ends in the middle of an entry"));
        }
        (self.data, self.padding) = (0, 0);
        Ok(())
    }
}

/// The data of one entry.
pub(crate) struct Data<'a, R> {
    stream: &'a mut TarStream<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stream.data == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.stream.data)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.stream.reader.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive ends in the middle of an entry",
            ));
        }
        self.stream.data -= read as u64;
        Ok(read)
    }
}

/// Where the numbers of a header stand.
mod at {
    use std::ops::Range;

    pub(super) const MODE: Range<usize> = 100..108;
    pub(super) const UID: Range<usize> = 108..116;
    pub(super) const GID: Range<usize> = 116..124;
    pub(super) const SIZE: Range<usize> = 124..136;
    pub(super) const MTIME: Range<usize> = 136..148;
    pub(super) const CHECKSUM: Range<usize> = 148..156;
    pub(super) const MAJOR: Range<usize> = 329..337;
    pub(super) const MINOR: Range<usize> = 337..345;
}

/// A number in octal digits, or in base 256 when the first bit is set; nothing at all is 0, as many
/// writers leave fields empty that mean nothing for an entry.
fn number(header: &Header, field: Range<usize>) -> Result<i64, TarError> {
    let bad = TarError::Damaged("a number in a header is not one");
    let bytes = &header.as_bytes()[field];
    if bytes[0] & 0x80 != 0 {
        // The bit after the marker is the sign.
        let mut value: i64 = if bytes[0] & 0x40 != 0 { -1 } else { 0 };
        value = (value << 6) | i64::from(bytes[0] & 0x3f);
        for &byte in &bytes[1..] {
            let next = value
                .checked_mul(256)
                .and_then(|v| v.checked_add(i64::from(byte)));
            value = next.ok_or(TarError::Damaged("a number in a header is out of range"))?;
        }
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| TarError::Damaged("a number in a header is not one"))?;
    let text = text.split('\0').next().unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(0);
    }
    i64::from_str_radix(text, 8).map_err(|_| bad)
}

/// The same for what can't be negative.
fn natural(header: &Header, field: Range<usize>) -> Result<u64, TarError> {
    u64::try_from(number(header, field)?)
        .map_err(|_| TarError::Damaged("a number in a header is negative"))
}
