//! storage.k8s.io/v1 CSIDriver.

use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::{Value, json};

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, items, name, text, unset};
use crate::registry::{Scope, Subresource};

impl Kind for CSIDriver {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
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
        let flag =
            |driver: &Value, field: &str| json!(driver["spec"][field].as_bool().unwrap_or(false));
        Printer::new(
            &[
                ("Name", "string", 0),
                ("AttachRequired", "boolean", 0),
                ("PodInfoOnMount", "boolean", 0),
                ("StorageCapacity", "boolean", 0),
                ("TokenRequests", "string", 0),
                ("RequiresRepublish", "boolean", 0),
                ("Modes", "string", 0),
                ("Age", "string", 0),
            ],
            move |driver, now| {
                let requests = items(driver, "/spec/tokenRequests").iter();
                let requests: Vec<&str> = requests.map(|r| text(r, "/audience")).collect();
                let requests = requests.join(",");
                let modes = items(driver, "/spec/volumeLifecycleModes").iter();
                let modes: Vec<&str> = modes.filter_map(Value::as_str).collect();
                vec![
                    name(driver),
                    flag(driver, "attachRequired"),
                    flag(driver, "podInfoOnMount"),
                    flag(driver, "storageCapacity"),
                    unset(&requests),
                    flag(driver, "requiresRepublish"),
                    json!(modes.join(",")),
                    created_ago(driver, now),
                ]
            },
        )
    }
}
