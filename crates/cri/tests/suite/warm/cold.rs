//! Pods that start cold, and why.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use berth_cri::HandlerSource;
use berth_cri_api::v1::*;

use super::{WAITING, end, report, table, waiting};
use crate::client::{options, pod, shell, until};
use crate::server::Server;

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
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        assert!(text.contains(word), "{text}");
    }
}
