//! What a watch has told about the objects of a kind.

use std::collections::HashMap;

use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// The objects by namespace and name (`namespace/name`, or the name alone), each as what matters of it.
#[derive(Debug)]
pub(crate) struct Known<V> {
    all: HashMap<String, V>,
    /// A new list that is not complete yet.
    listing: HashMap<String, V>,
    complete: bool,
}

impl<V> Default for Known<V> {
    fn default() -> Self {
        Self {
            all: HashMap::new(),
            listing: HashMap::new(),
            complete: false,
        }
    }
}

impl<V: PartialEq> Known<V> {
    /// Takes an event over; whether anything that matters is different now.
    pub(crate) fn event<K: ResourceExt>(&mut self, event: Event<K>, of: fn(K) -> V) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(mut object) => {
                forget_managers(&mut object);
                self.listing.insert(key_of(&object), of(object));
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let first = !std::mem::replace(&mut self.complete, true);
                let differs = first || listed != self.all;
                self.all = listed;
                differs
            }
            Event::Apply(mut object) => {
                forget_managers(&mut object);
                let (key, value) = (key_of(&object), of(object));
                let differs = self.all.get(&key) != Some(&value);
                self.all.insert(key, value);
                differs
            }
            Event::Delete(object) => self.all.remove(&key_of(&object)).is_some(),
        }
    }
}

impl<V> Known<V> {
    /// Whether the first list is there.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// All of them.
    pub(crate) fn all(&self) -> &HashMap<String, V> {
        &self.all
    }
}

/// Who manages which field is of no use here, and half of an object.
fn forget_managers(object: &mut impl ResourceExt) {
    object.meta_mut().managed_fields = None;
}

fn key_of(object: &impl ResourceExt) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    use berth_testkit::runtime_class;

    use super::*;

    #[test]
    fn a_list_replaces_what_was_known_when_it_is_whole() {
        let mut known = Known::default();
        let class = runtime_class;
        let handler = |class: k8s_openapi::api::node::v1::RuntimeClass| class.handler;
        assert!(!known.event(Event::Init, handler));
        assert!(!known.event(Event::InitApply(class("a", "x")), handler));
        assert!(known.all().is_empty() && !known.is_complete());
        assert!(
            known.event(Event::InitDone, handler),
            "even an empty list is news"
        );
        assert!(known.is_complete());
        assert!(!known.event(Event::Apply(class("a", "x")), handler));
        assert!(known.event(Event::Apply(class("a", "y")), handler));
        assert!(known.event(Event::Apply(class("b", "x")), handler));
        assert!(known.event(Event::Delete(class("b", "x")), handler));
        assert!(!known.event(Event::Delete(class("b", "x")), handler));
        known.event(Event::Init, handler);
        assert_eq!(
            known.all()["a"],
            "y",
            "what is known holds until the list is whole"
        );
        assert!(known.event(Event::InitDone, handler));
        assert!(known.all().is_empty());
    }
}
