//! One webhook of a configuration.

use std::sync::Arc;
use std::time::Duration;

use berth_api::status::ApiError;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::super::Attributes;
use super::super::cel::{Checks, Conditions, Facts, Matched, Sees, environment, off_worker};
use super::super::invocation::Invocation;
use super::super::matching::{Criteria, Lookup};
use super::super::policies::question;
use super::super::review::{self, ReviewVersion};
use crate::log_limit::LogLimit;
use crate::object::Object;
use crate::storage::Storage;
use crate::webhook::{ClientConfig, HookClient, Whereabouts};

/// Seconds that a webhook has, where its configuration does not say.
const SECONDS: i32 = 10;
const PORT: u16 = 443;
/// What match conditions see besides the request.
const SEES: Sees = Sees {
    params: false,
    authorizer: true,
};

/// One webhook.
pub(super) struct Hook {
    /// Its name, as clients are told.
    pub(super) name: String,
    /// Name of its configuration.
    pub(super) configuration: String,
    /// What sets it apart from all others of its plugin.
    pub(super) id: String,
    pub(super) criteria: Criteria,
    pub(super) conditions: Conditions,
    /// Whether the request goes on when there is no answer.
    pub(super) fails_open: bool,
    /// Whether it must not be asked about what won't be stored.
    pub(super) has_side_effects: bool,
    /// Whether it is to be asked again when the object changes after it.
    pub(super) if_needed: bool,
    pub(super) timeout: Duration,
    pub(super) version: Option<ReviewVersion>,
    pub(super) client: HookClient,
    pub(super) failures: LogLimit,
}

impl Hook {
    /// As what it knows the request's resource; none when it is not about the request.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub(super) async fn matches(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &Lookup,
    ) -> Result<Option<Invocation>, ApiError> {
        let Some(invocation) = self.criteria.matches(attributes, object, lookup)? else {
            return Ok(None);
        };
        if self.conditions.is_empty() {
            return Ok(Some(invocation));
        }
        let (object, old) = review::objects(attributes, &invocation, object).await?;
        let request = review::describe(attributes, &invocation, &object, &old);
        let checks = Checks {
            authorizer: &lookup.authorizer,
            user: attributes.user,
        };
        let facts = Facts {
            object: &object,
            old: &old,
            request: &request,
            params: &Value::Null,
            namespace: &Value::Null,
            authorizer: &checks,
            question: question(attributes),
        };
        match off_worker(|| self.conditions.evaluate(&facts)) {
            Matched::Yes => Ok(Some(invocation)),
            Matched::No => Ok(None),
            Matched::Failed(why) if self.fails_open => {
                if let Some(suppressed) = self.failures.pass() {
                    tracing::warn!(
                        webhook = self.name,
                        configuration = self.configuration,
                        suppressed,
                        "not asked (failurePolicy is Ignore): its match conditions failed: {why}"
                    );
                }
                Ok(None)
            }
            Matched::Failed(why) => Err(attributes.forbidden(why)),
        }
    }
}

/// Where a configuration says that a webhook is.
fn client_config(config: &WebhookClientConfig) -> ClientConfig {
    let place = match (&config.url, &config.service) {
        (None, Some(service)) => Whereabouts::Service {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            path: service.path.clone().unwrap_or_default(),
            port: service
                .port
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(PORT),
        },
        // Neither is never stored; an empty URL reaches nobody.
        (url, _) => Whereabouts::Url(url.clone().unwrap_or_default()),
    };
    ClientConfig {
        place,
        ca_bundle: config.ca_bundle.clone().map(|b| b.0).unwrap_or_default(),
    }
}

fn timeout(seconds: Option<i32>) -> Duration {
    let seconds = u64::try_from(seconds.unwrap_or(SECONDS)).unwrap_or(1);
    Duration::from_secs(seconds.clamp(1, 30))
}

fn has_side_effects(side_effects: &str) -> bool {
    !matches!(side_effects, "None" | "NoneOnDryRun")
}

fn id(metadata: &ObjectMeta, at: usize, name: &str) -> String {
    let configuration = metadata.name.as_deref().unwrap_or_default();
    format!("{configuration}/{name}/{at}")
}

macro_rules! hooks {
    ($(#[$doc:meta])* $name:ident $configuration:ident $if_needed:expr) => {
        $(#[$doc])*
        pub(super) fn $name(configuration: &$configuration, storage: &Arc<Storage>) -> Vec<Hook> {
            let metadata = &configuration.metadata;
            let webhooks = configuration.webhooks.iter().flatten().enumerate();
            let hooks = webhooks.map(|(at, hook)| Hook {
                name: hook.name.clone(),
                configuration: metadata.name.clone().unwrap_or_default(),
                id: id(metadata, at, &hook.name),
                criteria: Criteria::of_webhook(
                    hook.rules.as_deref().unwrap_or_default(),
                    hook.match_policy.as_deref(),
                    hook.namespace_selector.as_ref(),
                    hook.object_selector.as_ref(),
                ),
                conditions: Conditions::new(
                    &environment(SEES),
                    hook.match_conditions.as_deref().unwrap_or_default(),
                ),
                fails_open: hook.failure_policy.as_deref() == Some("Ignore"),
                has_side_effects: has_side_effects(&hook.side_effects),
                if_needed: $if_needed(hook),
                timeout: timeout(hook.timeout_seconds),
                version: ReviewVersion::choose(&hook.admission_review_versions),
                client: HookClient::new(&client_config(&hook.client_config), storage),
                failures: LogLimit::default(),
            });
            hooks.collect()
        }
    };
}

hooks!(
    /// The webhooks of a MutatingWebhookConfiguration.
    of_mutating MutatingWebhookConfiguration
    |hook: &MutatingWebhook| hook.reinvocation_policy.as_deref() == Some("IfNeeded")
);
hooks!(
    /// The webhooks of a ValidatingWebhookConfiguration.
    of_validating ValidatingWebhookConfiguration
    |_: &ValidatingWebhook| false
);
