//! Kinds that are asked and not stored: SubjectAccessReview and its siblings, TokenReview,
//! SelfSubjectReview, SelfSubjectRulesReview.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

use berth_api::{
    field::{FieldError, FieldPath},
    status::ApiError,
};

use crate::{
    attributes::{Action, Asked, Attributes, ResourceAttributes},
    authn::Authenticator,
    authz::{Authorizer, AuthzMode, Decision},
    registry::{Resource, Review},
    user::User,
};

/// Bytes of rules that a review of them answers with: who writes Roles in a namespace chooses how many there are.
const RULES_BYTES: usize = 1 << 20;

/// Answers creates of rows whose handler is `Review`.
pub struct Reviewer<'a> {
    /// Who may.
    pub(crate) authorizer: &'a Authorizer,
    /// Whose tokens are whose.
    pub(crate) authenticator: &'a Authenticator,
    /// Who asks.
    pub(crate) user: &'a User,
    /// The kind that is asked.
    pub(crate) row: &'a Resource,
}

impl Reviewer<'_> {
    /// The review with its status.
    ///
    /// # Errors
    /// `Invalid` or `BadRequest` for a bad question.
    pub fn answer(
        &self,
        asked: Review,
        namespace: &str,
        mut review: Value,
    ) -> Result<Value, ApiError> {
        let row = self.row;
        let spec = review.get("spec").cloned().unwrap_or_else(|| json!({}));
        let status = match asked {
            Review::SelfSubjectAccess => self.access(self.user, &question(row, &spec)?),
            Review::SubjectAccess => self.access(&asked_user(row, &spec)?, &question(row, &spec)?),
            Review::LocalSubjectAccess => {
                let question = question(row, &spec)?;
                if question.namespace != namespace {
                    let field = FieldPath::new("spec")
                        .child("resourceAttributes")
                        .child("namespace");
                    let detail = format!(
                        "namespace must be set and match metadata.namespace ({namespace:?})"
                    );
                    return Err(invalid(
                        row,
                        FieldError::invalid(&field, &question.namespace, detail),
                    ));
                }
                self.access(&asked_user(row, &spec)?, &question)
            }
            Review::SelfSubjectRules => self.rules(&spec)?,
            Review::SelfSubject => json!({"userInfo": user_info(self.user)}),
            Review::Token => self.token(&spec)?,
        };
        if review.get("metadata").is_none_or(Value::is_null) {
            review["metadata"] = json!({});
        }
        if let Some(meta) = review.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.entry("creationTimestamp").or_insert(Value::Null);
        }
        review["status"] = status;
        Ok(review)
    }

    fn access(&self, user: &User, question: &Question) -> Value {
        let (allowed, reason) = match self.authorizer.authorize(&question.about(user)) {
            Decision::Allow(why) => (true, why),
            Decision::NoOpinion(why) => (false, why),
        };
        let mut status = json!({"allowed": allowed});
        if !reason.is_empty() {
            status["reason"] = json!(reason);
        }
        status
    }

    fn rules(&self, spec: &Value) -> Result<Value, ApiError> {
        let namespace = text(spec, "namespace");
        if namespace.is_empty() {
            return Err(ApiError::BadRequest(format!(
                "no namespace on request: {} needs spec.namespace",
                self.row.kind
            )));
        }
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        if self.authorizer.mode() == AuthzMode::AlwaysAllow {
            resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
            paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        }
        let mut left = Some(RULES_BYTES);
        let rules = self.authorizer.rules_for(self.user, &namespace, |rule| {
            left = left.and_then(|left: usize| left.checked_sub(size_of_rule(rule)));
            left.is_some()
        });
        let too_many = left.is_none();
        for rule in rules {
            if rule.resources.as_ref().is_some_and(|r| !r.is_empty()) {
                let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
                if let Some(names) = rule.resource_names.filter(|n| !n.is_empty()) {
                    value["resourceNames"] = json!(names);
                }
                resources.push(value);
            }
            if let Some(urls) = rule.non_resource_urls.filter(|u| !u.is_empty()) {
                paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls}));
            }
        }
        let mut status =
            json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
        let mut missing = Vec::new();
        if self.authorizer.rules_are_incomplete(self.user) {
            missing.push("node authorizer does not support user rule resolution".to_owned());
        }
        if too_many {
            missing.push(format!(
                "there are too many rules to show: those of the first {RULES_BYTES} bytes are here"
            ));
        }
        if !missing.is_empty() {
            status["incomplete"] = json!(true);
            status["evaluationError"] = json!(missing.join(", "));
        }
        Ok(status)
    }

    fn token(&self, spec: &Value) -> Result<Value, ApiError> {
        let token = text(spec, "token");
        if token.is_empty() {
            return Err(ApiError::BadRequest(format!(
                "token is required for {} in authentication",
                self.row.kind
            )));
        }
        let asked: Vec<String> = spec
            .get("audiences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect();
        Ok(
            match self.authenticator.authenticate_token(&token, &asked) {
                Some(found) => {
                    let mut status = json!({"authenticated": true, "user": user_info(&found.user)});
                    if !found.audiences.is_empty() {
                        status["audiences"] = json!(found.audiences);
                    }
                    status
                }
                None => json!({"user": {}, "error": "[invalid bearer token, token lookup failed]"}),
            },
        )
    }
}

/// About the bytes that a rule takes in an answer.
fn size_of_rule(rule: &PolicyRule) -> usize {
    let lists = [
        Some(&rule.verbs),
        rule.api_groups.as_ref(),
        rule.resources.as_ref(),
        rule.resource_names.as_ref(),
        rule.non_resource_urls.as_ref(),
    ];
    let texts = lists.into_iter().flatten().flatten();
    texts.map(|text| text.len() + 3).sum::<usize>() + 64
}

fn text(value: &Value, name: &str) -> String {
    value
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn invalid(row: &Resource, error: FieldError) -> ApiError {
    ApiError::invalid(&row.group, &row.kind, "", vec![error])
}

/// A question of an access review.
#[derive(Default)]
struct Question {
    verb: String,
    group: String,
    version: String,
    namespace: String,
    resource: String,
    subresource: String,
    name: String,
    /// The path; none when it is about a resource.
    path: Option<String>,
}

impl Question {
    fn about<'a>(&'a self, user: &'a User) -> Attributes<'a> {
        let asked = match &self.path {
            Some(path) => Asked::Path {
                method: &self.verb,
                path,
            },
            None => Asked::Resource(ResourceAttributes {
                action: Action::from_name(&self.verb),
                group: &self.group,
                version: &self.version,
                namespace: &self.namespace,
                resource: &self.resource,
                subresource: &self.subresource,
                name: &self.name,
                selection: None,
            }),
        };
        Attributes { user, asked }
    }
}

/// What is asked: exactly one of resourceAttributes and nonResourceAttributes.
fn question(row: &Resource, spec: &Value) -> Result<Question, ApiError> {
    let part = |name: &str| spec.get(name).filter(|v| !v.is_null());
    match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(resource), None) => Ok(Question {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            version: text(resource, "version"),
            namespace: text(resource, "namespace"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            name: text(resource, "name"),
            path: None,
        }),
        (None, Some(path)) => Ok(Question {
            verb: text(path, "verb"),
            path: Some(text(path, "path")),
            ..Question::default()
        }),
        (Some(_), Some(_)) => {
            let field = FieldPath::new("spec").child("nonResourceAttributes");
            Err(invalid(
                row,
                FieldError::invalid(
                    &field,
                    "",
                    "cannot be specified in combination with resourceAttributes",
                ),
            ))
        }
        (None, None) => {
            let field = FieldPath::new("spec").child("resourceAttributes");
            Err(invalid(
                row,
                FieldError::invalid(
                    &field,
                    Value::Null,
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                ),
            ))
        }
    }
}

fn asked_user(row: &Resource, spec: &Value) -> Result<User, ApiError> {
    let strings = |value: Option<&Value>| -> Vec<String> {
        value
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let user = User {
        name: text(spec, "user"),
        uid: text(spec, "uid"),
        groups: strings(spec.get("groups")),
        extra: spec
            .get("extra")
            .and_then(Value::as_object)
            .map(|extra| {
                extra
                    .iter()
                    .map(|(k, v)| (k.clone(), strings(Some(v))))
                    .collect()
            })
            .unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let field = FieldPath::new("spec").child("user");
        return Err(invalid(
            row,
            FieldError::invalid(
                &field,
                "",
                "at least one of user or group must be specified",
            ),
        ));
    }
    Ok(user)
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra.iter().collect::<BTreeMap<_, _>>());
    }
    info
}
