//! The words of [`Advice`], and what to do about it.

use std::fmt;

use super::Advice;
use crate::annotations::{ALLOWED_CLASSES, DEFAULT_CLASS};
use crate::handlers::cannot_run;
use crate::nearest::{did_you_mean, nearest};

/// Usual names of handlers: much alike, and worlds apart.
const RUNTIMES: [&str; 8] = [
    "runc", "crun", "runsc", "youki", "gvisor", "kata", "berth", "nvidia",
];

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandlerMissing {
                handler,
                nodes,
                offered,
            } => {
                let list = if offered.is_empty() {
                    "only their default".to_owned()
                } else {
                    offered.join(", ")
                };
                // One of these is no misspelling of another, and must not be taken for it.
                let is_known = RUNTIMES.contains(&handler.as_str());
                let meant = nearest(handler, offered.iter().map(String::as_str));
                let meant = meant.filter(|_| !is_known);
                write!(
                    f,
                    "no node reports its handler {handler:?}; {nodes} node(s) report: {list}{}",
                    did_you_mean(meant)
                )
            }
            Self::HandlerBroken {
                handler,
                reasons,
                nodes,
            } => {
                let parts = reasons.iter().map(|(reason, count)| {
                    format!(
                        "{} (on {count} of {nodes} node(s))",
                        cannot_run(handler, reason)
                    )
                });
                f.write_str(&parts.collect::<Vec<_>>().join("; "))
            }
            Self::ClassUnplaceable {
                handler,
                able,
                reasons,
                ..
            } => write!(
                f,
                "{able} node(s) have handler {handler:?}, but none takes the class: {reasons}"
            ),
            Self::PodUnplaceable {
                class,
                handler,
                nodes: 0,
                ..
            } => write!(
                f,
                "no node can run RuntimeClass {class:?} (handler {handler:?}) now: there are no nodes"
            ),
            Self::PodUnplaceable {
                class,
                handler,
                nodes,
                reasons,
                hint,
            } => {
                write!(
                    f,
                    "no node can run RuntimeClass {class:?} (handler {handler:?}) now: of {nodes} node(s), {reasons}"
                )?;
                if hint.is_empty() {
                    Ok(())
                } else {
                    write!(f, "; {hint}")
                }
            }
            Self::TooLarge {
                is_overhead,
                resource,
                asked,
                overhead,
                most,
            } => {
                if *is_overhead {
                    write!(f, "its overhead alone asks for {resource}={asked}")?;
                } else if overhead.is_empty() {
                    write!(f, "it asks for {resource}={asked}")?;
                } else {
                    write!(
                        f,
                        "it asks for {resource}={asked}, {overhead} of it overhead"
                    )?;
                }
                write!(
                    f,
                    ", and no node that could run it has more than {most} for pods"
                )
            }
            Self::Inside {
                field,
                effect,
                handler,
                isolation,
            } => effect.write(f, field, handler, *isolation),
            Self::NoFeature {
                field,
                feature,
                handler,
            } => write!(
                f,
                "{field} needs {feature}, which runtime handler {handler:?} has on no node that could run the pod"
            ),
            Self::NoProfile { field, what } => {
                write!(f, "{field}: {what} on no node that could run the pod")
            }
            Self::AppArmorAnnotation { key } => write!(
                f,
                "metadata.annotations[{key}]: deprecated since v1.30, and without effect here; use the \"appArmorProfile\" \
                 field instead"
            ),
            Self::NodeMissing { name, meant } => write!(
                f,
                "spec.nodeName: there is no node {name:?}: nobody runs the pod until a node of that name joins{}",
                did_you_mean(meant.as_deref())
            ),
            Self::ClassMissing { class, meant } => write!(
                f,
                "RuntimeClass {class:?} not found: pods are refused until it exists{}",
                did_you_mean(meant.as_deref())
            ),
            Self::PolicyClassMissing { key, class, meant } => write!(
                f,
                "annotation {key} names RuntimeClass {class:?}, which is not there{}",
                did_you_mean(meant.as_deref())
            ),
            Self::DefaultNotAllowed { class, allowed } => write!(
                f,
                "annotation {DEFAULT_CLASS} names RuntimeClass {class:?}, which {ALLOWED_CLASSES} does not allow (allowed are \
                 {allowed}): pods that name no class are refused"
            ),
            Self::AnnotationUnknown { key, meant } => write!(
                f,
                "annotation {key} is none of berth's and has no effect{}",
                did_you_mean(Some(meant))
            ),
            Self::ClassInUse { class, by } => write!(
                f,
                "RuntimeClass {class:?} is still named by {by}: what runs goes on, and new pods are refused"
            ),
            Self::QuotaReplicas {
                quota,
                replicas,
                requested,
                used,
                limited,
            } => write!(
                f,
                "{replicas} pods exceed quota: {quota}, requested: {requested}, used: {used}, limited: {limited}"
            ),
            Self::Twice {
                handler,
                place,
                other,
            } => write!(
                f,
                "it is defined twice: with handler {handler:?} in {place}, and here with {other:?}"
            ),
            Self::HandlerChanged { handler, cluster } => write!(
                f,
                "handler {handler:?} is refused: the cluster has the class with {cluster:?}, and a handler never changes"
            ),
            Self::UnknownField { path, meant } => write!(
                f,
                "unknown field {path:?}{}",
                did_you_mean(meant.as_deref())
            ),
            Self::WrongGroup {
                kind,
                version,
                right,
            } => write!(f, "there is no {kind} in {version:?}; it is of {right:?}"),
            Self::FractionalBytes { field, value } => write!(
                f,
                "{field}: fractional byte value {value:?} is invalid, must be an integer"
            ),
        }
    }
}

impl Advice {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        let fixed = match self {
            Self::HandlerMissing { .. } => "configure the handler on a node, or name one of those",
            Self::HandlerBroken { .. } => {
                "mend what the message names on one of the nodes, or name another handler"
            }
            Self::ClassUnplaceable { hint, .. } if hint.is_empty() => {
                "change the class's scheduling, or the labels and taints of those nodes"
            }
            Self::PodUnplaceable { hint, .. } if hint.is_empty() => {
                "see the class, or add a node that has the handler"
            }
            Self::ClassUnplaceable { hint, .. } | Self::PodUnplaceable { hint, .. } => {
                hint.as_str()
            }
            Self::TooLarge { resource, .. } => {
                return format!(
                    "ask for less {resource}, lower the class's overhead, or add a larger node"
                );
            }
            Self::Inside { .. } => {
                "leave it out, or use a class whose pods share the node's kernel"
            }
            Self::NoFeature { .. } => "leave it out, or use a class whose handler has it",
            Self::NoProfile { .. } => "put the profile onto the nodes, or leave it out",
            Self::AppArmorAnnotation { .. } => "write securityContext.appArmorProfile",
            Self::NodeMissing { .. } => "correct spec.nodeName, or leave it to the scheduler",
            Self::ClassMissing { .. } => "create the class, or correct runtimeClassName",
            Self::PolicyClassMissing { .. } => "create the class, or correct the annotation",
            Self::DefaultNotAllowed { .. } => "add it to the list, or change the default",
            Self::AnnotationUnknown { .. } => "correct the annotation",
            Self::ClassInUse { .. } => "create it again, or change what names it",
            Self::QuotaReplicas { .. } => "ask for fewer pods or less, or raise the quota",
            Self::Twice { .. } => "keep one of the two, or give one another name",
            Self::HandlerChanged { .. } => {
                "give the class another name, or delete the one in the cluster first"
            }
            Self::UnknownField { .. } => "correct the field; a server drops or refuses it",
            Self::WrongGroup { right, .. } => return format!("write apiVersion: {right}"),
            Self::FractionalBytes { .. } => {
                "write whole bytes (m is a thousandth, M a million, Mi 1048576)"
            }
        };
        fixed.to_owned()
    }
}
