//! admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration and MutatingWebhookConfiguration.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations,
    ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::admission_rules;
use crate::Rules;
use crate::values::{default_text, is_full, one_of, one_of_if_set, required, text};
use berth_core::meta::{self, Scope};

const MAX_SECONDS: i32 = 30;

/// What the two kinds of webhook have in common.
struct Webhook<'a> {
    name: &'a str,
    versions: &'a [String],
    client: &'a WebhookClientConfig,
    failure_policy: Option<&'a str>,
    match_policy: Option<&'a str>,
    match_conditions: &'a [MatchCondition],
    selectors: [Option<&'a LabelSelector>; 2],
    rules: &'a [RuleWithOperations],
    side_effects: &'a str,
    seconds: Option<i32>,
    reinvocation: Option<&'a str>,
}

macro_rules! webhooks {
    ($($configuration:ident $webhook:ident $defaults:expr, $reinvocation:expr;)*) => {
        $(impl Rules for $configuration {
            fn default(&mut self) {
                for webhook in self.webhooks.iter_mut().flatten() {
                    default_text(&mut webhook.failure_policy, "Fail");
                    default_text(&mut webhook.match_policy, "Equivalent");
                    webhook.namespace_selector.get_or_insert_default();
                    webhook.object_selector.get_or_insert_default();
                    webhook.timeout_seconds.get_or_insert(10);
                    if let Some(service) = &mut webhook.client_config.service {
                        service.port.get_or_insert(443);
                    }
                    for rule in webhook.rules.iter_mut().flatten() {
                        default_text(&mut rule.scope, "*");
                    }
                    let more: fn(&mut $webhook) = $defaults;
                    more(webhook);
                }
            }

            fn validate(&self) -> Vec<FieldError> {
                let mut errors =
                    meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
                let reinvocation: fn(&$webhook) -> Option<&str> = $reinvocation;
                let webhooks = self.webhooks.iter().flatten().map(|webhook| Webhook {
                    name: &webhook.name,
                    versions: &webhook.admission_review_versions,
                    client: &webhook.client_config,
                    failure_policy: webhook.failure_policy.as_deref(),
                    match_policy: webhook.match_policy.as_deref(),
                    match_conditions: webhook.match_conditions.as_deref().unwrap_or_default(),
                    selectors: [
                        webhook.namespace_selector.as_ref(),
                        webhook.object_selector.as_ref(),
                    ],
                    rules: webhook.rules.as_deref().unwrap_or_default(),
                    side_effects: &webhook.side_effects,
                    seconds: webhook.timeout_seconds,
                    reinvocation: reinvocation(webhook),
                });
                errors.extend(validate_all(webhooks));
                bounded(errors)
            }

            fn validate_update(&self, old: &Self) -> Vec<FieldError> {
                let mut errors = meta::validate_update(&self.metadata, &old.metadata);
                errors.extend(self.validate());
                bounded(errors)
            }
        })*
    };
}

webhooks!(
    ValidatingWebhookConfiguration ValidatingWebhook |_| {}, |_| None;
    MutatingWebhookConfiguration MutatingWebhook
        |webhook| default_text(&mut webhook.reinvocation_policy, "Never"),
        |webhook| webhook.reinvocation_policy.as_deref();
);

fn validate_all<'a>(webhooks: impl Iterator<Item = Webhook<'a>>) -> Vec<FieldError> {
    let at = FieldPath::new("webhooks");
    let mut errors = Vec::new();
    let mut before = HashSet::new();
    for (i, webhook) in webhooks.enumerate() {
        let at = at.index(i);
        validate(&mut errors, &webhook, &at);
        if !before.insert(webhook.name) {
            errors.push(FieldError::duplicate(&at.child("name"), webhook.name));
        }
    }
    errors
}

fn validate(errors: &mut Vec<FieldError>, webhook: &Webhook<'_>, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    fully_qualified(errors, webhook.name, &at.child("name"));
    for (i, rule) in webhook.rules.iter().enumerate() {
        admission_rules::validate(
            errors,
            &admission_rules::of(rule),
            &at.child("rules").index(i),
        );
    }
    let policies = ["Fail", "Ignore"];
    one_of_if_set(
        errors,
        &at.child("failurePolicy"),
        webhook.failure_policy,
        &policies,
    );
    let policies = ["Equivalent", "Exact"];
    one_of_if_set(
        errors,
        &at.child("matchPolicy"),
        webhook.match_policy,
        &policies,
    );
    one_of(
        errors,
        &at.child("sideEffects"),
        webhook.side_effects,
        &["None", "NoneOnDryRun"],
    );
    let policies = ["IfNeeded", "Never"];
    one_of_if_set(
        errors,
        &at.child("reinvocationPolicy"),
        webhook.reinvocation,
        &policies,
    );
    if let Some(seconds) = webhook.seconds.filter(|s| !(1..=MAX_SECONDS).contains(s)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(
            &at.child("timeoutSeconds"),
            seconds,
            why,
        ));
    }
    let versions_at = at.child("admissionReviewVersions");
    if webhook.versions.is_empty() {
        let why = "must specify one of v1, v1beta1";
        errors.push(FieldError::required(&versions_at, why));
    } else if !webhook
        .versions
        .iter()
        .any(|v| matches!(v.as_str(), "v1" | "v1beta1"))
    {
        let why = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(&versions_at, webhook.versions, why));
    }
    for (selector, name) in webhook
        .selectors
        .iter()
        .zip(["namespaceSelector", "objectSelector"])
    {
        if let Some(selector) = selector {
            errors.extend(meta::validate_label_selector(selector, &at.child(name)));
        }
    }
    admission_rules::match_conditions(
        errors,
        webhook.match_conditions,
        &at.child("matchConditions"),
    );
    client_config(errors, webhook.client, &at.child("clientConfig"));
}

/// A name of at least three parts.
fn fully_qualified(errors: &mut Vec<FieldError>, name: &str, at: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
        return;
    }
    meta::extend_invalid(errors, at, name, names::dns1123_subdomain(name));
    if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(at, name, why));
    }
}

/// How a webhook is reached: by URL or by Service.
pub fn client_config(errors: &mut Vec<FieldError>, client: &WebhookClientConfig, at: &FieldPath) {
    match (&client.url, &client.service) {
        (Some(url), None) => url_errors(errors, url, &at.child("url")),
        (None, Some(service)) => service_errors(errors, service, &at.child("service")),
        (Some(_), Some(_)) | (None, None) => {
            let why = "exactly one of url or service is required";
            errors.push(FieldError::required(at, why));
        }
    }
}

fn url_errors(errors: &mut Vec<FieldError>, url: &str, at: &FieldPath) {
    let form = "desired format: https://host[/path]";
    let Some(rest) = url.strip_prefix("https://") else {
        let why = format!("'https' is the only allowed URL scheme; {form}");
        errors.push(FieldError::invalid(at, url, why));
        return;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        let why = format!("host must be specified; {form}");
        errors.push(FieldError::invalid(at, url, why));
    }
    if authority.contains('@') {
        let why = "user information is not permitted in the URL";
        errors.push(FieldError::invalid(at, url, why));
    }
    if rest.contains('#') {
        let why = "fragments are not permitted in the URL";
        errors.push(FieldError::invalid(at, url, why));
    }
    if rest.contains('?') {
        let why = "query parameters are not permitted in the URL";
        errors.push(FieldError::invalid(at, url, why));
    }
}

fn service_errors(errors: &mut Vec<FieldError>, service: &ServiceReference, at: &FieldPath) {
    required(errors, &at.child("name"), &service.name);
    required(errors, &at.child("namespace"), &service.namespace);
    if let Some(port) = service.port {
        let wrong = names::port_number(i64::from(port)).into_iter();
        let at = at.child("port");
        errors.extend(
            wrong.map(|why| FieldError::invalid(&at, port, format!("port is not valid: {why}"))),
        );
    }
    let (path, at) = (text(&service.path), at.child("path"));
    if path.is_empty() || path == "/" {
        return;
    }
    if !path.starts_with('/') {
        errors.push(FieldError::invalid(&at, path, "must start with a '/'"));
    }
    let inner = path.trim_start_matches('/').trim_end_matches('/');
    for (i, segment) in inner.split('/').enumerate() {
        for why in names::dns1123_subdomain(segment) {
            errors.push(FieldError::invalid(
                &at,
                path,
                format!("segment[{i}]: {why}"),
            ));
        }
    }
}
