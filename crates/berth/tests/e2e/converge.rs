//! kill -9 of berth at chosen points of a rollout and of a Job: the end is the same, and nothing is left behind.

use std::collections::BTreeSet;
use std::process::Command;

use berth_testkit::wait_for;
use serde_json::{Value, json};

use crate::cluster::{Cluster, IMAGE, LIMIT, path, words};

/// As many as the Deployment wants, and as many more as there may be on the way.
const REPLICAS: usize = 3;
const MOST: usize = REPLICAS + 1;

/// How many indexes the Job has.
const INDEXES: usize = 6;

/// Listens, and takes two seconds to end: long enough to be seen ending.
const SLOW_END: &str =
    "trap 'sleep 2; exit 0' TERM; httpd -p 8080 -h /etc; while :; do sleep 3600 & wait; done";

fn deployment(version: &str) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": REPLICAS, "minReadySeconds": 2, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": {"app": "web", "version": version}}, "spec": {
                "terminationGracePeriodSeconds": 10,
                "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", SLOW_END]}],
            }},
        },
    })
    .to_string()
}

const SERVICE: &str = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}"#;

/// A point of a rollout, and how it is known by the pods and the version that is wanted.
type OfRollout = (&'static str, fn(&[Value], &str) -> bool);
/// The same of a Job, by its pods and its status.
type OfJob = (&'static str, fn(&[Value], &Value) -> bool);

/// All pods with a label, also those that are being deleted.
fn pods(cluster: &Cluster, label: &str) -> Vec<Value> {
    let list = cluster.json(&["pods", "-l", label]);
    list["items"].as_array().cloned().unwrap_or_default()
}

/// How many are in a phase.
fn of(pods: &[Value], phase: &str) -> usize {
    let same = pods.iter().filter(|pod| pod["status"]["phase"] == phase);
    same.count()
}

/// How many pods a Job's status counts as succeeded.
fn succeeded(status: &Value) -> u64 {
    status["succeeded"].as_u64().unwrap_or(0)
}

fn ends(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is(pod: &Value, version: &str) -> bool {
    pod["metadata"]["labels"]["version"] == version
}

fn addresses(pods: &[Value]) -> BTreeSet<String> {
    let ips = pods
        .iter()
        .filter_map(|pod| pod["status"]["podIP"].as_str());
    ips.map(str::to_owned).collect()
}

fn bridge(cluster: &Cluster) -> String {
    let marker = std::fs::read_to_string(cluster.data().join("berth.json")).expect("the marker");
    let marker: Value = serde_json::from_str(&marker).expect("JSON");
    marker["bridge"].as_str().expect("a bridge").to_owned()
}

/// The addresses that are given out.
fn given(cluster: &Cluster) -> BTreeSet<String> {
    let dir = cluster.data().join("cri/cni/ipam").join(bridge(cluster));
    let entries = std::fs::read_dir(dir).expect("the addresses");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    names
        .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
        .collect()
}

/// The rules of Services, and of each pod that has an address none but these.
fn rules(cluster: &Cluster) -> String {
    let table = format!("berth-services-{}", bridge(cluster));
    let mut command = Command::new("nft");
    let list = ["-s", "list", "table", "inet", &table];
    words(
        &command
            .env("PATH", path())
            .args(list)
            .output()
            .expect("nft runs"),
    )
}

/// Whether an address stands in rules, and not only the beginning of a longer one.
fn names(rules: &str, address: &str) -> bool {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    rules
        .split(|c: char| !is_part(c))
        .any(|word| word == address)
}

/// Waits until what is given out and what rules lead to are the addresses of these pods and no others.
fn nothing_else_is_left(cluster: &Cluster, label: &str, seen: &BTreeSet<String>) {
    wait_for("nothing of pods that are gone to be left", LIMIT, || {
        let there = addresses(&pods(cluster, label));
        let (given, rules) = (given(cluster), rules(cluster));
        let led: BTreeSet<String> = seen
            .iter()
            .filter(|address| names(&rules, address))
            .cloned()
            .collect();
        if given == there && led == there {
            Ok(())
        } else {
            Err(format!(
                "pods {there:?}, given out {given:?}, led to {led:?}"
            ))
        }
    });
}

#[test]
fn killed_at_each_point_of_a_rollout_it_ends_as_if_it_had_not_been() {
    let mut cluster = Cluster::start();
    cluster.apply(SERVICE);
    cluster.apply(&deployment("0"));
    cluster.kube(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    let points: [OfRollout; 5] = [
        ("it was only asked for", |_, _| true),
        ("a new pod is there", |pods, now| {
            pods.iter().any(|pod| is(pod, now))
        }),
        ("an old pod ends", |pods, now| {
            pods.iter().any(|pod| !is(pod, now) && ends(pod))
        }),
        ("a new pod runs and an old one stays", |pods, now| {
            let runs = |pod: &&Value| pod["status"]["phase"] == "Running";
            let mut new = pods.iter().filter(|pod| is(pod, now)).filter(runs);
            new.next().is_some() && pods.iter().any(|pod| !is(pod, now) && !ends(pod))
        }),
        ("the last old pod ends", |pods, now| {
            let mut old = pods.iter().filter(|pod| !is(pod, now));
            old.clone().next().is_some() && old.all(ends)
        }),
    ];
    let mut seen = BTreeSet::new();
    for (number, (point, reached)) in points.into_iter().enumerate() {
        let now = (number + 1).to_string();
        cluster.apply(&deployment(&now));
        let mut look = |cluster: &Cluster| {
            let all = pods(cluster, "app=web");
            seen.extend(addresses(&all));
            let stay = all.iter().filter(|pod| !ends(pod)).count();
            assert!(stay <= MOST, "{point}: {stay} pods\n{all:#?}");
            all
        };
        wait_for(point, LIMIT, || {
            let all = look(&cluster);
            match reached(&all, &now) {
                true => Ok(()),
                false => Err(cluster.kube(&["get", "pods", "--show-labels"])),
            }
        });
        cluster.kill();
        cluster.launch();
        wait_for(
            &format!("the rollout, killed when {point}"),
            2 * LIMIT,
            || {
                let all = look(&cluster);
                let ready =
                    cluster.json(&["deployment", "web"])["status"]["availableReplicas"].clone();
                let only = all.len() == REPLICAS && all.iter().all(|pod| is(pod, &now));
                match only && ready == REPLICAS {
                    true => Ok(()),
                    false => Err(cluster.kube(&["get", "pods,replicasets", "--show-labels"])),
                }
            },
        );
    }
    nothing_else_is_left(&cluster, "app=web", &seen);
    cluster.kube(&["delete", "deployment", "web"]);
    cluster.kill();
    cluster.launch();
    wait_for("the pods to go", LIMIT, || {
        let left = pods(&cluster, "app=web").len();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} pods"))
        }
    });
    nothing_else_is_left(&cluster, "app=web", &seen);
}

#[test]
fn killed_at_each_point_of_a_job_each_index_is_counted_once() {
    let mut cluster = Cluster::start();
    cluster.apply(
        &json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "count"},
            "spec": {
                "completions": INDEXES, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 20,
                "template": {"metadata": {"labels": {"app": "count"}}, "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "1"]}],
                }},
            },
        })
        .to_string(),
    );
    let status = |cluster: &Cluster| cluster.json(&["job", "count"])["status"].clone();
    let points: [OfJob; 5] = [
        ("a pod is there", |pods, _| !pods.is_empty()),
        ("a pod runs", |pods, _| of(pods, "Running") > 0),
        ("a pod has ended", |pods, _| of(pods, "Succeeded") > 0),
        ("one is counted", |_, status| succeeded(status) > 0),
        ("half are counted", |_, status| succeeded(status) >= 3),
    ];
    let mut seen = BTreeSet::new();
    let mut counted = 0;
    let mut look = |cluster: &Cluster| {
        let (all, now) = (pods(cluster, "app=count"), status(cluster));
        seen.extend(addresses(&all));
        let active = all.len() - of(&all, "Succeeded") - of(&all, "Failed");
        assert!(active <= 2, "{active} pods at once\n{all:#?}");
        let before = std::mem::replace(&mut counted, succeeded(&now));
        assert!(before <= counted, "{before} were counted, and now {now}");
        (all, now)
    };
    for (point, reached) in points {
        wait_for(point, LIMIT, || {
            let (all, now) = look(&cluster);
            match reached(&all, &now) {
                true => Ok(()),
                false => Err(cluster.kube(&["get", "job,pods"])),
            }
        });
        cluster.kill();
        cluster.launch();
    }
    let end = wait_for("the end of the Job", 2 * LIMIT, || {
        let (_, now) = look(&cluster);
        match now["conditions"].to_string().contains("\"Complete\"") {
            true => Ok(now),
            false => Err(cluster.kube(&["get", "job,pods"])),
        }
    });
    // Read after the Job: those of the last look may be from before its last pod ended.
    let all = pods(&cluster, "app=count");
    assert_eq!(succeeded(&end), INDEXES as u64, "{end}");
    assert_eq!(end["completedIndexes"], "0-5", "{end}");
    let done: Vec<&str> = all
        .iter()
        .filter(|pod| pod["status"]["phase"] == "Succeeded")
        .filter_map(|pod| {
            let annotations = &pod["metadata"]["annotations"];
            annotations["batch.kubernetes.io/job-completion-index"].as_str()
        })
        .collect();
    let each: BTreeSet<&str> = done.iter().copied().collect();
    assert_eq!((done.len(), each.len()), (INDEXES, INDEXES), "{done:?}");
    // A pod whose container was being started at a kill may have failed: it counts as that, once.
    let failed = u64::try_from(of(&all, "Failed")).expect("a count");
    assert_eq!(end["failed"].as_u64().unwrap_or(0), failed, "{end}");
    assert_eq!(all.len(), done.len() + of(&all, "Failed"));
    // Pods that have ended hold no address.
    wait_for("their addresses to be free", LIMIT, || {
        let given = given(&cluster);
        if given.is_empty() {
            Ok(())
        } else {
            Err(format!("{given:?}"))
        }
    });
    assert!(!seen.is_empty());
}
