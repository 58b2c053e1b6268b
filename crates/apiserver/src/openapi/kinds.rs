//! The generated schemas of `schemas.json`, and the built-in kinds that have one, by group, version and
//! kind. `scripts/generate-openapi-schemas` writes the file from the types of k8s-openapi.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// What stands before a name in the references of the generated schemas.
pub(super) const REFERENCE: &str = "#/definitions/";

/// A built-in kind.
#[derive(Deserialize)]
pub(super) struct Kind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    /// The name of its schema.
    pub(super) schema: &'static str,
}

/// The file. A schema stays text until a document needs it.
#[derive(Default, Deserialize)]
pub(super) struct Generated {
    pub(super) kinds: Vec<Kind>,
    #[serde(borrow)]
    pub(super) definitions: BTreeMap<&'static str, &'static RawValue>,
}

pub(super) static GENERATED: LazyLock<Generated> = LazyLock::new(|| {
    // a test reads all of it, so a file that cannot be read is never built into a release
    serde_json::from_str(include_str!("schemas.json")).unwrap_or_else(|error| {
        tracing::error!(%error, "the generated OpenAPI schemas cannot be read");
        Generated::default()
    })
});

/// The kind of that name.
pub(super) fn find(group: &str, version: &str, name: &str) -> Option<&'static Kind> {
    GENERATED
        .kinds
        .iter()
        .find(|k| k.group == group && k.version == version && k.kind == name)
}

/// The generated schema of that name, whose references begin with [`REFERENCE`].
pub(super) fn definition(name: &str) -> Option<Value> {
    let schema = GENERATED.definitions.get(name)?;
    serde_json::from_str(schema.get())
        .inspect_err(
            |error| tracing::error!(name, %error, "a generated OpenAPI schema cannot be read"),
        )
        .ok()
}
