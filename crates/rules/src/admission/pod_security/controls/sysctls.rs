//! Only sysctls that stay inside the pod.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, text};

const SINCE_0: [&str; 5] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
];
const SINCE_27: [&str; 1] = ["net.ipv4.ip_local_reserved_ports"];
const SINCE_29: [&str; 4] = [
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];
const SINCE_32: [&str; 2] = ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"];

pub(super) fn v1_0(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    check(spec, &[&SINCE_0])
}

pub(super) fn v1_27(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    check(spec, &[&SINCE_0, &SINCE_27])
}

pub(super) fn v1_29(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    check(spec, &[&SINCE_0, &SINCE_27, &SINCE_29])
}

pub(super) fn v1_32(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    check(spec, &[&SINCE_0, &SINCE_27, &SINCE_29, &SINCE_32])
}

fn check(spec: &PodSpec, allowed: &[&[&str]]) -> Option<Violation> {
    let forbidden: Vec<&str> = spec
        .security_context
        .iter()
        .flat_map(|s| s.sysctls.iter().flatten())
        .map(|s| s.name.as_str())
        .filter(|name| !allowed.iter().any(|list| list.contains(name)))
        .collect();
    (!forbidden.is_empty()).then(|| Violation {
        reason: "forbidden sysctls",
        detail: text::plain(forbidden),
    })
}
