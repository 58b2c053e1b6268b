//! PAX extended header records: `<length> <key>=<value>\n`.

use super::TarError;

/// The records that matter when unpacking.
#[derive(Debug, Clone, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// A sparse file in one of GNU's PAX forms.
    pub(super) sparse: bool,
}

impl Pax {
    /// Adds the records of one `x` header.
    pub(super) fn merge(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes)?;
            self.set(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Adds those records of a `g` header that can hold for all files: not names and sizes.
    pub(super) fn merge_global(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes)?;
            if matches!(key, b"uid" | b"gid" | b"mtime") {
                self.set(key, value)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        // An empty value takes back what was said before, even by the header.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = decimal(value)?,
            b"uid" => self.uid = decimal(value)?,
            b"gid" => self.gid = decimal(value)?,
            b"mtime" => self.mtime = time(value)?,
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                    && !name.is_empty()
                {
                    self.xattrs.retain(|(n, _)| n != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// A record's key and value, and what follows it.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The first record.
fn record(bytes: &[u8]) -> Result<Record<'_>, TarError> {
    let bad = TarError::Damaged("a PAX record is not one");
    let parse = || {
        let space = bytes.iter().take(20).position(|&b| b == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let (record, rest) = bytes.split_at_checked(length)?;
        let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&b| b == b'=')?;
        Some((&record[..equals], &record[equals + 1..], rest))
    };
    parse().ok_or(bad)
}

fn decimal(value: &[u8]) -> Result<Option<u64>, TarError> {
    if value.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).ok();
    text.and_then(|t| t.parse().ok())
        .map(Some)
        .ok_or(TarError::Damaged("a number in a PAX record is not one"))
}

/// `[-]seconds[.fraction]`.
fn time(value: &[u8]) -> Result<Option<(i64, u32)>, TarError> {
    if value.is_empty() {
        return Ok(None);
    }
    let parse = || {
        let text = std::str::from_utf8(value).ok()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().ok()?;
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nanos: u32 = format!("{fraction:0<9.9}").parse().ok()?;
        Some(match (whole.starts_with('-'), nanos) {
            (true, 1..) => (seconds.checked_sub(1)?, 1_000_000_000 - nanos),
            _ => (seconds, nanos),
        })
    };
    parse()
        .map(Some)
        .ok_or(TarError::Damaged("a time in a PAX record is not one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, wanted) in [
            ("1", (1, 0)),
            ("1.5", (1, 500_000_000)),
            ("-1.5", (-2, 500_000_000)),
            ("0.1234567899", (0, 123_456_789)),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), Some(wanted), "{text}");
        }
        assert!(time(b"x").is_err() && time(b"1.x").is_err());
    }

    #[test]
    fn records() {
        let mut pax = Pax::default();
        pax.merge(b"9 path=a\n28 SCHILY.xattr.user.x=a\nb\n\n".as_slice())
            .unwrap();
        assert_eq!(pax.path.as_deref(), Some(b"a".as_slice()));
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"a\nb\n".to_vec())]);
        for bad in [
            b"9 path=a".as_slice(),
            b"99 path=a\n",
            b"path=a\n",
            b"3 =\n",
            b"0 \n",
        ] {
            assert!(Pax::default().merge(bad).is_err(), "{bad:?}");
        }
    }
}
