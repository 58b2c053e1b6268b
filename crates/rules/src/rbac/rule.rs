//! One rule: what it allows, and whether rules cover other rules.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::Request;

fn has(list: Option<&Vec<String>>, wanted: &str) -> bool {
    list.is_some_and(|l| l.iter().any(|i| i == wanted))
}

fn star_or(list: Option<&Vec<String>>, wanted: &str) -> bool {
    list.is_some_and(|l| l.iter().any(|i| i == "*" || i == wanted))
}

fn is_empty(list: Option<&Vec<String>>) -> bool {
    list.is_none_or(Vec::is_empty)
}

/// Whether a rule allows a request.
#[must_use]
pub fn allows(rule: &PolicyRule, request: &Request<'_>) -> bool {
    match *request {
        Request::Resource {
            verb,
            group,
            resource,
            subresource,
            name,
            namespace: _,
        } => {
            rule.verbs.iter().any(|v| v == "*" || v == verb)
                && star_or(rule.api_groups.as_ref(), group)
                && resource_matches(rule.resources.as_ref(), resource, subresource)
                && (is_empty(rule.resource_names.as_ref())
                    || has(rule.resource_names.as_ref(), name))
        }
        Request::Path { verb, path } => {
            rule.verbs.iter().any(|v| v == "*" || v == verb)
                && rule
                    .non_resource_urls
                    .iter()
                    .flatten()
                    .any(|u| url_covers(u, path))
        }
    }
}

fn resource_matches(resources: Option<&Vec<String>>, resource: &str, subresource: &str) -> bool {
    resources.into_iter().flatten().any(|r| {
        if r == "*" {
            return true;
        }
        if subresource.is_empty() {
            return r == resource;
        }
        match r.split_once('/') {
            Some((of, sub)) => sub == subresource && (of == "*" || of == resource),
            None => false,
        }
    })
}

/// `*` at the end stands for anything.
fn url_covers(pattern: &str, path: &str) -> bool {
    pattern == path || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

/// Breaks rules into atoms of one verb, one resource (and one name), or one URL.
fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let list = |l: &Option<Vec<String>>| l.clone().unwrap_or_default();
    let mut atoms = Vec::new();
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let names = list(&rule.resource_names);
                let atom = |names: Option<Vec<String>>| PolicyRule {
                    api_groups: Some(vec![group.clone()]),
                    resources: Some(vec![resource.clone()]),
                    verbs: vec![verb.clone()],
                    resource_names: names,
                    non_resource_urls: None,
                };
                if names.is_empty() {
                    atoms.push(atom(None));
                } else {
                    atoms.extend(names.into_iter().map(|n| atom(Some(vec![n]))));
                }
            }
        }
    }
    for url in list(&rule.non_resource_urls) {
        for verb in &rule.verbs {
            atoms.push(PolicyRule {
                non_resource_urls: Some(vec![url.clone()]),
                verbs: vec![verb.clone()],
                ..PolicyRule::default()
            });
        }
    }
    atoms
}

/// A rule that somebody holds, to be looked up in many times.
struct Held<'r> {
    verbs: HashSet<&'r str>,
    groups: HashSet<&'r str>,
    resources: HashSet<&'r str>,
    names: HashSet<&'r str>,
    urls: &'r [String],
}

fn set(list: &[String]) -> HashSet<&str> {
    list.iter().map(String::as_str).collect()
}

impl<'r> From<&'r PolicyRule> for Held<'r> {
    fn from(rule: &'r PolicyRule) -> Self {
        Self {
            verbs: set(&rule.verbs),
            groups: set(rule.api_groups.as_deref().unwrap_or_default()),
            resources: set(rule.resources.as_deref().unwrap_or_default()),
            names: set(rule.resource_names.as_deref().unwrap_or_default()),
            urls: rule.non_resource_urls.as_deref().unwrap_or_default(),
        }
    }
}

impl Held<'_> {
    /// Whether it allows all that an atom does.
    fn covers(&self, atom: &PolicyRule) -> bool {
        fn first(list: Option<&Vec<String>>) -> Option<&str> {
            list.and_then(|l| l.first()).map(String::as_str)
        }
        let star_or = |set: &HashSet<&str>, wanted: &str| set.contains("*") || set.contains(wanted);
        let Some(verb) = atom.verbs.first() else {
            return false;
        };
        if !star_or(&self.verbs, verb) {
            return false;
        }
        if let Some(url) = first(atom.non_resource_urls.as_ref()) {
            return self.urls.iter().any(|u| url_covers(u, url));
        }
        let (Some(group), Some(resource)) = (
            first(atom.api_groups.as_ref()),
            first(atom.resources.as_ref()),
        ) else {
            return false;
        };
        let of_any = |sub: &str| self.resources.contains(format!("*/{sub}").as_str());
        star_or(&self.groups, group)
            && (star_or(&self.resources, resource)
                || resource.split_once('/').is_some_and(|(_, sub)| of_any(sub)))
            && (self.names.is_empty()
                || first(atom.resource_names.as_ref()).is_some_and(|n| self.names.contains(n)))
    }

    /// How much looking an atom up in it costs, beside one step.
    fn steps(&self) -> usize {
        1 + self.urls.len()
    }
}

/// How many combinations of verb, group, resource and name are compared with the rules that somebody holds. A rule of
/// a few kilobytes can stand for billions of them.
pub const COMBINATIONS_LIMIT: usize = 20_000;

/// How many combinations rules stand for, at most `usize::MAX`.
fn combinations(rules: &[PolicyRule]) -> usize {
    let length = |l: &Option<Vec<String>>| l.as_ref().map_or(0, Vec::len);
    rules.iter().fold(0, |sum: usize, rule| {
        let of_resources = length(&rule.api_groups)
            .saturating_mul(length(&rule.resources))
            .saturating_mul(length(&rule.resource_names).max(1));
        let each = of_resources.saturating_add(length(&rule.non_resource_urls));
        sum.saturating_add(each.saturating_mul(rule.verbs.len()))
    })
}

/// Whether rules stand for more combinations than [`uncovered`] may be asked about.
#[must_use]
pub fn is_too_wide(rules: &[PolicyRule]) -> bool {
    combinations(rules) > COMBINATIONS_LIMIT
}

/// How many pairs of a combination that is wanted and a rule that is held are looked at. Who grants can hold rules of his
/// own making, as many as he likes.
const STEPS_LIMIT: usize = 5_000_000;

/// So many missing rules are enough to refuse by.
const MISSING_LIMIT: usize = 1_000;

/// More rules are held and wanted than can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are more rules than can be compared")]
pub struct TooMany;

/// What of `wanted` the rules `owned` do not allow, compacted for reading, as far as it is looked for: a thousand rules are
/// enough. Empty when all is covered.
///
/// # Errors
/// [`TooMany`] when it is not found out.
pub fn uncovered<'r>(
    owned: impl IntoIterator<Item = &'r PolicyRule>,
    wanted: &[PolicyRule],
) -> Result<Vec<PolicyRule>, TooMany> {
    let owned: Vec<Held<'_>> = owned.into_iter().map(Held::from).collect();
    let mut steps = STEPS_LIMIT;
    let mut missing: Vec<PolicyRule> = Vec::new();
    let mut places: HashMap<[Option<Vec<String>>; 4], usize> = HashMap::new();
    for atom in wanted.iter().flat_map(atoms) {
        let mut covered = false;
        for held in &owned {
            steps = steps.checked_sub(held.steps()).ok_or(TooMany)?;
            covered = held.covers(&atom);
            if covered {
                break;
            }
        }
        if covered {
            continue;
        }
        let key = [
            atom.api_groups.clone(),
            atom.resources.clone(),
            atom.resource_names.clone(),
            atom.non_resource_urls.clone(),
        ];
        let place = *places.entry(key).or_insert(missing.len());
        match missing.get_mut(place) {
            Some(rule) => rule.verbs.extend(atom.verbs),
            None => missing.push(atom),
        }
        if missing.len() >= MISSING_LIMIT {
            break;
        }
    }
    Ok(missing)
}

/// A rule on one line, `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
#[must_use]
pub fn compact(rule: &PolicyRule) -> String {
    let fields = [
        ("APIGroups", rule.api_groups.as_deref().unwrap_or_default()),
        ("Resources", rule.resources.as_deref().unwrap_or_default()),
        (
            "NonResourceURLs",
            rule.non_resource_urls.as_deref().unwrap_or_default(),
        ),
        (
            "ResourceNames",
            rule.resource_names.as_deref().unwrap_or_default(),
        ),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let parts: Vec<String> = fields
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{list:?}"))
        .collect();
    format!("{{{}}}", parts.join(", "))
}
