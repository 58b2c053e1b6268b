//! The PodSecurity plugin: the Pod Security Standards, by the labels of a namespace, as the stock plugin of v1.36.
//!
//! A namespace has three modes ([`Policy`]), each a level and a version: `enforce` refuses pods, `audit` notes them in the
//! audit log, `warn` answers with a warning. Templates of pods are only audited and warned of, since their pods will be
//! refused. What a RuntimeClass isolates does not change a level; a class can be exempt by configuration.

pub mod configuration;
mod controls;
pub mod namespace;
pub mod policy;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use berth_api::field::{FieldError, aggregate};

pub use configuration::PodSecurityConfiguration;
pub use controls::{Violation, evaluate};
pub use policy::{Level, LevelVersion, Policy, Version};

/// Before the keys of [`Decision::audit`] in an audit event.
pub const AUDIT_PREFIX: &str = "pod-security.kubernetes.io/";

/// Subresources of pods that change nothing which a level looks at. Every other one is evaluated, also one that is new.
const IGNORED_SUBRESOURCES: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];

/// Whether a write of a pod through a subresource (empty: of the pod itself) is evaluated.
#[must_use]
pub fn evaluates(subresource: &str) -> bool {
    !IGNORED_SUBRESOURCES.contains(&subresource)
}

/// The plugin, configured.
#[derive(Clone, Debug, Default)]
pub struct PodSecurity {
    defaults: Policy,
    exemptions: configuration::PodSecurityExemptions,
}

/// Who writes where.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'r> {
    /// The user's name.
    pub user: &'r str,
    /// The namespace of the pod or template.
    pub namespace: &'r str,
    /// The labels of that namespace. A namespace that cannot be read must not be passed as one without labels.
    pub namespace_labels: Option<&'r BTreeMap<String, String>>,
}

/// What comes of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Why it is refused: 403, after `pods "name" is forbidden: `.
    pub refused: Option<String>,
    /// For the client.
    pub warnings: Vec<String>,
    /// For the audit event, without [`AUDIT_PREFIX`].
    pub audit: BTreeMap<&'static str, String>,
}

impl Decision {
    fn exempt(by: &str) -> Self {
        Self {
            audit: BTreeMap::from([("exempt", by.to_owned())]),
            ..Self::default()
        }
    }
}

impl PodSecurity {
    /// With its configuration.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(configuration: PodSecurityConfiguration) -> Result<Self, Vec<FieldError>> {
        Ok(Self {
            defaults: configuration.policy()?,
            exemptions: configuration.exemptions,
        })
    }

    /// A pod that is created, or that replaces `old`, also by a subresource that [`evaluates`] names.
    #[must_use]
    pub fn admit_pod(&self, at: &Attributes<'_>, pod: &Pod, old: Option<&Pod>) -> Decision {
        if let Some(exempt) = self.exempt(at) {
            return exempt;
        }
        let (policy, errors) = Policy::of_labels(at.namespace_labels, &self.defaults);
        if errors.is_empty() && policy.is_privileged() {
            return Decision {
                audit: BTreeMap::from([("enforce-policy", LevelVersion::PRIVILEGED.to_string())]),
                ..Decision::default()
            };
        }
        if old.is_some_and(|old| !is_significant(pod, old)) {
            return Decision::default();
        }
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        self.decide(&policy, &errors, &pod.metadata, spec, true)
    }

    /// A template of pods that is created or updated: only audit and warn hold.
    #[must_use]
    pub fn admit_template(
        &self,
        at: &Attributes<'_>,
        metadata: &ObjectMeta,
        spec: &PodSpec,
    ) -> Decision {
        if let Some(exempt) = self.exempt(at) {
            return exempt;
        }
        let (policy, errors) = Policy::of_labels(at.namespace_labels, &self.defaults);
        let silent = [policy.audit, policy.warn]
            .iter()
            .all(|mode| mode.level == Level::Privileged);
        if errors.is_empty() && silent {
            return Decision::default();
        }
        self.decide(&policy, &errors, metadata, spec, false)
    }

    fn exempt(&self, at: &Attributes<'_>) -> Option<Decision> {
        if self.is_exempt_namespace(at.namespace) {
            return Some(Decision::exempt("namespace"));
        }
        let user = !at.user.is_empty() && self.exemptions.usernames.iter().any(|u| u == at.user);
        user.then(|| Decision::exempt("user"))
    }

    fn is_exempt_namespace(&self, namespace: &str) -> bool {
        !namespace.is_empty() && self.exemptions.namespaces.iter().any(|n| n == namespace)
    }

    fn is_exempt_class(&self, spec: &PodSpec) -> bool {
        let class = spec.runtime_class_name.as_deref().unwrap_or_default();
        !class.is_empty() && self.exemptions.runtime_classes.iter().any(|c| c == class)
    }

    fn decide(
        &self,
        policy: &Policy,
        errors: &[FieldError],
        metadata: &ObjectMeta,
        spec: &PodSpec,
        enforce: bool,
    ) -> Decision {
        if self.is_exempt_class(spec) {
            return Decision::exempt("runtimeClass");
        }
        let mut decision = Decision::default();
        if !errors.is_empty() {
            let why = format!("Failed to parse policy: {}", aggregate(errors));
            decision.audit.insert("error", why);
        }
        // Modes of the same level are evaluated once.
        let mut known: BTreeMap<LevelVersion, Option<String>> = BTreeMap::new();
        let mut violations = |mode: LevelVersion| {
            known
                .entry(mode)
                .or_insert_with(|| explained(&evaluate(mode, metadata, spec)))
                .clone()
        };
        if enforce {
            let mode = policy.enforce;
            decision.audit.insert("enforce-policy", mode.to_string());
            decision.refused =
                violations(mode).map(|what| format!("violates PodSecurity \"{mode}\": {what}"));
        }
        let would = |mode: LevelVersion, what: String| {
            format!("would violate PodSecurity \"{mode}\": {what}")
        };
        if let Some(what) = violations(policy.audit) {
            let text = would(policy.audit, what);
            decision.audit.insert("audit-violations", text);
        }
        if decision.refused.is_none()
            && let Some(what) = violations(policy.warn)
        {
            decision.warnings.push(would(policy.warn, what));
        }
        decision
    }
}

/// All violations in one line; nothing where there are none.
fn explained(violations: &[Violation]) -> Option<String> {
    let all: Vec<String> = violations.iter().map(Violation::explained).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Whether an update changes what a level looks at. Of a pod's own fields only images can change and ephemeral
/// containers come, and an image is evaluated since it would be another pod in all but name.
fn is_significant(pod: &Pod, old: &Pod) -> bool {
    let none = PodSpec::default();
    let (new, old) = (
        pod.spec.as_ref().unwrap_or(&none),
        old.spec.as_ref().unwrap_or(&none),
    );
    fn list<T>(of: &Option<Vec<T>>) -> &[T] {
        of.as_deref().unwrap_or_default()
    }
    let lists = |new: &[Container], old: &[Container]| {
        new.len() != old.len() || new.iter().zip(old).any(|(n, o)| differs(n, o))
    };
    if lists(&new.containers, &old.containers)
        || lists(list(&new.init_containers), list(&old.init_containers))
    {
        return true;
    }
    let before: BTreeMap<&str, &EphemeralContainer> = list(&old.ephemeral_containers)
        .iter()
        .map(|c| (c.name.as_str(), c))
        .collect();
    list(&new.ephemeral_containers).iter().any(|c| {
        before
            .get(c.name.as_str())
            .is_none_or(|o| o.image != c.image || o.security_context != c.security_context)
    })
}

/// Beyond the image, which the stock plugin compares, also what no valid update changes: should one pass, it is evaluated.
fn differs(new: &Container, old: &Container) -> bool {
    new.image != old.image || new.security_context != old.security_context || new.ports != old.ports
}

#[cfg(test)]
mod tests;
