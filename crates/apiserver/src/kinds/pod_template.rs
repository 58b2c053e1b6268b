//! core/v1 PodTemplate.

use k8s_openapi::api::core::v1::PodTemplate;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, containers, images, labels_at, name};
use crate::registry::{Scope, Subresource};

/// Where the pods' spec is.
const POD: &str = "/template/spec";

impl Kind for PodTemplate {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.template != old.template);
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
            &[
                ("Name", "string", 0),
                ("Containers", "string", 0),
                ("Images", "string", 0),
                ("Pod Labels", "string", 0),
            ],
            |object, _| {
                vec![
                    name(object),
                    containers(object, POD),
                    images(object, POD),
                    labels_at(object, "/template/metadata/labels"),
                ]
            },
        )
    }
}
