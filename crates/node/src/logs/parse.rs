//! One log line.

use jiff::Timestamp;

/// One entry of a log; borrowed from the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// As written by the runtime, RFC 3339 with nanoseconds.
    pub(crate) time: &'a str,
    /// `stdout` or `stderr`.
    pub(crate) stream: &'a str,
    /// The entry does not end its line of output.
    pub(crate) partial: bool,
    /// What the container wrote, without the line's end.
    pub(crate) content: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `None` for what is not an entry (a torn line).
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = std::str::from_utf8(parts.next()?).ok()?;
        let tags = parts.next()?;
        let content = parts.next().unwrap_or_default();
        if !matches!(stream, "stdout" | "stderr") {
            return None;
        }
        let first = tags.split(|b| *b == b':').next()?;
        Some(Self {
            time,
            stream,
            partial: first == b"P",
            content,
        })
    }

    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// Appends it as `kubectl logs` shows it.
    pub(crate) fn write(&self, timestamps: bool, out: &mut Vec<u8>) {
        if timestamps {
            out.extend_from_slice(self.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(self.content);
        if !self.partial {
            out.push(b'\n');
        }
    }
}

/// Where the last `lines` lines begin.
pub(crate) fn tail_offset(data: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return data.len();
    }
    let end = data.strip_suffix(b"\n").map_or(data.len(), <[u8]>::len);
    let mut seen = 0;
    for (i, b) in data[..end].iter().enumerate().rev() {
        if *b == b'\n' {
            seen += 1;
            if seen == lines {
                return i + 1;
            }
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let e = Entry::parse(b"2026-11-21T22:00:00.5Z stdout F hello world\n").unwrap();
        assert_eq!(
            (e.stream, e.partial, e.content),
            ("stdout", false, &b"hello world"[..])
        );
        assert!(e.at().is_some());
        let e = Entry::parse(b"t stderr P half").unwrap();
        assert!(e.partial);
        let e = Entry::parse(b"t stdout F \n").unwrap();
        assert_eq!(e.content, b"");
        for bad in [&b""[..], b"x", b"t other F x", b"t stdout"] {
            assert_eq!(Entry::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn partial_entries_join() {
        let mut out = Vec::new();
        for line in [&b"t stdout P ab"[..], b"t stdout F cd"] {
            Entry::parse(line).unwrap().write(false, &mut out);
        }
        assert_eq!(out, b"abcd\n");
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
        }
    }
}
