//! PersistentVolumeClaims: what a pod writes is there for the next one, stays or goes as it was asked for, and is nobody else's;
//! also when berth is killed on the way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use berth_testkit::wait_for;
use serde_json::{Value, json};

use crate::cluster::{Cluster, FOREVER, IMAGE, LIMIT, class, short_dir};

fn claim(name: &str, more: &Value) -> String {
    let mut spec =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    let more = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().expect("an object").extend(more);
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

/// A pod that has a claim at `/data`, runs a command and goes on.
fn user(name: &str, claim: &str, class: Option<&str>, command: &str, more: &Value) -> String {
    let mut spec = json!({
        "runtimeClassName": class, "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", format!("{command}; {FOREVER}")],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "data", "mountPath": "/part", "subPath": "a/b"}]}],
    });
    let more = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().expect("an object").extend(more);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string()
}

fn items(cluster: &Cluster, what: &str) -> Vec<Value> {
    let list = cluster.json(&[what]);
    list["items"].as_array().cloned().expect("a list")
}

/// The directories of volumes on the node.
fn directories(cluster: &Cluster) -> Vec<PathBuf> {
    let all = fs::read_dir(cluster.data().join("node/local-path")).expect("the directory");
    all.map(|entry| entry.expect("an entry").path()).collect()
}

fn volume_of(cluster: &Cluster, claim: &str) -> String {
    let found = cluster.json(&["pvc", claim]);
    assert_eq!(found["status"]["phase"], "Bound", "{found}");
    assert_eq!(found["status"]["capacity"]["storage"], "1Mi", "{found}");
    let name = found["spec"]["volumeName"].as_str();
    name.expect("a volume").to_owned()
}

fn wait_logs(cluster: &Cluster, pod: &str, want: &str) {
    wait_for(&format!("{want:?} in the log of {pod}"), LIMIT, || {
        let logs = cluster.kube(&["logs", pod]);
        if logs.contains(want) {
            Ok(())
        } else {
            Err(logs)
        }
    });
}

/// No claim, no volume, no directory but these.
fn wait_left(cluster: &Cluster, volumes: usize, dirs: usize) {
    wait_for("the end of the claims", LIMIT, || {
        let claims = items(cluster, "pvc");
        let found = items(cluster, "pv");
        let there = directories(cluster);
        if claims.is_empty() && found.len() == volumes && there.len() == dirs {
            Ok(())
        } else {
            let told = cluster.kube(&["get", "events"]);
            Err(format!("{claims:#?} {found:#?} {there:?} {told}"))
        }
    });
}

#[test]
fn what_a_pod_writes_is_there_for_the_next_one_and_goes_or_stays_as_asked() {
    let mut cluster = Cluster::start();
    cluster.apply(&class("gvisor", "runsc"));
    let applied = cluster.try_apply(&claim("plain", &json!({})));
    assert_eq!(
        String::from_utf8_lossy(&applied.stderr),
        "",
        "nothing is to be warned of"
    );
    cluster.apply(&claim("boxed", &json!({})));
    cluster.wait_event(
        "plain",
        &["WaitForFirstConsumer", "waiting for first consumer"],
    );
    let outside = short_dir();
    fs::write(outside.path().join("theirs"), "x").expect("a file");
    let group =
        json!({"securityContext": {"runAsUser": 1234, "runAsGroup": 1234, "fsGroup": 4321}});
    let runs = [("plain", None), ("boxed", Some("gvisor"))];
    for (name, class) in runs {
        let command = "echo first > /data/seen; echo part > /part/seen; umask 077; echo mine > /data/mine; chmod 700 /data";
        cluster.apply(&user("first", name, class, command, &json!({})));
        cluster.wait_ready(&["first"]);
        let made = directories(&cluster).len();
        // A claim that is in use stays, and so does its volume.
        cluster.kube(&["delete", "pvc", name, "--wait=false"]);
        let volume = volume_of(&cluster, name);
        cluster.kube(&["delete", "pv", &volume, "--wait=false"]);
        cluster.kill();
        cluster.launch();
        cluster.wait_ready(&["first"]);
        assert!(!cluster.json(&["pvc", name])["metadata"]["deletionTimestamp"].is_null());
        assert_eq!(cluster.json(&["pv", &volume])["status"]["phase"], "Bound");
        assert_eq!(directories(&cluster).len(), made);
        cluster.kube(&["delete", "pod", "first"]);
        wait_for("the end of the claim", LIMIT, || {
            let left = (items(&cluster, "pv").len(), directories(&cluster));
            if left == (0, Vec::new()) {
                Ok(())
            } else {
                Err(format!("{left:?} {}", cluster.events_of(&volume)))
            }
        });
        cluster.apply(&claim(name, &json!({})));
        cluster.apply(&user("first", name, class, command, &json!({})));
        cluster.wait_ready(&["first"]);
        cluster.kube(&["delete", "pod", "first"]);
        // Another user, by the volume's group.
        let next = "cat /data/seen /part/seen /data/a/b/seen; cat /data/mine; echo more >> /data/seen && echo written; stat -c %g /data";
        cluster.apply(&user("next", name, class, next, &group));
        cluster.wait_ready(&["next"]);
        wait_logs(&cluster, "next", "first\npart\npart\nmine\nwritten\n4321\n");
        symlink(outside.path(), directories(&cluster)[0].join("planted")).expect("a link");
        if class.is_none() {
            let volume = volume_of(&cluster, name);
            let retain = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}).to_string();
            cluster.kube(&["patch", "pv", &volume, "-p", &retain]);
            cluster.kube(&["delete", "pod", "next"]);
            cluster.kube(&["delete", "pvc", name]);
            wait_for("a released volume", LIMIT, || {
                let found = cluster.json(&["pv", &volume])["status"]["phase"].clone();
                if found == "Released" {
                    Ok(())
                } else {
                    Err(found.to_string())
                }
            });
            let kept = directories(&cluster)[0].join("seen");
            assert_eq!(
                fs::read_to_string(&kept).expect("the data"),
                "first\nmore\n"
            );
            // A claim of the same name gets another volume, not what is left of this one.
            cluster.apply(&claim(name, &json!({})));
            cluster.apply(&user("next", name, None, "ls -A /data", &json!({})));
            cluster.wait_ready(&["next"]);
            assert_ne!(volume_of(&cluster, name), volume);
            cluster.kube(&["delete", "pod/next", &format!("pvc/{name}")]);
            wait_left_beside(&cluster, 1);
            cluster.kube(&["delete", "pv", &volume]);
            assert!(
                kept.exists(),
                "a retained directory stays when its volume is deleted"
            );
            fs::remove_dir_all(kept.parent().expect("it")).expect("it goes by hand");
        } else {
            cluster.kube(&["delete", "pod", "next"]);
            cluster.kube(&["delete", "pvc", name]);
            wait_left(&cluster, 0, 0);
        }
        assert!(
            outside.path().join("theirs").exists(),
            "what a link names is not removed"
        );
    }
}

/// So many volumes and directories are left, whatever claims there are.
fn wait_left_beside(cluster: &Cluster, number: usize) {
    wait_for("the end of a volume", LIMIT, || {
        let left = (items(cluster, "pv").len(), directories(cluster).len());
        if left == (number, number) {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}

#[test]
fn claims_of_templates_come_and_go_with_their_pods() {
    let mut cluster = Cluster::start();
    let command = format!("hostname >> /data/seen; cat /data/seen; {FOREVER}");
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"serviceName": "db", "replicas": 2, "selector": {"matchLabels": {"app": "db"}},
            "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Retain"},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOncePod"],
                "resources": {"requests": {"storage": "1Mi"}}}}],
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", command],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}},
    });
    cluster.apply(&set.to_string());
    cluster.kill();
    cluster.launch();
    cluster.kube(&["rollout", "status", "statefulset/db", "--timeout=60s"]);
    assert_eq!(items(&cluster, "pvc").len(), 2);
    cluster.kube(&["delete", "pod", "db-0"]);
    cluster.kube(&["rollout", "status", "statefulset/db", "--timeout=60s"]);
    wait_logs(&cluster, "db-0", "db-0\ndb-0\n");
    // One pod at a time: the second is told.
    cluster.apply(&user("second", "data-db-0", None, "true", &json!({})));
    cluster.wait_event("second", &["FailedScheduling", "ReadWriteOncePod"]);
    // The node knows it as well, when nobody asks the scheduler.
    let pinned = json!({"nodeName": "n1"});
    cluster.apply(&user("third", "data-db-0", None, "true", &pinned));
    cluster.wait_event("third", &["FailedMount", "ReadWriteOncePod"]);
    cluster.kube(&["delete", "pod", "second", "third"]);
    cluster.kube(&["scale", "statefulset/db", "--replicas=1"]);
    wait_left_beside(&cluster, 1);
    cluster.kube(&["delete", "statefulset", "db"]);
    cluster.kube(&["wait", "--for=delete", "pod/db-0", "--timeout=60s"]);
    assert_eq!(items(&cluster, "pvc").len(), 1, "it is retained");
    cluster.kube(&["delete", "pvc", "data-db-0"]);
    wait_left(&cluster, 0, 0);
    // A claim that is made for a pod goes with it.
    let own = json!({"volumes": [{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}}}}}]});
    cluster.apply(&user("scratch", "", None, "echo x > /data/x", &own));
    cluster.wait_ready(&["scratch"]);
    assert!(volume_of(&cluster, "scratch-data").starts_with("pvc-"));
    cluster.kube(&["delete", "pod", "scratch"]);
    wait_left(&cluster, 0, 0);
}

/// Killed at any point of a claim's life: it comes to the same end, and nothing is left.
#[test]
fn a_kill_at_any_point_of_a_claims_life_changes_nothing_of_its_end() {
    let mut cluster = Cluster::start();
    for (round, pause) in [0_u64, 60, 150, 300].into_iter().enumerate() {
        let (name, pod) = (format!("c{round}"), format!("p{round}"));
        cluster.apply(&claim(&name, &json!({})));
        cluster.apply(&user(
            &pod,
            &name,
            None,
            "echo kept > /data/seen",
            &json!({}),
        ));
        std::thread::sleep(Duration::from_millis(pause));
        cluster.kill();
        cluster.launch();
    }
    cluster.wait_ready(&["p0", "p1", "p2", "p3"]);
    let volumes = items(&cluster, "pv");
    assert_eq!(volumes.len(), 4, "one for each claim");
    assert_eq!(directories(&cluster).len(), 4);
    for dir in directories(&cluster) {
        let seen = fs::read_to_string(dir.join("seen"));
        assert_eq!(seen.expect("what the pod wrote"), "kept\n");
        // So that the removal takes a while.
        for number in 0..3000 {
            fs::write(dir.join(number.to_string()), "").expect("a file");
        }
    }
    cluster.kube(&["delete", "pvc", "--all", "--wait=false"]);
    cluster.kube(&["delete", "pod", "--all", "--wait=false"]);
    for pause in [700, 300, 500] {
        std::thread::sleep(Duration::from_millis(pause));
        cluster.kill();
        cluster.launch();
    }
    wait_left(&cluster, 0, 0);
    // A claim that nobody used, and one whose pod no node takes.
    cluster.apply(&claim("unused", &json!({})));
    cluster.apply(&claim("waiting", &json!({})));
    let nowhere = json!({"nodeSelector": {"no": "where"}});
    cluster.apply(&user("nowhere", "waiting", None, "true", &nowhere));
    cluster.wait_event("waiting", &["WaitForPodScheduled", "nowhere"]);
    cluster.kube(&["delete", "pod", "nowhere"]);
    cluster.kube(&["delete", "pvc", "--all"]);
    wait_left(&cluster, 0, 0);
}

/// A small disk, which is taken away at the latest when the test ends.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs"]);
        let status = mount.arg(&path).status().expect("mount runs");
        assert!(status.success(), "mount {}", path.display());
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let unmounted = status.is_ok_and(|status| status.success());
        assert!(
            unmounted || std::thread::panicking(),
            "umount {}",
            self.0.display()
        );
    }
}

#[test]
fn what_a_claim_waits_for_is_told_on_it() {
    let dir = short_dir();
    let place = dir.path().join("volumes");
    fs::create_dir(&place).expect("a directory");
    let path = place.to_string_lossy().into_owned();
    let disk = SmallDisk::mount(place.clone());
    let cluster = Cluster::with(&["--local-path-dir", &path]);
    // Somebody else's provisioner.
    let other = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "disks"}, "provisioner": "disks.example.com"});
    cluster.apply(&other.to_string());
    cluster.apply(&claim("external", &json!({"storageClassName": "disks"})));
    cluster.wait_event("external", &["ExternalProvisioning", "disks.example.com"]);
    cluster.apply(&claim("missing", &json!({"storageClassName": "none"})));
    cluster.wait_event("missing", &["ProvisioningFailed", "\"none\" not found"]);
    // A hostPath volume of an administrator, for one claim and not for two.
    let host = short_dir();
    fs::write(host.path().join("hello"), "from the host\n").expect("a file");
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "host"},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Mi"}, "hostPath": {"path": host.path(), "type": "Directory"}}});
    cluster.apply(&volume.to_string());
    cluster.apply(&claim("host", &json!({"storageClassName": ""})));
    cluster.apply(&user("reader", "host", None, "cat /data/hello", &json!({})));
    cluster.wait_ready(&["reader"]);
    wait_logs(&cluster, "reader", "from the host");
    assert_eq!(volume_of(&cluster, "host"), "host");
    let greedy = json!({"storageClassName": "", "volumeName": "host"});
    cluster.apply(&claim("greedy", &greedy));
    cluster.wait_event(
        "greedy",
        &["FailedBinding", "already bound to a different claim"],
    );
    // Neither the node nor the scheduler is told otherwise by who says that it is bound.
    let forged = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}})
        .to_string();
    cluster.kube(&["patch", "pvc", "greedy", "-p", &forged]);
    cluster.wait_event("greedy", &["ClaimMisbound"]);
    cluster.apply(&user(
        "thief",
        "greedy",
        None,
        "true",
        &json!({"nodeName": "n1"}),
    ));
    cluster.wait_event("thief", &["FailedMount", "is not bound"]);
    // More than there is, then a full disk, then none.
    let large = json!({"resources": {"requests": {"storage": "1Ti"}}});
    cluster.apply(&claim("large", &large));
    cluster.apply(&user("large", "large", None, "true", &json!({})));
    cluster.wait_event("large", &["InsufficientFreeSpace", "more than is free"]);
    cluster.wait_ready(&["large"]);
    let fill = place.join("fill");
    fs::write(&fill, vec![0; 5 << 19]).expect("it is filled");
    cluster.apply(&claim("full", &json!({})));
    cluster.apply(&user("full", "full", None, "true", &json!({})));
    cluster.wait_event("full", &["ProvisioningFailed", "is full"]);
    fs::remove_file(&fill).expect("it is made room");
    cluster.wait_ready(&["full"]);
    drop(disk);
    fs::remove_dir(&place).expect("it goes");
    cluster.apply(&claim("gone", &json!({})));
    cluster.apply(&user("gone", "gone", None, "true", &json!({})));
    cluster.wait_event("gone", &["ProvisioningFailed", "it is missing"]);
    // A volume that is made already, and whose directory has gone.
    cluster.kube(&["delete", "pod", "full"]);
    cluster.apply(&user("full", "full", None, "true", &json!({})));
    cluster.wait_event("full", &["FailedMount", "it is missing"]);
    // Nothing is thought to be removed while nobody can look.
    cluster.kube(&["delete", "pod", "full"]);
    cluster.kube(&["delete", "pvc", "full"]);
    wait_for("the removal's failure", LIMIT, || {
        let events = cluster.kube(&["get", "events", "-A"]);
        let told = events.contains("VolumeFailedDelete") && events.contains("it is missing");
        if told { Ok(()) } else { Err(events) }
    });
}
