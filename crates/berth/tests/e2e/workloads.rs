//! Workloads: what the controllers make of Deployments, Jobs and their like, also when berth is killed on the way.

use std::collections::BTreeSet;

use berth_testkit::wait_for;
use serde_json::{Value, json};

use crate::cluster::{Cluster, FOREVER, IMAGE, LIMIT, class};

/// A pod template with this label and command.
fn template(label: &str, command: &str, class: Option<&str>) -> Value {
    json!({
        "metadata": {"labels": {"app": label}},
        "spec": {
            "runtimeClassName": class, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", command]}],
        },
    })
}

fn workload(kind: &str, name: &str, replicas: Option<u32>, more: Value) -> String {
    let mut spec = json!({
        "selector": {"matchLabels": {"app": name}}, "template": template(name, FOREVER, None),
    });
    if let Some(replicas) = replicas {
        spec["replicas"] = json!(replicas);
    }
    let more = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().expect("an object").extend(more);
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        .to_string()
}

fn job(name: &str, command: &str, more: Value) -> String {
    let mut template = template(name, command, None);
    template["spec"]["restartPolicy"] = json!("Never");
    let mut spec = json!({"template": template});
    let more = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().expect("an object").extend(more);
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

/// The pods with a label that are not being deleted.
fn pods(cluster: &Cluster, label: &str) -> Vec<Value> {
    let list = cluster.json(&["pods", "-l", &format!("app={label}")]);
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let stays = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    items.into_iter().filter(stays).collect()
}

fn rollout(cluster: &Cluster, what: &str) {
    cluster.kube(&["rollout", "status", what, "--timeout=60s"]);
}

fn image_env(cluster: &Cluster, what: &str, value: &str) {
    cluster.kube(&["set", "env", what, &format!("VERSION={value}")]);
}

/// Waits until a list has so many objects.
fn wait_count(cluster: &Cluster, what: &[&str], number: usize) {
    wait_for(&format!("{number} of {what:?}"), LIMIT, || {
        let found = cluster.json(what)["items"].as_array().map_or(0, Vec::len);
        if found == number {
            Ok(())
        } else {
            Err(format!("there are {found}"))
        }
    });
}

#[test]
fn a_deployment_is_rolled_out_undone_scaled_and_removed() {
    let cluster = Cluster::start();
    cluster.apply(&class("gvisor", "runsc"));
    let boxed = json!({"template": template("web", FOREVER, Some("gvisor"))});
    let applied = cluster.try_apply(&workload("Deployment", "web", Some(2), boxed));
    assert_eq!(
        String::from_utf8_lossy(&applied.stderr),
        "",
        "nothing is to be warned of"
    );
    rollout(&cluster, "deployment/web");
    let first: BTreeSet<String> = pods(&cluster, "web")
        .iter()
        .map(|p| p["metadata"]["name"].to_string())
        .collect();
    assert_eq!(first.len(), 2);
    for pod in pods(&cluster, "web") {
        assert_eq!(pod["spec"]["runtimeClassName"], "gvisor");
        assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
    }
    image_env(&cluster, "deployment/web", "2");
    rollout(&cluster, "deployment/web");
    let second: BTreeSet<String> = pods(&cluster, "web")
        .iter()
        .map(|p| p["metadata"]["name"].to_string())
        .collect();
    assert!(second.is_disjoint(&first), "{second:?} {first:?}");
    let history = cluster.kube(&["rollout", "history", "deployment/web"]);
    assert!(
        history.contains("\n1 ") && history.contains("\n2 "),
        "{history}"
    );
    cluster.kube(&["rollout", "undo", "deployment/web"]);
    rollout(&cluster, "deployment/web");
    let sets = cluster.json(&["replicasets"])["items"]
        .as_array()
        .cloned()
        .expect("a list");
    let mut revisions: Vec<_> = sets
        .iter()
        .map(|set| {
            let revision = set["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
                .as_str()
                .expect("a revision");
            (revision.to_owned(), set["spec"]["replicas"].clone())
        })
        .collect();
    revisions.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        revisions,
        [("2".to_owned(), json!(0)), ("3".to_owned(), json!(2))]
    );
    // A pod that somebody deletes is made anew.
    let name = pods(&cluster, "web")[0]["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    cluster.kube(&["delete", "pod", &name, "--grace-period=0", "--force"]);
    cluster.kube(&["scale", "deployment/web", "--replicas=3"]);
    rollout(&cluster, "deployment/web");
    assert_eq!(pods(&cluster, "web").len(), 3);
    cluster.kube(&["delete", "deployment", "web"]);
    wait_count(&cluster, &["replicasets"], 0);
    wait_count(&cluster, &["pods"], 0);
}

/// What refuses the pods of a template is on the ReplicaSet and the Deployment, not in silence.
#[test]
fn what_refuses_a_pod_is_told() {
    let cluster = Cluster::start();
    let missing = json!({"template": template("lost", FOREVER, Some("nowhere"))});
    cluster.apply(&workload("Deployment", "lost", Some(1), missing));
    wait_for("the reason", LIMIT, || {
        let found = cluster.json(&["deployment", "lost"])["status"]["conditions"].to_string();
        let told = found.contains("ReplicaFailure") && found.contains("nowhere");
        if told { Ok(()) } else { Err(found) }
    });
    let events = cluster.kube(&["get", "events"]);
    assert!(
        events.contains("FailedCreate") && events.contains("nowhere"),
        "{events}"
    );
    // With the class it goes on by itself.
    cluster.apply(&class("nowhere", "runc"));
    rollout(&cluster, "deployment/lost");
    let found = cluster.json(&["deployment", "lost"])["status"]["conditions"].to_string();
    assert!(!found.contains("ReplicaFailure"), "{found}");
}

#[test]
fn jobs_run_to_their_end_and_say_how() {
    let cluster = Cluster::start();
    let indexed = json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"});
    cluster.apply(&job("well", "echo index $JOB_COMPLETION_INDEX", indexed));
    cluster.apply(&job("badly", "exit 3", json!({"backoffLimit": 0})));
    cluster.kube(&[
        "wait",
        "--for=condition=Complete",
        "job/well",
        "--timeout=60s",
    ]);
    cluster.kube(&[
        "wait",
        "--for=condition=Failed",
        "job/badly",
        "--timeout=60s",
    ]);
    let logs = cluster.kube(&["logs", "-l", "app=well"]);
    for index in 0..3 {
        assert!(logs.contains(&format!("index {index}")), "{logs}");
    }
    let well = cluster.json(&["job", "well"])["status"].clone();
    assert_eq!(
        (&well["succeeded"], &well["completedIndexes"]),
        (&json!(3), &json!("0-2"))
    );
    let badly = cluster.json(&["job", "badly"])["status"].clone();
    assert_eq!(
        (&badly["failed"], &badly["succeeded"]),
        (&json!(1), &Value::Null)
    );
    // Their pods can be deleted: no finalizer holds them.
    cluster.kube(&["delete", "jobs", "--all"]);
    wait_count(&cluster, &["pods"], 0);
}

#[test]
fn a_cron_job_starts_what_is_due() {
    let cluster = Cluster::start();
    let mut template = template("tick", "echo tick", None);
    template["spec"]["restartPolicy"] = json!("Never");
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}},
    });
    cluster.apply(&cron.to_string());
    // As if the last one had been two minutes ago.
    let last = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(2);
    let last = jiff::Timestamp::from_second(last.as_second())
        .expect("a time")
        .to_string();
    let patch = json!({"status": {"lastScheduleTime": last}}).to_string();
    cluster.kube(&[
        "patch",
        "cronjob",
        "tick",
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ]);
    wait_for("a finished Job", LIMIT, || {
        let cron = cluster.json(&["cronjob", "tick"])["status"].clone();
        if cron["lastSuccessfulTime"].is_null() {
            Err(cron.to_string())
        } else {
            Ok(())
        }
    });
    let jobs = cluster.json(&["jobs"])["items"]
        .as_array()
        .cloned()
        .expect("a list");
    assert_eq!(jobs[0]["metadata"]["ownerReferences"][0]["name"], "tick");
    cluster.kube(&["delete", "cronjob", "tick"]);
    wait_count(&cluster, &["jobs"], 0);
}

#[test]
fn stateful_and_daemon_sets_are_replaced_in_order() {
    let cluster = Cluster::start();
    cluster.apply(&workload(
        "StatefulSet",
        "db",
        Some(2),
        json!({"serviceName": "db"}),
    ));
    cluster.apply(&workload("DaemonSet", "agent", None, json!({})));
    for value in ["1", "2"] {
        rollout(&cluster, "statefulset/db");
        rollout(&cluster, "daemonset/agent");
        let names: Vec<_> = pods(&cluster, "db")
            .iter()
            .map(|p| p["metadata"]["name"].clone())
            .collect();
        assert_eq!(names, ["db-0", "db-1"]);
        assert_eq!(pods(&cluster, "agent").len(), 1);
        for what in ["statefulset/db", "daemonset/agent"] {
            image_env(&cluster, what, value);
        }
    }
    rollout(&cluster, "statefulset/db");
    cluster.kube(&["rollout", "undo", "statefulset/db"]);
    rollout(&cluster, "statefulset/db");
    let env = pods(&cluster, "db")[0]["spec"]["containers"][0]["env"][0]["value"].clone();
    assert_eq!(env, "1");
    cluster.kube(&["delete", "statefulset,daemonset", "--all"]);
    wait_count(&cluster, &["pods"], 0);
    wait_count(&cluster, &["controllerrevisions"], 0);
}

/// Killed in the middle of a rollout and of a Job: it comes to the same end, no pod too many, none counted twice.
#[test]
fn a_kill_on_the_way_changes_nothing_of_the_end() {
    let mut cluster = Cluster::start();
    cluster.apply(&workload("Deployment", "web", Some(4), json!({})));
    rollout(&cluster, "deployment/web");
    cluster.apply(&job(
        "count",
        "sleep 0.3",
        json!({"completions": 8, "parallelism": 2}),
    ));
    image_env(&cluster, "deployment/web", "2");
    for _ in 0..4 {
        std::thread::sleep(std::time::Duration::from_millis(700));
        cluster.kill();
        cluster.launch();
    }
    rollout(&cluster, "deployment/web");
    wait_for("the end of the Job", 2 * LIMIT, || {
        let conditions = cluster.json(&["job", "count"])["status"]["conditions"].clone();
        match conditions.to_string().contains("\"Complete\"") {
            true => Ok(()),
            false => Err(format!(
                "{conditions}: {}",
                cluster.kube(&["get", "job,pod", "-o", "wide"])
            )),
        }
    });
    // A pod whose container was being started at a kill may have failed, and counts as that, once.
    let status = cluster.json(&["job", "count"])["status"].clone();
    let made = pods(&cluster, "count");
    let of = |phase: &str| {
        made.iter()
            .filter(|pod| pod["status"]["phase"] == phase)
            .count()
    };
    let counted = |field: &str| status[field].as_u64().unwrap_or(0);
    assert_eq!((counted("succeeded"), of("Succeeded")), (8, 8), "{status}");
    let failed = u64::try_from(of("Failed")).expect("a count");
    assert_eq!(counted("failed"), failed, "{status}");
    assert_eq!(
        made.len(),
        8 + of("Failed"),
        "as many pods as completions and failures"
    );
    let held = made
        .iter()
        .filter(|pod| !pod["metadata"]["finalizers"].is_null());
    assert_eq!(held.count(), 0);
    let web = pods(&cluster, "web");
    assert_eq!(web.len(), 4);
    for pod in &web {
        assert_eq!(pod["spec"]["containers"][0]["env"][0]["value"], "2");
    }
    assert_eq!(
        cluster.json(&["replicasets"])["items"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

/// The node can't run the class's handler: pods fail at once. They are made seldom, and the reason is told at apply and after.
#[test]
fn a_handler_that_no_node_has_is_told_and_fills_nothing() {
    let cluster = Cluster::start();
    let lost = json!({"template": template("lost", FOREVER, Some("none"))});
    let deployment = workload("Deployment", "lost", Some(1), lost.clone());
    let applied = cluster.try_apply(&deployment);
    let warning = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(
        warning.contains("spec.template.spec.runtimeClassName: RuntimeClass \"none\" not found"),
        "{warning}"
    );
    cluster.kube(&["delete", "deployment", "lost"]);
    cluster.apply(&class("none", "nosuch"));
    let applied = cluster.try_apply(&deployment);
    let warning = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(
        warning.contains("spec.template") && warning.contains("nosuch"),
        "{warning}"
    );
    // Whether the scheduler keeps it or the node refuses it: a handful of pods, and a reason.
    wait_for("a word about its pod", LIMIT, || {
        let events = cluster.kube(&[
            "get",
            "events",
            "--field-selector",
            "involvedObject.kind=Pod",
        ]);
        match events.contains("nosuch") {
            true => Ok(()),
            false => Err(events),
        }
    });
    let made = pods(&cluster, "lost");
    assert!(made.len() < 6, "{} pods", made.len());
    // Those that bring their node are refused there.
    let mut pinned = template("pinned", FOREVER, Some("none"));
    let node = cluster.json(&["nodes"])["items"][0]["metadata"]["name"].clone();
    pinned["spec"]["nodeName"] = node;
    cluster.apply(&workload(
        "Deployment",
        "pinned",
        Some(1),
        json!({"template": pinned}),
    ));
    wait_for("the reason", LIMIT, || {
        let found = cluster.json(&["deployment", "pinned"])["status"]["conditions"].to_string();
        let told = found.contains("ReplicaFailure") && found.contains("nosuch");
        if told { Ok(()) } else { Err(found) }
    });
    assert!(
        pods(&cluster, "pinned").len() < 6,
        "{}",
        pods(&cluster, "pinned").len()
    );
}

/// Evictions hold to a budget that the controller keeps.
#[test]
fn a_budget_is_kept() {
    let cluster = Cluster::start();
    cluster.apply(&workload("Deployment", "web", Some(2), json!({})));
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}},
    });
    cluster.apply(&budget.to_string());
    rollout(&cluster, "deployment/web");
    let wait_allowed = |number: u32| {
        wait_for(&format!("{number} allowed disruptions"), LIMIT, || {
            let status = cluster.json(&["pdb", "web"])["status"].clone();
            let is = status["disruptionsAllowed"] == number && status["currentHealthy"] == 2;
            if is { Ok(()) } else { Err(status.to_string()) }
        });
    };
    wait_allowed(0);
    let name = pods(&cluster, "web")[0]["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}});
    let file = cluster.data().join("eviction.json");
    std::fs::write(&file, eviction.to_string()).expect("a file");
    let path = format!("/api/v1/namespaces/default/pods/{name}/eviction");
    let file = file.to_str().expect("a path");
    let evict = || cluster.try_kubectl(&["create", "--raw", &path, "-f", file]);
    assert!(!evict().status.success(), "the budget allows none");
    cluster.kube(&[
        "patch",
        "pdb",
        "web",
        "--type=merge",
        "-p",
        r#"{"spec":{"maxUnavailable":1}}"#,
    ]);
    wait_allowed(1);
    assert!(evict().status.success(), "the budget allows one");
    rollout(&cluster, "deployment/web");
    wait_allowed(1);
}

#[test]
fn an_autoscaler_follows_what_pods_use() {
    let cluster = Cluster::start();
    let mut pods_of = template("busy", "while :; do :; done", None);
    // Twice what it requests, however loaded this machine is.
    pods_of["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "20m"}, "limits": {"cpu": "60m"}});
    let more = json!({"template": pods_of});
    cluster.apply(&workload("Deployment", "busy", Some(1), more));
    rollout(&cluster, "deployment/busy");
    let scaler = |target: Value| {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "busy"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
                "minReplicas": 1, "maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}})
        .to_string()
    };
    cluster.apply(&scaler(
        json!({"type": "Utilization", "averageUtilization": 50}),
    ));
    let replicas = |wanted: u64| {
        wait_for(&format!("{wanted} replicas"), 2 * LIMIT, || {
            let deployment = cluster.json(&["deployment", "busy"]);
            let scaler = cluster.json(&["hpa", "busy"]);
            let both = [
                &deployment["spec"]["replicas"],
                &scaler["status"]["desiredReplicas"],
            ];
            let done = both.iter().all(|number| **number == wanted);
            done.then_some(())
                .ok_or_else(|| format!("{both:?} {}", scaler["status"]))
        });
    };
    replicas(3);
    let shown = cluster.kube(&["get", "hpa", "busy"]);
    assert!(shown.contains("Deployment/busy"), "{shown}");
    // Far more than they use for each pod: the fewest are enough.
    cluster.apply(&scaler(
        json!({"type": "AverageValue", "averageValue": "10"}),
    ));
    replicas(1);
}

#[test]
fn a_pod_that_lost_its_controller_is_taken_back() {
    let cluster = Cluster::start();
    cluster.apply(&job("once", FOREVER, json!({})));
    cluster.apply(&workload("StatefulSet", "db", Some(1), json!({})));
    cluster.apply(&workload("DaemonSet", "agent", None, json!({})));
    cluster.apply(&workload("ReplicaSet", "web", Some(1), json!({})));
    for (label, kind) in [
        ("once", "Job"),
        ("db", "StatefulSet"),
        ("agent", "DaemonSet"),
        ("web", "ReplicaSet"),
    ] {
        let name = wait_for(&format!("a pod of {label}"), LIMIT, || {
            let found = pods(&cluster, label);
            let first = found
                .first()
                .and_then(|pod| pod["metadata"]["name"].as_str());
            first.map(str::to_owned).ok_or_else(|| format!("{found:?}"))
        });
        cluster.wait_ready(&[&name]);
        let uid = cluster.json(&["pod", &name])["metadata"]["uid"].clone();
        let lose = r#"[{"op": "remove", "path": "/metadata/ownerReferences"}]"#;
        cluster.kube(&["patch", "pod", &name, "--type=json", "-p", lose]);
        cluster.wait_pod(&name, "taken back", |pod| {
            pod["metadata"]["ownerReferences"][0]["kind"] == kind
        });
        let now = cluster.json(&["pod", &name])["metadata"]["uid"].clone();
        assert_eq!(now, uid, "{label}: the same pod");
        assert_eq!(pods(&cluster, label).len(), 1, "{label}");
    }
}

#[test]
fn an_eviction_is_no_failure_of_a_job_that_says_so() {
    let cluster = Cluster::start();
    let ignored = json!({"backoffLimit": 0, "podFailurePolicy": {"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}});
    let fails_when_told = "trap 'exit 3' TERM; while :; do sleep 1 & wait $!; done";
    cluster.apply(&job("kept", fails_when_told, ignored));
    let running = || {
        wait_for("a pod that runs", LIMIT, || {
            let found = pods(&cluster, "kept");
            let runs = found.iter().find(|p| p["status"]["phase"] == "Running");
            let name = runs.and_then(|pod| pod["metadata"]["name"].as_str());
            name.map(str::to_owned).ok_or_else(|| format!("{found:?}"))
        })
    };
    let first = running();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": first, "namespace": "default"}});
    let file = cluster.data().join("eviction.json");
    std::fs::write(&file, eviction.to_string()).expect("a file");
    let file = file.to_str().expect("a path");
    let path = format!("/api/v1/namespaces/default/pods/{first}/eviction");
    cluster.kube(&["create", "--raw", &path, "-f", file]);
    wait_for("another pod in its place", LIMIT, || {
        let next = running();
        if next == first { Err(next) } else { Ok(()) }
    });
    let status = cluster.json(&["job", "kept"])["status"].clone();
    assert_eq!(status["conditions"], Value::Null, "{status}");
}
