//! coordination.k8s.io/v1 Lease.

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;

use super::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name, text};
use crate::registry::{Scope, Subresource};
use crate::strategy::FieldLabel;

impl Kind for Lease {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: true,
        unconditional: false,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Holder", "string", 0),
                ("Age", "string", 0),
            ],
            |lease, now| {
                vec![
                    name(lease),
                    json!(text(lease, "/spec/holderIdentity")),
                    created_ago(lease, now),
                ]
            },
        )
    }
}
