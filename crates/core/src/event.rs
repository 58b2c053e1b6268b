//! Events, as a recorder writes them: the first of its kind is created, a repetition counts up.
//!
//! Pure: the clock is passed in, and the caller carries out the [`EventWrite`]. Two events are of one
//! kind when object, type, reason and message are the same (client-go's event correlator, without its
//! aggregation of similar messages).

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

/// More kinds than this are not remembered; the memory starts anew.
const MEMORY: usize = 2048;

/// Whether an event tells of something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Something happened as it should.
    Normal,
    /// Something deserves a look.
    Warning,
}

impl EventType {
    /// The wire form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What to send to the API server.
#[derive(Debug, Clone, PartialEq)]
pub enum EventWrite {
    /// Create this event in its namespace.
    Create(Box<Event>),
    /// Send this merge patch to the event, which exists already.
    Patch {
        /// The event's namespace.
        namespace: String,
        /// The event's name.
        name: String,
        /// The merge patch.
        body: Value,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    object: (String, String, String, String, String),
    type_: EventType,
    reason: String,
    message: String,
}

#[derive(Debug)]
struct Seen {
    name: String,
    count: i32,
}

/// Remembers what one component has said.
#[derive(Debug)]
pub struct EventCorrelator {
    component: String,
    host: Option<String>,
    seen: HashMap<Kind, Seen>,
}

impl EventCorrelator {
    /// For a component (`default-scheduler`, `kubelet`) on a host, where it has one.
    #[must_use]
    pub fn new(component: &str, host: Option<&str>) -> Self {
        Self {
            component: component.to_owned(),
            host: host.map(str::to_owned),
            seen: HashMap::new(),
        }
    }

    /// An event about an object. Cluster-scoped objects' events go to namespace `default`.
    pub fn record(
        &mut self,
        about: &ObjectReference,
        type_: EventType,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> EventWrite {
        let part = |field: &Option<String>| field.clone().unwrap_or_default();
        let namespace = about
            .namespace
            .clone()
            .filter(|ns| !ns.is_empty())
            .unwrap_or_else(|| "default".to_owned());
        let kind = Kind {
            object: (
                part(&about.kind),
                part(&about.namespace),
                part(&about.name),
                part(&about.uid),
                part(&about.field_path),
            ),
            type_,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        if let Some(seen) = self.seen.get_mut(&kind) {
            seen.count = seen.count.saturating_add(1);
            return EventWrite::Patch {
                namespace,
                name: seen.name.clone(),
                body: json!({"count": seen.count, "lastTimestamp": Time(now)}),
            };
        }
        if self.seen.len() >= MEMORY {
            self.seen.clear();
        }
        let name = format!("{}.{:x}", part(&about.name), now.as_nanosecond());
        self.seen.insert(
            kind,
            Seen {
                name: name.clone(),
                count: 1,
            },
        );
        EventWrite::Create(Box::new(Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: about.clone(),
            type_: Some(type_.as_str().to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: self.host.clone(),
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: self.host.clone(),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        }))
    }

    /// The event could not be written (it is gone, say): the next of its kind is created anew.
    pub fn forget(&mut self, event_name: &str) {
        self.seen.retain(|_, seen| seen.name != event_name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> ObjectReference {
        ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some("shop".into()),
            name: Some("cart".into()),
            ..ObjectReference::default()
        }
    }

    #[test]
    fn a_repetition_counts_up_and_another_message_does_not() {
        let mut log = EventCorrelator::new("default-scheduler", None);
        let now = Timestamp::UNIX_EPOCH;
        let EventWrite::Create(first) = log.record(&pod(), EventType::Warning, "R", "m", now)
        else {
            panic!("the first is created");
        };
        assert_eq!(first.metadata.namespace.as_deref(), Some("shop"));
        let again = log.record(&pod(), EventType::Warning, "R", "m", now);
        let EventWrite::Patch { name, body, .. } = again else {
            panic!("a repetition patches");
        };
        assert_eq!(Some(name.clone()), first.metadata.name);
        assert_eq!(body["count"], 2);
        let other = log.record(&pod(), EventType::Warning, "R", "n", now);
        assert!(matches!(other, EventWrite::Create(_)));
        log.forget(&name);
        let anew = log.record(&pod(), EventType::Warning, "R", "m", now);
        assert!(matches!(anew, EventWrite::Create(_)));
    }

    #[test]
    fn a_node_event_goes_to_the_default_namespace() {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some("n1".into()),
            ..ObjectReference::default()
        };
        let write = EventCorrelator::new("node-controller", None).record(
            &about,
            EventType::Normal,
            "NodeReady",
            "",
            Timestamp::UNIX_EPOCH,
        );
        let EventWrite::Create(event) = write else {
            panic!("the first is created");
        };
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
    }
}
