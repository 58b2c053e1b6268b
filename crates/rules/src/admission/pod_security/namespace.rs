//! Writes of namespaces: labels must be valid, and who raises the enforced level hears which pods would not meet it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use berth_api::field::FieldError;
use berth_core::meta::controller_of;
use k8s_openapi::api::core::v1::{Namespace, Pod};

use super::policy::{
    AUDIT, AUDIT_VERSION, ENFORCE, ENFORCE_VERSION, Level, LevelVersion, Policy, WARN, WARN_VERSION,
};
use super::{PodSecurity, evaluate};

/// How many existing pods are evaluated at most.
pub const POD_LIMIT: usize = 3000;
/// For how long existing pods are evaluated at most.
pub const TIME_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);
/// How many different warnings are shown of existing pods.
const WARNING_LIMIT: usize = 100;

/// What comes of a write of a namespace whose labels are valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceDecision {
    /// For the client.
    pub warnings: Vec<String>,
    /// The level that existing pods have to be compared with, by [`PodSecurity::existing_pods`].
    pub evaluate_pods: Option<LevelVersion>,
}

impl PodSecurity {
    /// A namespace that is created, or that replaces `old`.
    ///
    /// # Errors
    /// Labels that are no level or version: 422. Those that were there before may stay.
    pub fn admit_namespace(
        &self,
        namespace: &Namespace,
        old: Option<&Namespace>,
    ) -> Result<NamespaceDecision, Vec<FieldError>> {
        let labels = namespace.metadata.labels.as_ref();
        let (policy, errors) = Policy::of_labels(labels, &self.defaults);
        let before = old.map(|o| Policy::of_labels(o.metadata.labels.as_ref(), &self.defaults));
        let kept = before.as_ref().is_some_and(|(_, before)| *before == errors);
        if !errors.is_empty() && !kept {
            return Err(errors);
        }
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let exempt = || NamespaceDecision {
            warnings: self
                .exemption_warning(name, &policy, labels)
                .into_iter()
                .collect(),
            evaluate_pods: None,
        };
        let Some((before, _)) = before else {
            return Ok(if self.is_exempt_namespace(name) {
                exempt()
            } else {
                NamespaceDecision::default()
            });
        };
        let (new, old) = (policy.enforce, before.enforce);
        let relaxed = new.version == old.version && new.level <= old.level;
        if new == old || new.level == Level::Privileged || relaxed {
            return Ok(NamespaceDecision::default());
        }
        if self.is_exempt_namespace(name) {
            return Ok(exempt());
        }
        Ok(NamespaceDecision {
            warnings: Vec::new(),
            evaluate_pods: Some(new),
        })
    }

    /// Says that the labels of an exempt namespace do nothing.
    fn exemption_warning(
        &self,
        name: &str,
        policy: &Policy,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Option<String> {
        if policy.is_privileged() || policy.is_equivalent(&self.defaults) {
            return None;
        }
        let set = |label: &str| labels.is_some_and(|l| l.contains_key(label));
        let modes: Vec<String> = [
            (
                "enforce",
                policy.enforce,
                set(ENFORCE) || set(ENFORCE_VERSION),
            ),
            ("audit", policy.audit, set(AUDIT) || set(AUDIT_VERSION)),
            ("warn", policy.warn, set(WARN) || set(WARN_VERSION)),
        ]
        .into_iter()
        .filter(|(_, mode, set)| *set && mode.level != Level::Privileged)
        .map(|(name, mode, _)| format!("{name}={mode}"))
        .collect();
        Some(format!(
            "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            modes.join(", ")
        ))
    }

    /// Compares the pods of a namespace with a level that it will enforce, at most `limit` of them and until `is_late`
    /// says so. One pod of each controller comes first. A pod that cannot be read is given by its name.
    pub fn existing_pods<P: Borrow<Pod>>(
        &self,
        namespace: &str,
        enforce: LevelVersion,
        pods: impl IntoIterator<Item = Result<P, String>>,
        limit: usize,
        mut is_late: impl FnMut() -> bool,
    ) -> Vec<String> {
        let mut chosen = Chosen::new(limit);
        let mut all_seen = true;
        for pod in pods {
            if let Ok(pod) = &pod
                && pod
                    .borrow()
                    .spec
                    .as_ref()
                    .is_some_and(|s| self.is_exempt_class(s))
            {
                continue;
            }
            chosen.add(pod);
            if is_late() {
                all_seen = false;
                break;
            }
        }
        let total = chosen.total;
        let mut checked = 0;
        let mut found = Found::default();
        for pod in chosen.first.into_iter().chain(chosen.replicas).take(limit) {
            found.add(enforce, pod);
            checked += 1;
            if is_late() {
                break;
            }
        }
        let mut warnings = Vec::new();
        if checked < total || !all_seen {
            let more = if all_seen { "" } else { "at least " };
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {more}{total} existing pods"
            ));
        }
        let of_pods = found.warnings();
        if !of_pods.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
            ));
        }
        warnings.extend(of_pods);
        warnings
    }
}

/// The pods that will be evaluated: first one of each controller, as far as there is room the others too.
struct Chosen<P> {
    limit: usize,
    total: usize,
    controllers: BTreeSet<String>,
    first: Vec<Result<P, String>>,
    replicas: Vec<Result<P, String>>,
}

impl<P: Borrow<Pod>> Chosen<P> {
    const fn new(limit: usize) -> Self {
        Self {
            limit,
            total: 0,
            controllers: BTreeSet::new(),
            first: Vec::new(),
            replicas: Vec::new(),
        }
    }

    fn add(&mut self, pod: Result<P, String>) {
        self.total += 1;
        let controller = pod
            .as_ref()
            .ok()
            .and_then(|p| controller_of(&p.borrow().metadata));
        let is_replica = controller.is_some_and(|c| !self.controllers.insert(c.uid.clone()));
        let list = if is_replica {
            &mut self.replicas
        } else {
            &mut self.first
        };
        if list.len() < self.limit {
            list.push(pod);
        }
    }
}

/// Violations, and the pods that have the same ones.
#[derive(Default)]
struct Found {
    by_violation: BTreeMap<String, (String, usize)>,
}

impl Found {
    fn add<P: Borrow<Pod>>(&mut self, enforce: LevelVersion, pod: Result<P, String>) {
        let (name, what) = match pod {
            Ok(pod) => {
                let pod = pod.borrow();
                let reasons: Vec<&str> = pod
                    .spec
                    .iter()
                    .flat_map(|spec| evaluate(enforce, &pod.metadata, spec))
                    .map(|violation| violation.reason)
                    .collect();
                let name = pod.metadata.name.clone().unwrap_or_default();
                (name, reasons.join(", "))
            }
            Err(name) => (name, "the stored pod cannot be read".to_owned()),
        };
        if what.is_empty() {
            return;
        }
        let (first, count) = self.by_violation.entry(what).or_insert((name.clone(), 0));
        if name < *first {
            *first = name;
        }
        *count += 1;
    }

    fn warnings(self) -> Vec<String> {
        let mut all: Vec<String> = self
            .by_violation
            .into_iter()
            .map(|(what, (name, count))| match count {
                0 | 1 => format!("{name}: {what}"),
                2 => format!("{name} (and 1 other pod): {what}"),
                _ => format!("{name} (and {} other pods): {what}", count - 1),
            })
            .collect();
        all.sort();
        all.truncate(WARNING_LIMIT);
        all
    }
}
