//! What Services and the owners of pods select: by that a pod is spread that says nothing of it itself.

use std::collections::HashMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use berth_placement::siblings_of;

/// The selectors of one kind's objects, by namespace and name. What selects nothing isn't here.
#[derive(Debug, Default)]
struct Kind {
    all: HashMap<String, HashMap<String, LabelSelector>>,
    /// A new list that is not complete yet.
    listing: HashMap<String, HashMap<String, LabelSelector>>,
    complete: bool,
}

impl Kind {
    fn event<K: ResourceExt>(&mut self, event: Event<K>, of: fn(&K) -> Option<LabelSelector>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => put(&mut self.listing, &object, of(&object)),
            Event::InitDone => {
                self.all = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            Event::Apply(object) => put(&mut self.all, &object, of(&object)),
            Event::Delete(object) => put(&mut self.all, &object, None),
        }
    }

    fn get(&self, namespace: &str, name: &str) -> Option<&LabelSelector> {
        self.all.get(namespace)?.get(name)
    }
}

fn put<K: ResourceExt>(
    all: &mut HashMap<String, HashMap<String, LabelSelector>>,
    object: &K,
    selector: Option<LabelSelector>,
) {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    match selector {
        Some(selector) => {
            all.entry(namespace).or_default().insert(name, selector);
        }
        None => {
            let here = all.get_mut(&namespace);
            let is_empty = here.is_some_and(|here| {
                here.remove(&name);
                here.is_empty()
            });
            if is_empty {
                all.remove(&namespace);
            }
        }
    }
}

/// A selector of labels alone.
fn labels(selector: &std::collections::BTreeMap<String, String>) -> Option<LabelSelector> {
    let selector = (!selector.is_empty()).then(|| selector.clone())?;
    Some(LabelSelector {
        match_labels: Some(selector),
        match_expressions: None,
    })
}

/// The selectors of all kinds that count.
#[derive(Debug, Default)]
pub(crate) struct Selectors {
    services: Kind,
    controllers: Kind,
    replica_sets: Kind,
    stateful_sets: Kind,
}

impl Selectors {
    pub(crate) fn service(&mut self, event: Event<Service>) {
        self.services.event(event, |service| {
            labels(service.spec.as_ref()?.selector.as_ref()?)
        });
    }

    pub(crate) fn controller(&mut self, event: Event<ReplicationController>) {
        self.controllers.event(event, |controller| {
            labels(controller.spec.as_ref()?.selector.as_ref()?)
        });
    }

    pub(crate) fn replica_set(&mut self, event: Event<ReplicaSet>) {
        self.replica_sets
            .event(event, |set| Some(set.spec.as_ref()?.selector.clone()));
    }

    pub(crate) fn stateful_set(&mut self, event: Event<StatefulSet>) {
        self.stateful_sets
            .event(event, |set| Some(set.spec.as_ref()?.selector.clone()));
    }

    /// Whether the first lists are there.
    pub(crate) fn is_complete(&self) -> bool {
        self.services.complete
            && self.controllers.complete
            && self.replica_sets.complete
            && self.stateful_sets.complete
    }

    /// From which pods this one is kept apart.
    pub(crate) fn siblings(&self, pod: &Pod) -> Option<LabelSelector> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let services = self.services.all.get(namespace);
        let services = services.into_iter().flat_map(HashMap::values);
        let services = services.filter_map(|selector| selector.match_labels.as_ref());
        siblings_of(pod, services, self.of_owner(namespace, pod))
    }

    fn of_owner(&self, namespace: &str, pod: &Pod) -> Option<&LabelSelector> {
        let mut owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        let is = |kind: &str, version: &str| owner.kind == kind && owner.api_version == version;
        let kind = if is(
            &ReplicationController::kind(&()),
            &ReplicationController::api_version(&()),
        ) {
            &self.controllers
        } else if is(&ReplicaSet::kind(&()), &ReplicaSet::api_version(&())) {
            &self.replica_sets
        } else if is(&StatefulSet::kind(&()), &StatefulSet::api_version(&())) {
            &self.stateful_sets
        } else {
            return None;
        };
        kind.get(namespace, &owner.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn service(name: &str, app: Option<&str>) -> Service {
        let selector = app.map(|app| json!({"app": app}));
        let spec = json!({"selector": selector});
        from_value(json!({"metadata": {"namespace": "n", "name": name}, "spec": spec})).unwrap()
    }

    fn set(name: &str) -> ReplicaSet {
        let selector = json!({"matchLabels": {"hash": "1"}});
        let spec = json!({"selector": selector, "template": {}});
        from_value(json!({"metadata": {"namespace": "n", "name": name}, "spec": spec})).unwrap()
    }

    fn pod(namespace: &str, owner: Option<&str>) -> Pod {
        let owner = owner.map(|name| {
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", "controller": true}])
        });
        from_value(
            json!({"metadata": {"namespace": namespace, "name": "p", "ownerReferences": owner,
            "labels": {"app": "web", "hash": "1"}}}),
        )
        .unwrap()
    }

    fn said(selectors: &Selectors, pod: &Pod) -> Value {
        serde_json::to_value(selectors.siblings(pod)).unwrap()
    }

    #[test]
    fn a_pod_has_the_siblings_of_its_services_and_its_owner() {
        let mut all = Selectors::default();
        assert!(!all.is_complete());
        all.service(Event::Init);
        all.service(Event::InitApply(service("web", Some("web"))));
        all.service(Event::InitApply(service("db", Some("db"))));
        all.service(Event::InitApply(service("bare", None)));
        assert_eq!(said(&all, &pod("n", None)), Value::Null, "half a list");
        all.service(Event::InitDone);
        all.controller(Event::InitDone);
        all.stateful_set(Event::InitDone);
        all.replica_set(Event::InitDone);
        assert!(all.is_complete());
        let web = json!({"matchLabels": {"app": "web"}});
        assert_eq!(said(&all, &pod("n", None)), web);
        assert_eq!(said(&all, &pod("other", None)), Value::Null);
        all.replica_set(Event::Apply(set("web-1")));
        assert_eq!(said(&all, &pod("n", Some("web-2"))), web, "another's owner");
        let both = json!({"matchLabels": {"app": "web", "hash": "1"}});
        assert_eq!(said(&all, &pod("n", Some("web-1"))), both);
        all.service(Event::Apply(service("web", None)));
        let own = json!({"matchLabels": {"hash": "1"}});
        assert_eq!(said(&all, &pod("n", Some("web-1"))), own);
        all.replica_set(Event::Delete(set("web-1")));
        assert_eq!(said(&all, &pod("n", Some("web-1"))), Value::Null);
    }
}
