//! What many watches have in common: those that show a kind as it is stored are all sent the same bytes.

use berth_store::Revision;
use bytes::BytesMut;

use super::{CHANGES, Call, LARGE, PART, Watching, put_line};
use crate::negotiate::{Encoding, Shape};
use crate::selector::Selector;
use crate::storage::Part;

impl Call {
    /// Whether a watch shows every object of its namespace, and each with the bytes that are stored.
    pub(super) fn is_plain(&self, selector: &Selector) -> bool {
        let row = &self.row;
        let oldest = Revision::MIN;
        !selector.is_filtered()
            && self.accepted.shape == Shape::Object
            && self.accepted.encoding == Encoding::Json
            && row.convert.is_none()
            && row.converter.is_none()
            && !row.strategy.may_lack_defaults(oldest, self.version())
    }
}

impl Watching {
    /// The next changes as they are sent to all watches like this one, when there are many.
    pub(super) fn shared_part(&self) -> Option<Part> {
        if !self.is_plain || !self.cache.has_many_watches() {
            return None;
        }
        let namespace = self.call.namespace();
        if let Some(part) = self.cache.parts().get(namespace, self.cursor) {
            return Some(part);
        }
        let changes = self.cache.since(self.cursor, CHANGES, PART).ok()?;
        let until = changes.last()?.revision;
        let mut events = BytesMut::new();
        for change in &changes {
            let object = &change.object;
            if !namespace.is_empty() && *object.namespace != *namespace {
                continue;
            }
            let previous = change.previous.as_ref();
            let is_odd = object.corrupt || previous.is_some_and(|object| object.corrupt);
            if is_odd || change.emptied || object.bytes.len() > LARGE {
                return None;
            }
            let kind = match previous {
                _ if change.deleted => "DELETED",
                None => "ADDED",
                Some(_) => "MODIFIED",
            };
            put_line(&mut events, kind, &object.bytes);
        }
        let events = events.freeze();
        let part = Part { until, events };
        self.cache
            .parts()
            .keep(namespace, self.cursor, part.clone());
        Some(part)
    }
}
