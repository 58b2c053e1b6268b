//! What an API error says, in one line: the server's own words, without the Status around them.

use std::fmt;

pub(crate) struct Brief<'a>(pub(crate) &'a kube::Error);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            kube::Error::Api(status) => write!(f, "{} ({})", status.message, status.code),
            other => other.fmt(f),
        }
    }
}
