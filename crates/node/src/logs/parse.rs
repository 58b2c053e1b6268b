//! Entries of a log, as the bytes come: a line need not be whole, and is never kept.

use jiff::Timestamp;

/// Time, stream and tags take less than this; a line without them is none of a log's.
const HEAD_LIMIT: usize = 256;

/// What an entry begins with; borrowed from the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    /// As written by the runtime, RFC 3339 with nanoseconds.
    pub(super) time: &'a str,
    /// `stdout` or `stderr`.
    pub(super) stream: &'a str,
    /// The entry does not end its line of output.
    pub(super) partial: bool,
}

impl<'a> Head<'a> {
    /// `None` for what is not an entry (a torn line).
    fn parse(head: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(head).ok()?.splitn(3, ' ');
        let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
        if !matches!(stream, "stdout" | "stderr") {
            return None;
        }
        Some(Self {
            time,
            stream,
            partial: tags.split(':').next() == Some("P"),
        })
    }

    pub(super) fn at(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// A part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Begin(Head<'a>),
    /// What the container wrote, or some of it.
    Content(&'a [u8]),
    /// The entry's end.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Collecting time, stream and tags; this many blanks were seen.
    Head(u8),
    Content,
    /// In a line that is no entry.
    Skipped,
    #[default]
    Start,
}

/// Takes a log's bytes, in whatever chunks, and gives the parts of its entries.
#[derive(Debug, Default)]
pub(super) struct Parser {
    state: State,
    head: Vec<u8>,
}

impl Parser {
    pub(super) fn feed(&mut self, mut data: &[u8], mut sink: impl FnMut(Piece<'_>)) {
        while let Some((first, rest)) = data.split_first() {
            match self.state {
                State::Start => {
                    self.head.clear();
                    self.state = State::Head(0);
                }
                State::Head(blanks) => {
                    data = rest;
                    self.head_byte(*first, blanks, &mut sink);
                }
                State::Content | State::Skipped => {
                    let end = data.iter().position(|b| *b == b'\n');
                    let (content, more) = data.split_at(end.unwrap_or(data.len()));
                    if self.state == State::Content && !content.is_empty() {
                        sink(Piece::Content(content));
                    }
                    data = more.get(1..).unwrap_or_default();
                    if end.is_some() {
                        if self.state == State::Content {
                            sink(Piece::End);
                        }
                        self.state = State::Start;
                    }
                }
            }
        }
    }

    fn head_byte(&mut self, byte: u8, blanks: u8, sink: &mut impl FnMut(Piece<'_>)) {
        let over = byte == b'\n';
        if over || (byte == b' ' && blanks == 2) {
            let head = Head::parse(&self.head);
            if let Some(head) = head {
                sink(Piece::Begin(head));
            }
            self.state = match (head, over) {
                (Some(_), false) => State::Content,
                (Some(_), true) => {
                    sink(Piece::End);
                    State::Start
                }
                (None, false) => State::Skipped,
                (None, true) => State::Start,
            };
            return;
        }
        self.head.push(byte);
        self.state = if self.head.len() > HEAD_LIMIT {
            State::Skipped
        } else {
            State::Head(blanks + u8::from(byte == b' '))
        };
    }

    /// Another file begins: an entry that broke off has its end here.
    pub(super) fn next_file(&mut self, mut sink: impl FnMut(Piece<'_>)) {
        if self.state == State::Content {
            sink(Piece::End);
        }
        self.state = State::Start;
    }

    /// What comes next is the middle of an entry whose beginning was not read.
    pub(super) fn in_the_middle(&mut self) {
        self.state = State::Content;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each piece as text; contents in brackets.
    fn pieces(chunks: &[&[u8]]) -> String {
        let mut parser = Parser::default();
        let mut out = String::new();
        for chunk in chunks {
            parser.feed(chunk, |piece| match piece {
                Piece::Begin(head) => out.push_str(&format!("{}{}", head.stream, head.partial)),
                Piece::Content(text) => out.push_str(&format!("[{}]", text.escape_ascii())),
                Piece::End => out.push('.'),
            });
        }
        out
    }

    #[test]
    fn lines() {
        for (text, want) in [
            (
                "2026-11-21T22:00:00.5Z stdout F hello world\n",
                "stdoutfalse[hello world].",
            ),
            ("t stderr P half\n", "stderrtrue[half]."),
            ("t stderr P:x half", "stderrtrue[half]"),
            ("t stdout F \n", "stdoutfalse."),
            ("t stdout F\n", "stdoutfalse."),
            (
                "\nx\nt other F x\nt stdout\nt stdout F y\n",
                "stdoutfalse[y].",
            ),
        ] {
            assert_eq!(pieces(&[text.as_bytes()]), want, "{text:?}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            let joined = pieces(&bytes).replace("][", "");
            assert_eq!(joined, want, "{text:?} byte by byte");
        }
        let head = Head::parse(b"2026-11-21T22:00:00.5Z stdout F").unwrap();
        assert!(head.at().is_some());
    }

    #[test]
    fn a_line_without_blanks_is_not_kept() {
        let mut parser = Parser::default();
        for _ in 0..1000 {
            parser.feed(&[b'x'; 1000], |piece| assert_eq!(piece, Piece::End));
        }
        assert!(parser.head.capacity() <= 2 * HEAD_LIMIT);
        let mut seen = 0;
        parser.feed(b"\nt stdout F y\n", |_| seen += 1);
        assert_eq!(seen, 3);
    }
}
