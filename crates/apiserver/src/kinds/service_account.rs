//! core/v1 ServiceAccount.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::json;

use super::CREATE;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, items, name};
use crate::registry::{Gvk, Scope, Subresource, SubresourceHandler};

impl Kind for ServiceAccount {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["sa"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: false,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;
    const SHOWS_DELETED: bool = true;

    fn subresources() -> Vec<Subresource> {
        vec![Subresource::new(
            "token",
            Gvk::of::<TokenRequest>(),
            CREATE,
            SubresourceHandler::Token,
        )]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Secrets", "string", 0),
                ("Age", "string", 0),
            ],
            |account, now| {
                vec![
                    name(account),
                    json!(items(account, "/secrets").len()),
                    created_ago(account, now),
                ]
            },
        )
    }
}
