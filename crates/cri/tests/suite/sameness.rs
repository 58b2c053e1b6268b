//! The runtime inside berth makes of a container what runc makes of it, for its first process and for execs.

use berth_cri_api::v1::*;

use crate::client::{pod, security, shell, until};
use crate::server::Server;

/// All that a process can easily see of its confinement.
const LOOK: &str = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status; \
    cat /proc/self/oom_score_adj; umask; pwd; env | grep -v -E '^(HOSTNAME|SHLVL|_)='; \
    grep -v 'Max pending' /proc/self/limits; cat /proc/self/cgroup; \
    ls -l /dev | grep -v null | while read mode links user group size month day time rest; do \
    case $mode in [bc]*) rest=${rest#* };; esac; echo $mode $user $group $rest; done; \
    while read id parent dev root point options rest; do echo $point $options; done < /proc/self/mountinfo; \
    ls /proc/self/fd; echo x 2>&1 > /proc/sys/kernel/hostname && echo changed; cat /proc/kcore 2>&1 | head -c 9";

/// What the first process writes when it has looked.
const END: &str = "that is all";

/// What makes an ordinary container one of a kind.
type Change = fn(&mut ContainerConfig);

/// Containers that differ in what the runtime has to do.
fn kinds() -> Vec<(&'static str, Change)> {
    vec![
        ("plain", |_| ()),
        ("filtered", |container| {
            security(container).seccomp = Some(SecurityProfile {
                profile_type: security_profile::ProfileType::RuntimeDefault.into(),
                ..SecurityProfile::default()
            });
        }),
        ("user", |container| {
            let security = security(container);
            security.run_as_user = Some(Int64Value { value: 33 });
            security.run_as_group = Some(Int64Value { value: 34 });
            security.supplemental_groups = vec![77];
            security.no_new_privs = true;
            security.readonly_rootfs = true;
            security.seccomp = Some(SecurityProfile::default());
            security.capabilities = Some(Capability {
                add_ambient_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
                drop_capabilities: vec!["MKNOD".to_owned()],
                ..Capability::default()
            });
        }),
        ("limited", |container| {
            container.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
                cpu_shares: 300,
                cpu_quota: 20_000,
                cpu_period: 100_000,
                memory_limit_in_bytes: 64 << 20,
                oom_score_adj: 900,
                ..LinuxContainerResources::default()
            });
        }),
        ("privileged", |container| {
            security(container).privileged = true
        }),
    ]
}

async fn looks(handler: &str) -> Vec<(String, String)> {
    let mut server = Server::start().await;
    let mut config = pod(&server, "same");
    let linux = config.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().privileged = true;
    let id = server.run(&config, handler).await;
    let mut out = Vec::new();
    for (name, change) in kinds() {
        let mut container = shell(name, &format!("{LOOK}; echo; echo {END}; exec sleep 1000"));
        change(&mut container);
        let container = server.launch(&id, &config, container).await;
        let exec = server.exec(&container, LOOK).await;
        // It may be slower than the command that was started after it.
        until("the first process to have looked", async || {
            let seen = server.log(&config, name);
            seen.contains(END).then_some(()).ok_or(seen)
        })
        .await;
        server.stop_container(&container, 0).await;
        let first = server.log(&config, name);
        // Cgroups have the container's id in their names.
        out.push((format!("{name}: exec"), exec.replace(&container, "ID")));
        out.push((format!("{name}: first"), first.replace(&container, "ID")));
    }
    server.finish().await;
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_inside_does_as_runc_does() {
    let (runc, inside) = (looks("runc").await, looks("berth").await);
    for ((what, runc), (_, inside)) in runc.iter().zip(&inside) {
        assert!(
            runc.contains("Seccomp:") && runc.contains("/sys/fs/cgroup"),
            "{what}: {runc}"
        );
        let missing: Vec<&str> = runc.lines().filter(|line| !inside.contains(line)).collect();
        let more: Vec<&str> = inside.lines().filter(|line| !runc.contains(line)).collect();
        assert!(
            missing.is_empty() && more.is_empty(),
            "{what}: only under runc {missing:#?}, only under berth {more:#?}"
        );
    }
}
