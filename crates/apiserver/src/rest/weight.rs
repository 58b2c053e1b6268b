//! How much a request makes the server read: its body, and the objects that have to be taken apart for it.

use super::Call;
use crate::negotiate::{Encoding, Shape};
use crate::request::Verb;

impl Call {
    /// Bytes that are decoded for the request, by which [`crate::heavy`] decides where it is worked on: a patch of some
    /// bytes costs as much as the object that it changes.
    pub(crate) fn weight(&self) -> usize {
        let stored = match self.verb {
            Verb::Get if self.is_taken_apart() => self.size_of_object(),
            Verb::Update | Verb::Patch | Verb::Delete => self.size_of_object(),
            // A binding or an eviction of an object, say.
            Verb::Create if !self.name().is_empty() => self.size_of_object(),
            // One after the other.
            Verb::DeleteCollection => self.size_of_largest(),
            Verb::Get | Verb::Create | Verb::List | Verb::Watch => 0,
        };
        self.body.len().saturating_add(stored)
    }

    /// Whether an answer is made from a decoded object, and is not what the cache has.
    pub(super) fn is_taken_apart(&self) -> bool {
        self.accepted.shape != Shape::Object
            || self.accepted.encoding != Encoding::Json
            || (self.row.convert.is_some()
                && self.api_version() != self.row.storage_gvk.api_version())
    }

    fn size_of_object(&self) -> usize {
        let stored = self.cache().get(self.namespace(), self.name());
        stored.map_or(0, |stored| stored.bytes.len())
    }

    fn size_of_largest(&self) -> usize {
        let all = self.cache().list(Some(self.namespace()));
        let sizes = all.iter().map(|stored| stored.bytes.len());
        sizes.max().unwrap_or(0)
    }
}
