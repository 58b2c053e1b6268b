//! resource.k8s.io/v1 ResourceSlice.

use k8s_openapi::api::resource::v1::ResourceSlice;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name, text, unset};
use crate::registry::{Scope, Subresource};

impl Kind for ResourceSlice {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[
        FieldLabel::new("spec.nodeName", "/spec/nodeName"),
        FieldLabel::new("spec.driver", "/spec/driver"),
    ];
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
            &[
                ("Name", "string", 0),
                ("Node", "string", 0),
                ("Driver", "string", 0),
                ("Pool", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    unset(text(object, "/spec/nodeName")),
                    object["spec"]["driver"].clone(),
                    object["spec"]["pool"]["name"].clone(),
                    created_ago(object, now),
                ]
            },
        )
    }
}
