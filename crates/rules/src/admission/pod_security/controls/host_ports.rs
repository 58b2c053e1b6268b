//! No ports of the host.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, text};

pub(super) fn check(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let (mut bad, mut ports) = (Vec::new(), BTreeSet::new());
    for c in containers::all(spec) {
        let mut own = c
            .ports
            .iter()
            .filter_map(|p| p.host_port)
            .filter(|p| *p != 0)
            .peekable();
        if own.peek().is_some() {
            bad.push(c.name);
        }
        // As texts, since that is the order of the stock plugin's messages.
        ports.extend(own.map(|p| p.to_string()));
    }
    (!bad.is_empty()).then(|| Violation {
        reason: "hostPort",
        detail: format!(
            "{} {} {} {}",
            text::containers(&bad),
            text::plural(bad.len(), "uses", "use"),
            text::plural(ports.len(), "hostPort", "hostPorts"),
            text::plain(ports.iter().map(String::as_str))
        ),
    })
}
