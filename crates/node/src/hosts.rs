//! The pod's /etc/hosts: its own names, and the aliases of its spec.

use std::fmt::Write;

use k8s_openapi::api::core::v1::Pod;

use crate::agent::Agent;
use crate::sandbox_config::hostname;

const HEAD: &str = "# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
";
const HOST_HEAD: &str = "# Kubernetes-managed hosts file (host network).\n";

/// The whole file.
pub(crate) fn text(agent: &Agent, pod: &Pod, pod_ips: &[String]) -> String {
    let spec = pod.spec.as_ref();
    let mut out = if spec.and_then(|s| s.host_network) == Some(true) {
        let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        format!("{HOST_HEAD}{host}")
    } else {
        let mut out = HEAD.to_owned();
        let (name, domain) = hostname(agent, pod);
        for ip in pod_ips {
            let _ = if domain.is_empty() || name.contains('.') {
                writeln!(out, "{ip}\t{name}")
            } else {
                writeln!(out, "{ip}\t{name}.{domain}\t{name}")
            };
        }
        out
    };
    let aliases = spec
        .and_then(|s| s.host_aliases.as_deref())
        .unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default();
            let _ = writeln!(out, "{}\t{}", alias.ip, names.join("\t"));
        }
    }
    out
}
