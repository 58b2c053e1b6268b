//! core/v1 ResourceQuota.

use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::json;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name};
use crate::registry::{Scope, Subresource};

impl Kind for ResourceQuota {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["quota"];
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
        vec![Subresource::status::<Self>()]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Request", "string", 0),
                ("Limit", "string", 0),
                ("Age", "string", 0),
            ],
            |quota, now| {
                let (mut requests, mut limits) = (Vec::new(), Vec::new());
                for (resource, hard) in quota["status"]["hard"].as_object().into_iter().flatten() {
                    let used = quota["status"]["used"][resource].as_str().unwrap_or("0");
                    let shown = format!("{resource}: {used}/{}", hard.as_str().unwrap_or(""));
                    if resource.starts_with("limits.") {
                        limits.push(shown);
                    } else {
                        requests.push(shown);
                    }
                }
                vec![
                    name(quota),
                    json!(requests.join(", ")),
                    json!(limits.join(", ")),
                    created_ago(quota, now),
                ]
            },
        )
    }
}
