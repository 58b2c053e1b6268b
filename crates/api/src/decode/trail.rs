//! Where in a document something is.

use std::fmt;

/// One step from the top; a list through the stack, so that nothing is built unless it is printed.
#[derive(Clone, Copy)]
pub(super) enum Trail<'p> {
    Top,
    Field(&'p Trail<'p>, &'p str),
    Index(&'p Trail<'p>, usize),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Field(Self::Top, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}
