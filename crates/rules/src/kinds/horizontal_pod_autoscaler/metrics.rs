//! What an autoscaler measures.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::quantity::Quantity;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget, ResourceMetricSource,
};

use super::reference;
use crate::values::{is_full, one_of, required};
use berth_core::meta;

const TYPES: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];
/// Percent of the processor time that pods ask for.
const DEFAULT_UTILIZATION: i32 = 80;

/// What is measured when nothing is said: processor time.
pub(super) fn by_default() -> Vec<MetricSpec> {
    vec![cpu_utilization(DEFAULT_UTILIZATION)]
}

/// Processor time, in percent of what pods ask for.
pub(super) fn cpu_utilization(percent: i32) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

pub(super) fn validate(spec: &HorizontalPodAutoscalerSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, metric) in spec.metrics.iter().flatten().enumerate() {
        validate_metric(&mut errors, metric, &at.index(i));
    }
    errors
}

fn validate_metric(errors: &mut Vec<FieldError>, metric: &MetricSpec, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    let type_at = at.child("type");
    if metric.type_.is_empty() {
        errors.push(FieldError::required(
            &type_at,
            "must specify a metric source type",
        ));
    } else {
        one_of(errors, &type_at, &metric.type_, &TYPES);
    }
    let sources = [
        ("object", "Object", metric.object.is_some()),
        ("pods", "Pods", metric.pods.is_some()),
        ("resource", "Resource", metric.resource.is_some()),
        (
            "containerResource",
            "ContainerResource",
            metric.container_resource.is_some(),
        ),
        ("external", "External", metric.external.is_some()),
    ];
    for (name, kind, is_set) in sources {
        if kind == metric.type_ && !is_set {
            let why = "must populate information for the given metric source";
            errors.push(FieldError::required(&at.child(name), why));
        } else if kind != metric.type_ && is_set {
            let why = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&at.child(name), why));
        }
    }
    if let Some(source) = &metric.object {
        let at = at.child("object");
        reference(
            errors,
            &source.described_object,
            &at.child("describedObject"),
        );
        identifier(errors, &source.metric, &at.child("metric"));
        let either = source.target.value.is_some() || source.target.average_value.is_some();
        target(
            errors,
            &source.target,
            either,
            "must specify either value or averageValue",
            &at,
        );
    }
    if let Some(source) = &metric.external {
        let at = at.child("external");
        identifier(errors, &source.metric, &at.child("metric"));
        let either = source.target.value.is_some() || source.target.average_value.is_some();
        target(
            errors,
            &source.target,
            either,
            "must specify either value or averageValue",
            &at,
        );
        if source.target.value.is_some() && source.target.average_value.is_some() {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&at.child("target.value"), why));
        }
    }
    if let Some(source) = &metric.pods {
        let at = at.child("pods");
        identifier(errors, &source.metric, &at.child("metric"));
        let set = source.target.average_value.is_some();
        target(
            errors,
            &source.target,
            set,
            "must specify a positive target averageValue",
            &at,
        );
    }
    if let Some(source) = &metric.resource {
        resource(errors, &source.name, &source.target, &at.child("resource"));
    }
    if let Some(source) = &metric.container_resource {
        let at = at.child("containerResource");
        required(errors, &at.child("container"), &source.container);
        resource(errors, &source.name, &source.target, &at);
    }
}

fn resource(errors: &mut Vec<FieldError>, name: &str, wanted: &MetricTarget, at: &FieldPath) {
    if name.is_empty() {
        let why = "must specify a resource name";
        errors.push(FieldError::required(&at.child("name"), why));
    }
    let set = wanted.average_utilization.is_some() || wanted.average_value.is_some();
    let missing = "must set either a target raw value or a target utilization";
    target(errors, wanted, set, missing, at);
    if wanted.average_utilization.is_some() && wanted.average_value.is_some() {
        let why = "may not set both a target raw value and a target utilization";
        errors.push(FieldError::forbidden(&at.child("target.averageValue"), why));
    }
}

fn identifier(errors: &mut Vec<FieldError>, metric: &MetricIdentifier, at: &FieldPath) {
    let name_at = at.child("name");
    if metric.name.is_empty() {
        errors.push(FieldError::required(&name_at, "must specify a metric name"));
    } else {
        meta::extend_invalid(
            errors,
            &name_at,
            &metric.name,
            names::path_segment(&metric.name),
        );
    }
    if let Some(selector) = &metric.selector {
        errors.extend(meta::validate_label_selector(
            selector,
            &at.child("selector"),
        ));
    }
}

/// `is_set`: whether one of the values is there that this source can have.
fn target(
    errors: &mut Vec<FieldError>,
    target: &MetricTarget,
    is_set: bool,
    missing: &str,
    at: &FieldPath,
) {
    let at = at.child("target");
    let type_at = at.child("type");
    let types = ["AverageValue", "Utilization", "Value"];
    if target.type_.is_empty() {
        errors.push(FieldError::required(
            &type_at,
            "must specify a metric target type",
        ));
    } else if !types.contains(&target.type_.as_str()) {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&type_at, &target.type_, why));
    }
    if !is_set {
        errors.push(FieldError::required(&at, missing));
    }
    for (name, value) in [
        ("value", &target.value),
        ("averageValue", &target.average_value),
    ] {
        let Some(value) = value else {
            continue;
        };
        let at = at.child(name);
        match value.0.parse::<Quantity>() {
            Ok(quantity) if quantity.is_negative() || quantity.is_zero() => {
                errors.push(FieldError::invalid(&at, &value.0, "must be positive"));
            }
            Ok(_) => {}
            Err(error) => errors.push(FieldError::invalid(&at, &value.0, error.to_string())),
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        let why = "must be greater than 0";
        errors.push(FieldError::invalid(
            &at.child("averageUtilization"),
            percent,
            why,
        ));
    }
}
