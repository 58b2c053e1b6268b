//! Events: events.k8s.io/v1 and core/v1 are two views of the same objects.

use std::sync::Arc;

use berth_api::status::ApiError;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::events::v1 as events;
use serde_json::{Value, json};

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates, decode_as};
use crate::printer::{NONE, Printer, age, name, text};
use crate::registry::{Convert, Gvk, Scope, Subresource};

const CORE: &str = "v1";
const EVENTS: &str = "events.k8s.io/v1";

/// Field labels of the core group's events.
const LABELS: &[FieldLabel] = &[
    FieldLabel::new("involvedObject.kind", "/involvedObject/kind"),
    FieldLabel::new("involvedObject.namespace", "/involvedObject/namespace"),
    FieldLabel::new("involvedObject.name", "/involvedObject/name"),
    FieldLabel::new("involvedObject.uid", "/involvedObject/uid"),
    FieldLabel::new("involvedObject.apiVersion", "/involvedObject/apiVersion"),
    FieldLabel::new(
        "involvedObject.resourceVersion",
        "/involvedObject/resourceVersion",
    ),
    FieldLabel::new("involvedObject.fieldPath", "/involvedObject/fieldPath"),
    FieldLabel::new("reason", "/reason"),
    FieldLabel::new("reportingComponent", "/reportingComponent"),
    FieldLabel::or_at("source", "/source/component", "/reportingComponent"),
    FieldLabel::new("type", "/type"),
    FieldLabel::new("regarding.kind", "/involvedObject/kind"),
    FieldLabel::new("regarding.namespace", "/involvedObject/namespace"),
    FieldLabel::new("regarding.name", "/involvedObject/name"),
    FieldLabel::new("regarding.uid", "/involvedObject/uid"),
    FieldLabel::new("regarding.apiVersion", "/involvedObject/apiVersion"),
    FieldLabel::new(
        "regarding.resourceVersion",
        "/involvedObject/resourceVersion",
    ),
    FieldLabel::new("regarding.fieldPath", "/involvedObject/fieldPath"),
    FieldLabel::new("reportingController", "/reportingComponent"),
];

impl Kind for Event {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["ev"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = LABELS;
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: true,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        columns()
    }
}

/// The events of events.k8s.io.
pub(crate) struct EventsEvent;

impl Kind for EventsEvent {
    type Object = Event;

    const GROUP: &'static str = "events.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["ev"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = LABELS;
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: true,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        columns()
    }

    fn decode(_version: &str, object: Value, unknown: &mut Vec<String>) -> Result<Event, ApiError> {
        let typed: events::Event = decode_as(&object, unknown)?;
        let mut object =
            serde_json::to_value(&typed).map_err(|e| ApiError::Internal(e.to_string()))?;
        convert(&mut object, EVENTS, CORE)?;
        decode_as(&object, unknown)
    }

    fn stored_as() -> Option<(&'static str, Gvk)> {
        Some(("core/events", Gvk::of::<Event>()))
    }

    fn convert() -> Option<Convert> {
        Some(Arc::new(convert))
    }
}

/// Columns of events, as the core group has them.
fn columns() -> Printer {
    Printer::new(
        &[
            ("Last Seen", "string", 0),
            ("Type", "string", 0),
            ("Reason", "string", 0),
            ("Object", "string", 0),
            ("Subobject", "string", 1),
            ("Source", "string", 1),
            ("Message", "string", 0),
            ("First Seen", "string", 1),
            ("Count", "string", 1),
            ("Name", "string", 1),
        ],
        event_cells,
    )
}

fn event_cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |pointers: &[&str]| {
        pointers
            .iter()
            .map(|p| text(event, p))
            .find(|t| !t.is_empty())
            .unwrap_or("")
            .to_owned()
    };
    let first = first_of(&["/firstTimestamp", "/eventTime"]);
    let last = match first_of(&["/series/lastObservedTime", "/lastTimestamp"]) {
        last if last.is_empty() => first.clone(),
        last => last,
    };
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    let object = format!("{kind}/{}", text(event, "/involvedObject/name"));
    let component = first_of(&["/source/component", "/reportingComponent"]);
    let host = first_of(&["/source/host", "/reportingInstance"]);
    let source = if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    };
    let count = event["series"]["count"]
        .as_i64()
        .or_else(|| event["count"].as_i64())
        .filter(|c| *c > 0)
        .unwrap_or(1);
    let seen = |at: &str| {
        if at.is_empty() {
            "<unknown>".to_owned()
        } else {
            age::since(at, now)
        }
    };
    vec![
        json!(seen(&last)),
        json!(text(event, "/type")),
        json!(text(event, "/reason")),
        json!(if kind.is_empty() { NONE } else { &object }),
        json!(text(event, "/involvedObject/fieldPath")),
        json!(source),
        json!(text(event, "/message").trim()),
        json!(seen(&first)),
        json!(count),
        name(event),
    ]
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

/// Renames the fields of an event, whichever of the two it is.
///
/// # Errors
/// None; the signature is [`crate::registry::Convert`]'s.
fn convert(object: &mut Value, from: &str, to: &str) -> Result<(), ApiError> {
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
