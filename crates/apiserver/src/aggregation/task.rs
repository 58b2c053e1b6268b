//! Keeps the APIServices: those of this server's own groups, and the conditions of all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_api::status::ApiError;
use berth_store::Expect;
use futures::future::join_all;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{API_SERVICES, Aggregation, Remote, Remotes, authentication, is_local, name_of};
use crate::metadata as meta;
use crate::registry::{Registry, Table};
use crate::storage::{Storage, Stored};

const CONFIG_MAPS: &str = "core/configmaps";
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// How often the groups of this server are compared, and the other servers looked at.
const GROUPS: Duration = Duration::from_secs(1);
const CHECKS: Duration = Duration::from_secs(15);

/// Priorities of the stock server: group, then versions.
const PRIORITIES: &[(&str, i32)] = &[
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 15_900),
];
const OTHER_PRIORITY: i32 = 1000;

/// Works until `shutdown`.
pub(crate) async fn run(
    aggregation: Arc<Aggregation>,
    registry: Arc<Registry>,
    storage: Arc<Storage>,
    shutdown: CancellationToken,
) {
    let mut changes = storage.cache(API_SERVICES).subscribe();
    let mut checked = tokio::time::Instant::now();
    let mut generation = 0;
    let mut tell = true;
    loop {
        let changed = changes.borrow_and_update();
        drop(changed);
        let table = registry.table();
        if tell {
            tell = publish(&aggregation, &storage).await.is_err();
        }
        let mut done = local(&storage, &table).await;
        // One list for both: a service that came in between would be judged without its client.
        let services = storage.list(API_SERVICES, None);
        follow(&aggregation, &services);
        registry.offer(|group, version| aggregation.has(group, version));
        let table = registry.table();
        done = done.and(check(&aggregation, &storage, &table, &services).await);
        if let Err(error) = &done {
            tracing::warn!(%error, "the APIServices could not be kept");
        }
        generation = if done.is_ok() {
            table.generation
        } else {
            generation
        };
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return } else { break },
                () = tokio::time::sleep(GROUPS) => {
                    let now = tokio::time::Instant::now();
                    let due = now.duration_since(checked) >= CHECKS;
                    if registry.table().generation != generation || due || tell {
                        checked = now;
                        break;
                    }
                }
            }
        }
    }
}

/// Tells the servers of APIServices by what they know this one.
async fn publish(aggregation: &Aggregation, storage: &Storage) -> Result<(), ApiError> {
    let Some(config) = &aggregation.config else {
        return Ok(());
    };
    let mut wanted = authentication(config);
    let name = "extension-apiserver-authentication";
    let expect = match storage.get(CONFIG_MAPS, "kube-system", name) {
        None => {
            wanted["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
            wanted["metadata"]["creationTimestamp"] = meta::time(jiff::Timestamp::now());
            Expect::Absent
        }
        Some(stored) => {
            let mut value = stored.value()?;
            if value["data"] == wanted["data"] {
                return Ok(());
            }
            value["data"] = wanted["data"].take();
            wanted = value;
            Expect::Revision(stored.revision)
        }
    };
    storage
        .put(CONFIG_MAPS, "kube-system", name, expect, wanted)
        .await
        .map(|_| ())
}

/// Puts the clients of the APIServices in place; those that are as before stay.
fn follow(aggregation: &Aggregation, services: &[Arc<Stored>]) {
    let before = aggregation.remotes.load_full();
    let mut now: Remotes = BTreeMap::new();
    // Those that cannot be read lead nowhere.
    let readable = services
        .iter()
        .filter_map(|stored| stored.decode::<APIService>().ok());
    for service in readable {
        let Some(remote) = Remote::new(&service, &aggregation.front) else {
            continue;
        };
        let key = (remote.group.clone(), remote.version.clone());
        let remote = match before.get(&key) {
            Some(same) if same.spec == remote.spec => Arc::clone(same),
            Some(_) | None => Arc::new(remote),
        };
        now.insert(key, remote);
    }
    aggregation.remotes.store(Arc::new(now));
}

/// Makes the APIServices of this server's own groups, and takes away those of groups that it no longer has.
async fn local(storage: &Storage, table: &Table) -> Result<(), ApiError> {
    let mut wanted = Vec::new();
    // Whoever takes the place of an optional group brings its APIService: one that is there already could not be
    // created, by Helm say.
    let groups = table.groups().into_iter();
    for (group, versions) in groups.filter(|(group, _)| !table.is_optional_group(group)) {
        for (at, version) in versions.iter().enumerate() {
            let name = name_of(&group, version);
            if storage.get(API_SERVICES, "", &name).is_none() {
                wanted.push((name, service(table, &group, version, at)));
            }
        }
    }
    let made = wanted.into_iter().map(|(name, object)| async move {
        storage
            .put(API_SERVICES, "", &name, Expect::Absent, object)
            .await
    });
    for made in join_all(made).await {
        made?;
    }
    for stored in storage.list(API_SERVICES, None) {
        if stored.label(MANAGED).is_none() {
            continue;
        }
        let Ok(service) = stored.decode::<APIService>() else {
            continue;
        };
        let spec = service.spec.unwrap_or_default();
        let (group, version) = (
            spec.group.unwrap_or_default(),
            spec.version.unwrap_or_default(),
        );
        if spec.service.is_none() && !is_local(table, &group, &version) {
            let expect = Expect::Revision(stored.revision);
            storage
                .remove(API_SERVICES, "", &stored.name, expect)
                .await?;
        }
    }
    Ok(())
}

fn service(table: &Table, group: &str, version: &str, at: usize) -> Value {
    let known = PRIORITIES.iter().find(|(known, _)| *known == group);
    let built_in = table.is_built_in_group(group);
    // The preferred version first, as discovery lists them.
    let behind = i32::try_from(at).unwrap_or(0).min(10);
    let (managed, version_priority) = if built_in {
        ("onstart", if group.is_empty() { 1 } else { 15 - behind })
    } else {
        ("true", 100 - behind)
    };
    let mut spec = json!({
        "version": version,
        "groupPriorityMinimum": known.map_or(OTHER_PRIORITY, |(_, priority)| *priority),
        "versionPriority": version_priority,
    });
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    let now = meta::time(jiff::Timestamp::now());
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": name_of(group, version), "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": now, "labels": {MANAGED: managed}},
        "spec": spec,
        "status": {"conditions": [available(None, "True", "Local", "Local APIServices are always available")]},
    })
}

/// The condition, which keeps the time of the one before that said the same.
fn available(before: Option<&Value>, status: &str, reason: &str, message: &str) -> Value {
    let now = meta::time(jiff::Timestamp::now());
    let since = before.filter(|before| before["status"] == status);
    let since = since.map(|before| before["lastTransitionTime"].clone());
    json!({"type": "Available", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since.unwrap_or(now)})
}

/// Looks at the servers of all APIServices, at once, and writes down what was found.
async fn check(
    aggregation: &Aggregation,
    storage: &Storage,
    table: &Table,
    services: &[Arc<Stored>],
) -> Result<(), ApiError> {
    let remotes = aggregation.remotes.load_full();
    let checks = services.iter().map(|stored| async {
        let service: APIService = stored.decode()?;
        let spec = service.spec.clone().unwrap_or_default();
        let key = (
            spec.group.unwrap_or_default(),
            spec.version.unwrap_or_default(),
        );
        let own = is_local(table, &key.0, &key.1);
        let (status, reason, message) = match (remotes.get(&key), own) {
            (Some(remote), false) => match remote.check(storage).await {
                Ok(()) => ("True", "Passed", "all checks passed".to_owned()),
                Err(why) => ("False", "FailedDiscoveryCheck", why),
            },
            (Some(remote), true) => {
                remote.lose();
                let why = "the API server serves this group itself; the service is never asked";
                ("False", "ServedLocally", why.to_owned())
            }
            (None, true) => {
                let why = "Local APIServices are always available";
                ("True", "Local", why.to_owned())
            }
            (None, false) => {
                let why = "no CustomResourceDefinition or Service serves this group and version";
                ("False", "NotServed", why.to_owned())
            }
        };
        let mut value = stored.value()?;
        let before = value
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .cloned();
        let mut conditions = before.clone().unwrap_or_default();
        let old = conditions.iter().position(|c| c["type"] == "Available");
        let condition = available(old.map(|at| &conditions[at]), status, reason, &message);
        match old {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
        if before.as_ref() == Some(&conditions) {
            return Ok(());
        }
        value["status"]["conditions"] = Value::Array(conditions);
        let expect = Expect::Revision(stored.revision);
        // When somebody changed it meanwhile, the change brings us here again.
        storage
            .put(API_SERVICES, "", &stored.name, expect, value)
            .await
            .map(|_| ())
    });
    join_all(checks).await.into_iter().collect()
}
