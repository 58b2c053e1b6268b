//! From a request body to an object in the storage version.

use berth_api::status::ApiError;
use serde_json::Value;

use super::{Call, meta};
use crate::query::FieldValidation;

/// Fields that a message about many unknown ones names.
const NAMED: usize = 20;

impl Call {
    /// Checks kind and version, the type and unknown fields; gives the object in the storage
    /// version with its defaults.
    pub(crate) fn decode(&self, object: Value) -> Result<Value, ApiError> {
        self.decode_as(
            object,
            &self.row.kind,
            &self.row.api_version(&self.info.api_version),
        )
    }

    fn decode_as(
        &self,
        mut object: Value,
        kind: &str,
        api_version: &str,
    ) -> Result<Value, ApiError> {
        check_kind(&mut object, kind, api_version)?;
        let mut unknown = Vec::new();
        let mut decoded = self
            .row
            .strategy
            .decode(&self.info.api_version, object, &mut unknown)
            .map_err(|error| match error {
                ApiError::BadRequest(why) => ApiError::BadRequest(format!(
                    "{kind} in version {:?} cannot be handled as a {kind}: {why}",
                    self.info.api_version
                )),
                other => other,
            })?;
        self.report_unknown(&unknown)?;
        meta::prune(&mut decoded);
        self.to_storage(&mut decoded)?;
        Ok(decoded)
    }

    /// Refuses, reports or ignores unknown fields, as `fieldValidation` says.
    pub(crate) fn report_unknown(&self, unknown: &[String]) -> Result<(), ApiError> {
        if unknown.is_empty() {
            return Ok(());
        }
        match self.query.field_validation {
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                for field in unknown.iter().take(NAMED) {
                    self.warn(format!("unknown field \"{field}\""));
                }
                Ok(())
            }
            FieldValidation::Strict => {
                let fields: Vec<String> = unknown
                    .iter()
                    .take(NAMED)
                    .map(|f| format!("unknown field \"{f}\""))
                    .collect();
                Err(ApiError::BadRequest(format!(
                    "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                    self.row.kind,
                    self.info.api_version,
                    self.row.kind,
                    fields.join(", ")
                )))
            }
        }
    }

    /// Brings the namespace of the object in line with the path's.
    pub(crate) fn settle_namespace(&self, object: &mut Value) -> Result<(), ApiError> {
        if !self.row.namespaced() {
            meta::set(object, "namespace", None);
            return Ok(());
        }
        let given = meta::text(object, "/metadata/namespace");
        if !given.is_empty() && given != self.info.namespace {
            return Err(ApiError::BadRequest(
                "the namespace of the provided object does not match the namespace sent on the request"
                    .to_owned(),
            ));
        }
        let namespace = Value::String(self.info.namespace.clone());
        meta::set(object, "namespace", Some(namespace));
        Ok(())
    }

    /// Refuses an object whose name is not the path's.
    pub(crate) fn check_name(&self, object: &Value) -> Result<(), ApiError> {
        let name = meta::name(object);
        if name == self.info.name {
            return Ok(());
        }
        if name.is_empty() {
            return Err(ApiError::BadRequest("name must be provided".to_owned()));
        }
        Err(ApiError::BadRequest(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            self.info.name
        )))
    }
}

/// Refuses another kind or version than expected; fills in what is absent.
pub(crate) fn check_kind(
    object: &mut Value,
    kind: &str,
    api_version: &str,
) -> Result<(), ApiError> {
    let text = |object: &Value, field: &str| -> Result<String, ApiError> {
        match object.get(field) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(s)) => Ok(s.clone()),
            Some(_) => Err(ApiError::BadRequest(format!(
                "couldn't get version/kind; json parse error: {field} is not a string"
            ))),
        }
    };
    let given_kind = text(object, "kind")?;
    if !given_kind.is_empty() && given_kind != kind {
        let given = text(object, "apiVersion")?;
        return Err(ApiError::BadRequest(format!(
            "{given_kind} in version {given:?} cannot be handled as a {kind}"
        )));
    }
    let given_version = text(object, "apiVersion")?;
    if !given_version.is_empty() && given_version != api_version {
        return Err(ApiError::BadRequest(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({api_version})"
        )));
    }
    object["kind"] = Value::String(kind.to_owned());
    object["apiVersion"] = Value::String(api_version.to_owned());
    Ok(())
}
