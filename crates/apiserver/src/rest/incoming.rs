//! From a request body to an object in the storage version.

use berth_api::decode::{self, Document, Misfit};
use berth_api::field::{FieldError, FieldPath};
use berth_api::status::ApiError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::Call;
use crate::object::{self, Object, Typed};
use crate::patch::{self, PatchKind};
use crate::query::FieldValidation;

/// Fields that a message about many names.
const NAMED: usize = 20;

impl Call {
    /// Checks kind and version, the type and unknown fields; gives the object in the storage
    /// version with its defaults. A body is decoded here and nowhere else.
    pub(crate) fn decode(&self, document: Document) -> Result<Box<dyn Object>, ApiError> {
        let kind = &self.row.kind;
        let refused = |why: String| {
            ApiError::BadRequest(format!(
                "{kind} in version {:?} cannot be handled as a {kind}: {why}",
                self.version()
            ))
        };
        let Document {
            value,
            repeated,
            lines,
        } = document;
        let mut unknown = Vec::new();
        let decoded = self.read(value, &mut unknown, refused)?;
        let strict = if self.row.strategy.is_typed() {
            misfits(&self.body, &repeated, &lines, &unknown)
        } else {
            // Its schema is looked at when all of it is decoded.
            said(&repeated, &lines)
                .chain(unknown_fields(&unknown))
                .collect()
        };
        self.report(&strict, refused)?;
        Ok(decoded)
    }

    /// [`Call::decode`] of what a patch has made. `strict`: what is wrong with the patch itself.
    pub(crate) fn decode_patched(
        &self,
        patched: Value,
        strict: &[String],
    ) -> Result<Box<dyn Object>, ApiError> {
        let shown = patched.to_string();
        let refused = |why: String| {
            let path = FieldPath::new("patch");
            ApiError::invalid("", "", "", vec![FieldError::invalid(&path, &shown, why)])
        };
        let text = |field: &str| {
            patched
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let api_version = self.api_version();
        if text("kind") != self.row.kind || text("apiVersion") != api_version {
            return Err(refused(format!(
                "no kind {:?} is registered for version {:?} here",
                text("kind"),
                text("apiVersion")
            )));
        }
        let mut unknown = Vec::new();
        let decoded = self.read(patched, &mut unknown, refused)?;
        let mut strict = strict.to_vec();
        strict.extend(unknown_fields(&unknown));
        self.report(&strict, refused)?;
        Ok(decoded)
    }

    /// [`Call::decode`] of what an apply has made; [`Call::strict_patch`] has looked at its fields.
    pub(crate) fn decode_applied(
        &self,
        applied: Value,
        strict: &[String],
    ) -> Result<Box<dyn Object>, ApiError> {
        let decoded = self.read(applied, &mut Vec::new(), ApiError::Unexplained)?;
        match (strict, self.query.field_validation) {
            ([first, ..], FieldValidation::Strict) => Err(ApiError::BadRequest(format!(
                "error strict decoding YAML: {first}"
            ))),
            (_, FieldValidation::Strict | FieldValidation::Warn | FieldValidation::Ignore) => {
                self.report(strict, ApiError::BadRequest)?;
                Ok(decoded)
            }
        }
    }

    /// What is wrong with a patch before it is applied. An applied configuration has to fit its type.
    pub(crate) fn strict_patch(
        &self,
        kind: PatchKind,
        manager: &str,
    ) -> Result<Vec<String>, ApiError> {
        if kind == PatchKind::Apply {
            let config = patch::configuration(&self.body, &self.write_context(manager))?;
            let title = format!(
                "failed to create typed patch object ({}/{}; {}/{}, Kind={})",
                self.namespace(),
                self.name(),
                self.row.group,
                self.version(),
                self.row.kind
            );
            let refused = |why: String| ApiError::Unexplained(format!("{title}: .{why}"));
            let mut unknown = Vec::new();
            self.read(config, &mut unknown, refused)?;
            let undeclared = |field: &String| format!("{field}: field not declared in schema");
            match unknown.as_slice() {
                [] => {}
                [one] => return Err(refused(undeclared(one))),
                many => {
                    let lines: String = many
                        .iter()
                        .map(|f| format!("\n  .{}", undeclared(f)))
                        .collect();
                    return Err(ApiError::Unexplained(format!("{title}: errors:{lines}")));
                }
            }
        }
        Ok(match self.query.field_validation {
            FieldValidation::Ignore => Vec::new(),
            FieldValidation::Warn | FieldValidation::Strict => {
                patch::strict_errors(kind, &self.body)
            }
        })
    }

    /// Fits an object to its type and brings it to the storage version; the paths of what is unknown are pushed to
    /// `unknown`.
    fn read(
        &self,
        mut object: Value,
        unknown: &mut Vec<String>,
        refused: impl Fn(String) -> ApiError,
    ) -> Result<Box<dyn Object>, ApiError> {
        let api_version = self.api_version();
        check_kind(&mut object, &self.row.kind, &api_version)?;
        let mut decoded = self
            .row
            .strategy
            .decode(self.version(), object, unknown)
            .map_err(|error| match error {
                ApiError::BadRequest(why) => refused(why),
                other => other,
            })?;
        object::prune(decoded.metadata_mut());
        Ok(decoded)
    }

    /// Refuses, reports or ignores what is unknown or there twice, as `fieldValidation` says.
    pub(crate) fn report(
        &self,
        strict: &[String],
        refused: impl Fn(String) -> ApiError,
    ) -> Result<(), ApiError> {
        if strict.is_empty() {
            return Ok(());
        }
        let named = &strict[..strict.len().min(NAMED)];
        match self.query.field_validation {
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                for error in named {
                    self.warn(error.clone());
                }
                Ok(())
            }
            FieldValidation::Strict => Err(refused(format!(
                "strict decoding error: {}",
                named.join(", ")
            ))),
        }
    }

    /// Reads what is posted to a subresource.
    pub(crate) fn posted<T: Typed>(&self, mut document: Document) -> Result<T, ApiError> {
        let kind = T::KIND;
        check_kind(&mut document.value, kind, T::API_VERSION)?;
        let refused = |why: String| {
            ApiError::BadRequest(format!(
                "{kind} in version {:?} cannot be handled as a {kind}: {why}",
                T::VERSION
            ))
        };
        let decoded = decode::decode::<T>(&document.value).map_err(|e| refused(e.to_string()))?;
        let Document {
            repeated, lines, ..
        } = &document;
        let strict = misfits(&self.body, repeated, lines, &decoded.unknown_fields);
        self.report(&strict, refused)?;
        Ok(decoded.object)
    }

    /// Brings the namespace of the object in line with the path's.
    pub(crate) fn settle_namespace(&self, metadata: &mut ObjectMeta) -> Result<(), ApiError> {
        if !self.row.namespaced() {
            metadata.namespace = None;
            return Ok(());
        }
        let given = metadata.namespace.as_deref().unwrap_or_default();
        if !given.is_empty() && given != self.namespace() {
            return Err(ApiError::BadRequest(
                "the namespace of the provided object does not match the namespace sent on the request"
                    .to_owned(),
            ));
        }
        metadata.namespace = Some(self.namespace().to_owned());
        Ok(())
    }

    /// Refuses an object whose name is not the path's.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), ApiError> {
        if name == self.name() {
            return Ok(());
        }
        if name.is_empty() {
            return Err(ApiError::BadRequest(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                self.name()
            )));
        }
        Err(ApiError::BadRequest(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            self.name()
        )))
    }
}

fn unknown_field(path: &str) -> String {
    format!("unknown field \"{path}\"")
}

/// What is said of fields that the type does not have.
fn unknown_fields(paths: &[String]) -> impl Iterator<Item = String> {
    paths.iter().map(|path| unknown_field(path))
}

/// What is said of keys that are there twice: by their lines, all at once, in YAML.
fn said(repeated: &[String], lines: &[String]) -> impl Iterator<Item = String> {
    let of_lines = patch::of_lines(lines);
    let paths = if of_lines.is_some() { &[] } else { repeated };
    let of_paths = paths.iter().map(|path| patch::duplicate_field(path));
    of_lines.into_iter().chain(of_paths)
}

/// What is said of a body that becomes a typed object, in the order in which the stock decoder meets it.
fn misfits(body: &[u8], repeated: &[String], lines: &[String], unknown: &[String]) -> Vec<String> {
    if !lines.is_empty() || repeated.len() + unknown.len() < 2 {
        return said(repeated, lines)
            .chain(unknown_fields(unknown))
            .collect();
    }
    let misfits = decode::in_order(body, repeated, unknown).into_iter();
    let said = misfits.map(|misfit| match misfit {
        Misfit::Unknown(path) => unknown_field(&path),
        Misfit::Repeated(path) => patch::duplicate_field(&path),
    });
    said.collect()
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
