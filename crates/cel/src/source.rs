//! Errors of an expression, shown with the place in its source as the reference shows them.

use std::fmt;

use crate::ast::Location;

/// How many errors of one expression are kept; the rest are counted.
const MAX_ISSUES: usize = 100;
/// A line longer than this is not quoted in an error.
const MAX_SNIPPET: usize = 16_384;

/// One thing that is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 0, in code points.
    pub column: u32,
    /// What is wrong, without the place.
    pub message: String,
}

/// Why an expression does not compile: at least one issue, in the order of the source.
///
/// Shown as cel-go shows it: `ERROR: <input>:1:6: undefined field 'x'`, the line, and a mark below the column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    issues: Vec<Issue>,
    more: usize,
    source: String,
}

impl CompileError {
    pub(crate) fn new(source: &str) -> Self {
        Self {
            issues: Vec::new(),
            more: 0,
            source: source.to_owned(),
        }
    }

    pub(crate) fn report(&mut self, at: Location, message: String) {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(Issue {
                line: at.line,
                column: at.column,
                message,
            });
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.issues.is_empty()
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.issues.sort_by_key(|issue| (issue.line, issue.column));
        self
    }

    /// What is wrong, in the order of the source; at most a hundred.
    #[must_use]
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            let Issue {
                line,
                column,
                message,
            } = issue;
            write!(f, "ERROR: <input>:{line}:{}: {message}", column + 1)?;
            let index = usize::try_from(*line).unwrap_or(1).saturating_sub(1);
            let Some(text) = self.source.split('\n').nth(index) else {
                continue;
            };
            if text.len() > MAX_SNIPPET {
                continue;
            }
            write!(f, "\n | {}\n | ", text.replace('\t', " "))?;
            let column = usize::try_from(*column).unwrap_or(0);
            let mut characters = text.chars();
            for character in characters.by_ref().take(column) {
                // A wide dot below a wide character, so that the mark stands where it should.
                f.write_str(if character.len_utf8() > 1 {
                    "\u{ff0e}"
                } else {
                    "."
                })?;
            }
            f.write_str(if characters.next().is_some_and(|c| c.len_utf8() > 1) {
                "\u{ff3e}"
            } else {
                "^"
            })?;
        }
        if self.more > 0 {
            write!(f, "\n{} more errors were truncated", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}
