//! resource.k8s.io/v1 DeviceClass.

use berth_api::status::ApiError;
use k8s_openapi::api::resource::v1::DeviceClass;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

impl Kind for DeviceClass {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.spec != old.spec);
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

    fn warnings(_new: &Self, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(vec!["nothing in this server allocates devices: DeviceClass has no effect without a scheduler and drivers that do".to_owned()])
    }
}
