//! The four kinds of patch, and who owns which field.

use serde_json::Value;

use berth_api::status::ApiError;

use crate::registry::Resource;

/// The kind of a patch, from the request's content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json` (RFC 6902).
    Json,
    /// `application/merge-patch+json` (RFC 7386).
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml` (or `+cbor`, not supported).
    Apply,
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
    /// Field manager: `fieldManager`, or the first part of the user agent.
    pub manager: &'a str,
    /// `force=true` of an apply.
    pub force: bool,
    /// Now.
    pub now: jiff::Timestamp,
}

/// Applies a patch to the object as it is (none: an apply that creates). The answer is not
/// validated. For an apply, `metadata.managedFields` of the answer are complete.
///
/// # Errors
/// `BadRequest` for a malformed patch, `Invalid` for one that cannot be applied, `Conflict` with
/// causes for an apply that meets other managers' fields.
pub fn apply(
    _kind: PatchKind,
    _current: Option<&Value>,
    _body: &[u8],
    _ctx: &WriteContext<'_>,
) -> Result<Value, ApiError> {
    Err(ApiError::BadRequest("patches are not built yet".to_owned()))
}

/// Keeps `metadata.managedFields` of `new` after a create, an update or a patch other than apply.
/// `new` carries what the client sent in managedFields; `old` is what is stored.
pub fn track(_old: Option<&Value>, _new: &mut Value, _ctx: &WriteContext<'_>) {}
