//! CustomResourceDefinitions become rows of the registry, and rows go with them.
//!
//! One task follows the definitions: it puts and removes rows, says in each definition's status
//! whether it is served (`Established`) or why not (`NamesAccepted`), and removes the objects of a
//! definition that is gone.

mod printer;
mod row;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::status::ApiError;
use berth_store::Expect;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::rest::meta;
use crate::storage::{Storage, Stored};

const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// A definition that is served: group, plural and the revision of the definition.
type Served = BTreeMap<String, (String, String, i64)>;

/// Works until `shutdown`.
pub(crate) async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    let mut changes = api.storage.cache(DEFINITIONS).subscribe();
    let mut served = Served::new();
    loop {
        changes.borrow_and_update();
        reconcile(&api, &mut served).await;
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

async fn reconcile(api: &Api, served: &mut Served) {
    let definitions = api.storage.list(DEFINITIONS, None);
    let gone: Vec<String> = served
        .keys()
        .filter(|name| !definitions.iter().any(|d| d.name.as_ref() == name.as_str()))
        .cloned()
        .collect();
    for name in gone {
        if let Some((group, plural, _)) = served.remove(&name) {
            api.registry.remove(&group, &plural);
            remove_objects(&api.storage, &format!("{group}/{plural}")).await;
        }
    }
    for stored in definitions {
        let current = served
            .get(stored.name.as_ref())
            .map(|(_, _, revision)| *revision);
        if current == Some(stored.revision) {
            continue;
        }
        // One that cannot be decoded is not served; it was logged.
        let Ok(definition) = stored.decode::<CustomResourceDefinition>() else {
            continue;
        };
        let spec = &definition.spec;
        let (group, plural) = (spec.group.clone(), spec.names.plural.clone());
        let taken = current.is_none() && api.registry.table().find_any(&group, &plural).is_some();
        if !taken {
            api.registry.put(row::of(&definition));
            served.insert(stored.name.to_string(), (group, plural, stored.revision));
        }
        if let Err(error) = write_status(api, &stored, &definition, taken).await {
            tracing::warn!(name = %stored.name, %error, "the status of a CustomResourceDefinition could not be written");
        }
    }
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
    api: &Api,
    stored: &Stored,
    definition: &CustomResourceDefinition,
    taken: bool,
) -> Result<(), ApiError> {
    let now = meta::time(jiff::Timestamp::now());
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        json!({"type": kind, "status": if holds { "True" } else { "False" }, "reason": reason,
            "message": message, "lastTransitionTime": now})
    };
    let conditions = if taken {
        let message = "the group and plural name are served by the server itself";
        json!([
            condition("NamesAccepted", false, "PluralConflict", message),
            condition(
                "Established",
                false,
                "NotAccepted",
                "not all names are accepted"
            ),
        ])
    } else {
        json!([
            condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                true,
                "InitialNamesAccepted",
                "the initial names have been accepted"
            ),
        ])
    };
    let stored_version = row::storage_version(definition);
    let mut object = stored.value()?;
    let is = |object: &Value| {
        let mut found: Vec<(String, String)> = object
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|c| {
                (
                    meta::text(c, "/type").to_owned(),
                    meta::text(c, "/status").to_owned(),
                )
            })
            .collect();
        found.sort();
        (
            found,
            object.pointer("/status/acceptedNames").cloned(),
            object.pointer("/status/storedVersions").cloned(),
        )
    };
    let before = is(&object);
    let mut status = json!({
        "conditions": conditions,
        "acceptedNames": object["spec"]["names"],
        "storedVersions": [stored_version],
    });
    if taken {
        status["acceptedNames"] = json!({"plural": "", "kind": ""});
    }
    object["status"] = status;
    if is(&object) == before {
        return Ok(());
    }
    let expect = Expect::Revision(stored.revision);
    // When somebody changed it meanwhile, the change brings us here again.
    api.storage
        .put(DEFINITIONS, "", &stored.name, expect, object)
        .await
        .map(|_| ())
}
