//! The strategy of a [`Kind`].

use std::marker::PhantomData;

use berth_api::decode;
use berth_api::status::ApiError;
use berth_core::usage;
use berth_rules::rbac::escalation::Grant;
use serde_json::Value;

use super::{Cluster, Ending, ScaleNumbers, Strategy, Write};
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind};
use crate::object::Object;
use crate::printer::Printer;
use crate::storage::{Beside, Storage};

/// The strategy of the kind `K`.
pub(crate) struct TypedKind<K> {
    quota_names: Vec<String>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> TypedKind<K> {
    /// The strategy.
    pub(crate) fn new() -> Self {
        Self {
            quota_names: usage::object_names(K::GROUP, K::PLURAL),
            kind: PhantomData,
        }
    }
}

impl<K: Kind> Strategy for TypedKind<K> {
    fn decode(
        &self,
        version: &str,
        object: Value,
        unknown: &mut Vec<String>,
    ) -> Result<Box<dyn Object>, ApiError> {
        Ok(Box::new(K::decode(version, object, unknown)?))
    }

    fn read(&self, stored: &Value) -> Result<Box<dyn Object>, String> {
        let object: K::Object = decode::from_value(stored).map_err(|e| e.to_string())?;
        Ok(Box::new(object))
    }

    fn has_generation(&self) -> bool {
        K::GENERATION.is_some()
    }

    fn moved_on(&self, new: &dyn Object, old: &dyn Object) -> Result<bool, ApiError> {
        match K::GENERATION {
            Some(moved_on) => Ok(moved_on(new.typed()?, old.typed()?)),
            None => Ok(false),
        }
    }

    fn create_on_update(&self) -> bool {
        K::UPDATES.create
    }

    fn unconditional_update(&self) -> bool {
        K::UPDATES.unconditional
    }

    fn field_labels(&self) -> &[FieldLabel] {
        K::FIELD_LABELS
    }

    fn quota_names(&self) -> &[String] {
        &self.quota_names
    }

    fn ending(&self) -> Ending {
        match K::DELETION {
            Deletion::Immediate => Ending::Immediate,
            Deletion::Graceful { .. } => Ending::Graceful,
            Deletion::Finalized { .. } => Ending::Finalized,
        }
    }

    fn shows_deleted(&self) -> bool {
        K::SHOWS_DELETED
    }

    fn grace_seconds(&self, object: &dyn Object, wanted: Option<i64>) -> Result<i64, ApiError> {
        match K::DELETION {
            Deletion::Graceful { seconds } => Ok(seconds(object.typed()?, wanted)),
            Deletion::Immediate | Deletion::Finalized { .. } => Ok(0),
        }
    }

    fn has_own_finalizers(&self, object: &dyn Object) -> Result<bool, ApiError> {
        match K::DELETION {
            Deletion::Finalized { pending, .. } => Ok(pending(object.typed()?)),
            Deletion::Immediate | Deletion::Graceful { .. } => Ok(false),
        }
    }

    fn mark_terminating(&self, object: &mut dyn Object) -> Result<(), ApiError> {
        match K::DELETION {
            Deletion::Finalized { mark, .. } => mark(object.typed_mut()?),
            Deletion::Immediate | Deletion::Graceful { .. } => {}
        }
        Ok(())
    }

    fn warnings(&self, new: &dyn Object, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        K::warnings(new.typed()?, cluster)
    }

    fn scale(&self, object: &dyn Object) -> Result<Option<ScaleNumbers>, ApiError> {
        let Some(scale) = K::scale() else {
            return Ok(None);
        };
        let object = object.typed()?;
        Ok(Some(ScaleNumbers {
            replicas: (scale.replicas)(object).unwrap_or(0),
            observed: (scale.observed)(object).unwrap_or(0),
            selector: (scale.selector)(object).unwrap_or_default(),
        }))
    }

    fn set_replicas(&self, object: &mut dyn Object, replicas: i32) -> Result<(), ApiError> {
        let scale = K::scale().ok_or(ApiError::NoSuchPath)?;
        (scale.set_replicas)(object.typed_mut()?, replicas);
        Ok(())
    }

    fn complete(
        &self,
        new: &mut dyn Object,
        old: Option<&dyn Object>,
        write: Write<'_>,
    ) -> Result<(), ApiError> {
        let old = match old {
            Some(old) => Some(old.typed()?),
            None => None,
        };
        K::complete(new.typed_mut()?, old, write);
        Ok(())
    }

    fn check(&self, new: &dyn Object, cluster: Cluster<'_>) -> Result<(), ApiError> {
        K::check(new.typed()?, cluster)
    }

    fn allocates(&self) -> bool {
        K::ALLOCATES
    }

    fn allocate(
        &self,
        new: Option<&mut dyn Object>,
        old: Option<&dyn Object>,
        cluster: Cluster<'_>,
    ) -> Result<Vec<Beside>, ApiError> {
        if !K::ALLOCATES {
            return Ok(Vec::new());
        }
        let new = match new {
            Some(new) => Some(new.typed_mut()?),
            None => None,
        };
        let old = match old {
            Some(old) => Some(old.typed()?),
            None => None,
        };
        K::allocate(new, old, cluster)
    }

    fn grant<'a>(
        &self,
        new: &'a dyn Object,
        old: Option<&'a dyn Object>,
    ) -> Result<Option<Grant<'a>>, ApiError> {
        let old = match old {
            Some(old) => Some(old.typed()?),
            None => None,
        };
        Ok(K::grant(new.typed()?, old))
    }

    fn wide_printer(&self, storage: &Storage) -> Option<Printer> {
        K::wide_printer(storage)
    }
}
