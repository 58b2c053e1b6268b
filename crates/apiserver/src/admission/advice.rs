//! Early advice about classes: warnings for whoever creates or changes a class, a pod, a workload, or the policy of a
//! namespace, and for whoever deletes a class. Nothing is refused. The words and most rules are `berth-core`'s and
//! `berth-placement`'s, which `berth check` uses as well.
//!
//! **Cost.** Nodes are taken from the cache, decoded once for each of their changes, and looked at until one can run what is
//! judged; with more than [`early::NODE_LIMIT`] of them nothing is claimed. Pods that a controller makes are not judged:
//! nobody reads their warnings, and their template was judged already.
//!
//! **Who sees what.** Everybody who may create a pod sees handlers, taints, sizes and reasons of nodes, as the pod's events
//! would show them. Names of similar classes are shown only to users who may list classes, names of similar nodes to users
//! who may list nodes, and how many pods or workloads name a class to users who may list those in all namespaces.

mod custom;
mod in_use;

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_core::advice::{Advice, namespace, pod as of_pods};
use berth_core::gates::{FeatureGates, Gate};
use berth_core::nearest::nearest;
use berth_placement::early::{self, Host};
use berth_rules::admission::{Rejection, namespace_policy, runtime_class};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodTemplateSpec, ReplicationController};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::isolation::templates::{PodTemplatePath, WORKLOADS};
use super::runtime_class::policy_of;
use super::{Attributes, CLASSES, NODES, Operation, Parts, Plugin};
use crate::attributes::Attributes as Authorization;
use crate::authz::Authorizer;
use crate::object::Object;
use crate::request::Verb;
use crate::storage::Storage;
use crate::storage::key::group_resource;
use crate::user::User;

/// How many names are looked at for one that was meant.
const NAME_LIMIT: usize = 1000;

pub(super) struct ClassAdvice {
    storage: Arc<Storage>,
    authorizer: Arc<Authorizer>,
    gates: FeatureGates,
    /// Custom resources that make pods.
    templates: Arc<[PodTemplatePath]>,
}

impl ClassAdvice {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            authorizer: Arc::clone(&parts.authorizer),
            gates: parts.gates,
            templates: Arc::clone(&parts.pod_template_paths),
        }
    }

    /// The nodes; one more than are judged, so that it shows. One that cannot be read was reported, and runs nothing.
    fn hosts(&self) -> Vec<Host> {
        let stored = self.storage.list(NODES, None);
        let few = stored.iter().take(early::NODE_LIMIT + 1);
        few.filter_map(|node| node.shared::<Node>().ok())
            .map(Host::new)
            .collect()
    }

    /// Whether a user may list a resource in all namespaces.
    fn may_list(&self, user: &User, group: &str, resource: &str) -> bool {
        let asked = Authorization::of_all(user, Verb::List, group, resource);
        self.authorizer.authorize(&asked).allowed()
    }

    /// The stored name that is most like this one; none for a user who may not list the resource.
    fn meant(&self, user: &User, storage: &str, name: &str) -> Option<String> {
        let (group, resource) = group_resource(storage);
        if !self.may_list(user, group, resource) {
            return None;
        }
        let stored = self.storage.list(storage, None);
        let names = stored.iter().take(NAME_LIMIT).map(|object| &*object.name);
        nearest(name, names).map(str::to_owned)
    }

    fn of_class(&self, class: &RuntimeClass) -> Vec<String> {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        let advice = early::of_class(class, &self.hosts());
        let annotations = of_pods::annotations(&class.metadata, None);
        advice
            .iter()
            // Nodes with the label may be yet to come; `berth check` says it.
            .filter(|advice| !matches!(advice, Advice::ClassUnplaceable { .. }))
            .chain(&annotations)
            .map(|advice| format!("RuntimeClass {name:?}: {advice}"))
            .collect()
    }

    /// Of a pod as admitted.
    fn of_pod(&self, pod: &Pod, user: &User) -> Result<Vec<Advice>, ApiError> {
        let mut advice = of_pods::annotations(&pod.metadata, pod.spec.as_ref());
        let spec = pod.spec.as_ref();
        let named = |name: Option<&String>| name.filter(|n| !n.is_empty()).cloned();
        let node = named(spec.and_then(|s| s.node_name.as_ref()));
        let host = match &node {
            Some(name) => match self.storage.get(NODES, "", name) {
                Some(stored) => stored.shared::<Node>().ok().map(Host::new),
                None => {
                    advice.push(Advice::NodeMissing {
                        name: name.clone(),
                        meant: self.meant(user, NODES, name),
                    });
                    None
                }
            },
            None => None,
        };
        let Some(class) = named(spec.and_then(|s| s.runtime_class_name.as_ref())) else {
            return Ok(advice);
        };
        let class: Option<Arc<RuntimeClass>> = self.storage.read_shared(CLASSES, "", &class)?;
        let Some(class) = class else {
            return Ok(advice);
        };
        match (node, host) {
            (Some(_), Some(host)) => advice.extend(early::of_pod_on(pod, &class, &host)),
            (Some(_), None) => {}
            (None, _) => advice.extend(early::of_pod(pod, &class, &self.hosts())),
        }
        Ok(advice)
    }

    /// Of the pods that a template will make, as admission will change them: nobody reads warnings when they are created.
    fn of_template(
        &self,
        template: &PodTemplateSpec,
        at: &str,
        namespace: &str,
        user: &User,
    ) -> Result<Vec<String>, ApiError> {
        let mut pod = Pod {
            metadata: template.metadata.clone().unwrap_or_default(),
            spec: template.spec.clone(),
            status: None,
        };
        pod.metadata.namespace = Some(namespace.to_owned());
        let policy = policy_of(&self.storage, namespace)?;
        if let Err(rejection) = namespace_policy::admit(&mut pod, &policy, &self.gates) {
            return Ok(vec![format!("{at}: {rejection}")]);
        }
        let spec = pod.spec.as_ref();
        let class = spec.and_then(|s| s.runtime_class_name.clone());
        let class = class.filter(|name| !name.is_empty());
        let known: Option<Arc<RuntimeClass>> = match &class {
            Some(name) => self.storage.read_shared(CLASSES, "", name)?,
            None => None,
        };
        match runtime_class::admit(&mut pod, known.as_deref(), &self.gates) {
            Ok(()) => {}
            Err(Rejection::ClassNotFound { class }) => {
                let meant = self.meant(user, CLASSES, &class);
                let advice = Advice::ClassMissing { class, meant };
                return Ok(vec![format!("{at}.spec.runtimeClassName: {advice}")]);
            }
            Err(rejection) => return Ok(vec![format!("{at}: {rejection}")]),
        }
        let advice = self.of_pod(&pod, user)?;
        let moved = |advice: &Advice| {
            let text = advice.to_string();
            match text.strip_prefix("spec.") {
                Some(rest) => format!("{at}.spec.{rest}"),
                None => format!("{at}: {text}"),
            }
        };
        Ok(advice.iter().map(moved).collect())
    }

    fn of_namespace(&self, namespace: &Namespace, user: &User) -> Vec<String> {
        let annotations = namespace.metadata.annotations.clone().unwrap_or_default();
        let mut advice = of_pods::annotations(&namespace.metadata, None);
        advice.extend(namespace::policy(&annotations, |class| {
            match self.storage.get(CLASSES, "", class) {
                Some(_) => Ok(()),
                None => Err(self.meant(user, CLASSES, class)),
            }
        }));
        advice.iter().map(ToString::to_string).collect()
    }

    fn warnings(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<Vec<String>, ApiError> {
        let user = attributes.user;
        let Some(object) = object else {
            let by = self.named_by(user, attributes.name);
            return Ok(by.into_iter().map(|advice| advice.to_string()).collect());
        };
        if attributes.is("node.k8s.io", "runtimeclasses", "") {
            let class: &RuntimeClass = object.typed()?;
            let old: Option<&RuntimeClass> = attributes.old.map(|old| old.typed()).transpose()?;
            let is_same = old.is_some_and(|old| {
                (&old.handler, &old.overhead, &old.metadata.annotations)
                    == (&class.handler, &class.overhead, &class.metadata.annotations)
            });
            return Ok(if is_same {
                Vec::new()
            } else {
                self.of_class(class)
            });
        }
        if attributes.is("", "namespaces", "") {
            let namespace: &Namespace = object.typed()?;
            let old: Option<&Namespace> = attributes.old.map(|old| old.typed()).transpose()?;
            let is_same =
                old.is_some_and(|old| old.metadata.annotations == namespace.metadata.annotations);
            return Ok(if is_same {
                Vec::new()
            } else {
                self.of_namespace(namespace, user)
            });
        }
        if attributes.is("", "pods", "") {
            let pod: &Pod = object.typed()?;
            let mut owners = pod.metadata.owner_references.iter().flatten();
            if owners.any(|owner| owner.controller == Some(true)) {
                return Ok(Vec::new());
            }
            let advice = self.of_pod(pod, user)?;
            return Ok(advice.iter().map(ToString::to_string).collect());
        }
        let (group, plural) = (&*attributes.resource.group, &*attributes.resource.plural);
        let mut workloads = WORKLOADS.iter();
        let Some((_, _, at)) = workloads.find(|(g, known, _)| (*g, *known) == (group, plural))
        else {
            return self.of_custom_resource(attributes, object);
        };
        let at = at.trim_start_matches('/').replace('/', ".");
        let Some(new) = template(plural, object)? else {
            return Ok(Vec::new());
        };
        if let Some(old) = attributes.old
            && template(plural, old)? == Some(new)
        {
            return Ok(Vec::new());
        }
        self.of_template(new, &at, attributes.namespace, user)
    }
}

/// The template of what makes pods.
fn template<'o>(
    plural: &str,
    object: &'o dyn Object,
) -> Result<Option<&'o PodTemplateSpec>, ApiError> {
    Ok(match plural {
        "deployments" => object
            .typed::<Deployment>()?
            .spec
            .as_ref()
            .map(|s| &s.template),
        "statefulsets" => object
            .typed::<StatefulSet>()?
            .spec
            .as_ref()
            .map(|s| &s.template),
        "daemonsets" => object
            .typed::<DaemonSet>()?
            .spec
            .as_ref()
            .map(|s| &s.template),
        "replicasets" => {
            let spec = object.typed::<ReplicaSet>()?.spec.as_ref();
            spec.and_then(|s| s.template.as_ref())
        }
        "replicationcontrollers" => {
            let spec = object.typed::<ReplicationController>()?.spec.as_ref();
            spec.and_then(|s| s.template.as_ref())
        }
        "jobs" => object.typed::<Job>()?.spec.as_ref().map(|s| &s.template),
        "cronjobs" => {
            let spec = object.typed::<CronJob>()?.spec.job_template.spec.as_ref();
            spec.map(|s| &s.template)
        }
        _ => None,
    })
}

impl Plugin for ClassAdvice {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        if !self.gates.enabled(Gate::RuntimeClass) || !attributes.subresource.is_empty() {
            return false;
        }
        let class = attributes.is("node.k8s.io", "runtimeclasses", "");
        match attributes.operation {
            Operation::Create | Operation::Update => {
                let is_new = attributes.operation == Operation::Create;
                class
                    || attributes.is("", "namespaces", "")
                    || (is_new && attributes.is("", "pods", ""))
                    || WORKLOADS
                        .iter()
                        .any(|(group, plural, _)| attributes.is(group, plural, ""))
                    || self.template_path(attributes).is_some()
            }
            Operation::Delete => class,
            Operation::Connect => false,
        }
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        for warning in self.warnings(attributes, object)? {
            attributes.warn(warning);
        }
        Ok(())
    }
}
