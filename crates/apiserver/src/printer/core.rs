//! Namespaces, events, secrets, ConfigMaps, services and other kinds of the core group.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{NONE, Printer, age, created_ago, items, name, or_none, text};

/// Columns of kinds that have none of their own.
#[must_use]
pub fn plain() -> Printer {
    Printer::new(
        &[("Name", "string", 0), ("Age", "string", 0)],
        |object, now| vec![name(object), created_ago(object, now)],
    )
}

/// Columns of namespaces.
#[must_use]
pub fn namespace() -> Printer {
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

/// Columns of secrets.
#[must_use]
pub fn secret() -> Printer {
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Type", "string", 0),
            ("Data", "string", 0),
            ("Age", "string", 0),
        ],
        |secret, now| {
            vec![
                name(secret),
                secret["type"].clone(),
                json!(size(secret, "data")),
                created_ago(secret, now),
            ]
        },
    )
}

fn size(object: &Value, field: &str) -> usize {
    object[field].as_object().map_or(0, serde_json::Map::len)
}

/// Columns of ConfigMaps.
#[must_use]
pub fn config_map() -> Printer {
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Data", "string", 0),
            ("Age", "string", 0),
        ],
        |map, now| {
            vec![
                name(map),
                json!(size(map, "data") + size(map, "binaryData")),
                created_ago(map, now),
            ]
        },
    )
}

/// Columns of service accounts.
#[must_use]
pub fn service_account() -> Printer {
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

/// Columns of ResourceQuotas.
#[must_use]
pub fn resource_quota() -> Printer {
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

/// Columns of LimitRanges.
#[must_use]
pub fn limit_range() -> Printer {
    Printer::new(
        &[("Name", "string", 0), ("Created At", "date", 0)],
        |range, _| {
            vec![
                name(range),
                json!(text(range, "/metadata/creationTimestamp")),
            ]
        },
    )
}

/// Columns of services.
#[must_use]
pub fn service() -> Printer {
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Type", "string", 0),
            ("Cluster-IP", "string", 0),
            ("External-IP", "string", 0),
            ("Port(s)", "string", 0),
            ("Age", "string", 0),
            ("Selector", "string", 1),
        ],
        |service, now| {
            let ports: Vec<String> = items(service, "/spec/ports")
                .iter()
                .map(|p| {
                    let node = p["nodePort"]
                        .as_i64()
                        .map(|n| format!(":{n}"))
                        .unwrap_or_default();
                    format!(
                        "{}{node}/{}",
                        p["port"],
                        p["protocol"].as_str().unwrap_or("TCP")
                    )
                })
                .collect();
            let selector: Vec<String> = service["spec"]["selector"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
                .collect();
            let external: Vec<&str> = items(service, "/spec/externalIPs")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            vec![
                name(service),
                service["spec"]["type"].clone(),
                or_none(text(service, "/spec/clusterIP")),
                or_none(&external.join(",")),
                or_none(&ports.join(",")),
                created_ago(service, now),
                or_none(&selector.join(",")),
            ]
        },
    )
}

/// Columns of events (as the core group has them).
#[must_use]
pub fn event() -> Printer {
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
