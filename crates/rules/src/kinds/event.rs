//! Events: leniently as core/v1 takes them, strictly as events.k8s.io/v1 does.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{Event as CoreEvent, ObjectReference};
use k8s_openapi::api::events::v1::Event;

use crate::Rules;
use berth_core::meta::{self, Scope};

const LIMIT: usize = 128;
const NOTE_LIMIT: usize = 1024;

/// The fields that both versions check.
struct View<'e> {
    namespace: &'e str,
    regarding_namespace: &'e str,
    has_time: bool,
    controller: (&'static str, &'e str),
    instance: &'e str,
    action: &'e str,
    reason: &'e str,
    note: &'e str,
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// What both versions demand; the errors have the names of core/v1's fields, as the reference has them.
fn common(event: &View<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mismatch = || {
        FieldError::invalid(
            &FieldPath::new("involvedObject.namespace"),
            event.regarding_namespace,
            "does not match event.namespace",
        )
    };
    let (own, of) = (event.namespace, event.regarding_namespace);
    if event.has_time {
        if of.is_empty() && own != "default" && own != "kube-system" {
            errors.push(mismatch());
        }
        let (name, controller) = event.controller;
        let at = FieldPath::new(name);
        if controller.is_empty() {
            errors.push(FieldError::required(&at, ""));
        }
        meta::extend_invalid(
            &mut errors,
            &at,
            controller,
            names::qualified_name(controller),
        );
        for (name, value, limit, required) in [
            ("reportingInstance", event.instance, LIMIT, true),
            ("action", event.action, LIMIT, true),
            ("reason", event.reason, LIMIT, true),
            ("message", event.note, NOTE_LIMIT, false),
        ] {
            let at = FieldPath::new(name);
            if required && value.is_empty() {
                errors.push(FieldError::required(&at, ""));
            }
            if value.len() > limit {
                errors.push(FieldError::invalid(
                    &at,
                    "",
                    format!("can have at most {limit} characters"),
                ));
            }
        }
    } else if of.is_empty() {
        if !own.is_empty() && own != "default" {
            errors.push(mismatch());
        }
    } else if own != of {
        errors.push(mismatch());
    }
    meta::extend_invalid(
        &mut errors,
        &FieldPath::new("namespace"),
        own,
        names::dns1123_subdomain(own),
    );
    errors
}

impl Rules for CoreEvent {
    fn validate(&self) -> Vec<FieldError> {
        common(&View {
            namespace: text(&self.metadata.namespace),
            regarding_namespace: text(&self.involved_object.namespace),
            has_time: self.event_time.is_some(),
            controller: ("reportingComponent", text(&self.reporting_component)),
            instance: text(&self.reporting_instance),
            action: text(&self.action),
            reason: text(&self.reason),
            note: text(&self.message),
        })
    }

    fn validate_update(&self, _old: &Self) -> Vec<FieldError> {
        self.validate()
    }
}

fn view(event: &Event) -> View<'_> {
    let regarding: Option<&ObjectReference> = event.regarding.as_ref();
    View {
        namespace: text(&event.metadata.namespace),
        regarding_namespace: regarding.map(|r| text(&r.namespace)).unwrap_or_default(),
        has_time: event.event_time.is_some(),
        controller: ("reportingController", text(&event.reporting_controller)),
        instance: text(&event.reporting_instance),
        action: text(&event.action),
        reason: text(&event.reason),
        note: text(&event.note),
    }
}

fn series(event: &Event) -> Option<FieldError> {
    let series = event.series.as_ref()?;
    (series.count < 2)
        .then(|| FieldError::invalid(&FieldPath::new("series.count"), "", "should be at least 2"))
}

impl Rules for Event {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = common(&view(self));
        errors.extend(meta::validate(
            &self.metadata,
            Scope::Namespaced,
            names::dns1123_subdomain,
        ));
        errors.extend(series(self));
        if self.event_time.is_none() {
            errors.push(FieldError::required(&FieldPath::new("eventTime"), ""));
        }
        let kind = text(&self.type_);
        if kind != "Normal" && kind != "Warning" {
            errors.push(FieldError::invalid(
                &FieldPath::new("type"),
                "",
                format!("has invalid value: {kind}"),
            ));
        }
        let source = self.deprecated_source.as_ref();
        for (name, set) in [
            ("firstTimestamp", self.deprecated_first_timestamp.is_some()),
            ("lastTimestamp", self.deprecated_last_timestamp.is_some()),
            ("count", self.deprecated_count.unwrap_or(0) != 0),
            (
                "source",
                source.is_some_and(|s| !text(&s.component).is_empty() || !text(&s.host).is_empty()),
            ),
        ] {
            if set {
                errors.push(FieldError::invalid(
                    &FieldPath::new(name),
                    "",
                    "needs to be unset",
                ));
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = common(&view(self));
        errors.extend(meta::validate_update(&self.metadata, &old.metadata));
        if self.series != old.series {
            errors.extend(series(self));
        }
        let mut fixed = |name: &str, same: bool| {
            if !same {
                errors.push(FieldError::invalid(
                    &FieldPath::new(name),
                    "",
                    "field is immutable",
                ));
            }
        };
        fixed("involvedObject", self.regarding == old.regarding);
        fixed("reason", self.reason == old.reason);
        fixed("message", self.note == old.note);
        fixed("source", self.deprecated_source == old.deprecated_source);
        fixed(
            "firstTimestamp",
            self.deprecated_first_timestamp == old.deprecated_first_timestamp,
        );
        fixed(
            "lastTimestamp",
            self.deprecated_last_timestamp == old.deprecated_last_timestamp,
        );
        fixed("count", self.deprecated_count == old.deprecated_count);
        fixed("type", self.type_ == old.type_);
        fixed("eventTime", self.event_time == old.event_time);
        fixed("action", self.action == old.action);
        fixed("related", self.related == old.related);
        fixed(
            "reportingController",
            self.reporting_controller == old.reporting_controller,
        );
        fixed(
            "reportingInstance",
            self.reporting_instance == old.reporting_instance,
        );
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn causes(errors: Vec<FieldError>) -> Vec<String> {
        errors
            .iter()
            .map(|e| format!("{} {}", e.kind.reason(), e.field))
            .collect()
    }

    #[test]
    fn core_events() {
        for (namespace, of, want) in [
            ("a", json!({"namespace": "a"}), vec![]),
            (
                "a",
                json!({"namespace": "b"}),
                vec!["FieldValueInvalid involvedObject.namespace"],
            ),
            ("default", json!({}), vec![]),
            (
                "a",
                json!({}),
                vec!["FieldValueInvalid involvedObject.namespace"],
            ),
        ] {
            let event: CoreEvent = serde_json::from_value(
                json!({"metadata": {"name": "e", "namespace": namespace}, "involvedObject": of}),
            )
            .unwrap();
            assert_eq!(causes(event.validate()), want, "{namespace} {of}");
        }
    }

    fn strict(change: Value) -> Event {
        let mut body = json!({"metadata": {"name": "e", "namespace": "a", "resourceVersion": "1"}, "regarding": {"namespace": "a"},
            "eventTime": "2024-01-01T00:00:00.000000Z", "type": "Normal", "reportingController": "x.y/z",
            "reportingInstance": "i", "action": "A", "reason": "R"});
        if let (Value::Object(body), Value::Object(change)) = (&mut body, change) {
            body.extend(change);
        }
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn strict_events() {
        for (change, want) in [
            (json!({}), vec![]),
            (json!({"type": "Odd"}), vec!["FieldValueInvalid type"]),
            (
                json!({"action": "", "reason": ""}),
                vec!["FieldValueRequired action", "FieldValueRequired reason"],
            ),
            (
                json!({"note": "x".repeat(1025)}),
                vec!["FieldValueInvalid message"],
            ),
            (
                json!({"series": {"count": 1, "lastObservedTime": "2024-01-01T00:00:00.000000Z"}}),
                vec!["FieldValueInvalid series.count"],
            ),
            (
                json!({"deprecatedCount": 1}),
                vec!["FieldValueInvalid count"],
            ),
        ] {
            assert_eq!(causes(strict(change.clone()).validate()), want, "{change}");
        }
        assert_eq!(
            causes(strict(json!({"note": "n"})).validate_update(&strict(json!({})))),
            ["FieldValueInvalid message"]
        );
    }
}
