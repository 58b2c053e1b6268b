//! `spec.conversion` of a definition.

use berth_api::field::{FieldError, FieldPath};
use berth_rules::kinds::webhook_configuration::client_config;
use k8s_openapi::api::admissionregistration::v1::{ServiceReference, WebhookClientConfig};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinitionSpec,
};

/// The port of a Service that is named without one.
pub(super) fn default(conversion: &mut CustomResourceConversion) {
    let webhook = conversion.webhook.as_mut();
    let service = webhook
        .and_then(|webhook| webhook.client_config.as_mut())
        .and_then(|config| config.service.as_mut());
    if let Some(service) = service {
        service.port.get_or_insert(443);
    }
}

/// What is wrong with it.
pub(super) fn validate(spec: &CustomResourceDefinitionSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(conversion) = &spec.conversion else {
        return errors;
    };
    let at = at.child("conversion");
    let webhook_at = at.child("webhook");
    let webhook = match (conversion.strategy.as_str(), &conversion.webhook) {
        ("None", None) => return errors,
        ("None", Some(_)) => {
            let why = "should not be set when strategy is not set to Webhook";
            errors.push(FieldError::forbidden(&webhook_at, why));
            return errors;
        }
        ("Webhook", None) => {
            let why = "required when strategy is set to Webhook";
            errors.push(FieldError::required(&webhook_at.child("clientConfig"), why));
            return errors;
        }
        ("Webhook", Some(webhook)) => webhook,
        (other, _) => {
            let known = ["None", "Webhook"];
            errors.push(FieldError::not_supported(
                &at.child("strategy"),
                other,
                &known,
            ));
            return errors;
        }
    };
    if spec.preserve_unknown_fields == Some(true) {
        let why = "must be false if strategy is set to Webhook";
        errors.push(FieldError::invalid(&at.child("strategy"), "Webhook", why));
    }
    match &webhook.client_config {
        None => {
            let why = "required when strategy is set to Webhook";
            errors.push(FieldError::required(&webhook_at.child("clientConfig"), why));
        }
        Some(config) => {
            let service = config.service.as_ref().map(|service| ServiceReference {
                name: service.name.clone(),
                namespace: service.namespace.clone(),
                path: service.path.clone(),
                port: service.port,
            });
            let same = WebhookClientConfig {
                ca_bundle: config.ca_bundle.clone(),
                service,
                url: config.url.clone(),
            };
            client_config(&mut errors, &same, &webhook_at.child("clientConfig"));
        }
    }
    let versions_at = webhook_at.child("conversionReviewVersions");
    let versions = &webhook.conversion_review_versions;
    if versions.is_empty() {
        errors.push(FieldError::required(&versions_at, ""));
    } else if !versions
        .iter()
        .any(|v| matches!(v.as_str(), "v1" | "v1beta1"))
    {
        let why = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(&versions_at, versions, why));
    }
    errors
}
