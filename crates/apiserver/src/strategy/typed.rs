//! The rules of a kind that has a Rust type and [`Rules`] in `core`.

use std::marker::PhantomData;

use berth_api::decode;
use berth_api::field::FieldError;
use berth_api::status::ApiError;
use berth_core::rules::Rules;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{FieldLabel, RuleContext, Strategy};

/// Decodes an object in one version into its storage version's type, with its unknown fields.
pub type Decode = fn(&str, &Value, &mut Vec<String>) -> Result<Value, ApiError>;

/// What a typed kind says of itself beside its rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// See [`Strategy::has_generation`].
    pub generation: bool,
    /// See [`Strategy::create_on_update`].
    pub create_on_update: bool,
    /// See [`Strategy::unconditional_update`].
    pub conditional_update: bool,
    /// See [`Strategy::field_labels`].
    pub field_labels: &'static [FieldLabel],
    /// Decodes versions other than the storage version; none: all versions look alike.
    pub decode: Option<Decode>,
}

/// The strategy of a kind with a type.
pub struct Typed<T> {
    traits: Traits,
    kind: PhantomData<fn() -> T>,
}

impl<T> Typed<T> {
    /// The strategy of `T`.
    #[must_use]
    pub fn new(traits: Traits) -> Self {
        Self {
            traits,
            kind: PhantomData,
        }
    }
}

/// What a client is told of an object that does not fit its type.
#[must_use]
pub fn decode_error(error: &decode::DecodeError) -> ApiError {
    ApiError::BadRequest(error.to_string())
}

/// Decodes into `T`, fills in defaults, and gives back JSON.
///
/// # Errors
/// `BadRequest` for what does not fit the type.
pub fn decode_as<T: Rules + DeserializeOwned + Serialize>(
    object: &Value,
    unknown: &mut Vec<String>,
) -> Result<Value, ApiError> {
    let decoded = decode::decode::<T>(object).map_err(|e| decode_error(&e))?;
    unknown.extend(decoded.unknown_fields);
    let mut typed = decoded.object;
    typed.default();
    to_value(&typed)
}

fn to_value<T: Serialize>(typed: &T) -> Result<Value, ApiError> {
    serde_json::to_value(typed).map_err(|e| ApiError::Internal(e.to_string()))
}

impl<T: Rules + DeserializeOwned + Serialize> Typed<T> {
    fn typed(object: &Value) -> Option<T> {
        match decode::from_value(object) {
            Ok(typed) => Some(typed),
            Err(error) => {
                tracing::error!(%error, "an object that was decoded before does not fit its type");
                None
            }
        }
    }

    fn prepare(object: &mut Value, old: Option<&Value>, rule: impl FnOnce(&mut T, Option<&T>)) {
        let old = match old {
            Some(old) => match Self::typed(old) {
                Some(old) => Some(old),
                None => return,
            },
            None => None,
        };
        if let Some(mut typed) = Self::typed(object) {
            rule(&mut typed, old.as_ref());
            if let Ok(prepared) = to_value(&typed) {
                *object = prepared;
            }
        }
    }
}

impl<T: Rules + DeserializeOwned + Serialize> Strategy for Typed<T> {
    fn decode(
        &self,
        version: &str,
        object: Value,
        unknown: &mut Vec<String>,
    ) -> Result<Value, ApiError> {
        match self.traits.decode {
            Some(decode) => decode(version, &object, unknown),
            None => decode_as::<T>(&object, unknown),
        }
    }

    fn prepare_create(&self, object: &mut Value, ctx: RuleContext<'_>) {
        Self::prepare(object, None, |new, _| new.prepare_create(ctx.gates));
    }

    fn validate_create(&self, object: &Value, _ctx: RuleContext<'_>) -> Vec<FieldError> {
        Self::typed(object).map_or_else(Vec::new, |new| new.validate())
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, ctx: RuleContext<'_>) {
        Self::prepare(object, Some(old), |new, old| {
            if let Some(old) = old {
                new.prepare_update(old, ctx.gates);
            }
        });
    }

    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        _ctx: RuleContext<'_>,
    ) -> Vec<FieldError> {
        match (Self::typed(object), Self::typed(old)) {
            (Some(new), Some(old)) => new.validate_update(&old),
            _ => Vec::new(),
        }
    }

    fn prepare_status(&self, object: &mut Value, old: &Value, _ctx: RuleContext<'_>) {
        Self::prepare(object, Some(old), |new, old| {
            if let Some(old) = old {
                new.prepare_status(old);
            }
        });
    }

    fn validate_status(
        &self,
        object: &Value,
        old: &Value,
        _ctx: RuleContext<'_>,
    ) -> Vec<FieldError> {
        match (Self::typed(object), Self::typed(old)) {
            (Some(new), Some(old)) => new.validate_status(&old),
            _ => Vec::new(),
        }
    }

    fn has_generation(&self) -> bool {
        self.traits.generation
    }

    fn create_on_update(&self) -> bool {
        self.traits.create_on_update
    }

    fn unconditional_update(&self) -> bool {
        !self.traits.conditional_update
    }

    fn field_labels(&self) -> &'static [FieldLabel] {
        self.traits.field_labels
    }
}
