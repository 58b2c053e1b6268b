//! Server-side apply where it is more than a merge: the scale, the bookkeeping itself, versions that are gone.

use serde_json::{Value, json};

use crate::harness::{Answer, Api, CONFIG_MAPS, PATIENCE};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MERGE: &str = "application/merge-patch+json";

async fn apply(api: &Api, path: &str, query: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/apply-patch+yaml")];
    api.raw(
        "PATCH",
        &format!("{path}?{query}"),
        &headers,
        body.to_string(),
    )
    .await
}

/// Manager, operation, subresource and fields of each entry.
fn managers(object: &Value) -> Vec<(String, String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = object["metadata"]["managedFields"].as_array();
    let entries = list.into_iter().flatten().map(|e| {
        let fields = e["fieldsV1"].to_string();
        (
            text(&e["manager"]),
            text(&e["operation"]),
            text(&e["subresource"]),
            fields,
        )
    });
    entries.collect()
}

fn scale(replicas: Option<i32>) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": replicas}})
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn a_scale_is_applied_and_owned() {
    let api = Api::start().await;
    let one = format!("{DEPLOYMENTS}/d");
    let path = format!("{one}/scale");
    apply(&api, &one, "fieldManager=author", &deployment())
        .await
        .expect(201);
    let scaled = apply(
        &api,
        &path,
        "fieldManager=scaler&force=true",
        &scale(Some(4)),
    )
    .await
    .expect(200);
    assert_eq!(
        (&scaled["kind"], &scaled["spec"]["replicas"]),
        (&json!("Scale"), &json!(4))
    );
    let object = api.get(&one).await.expect(200);
    assert_eq!(object["spec"]["replicas"], 4);
    let own = (
        "scaler".to_owned(),
        "Apply".to_owned(),
        "scale".to_owned(),
        r#"{"f:spec":{"f:replicas":{}}}"#.to_owned(),
    );
    assert!(managers(&object).contains(&own), "{object}");
    // Another manager meets it, wherever it comes from.
    let mut wants = deployment();
    wants["spec"]["replicas"] = json!(7);
    let refused = apply(&api, &one, "fieldManager=author", &wants)
        .await
        .expect(409);
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\": .spec.replicas"
    );
    let refused = apply(&api, &path, "fieldManager=other", &scale(Some(7)))
        .await
        .expect(409);
    assert_eq!(refused["details"]["causes"][0]["field"], ".spec.replicas");
    apply(
        &api,
        &path,
        "fieldManager=other&force=true",
        &scale(Some(7)),
    )
    .await
    .expect(200);
    let object = api.get(&one).await.expect(200);
    assert!(
        managers(&object).iter().all(|m| m.0 != "scaler"),
        "{object}"
    );
    // The same value is shared; what its last owner no longer names goes back to the default.
    apply(&api, &path, "fieldManager=scaler", &scale(Some(7)))
        .await
        .expect(200);
    for (manager, replicas) in [("other", 7), ("scaler", 1)] {
        let query = format!("fieldManager={manager}");
        let left = apply(&api, &path, &query, &scale(None)).await.expect(200);
        assert_eq!(left["spec"]["replicas"], replicas, "{manager}");
    }
    for (query, body, code) in [
        ("fieldManager=x&dryRun=All", scale(Some(9)), 200),
        ("fieldManager=x", scale(Some(-1)), 422),
        ("", scale(Some(1)), 422),
        ("fieldManager=x", deployment(), 400),
        (
            "fieldManager=x",
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "e"}}),
            400,
        ),
        (
            "fieldManager=x",
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d", "resourceVersion": "1"}}),
            409,
        ),
        (
            "fieldManager=x",
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d", "managedFields": []}}),
            400,
        ),
    ] {
        let answer = apply(&api, &path, query, &body).await;
        assert_eq!(answer.code, code, "{query} {body}: {}", answer.text);
    }
    assert_eq!(api.get(&one).await.expect(200)["spec"]["replicas"], 1);
    let none = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "none"}, "spec": {"replicas": 1}});
    let path = format!("{DEPLOYMENTS}/none/scale");
    apply(&api, &path, "fieldManager=x", &none)
        .await
        .expect(404);
}

#[tokio::test]
async fn the_bookkeeping_is_reset_and_not_forged() {
    let api = Api::start().await;
    api.config_map("a", json!({"x": "y"})).await;
    let one = format!("{CONFIG_MAPS}/a");
    let fields = |value: Value| json!({"metadata": {"managedFields": value}});
    let entry = |change: &[(&str, Value)]| {
        let mut entry = json!({"manager": "forger", "operation": "Apply", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:k": {}}}});
        for (field, value) in change {
            entry[*field] = value.clone();
        }
        json!([entry])
    };
    // What is not of its form is as if it weren't there.
    let before = api.get(&one).await.expect(200);
    for change in [
        ("operation", json!("Own")),
        ("fieldsType", json!("FieldsV2")),
        ("fieldsV1", json!({"f:data": {"k": {}}})),
        ("fieldsV1", json!({"f:data": {"k:x": {}}})),
    ] {
        let body = fields(entry(std::slice::from_ref(&change)));
        let after = api.merge(&one, body).await.expect(200);
        assert_eq!(after, before, "{change:?}");
    }
    let taken = api.merge(&one, fields(entry(&[]))).await.expect(200);
    assert_eq!(managers(&taken).len(), 1);
    assert_eq!(managers(&taken)[0].0, "forger");
    // An entry with nothing in it, or no entry at all, begins anew.
    for nothing in [json!([{}]), json!([])] {
        let reset = api.merge(&one, fields(nothing)).await.expect(200);
        assert_eq!(reset["metadata"].get("managedFields"), None);
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        let applied = apply(&api, &one, "fieldManager=m", &body).await.expect(200);
        let names: Vec<String> = managers(&applied).into_iter().map(|m| m.0).collect();
        assert_eq!(names, ["m", "before-first-apply"]);
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        apply(&api, &one, "fieldManager=m", &body).await.expect(200);
    }
    // A subresource does not write them for the whole object.
    api.post(DEPLOYMENTS, deployment()).await.expect(201);
    let before = api.get(&format!("{DEPLOYMENTS}/d")).await.expect(200);
    let mut body = fields(json!([{}]));
    body["status"] = json!({"observedGeneration": 1});
    let headers = [("content-type", MERGE)];
    let path = format!("{DEPLOYMENTS}/d/status?fieldManager=s");
    let after = api
        .raw("PATCH", &path, &headers, body.to_string())
        .await
        .expect(200);
    assert_eq!(
        managers(&after).len(),
        managers(&before).len() + 1,
        "{after}"
    );
}

#[tokio::test]
async fn owners_in_versions_that_are_gone_own_nothing() {
    let api = Api::start().await;
    let version = |name: &str, stored: bool, served: bool| {
        json!({"name": name, "served": served, "storage": stored, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}})
    };
    let definition = |versions: Value| {
        json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"}, "versions": versions}})
    };
    api.post(
        DEFINITIONS,
        definition(json!([
            version("v1", true, true),
            version("v1beta1", false, true)
        ])),
    )
    .await
    .expect(201);
    let path = |version: &str| format!("/apis/example.com/{version}/namespaces/default/widgets");
    let until = async |version: &str, code: u16| {
        let end = tokio::time::Instant::now() + PATIENCE;
        while api.get(&path(version)).await.code != code {
            assert!(
                tokio::time::Instant::now() < end,
                "{version} never answers {code}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    until("v1beta1", 200).await;
    let widget = |version: &str, size: i64| json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": size}});
    let one = |version: &str| format!("{}/w", path(version));
    apply(
        &api,
        &one("v1beta1"),
        "fieldManager=old",
        &widget("v1beta1", 1),
    )
    .await
    .expect(201);
    // As long as there is the version, its owner is one in any other.
    apply(&api, &one("v1"), "fieldManager=new", &widget("v1", 2))
        .await
        .expect(409);
    let only = json!({"spec": {"versions": [version("v1", true, true)]}});
    api.merge(&format!("{DEFINITIONS}/widgets.example.com"), only)
        .await
        .expect(200);
    until("v1beta1", 404).await;
    let applied = apply(&api, &one("v1"), "fieldManager=new", &widget("v1", 2))
        .await
        .expect(200);
    let names: Vec<String> = managers(&applied).into_iter().map(|m| m.0).collect();
    assert_eq!(names, ["new"]);
}

/// As the status of a policy is written once it has no warnings any more.
#[tokio::test]
async fn an_emptied_field_that_is_still_applied_stays() {
    let api = Api::start().await;
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "true"}]}});
    api.post(policies, policy).await.expect(201);
    let status = |checking: Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"},
            "status": {"observedGeneration": 1, "typeChecking": checking}})
    };
    let warnings = json!({"expressionWarnings": [{"fieldRef": "spec.validations[0].expression", "warning": "w"}]});
    for checking in [warnings, json!({})] {
        let path = format!("{policies}/p/status");
        let applied = apply(&api, &path, "fieldManager=c", &status(checking.clone())).await;
        assert_eq!(applied.expect(200)["status"]["typeChecking"], checking);
    }
}
