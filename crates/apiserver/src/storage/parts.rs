//! What watches are sent that show everything as it is stored: made once for all of them.
//!
//! A thousand watches of a kind that are woken together are all at the same revision, so one piece serves them.

use std::collections::VecDeque;

use berth_store::Revision;
use bytes::Bytes;
use parking_lot::Mutex;

/// Pieces that are kept; those behind them make their own.
const KEPT: usize = 4;

/// Some changes one after the other, as a watch sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The revision of the last of them.
    pub(crate) until: Revision,
    /// The events; empty when the changes are all in other namespaces.
    pub(crate) events: Bytes,
}

#[derive(Debug)]
struct Kept {
    namespace: Box<str>,
    after: Revision,
    part: Part,
}

/// The last pieces of a kind.
#[derive(Debug, Default)]
pub(crate) struct Parts(Mutex<VecDeque<Kept>>);

impl Parts {
    /// The changes of a namespace (empty: of all) after a revision, when they have been put together before.
    pub(crate) fn get(&self, namespace: &str, after: Revision) -> Option<Part> {
        let kept = self.0.lock();
        let found = kept
            .iter()
            .find(|kept| kept.after == after && *kept.namespace == *namespace);
        found.map(|kept| kept.part.clone())
    }

    /// Keeps a piece in place of the oldest.
    pub(crate) fn keep(&self, namespace: &str, after: Revision, part: Part) {
        let mut kept = self.0.lock();
        kept.truncate(KEPT - 1);
        kept.push_front(Kept {
            namespace: namespace.into(),
            after,
            part,
        });
    }

    /// Lets go of all.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_for_one_namespace_and_revision_and_the_last_few_are_kept() {
        let parts = Parts::default();
        let part = |until| Part {
            until,
            events: Bytes::from(format!("until {until}")),
        };
        parts.keep("", 1, part(3));
        parts.keep("a", 1, part(4));
        assert_eq!(parts.get("", 1), Some(part(3)));
        assert_eq!(parts.get("a", 1), Some(part(4)));
        assert_eq!(parts.get("a", 2), None);
        for after in 10..13 {
            parts.keep("", after, part(after + 1));
        }
        assert_eq!(parts.get("", 1), None);
        assert_eq!(parts.get("a", 1), Some(part(4)));
        parts.clear();
        assert_eq!(parts.get("a", 1), None);
    }
}
