//! Kernel settings that pods may ask for: the stock kubelet's safe ones, and others that the node's administrator allows.
//!
//! The list is the kubelet's `safe_sysctls.go`. Only settings of a namespace that the pod has for itself can be allowed.

use berth_lifecycle::Problem;
use k8s_openapi::api::core::v1::Pod;

const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace that a setting belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
    /// None: it is the machine's.
    Machine,
}

fn namespace(name: &str) -> Namespace {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    if starts(&["net."]) {
        Namespace::Net
    } else if starts(&["kernel.shm", "kernel.msg", "fs.mqueue."]) || name == "kernel.sem" {
        Namespace::Ipc
    } else {
        Namespace::Machine
    }
}

/// Dots between the parts, as the list has them: `a/b.c` is the kernel's other way to write `a.b/c`.
fn normal(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes().get(at) == Some(&b'/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        Some(_) | None => name.to_owned(),
    }
}

/// Why the pod's settings are refused. `allowed` are names, or beginnings of names with `*` after them.
pub(crate) fn forbidden(pod: &Pod, allowed: &[String]) -> Option<Problem> {
    let spec = pod.spec.as_ref()?;
    let settings = spec.security_context.as_ref()?.sysctls.as_ref()?;
    let why = |name: &str| {
        let name = normal(name);
        let given = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *pattern,
        };
        let refused = match namespace(&name) {
            Namespace::Net if spec.host_network == Some(true) => {
                Some("not allowed with host net enabled")
            }
            Namespace::Ipc if spec.host_ipc == Some(true) => {
                Some("not allowed with host ipc enabled")
            }
            Namespace::Net | Namespace::Ipc => None,
            Namespace::Machine => Some("not allowlisted"),
        };
        let unsafe_one = !SAFE.contains(&name.as_str()) && !allowed.iter().any(given);
        refused.or(unsafe_one.then_some("not allowlisted"))
    };
    settings.iter().find_map(|s| {
        let why = why(&s.name)?;
        let message = format!("forbidden sysctl: {:?} {why}", s.name);
        Some(Problem::new("SysctlForbidden", message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_testkit::PodBuilder;
    use k8s_openapi::api::core::v1::Sysctl;

    fn said(name: &str, allowed: &[&str], host: bool) -> Option<String> {
        let mut pod = PodBuilder::new("p").build();
        let spec = pod.spec.as_mut().unwrap();
        spec.host_network = Some(host);
        spec.security_context.get_or_insert_default().sysctls = Some(vec![Sysctl {
            name: name.to_owned(),
            value: "1".to_owned(),
        }]);
        let allowed: Vec<String> = allowed.iter().map(|a| (*a).to_owned()).collect();
        forbidden(&pod, &allowed).map(|p| p.message)
    }

    #[test]
    fn safe_ones_are_given_and_others_when_allowed() {
        assert_eq!(said("net.ipv4.tcp_syncookies", &[], false), None);
        assert_eq!(said("net/ipv4/tcp_syncookies", &[], false), None);
        assert_eq!(
            said("net.ipv4.tcp_syncookies", &[], true).unwrap(),
            "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled"
        );
        assert_eq!(
            said("kernel.msgmax", &[], false).unwrap(),
            "forbidden sysctl: \"kernel.msgmax\" not allowlisted"
        );
        assert_eq!(said("kernel.msgmax", &["kernel.msg*"], false), None);
        assert_eq!(said("kernel.sem", &["kernel.sem"], false), None);
        // What is the machine's nobody can have.
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "kernel/core_pattern",
        ] {
            assert!(said(name, &["*"], false).is_some(), "{name}");
        }
    }
}
