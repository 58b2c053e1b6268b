//! CustomResourceDefinitions become rows of the registry, and rows go with them.
//!
//! One task follows the definitions: it puts and removes rows, says in each definition's status
//! whether it is served (`Established`) or why not (`NamesAccepted`), and removes the objects of a
//! definition that is gone. A definition in a group of the server's own is never served: such can only come from a
//! database of an older version, and their objects are left where they are.
//!
//! A definition that is deleted stays, under a finalizer, until its objects are gone: each is deleted as a client would,
//! so that those with finalizers of their own wait for whoever takes them away. Meanwhile no object is created.

mod conversion;
mod naming;
mod outline;
mod printer;
mod row;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::status::ApiError;
use berth_store::{Expect, Revision};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames as Names,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::naming::{Conflict, Used};
use self::outline::Outline;
use self::status::Told;
use crate::kinds::CLEANUP;
use crate::metadata as meta;
use crate::registry::{BuiltInGroup, Registry};
use crate::storage::{Decoded, Storage, Stored, key};

const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// A definition that is served.
struct Served {
    group: String,
    plural: String,
    /// What its row was made from.
    made_from: MadeFrom,
    /// Why the schema of a version can't be enforced.
    violation: Option<String>,
}

/// What the row of a definition follows from: a definition whose status alone has changed has the same.
#[derive(PartialEq)]
struct MadeFrom {
    uid: Option<String>,
    /// Of the spec; a definition without one counts by its revision.
    generation: Result<i64, i64>,
    terminating: bool,
    names: Names,
}

impl MadeFrom {
    fn of(definition: &CustomResourceDefinition, names: &Names, revision: i64) -> Self {
        let metadata = &definition.metadata;
        Self {
            uid: metadata.uid.clone(),
            generation: metadata.generation.ok_or(revision),
            terminating: metadata.deletion_timestamp.is_some(),
            names: names.clone(),
        }
    }
}

/// What is known of the definitions from one time to the next.
#[derive(Default)]
struct Known {
    served: BTreeMap<String, Served>,
    decoded: Decoded<Outline>,
    /// What each status says already: it is looked at again only when that would be something else.
    told: BTreeMap<String, Told>,
}

/// Works until `shutdown`.
pub(crate) async fn run(
    registry: Arc<Registry>,
    storage: Arc<Storage>,
    shutdown: CancellationToken,
) {
    let mut changes = storage.cache(DEFINITIONS).subscribe();
    let mut known = Known::default();
    loop {
        changes.borrow_and_update();
        let ending = reconcile(&registry, &storage, &mut known).await;
        // What is left of a definition that ends is looked at again when some of it goes.
        let mut going: Vec<_> = ending
            .iter()
            .map(|name| storage.cache(name).subscribe())
            .collect();
        going.iter_mut().for_each(|one| {
            one.borrow_and_update();
        });
        if ending
            .iter()
            .any(|name| storage.list(name, None).is_empty())
        {
            continue;
        }
        let gone = async {
            if going.is_empty() {
                return std::future::pending().await;
            }
            let changes = going.iter_mut().map(|one| Box::pin(one.changed()));
            let _ = futures::future::select_all(changes).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = gone => {},
        }
    }
}

/// Brings rows and status to what the definitions say. The answer: the storage names of those that wait for their
/// objects to go.
async fn reconcile(
    registry: &Registry,
    storage: &Arc<Storage>,
    Known {
        served,
        decoded,
        told,
    }: &mut Known,
) -> Vec<String> {
    let mut ending = Vec::new();
    // Others may write at the same time, and this server may see it late: all definitions as they were at one revision.
    let (definitions, seen) = storage.cache(DEFINITIONS).snapshot(None, storage.applied());
    let gone: Vec<String> = served
        .keys()
        .filter(|name| !definitions.iter().any(|d| d.name.as_ref() == name.as_str()))
        .cloned()
        .collect();
    for name in gone {
        told.remove(&name);
        if let Some(gone) = served.remove(&name) {
            registry.remove(&gone.group, &gone.plural);
            let name = key::custom(&gone.group, &gone.plural);
            remove_objects(storage, &name, seen).await;
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
            && let Err(refused) = serve((registry, storage), served, stored, definition, &names)
        {
            established = false;
            let reason = "PluralConflict";
            let message = refused.to_string();
            tracing::warn!(definition = %stored.name, error = message, "a CustomResourceDefinition is not served");
            conflict = Some(Conflict { reason, message });
            names = Names::default();
        }
        given[at] = names;
        if definition.metadata.deletion_timestamp.is_some() {
            match end(storage, stored, definition).await {
                Ok(true) => {}
                Ok(false) => {
                    ending.push(key::custom(
                        &definition.spec.group,
                        &definition.spec.names.plural,
                    ));
                }
                Err(error) => {
                    tracing::warn!(name = %stored.name, %error, "a CustomResourceDefinition could not be ended");
                }
            }
            continue;
        }
        let wanted = Told {
            revision: stored.revision,
            names: given[at].clone(),
            conflict,
            established,
            violation: served
                .get(stored.name.as_ref())
                .and_then(|served| served.violation.clone()),
        };
        if told.get(stored.name.as_ref()) == Some(&wanted) {
            continue;
        }
        match write_status(storage, stored, definition, &wanted).await {
            Ok(StatusWrite::Needless) => {
                told.insert(stored.name.to_string(), wanted);
            }
            Ok(StatusWrite::Written) => {}
            Err(error) => {
                tracing::warn!(name = %stored.name, %error, "the status of a CustomResourceDefinition could not be written");
            }
        }
    }
    ending
}

/// Deletes the objects of a definition that is being deleted, and when they are gone takes its finalizer away. False:
/// some wait for their own finalizers.
async fn end(
    storage: &Storage,
    stored: &Stored,
    definition: &CustomResourceDefinition,
) -> Result<bool, ApiError> {
    let finalizers = definition
        .metadata
        .finalizers
        .as_deref()
        .unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
        // Somebody else's finalizer keeps it.
        return Ok(true);
    }
    let name = key::custom(&definition.spec.group, &definition.spec.names.plural);
    for object in storage.list(&name, None) {
        let expect = Expect::Revision(object.revision);
        let mut value = object.value().unwrap_or(Value::Null);
        let waits = value["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty());
        if !waits {
            storage
                .remove(&name, &object.namespace, &object.name, expect)
                .await?;
        } else if value["metadata"]["deletionTimestamp"].is_null() {
            value["metadata"]["deletionTimestamp"] = meta::time(jiff::Timestamp::now());
            value["metadata"]["deletionGracePeriodSeconds"] = Value::from(0);
            meta::set(&mut value, "resourceVersion", None);
            storage
                .put(&name, &object.namespace, &object.name, expect, value)
                .await?;
        }
    }
    if !storage.list(&name, None).is_empty() {
        return Ok(false);
    }
    let expect = Expect::Revision(stored.revision);
    let left: Vec<&String> = finalizers
        .iter()
        .filter(|finalizer| *finalizer != CLEANUP)
        .collect();
    if left.is_empty() {
        storage
            .remove(DEFINITIONS, "", &stored.name, expect)
            .await?;
    } else {
        let mut value = stored.value()?;
        value["metadata"]["finalizers"] = Value::from_iter(left.into_iter().cloned());
        meta::set(&mut value, "resourceVersion", None);
        storage
            .put(DEFINITIONS, "", &stored.name, expect, value)
            .await?;
    }
    Ok(true)
}

/// Puts the row of a definition, unless it is there as it should be.
fn serve(
    (registry, storage): (&Registry, &Arc<Storage>),
    served: &mut BTreeMap<String, Served>,
    stored: &Stored,
    definition: &CustomResourceDefinition,
    names: &Names,
) -> Result<(), BuiltInGroup> {
    let name = stored.name.as_ref();
    let made_from = MadeFrom::of(definition, names, stored.revision);
    if served.get(name).is_some_and(|s| s.made_from == made_from) {
        return Ok(());
    }
    // Its outline was decoded from the same bytes; a failure is logged.
    let Ok(definition) = stored.decode::<CustomResourceDefinition>() else {
        return Ok(());
    };
    let converter = conversion::of(&definition, storage);
    let row = row::of(&definition, names, converter, stored.revision);
    let violation = row.strategy.unenforceable();
    let (key, labels) = (row.storage.clone(), row.strategy.field_labels().to_vec());
    registry.put(row)?;
    storage.declare(&key, &labels);
    let now = Served {
        group: definition.spec.group.clone(),
        plural: definition.spec.names.plural.clone(),
        made_from,
        violation,
    };
    served.insert(name.to_owned(), now);
    Ok(())
}

/// Removes what is left of a definition that was not there at a revision. What is newer belongs to another definition of that
/// name, which has been made since.
async fn remove_objects(storage: &Storage, name: &str, seen: Revision) {
    let left = storage.list(name, None);
    for object in left.iter().filter(|object| object.revision <= seen) {
        let expect = Expect::Revision(object.revision);
        let removed = storage
            .remove(name, &object.namespace, &object.name, expect)
            .await;
        if let Err(error) = removed {
            tracing::warn!(storage = name, %error, "an object of a removed definition stays");
            return;
        }
    }
}

/// What became of a status.
enum StatusWrite {
    /// It says already what it should.
    Needless,
    /// It was written, or somebody changed the definition meanwhile: either brings us here again.
    Written,
}

/// Says in the definition's status whether it is served.
async fn write_status(
    storage: &Storage,
    stored: &Stored,
    definition: &CustomResourceDefinition,
    wanted: &Told,
) -> Result<StatusWrite, ApiError> {
    let now = meta::time(jiff::Timestamp::now());
    let mut before = stored.value()?;
    meta::set(&mut before, "resourceVersion", None);
    let object = status::with_status(before.clone(), definition, wanted, &now);
    if object == before {
        return Ok(StatusWrite::Needless);
    }
    let expect = Expect::Revision(stored.revision);
    storage
        .put(DEFINITIONS, "", &stored.name, expect, object)
        .await
        .map(|_| StatusWrite::Written)
}

/// Reads any bytes as what a webhook that converts has answered.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_review(data: &[u8]) {
    conversion::fuzz_review(data);
}

#[cfg(test)]
mod tests;
