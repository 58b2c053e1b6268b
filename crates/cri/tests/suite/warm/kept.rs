//! Those that wait are kept, taken once, discarded and replaced.

use std::collections::BTreeSet;

use berth_cri_api::v1::*;

use super::{WAITING, end, pods, report, table, waiting};
use crate::client::{pod, shell, until};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn each_is_taken_once() {
    let mut server = Server::start_with(table(WAITING)).await;
    let waited = waiting(&mut server, "runsc", 2).await;
    let mut runs = Vec::new();
    for number in 0..6 {
        let (mut client, config) = (server.client.clone(), pod(&server, &format!("p{number}")));
        runs.push(tokio::spawn(async move {
            let request = RunPodSandboxRequest {
                config: Some(config),
                runtime_handler: "runsc".to_owned(),
            };
            let answer = client.run_pod_sandbox(request).await.unwrap();
            answer.into_inner().pod_sandbox_id
        }));
    }
    let mut ids = Vec::new();
    for run in runs {
        ids.push(run.await.unwrap());
    }
    let distinct: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(distinct.len(), ids.len(), "{ids:?}");
    assert!(waited.is_subset(&distinct), "{waited:?} {ids:?}");
    let mut addresses = BTreeSet::new();
    let mut names = BTreeSet::new();
    for id in &ids {
        let status = server.sandbox(id).await;
        addresses.insert(status.network.unwrap().ip);
        names.insert(status.metadata.unwrap().name);
    }
    assert_eq!((addresses.len(), names.len()), (6, 6));
    let counts = report(&mut server, "runsc").await;
    assert_eq!(
        (&counts["taken"], &counts["cold"]["none_waiting"]),
        (&2.into(), &4.into())
    );
    // One that was used does not come back.
    for id in &ids {
        server.stop_pod(id).await;
    }
    let left = waiting(&mut server, "runsc", 2).await;
    assert!(left.is_disjoint(&distinct));
    end(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_handler_or_network_discards_them() {
    let mut server = Server::start_with(table(WAITING)).await;
    let first = waiting(&mut server, "runsc", 2).await;
    let changed = WAITING.replace(
        "[handlers.runsc]",
        "[handlers.runsc]\nargs = [\"--debug=false\"]",
    );
    std::fs::write(server.path().join("config.toml"), changed).unwrap();
    until("others", async || {
        let report = report(&mut server, "runsc").await;
        if report["discarded"]["handler"] == 2 {
            Ok(())
        } else {
            Err(report.to_string())
        }
    })
    .await;
    let second = waiting(&mut server, "runsc", 2).await;
    assert!(second.is_disjoint(&first));
    // A pod that comes before anybody has looked gets none of the old network either.
    let network = server.path().join("d/cri/cni/net.d/10-berth.conflist");
    let text = std::fs::read_to_string(&network).unwrap();
    std::fs::write(
        &network,
        text.replace("\"hairpinMode\": true", "\"hairpinMode\": false"),
    )
    .unwrap();
    let config = pod(&server, "between");
    let id = server.run(&config, "runsc").await;
    assert!(!second.contains(&id));
    until("others", async || {
        let report = report(&mut server, "runsc").await;
        if report["discarded"]["network"] == 2 {
            Ok(())
        } else {
            Err(report.to_string())
        }
    })
    .await;
    let third = waiting(&mut server, "runsc", 2).await;
    // And in a network whose plugins look at pods none waits.
    let odd = text.replace("\"type\": \"portmap\"", "\"type\": \"calico\"");
    std::fs::write(&network, odd).unwrap();
    until("a refusal", async || {
        let report = report(&mut server, "runsc").await;
        match report["refused"].as_str() {
            Some(reason) if reason.contains("calico") => Ok(()),
            _ => Err(report.to_string()),
        }
    })
    .await;
    waiting(&mut server, "runsc", 0).await;
    std::fs::write(&network, text).unwrap();
    let fourth = waiting(&mut server, "runsc", 2).await;
    assert!(fourth.is_disjoint(&third));
    end(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_adopts_them_and_ends_what_was_half_done() {
    let mut server = Server::start_with(table(WAITING)).await;
    let waited = waiting(&mut server, "runsc", 2).await;
    waiting(&mut server, "runc", 1).await;
    server.kill().await;
    server.resume().await;
    assert_eq!(waiting(&mut server, "runsc", 2).await, waited);
    let config = pod(&server, "after");
    let id = server.run(&config, "runsc").await;
    assert!(waited.contains(&id));
    let container = server
        .launch(&id, &config, shell("c", "exec sleep 1000"))
        .await;
    assert_eq!(
        server.exec(&container, "hostname").await.trim(),
        config.hostname
    );
    // A taken one is a pod like others, also for the server after that.
    server.stop().await;
    server.resume().await;
    assert_eq!(
        server.exec(&container, "hostname").await.trim(),
        config.hostname
    );
    let late = server
        .launch(&id, &config, shell("late", "exec sleep 1000"))
        .await;
    assert_eq!(server.exec(&late, "hostname").await.trim(), config.hostname);
    // Killed in the middle of taking: the record says that it is not whole.
    let left = waiting(&mut server, "runsc", 2).await;
    let half = left.first().unwrap().clone();
    server.kill().await;
    let path = server
        .path()
        .join("d/cri/sandboxes")
        .join(&half)
        .join("record.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"warm\":\"Waiting\""), "{text}");
    std::fs::write(
        &path,
        text.replace("\"warm\":\"Waiting\"", "\"warm\":\"Taken\""),
    )
    .unwrap();
    server.resume().await;
    let next = waiting(&mut server, "runsc", 2).await;
    assert!(!next.contains(&half) && !pods(&mut server).await.contains(&half));
    // Killed in the middle of booting.
    let mut random = rand::random::<u64>() % 150;
    for _ in 0..4 {
        let id = server
            .run(&pod(&server, &format!("k{random}")), "runsc")
            .await;
        server.stop_pod(&id).await;
        tokio::time::sleep(std::time::Duration::from_millis(200 + random % 250)).await;
        server.kill().await;
        server.resume().await;
        random += 61;
    }
    waiting(&mut server, "runsc", 2).await;
    end(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_or_loses_its_shim_is_replaced_and_leaves_nothing() {
    let mut server = Server::start_with(table(WAITING)).await;
    for handler in ["runsc", "runc"] {
        let count = if handler == "runsc" { 2 } else { 1 };
        let waited = waiting(&mut server, handler, count).await;
        let victim = waited.first().unwrap();
        let text = std::fs::read_to_string(server.bundle(victim).join("shim.pid")).unwrap();
        kill(text.trim().parse().unwrap());
        let next = replaced(&mut server, handler, count, victim).await;
        assert!(!server.bundle(victim).exists());
        if handler == "runsc" {
            let victim = next.first().unwrap();
            let text = std::fs::read_to_string(server.bundle(victim).join("init.pid")).unwrap();
            kill(text.trim().parse().unwrap());
            replaced(&mut server, handler, count, victim).await;
        }
    }
    end(server).await;
}

fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

async fn replaced(
    server: &mut Server,
    handler: &str,
    count: usize,
    victim: &str,
) -> BTreeSet<String> {
    until("another one", async || {
        let ids = waiting(server, handler, count).await;
        if ids.contains(victim) {
            Err(format!("{victim} still waits"))
        } else {
            Ok(ids)
        }
    })
    .await
}
