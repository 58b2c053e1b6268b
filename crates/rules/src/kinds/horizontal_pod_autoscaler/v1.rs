//! autoscaling/v1: processor time has a field; everything else of v2 is kept in annotations, so that a client of v1 loses
//! nothing when it writes back what it has read.

use k8s_openapi::api::autoscaling::{v1, v2};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::metrics::cpu_utilization;

/// Metrics, conditions, measured values and behavior in v1. The reference writes the first three in older types of
/// its own; here they are the types of v2, which only servers read.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

/// An annotation that a client has written and that is none of ours.
#[derive(Debug, Error)]
#[error("metadata.annotations[{annotation}]: {source}")]
pub struct BadAnnotation {
    annotation: &'static str,
    source: serde_json::Error,
}

/// Processor time in percent, where it is what a metric measures.
fn cpu(metric: &v2::MetricSpec) -> Option<i32> {
    let resource = metric.resource.as_ref().filter(|r| r.name == "cpu")?;
    resource.target.average_utilization
}

fn put<T: Serialize>(
    metadata: &mut ObjectMeta,
    annotation: &'static str,
    value: Option<&T>,
) -> Result<(), BadAnnotation> {
    let Some(value) = value else {
        return Ok(());
    };
    let text =
        serde_json::to_string(value).map_err(|source| BadAnnotation { annotation, source })?;
    metadata
        .annotations
        .get_or_insert_default()
        .insert(annotation.to_owned(), text);
    Ok(())
}

fn take<T: DeserializeOwned>(
    metadata: &mut ObjectMeta,
    annotation: &'static str,
) -> Result<Option<T>, BadAnnotation> {
    let annotations = metadata.annotations.as_mut();
    let Some(text) = annotations.and_then(|a| a.remove(annotation)) else {
        return Ok(None);
    };
    metadata
        .annotations
        .take_if(|annotations| annotations.is_empty());
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|source| BadAnnotation { annotation, source })
}

/// A v2 object in v1.
///
/// # Errors
/// None for what has been decoded: the annotations are JSON of it.
pub fn from_v2(
    object: v2::HorizontalPodAutoscaler,
) -> Result<v1::HorizontalPodAutoscaler, BadAnnotation> {
    let v2::HorizontalPodAutoscaler {
        mut metadata,
        spec,
        status,
    } = object;
    let mut target = None;
    let mut others = Vec::new();
    for metric in spec.metrics.unwrap_or_default() {
        match cpu(&metric).filter(|_| target.is_none()) {
            Some(percent) => target = Some(percent),
            None => others.push(metric),
        }
    }
    put(
        &mut metadata,
        METRICS,
        Some(&others).filter(|others| !others.is_empty()),
    )?;
    put(&mut metadata, BEHAVIOR, spec.behavior.as_ref())?;
    let status = status.unwrap_or_default();
    put(&mut metadata, CONDITIONS, status.conditions.as_ref())?;
    put(
        &mut metadata,
        CURRENT_METRICS,
        status.current_metrics.as_ref(),
    )?;
    let measured = status.current_metrics.iter().flatten().find_map(|metric| {
        let resource = metric.resource.as_ref().filter(|r| r.name == "cpu")?;
        resource.current.average_utilization
    });
    let reference = spec.scale_target_ref;
    Ok(v1::HorizontalPodAutoscaler {
        metadata,
        spec: v1::HorizontalPodAutoscalerSpec {
            max_replicas: spec.max_replicas,
            min_replicas: spec.min_replicas,
            scale_target_ref: v1::CrossVersionObjectReference {
                api_version: reference.api_version,
                kind: reference.kind,
                name: reference.name,
            },
            target_cpu_utilization_percentage: target,
        },
        status: Some(v1::HorizontalPodAutoscalerStatus {
            current_cpu_utilization_percentage: measured,
            current_replicas: status.current_replicas.unwrap_or(0),
            desired_replicas: status.desired_replicas,
            last_scale_time: status.last_scale_time,
            observed_generation: status.observed_generation,
        }),
    })
}

/// A v1 object in v2.
///
/// # Errors
/// [`BadAnnotation`] for an annotation of the server's that a client has changed to something else.
pub fn to_v2(
    object: v1::HorizontalPodAutoscaler,
) -> Result<v2::HorizontalPodAutoscaler, BadAnnotation> {
    let v1::HorizontalPodAutoscaler {
        mut metadata,
        spec,
        status,
    } = object;
    let mut metrics: Vec<v2::MetricSpec> = take(&mut metadata, METRICS)?.unwrap_or_default();
    if let Some(percent) = spec.target_cpu_utilization_percentage {
        metrics.insert(0, cpu_utilization(percent));
    }
    let reference = spec.scale_target_ref;
    let behavior = take(&mut metadata, BEHAVIOR)?;
    let conditions = take(&mut metadata, CONDITIONS)?;
    let current_metrics = take(&mut metadata, CURRENT_METRICS)?;
    Ok(v2::HorizontalPodAutoscaler {
        metadata,
        spec: v2::HorizontalPodAutoscalerSpec {
            behavior,
            max_replicas: spec.max_replicas,
            metrics: Some(metrics).filter(|metrics| !metrics.is_empty()),
            min_replicas: spec.min_replicas,
            scale_target_ref: v2::CrossVersionObjectReference {
                api_version: reference.api_version,
                kind: reference.kind,
                name: reference.name,
            },
        },
        status: status.map(|status| v2::HorizontalPodAutoscalerStatus {
            conditions,
            current_metrics,
            current_replicas: Some(status.current_replicas),
            desired_replicas: status.desired_replicas,
            last_scale_time: status.last_scale_time,
            observed_generation: status.observed_generation,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rules;
    use serde_json::json;

    #[test]
    fn nothing_is_lost_on_the_way_through_v1() {
        let mut object: v2::HorizontalPodAutoscaler = serde_json::from_value(json!({
            "metadata": {"name": "a", "annotations": {"mine": "1"}},
            "spec": {"maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                    {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}}],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}},
            "status": {"currentReplicas": 1, "desiredReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "1"}}}]}
        }))
        .unwrap();
        object.default();
        let old = from_v2(object.clone()).unwrap();
        assert_eq!(old.spec.target_cpu_utilization_percentage, Some(50));
        assert_eq!(
            old.status
                .as_ref()
                .unwrap()
                .current_cpu_utilization_percentage,
            Some(7)
        );
        assert_eq!(to_v2(old.clone()).unwrap(), object);
        let mut broken = old;
        broken
            .metadata
            .annotations
            .as_mut()
            .unwrap()
            .insert(METRICS.to_owned(), "{".to_owned());
        assert!(to_v2(broken).is_err());
    }
}
