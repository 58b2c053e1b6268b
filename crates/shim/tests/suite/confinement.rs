//! What a container may not do, as the kernel enforces it.

use std::time::Duration;

use crate::harness::{Pod, Settings, within};

#[tokio::test]
async fn the_default_seccomp_profile_lets_programs_run_and_namespaces_not_be_made() {
    for runtime in ["runc", "crun"] {
        let mut pod = Pod::start(runtime).await;
        pod.seccomp = berth_oci::SeccompProfile::RuntimeDefault;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let script =
            "grep Seccomp: /proc/self/status; unshare -U true || echo refused; (echo piped | cat)";
        let process = pod.exec_process(&id, &["sh", "-c", script], false);
        let got = within(pod.shim().exec_sync(&id, &process, Duration::ZERO))
            .await
            .expect("exec");
        let text = String::from_utf8_lossy(&got.stdout).replace('\t', " ");
        assert_eq!(text, "Seccomp: 2\nrefused\npiped\n", "{runtime}");
        pod.end().await;
    }
}

#[tokio::test]
async fn capabilities_masks_and_the_oom_score_arrive() {
    for runtime in ["runc", "crun"] {
        let pod = Pod::start(runtime).await;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let script = "grep CapEff: /proc/self/status; cat /proc/timer_list 2>/dev/null | wc -c; \
                      (echo 1 >/proc/sys/kernel/panic) 2>/dev/null || echo readonly; cat /proc/self/oom_score_adj";
        let process = pod.exec_process(&id, &["sh", "-c", script], false);
        let got = within(pod.shim().exec_sync(&id, &process, Duration::ZERO))
            .await
            .expect("exec");
        let text = String::from_utf8_lossy(&got.stdout).replace('\t', " ");
        assert_eq!(
            text, "CapEff: 00000000a80425fb\n0\nreadonly\n0\n",
            "{runtime}"
        );
        pod.end().await;
    }
}

#[tokio::test]
async fn gvisor_on_the_hosts_network_uses_the_hosts_stack() {
    let pod = Pod::start_on_host_network("runsc").await;
    let id = pod
        .run(
            &["sh", "-c", "cat /proc/net/dev; exit 3"],
            &Settings::default(),
        )
        .await;
    assert_eq!(within(pod.shim().wait(&id)).await.expect("wait").code, 3);
    for bundle in [&pod.id, &id] {
        let note = std::fs::read(pod.dir.path().join(bundle).join("runtime.json")).expect("note");
        let note: serde_json::Value = serde_json::from_slice(&note).expect("json");
        assert_eq!(
            note["network"], "host",
            "its own stack would take the host's addresses away"
        );
    }
    pod.end().await;
}

#[tokio::test]
async fn privileged_containers_start_under_every_runtime() {
    for runtime in crate::harness::RUNTIMES {
        let mut pod = Pod::start(runtime).await;
        pod.privileged = true;
        let script = "mount -t tmpfs x /tmp && echo mounted";
        let id = pod.run(&["sh", "-c", script], &Settings::default()).await;
        assert_eq!(
            within(pod.shim().wait(&id)).await.expect("wait").code,
            0,
            "{runtime}"
        );
        assert_eq!(pod.log(&id), ["stdout F mounted"], "{runtime}");
        pod.end().await;
    }
}
