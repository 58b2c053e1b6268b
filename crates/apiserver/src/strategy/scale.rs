//! The Scale of an object with replicas.

use berth_api::status::ApiError;
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Strategy;
use crate::object::Object;

/// The Scale of an object of the strategy's kind.
///
/// # Errors
/// `NoSuchPath` for a kind without the subresource.
pub(crate) fn of(strategy: &dyn Strategy, object: &dyn Object) -> Result<Scale, ApiError> {
    let numbers = strategy.scale(object)?.ok_or(ApiError::NoSuchPath)?;
    let metadata = object.metadata();
    Ok(Scale {
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            creation_timestamp: metadata.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec {
            replicas: Some(numbers.replicas).filter(|replicas| *replicas != 0),
        }),
        status: Some(ScaleStatus {
            replicas: numbers.observed,
            selector: Some(numbers.selector).filter(|selector| !selector.is_empty()),
        }),
    })
}
