//! Which requests a webhook or policy is about: rules, selectors, and the other names of the same objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::status::ApiError;
use berth_core::selector::{is_empty, label_selector_matches};
use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, RuleWithOperations,
};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::form::Form;
use super::invocation::Invocation;
use super::{Attributes, NAMESPACES, Operation};
use crate::authz::Authorizer;
use crate::object::Object;
use crate::registry::Registry;
use crate::storage::Storage;

/// The group of what configures webhooks and policies.
const GROUP: &str = "admissionregistration.k8s.io";

/// Whether a request is about webhooks or policies themselves: no rule of others is, or nobody could take it back.
pub(super) fn is_exempt(attributes: &Attributes<'_>) -> bool {
    attributes.resource.group == GROUP
}

impl Operation {
    /// The name in rules and reviews.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One rule.
#[derive(Clone, Debug, Default)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: Option<String>,
    /// Names of objects; empty for all.
    names: Vec<String>,
}

impl From<&RuleWithOperations> for Rule {
    fn from(rule: &RuleWithOperations) -> Self {
        Self {
            operations: rule.operations.clone().unwrap_or_default(),
            groups: rule.api_groups.clone().unwrap_or_default(),
            versions: rule.api_versions.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            scope: rule.scope.clone(),
            names: Vec::new(),
        }
    }
}

impl From<&NamedRuleWithOperations> for Rule {
    fn from(rule: &NamedRuleWithOperations) -> Self {
        Self {
            operations: rule.operations.clone().unwrap_or_default(),
            groups: rule.api_groups.clone().unwrap_or_default(),
            versions: rule.api_versions.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            scope: rule.scope.clone(),
            names: rule.resource_names.clone().unwrap_or_default(),
        }
    }
}

/// Whether a list has an entry, or stands for everything.
fn lists(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

impl Rule {
    fn matches(
        &self,
        attributes: &Attributes<'_>,
        group: &str,
        version: &str,
        plural: &str,
    ) -> bool {
        lists(&self.operations, attributes.operation.as_str())
            && lists(&self.groups, group)
            && lists(&self.versions, version)
            && self.in_scope(attributes)
            && self.has_resource(plural, attributes.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }

    /// A Namespace counts as cluster-scoped.
    fn in_scope(&self, attributes: &Attributes<'_>) -> bool {
        match self.scope.as_deref() {
            None | Some("*" | "") => true,
            Some("Namespaced") => !attributes.namespace.is_empty(),
            Some(_) => attributes.namespace.is_empty(),
        }
    }

    fn has_resource(&self, plural: &str, subresource: &str) -> bool {
        self.resources.iter().any(|resource| {
            let (name, sub) = resource.split_once('/').unwrap_or((resource, ""));
            (name == "*" || name == plural) && (sub == "*" || sub == subresource)
        })
    }
}

/// What a webhook or policy is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Criteria {
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    /// Whether no rules are all rules.
    any: bool,
    /// Whether other names of the same objects count.
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

/// What is looked up for it.
#[derive(Clone)]
pub(super) struct Lookup {
    pub(super) storage: Arc<Storage>,
    pub(super) registry: Arc<Registry>,
    pub(super) authorizer: Arc<Authorizer>,
}

impl Criteria {
    /// Those of a webhook.
    pub(super) fn of_webhook(
        rules: &[RuleWithOperations],
        match_policy: Option<&str>,
        namespaces: Option<&LabelSelector>,
        objects: Option<&LabelSelector>,
    ) -> Self {
        Self {
            rules: rules.iter().map(Rule::from).collect(),
            equivalent: match_policy != Some("Exact"),
            namespaces: namespaces.cloned().unwrap_or_default(),
            objects: objects.cloned().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Those of a policy or its binding.
    pub(super) fn of_policy(resources: &MatchResources) -> Self {
        let rules = |list: &Option<Vec<NamedRuleWithOperations>>| -> Vec<Rule> {
            list.iter().flatten().map(Rule::from).collect()
        };
        let own = rules(&resources.resource_rules);
        Self {
            any: own.is_empty(),
            rules: own,
            exclude: rules(&resources.exclude_resource_rules),
            equivalent: resources.match_policy.as_deref() != Some("Exact"),
            namespaces: resources.namespace_selector.clone().unwrap_or_default(),
            objects: resources.object_selector.clone().unwrap_or_default(),
        }
    }

    /// As what the request's resource is known to it; none when it is not about the request.
    ///
    /// # Errors
    /// When a rule matches and the namespace, whose labels decide, is not there or cannot be read.
    pub(super) fn matches(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &Lookup,
    ) -> Result<Option<Invocation>, ApiError> {
        let in_namespace = self.selects_namespace(attributes, object, lookup);
        if matches!(in_namespace, Ok(false)) || !self.selects_object(attributes, object) {
            return Ok(None);
        }
        if find(&self.exclude, self.equivalent, attributes, lookup).is_some() {
            return Ok(None);
        }
        let found = if self.any {
            own(attributes, lookup)
        } else {
            find(&self.rules, self.equivalent, attributes, lookup)
        };
        let Some(found) = found else {
            return Ok(None);
        };
        // Whom it isn't about anyway does not suffer from a namespace that is not there.
        in_namespace?;
        Ok(Some(found))
    }

    fn selects_namespace(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &Lookup,
    ) -> Result<bool, ApiError> {
        let selector = &self.namespaces;
        let is_namespace = attributes.resource.storage == NAMESPACES;
        if is_empty(selector) || (attributes.namespace.is_empty() && !is_namespace) {
            return Ok(true);
        }
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        if let (true, true, "", Some(object)) =
            (is_namespace, writes, attributes.subresource, object)
        {
            let labels = object.metadata().labels.as_ref();
            return Ok(label_selector_matches(selector, labels));
        }
        let name = if is_namespace {
            attributes.name
        } else {
            attributes.namespace
        };
        let namespace: Option<Namespace> = lookup.storage.read(NAMESPACES, "", name)?;
        let namespace = namespace.ok_or_else(|| ApiError::not_found("", "namespaces", name))?;
        Ok(label_selector_matches(
            selector,
            namespace.metadata.labels.as_ref(),
        ))
    }

    /// Whether the new object or the old one has the labels.
    fn selects_object(&self, attributes: &Attributes<'_>, object: Option<&dyn Object>) -> bool {
        let selector = &self.objects;
        if is_empty(selector) {
            return true;
        }
        // A Scale and the options of a connection have no labels.
        if !matches!(attributes.form, Form::Own | Form::Posted(_)) {
            return false;
        }
        let selects = |object: &dyn Object| -> bool {
            let labels: Option<&BTreeMap<String, String>> = object.metadata().labels.as_ref();
            label_selector_matches(selector, labels)
        };
        object.is_some_and(selects) || attributes.old.is_some_and(selects)
    }
}

/// The request's own resource, as the registry has it.
fn own(attributes: &Attributes<'_>, lookup: &Lookup) -> Option<Invocation> {
    let table = lookup.registry.table();
    let asked = attributes.resource;
    let row = table.find_any(&asked.group, &asked.plural)?;
    Some(Invocation {
        row: Arc::clone(row),
        version: attributes.version.to_owned(),
    })
}

/// The first of the rules that matches the resource as it was asked for, else the first that matches one of its other names.
fn find(
    rules: &[Rule],
    equivalent: bool,
    attributes: &Attributes<'_>,
    lookup: &Lookup,
) -> Option<Invocation> {
    let asked = attributes.resource;
    let direct =
        |rule: &Rule| rule.matches(attributes, &asked.group, attributes.version, &asked.plural);
    if rules.iter().any(direct) {
        return own(attributes, lookup);
    }
    if !equivalent || rules.is_empty() {
        return None;
    }
    let table = lookup.registry.table();
    let same: Vec<_> = (table.rows().iter())
        .filter(|row| row.storage == asked.storage)
        .collect();
    for rule in rules {
        for row in &same {
            let version = row
                .versions
                .iter()
                .find(|version| rule.matches(attributes, &row.group, version, &row.plural));
            if let Some(version) = version {
                return Some(Invocation {
                    row: Arc::clone(row),
                    version: version.clone(),
                });
            }
        }
    }
    None
}
