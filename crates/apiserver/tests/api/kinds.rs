//! Every built-in kind beside those with a suite of their own: created, defaulted, refused when it is wrong, its status
//! written apart, shown, listed in discovery, deleted.

#[path = "kinds/cluster.rs"]
mod cluster;
#[path = "kinds/namespaced.rs"]
mod namespaced;
#[path = "kinds/workloads.rs"]
mod workloads;

use serde_json::{Value, json};

use super::harness::{Answer, Api};

/// A kind and what holds for it.
pub(crate) struct Case {
    /// Path of the collection.
    pub(crate) path: &'static str,
    /// Kind, singular and short names as discovery shows them.
    pub(crate) names: (&'static str, &'static [&'static str]),
    /// An object with as little as it needs.
    pub(crate) minimal: Value,
    /// Values that the server has set: JSON pointer, value.
    pub(crate) defaults: Vec<(&'static str, Value)>,
    /// Changes that make it invalid: JSON pointer, value, reason, field.
    pub(crate) wrong: Vec<(&'static str, Value, &'static str, &'static str)>,
    /// Changes that an update may not make: JSON pointer, value, reason, field.
    pub(crate) fixed: Vec<(&'static str, Value, &'static str, &'static str)>,
    /// A status to write; null: the kind has none.
    pub(crate) status: Value,
    /// A part of a warning of its creation; empty: there is none.
    pub(crate) warning: &'static str,
    /// The columns that are always shown.
    pub(crate) columns: &'static [&'static str],
    /// The cells of the new object, but its age.
    pub(crate) cells: Vec<Value>,
}

/// Kinds of the cases whose deletion is answered with the object itself; clients with typed answers rely on it.
const SHOWN_WHEN_DELETED: [&str; 13] = [
    "CSIDriver",
    "CSINode",
    "DeviceClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ResourceSlice",
    "Service",
    "StorageClass",
    "VolumeAttachment",
    "VolumeAttributesClass",
];

/// Sets a value at a JSON pointer, and what is above it.
pub(crate) fn set(object: &mut Value, pointer: &str, value: &Value) {
    let mut at = object;
    for part in pointer.split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) if at.is_array() => &mut at[index],
            _ => &mut at[part],
        };
    }
    *at = value.clone();
}

/// A pod template with label `app: web`.
pub(crate) fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1.27"}]}})
}

fn causes(status: &Value) -> Vec<(String, String)> {
    let causes = status["details"]["causes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    causes
        .iter()
        .map(|c| (text(&c["reason"]), text(&c["field"])))
        .collect()
}

#[track_caller]
fn assert_cause(status: &Value, reason: &str, field: &str, about: &str) {
    let causes = causes(status);
    let wanted = (reason.to_owned(), field.to_owned());
    assert!(
        causes.contains(&wanted),
        "{about}: {reason} {field} is not in {causes:?}"
    );
}

async fn check(api: &Api, case: &Case) {
    let (kind, _) = case.names;
    let path = case.path;
    let name = case.minimal["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    // wrong ones
    for (pointer, value, reason, field) in &case.wrong {
        let mut bad = case.minimal.clone();
        set(&mut bad, pointer, value);
        let answer = api.post(path, bad).await;
        let about = format!("{kind} {pointer}={value}: {}", answer.text);
        assert_eq!(answer.code, 422, "{about}");
        assert_cause(&answer.json(), reason, field, &about);
    }
    // created, without the status that the client brings
    let mut given = case.minimal.clone();
    if !case.status.is_null() {
        given["status"] = case.status.clone();
    }
    let answer = api.post(path, given).await;
    let warnings = answer.warnings().join("\n");
    assert_eq!(answer.code, 201, "{kind}: {}", answer.text);
    let made = answer.json();
    assert_eq!(
        warnings.is_empty(),
        case.warning.is_empty(),
        "{kind}: {warnings}"
    );
    assert!(warnings.contains(case.warning), "{kind}: {warnings}");
    assert_eq!(made["kind"], kind);
    for (pointer, value) in &case.defaults {
        assert_eq!(
            made.pointer(pointer),
            Some(value),
            "{kind} {pointer}: {made}"
        );
    }
    let one = format!("{path}/{name}");
    // its status is written at its own path and nowhere else
    if let Some(fields) = case.status.as_object() {
        for (field, value) in fields {
            assert_ne!(
                &made["status"][field], value,
                "{kind}: a client set status.{field}"
            );
        }
        let body = json!({"status": case.status});
        let main = api.merge(&one, body.clone()).await.expect(200);
        let written = api.merge(&format!("{one}/status"), body).await;
        assert_eq!(written.code, 200, "{kind}: {}", written.text);
        let written = written.json();
        for (field, value) in fields {
            assert_ne!(
                &main["status"][field], value,
                "{kind}: status.{field} by the main path"
            );
            assert_eq!(&written["status"][field], value, "{kind} status.{field}");
        }
        assert_eq!(written["spec"], made["spec"], "{kind}");
        assert_eq!(
            written["metadata"]["generation"], made["metadata"]["generation"],
            "{kind}"
        );
    }
    // what never changes
    for (pointer, value, reason, field) in &case.fixed {
        let (_, answer) = put(api, &one, |object| set(object, pointer, value)).await;
        let about = format!("{kind} {pointer}={value}: {}", answer.text);
        assert_eq!(answer.code, 422, "{about}");
        assert_cause(&answer.json(), reason, field, &about);
    }
    // an update that changes nothing, and one of labels
    let (current, same) = put(api, &one, |_| {}).await;
    let same = same.expect(200);
    assert_eq!(
        same["metadata"]["resourceVersion"], current["metadata"]["resourceVersion"],
        "{kind}"
    );
    let labelled = api
        .merge(&one, json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .expect(200);
    assert_eq!(labelled["metadata"]["labels"]["a"], "b", "{kind}");
    table(api, case, &name).await;
    discovery(api, case).await;
    apply(api, case, &one).await;
    let deleted = api.delete(&one).await.expect(200);
    let shown = if SHOWN_WHEN_DELETED.contains(&kind) {
        kind
    } else {
        "Status"
    };
    // A finalizer of the server's own keeps a ServiceCIDR for a while, if it has come by now.
    if kind != "ServiceCIDR" {
        assert_eq!(deleted["kind"], shown, "{deleted}");
        api.get(&one).await.expect(404);
    }
}

/// A PUT of the object as it is, with a change; again when the server itself has written it meanwhile.
async fn put(api: &Api, one: &str, change: impl Fn(&mut Value)) -> (Value, Answer) {
    loop {
        let current = api.get(one).await.expect(200);
        let mut changed = current.clone();
        change(&mut changed);
        let answer = api.put(one, &changed).await;
        if answer.code != 409 {
            return (current, answer);
        }
    }
}

async fn table(api: &Api, case: &Case, name: &str) {
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = api.raw("GET", case.path, &accept, "").await.expect(200);
    let columns = table["columnDefinitions"].as_array().unwrap();
    let shown: Vec<&str> = columns
        .iter()
        .filter(|c| c["priority"] == 0)
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(shown, case.columns, "{}", case.path);
    let rows = table["rows"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|r| r["object"]["metadata"]["name"] == name)
        .unwrap();
    let cells = row["cells"].as_array().unwrap();
    assert_eq!(cells.len(), columns.len(), "{}", case.path);
    let cells: Vec<Value> = columns
        .iter()
        .zip(cells)
        .filter(|(column, _)| column["name"] != "Age" && column["priority"] == 0)
        .map(|(_, cell)| cell.clone())
        .collect();
    assert_eq!(cells, case.cells, "{}", case.path);
}

async fn discovery(api: &Api, case: &Case) {
    let (kind, short) = case.names;
    let (base, plural) = case.path.rsplit_once('/').unwrap();
    let base = base.split("/namespaces/").next().unwrap();
    let list = api.get(base).await.expect(200);
    let resources = list["resources"].as_array().unwrap();
    let found = resources.iter().find(|r| r["name"] == plural).unwrap();
    assert_eq!(found["kind"], kind);
    assert_eq!(found["singularName"], kind.to_lowercase());
    assert_eq!(
        found["namespaced"],
        case.path.contains("/namespaces/"),
        "{kind}"
    );
    let names: Vec<&str> = found["shortNames"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    assert_eq!(names, short, "{kind}");
    let status = format!("{plural}/status");
    let has_status = resources.iter().any(|r| r["name"] == *status);
    assert_eq!(has_status, !case.status.is_null(), "{kind}");
}

/// Server-side apply of what is there: nothing but the ownership changes.
async fn apply(api: &Api, case: &Case, one: &str) {
    let (base, _) = case.path.rsplit_once('/').unwrap();
    let base = base.split("/namespaces/").next().unwrap();
    let version = base
        .trim_start_matches("/apis/")
        .trim_start_matches("/api/");
    let mut config = case.minimal.clone();
    config["apiVersion"] = json!(version);
    config["kind"] = json!(case.names.0);
    config["metadata"]["labels"] = json!({"applied": "yes"});
    let before = api.get(one).await.expect(200);
    let headers = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{one}?fieldManager=test&force=true");
    let answer = api.raw("PATCH", &path, &headers, config.to_string()).await;
    assert_eq!(answer.code, 200, "{}: {}", case.path, answer.text);
    let after = answer.json();
    assert_eq!(after["spec"], before["spec"], "{}", case.path);
    assert_eq!(after["metadata"]["labels"]["applied"], "yes");
    assert_eq!(after["metadata"]["labels"]["a"], "b");
    let managers = after["metadata"]["managedFields"].as_array().unwrap();
    let applied = managers
        .iter()
        .any(|m| m["manager"] == "test" && m["operation"] == "Apply");
    assert!(applied, "{}: {managers:?}", case.path);
}

#[tokio::test]
async fn workloads_are_served_as_the_reference_has_them() {
    let api = Api::start().await;
    for case in workloads::cases() {
        check(&api, &case).await;
    }
}

#[tokio::test]
async fn kinds_in_namespaces_are_served_as_the_reference_has_them() {
    let api = Api::start().await;
    for case in namespaced::cases() {
        check(&api, &case).await;
    }
}

#[tokio::test]
async fn kinds_of_the_cluster_are_served_as_the_reference_has_them() {
    let api = Api::start_with(|config| {
        // What these would read is stored only where they are off.
        config.disable_admission_plugins = [
            "MutatingAdmissionPolicy",
            "MutatingAdmissionWebhook",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionWebhook",
        ]
        .map(str::to_owned)
        .to_vec();
    })
    .await;
    for case in cluster::cases() {
        check(&api, &case).await;
    }
}

#[tokio::test]
async fn a_controller_manager_that_runs_ends_the_warnings() {
    let api = Api::start().await;
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        .to_string();
    let lease = json!({"metadata": {"name": "kube-controller-manager"},
        "spec": {"holderIdentity": "m", "leaseDurationSeconds": 600, "renewTime": now}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    api.post(leases, lease).await.expect(201);
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()}});
    let answer = api.post(deployments, deployment).await;
    assert_eq!(answer.warnings(), Vec::<String>::new());
    answer.expect(201);
}

#[tokio::test]
async fn what_is_odd_about_the_pods_of_a_workload_is_a_warning() {
    let api = Api::start().await;
    let mut template = template();
    template["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    let deployment = json!({"metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}});
    let answer = api
        .post("/apis/apps/v1/namespaces/default/deployments", deployment)
        .await;
    let warnings = answer.warnings().join("\n");
    let at = "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14";
    assert!(warnings.contains(at), "{warnings}");
}

#[tokio::test]
async fn component_statuses_are_listed_and_not_written() {
    let api = Api::start().await;
    let path = "/api/v1/componentstatuses";
    assert_eq!(
        api.get(path).await.expect(200)["kind"],
        "ComponentStatusList"
    );
    let object = json!({"metadata": {"name": "a"}});
    assert_eq!(api.post(path, object).await.code, 405);
    assert_eq!(api.delete(&format!("{path}/a")).await.code, 405);
}
