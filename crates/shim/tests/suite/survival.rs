//! What outlives whom.

use std::time::Duration;

use berth_shim::client::{self, Shim, Status};

use crate::harness::{Pod, RUNTIMES, Settings, eventually, within};

#[tokio::test]
async fn another_client_finds_the_exit_and_the_log() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod
            .run(
                &["sh", "-c", "sleep 0.3; echo later; exit 9"],
                &Settings::default(),
            )
            .await;
        let again = Shim::reconnect(&pod.config, &pod.dir.path().join("pod"))
            .await
            .expect("reconnect");
        let exit = within(again.wait(&id)).await.expect("wait");
        assert_eq!(exit.code, 9, "{runtime}");
        assert_eq!(
            again.state(&id).await.expect("state").status,
            Status::Stopped(exit),
            "{runtime}"
        );
        assert_eq!(pod.log(&id), ["stdout F later"], "{runtime}");
        assert_eq!(
            client::recorded_exit(&pod.dir.path().join(&id)).map(|e| e.code),
            Some(9),
            "{runtime}"
        );
        pod.end().await;
    }
}

#[tokio::test]
async fn starting_twice_gives_the_same_shim() {
    let pod = Pod::start("runc").await;
    let again = Shim::launch(&pod.config, &pod.id, &pod.dir.path().join("pod"))
        .await
        .expect("launch");
    assert_eq!(again.address(), pod.shim().address());
    assert_eq!(
        again.shim_pid("x").await.expect("pid"),
        pod.shim().shim_pid("x").await.expect("pid")
    );
    // A later container's start finds its pod's shim by the annotation.
    let bundle = pod.bundle("later", &["true"], false, false);
    let later = Shim::launch(&pod.config, "later", &bundle)
        .await
        .expect("launch");
    assert_eq!(later.address(), pod.shim().address());
    pod.end().await;
}

#[tokio::test]
async fn the_shim_is_in_a_session_of_its_own_and_leaves_nothing_behind() {
    let pod = Pod::start("runc").await;
    let shim = pod.shim().shim_pid("x").await.expect("pid");
    let stat = std::fs::read_to_string(format!("/proc/{shim}/stat")).expect("stat");
    let session = stat
        .rsplit_once(") ")
        .expect("stat")
        .1
        .split(' ')
        .nth(3)
        .expect("session")
        .to_owned();
    assert_eq!(session, shim.to_string());
    let sockets = pod.config.socket_dir.clone();
    let dir = pod.dir.path().to_owned();
    let keep = std::fs::canonicalize(&dir).expect("dir");
    pod.shim().shutdown(&pod.id, false).await.expect("shutdown");
    eventually("the shim ends", || {
        !std::path::Path::new(&format!("/proc/{shim}/exe")).exists()
    })
    .await;
    assert_eq!(std::fs::read_dir(&sockets).expect("sockets").count(), 0);
    drop(keep);
}

#[tokio::test]
async fn a_killed_shim_is_cleaned_up_after() {
    for runtime in RUNTIMES {
        let pod = Pod::start(runtime).await;
        let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
        let shim = pod.shim().shim_pid(&id).await.expect("pid");
        let container = pod.shim().state(&id).await.expect("state").pid;
        let waiting = tokio::spawn({
            let (shim, id) = (pod.shim().clone(), id.clone());
            async move { shim.wait(&id).await }
        });
        let pid = rustix::process::Pid::from_raw(i32::try_from(shim).expect("pid")).expect("pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        assert!(
            within(waiting).await.expect("task").is_err(),
            "{runtime}: waiting ends with the shim"
        );
        let bundle = pod.dir.path().join("pod");
        assert!(
            Shim::reconnect(&pod.config, &bundle).await.is_err(),
            "{runtime}"
        );
        let exit = within(client::cleanup(&pod.config, &id, &pod.dir.path().join(&id)))
            .await
            .expect("cleanup");
        assert_eq!(exit.code, 137, "{runtime}");
        if pod.kind.needs_sandbox_container() {
            within(client::cleanup(
                &pod.config,
                &pod.id,
                &pod.dir.path().join(&pod.id),
            ))
            .await
            .expect("cleanup");
        }
        eventually("the container is gone", || {
            let path = format!("/proc/{container}/stat");
            std::fs::read_to_string(path).map_or(true, |s| s.contains(") Z "))
        })
        .await;
    }
}

#[tokio::test]
async fn orphans_are_reaped() {
    let pod = Pod::start("runc").await;
    let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
    let shim = pod.shim().shim_pid(&id).await.expect("pid");
    for _ in 0..3 {
        let process = pod.exec_process(&id, &["sh", "-c", "sleep 0.05 &"], false);
        within(pod.shim().exec_sync(&id, &process, Duration::ZERO))
            .await
            .expect("exec");
    }
    let children = || {
        std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap_or_default()
    };
    eventually("only the container is left", || {
        children().split_whitespace().count() == 1
    })
    .await;
    pod.end().await;
}

#[tokio::test]
async fn the_death_of_a_gvisor_sandbox_ends_all_its_containers() {
    let pod = Pod::start("runsc").await;
    let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
    let sandbox = pod.shim().state(&id).await.expect("state").pid;
    let pid = rustix::process::Pid::from_raw(i32::try_from(sandbox).expect("pid")).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    for id in [&id, &pod.id] {
        assert_eq!(within(pod.shim().wait(id)).await.expect("wait").code, 137);
        assert_eq!(
            within(pod.shim().delete(id)).await.expect("delete").code,
            137
        );
    }
    pod.end().await;
}

#[tokio::test]
async fn many_execs_and_containers_leave_nothing_in_the_shim() {
    let pod = Pod::start("runc").await;
    let id = pod.run(&["sleep", "1000"], &Settings::default()).await;
    let shim = pod.shim().shim_pid(&id).await.expect("pid");
    let open = || {
        std::fs::read_dir(format!("/proc/{shim}/fd"))
            .expect("fds")
            .count()
    };
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{shim}/status")).expect("status");
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("RssAnon:"))
            .expect("RssAnon")
            .to_owned();
        line.trim()
            .trim_end_matches(" kB")
            .parse::<usize>()
            .expect("number")
    };
    let round = async || {
        let terminal = pod.exec_process(&id, &["true"], true);
        within(pod.shim().exec_sync(&id, &terminal, Duration::ZERO))
            .await
            .expect("exec");
        let plain = pod.exec_process(&id, &["echo", "x"], false);
        within(pod.shim().exec_sync(&id, &plain, Duration::ZERO))
            .await
            .expect("exec");
        let missing = pod.exec_process(&id, &["/no/such"], false);
        within(pod.shim().exec_sync(&id, &missing, Duration::ZERO))
            .await
            .expect_err("no such program");
        let other = pod.run(&["true"], &Settings::default()).await;
        within(pod.shim().wait(&other)).await.expect("wait");
        pod.shim().delete(&other).await.expect("delete");
    };
    for _ in 0..3 {
        round().await;
    }
    eventually("streams are closed", || open() <= 20).await;
    let (fds, memory) = (open(), resident());
    for _ in 0..10 {
        round().await;
    }
    eventually("no descriptor is left", || open() <= fds).await;
    assert!(
        resident() < memory + 500,
        "{} kB, before {memory} kB",
        resident()
    );
    let files: Vec<_> = std::fs::read_dir(pod.dir.path().join(&id))
        .expect("bundle")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        !files
            .iter()
            .any(|f| f.to_string_lossy().starts_with(".exec")),
        "{files:?}"
    );
    pod.end().await;
}
