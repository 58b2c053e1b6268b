//! CustomResourceDefinitions themselves.

mod conversion;
mod versions;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};
use berth_rules::kinds::api_group;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition,
};
use serde::{Deserialize, Serialize};

use berth_rules::Rules;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, Resource};
use serde_json::json;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, name, text};
use crate::registry::{Scope as RowScope, Subresource};
use crate::strategy::Cluster;

/// A definition with its rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Definition(pub(crate) CustomResourceDefinition);

impl Resource for Definition {
    const API_VERSION: &'static str = CustomResourceDefinition::API_VERSION;
    const GROUP: &'static str = CustomResourceDefinition::GROUP;
    const KIND: &'static str = CustomResourceDefinition::KIND;
    const VERSION: &'static str = CustomResourceDefinition::VERSION;
    const URL_PATH_SEGMENT: &'static str = CustomResourceDefinition::URL_PATH_SEGMENT;
    type Scope = ClusterResourceScope;
}

impl Metadata for Definition {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

impl Kind for Definition {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: RowScope = RowScope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &["crd", "crds"];
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.0.spec != old.0.spec);
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: false,
    };
    // Its objects go first.
    const DELETION: Deletion<Self::Object> = Deletion::Finalized {
        pending: |definition| definition.0.metadata.deletion_timestamp.is_none(),
        mark: terminate,
    };

    fn subresources() -> Vec<Subresource> {
        vec![Subresource::status::<Self>()]
    }

    fn printer() -> Printer {
        Printer::new(
            &[("Name", "string", 0), ("Created At", "date", 0)],
            |crd, _| vec![name(crd), json!(text(crd, "/metadata/creationTimestamp"))],
        )
    }

    fn warnings(definition: &Self, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(versions::warnings(&definition.0))
    }
}

impl Rules for Definition {
    fn default(&mut self) {
        let names = &mut self.0.spec.names;
        if names.singular.as_deref().unwrap_or("").is_empty() {
            names.singular = Some(names.kind.to_lowercase());
        }
        if names.list_kind.as_deref().unwrap_or("").is_empty() {
            names.list_kind = Some(format!("{}List", names.kind));
        }
        let conversion = self.0.spec.conversion.get_or_insert_default();
        if conversion.strategy.is_empty() {
            "None".clone_into(&mut conversion.strategy);
        }
        conversion::default(conversion);
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.0.status = None;
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.0.status.clone_from(&old.0.status);
    }

    fn prepare_status(&mut self, old: &Self) {
        self.0.spec.clone_from(&old.0.spec);
        // As on the stock server: who may write the status approves no group and takes no finalizer away.
        let (metadata, was) = (&mut self.0.metadata, &old.0.metadata);
        metadata.labels.clone_from(&was.labels);
        metadata.annotations.clone_from(&was.annotations);
        metadata.finalizers.clone_from(&was.finalizers);
        metadata.owner_references.clone_from(&was.owner_references);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.0.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(body(&self.0, None));
        let (spec, annotations) = (&self.0.spec, self.0.metadata.annotations.as_ref());
        errors.extend(api_group::validate_group(&spec.group));
        errors.extend(api_group::validate_approval(&spec.group, annotations, None));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.0.metadata, &old.0.metadata);
        errors.extend(body(&self.0, Some(&old.0)));
        let annotations = |of: &Self| of.0.metadata.annotations.clone();
        let before = api_group::approval(&old.0.spec.group, annotations(old).as_ref());
        let group = &self.0.spec.group;
        let after = annotations(self);
        errors.extend(api_group::validate_approval(
            group,
            after.as_ref(),
            Some(before),
        ));
        let spec = FieldPath::new("spec");
        meta::immutable(
            &mut errors,
            &spec.child("group"),
            &self.0.spec.group,
            &old.0.spec.group,
        );
        meta::immutable(
            &mut errors,
            &spec.child("scope"),
            &self.0.spec.scope,
            &old.0.spec.scope,
        );
        meta::immutable(
            &mut errors,
            &spec.child("names").child("plural"),
            &self.0.spec.names.plural,
            &old.0.spec.names.plural,
        );
        errors
    }
}

/// The finalizer that is on a definition while its objects go.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Shows that the deletion has begun.
fn terminate(definition: &mut Definition) {
    let metadata = &mut definition.0.metadata;
    let finalizers = metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
        finalizers.push(CLEANUP.to_owned());
    }
    let condition = CustomResourceDefinitionCondition {
        type_: "Terminating".to_owned(),
        status: "True".to_owned(),
        reason: Some("InstanceDeletionPending".to_owned()),
        message: Some(
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
                .to_owned(),
        ),
        last_transition_time: metadata.deletion_timestamp.clone(),
        observed_generation: None,
    };
    let status = definition.0.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "Terminating");
    conditions.push(condition);
}

/// `old`: the definition before an update; what was taken before and hasn't changed stays.
fn body(
    definition: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &definition.spec;
    let at = FieldPath::new("spec");
    let name = definition.metadata.name.as_deref().unwrap_or("");
    if name != format!("{}.{}", spec.names.plural, spec.group) {
        errors.push(FieldError::invalid(
            &FieldPath::new("metadata").child("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    errors.extend(api_group::validate_names(&spec.names));
    for (field, value) in [
        ("scope", &spec.scope),
        ("names.plural", &spec.names.plural),
        ("names.kind", &spec.names.kind),
    ] {
        if value.is_empty() {
            errors.push(FieldError::required(&at.child(field), ""));
        }
    }
    if !spec.scope.is_empty() && !matches!(spec.scope.as_str(), "Cluster" | "Namespaced") {
        errors.push(FieldError::not_supported(
            &at.child("scope"),
            &spec.scope,
            &["Cluster", "Namespaced"],
        ));
    }
    if spec.versions.iter().filter(|v| v.storage).count() != 1 {
        errors.push(FieldError::invalid(
            &at.child("versions"),
            spec.versions.len(),
            "must have exactly one version marked as storage version",
        ));
    }
    if spec.preserve_unknown_fields == Some(true)
        && old.is_none_or(|old| old.spec.preserve_unknown_fields != Some(true))
    {
        errors.push(FieldError::invalid(
            &at.child("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
    errors.extend(versions::validate(definition, old));
    errors.extend(conversion::validate(spec, &at));
    errors
}
