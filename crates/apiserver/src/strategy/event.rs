//! Events: events.k8s.io/v1 and core/v1 are two views of the same objects.

use berth_api::status::ApiError;
use k8s_openapi::api::events::v1::Event;
use serde_json::Value;

use super::FieldLabel;
use super::typed::decode_as;

const CORE: &str = "v1";
const EVENTS: &str = "events.k8s.io/v1";

/// Field labels of the core group's events.
pub const LABELS: &[FieldLabel] = &[
    label("involvedObject.kind", "/involvedObject/kind"),
    label("involvedObject.namespace", "/involvedObject/namespace"),
    label("involvedObject.name", "/involvedObject/name"),
    label("involvedObject.uid", "/involvedObject/uid"),
    label("involvedObject.apiVersion", "/involvedObject/apiVersion"),
    label(
        "involvedObject.resourceVersion",
        "/involvedObject/resourceVersion",
    ),
    label("involvedObject.fieldPath", "/involvedObject/fieldPath"),
    label("reason", "/reason"),
    label("reportingComponent", "/reportingComponent"),
    label("source", "/source/component"),
    label("type", "/type"),
    label("regarding.kind", "/involvedObject/kind"),
    label("regarding.namespace", "/involvedObject/namespace"),
    label("regarding.name", "/involvedObject/name"),
    label("regarding.uid", "/involvedObject/uid"),
    label("reportingController", "/reportingComponent"),
];

const fn label(label: &'static str, pointer: &'static str) -> FieldLabel {
    FieldLabel {
        label,
        pointer,
        absent: "",
    }
}

/// Reads an event of events.k8s.io.
///
/// # Errors
/// `BadRequest` for what does not fit the type.
pub fn decode_events(
    _version: &str,
    object: &Value,
    unknown: &mut Vec<String>,
) -> Result<Value, ApiError> {
    decode_as::<Event>(object, unknown)
}

/// Fields that are named differently: core, events.k8s.io.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// [`crate::registry::Convert`] of both rows.
///
/// # Errors
/// None; the signature is the table's.
pub fn convert(object: &mut Value, from: &str, to: &str) -> Result<(), ApiError> {
    let Some(map) = object.as_object_mut() else {
        return Ok(());
    };
    for (core, events) in RENAMED {
        let (old, new) = match (from, to) {
            (CORE, EVENTS) => (core, events),
            (EVENTS, CORE) => (events, core),
            _ => return Ok(()),
        };
        if let Some(value) = map.remove(old) {
            map.insert(new.to_owned(), value);
        }
    }
    map.insert("apiVersion".to_owned(), Value::String(to.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_views_convert_without_loss() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "m", "reason": "r",
            "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "c"}, "count": 3,
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "reportingComponent": "c"});
        let mut view = core.clone();
        convert(&mut view, CORE, EVENTS).unwrap();
        assert_eq!(view["regarding"]["name"], "p");
        assert_eq!(view["note"], "m");
        assert_eq!(view["deprecatedCount"], 3);
        convert(&mut view, EVENTS, CORE).unwrap();
        assert_eq!(view, core);
    }
}
