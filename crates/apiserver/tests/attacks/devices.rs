//! Volumes and devices that are somebody else's.

use serde_json::{Value, json};

use crate::harness::{Answer, Api, PODS, RBAC, as_user, pod};

const VOLUMES: &str = "/api/v1/persistentvolumes";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const DEVICE_CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
const ATTACHMENTS: &str = "/apis/storage.k8s.io/v1/volumeattachments";
const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";

async fn node(api: &Api, name: &str, method: &str, path: &str) -> Answer {
    let user = format!("system:node:{name}");
    let groups = ["system:nodes", "system:authenticated"];
    as_user(api, &user, &groups, method, path, None).await
}

fn volume(name: &str, claim: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "claimRef": {"namespace": "default", "name": claim}, "hostPath": {"path": "/data"}}})
}

fn claim(name: &str, volume: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": volume,
        "resources": {"requests": {"storage": "1Gi"}}}})
}

#[tokio::test]
async fn a_node_reads_the_volumes_and_devices_of_its_pods() {
    let api = Api::start().await;
    for (name, bound_to) in [("mine", "mine"), ("theirs", "theirs")] {
        api.post(VOLUMES, volume(name, bound_to)).await.expect(201);
    }
    api.post(CLAIMS, claim("mine", "mine")).await.expect(201);
    // This claim names a volume that is not bound to it.
    api.post(CLAIMS, claim("greedy", "theirs"))
        .await
        .expect(201);
    let mut body = pod("p");
    body["spec"]["nodeName"] = json!("a");
    body["spec"]["resourceClaims"] = json!([{"name": "gpu", "resourceClaimName": "gpu"}]);
    body["spec"]["volumes"] = json!([
        {"name": "m", "persistentVolumeClaim": {"claimName": "mine"}},
        {"name": "g", "persistentVolumeClaim": {"claimName": "greedy"}}]);
    api.post(PODS, body).await.expect(201);
    for name in ["gpu", "other"] {
        let spec =
            json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
        api.post(
            DEVICE_CLAIMS,
            json!({"metadata": {"name": name}, "spec": spec}),
        )
        .await
        .expect(201);
    }
    for on in ["a", "b"] {
        let attachment = json!({"metadata": {"name": on}, "spec": {"attacher": "d.example", "nodeName": on,
            "source": {"persistentVolumeName": "mine"}}});
        api.post(ATTACHMENTS, attachment).await.expect(201);
    }
    for (path, code) in [
        (format!("{VOLUMES}/mine"), 200),
        (format!("{VOLUMES}/theirs"), 403),
        (format!("{VOLUMES}/none"), 403),
        (VOLUMES.to_owned(), 403),
        (format!("{DEVICE_CLAIMS}/gpu"), 200),
        (format!("{DEVICE_CLAIMS}/other"), 403),
        (format!("{ATTACHMENTS}/a"), 200),
        (format!("{ATTACHMENTS}/b"), 403),
        (format!("{SLICES}?fieldSelector=spec.nodeName=a"), 200),
        (format!("{SLICES}?fieldSelector=spec.nodeName=b"), 403),
        (SLICES.to_owned(), 403),
    ] {
        let answer = node(&api, "a", "GET", &path).await;
        assert_eq!(answer.code, code, "{path}: {}", answer.text);
    }
    assert_eq!(
        node(&api, "b", "GET", &format!("{VOLUMES}/mine"))
            .await
            .code,
        403
    );
    assert_eq!(node(&api, "a", "DELETE", SLICES).await.code, 403);
    let own = format!("{SLICES}?fieldSelector=spec.nodeName=a");
    assert_eq!(node(&api, "a", "DELETE", &own).await.code, 200);
}

#[tokio::test]
async fn admin_access_to_devices_is_for_marked_namespaces() {
    let api = Api::start().await;
    let role = json!({"metadata": {"name": "claims"},
        "rules": [{"verbs": ["*"], "apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims", "resourceclaimtemplates"]}]});
    api.post(&format!("{RBAC}/clusterroles"), role)
        .await
        .expect(201);
    let binding = json!({"metadata": {"name": "claims"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "claims"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]});
    api.post(&format!("{RBAC}/clusterrolebindings"), binding)
        .await
        .expect(201);
    let spec = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "adminAccess": true}}]}});
    let claim = json!({"metadata": {"name": "x"}, "spec": spec});
    let template = json!({"metadata": {"name": "x"}, "spec": {"spec": spec}});
    let templates = DEVICE_CLAIMS.replace("claims", "claimtemplates");
    for (path, body) in [(DEVICE_CLAIMS, &claim), (templates.as_str(), &template)] {
        let answer = as_user(&api, "mallory", &[], "POST", path, Some(body.clone())).await;
        let refused = answer.expect(403);
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains("admin access to devices"),
            "{refused}"
        );
    }
    let mark = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    api.merge("/api/v1/namespaces/default", mark)
        .await
        .expect(200);
    as_user(&api, "mallory", &[], "POST", DEVICE_CLAIMS, Some(claim))
        .await
        .expect(201);
}
