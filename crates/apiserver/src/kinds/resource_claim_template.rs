//! resource.k8s.io/v1 ResourceClaimTemplate.

use berth_api::status::ApiError;
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;

use super::device_access;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

impl Kind for ResourceClaimTemplate {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;
    const SHOWS_DELETED: bool = true;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        Printer::new(
            &[("Name", "string", 0), ("Age", "string", 0)],
            |object, now| vec![name(object), created_ago(object, now)],
        )
    }

    fn check(new: &Self, cluster: Cluster<'_>) -> Result<(), ApiError> {
        device_access::check(&new.metadata, &new.spec.spec, Self::PLURAL, cluster)
    }

    fn warnings(_new: &Self, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(vec!["nothing in this server allocates devices: ResourceClaimTemplate has no effect without a scheduler and drivers that do".to_owned()])
    }
}
