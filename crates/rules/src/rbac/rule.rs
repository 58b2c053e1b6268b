//! One rule: what it allows, and whether rules cover other rules.

use std::collections::HashMap;

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

fn covers_atom(owner: &PolicyRule, atom: &PolicyRule) -> bool {
    let first = |l: &Option<Vec<String>>| l.as_ref().and_then(|l| l.first()).cloned();
    let Some(verb) = atom.verbs.first() else {
        return false;
    };
    if !owner.verbs.iter().any(|v| v == "*" || v == verb) {
        return false;
    }
    if let Some(url) = first(&atom.non_resource_urls) {
        return owner
            .non_resource_urls
            .iter()
            .flatten()
            .any(|u| url_covers(u, &url));
    }
    let (Some(group), Some(resource)) = (first(&atom.api_groups), first(&atom.resources)) else {
        return false;
    };
    let resource_covered = star_or(owner.resources.as_ref(), &resource)
        || resource
            .split_once('/')
            .is_some_and(|(_, sub)| has(owner.resources.as_ref(), &format!("*/{sub}")));
    let name_covered = is_empty(owner.resource_names.as_ref())
        || first(&atom.resource_names).is_some_and(|n| has(owner.resource_names.as_ref(), &n));
    star_or(owner.api_groups.as_ref(), &group) && resource_covered && name_covered
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

/// What of `wanted` the rules `owned` do not allow, compacted for reading; empty when all is covered.
#[must_use]
pub fn uncovered(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut missing: Vec<PolicyRule> = Vec::new();
    let mut places: HashMap<[Option<Vec<String>>; 4], usize> = HashMap::new();
    for atom in wanted.iter().flat_map(atoms) {
        if owned.iter().any(|o| covers_atom(o, &atom)) {
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
    }
    missing
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
