//! As what others see an object that is admitted, and how what they make of it becomes an object again.

use berth_api::decode;
use berth_api::status::ApiError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::Attributes;
use super::invocation::Invocation;
use crate::object::{Object, Typed, prune};
use crate::registry::Gvk;
use crate::strategy::scale;

/// As what others see an object.
#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    /// As one of the resource's own kind.
    Own,
    /// As what was posted to a subresource, which this reads.
    Posted(fn(&Value) -> Result<Box<dyn Object>, ApiError>),
    /// As its Scale.
    Scale,
    /// There is none, but options of a connection.
    Connection(&'a Value),
}

/// Reads something that was posted to a subresource.
///
/// # Errors
/// `BadRequest` for what does not fit the type.
pub(crate) fn decode_posted<T: Typed>(value: &Value) -> Result<Box<dyn Object>, ApiError> {
    let object: T = decode::from_value(value).map_err(|e| ApiError::BadRequest(e.to_string()))?;
    Ok(Box::new(object))
}

/// The kind of JSON.
pub(super) fn kind_of(value: &Value) -> Gvk {
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let api_version = text("apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Gvk::new(group, version, text("kind"))
}

/// An object as an invocation sees it.
///
/// # Errors
/// When it cannot be converted.
pub(super) async fn show(
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    object: &dyn Object,
) -> Result<Value, ApiError> {
    match attributes.form {
        Form::Own => {
            let mut value = object.to_value()?;
            convert(attributes, invocation, &mut value).await?;
            Ok(value)
        }
        Form::Posted(_) => object.to_value(),
        Form::Scale => {
            let scale = scale::of(attributes.resource.strategy.as_ref(), object)?;
            serde_json::to_value(scale).map_err(|e| ApiError::Internal(e.to_string()))
        }
        Form::Connection(options) => Ok(options.clone()),
    }
}

/// The object before the write as an invocation sees it.
pub(super) async fn show_old(
    attributes: &Attributes<'_>,
    invocation: &Invocation,
) -> Result<Value, ApiError> {
    match (attributes.old, &attributes.form) {
        // What is posted to a subresource has no state before.
        (Some(old), Form::Own | Form::Scale) => show(attributes, invocation, old).await,
        (Some(_) | None, _) => Ok(Value::Null),
    }
}

/// What others have made of an object, with its defaults, in place of `before`.
///
/// # Errors
/// When it does not fit its type, or is no longer the same object.
pub(super) async fn read(
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    value: Value,
    before: &dyn Object,
) -> Result<Box<dyn Object>, ApiError> {
    let mut object = match attributes.form {
        Form::Own => {
            let row = &invocation.row;
            let (mut value, mut version) = (value, &invocation.version);
            if row.converter.is_some() && row.storage_gvk.version != *version {
                version = &row.storage_gvk.version;
                let stored = Invocation {
                    version: version.clone(),
                    ..invocation.clone()
                };
                convert(attributes, &stored, &mut value).await?;
            }
            let mut unknown = Vec::new();
            let mut read = row.strategy.decode(version, value, &mut unknown)?;
            prune(read.metadata_mut());
            read
        }
        Form::Posted(read) => read(&value)?,
        Form::Scale => {
            let replicas = value["spec"]["replicas"].as_i64().unwrap_or(0);
            let replicas = i32::try_from(replicas).map_err(|_| {
                ApiError::BadRequest(format!("spec.replicas: {replicas} is out of range"))
            })?;
            let mut object = before.to_boxed();
            let strategy = &attributes.resource.strategy;
            strategy.set_replicas(object.as_mut(), replicas)?;
            return Ok(object);
        }
        Form::Connection(_) => {
            return Err(ApiError::Internal(
                "the options of a connection cannot be changed".to_owned(),
            ));
        }
    };
    keep_identity(object.metadata_mut(), before.metadata())?;
    Ok(object)
}

/// What only the server writes stays as it was, and the object stays the one that was asked for.
fn keep_identity(metadata: &mut ObjectMeta, before: &ObjectMeta) -> Result<(), ApiError> {
    for (field, new, old) in [
        ("name", &metadata.name, &before.name),
        ("namespace", &metadata.namespace, &before.namespace),
    ] {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        if text(new) != text(old) {
            return Err(ApiError::Internal(format!(
                "metadata.{field}: it cannot be changed from {:?} to {:?}",
                text(old),
                text(new)
            )));
        }
    }
    metadata.uid.clone_from(&before.uid);
    metadata
        .creation_timestamp
        .clone_from(&before.creation_timestamp);
    metadata
        .deletion_timestamp
        .clone_from(&before.deletion_timestamp);
    metadata.deletion_grace_period_seconds = before.deletion_grace_period_seconds;
    metadata.generation = before.generation;
    metadata
        .resource_version
        .clone_from(&before.resource_version);
    metadata.self_link = None;
    metadata.managed_fields.clone_from(&before.managed_fields);
    Ok(())
}

/// Brings a value to the version of an invocation.
pub(super) async fn convert(
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    value: &mut Value,
) -> Result<(), ApiError> {
    let row = &invocation.row;
    let Some(convert) = &row.convert else {
        return Ok(());
    };
    let from = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    let to = row.api_version(&invocation.version);
    if from == to {
        return Ok(());
    }
    if let Some(converter) = &row.converter {
        let converting = converter.convert(vec![value.take()], &to, attributes.deadline);
        let mut converted = attributes.away(converting).await??;
        *value = converted.pop().ok_or_else(|| {
            ApiError::Internal(format!("the conversion from {from} to {to} gave no object"))
        })?;
        return Ok(());
    }
    convert(value, &from, &to)
}
