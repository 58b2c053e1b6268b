//! MinimumIsolation: pods run at least as far apart from their node as their namespace demands. Berth's own plugin.
//!
//! The rules are `berth_rules::admission::isolation`'s. A file each: pods with their subresources, namespaces (who may demand
//! less), RuntimeClasses (none gets weaker below what runs), and the templates of workloads (which are only warned of).

mod classes;
mod namespaces;
mod pods;
pub(super) mod templates;

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_core::isolation::{DECLARED, Isolation, NodeHandlers, RunsBy, level};
use berth_rules::admission::isolation::{self as rules, Rejection};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;

use self::templates::PodTemplatePath;
use super::source::Source;
use super::{Attributes, CLASSES, NAMESPACES, NODES, Operation, Parts, Plugin};
use crate::authz::Authorizer;
use crate::object::Object;
use crate::storage::Storage;

pub(super) struct MinimumIsolation {
    storage: Arc<Storage>,
    authorizer: Arc<Authorizer>,
    nodes: Source<Node, NodeHandlers>,
    templates: Arc<[PodTemplatePath]>,
}

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Pods,
    Namespaces,
    Classes,
    Templates,
}

/// A class as a pod runs by it.
struct Class {
    name: String,
    handler: String,
    declared: Option<Isolation>,
}

impl Class {
    fn runs_by(&self) -> RunsBy<'_> {
        RunsBy {
            class: &self.name,
            handler: &self.handler,
            declared: self.declared,
        }
    }
}

impl MinimumIsolation {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            authorizer: Arc::clone(&parts.authorizer),
            nodes: Source::new(&parts.storage, NODES, NodeHandlers::of),
            templates: Arc::clone(&parts.pod_template_paths),
        }
    }

    fn about(&self, attributes: &Attributes<'_>) -> Option<About> {
        let row = attributes.resource;
        match (&*row.group, &*row.plural, attributes.subresource) {
            ("", "pods", subresource) => match attributes.operation {
                Operation::Create => ["", "binding"]
                    .contains(&subresource)
                    .then_some(About::Pods),
                _ => Some(About::Pods),
            },
            ("", "namespaces", _) => Some(About::Namespaces),
            ("node.k8s.io", "runtimeclasses", "") => Some(About::Classes),
            (group, plural, "") => self.template_path(group, plural).map(|_| About::Templates),
            _ => None,
        }
    }

    /// A namespace. One that is not there demands nothing: nothing can be made in it.
    fn namespace(&self, name: &str) -> Result<Option<Arc<Namespace>>, ApiError> {
        Ok(self.storage.read_shared(NAMESPACES, "", name)?)
    }

    /// What a namespace demands of its pods.
    fn floor(&self, name: &str) -> Result<Result<Option<Isolation>, Rejection>, ApiError> {
        let namespace = self.namespace(name)?;
        Ok(namespace.map_or(Ok(None), |found| rules::of_namespace(&found.metadata)))
    }

    /// What a pod runs by. A class that is not there has a handler that nobody knows.
    fn class_of(&self, pod: &Pod) -> Result<Result<Class, Rejection>, ApiError> {
        let name = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.runtime_class_name.clone())
            .unwrap_or_default();
        if name.is_empty() {
            return Ok(Ok(Class {
                name,
                handler: String::new(),
                declared: None,
            }));
        }
        let class: Option<Arc<RuntimeClass>> = self.storage.read_shared(CLASSES, "", &name)?;
        let Some(class) = class else {
            return Ok(Ok(Class {
                handler: "?".to_owned(),
                name,
                declared: None,
            }));
        };
        Ok(match level(&class.metadata, DECLARED) {
            Ok(declared) => Ok(Class {
                name,
                handler: class.handler.clone(),
                declared,
            }),
            Err(unclear) => Err(Rejection::ClassUnclear {
                class: name,
                unclear,
            }),
        })
    }

    /// Whether a pod is kept apart enough, by its class as it is now. With `node` only that node counts.
    fn check(
        &self,
        pod: &Pod,
        floor: Option<Isolation>,
        node: Option<&str>,
    ) -> Result<Result<(), Rejection>, ApiError> {
        let class = match self.class_of(pod)? {
            Ok(class) => class,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let nodes = self.nodes.all()?;
        let counts = |n: &&NodeHandlers| node.is_none_or(|node| n.name == node);
        let nodes = nodes.iter().map(AsRef::as_ref).filter(counts);
        Ok(rules::check(&pod.metadata, floor, class.runs_by(), nodes))
    }
}

impl Plugin for MinimumIsolation {
    /// Every subresource by which a pod's demand or a namespace's could change.
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create | Operation::Update => self.about(attributes).is_some(),
            Operation::Delete | Operation::Connect => false,
        }
    }

    fn admit(&self, attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        match self.about(attributes) {
            Some(About::Pods) => self.admit_pod(attributes, object),
            Some(About::Namespaces | About::Classes | About::Templates) | None => Ok(()),
        }
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let Some(object) = object else {
            return Ok(());
        };
        match self.about(attributes) {
            Some(About::Pods) => self.validate_pod(attributes, object),
            Some(About::Namespaces) => self.validate_namespace(attributes, object),
            Some(About::Classes) => self.validate_class(attributes, object.typed()?),
            Some(About::Templates) => self.warn_of_template(attributes, object),
            None => Ok(()),
        }
    }
}
