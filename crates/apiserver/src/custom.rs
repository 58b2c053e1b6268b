//! CustomResourceDefinitions become rows of the registry, and rows go with them.
//!
//! One task follows the definitions: it puts and removes rows, says in each definition's status
//! whether it is served (`Established`) or why not (`NamesAccepted`), and removes the objects of a
//! definition that is gone. A definition in a group of the server's own is never served: such can only come from a
//! database of an older version, and their objects are left where they are.

mod conversion;
mod naming;
mod printer;
mod row;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::status::ApiError;
use berth_store::Expect;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames as Names,
};
use tokio_util::sync::CancellationToken;

use self::naming::{Conflict, Used};
use crate::registry::{BuiltInGroup, Registry};
use crate::rest::meta;
use crate::storage::{Decoded, Storage, Stored, key};

const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// A definition that is served.
struct Served {
    group: String,
    plural: String,
    /// Revision of the definition.
    revision: i64,
}

/// Works until `shutdown`.
pub(crate) async fn run(
    registry: Arc<Registry>,
    storage: Arc<Storage>,
    shutdown: CancellationToken,
) {
    let mut changes = storage.cache(DEFINITIONS).subscribe();
    let mut served = BTreeMap::new();
    let mut decoded = Decoded::default();
    loop {
        changes.borrow_and_update();
        reconcile(&registry, &storage, &mut served, &mut decoded).await;
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

async fn reconcile(
    registry: &Registry,
    storage: &Arc<Storage>,
    served: &mut BTreeMap<String, Served>,
    decoded: &mut Decoded<CustomResourceDefinition>,
) {
    let definitions = storage.list(DEFINITIONS, None);
    let gone: Vec<String> = served
        .keys()
        .filter(|name| !definitions.iter().any(|d| d.name.as_ref() == name.as_str()))
        .cloned()
        .collect();
    for name in gone {
        if let Some(gone) = served.remove(&name) {
            registry.remove(&gone.group, &gone.plural);
            remove_objects(storage, &key::custom(&gone.group, &gone.plural)).await;
        }
    }
    // One that cannot be decoded is not served; it was logged.
    let definitions = decoded.pairs(definitions);
    let mut given: Vec<Names> = definitions
        .iter()
        .map(|(_, d)| status::accepted(d))
        .collect();
    for (at, (stored, definition)) in definitions.iter().enumerate() {
        let group = &definition.spec.group;
        let mut used = Used::default();
        // What has the names that it asks for keeps them, whatever the others have.
        if given[at] != definition.spec.names {
            for (n, (_, other)) in definitions.iter().enumerate() {
                if n != at && other.spec.group == *group {
                    used.add(&given[n]);
                }
            }
        }
        let (mut names, mut conflict) = naming::accept(&definition.spec.names, &given[at], &used);
        let mut established = conflict.is_none() || status::holds(definition, "Established");
        if established
            && let Err(refused) = serve(registry, storage, served, stored, definition, &names)
        {
            established = false;
            let reason = "PluralConflict";
            let message = refused.to_string();
            tracing::warn!(definition = %stored.name, error = message, "a CustomResourceDefinition is not served");
            conflict = Some(Conflict { reason, message });
            names = Names::default();
        }
        given[at] = names;
        let written = write_status(
            storage,
            stored,
            definition,
            &given[at],
            conflict.as_ref(),
            established,
        );
        if let Err(error) = written.await {
            tracing::warn!(name = %stored.name, %error, "the status of a CustomResourceDefinition could not be written");
        }
    }
}

/// Puts the row of a definition, unless it is there as it should be.
fn serve(
    registry: &Registry,
    storage: &Arc<Storage>,
    served: &mut BTreeMap<String, Served>,
    stored: &Stored,
    definition: &CustomResourceDefinition,
    names: &Names,
) -> Result<(), BuiltInGroup> {
    let name = stored.name.as_ref();
    if served
        .get(name)
        .is_some_and(|s| s.revision == stored.revision)
    {
        return Ok(());
    }
    let converter = conversion::of(definition, storage);
    registry.put(row::of(definition, names, converter))?;
    let now = Served {
        group: definition.spec.group.clone(),
        plural: definition.spec.names.plural.clone(),
        revision: stored.revision,
    };
    served.insert(name.to_owned(), now);
    Ok(())
}

async fn remove_objects(storage: &Storage, name: &str) {
    for object in storage.list(name, None) {
        let removed = storage
            .remove(name, &object.namespace, &object.name, Expect::Any)
            .await;
        if let Err(error) = removed {
            tracing::warn!(storage = name, %error, "an object of a removed definition stays");
            return;
        }
    }
}

/// Says in the definition's status whether it is served.
async fn write_status(
    storage: &Storage,
    stored: &Stored,
    definition: &CustomResourceDefinition,
    names: &Names,
    conflict: Option<&Conflict>,
    established: bool,
) -> Result<(), ApiError> {
    let now = meta::time(jiff::Timestamp::now());
    let mut before = stored.value()?;
    meta::set(&mut before, "resourceVersion", None);
    let object = status::with_status(
        before.clone(),
        definition,
        names,
        conflict,
        established,
        &now,
    );
    if object == before {
        return Ok(());
    }
    let expect = Expect::Revision(stored.revision);
    // When somebody changed it meanwhile, the change brings us here again.
    storage
        .put(DEFINITIONS, "", &stored.name, expect, object)
        .await
        .map(|_| ())
}
