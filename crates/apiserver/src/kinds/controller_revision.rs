//! apps/v1 ControllerRevision.

use k8s_openapi::api::apps::v1::ControllerRevision;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, controller, created_ago, name, number};
use crate::registry::{Scope, Subresource};

impl Kind for ControllerRevision {
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

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Controller", "string", 0),
                ("Revision", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    controller(object),
                    number(object, "/revision"),
                    created_ago(object, now),
                ]
            },
        )
    }
}
