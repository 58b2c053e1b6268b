//! Header blocks: name and value pairs, compressed with zlib and a preset dictionary, one
//! compression context for each direction of a connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The dictionary of SPDY/3 (section 2.6.10.1), Adler-32 e3c6a7c2.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// A block may unpack to so much; Kubernetes' have under 100 bytes.
const LIMIT: usize = 64 * 1024;

/// What is no header block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadersError {
    #[error("header block is not compressed as SPDY/3 wants it")]
    Compression,
    #[error("header block is over 64 KiB")]
    TooLong,
    #[error("header block is cut short")]
    Short,
}

/// Reads the client's blocks, in order.
pub(super) struct Reader(Decompress);

impl Reader {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Names in lower case, with their values.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, HeadersError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, HeadersError> {
        let mut out = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            if out.len() >= LIMIT {
                return Err(HeadersError::TooLong);
            }
            out.reserve(1024);
            let (read, written) = (self.0.total_in(), out.len());
            let status = match self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync) {
                Ok(status) => Some(status),
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| HeadersError::Compression)?;
                    None
                }
                Err(_) => return Err(HeadersError::Compression),
            };
            let taken = usize::try_from(self.0.total_in() - read).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            let stuck = taken == 0 && out.len() == written && status.is_some();
            match status {
                Some(Status::StreamEnd) => return Err(HeadersError::Compression),
                _ if stuck && rest.is_empty() => return Ok(out),
                _ if stuck => return Err(HeadersError::Compression),
                _ => {}
            }
        }
    }
}

fn parse(mut block: &[u8]) -> Result<Vec<(String, String)>, HeadersError> {
    let mut headers = Vec::new();
    for _ in 0..number(&mut block)? {
        let name = text(&mut block)?.to_ascii_lowercase();
        headers.push((name, text(&mut block)?));
    }
    Ok(headers)
}

fn number(block: &mut &[u8]) -> Result<u32, HeadersError> {
    let (first, rest) = block.split_first_chunk::<4>().ok_or(HeadersError::Short)?;
    *block = rest;
    Ok(u32::from_be_bytes(*first))
}

fn text(block: &mut &[u8]) -> Result<String, HeadersError> {
    let length = usize::try_from(number(block)?).unwrap_or(usize::MAX);
    let (first, rest) = block.split_at_checked(length).ok_or(HeadersError::Short)?;
    *block = rest;
    Ok(String::from_utf8_lossy(first).into_owned())
}

/// Writes our blocks, in order.
pub(super) struct Writer(Compress);

impl Writer {
    pub(super) fn new() -> Result<Self, HeadersError> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress
            .set_dictionary(DICTIONARY)
            .map_err(|_| HeadersError::Compression)?;
        Ok(Self(compress))
    }

    pub(super) fn write(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, HeadersError> {
        let mut plain = Vec::new();
        let put = |plain: &mut Vec<u8>, length: usize| {
            plain.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_be_bytes());
        };
        put(&mut plain, headers.len());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            put(&mut plain, text.len());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let start = self.0.total_in();
        loop {
            out.reserve(64);
            let taken = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            let written = out.len();
            self.0
                .compress_vec(
                    plain.get(taken..).unwrap_or_default(),
                    &mut out,
                    FlushCompress::Sync,
                )
                .map_err(|_| HeadersError::Compression)?;
            let all =
                usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX) >= plain.len();
            // Room left over means that everything is out.
            if all && out.len() < out.capacity() || out.len() == written {
                return Ok(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_over_one_context() {
        let mut writer = Writer::new().unwrap();
        let mut reader = Reader::new();
        let long = "x".repeat(5000);
        for headers in [
            vec![("streamtype", "error"), ("port", "80")],
            vec![],
            vec![("streamtype", "data"), ("requestid", long.as_str())],
        ] {
            let block = writer.write(&headers).unwrap();
            let read = reader.read(&block).unwrap();
            let read: Vec<(&str, &str)> =
                read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(read, headers);
        }
    }

    /// A SYN_STREAM's block as spdystream wrote it for `Streamtype: error`.
    #[test]
    fn a_block_of_the_go_client() {
        let block = hex::decode(GO_BLOCK).unwrap();
        let headers = Reader::new().read(&block).unwrap();
        assert_eq!(headers, [("streamtype".to_owned(), "error".to_owned())]);
    }

    const GO_BLOCK: &str = "78f9e3c6a7c26260606004a7b392a2d4c45c6851c29a5a54945f04000000ffff";

    #[test]
    fn bombs_and_rubbish_are_refused() {
        let huge = "y".repeat(200_000);
        let block = Writer::new().unwrap().write(&[("a", &huge)]).unwrap();
        assert_eq!(Reader::new().read(&block), Err(HeadersError::TooLong));
        assert!(Reader::new().read(b"no zlib at all").is_err());
        assert!(Reader::new().read(&[]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_block_is_read_or_refused(bytes: Vec<u8>) {
            let _ = Reader::new().read(&bytes);
            let _ = parse(&bytes);
        }
    }
}
