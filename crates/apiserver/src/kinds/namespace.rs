//! core/v1 Namespace.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name, text};
use crate::registry::{Gvk, Scope, Subresource, SubresourceHandler};

impl Kind for Namespace {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &["ns"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[
        FieldLabel::new("status.phase", "/status/phase"),
        FieldLabel::new("name", "/metadata/name"),
    ];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Finalized {
        pending: has_finalizers,
        mark: terminate,
    };
    const SHOWS_DELETED: bool = true;

    fn subresources() -> Vec<Subresource> {
        vec![
            Subresource::new(
                "finalize",
                Gvk::of::<Self>(),
                &["update"],
                SubresourceHandler::Finalize,
            ),
            Subresource::status::<Self>(),
        ]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Status", "string", 0),
                ("Age", "string", 0),
            ],
            |ns, now| {
                vec![
                    name(ns),
                    json!(text(ns, "/status/phase")),
                    created_ago(ns, now),
                ]
            },
        )
    }
}

/// A namespace goes when nothing is left in it: `spec.finalizers`, which the namespace controller empties.
fn has_finalizers(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.iter().flat_map(|s| &s.finalizers);
    finalizers.flatten().next().is_some()
}

fn terminate(namespace: &mut Namespace) {
    namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
}
