//! Who has connected to the node's server.

use std::time::SystemTime;

/// A user and groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    pub(super) user: String,
    pub(super) groups: Vec<String>,
    /// A certificate's end, after which a connection that is still open counts for nobody.
    not_after: Option<SystemTime>,
}

impl Caller {
    /// Somebody whom the API server knows by a token.
    pub(super) fn new(user: String, groups: Vec<String>) -> Self {
        Self {
            user,
            groups,
            not_after: None,
        }
    }

    /// Somebody whose certificate ends then.
    pub(super) fn with_certificate(
        user: String,
        groups: Vec<String>,
        not_after: SystemTime,
    ) -> Self {
        Self {
            user,
            groups,
            not_after: Some(not_after),
        }
    }

    pub(super) fn is_current(&self, now: SystemTime) -> bool {
        self.not_after.is_none_or(|end| now <= end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_certificate_counts_until_its_end() {
        let end = UNIX_EPOCH + Duration::from_secs(1000);
        assert!(Caller::new("eve".to_owned(), Vec::new()).is_current(end));
        let caller = Caller::with_certificate("eve".to_owned(), Vec::new(), end);
        assert!(caller.is_current(end));
        assert!(!caller.is_current(end + Duration::from_secs(1)));
    }
}
