//! A handler is usable when it has been seen to work: one that isn't is told everywhere, with the runtime's own words.

use std::fs;

use crate::cluster::{Cluster, FOREVER, berth, class, pod, short_dir, words};

/// A platform that no build of this machine's has, and what runsc says of it.
const CONFIGURATION: &str = "[handlers.runc]\n[handlers.runsc]\nargs = [\"--platform=quantum\"]\n";
const REASON: &str = "unknown platform: quantum";

#[test]
fn a_gvisor_that_does_not_run_is_told_before_a_pod_is_stuck() {
    let dir = short_dir();
    let config = dir.path().join("config.toml");
    fs::write(&config, CONFIGURATION).unwrap();
    let config = config.display().to_string();
    let sentence = format!("handler \"runsc\" cannot run: a trial sandbox does not run: {REASON}");

    // Before anything is started.
    let handlers = berth()
        .args(["cri", "handlers", "--config", &config])
        .output()
        .unwrap();
    assert!(handlers.status.success(), "{}", words(&handlers));
    assert!(words(&handlers).contains(REASON), "{}", words(&handlers));
    let checked = berth()
        .args(["check", "--config", &config])
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(1));
    assert!(words(&checked).contains(&sentence), "{}", words(&checked));

    // The start says it, with what this run can do.
    let cluster = Cluster::with(&["--config", &config]);
    let log = cluster.log();
    let (_, welcome) = log
        .split_once("berth is ready after")
        .expect("it says that it is ready");
    assert!(
        welcome.contains("handlers    (default), runc\n"),
        "{welcome}"
    );
    assert!(welcome.contains(&sentence), "{welcome}");

    // The node doesn't offer it, and says why.
    let node = cluster.json(&["node", "n1"]);
    let offered = node["status"]["runtimeHandlers"].to_string();
    assert!(!offered.contains("runsc"), "{offered}");
    let described = cluster.kube(&["describe", "node", "n1"]);
    assert!(described.contains(REASON), "{described}");

    // Who creates a class or a pod of it is told the same.
    let applied = cluster.try_apply(&class("gvisor", "runsc"));
    assert!(
        applied.status.success() && words(&applied).contains(&sentence),
        "{}",
        words(&applied)
    );
    let applied = cluster.try_apply(&pod("p", Some("gvisor"), FOREVER));
    assert!(
        applied.status.success() && words(&applied).contains(&sentence),
        "{}",
        words(&applied)
    );
    cluster.wait_phase("p", "Failed");
    cluster.wait_event("p", &["UnsupportedRuntimeHandler", "gvisor", &sentence]);
    let described = cluster.kube(&["describe", "pod", "p"]);
    assert!(described.contains(&sentence), "{described}");
    let kubeconfig = cluster
        .data()
        .join("admin.kubeconfig")
        .display()
        .to_string();
    let checked = berth()
        .args(["check", "--kubeconfig", &kubeconfig])
        .output()
        .unwrap();
    assert!(words(&checked).contains(&sentence), "{}", words(&checked));

    // One that works beside it is nobody's matter.
    let applied =
        cluster.try_apply(&(class("plain", "runc") + "---\n" + &pod("q", Some("plain"), FOREVER)));
    assert!(
        applied.status.success() && !words(&applied).contains("Warning"),
        "{}",
        words(&applied)
    );
    cluster.wait_ready(&["q"]);
}

#[test]
fn a_default_handler_that_does_not_run_stops_the_start_with_the_reason() {
    let dir = short_dir();
    let config = dir.path().join("config.toml");
    fs::write(
        &config,
        format!("default_handler = \"runsc\"\n{CONFIGURATION}"),
    )
    .unwrap();
    let data = dir.path().join("d");
    let port = crate::cluster::free_port().to_string();
    let started = berth()
        .args([
            "up",
            "--bind-address",
            "127.0.0.1",
            "--secure-port",
            &port,
            "--kubelet-address",
            "0.0.0.0:0",
        ])
        .arg("--data-dir")
        .arg(&data)
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    let said = words(&started);
    assert!(!started.status.success(), "{said}");
    assert!(
        said.contains("the default runtime handler") && said.contains(REASON),
        "{said}"
    );
    assert!(!said.contains("berth is ready"), "{said}");
    let reset = berth()
        .args(["reset", "--yes", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(reset.status.success(), "{}", words(&reset));
}
