//! The four kinds of patch, as pure functions on JSON values.
//!
//! * [`json`]: JSON patch, RFC 6902
//! * [`merge`]: JSON merge patch, RFC 7386
//! * [`strategic`]: Kubernetes' strategic merge patch, with its directives
//! * [`apply`]: server-side apply, and the bookkeeping of `metadata.managedFields` that every
//!   other write needs too
//!
//! None of them decodes, defaults or validates: they make the next object, the caller judges it.

pub mod apply;
pub mod json;
pub mod merge;
pub mod schema;
pub mod strategic;

use berth_api::decode::{Document, MAX_PROBLEMS, check_depth};
use berth_api::status::{ApiError, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde_json::Value;

use self::apply::Known;
use crate::negotiate;
use crate::registry::Resource;

pub use crate::query::PatchKind;

/// Why a patch could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is not a patch: 400 BadRequest.
    #[error("error decoding patch: {reason}")]
    Malformed {
        /// What was wrong with it.
        reason: String,
    },
    /// A patch, but of a form that has no meaning for this field: 400 BadRequest.
    #[error("{reason}")]
    BadForm {
        /// What was wrong with it.
        reason: String,
    },
    /// A patch that does not fit the object: 422 Invalid, without causes.
    #[error("the server rejected our request due to an error in our request: {reason}")]
    Unprocessable {
        /// What did not fit.
        reason: String,
    },
    /// An applied configuration of a kind that is not the resource's: 500 without a reason, as the stock server has it.
    #[error(
        "failed to create typed patch object: no corresponding type for {api_version}, Kind={kind}"
    )]
    Untyped {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// Too many operations: 413 RequestEntityTooLarge.
    #[error("The allowed maximum operations in a JSON patch is {limit}, got {got}")]
    TooManyOperations {
        /// The limit.
        limit: usize,
        /// The number in the patch.
        got: usize,
    },
    /// Copies that add too much: 413 RequestEntityTooLarge.
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {got}, exceeding the limit {limit}"
    )]
    CopiesTooMuch {
        /// The limit in bytes.
        limit: u64,
        /// The bytes with this copy.
        got: u64,
    },
    /// Operations that look at or shift too much: 413 RequestEntityTooLarge.
    #[error(
        "The operations of the JSON patch move more than {limit} values; send the new object in one operation"
    )]
    MovesTooMuch {
        /// The limit.
        limit: u64,
    },
}

impl PatchError {
    /// The HTTP status code that the stock server answers with.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Malformed { .. } | Self::BadForm { .. } => 400,
            Self::Unprocessable { .. } => 422,
            Self::Untyped { .. } => 500,
            Self::TooManyOperations { .. }
            | Self::CopiesTooMuch { .. }
            | Self::MovesTooMuch { .. } => 413,
        }
    }

    pub(crate) fn malformed(reason: impl ToString) -> Self {
        Self::Malformed {
            reason: reason.to_string(),
        }
    }

    pub(crate) fn bad_form(reason: impl ToString) -> Self {
        Self::BadForm {
            reason: reason.to_string(),
        }
    }

    pub(crate) fn unprocessable(reason: impl ToString) -> Self {
        Self::Unprocessable {
            reason: reason.to_string(),
        }
    }
}

/// What a write is about, for patches and for managedFields.
#[derive(Clone, Copy, Debug)]
pub struct WriteContext<'a> {
    /// The row.
    pub resource: &'a Resource,
    /// The version in which the request speaks; objects here are in this version.
    pub version: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Field manager: `fieldManager`, or the first part of the user agent
    /// ([`apply::manager_of_user_agent`]).
    pub manager: &'a str,
    /// `force=true` of an apply.
    pub force: bool,
    /// Now.
    pub now: jiff::Timestamp,
}

impl WriteContext<'_> {
    fn ty(&self) -> Option<&'static schema::Type> {
        schema::of_kind(&self.resource.group, self.version, &self.resource.kind)
    }

    /// What is known of the objects.
    fn known(&self) -> Known<'_> {
        known(self.resource, self.version)
    }

    fn write<T>(&self, write: impl FnOnce(&apply::Writer<'_>) -> T) -> T {
        let ignored: &[&str] = match self.subresource {
            "" if self.resource.subresource("status").is_some() => &["status"],
            "status" => &["spec"],
            _ => &[],
        };
        let versions = self.resource.versions.iter();
        let versions: Vec<String> = versions
            .map(|version| self.resource.api_version(version))
            .collect();
        write(&apply::Writer {
            manager: self.manager,
            api_version: &self.resource.api_version(self.version),
            versions: &versions,
            subresource: self.subresource,
            time: &self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ignored,
        })
    }
}

fn known<'a>(resource: &'a Resource, version: &str) -> Known<'a> {
    let ty = schema::of_kind(&resource.group, version, &resource.kind);
    match (ty, resource.strategy.schema(version)) {
        (Some(ty), _) => Known::Type(ty),
        (None, Some(schema)) => Known::Schema(schema),
        (None, None) => Known::Nothing,
    }
}

/// Applies a patch to the object as it is (none: an apply that creates). The answer is not
/// validated. For an apply, `metadata.managedFields` of the answer are complete.
///
/// # Errors
/// `BadRequest` for a malformed patch, `Unprocessable` for one that does not fit,
/// `UnsupportedMediaType` for a strategic merge patch of a kind without Go types,
/// `ApplyConflict` for an apply that meets other managers' fields.
pub fn apply(
    kind: PatchKind,
    current: Option<&Value>,
    body: &[u8],
    ctx: &WriteContext<'_>,
) -> Result<Value, ApiError> {
    let current_or = |name: &str| {
        let subject = Subject::new(&*ctx.resource.group, &*ctx.resource.plural, name);
        current.ok_or(ApiError::NotFound(subject))
    };
    let patched = match kind {
        PatchKind::Json => json::apply(current_or("")?, body)?,
        PatchKind::Merge => merge::apply(current_or("")?, &parse_object(body)?),
        PatchKind::Strategic => {
            let Some(ty) = ctx.ty() else {
                let accepted = PatchKind::MEDIA_TYPES
                    .into_iter()
                    .filter(|t| !t.contains("strategic"));
                return Err(ApiError::UnsupportedMediaType(
                    accepted.collect::<Vec<_>>().join(", "),
                ));
            };
            strategic::apply(Some(ty), current_or("")?, &parse_object(body)?)?
        }
        PatchKind::Apply => {
            let config = configuration(body, ctx)?;
            ctx.write(|writer| apply::apply(ctx.known(), current, &config, writer, ctx.force))?
        }
    };
    check_depth(&patched).map_err(PatchError::unprocessable)?;
    Ok(patched)
}

/// Applies a configuration that was read already.
///
/// # Errors
/// As [`apply`] of a configuration.
pub(crate) fn apply_configuration(
    current: &Value,
    config: &Value,
    ctx: &WriteContext<'_>,
) -> Result<Value, ApiError> {
    let applied =
        ctx.write(|writer| apply::apply(ctx.known(), Some(current), config, writer, ctx.force))?;
    check_depth(&applied).map_err(PatchError::unprocessable)?;
    Ok(applied)
}

/// Lays a configuration over an object of a kind in a version, as an apply does that owns nothing yet: for mutations of
/// policies, which have no manager.
///
/// # Errors
/// `Unexplained` for a configuration that does not fit its type, or that would replace a list or map as a whole.
pub(crate) fn merge_configuration(
    resource: &Resource,
    version: &str,
    object: &Value,
    config: &Value,
) -> Result<Value, ApiError> {
    let known = known(resource, version);
    Ok(apply::merge_configuration(known, object, config)?)
}

/// Keeps `metadata.managedFields` of `new` after a create, an update or a patch other than apply.
/// `new` carries what the client sent in managedFields; `old` is what is stored.
pub fn track(old: Option<&Value>, new: &mut Value, ctx: &WriteContext<'_>) {
    ctx.write(|writer| apply::track(ctx.known(), old, new, writer));
}

/// What `metadata.managedFields` says of a new object whose client has said nothing of owners: one entry, none when it owns
/// nothing. `new` is in the version of the request.
pub(crate) fn created(new: &Value, ctx: &WriteContext<'_>) -> Option<ManagedFieldsEntry> {
    let seconds = jiff::Timestamp::from_second(ctx.now.as_second()).unwrap_or(ctx.now);
    ctx.write(|writer| {
        let fields = apply::created(ctx.known(), new, writer)?;
        Some(ManagedFieldsEntry {
            manager: Some(writer.manager.to_owned()),
            operation: Some("Update".to_owned()),
            api_version: Some(writer.api_version.to_owned()),
            fields_type: Some("FieldsV1".to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            time: Some(Time(seconds)),
            subresource: Some(writer.subresource.to_owned()).filter(|name| !name.is_empty()),
        })
    })
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed { .. } | PatchError::BadForm { .. } => {
                Self::BadRequest(error.to_string())
            }
            PatchError::Unprocessable { reason } => Self::Unprocessable(reason),
            PatchError::Untyped { .. } => Self::Unexplained(error.to_string()),
            PatchError::TooManyOperations { .. }
            | PatchError::CopiesTooMuch { .. }
            | PatchError::MovesTooMuch { .. } => Self::RequestEntityTooLarge(error.to_string()),
        }
    }
}

impl From<apply::ApplyError> for ApiError {
    fn from(error: apply::ApplyError) -> Self {
        let message = error.to_string();
        match error {
            apply::ApplyError::Conflict(conflicts) => Self::ApplyConflict {
                message,
                conflicts: conflicts
                    .into_iter()
                    .map(|c| (c.field.clone(), c.message()))
                    .collect(),
            },
            apply::ApplyError::ManagedFieldsSet => Self::BadRequest(message),
            apply::ApplyError::Atomic(_) => Self::Unexplained(message),
            apply::ApplyError::MissingKey { .. } | apply::ApplyError::DuplicateItem { .. } => {
                Self::Unexplained(format!("failed to create typed patch object: {message}"))
            }
        }
    }
}

fn parse_object(body: &[u8]) -> Result<Value, PatchError> {
    let patch = Document::from_json(body)
        .map_err(PatchError::malformed)?
        .value;
    if patch.is_object() {
        Ok(patch)
    } else {
        Err(PatchError::malformed("the patch must be a JSON object"))
    }
}

/// The applied configuration, YAML or JSON, which must be of the kind and version it is sent to.
///
/// # Errors
/// What cannot be read is malformed, another kind or version a bad form.
pub fn configuration(body: &[u8], ctx: &WriteContext<'_>) -> Result<Value, PatchError> {
    let wanted = ctx.resource.api_version(ctx.version);
    configuration_of(body, &wanted, &ctx.resource.kind).map(|document| document.value)
}

/// An applied configuration of a version and a kind.
///
/// # Errors
/// As [`configuration`].
pub(crate) fn configuration_of(
    body: &[u8],
    wanted: &str,
    kind: &str,
) -> Result<Document, PatchError> {
    let document = read_configuration(body)?;
    let config = &document.value;
    let says = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    if !config.is_object() || says("apiVersion").is_empty() || says("kind").is_empty() {
        return Err(PatchError::malformed(
            "apiVersion and kind must be set in an apply patch",
        ));
    }
    if says("apiVersion") != wanted {
        return Err(PatchError::bad_form(format!(
            "Incorrect version specified in apply patch. Specified patch version: {}, expected: {wanted}",
            says("apiVersion")
        )));
    }
    if says("kind") != kind {
        return Err(PatchError::Untyped {
            api_version: wanted.to_owned(),
            kind: says("kind").to_owned(),
        });
    }
    Ok(document)
}

/// What is said of a key that is there twice.
pub(crate) fn duplicate_field(path: &str) -> String {
    format!("duplicate field {path:?}")
}

/// What the stock YAML decoder says of keys that are there twice, all of them at once; none: there are none.
pub(crate) fn of_lines(lines: &[String]) -> Option<String> {
    (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:\n  {}", lines.join("\n  ")))
}

fn read_configuration(body: &[u8]) -> Result<Document, PatchError> {
    match Document::from_json(body) {
        Ok(document) => Ok(document),
        Err(_) => negotiate::yaml(body).map_err(PatchError::malformed),
    }
}

/// What `fieldValidation` has to say about the patch itself, apart from the object that it makes: keys that are
/// there twice, and fields that an operation of a JSON patch does not have.
#[must_use]
pub fn strict_errors(kind: PatchKind, body: &[u8]) -> Vec<String> {
    /// No operation has a field of such a length, so what it is called is of little use.
    const MAX_NAME_CHARS: usize = 256;
    const OPERATION: [&str; 4] = ["op", "path", "from", "value"];
    let read = match kind {
        PatchKind::Apply => {
            let read = read_configuration(body).unwrap_or_default();
            if read.repeated.is_empty() {
                return Vec::new();
            }
            // It counts as YAML, whatever it is written in.
            let lines = match read.lines.as_slice() {
                [] => negotiate::repeated_lines(body),
                _ => read.lines,
            };
            let said =
                of_lines(&lines).map(|said| format!("error converting YAML to JSON: {said}"));
            return match said {
                Some(said) => vec![said],
                None => read
                    .repeated
                    .iter()
                    .map(|path| duplicate_field(path))
                    .collect(),
            };
        }
        PatchKind::Json | PatchKind::Merge | PatchKind::Strategic => {
            Document::from_json(body).unwrap_or_default()
        }
    };
    let repeated = read.repeated.iter().map(|path| duplicate_field(path));
    if kind != PatchKind::Json {
        return repeated.collect();
    }
    let operations = read.value.as_array().into_iter().flatten().enumerate();
    let unknown = operations.flat_map(|(i, operation)| {
        let fields = operation.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| !OPERATION.contains(&name.as_str()))
            .map(move |(name, _)| {
                let name: String = name.chars().take(MAX_NAME_CHARS).collect();
                format!("unknown field \"[{i}].{name}\"")
            })
    });
    repeated
        .chain(unknown)
        .take(MAX_PROBLEMS)
        .map(|error| format!("json patch {error}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_checked_as_strictly_as_objects() {
        for (kind, body, want) in [
            (
                PatchKind::Merge,
                r#"{"a": 1, "b": {"c": 1, "c": 2}}"#,
                vec![r#"duplicate field "b.c""#],
            ),
            (PatchKind::Strategic, r#"{"a": 1}"#, vec![]),
            (
                PatchKind::Apply,
                "a: 1\nb: [{c: 1, c: 2}]\na: 2\n",
                vec![
                    "error converting YAML to JSON: yaml: unmarshal errors:\n  line 2: key \"c\" already set in map\n  line 3: key \"a\" already set in map",
                ],
            ),
            (
                PatchKind::Apply,
                "{\"a\": {\n\t\"b\": 1,\n\t\"b\": 2},\n\"a\":\n  1}",
                vec![
                    "error converting YAML to JSON: yaml: unmarshal errors:\n  line 3: key \"b\" already set in map\n  line 5: key \"a\" already set in map",
                ],
            ),
            (
                PatchKind::Json,
                r#"[{"op": "add", "op": "add", "path": "/a", "frob": 1, "value": {"x": 1}}]"#,
                vec![
                    r#"json patch duplicate field "[0].op""#,
                    r#"json patch unknown field "[0].frob""#,
                ],
            ),
        ] {
            assert_eq!(strict_errors(kind, body.as_bytes()), want, "{body}");
        }
    }
}
