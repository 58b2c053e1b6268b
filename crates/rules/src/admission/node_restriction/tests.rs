use k8s_openapi::api::authentication::v1::TokenRequestSpec;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[test]
fn only_the_name_and_the_group_together_make_a_node() {
    let nodes = [NODES_GROUP.to_owned()];
    for (user, groups, wanted) in [
        ("system:node:a", &nodes[..], Identity::Node("a")),
        ("system:node:", &nodes[..], Identity::Unnamed),
        ("system:node:a", &[], Identity::Other),
        ("a", &nodes[..], Identity::Other),
        ("system:nodes", &nodes[..], Identity::Other),
    ] {
        assert_eq!(identity(user, groups), wanted, "{user} {groups:?}");
    }
}

fn registered() -> Node {
    object(json!({"metadata": {"name": "n", "uid": "n-uid"}}))
}

fn mirror() -> Value {
    json!({"metadata": {"name": "m", "annotations": {MIRROR_POD: "hash"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n-uid", "controller": true}]},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]}})
}

/// The mirror pod with one value set.
fn mirror_with(pointer: &str, value: Value) -> Pod {
    let mut pod = mirror();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[field] = value;
    object(pod)
}

#[test]
fn a_mirror_pod_of_its_own_is_what_a_node_may_create() {
    let create = |pod: Pod| create_pod("n", &pod, Some(&registered()));
    assert_eq!(create(object(mirror())), Ok(()));
    let owner = |change: Value| {
        let mut owner = mirror()["metadata"]["ownerReferences"][0].clone();
        for (field, value) in change.as_object().unwrap() {
            owner[field] = value.clone();
        }
        json!([owner])
    };
    let owners = "/metadata/ownerReferences";
    let me = || "n".to_owned();
    for (pointer, value, wanted) in [
        (
            "/metadata/annotations",
            json!({}),
            Violation::NotMirror(me()),
        ),
        (
            "/spec/nodeName",
            json!("other"),
            Violation::PodForOther(me()),
        ),
        ("/spec/nodeName", json!(null), Violation::PodForOther(me())),
        (owners, json!([]), Violation::OtherOwner(me())),
        (
            owners,
            json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"}, {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "2"}]),
            Violation::ManyOwners(me()),
        ),
        (
            owners,
            owner(json!({"kind": "Pod"})),
            Violation::OtherOwner(me()),
        ),
        (
            owners,
            owner(json!({"name": "other"})),
            Violation::OtherOwner(me()),
        ),
        (
            owners,
            owner(json!({"controller": false})),
            Violation::NoController(me()),
        ),
        (
            owners,
            owner(json!({"blockOwnerDeletion": true})),
            Violation::BlocksDeletion(me()),
        ),
        (
            owners,
            owner(json!({"uid": "old"})),
            Violation::OwnerUid {
                node: me(),
                given: "old".to_owned(),
                registered: "n-uid".to_owned(),
            },
        ),
    ] {
        assert_eq!(
            create(mirror_with(pointer, value.clone())),
            Err(wanted),
            "{pointer} {value}"
        );
    }
    assert_eq!(
        create_pod("n", &object(mirror()), None),
        Err(Violation::NotRegistered(me()))
    );
}

#[test]
fn a_mirror_pod_refers_to_nothing() {
    let env = |from: Value| json!([{"name": "c", "env": [{"name": "e", "valueFrom": from}]}]);
    for (pointer, value, wanted) in [
        ("/spec/serviceAccountName", json!("sa"), "a service account"),
        ("/spec/serviceAccount", json!("sa"), "a service account"),
        ("/spec/imagePullSecrets", json!([{"name": "s"}]), "secrets"),
        (
            "/spec/containers",
            env(json!({"secretKeyRef": {"name": "s", "key": "k"}})),
            "secrets",
        ),
        (
            "/spec/initContainers",
            env(json!({"configMapKeyRef": {"name": "s", "key": "k"}})),
            "configmaps",
        ),
        (
            "/spec/ephemeralContainers",
            env(json!({"secretKeyRef": {"name": "s", "key": "k"}})),
            "secrets",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "secret": {"secretName": "s"}}]),
            "secrets",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}]),
            "secrets",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "projected": {"sources": [{"configMap": {"name": "m"}}]}}]),
            "configmaps",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]),
            "service account tokens",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "t", "name": "b"}}]}}]),
            "clustertrustbundles",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]),
            "persistentvolumeclaims",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "ephemeral": {}}]),
            "persistentvolumeclaims",
        ),
        (
            "/spec/resourceClaims",
            json!([{"name": "r"}]),
            "resourceclaims",
        ),
    ] {
        let got = create_pod(
            "n",
            &mirror_with(pointer, value.clone()),
            Some(&registered()),
        );
        let wanted = Violation::References {
            node: "n".to_owned(),
            what: wanted,
        };
        assert_eq!(got, Err(wanted), "{value}");
    }
}

#[test]
fn pods_of_other_nodes_are_left_alone() {
    let pod = |node: &str| -> Pod {
        object(
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": node, "containers": []}}),
        )
    };
    assert_eq!(delete_pod("n", &pod("n")), Ok(()));
    assert_eq!(evict_pod("n", &pod("n")), Ok(()));
    assert_eq!(update_pod_status("n", &pod("n"), &pod("n")), Ok(()));
    for other in ["m", ""] {
        assert!(delete_pod("n", &pod(other)).is_err());
        assert!(evict_pod("n", &pod(other)).is_err());
        assert!(update_pod_status("n", &pod(other), &pod("n")).is_err());
    }
    let mut changed = pod("n");
    changed.metadata.labels = None;
    let message = update_pod_status("n", &pod("n"), &changed)
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "node \"n\" cannot update labels through pod status"
    );
    let mut changed = pod("n");
    changed.metadata.finalizers = Some(vec!["x/y".to_owned()]);
    assert!(update_pod_status("n", &pod("n"), &changed).is_err());
}

#[test]
fn a_node_sets_only_labels_that_steer_nothing() {
    let node =
        |labels: Value| -> Node { object(json!({"metadata": {"name": "n", "labels": labels}})) };
    let plain = || node(json!({}));
    for (label, allowed) in [
        ("kubernetes.io/hostname", true),
        ("topology.kubernetes.io/zone", true),
        ("beta.kubernetes.io/arch", true),
        ("kubelet.kubernetes.io/x", true),
        ("a.node.kubernetes.io/x", true),
        ("example.com/x", true),
        ("x", true),
        ("notkubernetes.io/x", true),
        ("node-restriction.kubernetes.io/x", false),
        ("a.node-restriction.kubernetes.io/x", false),
        ("node-role.kubernetes.io/control-plane", false),
        ("kubernetes.io/x", false),
        ("x.k8s.io/x", false),
        ("k8s.io/x", false),
    ] {
        let labelled = node(json!({label: ""}));
        assert_eq!(create_node("n", &labelled).is_ok(), allowed, "{label}");
        assert_eq!(
            update_node("n", &plain(), &labelled).is_ok(),
            allowed,
            "{label}"
        );
        assert_eq!(
            update_node("n", &labelled, &plain()).is_ok(),
            allowed,
            "{label}"
        );
        assert_eq!(update_node("n", &labelled, &labelled), Ok(()), "{label}");
    }
}

#[test]
fn a_node_writes_itself_and_not_what_is_for_administrators() {
    let node = |name: &str, spec: Value, meta: Value| -> Node {
        let mut meta = meta;
        meta["name"] = json!(name);
        object(json!({"metadata": meta, "spec": spec}))
    };
    let plain = node("n", json!({}), json!({}));
    assert_eq!(create_node("n", &plain), Ok(()));
    assert!(create_node("n", &node("m", json!({}), json!({}))).is_err());
    assert!(update_node("n", &node("m", json!({}), json!({})), &plain).is_err());
    let tainted = node(
        "n",
        json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}),
        json!({}),
    );
    assert_eq!(
        create_node("n", &tainted),
        Ok(()),
        "a node registers with taints"
    );
    assert!(update_node("n", &tainted, &plain).is_err());
    assert!(update_node("n", &plain, &tainted).is_err());
    let owner =
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]});
    for meta in [owner, json!({"finalizers": ["x/y"]})] {
        let changed = node("n", json!({}), meta);
        assert!(create_node("n", &changed).is_err());
        assert!(update_node("n", &plain, &changed).is_err());
        assert!(update_node("n", &changed, &plain).is_err());
    }
    // The addresses of its pods are given to it.
    let addressed = node(
        "n",
        json!({"podCIDR": "10.0.0.0/8", "podCIDRs": ["10.0.0.0/8"]}),
        json!({}),
    );
    assert!(create_node("n", &addressed).is_err());
    assert!(update_node("n", &plain, &addressed).is_err());
    assert!(update_node("n", &addressed, &plain).is_err());
    assert_eq!(update_node("n", &addressed, &addressed), Ok(()));
    let configured = node(
        "n",
        json!({"configSource": {"configMap": {"name": "m", "namespace": "s", "kubeletConfigKey": "k"}}}),
        json!({}),
    );
    assert!(create_node("n", &configured).is_err());
    assert!(update_node("n", &plain, &configured).is_err());
}

#[test]
fn leases_and_csi_nodes_bear_the_nodes_name() {
    assert_eq!(lease("n", LEASE_NAMESPACE, "n"), Ok(()));
    assert_eq!(lease("n", LEASE_NAMESPACE, "m"), Err(Violation::OtherLease));
    assert_eq!(lease("n", "default", "n"), Err(Violation::LeaseNamespace));
    assert_eq!(csi_node("n", "n"), Ok(()));
    assert_eq!(csi_node("n", "m"), Err(Violation::OtherCsiNode));
}

#[test]
fn a_token_is_for_a_pod_of_the_node_and_lives_as_long_as_that_asks() {
    let pod: Pod = object(
        json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "n", "serviceAccountName": "sa", "containers": [],
        "volumes": [{"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"serviceAccountToken": {"path": "vault", "audience": "vault", "expirationSeconds": 600}}]}},
            {"name": "c", "csi": {"driver": "d"}}]}}),
    );
    let driver = object(
        json!({"metadata": {"name": "d"}, "spec": {"tokenRequests": [{"audience": "bucket", "expirationSeconds": 900}]}}),
    );
    let bound = || json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u"});
    let bound_with = |field: &str, value: Value| {
        let mut bound = bound();
        bound[field] = value;
        bound
    };
    let ask = |node: &str, account: &str, spec: Value| {
        let request: TokenRequestSpec = object(spec);
        create_token(&TokenQuestion {
            node,
            account,
            request: &request,
            pod: Some(&pod),
            drivers: std::slice::from_ref(&driver),
            may_request: &|audience| audience == "granted",
        })
    };
    let spec = |audiences: Value, seconds: Value, bound: Value| json!({"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound});
    for (audiences, seconds) in [
        (json!([]), json!(3607)),
        (json!([]), json!(null)),
        (json!(["vault"]), json!(600)),
        (json!(["bucket"]), json!(900)),
        (json!(["granted"]), json!(7200)),
    ] {
        assert_eq!(
            ask("n", "sa", spec(audiences.clone(), seconds, bound())),
            Ok(()),
            "{audiences}"
        );
    }
    for (audiences, seconds, bound, wanted) in [
        (
            json!([]),
            json!(3608),
            bound(),
            Violation::Outlives {
                asked: 3608,
                most: 3607,
            },
        ),
        (
            json!(["vault"]),
            json!(null),
            bound(),
            Violation::Outlives {
                asked: 3600,
                most: 600,
            },
        ),
        (
            json!(["other"]),
            json!(600),
            bound(),
            Violation::Audience {
                audience: "other".to_owned(),
                user: "system:node:n".to_owned(),
            },
        ),
        (
            json!(["vault", "granted"]),
            json!(600),
            bound(),
            Violation::ManyAudiences,
        ),
        (json!([]), json!(600), json!(null), Violation::Unbound),
        (
            json!([]),
            json!(600),
            bound_with("kind", json!("Secret")),
            Violation::Unbound,
        ),
        (
            json!([]),
            json!(600),
            bound_with("apiVersion", json!("v2")),
            Violation::Unbound,
        ),
        (
            json!([]),
            json!(600),
            bound_with("name", json!("")),
            Violation::Unbound,
        ),
        (
            json!([]),
            json!(600),
            bound_with("uid", json!(null)),
            Violation::BoundWithoutUid,
        ),
        (
            json!([]),
            json!(600),
            bound_with("uid", json!("old")),
            Violation::BoundUid("old".to_owned()),
        ),
        (
            json!([]),
            json!(600),
            bound_with("name", json!("q")),
            Violation::BoundToNothing("q".to_owned()),
        ),
    ] {
        assert_eq!(
            ask("n", "sa", spec(audiences, seconds, bound.clone())),
            Err(wanted),
            "{bound}"
        );
    }
    let good = || spec(json!([]), json!(600), bound());
    assert_eq!(ask("m", "sa", good()), Err(Violation::BoundElsewhere));
    assert!(matches!(
        ask("n", "other", good()),
        Err(Violation::OtherAccount { .. })
    ));
}
