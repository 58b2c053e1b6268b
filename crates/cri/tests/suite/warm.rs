//! Sandboxes that wait for their pod.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use berth_cri::{Config, HandlerSource};
use berth_cri_api::v1::*;
use serde_json::Value;

use crate::client::{options, pod, shell, until};
use crate::server::Server;

const WAITING: &str =
    "default_handler = \"runc\"\n[handlers.runc]\nwarm = 1\n[handlers.runsc]\nwarm = 2\n";
const NONE: &str = "default_handler = \"runc\"\n[handlers.runc]\n[handlers.runsc]\n";

fn table(text: &'static str) -> impl FnOnce(&mut Config, &Path) {
    move |config, dir| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        config.metrics_addr = Some(free.local_addr().unwrap());
        let path = dir.join("config.toml");
        std::fs::write(&path, text).unwrap();
        config.handlers = HandlerSource::Berth(path);
    }
}

/// The sandboxes that waited, by their server's directory.
static SEEN: Mutex<BTreeSet<(PathBuf, String)>> = Mutex::new(BTreeSet::new());

/// What the verbose Status says of a handler's waiting sandboxes.
async fn report(server: &mut Server, handler: &str) -> Value {
    let request = StatusRequest { verbose: true };
    let status = server.client.status(request).await.unwrap().into_inner();
    let text = status.info.get("waitingSandboxes").cloned();
    let report: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
    report[handler].clone()
}

/// The ids of those that wait, once there are so many and none is on its way.
async fn waiting(server: &mut Server, handler: &str, count: usize) -> BTreeSet<String> {
    until(&format!("{count} waiting {handler}"), async || {
        let report = report(server, handler).await;
        let all = report["sandboxes"].as_array().cloned().unwrap_or_default();
        let ids: BTreeSet<String> = all
            .iter()
            .filter(|sandbox| sandbox["state"] == "waiting")
            .map(|sandbox| sandbox["id"].as_str().unwrap().to_owned())
            .collect();
        let seen = ids.iter().map(|id| (server.path().to_owned(), id.clone()));
        SEEN.lock().unwrap().extend(seen);
        if ids.len() == count && all.len() == count {
            Ok(ids)
        } else {
            Err(report.to_string())
        }
    })
    .await
}

/// Has none wait any more, so that the server can be looked at for leftovers.
async fn end(mut server: Server) {
    if !server.is_running() {
        server.resume().await;
    }
    std::fs::write(server.path().join("config.toml"), NONE).unwrap();
    for handler in ["runc", "runsc"] {
        waiting(&mut server, handler, 0).await;
    }
    let dir = server.path().to_owned();
    server.finish().await;
    let seen = SEEN.lock().unwrap();
    let ours = |path: &PathBuf| {
        let id = path.file_name().unwrap().to_string_lossy().into_owned();
        seen.contains(&(dir.clone(), id))
    };
    let left: Vec<PathBuf> = cgroups("berth-waiting").into_iter().filter(ours).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

/// The cgroups below a parent, in all hierarchies.
fn cgroups(parent: &str) -> BTreeSet<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    let tops = hierarchies
        .flatten()
        .map(|entry| entry.path().join(parent))
        .chain([Path::new("/sys/fs/cgroup").join(parent)]);
    tops.filter_map(|top| std::fs::read_dir(top).ok())
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

async fn pods(server: &mut Server) -> BTreeSet<String> {
    let request = ListPodSandboxRequest::default();
    let listed = server.client.list_pod_sandbox(request).await.unwrap();
    let items = listed.into_inner().items.into_iter();
    items.map(|pod| pod.id).collect()
}

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

/// What a path of the metrics server says.
fn scrape(server: &Server, request: &str) -> String {
    use std::io::{Read, Write};
    let address = server.metrics_address();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_waits_and_what_it_costs() {
    let mut server = Server::start_with(table(WAITING)).await;
    waiting(&mut server, "runsc", 2).await;
    waiting(&mut server, "runc", 1).await;
    let config = pod(&server, "one");
    let id = server.run(&config, "runsc").await;
    server.stop_pod(&id).await;
    waiting(&mut server, "runsc", 2).await;
    let text = scrape(&server, "GET /metrics");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for line in [
        "berth_cri_warm_sandboxes{handler=\"runsc\",state=\"waiting\"} 2\n",
        "berth_cri_warm_sandboxes{handler=\"runsc\",state=\"wanted\"} 2\n",
        "berth_cri_warm_sandboxes{handler=\"runc\",state=\"waiting\"} 1\n",
        "berth_cri_warm_sandboxes{handler=\"runc\",state=\"making\"} 0\n",
        "berth_cri_warm_taken_total{handler=\"runsc\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let memory = |handler: &str| -> u64 {
        let start = format!("berth_cri_warm_memory_bytes{{handler=\"{handler}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap().parse().unwrap()
    };
    // Each gVisor has some 20 MB, each shim some 3.
    assert!((10 << 20..400 << 20).contains(&memory("runsc")), "{text}");
    assert!((1 << 20..40 << 20).contains(&memory("runc")), "{text}");
    assert!(scrape(&server, "GET /").starts_with("HTTP/1.1 404"));
    assert!(scrape(&server, "POST /metrics").starts_with("HTTP/1.1 405"));
    end(server).await;
}

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
async fn what_cannot_be_given_later_starts_cold() {
    let mut server = Server::start_with(table(WAITING)).await;
    let mut expected: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    type Change = fn(&mut PodSandboxConfig);
    fn security(config: &mut PodSandboxConfig) -> &mut LinuxSandboxSecurityContext {
        config
            .linux
            .as_mut()
            .unwrap()
            .security_context
            .as_mut()
            .unwrap()
    }
    let cases: [(&str, &str, Change); 8] = [
        ("runsc", "host_namespace", |config| {
            security(config).namespace_options.as_mut().unwrap().network =
                NamespaceMode::Node.into();
        }),
        ("runc", "host_namespace", |config| {
            security(config).namespace_options.as_mut().unwrap().ipc = NamespaceMode::Node.into();
        }),
        ("runc", "host_namespace", |config| {
            security(config).namespace_options = Some(options(NamespaceMode::Node));
        }),
        ("runc", "shared_pids", |config| {
            security(config).namespace_options = Some(options(NamespaceMode::Pod));
        }),
        ("runsc", "bandwidth", |config| {
            let limit = (
                "kubernetes.io/ingress-bandwidth".to_owned(),
                "1G".to_owned(),
            );
            config.annotations = [limit].into();
        }),
        ("runc", "selinux", |config| {
            security(config).selinux_options = Some(SeLinuxOption::default());
        }),
        ("runc", "user_namespace", |config| {
            let line = IdMapping {
                host_id: 700_000,
                container_id: 0,
                length: 65_536,
            };
            security(config)
                .namespace_options
                .as_mut()
                .unwrap()
                .userns_options = Some(UserNamespace {
                mode: NamespaceMode::Pod.into(),
                uids: vec![line],
                gids: vec![line],
            });
        }),
        ("runsc", "limits", |config| {
            config.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
                memory_limit_in_bytes: 300 << 20,
                ..LinuxContainerResources::default()
            });
        }),
    ];
    for (number, (handler, reason, change)) in cases.into_iter().enumerate() {
        let waited = waiting(&mut server, handler, if handler == "runsc" { 2 } else { 1 }).await;
        let mut config = pod(&server, &format!("cold{number}"));
        change(&mut config);
        let id = match server.try_run(&config, handler).await {
            Ok(id) => id,
            // Where the machine can't have it cold either, it was not warm at least.
            Err(error) => {
                assert!(
                    ["user_namespace", "bandwidth"].contains(&reason),
                    "{reason}: {error}"
                );
                *expected.entry((handler, reason)).or_default() += 1;
                continue;
            }
        };
        assert!(!waited.contains(&id), "{handler} {reason}");
        *expected.entry((handler, reason)).or_default() += 1;
        let counts = report(&mut server, handler).await;
        assert_eq!(
            counts["cold"][reason],
            expected[&(handler, reason)],
            "{reason}: {counts}"
        );
        server.stop_pod(&id).await;
    }
    // The next one of that size finds one that shows it its memory.
    let config = {
        let mut config = pod(&server, "sized");
        config.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: 300 << 20,
            ..LinuxContainerResources::default()
        });
        config
    };
    until("one of that size", async || {
        let report = report(&mut server, "runsc").await;
        let all = report["sandboxes"].as_array().unwrap();
        let sized = all
            .iter()
            .any(|one| one["memoryLimitBytes"] == 300 << 20 && one["state"] == "waiting");
        if sized {
            Ok(())
        } else {
            Err(report.to_string())
        }
    })
    .await;
    let taken = report(&mut server, "runsc").await["taken"]
        .as_u64()
        .unwrap();
    let id = server.run(&config, "runsc").await;
    assert_eq!(report(&mut server, "runsc").await["taken"], taken + 1);
    let container = server
        .launch(&id, &config, shell("c", "exec sleep 1000"))
        .await;
    let memory = server.exec(&container, "grep MemTotal /proc/meminfo").await;
    assert!(memory.contains(" 307200 kB"), "{memory}");
    end(server).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn one_that_can_not_be_made_is_told_and_pods_start_cold() {
    let text = "default_handler = \"runc\"\n[handlers.runc]\nwarm = 1\n[handlers.broken]\nbinary = \"DIR/machine/runc\"\nwarm = 1\n\
                cni_conf_dir = \"DIR/net\"\n";
    // No address is left for anybody.
    let network = r#"{"cniVersion": "1.0.0", "name": "full", "plugins": [{"type": "bridge", "bridge": "bt-full",
        "ipam": {"type": "host-local", "dataDir": "DIR/ipam", "ranges": [[{"subnet": "10.251.251.0/32"}]]}}]}"#;
    let mut server = Server::start_with(|config, dir| {
        let machine = dir.join("machine");
        std::fs::create_dir(&machine).unwrap();
        let script = "#!/bin/sh\nexec runc \"$@\"\n";
        std::fs::write(machine.join("runc"), script).unwrap();
        std::fs::set_permissions(machine.join("runc"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        let path = dir.join("config.toml");
        std::fs::write(&path, text.replace("DIR", &dir.display().to_string())).unwrap();
        config.handlers = HandlerSource::Berth(path);
        std::fs::create_dir(dir.join("net")).unwrap();
        let network = network.replace("DIR", &dir.display().to_string());
        std::fs::write(dir.join("net/1.conflist"), network).unwrap();
    })
    .await;
    until("why", async || {
        let report = report(&mut server, "broken").await;
        match report["lastError"].as_str() {
            Some(reason) if reason.contains("host-local") || reason.contains("bridge") => Ok(()),
            _ => Err(report.to_string()),
        }
    })
    .await;
    // Others wait all the same, and a pod of this one is told as without.
    waiting(&mut server, "runc", 1).await;
    let error = server.try_run(&pod(&server, "no"), "broken").await;
    let error = error.unwrap_err();
    assert!(error.message().contains("full"), "{error}");
    end(server).await;
    // The plugin has made it before it found no address.
    let bridge = ["link", "del", "bt-full"];
    let _ = std::process::Command::new("ip").args(bridge).output();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_is_sensible_is_refused() {
    for (warm, word) in [
        ("33", "between 0 and 32"),
        ("-1", "between 0 and 32"),
        ("\"two\"", "warm"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, format!("[handlers.runc]\nwarm = {warm}\n")).unwrap();
        let error = HandlerSource::Berth(path).load(&[]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(word), "{text}");
    }
}

/// The shortest times of several pods, in milliseconds: RunPodSandbox, and all until a container runs.
async fn times(server: &mut Server, cold: bool) -> (f64, f64) {
    let mut best = (f64::MAX, f64::MAX);
    for number in 0..6 {
        waiting(server, "runsc", 2).await;
        let mut config = pod(server, &format!("timed{cold}{number}"));
        if cold {
            // As little as can be that a waiting one can't be given.
            let limit = (
                "kubernetes.io/ingress-bandwidth".to_owned(),
                "none".to_owned(),
            );
            config.annotations = [limit].into();
        }
        let began = std::time::Instant::now();
        let id = server.run(&config, "runsc").await;
        let run = began.elapsed().as_secs_f64() * 1e3;
        server
            .launch(&id, &config, shell("c", "exec sleep 1000"))
            .await;
        let whole = began.elapsed().as_secs_f64() * 1e3;
        best = (best.0.min(run), best.1.min(whole));
        server.stop_pod(&id).await;
    }
    best
}

/// Ratios of the best of several, which a busy machine changes little.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_one_spares_most_of_the_time() {
    let mut server = Server::start_with(table(WAITING)).await;
    let warm = times(&mut server, false).await;
    let cold = times(&mut server, true).await;
    let counts = report(&mut server, "runsc").await;
    assert_eq!(
        (&counts["taken"], &counts["cold"]["bandwidth"]),
        (&6.into(), &6.into())
    );
    eprintln!(
        "RunPodSandbox {:.1} ms, cold {:.1}; to running {:.1} ms, cold {:.1}",
        warm.0, cold.0, warm.1, cold.1
    );
    assert!(warm.0 * 4.0 < cold.0, "{warm:?} {cold:?}");
    assert!(warm.1 < cold.1 * 0.75, "{warm:?} {cold:?}");
    end(server).await;
}
