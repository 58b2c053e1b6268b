//! Probes and hooks go to the pod itself: `host` would let the kubelet, which sends them, reach anything. Since v1.34.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{HTTPGetAction, PodSpec, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::containers::{self, View};
use super::{Violation, text};

fn hosts<'p>(
    http: Option<&'p HTTPGetAction>,
    tcp: Option<&'p TCPSocketAction>,
) -> impl Iterator<Item = &'p str> {
    let of_http = http.and_then(|h| h.host.as_deref());
    let of_tcp = tcp.and_then(|t| t.host.as_deref());
    of_http.into_iter().chain(of_tcp).filter(|h| !h.is_empty())
}

fn of_container<'p>(c: &View<'p>) -> Vec<&'p str> {
    let probes = c.probes.into_iter().flatten();
    let of_probes = probes.flat_map(|p| hosts(p.http_get.as_ref(), p.tcp_socket.as_ref()));
    let hooks = c
        .lifecycle
        .into_iter()
        .flat_map(|l| [l.post_start.as_ref(), l.pre_stop.as_ref()])
        .flatten();
    let of_hooks = hooks.flat_map(|h| hosts(h.http_get.as_ref(), h.tcp_socket.as_ref()));
    of_probes.chain(of_hooks).collect()
}

pub(super) fn check(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let (mut bad, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
    for c in containers::all(spec) {
        let own = of_container(&c);
        if !own.is_empty() {
            bad.insert(c.name);
            forbidden.extend(own);
        }
    }
    let bad: Vec<&str> = bad.into_iter().collect();
    (!bad.is_empty()).then(|| Violation {
        reason: "probe or lifecycle host",
        detail: format!(
            "{} {} {} {}",
            text::containers(&bad),
            text::plural(bad.len(), "uses", "use"),
            text::plural(
                forbidden.len(),
                "probe or lifecycle host",
                "probe or lifecycle hosts"
            ),
            text::quoted(forbidden)
        ),
    })
}
