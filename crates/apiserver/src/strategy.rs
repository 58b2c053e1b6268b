//! What a kind adds to the generic verbs: decoding, how its objects are updated and deleted, what it warns of and gives.
//!
//! Two strategies: [`typed::TypedKind`] for kinds with a Rust type (all of `kinds`), and [`custom::Custom`] for those of
//! CustomResourceDefinitions.

pub(crate) mod custom;
pub(crate) mod scale;
pub(crate) mod typed;

use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use berth_rules::rbac::escalation::Grant;
use serde_json::Value;

use crate::allocation::ServiceSettings;
use crate::field_label::FieldLabel;
use crate::object::Object;
use crate::printer::Printer;
use crate::storage::{Beside, Storage};
use crate::user::User;

/// What the hooks of a kind may ask about the rest of the cluster.
#[derive(Clone, Copy)]
pub(crate) struct Cluster<'a> {
    /// The objects.
    pub(crate) storage: &'a Storage,
    /// The feature gates of this server.
    pub(crate) gates: &'a FeatureGates,
    /// Whether berth's own controllers run beside this server.
    pub(crate) controllers: bool,
    /// Whether the nodes enforce NetworkPolicies.
    pub(crate) network_policies: bool,
    /// From which ranges Services get addresses and node ports.
    pub(crate) services: &'a ServiceSettings,
}

/// Who writes, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'a> {
    /// Who.
    pub(crate) user: &'a User,
    /// When.
    pub(crate) now: jiff::Timestamp,
}

/// What the subresource `scale` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScaleNumbers {
    /// How many pods are wanted.
    pub(crate) replicas: i32,
    /// How many there are.
    pub(crate) observed: i32,
    /// Which pods are counted, as the text of a label selector.
    pub(crate) selector: String,
}

/// How objects of a kind end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// At once, unless finalizers keep them.
    Immediate,
    /// After a grace period that whoever runs them may use.
    Graceful,
    /// When finalizers of their own, besides those in their metadata, are gone.
    Finalized,
}

/// The rules of one kind, whatever its type. Objects are in the storage version, except in `decode`.
pub(crate) trait Strategy: Send + Sync {
    /// Reads an object in `version`, which a client has sent: wrong types are errors, the paths of fields that the type
    /// lacks are pushed to `unknown`. Fills in defaults; gives the object in its storage version.
    ///
    /// # Errors
    /// `BadRequest` for what does not fit the type.
    fn decode(
        &self,
        version: &str,
        object: Value,
        unknown: &mut Vec<String>,
    ) -> Result<Box<dyn Object>, ApiError>;

    /// Reads a stored object.
    ///
    /// # Errors
    /// What does not fit the type.
    fn read(&self, stored: &Value) -> Result<Box<dyn Object>, String>;

    /// Whether its objects have a type of their own, rather than a schema.
    fn is_typed(&self) -> bool {
        true
    }

    /// The field labels, beside those of metadata, that selectors of a version may name; none: all of [`Self::field_labels`].
    fn selectable_in(&self, _version: &str) -> Option<&[String]> {
        None
    }

    /// Whether objects of a version have other rules than those of the storage version.
    fn has_rules_of(&self, _version: &str) -> bool {
        false
    }

    /// Reads an object of a version as one that is judged by the rules of that version.
    ///
    /// # Errors
    /// What does not fit the type.
    fn read_by_rules_of(&self, _version: &str, object: &Value) -> Result<Box<dyn Object>, String> {
        self.read(object)
    }

    /// Why the schema of a version can't be enforced, of kinds that have one.
    fn unenforceable(&self) -> Option<String> {
        None
    }

    /// The structural schema of a version, of kinds that have one: it says how server-side apply merges.
    fn schema(&self, _version: &str) -> Option<&berth_schema::Schema> {
        None
    }

    /// Whether an object that was stored at this revision may lack defaults that the schema of a version has now.
    fn may_lack_defaults(&self, _stored_at: i64, _version: &str) -> bool {
        false
    }

    /// Fills in the defaults of a version.
    fn fill(&self, _version: &str, _object: &mut Value) {}

    /// Whether `metadata.generation` counts changes.
    fn has_generation(&self) -> bool;

    /// Whether what `metadata.generation` counts has changed.
    fn moved_on(&self, new: &dyn Object, old: &dyn Object) -> Result<bool, ApiError>;

    /// Whether a PUT to a name that does not exist creates it.
    fn create_on_update(&self) -> bool;

    /// Whether a PUT without a resourceVersion is accepted.
    fn unconditional_update(&self) -> bool;

    /// Field labels that selectors may name, beside `metadata.name` and `metadata.namespace`, with
    /// where in the object (a JSON pointer) each value is and what an absent one counts as.
    fn field_labels(&self) -> &[FieldLabel];

    /// Names that quotas count objects under.
    fn quota_names(&self) -> &[String];

    /// How objects end.
    fn ending(&self) -> Ending;

    /// Whether the answer to a deletion is the object as it was last, instead of a Status.
    fn shows_deleted(&self) -> bool;

    /// Seconds that the object may take to end, when `wanted` are asked for.
    fn grace_seconds(&self, object: &dyn Object, wanted: Option<i64>) -> Result<i64, ApiError>;

    /// Whether finalizers of the kind's own keep the object.
    fn has_own_finalizers(&self, object: &dyn Object) -> Result<bool, ApiError>;

    /// Changes what shows that the deletion has begun, beside the metadata.
    fn mark_terminating(&self, object: &mut dyn Object) -> Result<(), ApiError>;

    /// What the creator of an object is told besides.
    fn warnings(&self, new: &dyn Object, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError>;

    /// The numbers of the subresource `scale`; none: the kind has no such subresource.
    fn scale(&self, object: &dyn Object) -> Result<Option<ScaleNumbers>, ApiError>;

    /// Where that number is, as a JSON pointer.
    fn replicas_path(&self) -> &str {
        "/spec/replicas"
    }

    /// Changes how many pods are wanted, of a kind with the subresource `scale`.
    fn set_replicas(&self, object: &mut dyn Object, replicas: i32) -> Result<(), ApiError>;

    /// Sets what follows from who writes and when.
    fn complete(
        &self,
        new: &mut dyn Object,
        old: Option<&dyn Object>,
        write: Write<'_>,
    ) -> Result<(), ApiError>;

    /// Refuses a new object for what the rest of the cluster says of it.
    fn check(&self, new: &dyn Object, cluster: Cluster<'_>) -> Result<(), ApiError>;

    /// Whether objects get something that the server hands out, each to one of them.
    fn allocates(&self) -> bool;

    /// Hands it out to an object that is created or changed, and takes it back from one that changes or, without `new`,
    /// goes; what has to be written with the object.
    ///
    /// # Errors
    /// That it asks for what it can't have, or that nothing is left.
    fn allocate(
        &self,
        new: Option<&mut dyn Object>,
        old: Option<&dyn Object>,
        cluster: Cluster<'_>,
    ) -> Result<Vec<Beside>, ApiError>;

    /// What the object would give to somebody who might not have it.
    fn grant<'a>(
        &self,
        new: &'a dyn Object,
        old: Option<&'a dyn Object>,
    ) -> Result<Option<Grant<'a>>, ApiError>;

    /// Columns for kubectl, which shows the wide ones only when asked to; none: the stock columns.
    fn wide_printer(&self, storage: &Storage) -> Option<Printer>;
}
