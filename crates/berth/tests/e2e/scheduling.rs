//! The scheduler over nodes that are only written down: affinity between pods, spread, gates, preemption.

use serde_json::{Value, json};

use crate::cluster::{Cluster, LIMIT, words};
use berth_testkit::wait_for;

/// A server with two nodes of 4 CPUs, each a zone of its own, and nobody who runs their pods.
fn cluster() -> Cluster {
    let cluster = Cluster::server(&[]);
    for (name, zone) in [("n1", "a"), ("n2", "b")] {
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}, zone: {zone}}}}}\n"
        ));
        let room = json!({"cpu": "4", "memory": "8Gi", "pods": "10"});
        let status = json!({"status": {"capacity": room, "allocatable": room}}).to_string();
        let patch = ["patch", "node", name, "--subresource=status", "-p", &status];
        cluster.kube(&patch);
    }
    wait_for("the namespace's service account", LIMIT, || {
        let found = cluster.try_kubectl(&["get", "serviceaccount", "default"]);
        let there = found.status.success();
        there.then_some(()).ok_or_else(|| words(&found))
    });
    cluster
}

/// A pod that tolerates everything; `more` goes into its spec.
fn pod(name: &str, cpu: &str, more: Value) -> String {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 600,
            "containers": [{"name": "main", "image": "example.com/app:1", "resources": {"requests": {"cpu": cpu}}}]}});
    for (key, value) in more.as_object().expect("an object") {
        pod["spec"][key] = value.clone();
    }
    pod.to_string()
}

fn labelled(pod: &str, app: &str) -> String {
    let mut pod: Value = serde_json::from_str(pod).expect("a pod");
    pod["metadata"]["labels"] = json!({"app": app});
    pod.to_string()
}

fn wait_node(cluster: &Cluster, pod: &str, node: &str) {
    wait_for("a pod's node", LIMIT, || {
        let pod = cluster.json(&["pod", pod]);
        if pod["spec"]["nodeName"] == node {
            Ok(())
        } else {
            Err(pod.to_string())
        }
    });
}

fn wait_message(cluster: &Cluster, pod: &str, message: &str) {
    wait_for("a pod's condition", LIMIT, || {
        let pod = cluster.json(&["pod", pod]);
        let conditions = pod["status"]["conditions"].as_array();
        let told = conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "PodScheduled"
                && condition["status"] == "False"
                && condition["reason"] == "Unschedulable"
                && condition["message"] == message
        });
        told.then_some(()).ok_or_else(|| pod["status"].to_string())
    });
}

fn apart() -> Value {
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}});
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

#[test]
fn pods_go_near_apart_and_evenly() {
    let cluster = cluster();
    for name in ["web1", "web2"] {
        cluster.apply(&labelled(&pod(name, "100m", apart()), "web"));
    }
    wait_for("nodes of both", LIMIT, || {
        let nodes =
            ["web1", "web2"].map(|name| cluster.json(&["pod", name])["spec"]["nodeName"].clone());
        let both = nodes[0].is_string() && nodes[1].is_string() && nodes[0] != nodes[1];
        both.then_some(()).ok_or_else(|| format!("{nodes:?}"))
    });
    cluster.apply(&labelled(&pod("web3", "100m", apart()), "web"));
    let message = "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. preemption: 0/2 nodes are \
                   available: 2 No preemption victims found for incoming pod.";
    wait_message(&cluster, "web3", message);
    cluster.wait_event("web3", &["FailedScheduling", message]);
    let left = cluster.json(&["pod", "web1"])["spec"]["nodeName"].clone();
    let left = left.as_str().expect("a node");
    cluster.kube(&["delete", "pod", "web1", "--force", "--grace-period=0"]);
    wait_node(&cluster, "web3", left);

    // Near a pod that comes later: who waits for it is tried again when it has a node.
    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}});
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    cluster.apply(&pod("near", "100m", near));
    wait_message(
        &cluster,
        "near",
        "0/2 nodes are available: 2 node(s) didn't match pod affinity rules. preemption: 0/2 nodes are available: 2 \
         Preemption is not helpful for scheduling.",
    );
    cluster.apply(&pod("db", "100m", json!({"nodeSelector": {"zone": "b"}})));
    wait_node(&cluster, "db", "n2");
    wait_node(&cluster, "near", "n2");

    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "db"}}}]});
    cluster.apply(&labelled(&pod("db2", "100m", spread), "db"));
    wait_node(&cluster, "db2", "n1");
}

#[test]
fn a_gated_pod_waits_until_its_gates_are_gone() {
    let cluster = cluster();
    cluster.apply(&pod(
        "gated",
        "100m",
        json!({"schedulingGates": [{"name": "example.com/wait"}]}),
    ));
    cluster.apply(&pod("free", "100m", json!({})));
    wait_for("the other pod's node", LIMIT, || {
        let free = cluster.json(&["pod", "free"]);
        let placed = free["spec"]["nodeName"].is_string();
        placed.then_some(()).ok_or_else(|| free.to_string())
    });
    let gated = cluster.json(&["pod", "gated"]);
    assert_eq!(gated["spec"]["nodeName"], Value::Null);
    assert_eq!(
        gated["status"]["conditions"][0]["reason"],
        "SchedulingGated"
    );
    cluster.kube(&[
        "patch",
        "pod",
        "gated",
        "-p",
        r#"{"spec":{"schedulingGates":null}}"#,
    ]);
    wait_for("its node", LIMIT, || {
        let pod = cluster.json(&["pod", "gated"]);
        let placed = pod["spec"]["nodeName"].is_string();
        placed.then_some(()).ok_or_else(|| pod.to_string())
    });
}

#[test]
fn the_more_important_pod_takes_the_place_of_the_less_important() {
    let cluster = cluster();
    for (name, value) in [("low", 1), ("high", 1000)] {
        cluster.apply(&format!(
            "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{name: {name}}}\nvalue: {value}\n"
        ));
    }
    let of = |name: &str, class: &str, node: &str| {
        let mut more = json!({"priorityClassName": class});
        if !node.is_empty() {
            more["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        }
        pod(name, "3", more)
    };
    cluster.apply(&of("kept", "low", "n1"));
    cluster.apply(&of("victim", "low", "n2"));
    wait_node(&cluster, "kept", "n1");
    wait_node(&cluster, "victim", "n2");
    // The one on n1 is protected: nothing may be evicted while a budget's pods are not ready.
    cluster.apply(
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: kept}\nspec: {minAvailable: 1, selector: \
         {matchLabels: {app: kept}}}\n",
    );
    // The same priority takes nobody's place.
    cluster.apply(&of("equal", "low", ""));
    let nobody = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption \
                  victims found for incoming pod.";
    wait_message(&cluster, "equal", nobody);
    let mut never: Value = serde_json::from_str(&of("never", "high", "")).expect("a pod");
    cluster.apply(
        "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: patient}\nvalue: 1000\npreemptionPolicy: \
         Never\n",
    );
    never["spec"]["priorityClassName"] = json!("patient");
    cluster.apply(&never.to_string());
    wait_message(
        &cluster,
        "never",
        "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.",
    );
    cluster.kube(&["delete", "pod", "never"]);

    cluster.apply(&of("important", "high", ""));
    wait_for("the victim's end", LIMIT, || {
        let (pod, victim) = (
            cluster.json(&["pod", "important"]),
            cluster.json(&["pod", "victim"]),
        );
        let conditions = victim["status"]["conditions"].as_array();
        let told = conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "DisruptionTarget"
                && condition["reason"] == "PreemptionByScheduler"
                && condition["message"]
                    == "default-scheduler: preempting to accommodate a higher priority pod"
        });
        let all = told
            && victim["metadata"]["deletionTimestamp"].is_string()
            && pod["status"]["nominatedNodeName"] == "n2";
        all.then_some(())
            .ok_or_else(|| format!("{}\n{}", pod["status"], victim["status"]))
    });
    let uid = cluster.json(&["pod", "important"])["metadata"]["uid"].clone();
    let told = format!(
        "Preempted by pod {} on node n2",
        uid.as_str().expect("a uid")
    );
    cluster.wait_event("victim", &["Preempted", &told]);
    cluster.kube(&["delete", "pod", "victim", "--force", "--grace-period=0"]);
    wait_node(&cluster, "important", "n2");
    let kept = cluster.json(&["pod", "kept"]);
    assert_eq!(kept["metadata"]["deletionTimestamp"], Value::Null, "{kept}");
    assert_eq!(
        cluster.json(&["pod", "equal"])["spec"]["nodeName"],
        Value::Null
    );
}

/// What a provisioner writes of the volume that it has made for a claim; the binder does the rest.
fn give(cluster: &Cluster, claim: &str, volume: &str) {
    let uid = cluster.json(&["pvc", claim])["metadata"]["uid"].clone();
    let owner = json!({"spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "namespace": "default", "name": claim, "uid": uid}}});
    cluster.kube(&["patch", "pv", volume, "-p", &owner.to_string()]);
}

#[test]
fn claims_that_wait_for_their_pod_are_bound_before_it() {
    let cluster = cluster();
    for (class, provisioner) in [
        ("made", "example.com/p"),
        ("there", "kubernetes.io/no-provisioner"),
    ] {
        cluster.apply(&format!(
            "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: {class}}}\nprovisioner: \
             {provisioner}\nvolumeBindingMode: WaitForFirstConsumer\n"
        ));
    }
    let claim = |name: &str, class: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}})
        .to_string()
    };
    let volume = |name: &str, class: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "local": {"path": "/nowhere"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]}}}})
        .to_string()
    };
    let user = |name: &str, claim: &str| {
        pod(
            name,
            "100m",
            json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]}),
        )
    };
    cluster.apply(&user("early", "made"));
    let message = "0/2 nodes are available: persistentvolumeclaim \"made\" not found. preemption: 0/2 nodes are available: \
                   2 Preemption is not helpful for scheduling.";
    wait_message(&cluster, "early", message);
    // The claim comes, the node is written onto it, and the pod waits for the volume.
    cluster.apply(&claim("made", "made"));
    let selected_node = || {
        let claim = cluster.json(&["pvc", "made"]);
        let node = &claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"];
        node.as_str()
            .map(str::to_owned)
            .ok_or_else(|| claim.to_string())
    };
    let selected = wait_for("the claim's node", LIMIT, selected_node);
    assert_eq!(
        cluster.json(&["pod", "early"])["spec"]["nodeName"],
        Value::Null
    );
    // No volume can be made there: the pod is placed anew.
    let off = [
        "annotate",
        "pvc",
        "made",
        "volume.kubernetes.io/selected-node-",
    ];
    cluster.kube(&off);
    cluster.wait_event(
        "early",
        &["FailedScheduling", "no volume can be made", &selected],
    );
    let selected = wait_for("the claim's node again", LIMIT, selected_node);
    cluster.apply(&volume("made", "made").replace("n2", &selected));
    give(&cluster, "made", "made");
    wait_node(&cluster, "early", &selected);

    // A volume that is there: the claim gets it, and the pod goes to its node.
    cluster.apply(&volume("there", "there"));
    cluster.apply(&claim("there", "there"));
    cluster.apply(&user("late", "there"));
    let uid = cluster.json(&["pvc", "there"])["metadata"]["uid"].clone();
    wait_for("the volume's owner", LIMIT, || {
        let volume = cluster.json(&["pv", "there"]);
        let is_owned = volume["spec"]["claimRef"]["uid"] == uid;
        is_owned.then_some(()).ok_or_else(|| volume.to_string())
    });
    wait_node(&cluster, "late", "n2");
}
