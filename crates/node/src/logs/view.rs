//! What a reader sees of a log's entries: of the wanted stream, from the wanted time on, at most so many bytes.

use super::Options;
use super::parse::{Head, Parser, Piece};

/// Turns a log's bytes into the text that `kubectl logs` shows.
#[derive(Debug)]
pub(super) struct View {
    parser: Parser,
    state: State,
}

#[derive(Debug)]
struct State {
    options: Options,
    left: Option<usize>,
    started: bool,
    /// The entry at hand is wanted.
    shown: bool,
    /// The entry at hand, or the last one shown, does not end its line.
    partial: bool,
}

impl View {
    pub(super) fn new(options: Options) -> Self {
        Self {
            parser: Parser::default(),
            state: State {
                left: options.limit_bytes,
                started: options.since.is_none(),
                options,
                shown: false,
                partial: false,
            },
        }
    }

    /// The text that these bytes make; at most a little longer than they are.
    pub(super) fn text(&mut self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len().min(64 << 10));
        let Self { parser, state } = self;
        parser.feed(data, |piece| state.piece(piece, &mut out));
        self.limit(out)
    }

    /// Another file begins.
    pub(super) fn next_file(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let Self { parser, state } = self;
        parser.next_file(|piece| state.piece(piece, &mut out));
        self.limit(out)
    }

    /// What comes next is the middle of an entry whose beginning was not read.
    pub(super) fn in_the_middle(&mut self) {
        self.parser.in_the_middle();
        self.state.shown = true;
    }

    /// As many bytes as were wanted have been given.
    pub(super) fn is_done(&self) -> bool {
        self.state.left == Some(0)
    }

    fn limit(&mut self, mut text: Vec<u8>) -> Vec<u8> {
        if let Some(left) = &mut self.state.left {
            text.truncate(*left);
            *left -= text.len();
        }
        text
    }
}

impl State {
    fn piece(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        match piece {
            Piece::Begin(head) => self.begin(head, out),
            Piece::Content(text) if self.shown => out.extend_from_slice(text),
            Piece::End if self.shown && !self.partial => out.push(b'\n'),
            Piece::Content(_) | Piece::End => {}
        }
    }

    fn begin(&mut self, head: Head<'_>, out: &mut Vec<u8>) {
        let other = |wanted: &str| !wanted.eq_ignore_ascii_case(head.stream);
        self.shown = !self.options.stream.is_some_and(other);
        if self.shown && !self.started {
            let since = self.options.since;
            self.started = head.at().is_none_or(|at| Some(at) >= since);
            self.shown = self.started;
        }
        if !self.shown {
            return;
        }
        // The rest of a split line gets no second time stamp.
        if self.options.timestamps && !self.partial {
            out.extend_from_slice(head.time.as_bytes());
            out.push(b' ');
        }
        self.partial = head.partial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_entries_join() {
        let mut view = View::new(Options::default());
        let text = view.text(b"t stdout P ab\nt stdout F cd\nt stdout F e");
        assert_eq!(text, b"abcd\ne");
        assert_eq!(view.next_file(), b"\n");
    }
}
