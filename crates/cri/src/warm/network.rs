//! Which networks a sandbox can join before anybody knows whose it is.

use serde_json::Value;

use crate::cni::Network;

/// Plugins that know a pod by its id and network namespace alone.
const PLUGINS: [&str; 9] = [
    "bridge",
    "ptp",
    "macvlan",
    "ipvlan",
    "loopback",
    "portmap",
    "bandwidth",
    "firewall",
    "tuning",
];
/// Plugins for addresses of which the same holds. (`dhcp` keeps a lease by the pod's name.)
const ADDRESSES: [&str; 2] = ["host-local", "static"];
/// Capabilities whose values are added later, or make a pod start cold.
const CAPABILITIES: [&str; 2] = ["portMappings", "bandwidth"];

/// Why sandboxes can't wait in a network; `None` where they can.
pub(super) fn refusal(network: &Network) -> Option<String> {
    network
        .plugins
        .iter()
        .find_map(of_plugin)
        .map(|reason| format!("the network {:?} {reason}", network.name))
}

fn of_plugin(plugin: &Value) -> Option<String> {
    let kind = plugin.get("type").and_then(Value::as_str).unwrap_or("");
    if !PLUGINS.contains(&kind) {
        return Some(format!(
            "has the plugin {kind:?}, which may decide by the pod's name or annotations"
        ));
    }
    if let Some(ipam) = plugin.get("ipam") {
        let ipam = ipam.get("type").and_then(Value::as_str);
        if let Some(ipam) = ipam.filter(|ipam| !ADDRESSES.contains(ipam)) {
            return Some(format!(
                "has its addresses from {ipam:?}, which may decide by the pod's name or annotations"
            ));
        }
    }
    let capabilities = plugin.get("capabilities").and_then(Value::as_object)?;
    capabilities
        .iter()
        .find(|(name, on)| **on == Value::Bool(true) && !CAPABILITIES.contains(&name.as_str()))
        .map(|(name, _)| {
            format!(
                "has the plugin {kind:?} with the capability {name:?}, which depends on the pod"
            )
        })
}

/// Whether ports can be mapped for a pod that has joined the network.
pub(super) fn maps_ports(network: &Network) -> bool {
    network.plugins.iter().any(|plugin| {
        plugin.get("type").and_then(Value::as_str) == Some("portmap")
            && plugin.pointer("/capabilities/portMappings") == Some(&Value::Bool(true))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn network(plugins: Value) -> Network {
        Network {
            name: "n".to_owned(),
            cni_version: "1.0.0".to_owned(),
            plugins: plugins.as_array().unwrap().clone(),
            file: "/x".into(),
        }
    }

    #[test]
    fn networks_that_look_at_the_pod_are_refused() {
        let fine = network(json!([
            {"type": "bridge", "ipam": {"type": "host-local"}},
            {"type": "portmap", "capabilities": {"portMappings": true, "dns": false}},
            {"type": "firewall"},
        ]));
        assert_eq!(refusal(&fine), None);
        assert!(maps_ports(&fine));
        for (plugins, word) in [
            (json!([{"type": "calico"}]), "\"calico\""),
            (json!([{"type": "multus-shim"}]), "\"multus-shim\""),
            (
                json!([{"type": "bridge", "ipam": {"type": "whereabouts"}}]),
                "\"whereabouts\"",
            ),
            (
                json!([{"type": "bridge", "ipam": {"type": "dhcp"}}]),
                "\"dhcp\"",
            ),
            (
                json!([{"type": "bridge", "capabilities": {"dns": true}}]),
                "\"dns\"",
            ),
            (
                json!([{"type": "tuning", "capabilities": {"io.kubernetes.cri.pod-annotations": true}}]),
                "pod-annotations",
            ),
        ] {
            let network = network(plugins);
            let reason = refusal(&network).unwrap();
            assert!(
                reason.contains(word) && reason.contains("\"n\""),
                "{reason}"
            );
            assert!(!maps_ports(&network));
        }
    }
}
