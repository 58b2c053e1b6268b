//! Create, start, wait, kill, delete.

use berth_shim::client::{ShimError, Status};

use crate::harness::{Pod, RUNTIMES, Settings, within};

#[tokio::test]
async fn exit_codes_come_through() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        for code in [0, 7, 255] {
            let id = pod
                .create(&["sh", "-c", &format!("exit {code}")], &Settings::default())
                .await;
            assert_eq!(
                pod.shim().state(&id).await.expect("state").status,
                Status::Created,
                "{runtime}"
            );
            pod.shim().start(&id).await.expect("start");
            let exit = within(pod.shim().wait(&id)).await.expect("wait");
            assert_eq!(exit.code, code, "{runtime}");
            let state = pod.shim().state(&id).await.expect("state");
            assert_eq!(state.status, Status::Stopped(exit), "{runtime}");
            assert_eq!(
                pod.shim().delete(&id).await.expect("delete"),
                exit,
                "{runtime}"
            );
            assert!(
                pod.shim()
                    .state(&id)
                    .await
                    .expect_err("gone")
                    .is_not_found(),
                "{runtime}"
            );
        }
        pod.end().await;
    }
}

#[tokio::test]
async fn signals_end_with_128_plus_their_number() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod
            .run(
                &[
                    "sh",
                    "-c",
                    "trap 'exit 3' TERM; while :; do sleep 0.1; done",
                ],
                &Settings::default(),
            )
            .await;
        let state = pod.shim().state(&id).await.expect("state");
        assert_eq!(state.status, Status::Running, "{runtime}");
        assert!(state.pid > 0);
        assert!(
            matches!(
                pod.shim().delete(&id).await,
                Err(ShimError::FailedPrecondition(_))
            ),
            "{runtime}"
        );
        pod.shim().kill(&id, 9, false).await.expect("kill");
        assert_eq!(
            within(pod.shim().wait(&id)).await.expect("wait").code,
            137,
            "{runtime}"
        );
        assert!(
            pod.shim()
                .kill(&id, 9, false)
                .await
                .expect_err("ended")
                .is_not_found(),
            "{runtime}"
        );
        pod.end().await;
    }
}

#[tokio::test]
async fn a_container_that_never_started_can_be_deleted() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod.create(&["sleep", "1000"], &Settings::default()).await;
        assert_eq!(
            within(pod.shim().delete(&id)).await.expect("delete").code,
            137,
            "{runtime}"
        );
        // Nobody is to take that for the end of its program.
        let noted = berth_shim::client::recorded_exit(&pod.dir.path().join(&id));
        assert_eq!(noted, None, "{runtime}");
        pod.end().await;
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        assert!(
            pod.shim()
                .start("nobody")
                .await
                .expect_err("unknown")
                .is_not_found()
        );
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let bundle = pod.dir.path().join(&id);
        let again = pod
            .shim()
            .create(&pod.request(&id, &bundle, &Settings::default()))
            .await;
        assert!(
            matches!(again, Err(ShimError::AlreadyExists(_))),
            "{runtime}: {again:?}"
        );
        assert!(
            matches!(
                pod.shim().start(&id).await,
                Err(ShimError::FailedPrecondition(_))
            ),
            "{runtime}"
        );

        let bad = format!("{id}x");
        let bundle = pod.bundle(&bad, &["/no/such/program"], false, false);
        let created = pod
            .shim()
            .create(&pod.request(&bad, &bundle, &Settings::default()))
            .await;
        let error = match created {
            Err(e) => e,
            Ok(_) => {
                let e = pod.shim().start(&bad).await.expect_err("no such program");
                let _ = pod.shim().delete(&bad).await;
                e
            }
        };
        assert!(
            error.to_string().contains("no/such/program"),
            "{runtime}: {error}"
        );
        pod.end().await;
    }
}

#[tokio::test]
async fn a_missing_runtime_is_named() {
    let missing = std::path::Path::new("/nowhere/runc");
    let pod = Pod::start_with("runc", Some(missing)).await;
    let bundle = pod.bundle("x", &["true"], false, false);
    let error = pod
        .shim()
        .create(&pod.request("x", &bundle, &Settings::default()))
        .await
        .expect_err("missing");
    assert!(
        error.to_string().contains("/nowhere/runc") && error.to_string().contains("not found"),
        "{error}"
    );
    pod.end().await;
}

#[tokio::test]
async fn statistics_and_limits() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let stats = pod.shim().stats(&id).await.expect("stats");
        assert!(
            stats.memory_usage.is_some_and(|m| m > 0),
            "{runtime}: {stats:?}"
        );
        assert!(stats.pids.is_some_and(|p| p > 0), "{runtime}: {stats:?}");
        let mut resources = oci_spec::runtime::LinuxResources::default();
        let mut memory = oci_spec::runtime::LinuxMemory::default();
        memory.set_limit(Some(64 << 20));
        resources.set_memory(Some(memory));
        let updated = pod.shim().update(&id, &resources).await;
        if runtime == "runsc" {
            assert!(
                matches!(updated, Err(ShimError::Unimplemented(_))),
                "{updated:?}"
            );
        } else {
            updated.expect("update");
            assert_eq!(
                pod.shim().stats(&id).await.expect("stats").memory_limit,
                Some(64 << 20),
                "{runtime}"
            );
            assert_eq!(
                pod.shim().pids(&id).await.expect("pids").len(),
                1,
                "{runtime}"
            );
        }
        pod.end().await;
    }
}

#[tokio::test]
async fn death_for_want_of_memory_is_noted() {
    for runtime in ["runc", "crun"] {
        let mut pod = Pod::start(runtime).await;
        pod.memory_limit = 16 << 20;
        let greedy = ["sh", "-c", "a=x; while :; do a=$a$a; done"];
        let id = pod.run(&greedy, &Settings::default()).await;
        assert_eq!(
            within(pod.shim().wait(&id)).await.expect("wait").code,
            137,
            "{runtime}"
        );
        let bundle = pod.dir.path().join(&id);
        assert!(berth_shim::client::recorded_oom_kill(&bundle), "{runtime}");
        let id = pod.run(&["true"], &Settings::default()).await;
        within(pod.shim().wait(&id)).await.expect("wait");
        let bundle = pod.dir.path().join(&id);
        assert!(!berth_shim::client::recorded_oom_kill(&bundle), "{runtime}");
        pod.end().await;
    }
}
