//! What depends on the pod is given to a sandbox that waited.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use berth_cri_api::v1::*;

use super::{WAITING, cgroups, end, pods, report, table, waiting};
use crate::client::{pod, shell, until};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_a_sandbox_that_waited_and_sees_its_own_settings() {
    let mut server = Server::start_with(table(WAITING)).await;
    let parent = format!("berth-warm-{}", std::process::id());
    for handler in ["runsc", "runc"] {
        let count = if handler == "runsc" { 2 } else { 1 };
        let waited = waiting(&mut server, handler, count).await;
        // Nobody but the verbose Status knows of them.
        let listed = pods(&mut server).await;
        assert!(listed.is_disjoint(&waited), "{listed:?}");
        for id in &waited {
            let request = PodSandboxStatusRequest {
                pod_sandbox_id: id.clone(),
                verbose: false,
            };
            let error = server.client.pod_sandbox_status(request).await.unwrap_err();
            assert_eq!(error.code(), tonic::Code::NotFound);
            let config = pod(&server, "nobody");
            let error = server.try_create(id, &config, shell("c", "true")).await;
            assert_eq!(error.unwrap_err().code(), tonic::Code::NotFound);
            // Gone already, as far as a client can know: and it is not stopped.
            server.stop_pod(id).await;
        }
        let mut config = pod(&server, &format!("taker-{handler}"));
        config.hostname = "of-the-pod".to_owned();
        config.labels = [("colour".to_owned(), "blue".to_owned())].into();
        config.annotations = [("note".to_owned(), "mine".to_owned())].into();
        config.dns_config = Some(DnsConfig {
            servers: vec!["10.7.7.7".to_owned()],
            searches: vec!["pods.example".to_owned()],
            options: Vec::new(),
        });
        let linux = config.linux.as_mut().unwrap();
        linux.cgroup_parent = format!("/{parent}");
        linux.resources = Some(LinuxContainerResources {
            cpu_quota: 150_000,
            cpu_period: 100_000,
            ..LinuxContainerResources::default()
        });
        let before = std::time::SystemTime::now();
        let id = server.run(&config, handler).await;
        assert!(
            waited.contains(&id),
            "{handler}: {}",
            report(&mut server, handler).await
        );
        let status = server.sandbox(&id).await;
        assert_eq!(status.labels, config.labels);
        assert_eq!(status.annotations, config.annotations);
        assert_eq!(status.metadata, config.metadata);
        assert_eq!(status.runtime_handler, handler);
        let since = before.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(u128::try_from(status.created_at).unwrap() >= since.as_nanos());
        let address = status.network.unwrap().ip;
        assert!(!address.is_empty());
        let container = server
            .launch(&id, &config, shell("c", "exec sleep 1000"))
            .await;
        let seen = server
            .exec(
                &container,
                "hostname; cat /etc/hostname /etc/resolv.conf; uname -n",
            )
            .await;
        assert_eq!(
            seen.replace("of-the-pod", "X"),
            "X\nX\nsearch pods.example\nnameserver 10.7.7.7\nX\n"
        );
        if handler == "runsc" {
            in_its_cgroup(&mut server, &parent, &id).await;
        }
        // Two of one name there are not, and the one that waited for it waits on.
        let error = server.try_run(&config, handler).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::AlreadyExists);
        let left = waiting(&mut server, handler, count).await;
        assert!(!left.contains(&id));
        let counts = report(&mut server, handler).await;
        assert_eq!(counts["taken"], 1, "{counts}");
    }
    end(server).await;
    assert_eq!(cgroups(&parent), BTreeSet::new());
    for top in ["berth-waiting", parent.as_str()] {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(top));
        }
    }
}

/// All of a gVisor pod is in the pod's cgroup, with its limits, and nothing where it waited.
async fn in_its_cgroup(server: &mut Server, parent: &str, id: &str) {
    until("the pod's cgroup", async || {
        let of = |parent: &str| -> BTreeMap<PathBuf, usize> {
            let cgroups = cgroups(parent);
            let of_pod = cgroups.into_iter().filter(|path| path.ends_with(id));
            let count = |path: &Path| {
                let text = std::fs::read_to_string(path.join("cgroup.procs")).unwrap();
                text.lines().count()
            };
            of_pod.map(|path| (path.clone(), count(&path))).collect()
        };
        let (here, there) = (of(parent), of("berth-waiting"));
        let fine = !here.is_empty()
            && here.values().all(|count| *count > 2)
            && there.len() == here.len()
            && there.values().all(|count| *count == 0);
        if fine {
            Ok(())
        } else {
            Err(format!("{here:?} {there:?}"))
        }
    })
    .await;
    let limited = cgroups(parent)
        .iter()
        .filter(|path| path.ends_with(id))
        .any(|path| {
            let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
            read("cpu.cfs_quota_us").trim() == "150000" || read("cpu.max").trim() == "150000 100000"
        });
    assert!(limited);
    let _ = server;
}

#[tokio::test(flavor = "multi_thread")]
async fn sysctls_and_ports_are_given_later() {
    let mut server = Server::start_with(table(WAITING)).await;
    for handler in ["runsc", "runc"] {
        let count = if handler == "runsc" { 2 } else { 1 };
        let waited = waiting(&mut server, handler, count).await;
        let mut config = pod(&server, &format!("later-{handler}"));
        let sysctl = ("kernel.shmmni".to_owned(), "77".to_owned());
        if handler == "runc" {
            config.linux.as_mut().unwrap().sysctls = [sysctl].into();
        }
        let port = 20_000 + i32::try_from(std::process::id() % 20_000).unwrap();
        config.port_mappings = vec![PortMapping {
            protocol: Protocol::Tcp.into(),
            container_port: 8080,
            host_port: port,
            host_ip: String::new(),
        }];
        let id = server.run(&config, handler).await;
        assert!(
            waited.contains(&id),
            "{handler}: {}",
            report(&mut server, handler).await
        );
        let script = "while true; do echo hello-$(hostname) | nc -l -p 8080; done";
        let container = server.launch(&id, &config, shell("c", script)).await;
        if handler == "runc" {
            let seen = server.exec(&container, "cat /proc/sys/kernel/shmmni").await;
            assert_eq!(seen, "77\n");
        }
        let address = server.sandbox(&id).await.network.unwrap().ip;
        let gateway = address.rsplit_once('.').unwrap().0.to_owned() + ".1";
        let wanted = format!("hello-{}", config.hostname);
        until("an answer at the host's port", async || {
            use std::io::Read;
            let mut text = String::new();
            match std::net::TcpStream::connect(format!("{gateway}:{port}")) {
                Ok(mut stream) => {
                    let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(2)));
                    let _ = stream.read_to_string(&mut text);
                    if text.trim() == wanted {
                        Ok(())
                    } else {
                        Err(text)
                    }
                }
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
        server.stop_pod(&id).await;
        assert!(std::net::TcpStream::connect(format!("{gateway}:{port}")).is_err());
    }
    end(server).await;
}
