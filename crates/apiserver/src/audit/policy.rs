//! The policy: `kind: Policy` of `audit.k8s.io/v1`, as the stock server reads it. The first rule that matches a request says
//! what is logged of it; a request that no rule matches is not logged. What the file has that no policy has is an error.

use serde::{Deserialize, Serialize};

use crate::user::User;

const API_VERSION: &str = "audit.k8s.io/v1";
const KIND: &str = "Policy";

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not YAML or JSON of the wanted shape.
    #[error("failed decoding: {0}")]
    Malformed(String),
    /// Another kind, or a version that is not served.
    #[error("failed decoding: is {0}; expected audit.k8s.io/v1, Kind=Policy")]
    Kind(String),
    /// There are no rules.
    #[error("loaded illegal policy with 0 rules")]
    NoRules,
    /// A rule that could not be followed.
    #[error("rules[{at}].{field}: {why}")]
    Rule {
        /// Which.
        at: usize,
        /// Its field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// How much is logged of a request.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when, and the code of the answer.
    Metadata,
    /// The body of the request as well.
    Request,
    /// The body of the answer as well.
    RequestResponse,
}

impl Level {
    /// As events and metrics name it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// A point of a request's way at which an event may be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It has come, and nothing is done yet.
    RequestReceived,
    /// The head of a long answer was sent.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// It caused a panic.
    Panic,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    #[allow(dead_code, reason = "a policy may have metadata, which says nothing")]
    metadata: serde_json::Value,
    rules: Option<Vec<Rule>>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What is asked for, as rules see it. Empty strings stand for "none".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Something about objects.
    Resource {
        /// Group; empty for the core group.
        group: String,
        /// Version.
        version: String,
        /// Plural name.
        resource: String,
        /// Subresource.
        subresource: String,
        /// Namespace.
        namespace: String,
        /// Name of the object.
        name: String,
    },
    /// Another path.
    Path(String),
}

/// What a policy says of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

/// A policy.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy, YAML or JSON.
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: File = serde_saphyr::from_str(text)
            .map_err(|error| PolicyError::Malformed(error.to_string()))?;
        if file.api_version != API_VERSION || file.kind != KIND {
            let found = format!("{}, Kind={}", file.api_version, file.kind);
            return Err(PolicyError::Kind(found));
        }
        let rules = file.rules.unwrap_or_default();
        if rules.is_empty() {
            return Err(PolicyError::NoRules);
        }
        for (at, rule) in rules.iter().enumerate() {
            rule.check()
                .map_err(|(field, why)| PolicyError::Rule { at, field, why })?;
        }
        Ok(Self {
            rules,
            omit_stages: file.omit_stages,
            omit_managed_fields: file.omit_managed_fields,
        })
    }

    /// What is logged of a request; without a user it is one of somebody who could not say who he is.
    pub(super) fn decide(&self, user: Option<&User>, verb: &str, asked: &Subject) -> Decision {
        let matching = self.rules.iter().find(|r| r.matches(user, verb, asked));
        let Some(rule) = matching else {
            return Decision::default();
        };
        let stages = self.omit_stages.iter().chain(&rule.omit_stages);
        Decision {
            level: rule.level,
            omit_stages: stages.copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let urls = "nonResourceURLs";
        let of_objects = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_objects && !self.non_resource_urls.is_empty() {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            return Err((urls, why.to_owned()));
        }
        for url in &self.non_resource_urls {
            if url == "*" {
                continue;
            }
            if !url.starts_with('/') {
                let why = format!(
                    "Invalid value: {url:?}: non-resource URL rules must begin with a '/' character"
                );
                return Err((urls, why));
            }
            if url.trim_end_matches('*').contains('*') || url.ends_with("**") {
                let why = format!(
                    "Invalid value: {url:?}: non-resource URL wildcards '*' must be the final character of the rule"
                );
                return Err((urls, why));
            }
        }
        for group in &self.resources {
            if group.group.contains('/') || group.group.contains('*') {
                let why = format!(
                    "Invalid value: {:?}: must be the name of a group, without a version",
                    group.group
                );
                return Err(("resources", why));
            }
            if !group.resource_names.is_empty() && group.resources.is_empty() {
                let why = "Invalid value: using resourceNames requires at least one resource";
                return Err(("resources", why.to_owned()));
            }
        }
        Ok(())
    }

    fn matches(&self, user: Option<&User>, verb: &str, asked: &Subject) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|item| item == value);
        if !self.users.is_empty() && !user.is_some_and(|user| has(&self.users, &user.name)) {
            return false;
        }
        let in_group = |user: &User| {
            user.groups
                .iter()
                .any(|group| has(&self.user_groups, group))
        };
        if !self.user_groups.is_empty() && !user.is_some_and(in_group) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, verb) {
            return false;
        }
        match asked {
            Subject::Resource { .. } if !self.non_resource_urls.is_empty() => false,
            Subject::Resource { namespace, .. } => {
                (self.namespaces.is_empty() || has(&self.namespaces, namespace))
                    && (self.resources.is_empty()
                        || self.resources.iter().any(|g| g.matches(asked)))
            }
            Subject::Path(_) if !self.resources.is_empty() || !self.namespaces.is_empty() => false,
            Subject::Path(path) => {
                let urls = &self.non_resource_urls;
                urls.is_empty() || urls.iter().any(|url| is_url(url, path))
            }
        }
    }
}

fn is_url(url: &str, path: &str) -> bool {
    match url.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => url == path,
    }
}

impl GroupResources {
    fn matches(&self, asked: &Subject) -> bool {
        let Subject::Resource {
            group,
            resource,
            subresource,
            name,
            ..
        } = asked
        else {
            return false;
        };
        if self.group != *group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.contains(name) {
            return false;
        }
        self.resources.iter().any(|wanted| {
            if wanted == "*" {
                return true;
            }
            match wanted.split_once('/') {
                None => wanted == resource && subresource.is_empty(),
                Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
                // As on the stock server, it is the resource itself as well.
                Some((own, "*")) => own == resource,
                Some((own, sub)) => own == resource && sub == subresource,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &str) -> Result<Policy, PolicyError> {
        Policy::parse(&format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}"
        ))
    }

    fn of(resource: &str, namespace: &str, name: &str) -> Subject {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        Subject::Resource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn level(rule: &str, verb: &str, asked: &Subject) -> Level {
        let user = User {
            name: "jane".to_owned(),
            groups: vec!["devs".to_owned()],
            ..User::default()
        };
        let policy = policy(&format!("- level: Metadata\n{rule}")).unwrap();
        policy.decide(Some(&user), verb, asked).level
    }

    #[test]
    fn rules_match_as_on_the_stock_server() {
        let pod = of("pods", "ns", "a");
        let log = of("pods/log", "ns", "a");
        let node = of("nodes", "", "n");
        let deployment = of("deployments.apps", "ns", "d");
        let path = Subject::Path("/healthz/etcd".to_owned());
        for (rule, verb, asked, matches) in [
            ("", "get", &pod, true),
            ("  users: [jane]", "get", &pod, true),
            ("  users: [joe]", "get", &pod, false),
            ("  userGroups: [devs]", "get", &pod, true),
            ("  userGroups: [ops]", "get", &pod, false),
            ("  verbs: [get]", "get", &pod, true),
            ("  verbs: [list]", "get", &pod, false),
            ("  namespaces: [ns]", "get", &pod, true),
            ("  namespaces: [other]", "get", &pod, false),
            ("  namespaces: [\"\"]", "get", &node, true),
            ("  namespaces: [\"\"]", "get", &pod, false),
            ("  namespaces: [ns]", "get", &path, false),
            ("  resources: [{group: \"\"}]", "get", &log, true),
            ("  resources: [{group: apps}]", "get", &pod, false),
            ("  resources: [{group: apps}]", "get", &deployment, true),
            ("  resources: [{resources: [pods]}]", "get", &pod, true),
            ("  resources: [{resources: [pods]}]", "get", &log, false),
            ("  resources: [{resources: [pods/log]}]", "get", &log, true),
            ("  resources: [{resources: [pods/*]}]", "get", &log, true),
            ("  resources: [{resources: [\"*/log\"]}]", "get", &log, true),
            (
                "  resources: [{resources: [\"*/log\"]}]",
                "get",
                &pod,
                false,
            ),
            ("  resources: [{resources: [\"*\"]}]", "get", &log, true),
            (
                "  resources: [{resources: [\"*\"]}]",
                "get",
                &deployment,
                false,
            ),
            (
                "  resources: [{resources: [pods], resourceNames: [a]}]",
                "get",
                &pod,
                true,
            ),
            (
                "  resources: [{resources: [pods], resourceNames: [b]}]",
                "get",
                &pod,
                false,
            ),
            ("  nonResourceURLs: [\"/healthz*\"]", "get", &path, true),
            ("  nonResourceURLs: [/healthz]", "get", &path, false),
            ("  nonResourceURLs: [\"*\"]", "get", &path, true),
            ("  nonResourceURLs: [\"*\"]", "get", &pod, false),
        ] {
            let wanted = if matches {
                Level::Metadata
            } else {
                Level::None
            };
            assert_eq!(level(rule, verb, asked), wanted, "{rule} {verb} {asked:?}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let text = "- level: None\n  verbs: [watch]\n- level: Request\n  omitManagedFields: true\n  omitStages: [Panic]\n";
        let policy = Policy::parse(&format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n{text}"
        ))
        .unwrap();
        let pod = of("pods", "ns", "a");
        assert_eq!(policy.decide(None, "watch", &pod).level, Level::None);
        let decided = policy.decide(None, "get", &pod);
        let stages = vec![Stage::RequestReceived, Stage::Panic];
        assert_eq!(
            decided,
            Decision {
                level: Level::Request,
                omit_stages: stages,
                omit_managed_fields: true
            }
        );
    }

    #[test]
    fn a_user_that_nobody_knows_matches_no_rule_of_users() {
        let pod = of("pods", "ns", "a");
        for rule in ["  users: [jane]", "  userGroups: [devs]"] {
            let policy = policy(&format!("- level: Metadata\n{rule}")).unwrap();
            assert_eq!(policy.decide(None, "get", &pod).level, Level::None);
        }
    }

    #[test]
    fn what_could_not_be_followed_is_refused() {
        for (rules, says) in [
            ("", "0 rules"),
            ("- level: Everything", "failed decoding"),
            ("- users: [a]", "failed decoding"),
            ("- level: Metadata\n  user: [a]", "failed decoding"),
            (
                "- level: Metadata\n  omitStages: [Never]",
                "failed decoding",
            ),
            (
                "- level: Metadata\n  namespaces: [a]\n  nonResourceURLs: [/x]",
                "both",
            ),
            ("- level: Metadata\n  nonResourceURLs: [x]", "begin with"),
            (
                "- level: Metadata\n  nonResourceURLs: [\"/*/x\"]",
                "final character",
            ),
            (
                "- level: Metadata\n  resources: [{resourceNames: [a]}]",
                "at least one resource",
            ),
            (
                "- level: Metadata\n  resources: [{group: apps/v1}]",
                "without a version",
            ),
        ] {
            let error = policy(rules).unwrap_err().to_string();
            assert!(error.contains(says), "{rules}: {error}");
        }
        let other =
            Policy::parse("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]");
        assert!(matches!(other, Err(PolicyError::Kind(_))));
    }
}
