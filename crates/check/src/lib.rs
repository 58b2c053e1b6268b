//! What will not work, found before anything is applied: `berth check`.
//!
//! [`Facts`] are gathered from manifests, from a cluster's objects and from node configurations; [`problems`]
//! judges them. Offline a node is known by its handlers only; then selectors and taints are not judged.

mod gather;
pub mod migrate;
mod quotas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ResourceQuota};
use k8s_openapi::api::node::v1::RuntimeClass;
use serde::Serialize;

use berth_core::gates::FeatureGates;
use berth_placement::{NodeInfo, placement};
use berth_rules::admission::{Rejection, namespace_policy, runtime_class};

/// Something and where it was found: a file, or a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<T> {
    /// The file's name, or `cluster`.
    pub place: String,
    /// The thing.
    pub it: T,
}

/// A pod, or the pod that a workload would make.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// `Pod`, `Deployment`, ...
    pub kind: String,
    /// The pod, with the namespace of its workload.
    pub pod: Pod,
    /// Whether the API server has admitted it already.
    pub admitted: bool,
}

/// A handler of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerFact {
    /// Why it cannot run pods, if it cannot.
    pub broken: Option<String>,
    /// Whether somebody wrote it down (a broken default that nobody uses is no problem).
    pub configured: bool,
}

/// A node: by its configuration, by its object, or both.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The node's name, or the configuration's.
    pub name: String,
    /// Its handlers; `None` when it reports none (an old kubelet).
    pub handlers: Option<BTreeMap<String, HandlerFact>>,
    /// Its object, with labels and taints.
    pub node: Option<Node>,
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Classes, in v1.
    pub classes: Vec<Placed<RuntimeClass>>,
    /// Pods and what makes pods.
    pub workloads: Vec<Placed<Workload>>,
    /// Namespaces, for their policy.
    pub namespaces: Vec<Placed<Namespace>>,
    /// Quotas.
    pub quotas: Vec<ResourceQuota>,
    /// Nodes.
    pub nodes: Vec<NodeFacts>,
    /// What was wrong already when the facts were gathered.
    pub found: Vec<Problem>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The API server would refuse the class.
    InvalidClass,
    /// A class of a version that only this server still takes.
    OldVersion,
    /// A file that is no YAML or JSON.
    Unreadable,
    /// No node has the class's handler.
    HandlerMissing,
    /// A handler is configured and cannot run.
    HandlerBroken,
    /// Nodes have the handler, but selector or taints keep the class off them.
    ClassUnplaceable,
    /// A pod names a class that is not there.
    ClassMissing,
    /// Admission would refuse the pod.
    PodRejected,
    /// No node can run the pod.
    PodUnplaceable,
    /// The pod with its overhead, or the overhead of a class alone, is more than the quota of a namespace.
    Quota,
    /// The policy of a namespace names a class that is not there.
    Policy,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where: a file, `cluster`, or a node.
    pub place: String,
    /// Of what: `RuntimeClass gvisor`, `Pod default/a`.
    pub object: String,
    /// What kind of problem.
    pub kind: Kind,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub suggestion: String,
}

impl Problem {
    fn new(
        place: &str,
        object: &str,
        kind: Kind,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) -> Self {
        Self {
            place: place.to_owned(),
            object: object.to_owned(),
            kind,
            message: message.into(),
            suggestion: suggestion.into(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.object, self.message)?;
        if !self.suggestion.is_empty() {
            write!(f, "\n    {}", self.suggestion)?;
        }
        Ok(())
    }
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// Everything that will not work, sorted by place and object.
#[must_use]
pub fn problems(facts: &Facts) -> Vec<Problem> {
    let mut problems = facts.found.clone();
    problems.extend(facts.classes.iter().flat_map(|c| of_class(facts, c)));
    problems.extend(
        facts
            .classes
            .iter()
            .flat_map(|c| quotas::of_class(facts, c)),
    );
    problems.extend(broken_handlers(facts));
    problems.extend(facts.namespaces.iter().flat_map(|n| of_namespace(facts, n)));
    problems.extend(facts.workloads.iter().flat_map(|w| of_workload(facts, w)));
    problems.sort();
    problems.dedup();
    problems
}

/// What a node says to a handler.
enum Has<'f> {
    Yes,
    Broken(&'f str),
    No,
}

fn has<'f>(node: &'f NodeFacts, handler: &str) -> Has<'f> {
    match &node.handlers {
        None => Has::Yes,
        Some(handlers) => match handlers.get(handler) {
            Some(HandlerFact { broken: None, .. }) => Has::Yes,
            Some(HandlerFact {
                broken: Some(reason),
                ..
            }) => Has::Broken(reason),
            None => Has::No,
        },
    }
}

fn of_class(facts: &Facts, class: &Placed<RuntimeClass>) -> Vec<Problem> {
    let handler = class.it.handler.as_str();
    if facts.nodes.is_empty() || handler.is_empty() {
        return Vec::new();
    }
    let object = format!("RuntimeClass {}", text(&class.it.metadata.name));
    let mut broken = Vec::new();
    let mut able = Vec::new();
    for node in &facts.nodes {
        match has(node, handler) {
            Has::Yes => able.push(node),
            Has::Broken(reason) => broken.push(format!("{}: {reason}", node.name)),
            Has::No => {}
        }
    }
    if able.is_empty() && broken.is_empty() {
        let known: BTreeSet<&str> = facts
            .nodes
            .iter()
            .flat_map(|n| n.handlers.iter().flat_map(|h| h.keys()))
            .map(String::as_str)
            .filter(|n| !n.is_empty())
            .collect();
        let known: Vec<&str> = known.into_iter().collect();
        return vec![Problem::new(
            &class.place,
            &object,
            Kind::HandlerMissing,
            format!(
                "no node has handler {handler:?}; there are: {}",
                known.join(", ")
            ),
            "configure the handler on a node, or name one of those",
        )];
    }
    if able.is_empty() {
        return vec![Problem::new(
            &class.place,
            &object,
            Kind::HandlerBroken,
            format!(
                "handler {handler:?} cannot run anywhere: {}",
                broken.join("; ")
            ),
            "install the runtime's binary, or correct its path",
        )];
    }
    let scheduling = class.it.scheduling.clone().unwrap_or_default();
    let mut pod = Pod::default();
    let spec = pod.spec.get_or_insert_default();
    spec.node_selector = scheduling.node_selector;
    spec.tolerations = scheduling.tolerations;
    match reasons(&pod, handler, able.iter().copied()) {
        None => Vec::new(),
        Some(reasons) => vec![Problem::new(
            &class.place,
            &object,
            Kind::ClassUnplaceable,
            format!(
                "{} node(s) have handler {handler:?}, but none takes the class: {reasons}",
                able.len()
            ),
            "change the class's scheduling, or the labels and taints of those nodes",
        )],
    }
}

/// Why none of the nodes takes a pod; `None` when one does, or when it cannot be known.
fn reasons<'f>(
    pod: &Pod,
    handler: &str,
    nodes: impl IntoIterator<Item = &'f NodeFacts>,
) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for facts in nodes {
        let mut against = Vec::new();
        match has(facts, handler) {
            Has::Yes => {}
            Has::No => against.push(format!("node(s) lack runtime handler {handler:?}")),
            Has::Broken(reason) => {
                against.push(format!("node(s) cannot run handler {handler:?} ({reason})"))
            }
        }
        if let Some(node) = &facts.node {
            let info = NodeInfo::new(Arc::new(node.clone()));
            against.extend(placement(pod, &info).map(|r| r.to_string()));
        }
        if against.is_empty() {
            return None;
        }
        for reason in against {
            *counts.entry(reason).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return None;
    }
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    Some(parts.join(", "))
}

/// Handlers that somebody configured and that cannot run, whether or not a class names them.
fn broken_handlers(facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    for node in &facts.nodes {
        for (name, handler) in node.handlers.iter().flatten() {
            if let (Some(reason), true) = (&handler.broken, handler.configured) {
                problems.push(Problem::new(
                    &node.name,
                    &format!("handler {name}"),
                    Kind::HandlerBroken,
                    reason.clone(),
                    "install the runtime's binary, or correct its path, or remove the handler",
                ));
            }
        }
    }
    problems
}

fn of_namespace(facts: &Facts, namespace: &Placed<Namespace>) -> Vec<Problem> {
    let Some(annotations) = &namespace.it.metadata.annotations else {
        return Vec::new();
    };
    let object = format!("Namespace {}", text(&namespace.it.metadata.name));
    let listed = [namespace_policy::DEFAULT, namespace_policy::ALLOWED];
    listed
        .into_iter()
        .filter_map(|key| Some((key, annotations.get(key)?)))
        .flat_map(|(key, list)| list.split(',').map(move |class| (key, class.trim())))
        .filter(|(_, class)| !class.is_empty() && find_class(facts, class).is_none())
        .map(|(key, class)| {
            Problem::new(
                &namespace.place,
                &object,
                Kind::Policy,
                format!("annotation {key} names RuntimeClass {class:?}, which is not there"),
                "create the class, or correct the annotation",
            )
        })
        .collect()
}

fn find_class<'f>(facts: &'f Facts, name: &str) -> Option<&'f RuntimeClass> {
    let mut classes = facts.classes.iter().map(|c| &c.it);
    classes.find(|c| text(&c.metadata.name) == name)
}

fn of_workload(facts: &Facts, workload: &Placed<Workload>) -> Vec<Problem> {
    let mut pod = workload.it.pod.clone();
    let namespace = pod
        .metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    pod.metadata.namespace = Some(namespace.clone());
    let object = format!(
        "{} {namespace}/{}",
        workload.it.kind,
        text(&pod.metadata.name)
    );
    let problem = |kind, message: String, suggestion: &str| {
        Problem::new(&workload.place, &object, kind, message, suggestion)
    };
    let gates = FeatureGates::default();
    let named = |pod: &Pod| {
        pod.spec
            .as_ref()
            .and_then(|s| s.runtime_class_name.clone())
            .filter(|n| !n.is_empty())
    };
    if !workload.it.admitted {
        let policy = facts
            .namespaces
            .iter()
            .find(|n| text(&n.it.metadata.name) == namespace)
            .and_then(|n| n.it.metadata.annotations.as_ref());
        if let Some(annotations) = policy
            && let Err(rejection) = namespace_policy::admit(&mut pod, annotations, &gates)
        {
            return vec![problem(
                Kind::PodRejected,
                rejection.to_string(),
                "name an allowed class, or change the annotation of the namespace",
            )];
        }
    }
    let class = named(&pod).and_then(|name| find_class(facts, &name));
    if let (Some(name), None) = (named(&pod), class) {
        return vec![problem(
            Kind::ClassMissing,
            format!("names RuntimeClass {name:?}, which is not there"),
            "create the class, or correct runtimeClassName",
        )];
    }
    if !workload.it.admitted
        && let Err(rejection) = runtime_class::admit(&mut pod, class, &gates)
    {
        let suggestion = match rejection {
            Rejection::OverheadMismatch | Rejection::OverheadWithoutClass => {
                "leave overhead out of the pod; the class sets it"
            }
            _ => "make pod and class agree",
        };
        return vec![problem(
            Kind::PodRejected,
            rejection.to_string(),
            suggestion,
        )];
    }
    let mut problems = Vec::new();
    // A pod that has its node stays there, whatever its class and the labels say now.
    let placed = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    if let Some(class) = class.filter(|_| !placed)
        && let Some(why) = reasons(&pod, &class.handler, &facts.nodes)
    {
        problems.push(problem(
            Kind::PodUnplaceable,
            format!("no node can run it: {why}"),
            "see the class, or add a node that has the handler",
        ));
    }
    let quotas = facts
        .quotas
        .iter()
        .filter(|q| text(&q.metadata.namespace) == namespace);
    let refused = quotas.filter_map(|quota| quotas::of_pod(quota, &pod, &gates));
    problems.extend(refused.map(|message| {
        problem(
            Kind::Quota,
            message,
            "ask for less, raise the quota, or lower the class's overhead",
        )
    }));
    problems
}

#[cfg(test)]
mod tests;
