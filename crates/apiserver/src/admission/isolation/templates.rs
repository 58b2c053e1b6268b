//! Templates of workloads: nothing is refused, but whoever applies one is told that its pods will be.

use std::fmt;
use std::str::FromStr;

use berth_api::status::ApiError;
use berth_core::isolation::Isolation;
use berth_rules::admission::{isolation as rules, namespace_policy};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::MinimumIsolation;
use crate::admission::Attributes;
use crate::object::Object;

/// What makes pods on the stock server: group, plural, and where its template is, as a JSON pointer.
pub(in crate::admission) const WORKLOADS: [(&str, &str, &str); 7] = [
    ("", "replicationcontrollers", "/spec/template"),
    ("apps", "daemonsets", "/spec/template"),
    ("apps", "deployments", "/spec/template"),
    ("apps", "replicasets", "/spec/template"),
    ("apps", "statefulsets", "/spec/template"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
    ("batch", "jobs", "/spec/template"),
];

/// What has a template and makes no pods.
const POD_TEMPLATES: (&str, &str, &str) = ("", "podtemplates", "/template");

/// Where a custom resource has the template of its pods: `RESOURCE.GROUP=.spec.template`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTemplatePath {
    /// The API group.
    pub group: String,
    /// The plural name.
    pub resource: String,
    /// A JSON pointer.
    pointer: String,
}

/// A text that is no such path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no RESOURCE.GROUP=.PATH, such as rollouts.argoproj.io=.spec.template")]
pub struct NoTemplatePath(String);

impl FromStr for PodTemplatePath {
    type Err = NoTemplatePath;

    fn from_str(text: &str) -> Result<Self, NoTemplatePath> {
        let parse = || {
            let (name, path) = text.split_once('=')?;
            let (resource, group) = name.split_once('.')?;
            let fields: Vec<&str> = path.strip_prefix('.')?.split('.').collect();
            let is_plain = |text: &str| {
                !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            };
            let is_good = is_plain(resource)
                && group.split('.').all(is_plain)
                && fields.iter().all(|field| is_plain(field));
            is_good.then(|| Self {
                group: group.to_owned(),
                resource: resource.to_owned(),
                pointer: format!("/{}", fields.join("/")),
            })
        };
        parse().ok_or_else(|| NoTemplatePath(text.to_owned()))
    }
}

impl PodTemplatePath {
    /// Whether it is about this resource.
    pub(in crate::admission) fn is_of(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.resource == plural
    }

    /// Where the template is, as a JSON pointer.
    pub(in crate::admission) fn pointer(&self) -> &str {
        &self.pointer
    }
}

impl fmt::Display for PodTemplatePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.pointer.replace('/', ".");
        write!(f, "{}.{}={path}", self.resource, self.group)
    }
}

impl MinimumIsolation {
    /// Where objects of a resource have the template of their pods.
    pub(super) fn template_path(&self, group: &str, plural: &str) -> Option<&str> {
        let built_in = WORKLOADS
            .iter()
            .chain(&[POD_TEMPLATES])
            .find(|(g, resource, _)| *g == group && *resource == plural)
            .map(|(_, _, pointer)| *pointer);
        built_in.or_else(|| {
            let mut configured = self.templates.iter();
            let found = configured.find(|path| path.is_of(group, plural))?;
            Some(found.pointer())
        })
    }

    pub(super) fn warn_of_template(
        &self,
        attributes: &Attributes<'_>,
        object: &dyn Object,
    ) -> Result<(), ApiError> {
        let (group, plural) = (&*attributes.resource.group, &*attributes.resource.plural);
        let Some(pointer) = self.template_path(group, plural) else {
            return Ok(());
        };
        let Some(namespace) = self.namespace(attributes.namespace)? else {
            return Ok(());
        };
        let floor = match rules::of_namespace(&namespace.metadata) {
            Ok(None | Some(Isolation::Process)) => return Ok(()),
            Ok(floor) => floor,
            Err(rejection) => {
                attributes.warn(rejection_warning(&rejection));
                return Ok(());
            }
        };
        let object = object.to_value()?;
        let template = match object.pointer(pointer) {
            Some(template) if template.is_object() => template,
            // Others say what is missing.
            Some(_) | None => return Ok(()),
        };
        let mut pod: Pod = match serde_json::from_value(as_pod(template, attributes.namespace)) {
            Ok(pod) => pod,
            Err(error) => {
                attributes.warn(format!(
                    "whether pods of {plural:?} isolate enough is not known: the template at {} can't be read: {error}",
                    pointer.replace('/', "."),
                ));
                return Ok(());
            }
        };
        if let Some(annotations) = &namespace.metadata.annotations
            && let Some(default) = annotations.get(namespace_policy::DEFAULT)
            && let Some(spec) = &mut pod.spec
            && spec.runtime_class_name.is_none()
        {
            spec.runtime_class_name = Some(default.trim().to_owned()).filter(|d| !d.is_empty());
        }
        if let Err(rejection) = self.check(&pod, floor, None)? {
            attributes.warn(rejection_warning(&rejection));
        }
        Ok(())
    }
}

fn rejection_warning(rejection: &dyn fmt::Display) -> String {
    format!("pods of this template will be refused: {rejection}")
}

/// The part of a template that matters here, in the namespace of its workload.
fn as_pod(template: &Value, namespace: &str) -> Value {
    let class = template.pointer("/spec/runtimeClassName").cloned();
    let annotations = template.pointer("/metadata/annotations").cloned();
    json!({
        "metadata": {"namespace": namespace, "annotations": annotations.unwrap_or(json!({}))},
        "spec": {"containers": [], "runtimeClassName": class},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let path: PodTemplatePath = "rollouts.argoproj.io=.spec.template".parse().unwrap();
        assert_eq!(
            (path.group.as_str(), path.resource.as_str()),
            ("argoproj.io", "rollouts")
        );
        assert_eq!(path.pointer, "/spec/template");
        assert_eq!(path.to_string(), "rollouts.argoproj.io=.spec.template");
        for bad in [
            "",
            "rollouts=.spec",
            "rollouts.argoproj.io",
            "rollouts.argoproj.io=spec.template",
            "rollouts.argoproj.io=.",
            "rollouts.argoproj.io=.spec..template",
            "rollouts.argoproj.io=.spec/template",
            "rollouts.argoproj.io=.spec[0]",
            ".argoproj.io=.spec",
            "rollouts.argoproj..io=.spec",
        ] {
            assert!(bad.parse::<PodTemplatePath>().is_err(), "{bad}");
        }
    }
}
