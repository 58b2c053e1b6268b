//! autoscaling HorizontalPodAutoscaler in v2, which is stored, and v1.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_rules::kinds::horizontal_pod_autoscaler::v1::{from_v2, to_v2};
use k8s_openapi::api::autoscaling::{v1, v2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::controllers;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates, decode_as};
use crate::printer::{Printer, created_ago, items, name, number, text};
use crate::registry::{Convert, Scope, Subresource};
use crate::strategy::Cluster;

use v2::HorizontalPodAutoscaler;

const UNKNOWN: &str = "<unknown>";

/// The types of metrics that the built-in controller reads.
const READ: [&str; 2] = ["Resource", "ContainerResource"];

impl Kind for HorizontalPodAutoscaler {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v2", "v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.spec != old.spec);
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        vec![Subresource::status::<Self>()]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Reference", "string", 0),
                ("Targets", "string", 0),
                ("MinPods", "string", 0),
                ("MaxPods", "string", 0),
                ("Replicas", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                let reference = format!(
                    "{}/{}",
                    text(object, "/spec/scaleTargetRef/kind"),
                    text(object, "/spec/scaleTargetRef/name")
                );
                vec![
                    name(object),
                    json!(reference),
                    json!(targets(object)),
                    json!(number(object, "/spec/minReplicas").to_string()),
                    number(object, "/spec/maxReplicas"),
                    number(object, "/status/currentReplicas"),
                    created_ago(object, now),
                ]
            },
        )
    }

    fn decode(version: &str, object: Value, unknown: &mut Vec<String>) -> Result<Self, ApiError> {
        if version != "v1" {
            return decode_as(&object, unknown);
        }
        let old: v1::HorizontalPodAutoscaler = decode_plain(&object, unknown)?;
        let mut object = to_v2(old).map_err(|e| ApiError::BadRequest(e.to_string()))?;
        berth_rules::Rules::default(&mut object);
        Ok(object)
    }

    fn convert() -> Option<Convert> {
        Some(Arc::new(|object, _, to| {
            *object = match to {
                "autoscaling/v1" => converted(object.take(), from_v2)?,
                "autoscaling/v2" => converted(object.take(), to_v2)?,
                other => {
                    let why = format!("{other} is no version of HorizontalPodAutoscaler");
                    return Err(ApiError::Internal(why));
                }
            };
            Ok(())
        }))
    }

    fn warnings(new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        let mut all = controllers::warnings::<Self>(cluster)?;
        if cluster.controllers && !controllers::is_manager_running(cluster)? {
            let metrics = new.spec.metrics.iter().flatten().enumerate();
            let unread = metrics.filter(|(_, metric)| !READ.contains(&metric.type_.as_str()));
            all.extend(unread.map(|(place, metric)| {
                format!(
                    "spec.metrics[{place}].type: metrics of type {} are not read by the controller that is built into this server \
                     (it reads metrics.k8s.io: types Resource and ContainerResource)",
                    metric.type_
                )
            }));
        }
        Ok(all)
    }
}

/// Reads an object without defaults.
fn decode_plain<T: DeserializeOwned>(
    object: &Value,
    unknown: &mut Vec<String>,
) -> Result<T, ApiError> {
    let decoded = berth_api::decode::decode::<T>(object);
    let decoded = decoded.map_err(|e| ApiError::BadRequest(e.to_string()))?;
    unknown.extend(decoded.unknown_fields);
    Ok(decoded.object)
}

fn converted<A: DeserializeOwned, B: Serialize, E: std::fmt::Display>(
    object: Value,
    convert: fn(A) -> Result<B, E>,
) -> Result<Value, ApiError> {
    let object: A =
        serde_json::from_value(object).map_err(|e| ApiError::Internal(e.to_string()))?;
    let object = convert(object).map_err(|e| ApiError::Internal(e.to_string()))?;
    serde_json::to_value(object).map_err(|e| ApiError::Internal(e.to_string()))
}

/// What is measured and what it should be, of the first two metrics.
fn targets(object: &Value) -> String {
    let metrics = items(object, "/spec/metrics");
    let shown: Vec<String> = metrics
        .iter()
        .take(2)
        .enumerate()
        .map(|(i, metric)| target(object, metric, i))
        .collect();
    match metrics.len().saturating_sub(2) {
        _ if shown.is_empty() => "<none>".to_owned(),
        0 => shown.join(", "),
        more => format!("{} + {more} more...", shown.join(", ")),
    }
}

fn target(object: &Value, metric: &Value, at: usize) -> String {
    let (field, prefix) = match text(metric, "/type") {
        "Resource" => ("resource", format!("{}: ", text(metric, "/resource/name"))),
        "ContainerResource" => {
            let name = text(metric, "/containerResource/name");
            ("containerResource", format!("{name}: "))
        }
        "Pods" => ("pods", String::new()),
        "Object" => ("object", String::new()),
        "External" => ("external", String::new()),
        _ => return UNKNOWN.to_owned(),
    };
    let current = &items(object, "/status/currentMetrics")
        .get(at)
        .cloned()
        .unwrap_or_default();
    let wanted = &metric[field]["target"];
    let current = &current[field]["current"];
    let percent = |value: &Value| value.as_i64().map(|percent| format!("{percent}%"));
    let quantity = |value: &Value| value.as_str().map(str::to_owned);
    let unknown = || UNKNOWN.to_owned();
    let (current, wanted) = if wanted["averageUtilization"].is_number() {
        (
            percent(&current["averageUtilization"]),
            percent(&wanted["averageUtilization"]),
        )
    } else if wanted["averageValue"].is_string() {
        (
            quantity(&current["averageValue"]),
            quantity(&wanted["averageValue"]),
        )
    } else {
        (quantity(&current["value"]), quantity(&wanted["value"]))
    };
    let wanted = wanted.unwrap_or_else(unknown);
    format!("{prefix}{}/{wanted}", current.unwrap_or_else(unknown))
}
