//! What a kind of this server's own must say: what is missing does not compile. `kinds` has the kinds.

use berth_api::decode;
use berth_api::status::ApiError;
use berth_rules::rbac::escalation::Grant;
use serde_json::Value;

use crate::field_label::FieldLabel;
use crate::object::Typed;
use crate::printer::Printer;
use crate::registry::{Convert, Gvk, ResourceHandler, Scope, Subresource};
use crate::storage::{Beside, Storage};
use crate::strategy::{Cluster, Write};

/// The error for an object that does not fit its type.
fn decode_error(error: &decode::DecodeError) -> ApiError {
    ApiError::BadRequest(error.to_string())
}

/// Decodes what a client has sent into `T`, with the fields that `T` lacks, and fills in defaults.
///
/// # Errors
/// `BadRequest` for what does not fit the type.
pub(crate) fn decode_as<T: Typed>(
    object: &Value,
    unknown: &mut Vec<String>,
) -> Result<T, ApiError> {
    let decoded = decode::decode::<T>(object).map_err(|e| decode_error(&e))?;
    unknown.extend(decoded.unknown_fields);
    let mut typed = decoded.object;
    typed.default();
    Ok(typed)
}

/// Whether what `metadata.generation` counts differs: new, old.
pub(crate) type MovedOn<T> = fn(&T, &T) -> bool;

/// How objects of a kind are updated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Updates {
    /// A PUT to a name that does not exist creates it.
    pub(crate) create: bool,
    /// A PUT without a resourceVersion is accepted.
    pub(crate) unconditional: bool,
}

/// How objects of a kind are deleted.
pub(crate) enum Deletion<T> {
    /// At once, unless finalizers keep them.
    Immediate,
    /// After a grace period.
    Graceful {
        /// Its seconds, when so many (or none) are asked for.
        seconds: fn(&T, Option<i64>) -> i64,
    },
    /// When finalizers of their own, besides those in their metadata, are gone.
    Finalized {
        /// Whether there are any.
        pending: fn(&T) -> bool,
        /// Shows that the deletion has begun.
        mark: fn(&mut T),
    },
}

/// Where the numbers of the subresource `scale` are in an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale<T> {
    /// How many pods are wanted.
    pub(crate) replicas: fn(&T) -> Option<i32>,
    /// Changes how many are wanted.
    pub(crate) set_replicas: fn(&mut T, i32),
    /// How many there are.
    pub(crate) observed: fn(&T) -> Option<i32>,
    /// Which pods are counted, as the text of a label selector.
    pub(crate) selector: fn(&T) -> Option<String>,
}

/// A kind of this server's own.
pub(crate) trait Kind: 'static {
    /// What its objects are, in the storage version.
    type Object: Typed;

    /// API group; empty for the core group.
    const GROUP: &'static str = <Self::Object as k8s_openapi::Resource>::GROUP;
    /// Kind.
    const KIND: &'static str = <Self::Object as k8s_openapi::Resource>::KIND;
    /// Plural name, as in paths.
    const PLURAL: &'static str = <Self::Object as k8s_openapi::Resource>::URL_PATH_SEGMENT;
    /// Served versions, the preferred one first, which is also the stored one.
    const VERSIONS: &'static [&'static str];
    /// Whether objects live in a namespace.
    const SCOPE: Scope;
    /// Short names that kubectl takes.
    const SHORT_NAMES: &'static [&'static str];
    /// Categories such as `all`.
    const CATEGORIES: &'static [&'static str];
    /// Field labels that selectors may name, beside `metadata.name` and `metadata.namespace`.
    const FIELD_LABELS: &'static [FieldLabel];
    /// What `metadata.generation` counts; none: the kind has none.
    const GENERATION: Option<MovedOn<Self::Object>>;
    /// How objects are updated.
    const UPDATES: Updates;
    /// How objects are deleted.
    const DELETION: Deletion<Self::Object>;
    /// Whether the answer to a deletion is the object as it was last, instead of a Status: by kind, as on the stock server.
    const SHOWS_DELETED: bool = false;
    /// Whether the server hands something out to objects ([`Kind::allocate`]).
    const ALLOCATES: bool = false;

    /// Subresources.
    fn subresources() -> Vec<Subresource>;

    /// Printed columns.
    fn printer() -> Printer;

    /// What answers the resource's own path.
    fn handler() -> ResourceHandler {
        ResourceHandler::Stored
    }

    /// Storage name, group and version when another kind owns the objects.
    fn stored_as() -> Option<(&'static str, Gvk)> {
        None
    }

    /// Conversion of stored objects to the served versions; none when they look alike.
    fn convert() -> Option<Convert> {
        None
    }

    /// Reads an object in one of the served versions; fields that the version lacks are pushed to `unknown`.
    ///
    /// # Errors
    /// `BadRequest` for what does not fit the type.
    fn decode(
        _version: &str,
        object: Value,
        unknown: &mut Vec<String>,
    ) -> Result<Self::Object, ApiError> {
        decode_as(&object, unknown)
    }

    /// What the creator of an object is told besides.
    ///
    /// # Errors
    /// When what it depends on cannot be read.
    fn warnings(_new: &Self::Object, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }

    /// The numbers of the subresource `scale`, of kinds that have it.
    fn scale() -> Option<Scale<Self::Object>> {
        None
    }

    /// Sets what follows from who writes and when; after what the client may not set was restored.
    fn complete(_new: &mut Self::Object, _old: Option<&Self::Object>, _write: Write<'_>) {}

    /// Refuses a new object for what the rest of the cluster says of it.
    ///
    /// # Errors
    /// A refusal, or that what it depends on cannot be read.
    fn check(_new: &Self::Object, _cluster: Cluster<'_>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Hands out to an object what it is to have for itself, and takes back what it no longer has; without `new` it goes.
    /// Gives what has to be written with the object.
    ///
    /// # Errors
    /// That it asks for what it can't have, or that nothing is left.
    fn allocate(
        _new: Option<&mut Self::Object>,
        _old: Option<&Self::Object>,
        _cluster: Cluster<'_>,
    ) -> Result<Vec<Beside>, ApiError> {
        Ok(Vec::new())
    }

    /// What an object would give to somebody who might not have it, of more than it gave before.
    fn grant<'a>(_new: &'a Self::Object, _old: Option<&'a Self::Object>) -> Option<Grant<'a>> {
        None
    }

    /// Columns for kubectl, which shows the wide ones only when asked to; none: the stock columns.
    fn wide_printer(_storage: &Storage) -> Option<Printer> {
        None
    }
}
