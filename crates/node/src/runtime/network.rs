//! On which bridge the runtime puts pods, as its verbose Status says: a `config` entry with a network's CNI configuration, or
//! containerd's `cniconfig`.

use std::collections::HashMap;

use serde_json::Value;

/// What CNI's bridge plugin takes where its configuration names none.
const USUAL: &str = "cni0";
/// How an administrator says it.
const FLAG: &str = "--network-policy-bridge";

/// The bridge, or why there is none; nothing while the runtime has no network yet.
pub(super) fn bridge(info: &HashMap<String, String>) -> Option<Result<String, String>> {
    let parse = |key: &str| -> Option<Value> { serde_json::from_str(info.get(key)?).ok() };
    let own = parse("config").and_then(|config| config.get("network").cloned());
    if let Some(network) = own {
        let plugins = network.get("plugins").and_then(Value::as_array)?;
        return Some(of_plugins(network.get("name"), plugins));
    }
    let Some(cni) = parse("cniconfig") else {
        return Some(Err(format!(
            "the CRI runtime does not say which network pods get; name their bridge with {FLAG}"
        )));
    };
    let networks = cni.get("Networks").and_then(Value::as_array);
    let configs = networks
        .into_iter()
        .flatten()
        .filter_map(|one| one.get("Config"));
    let mut all = configs.map(|config| {
        let plugins = config.get("Plugins").and_then(Value::as_array);
        let sources = plugins.into_iter().flatten();
        let sources = sources.filter_map(|plugin| plugin.get("Source").and_then(Value::as_str));
        let plugins = sources.filter_map(|source| serde_json::from_str(source).ok());
        (config.get("Name").cloned(), plugins.collect::<Vec<Value>>())
    });
    // Every pod has a loopback network besides its own.
    let (name, plugins) = all.find(|(_, plugins)| {
        let mut kinds = plugins.iter().filter_map(kind);
        kinds.any(|kind| kind != "loopback")
    })?;
    Some(of_plugins(name.as_ref(), &plugins))
}

fn kind(plugin: &Value) -> Option<&str> {
    plugin.get("type").and_then(Value::as_str)
}

fn of_plugins(name: Option<&Value>, plugins: &[Value]) -> Result<String, String> {
    let found = plugins.iter().find(|plugin| kind(plugin) == Some("bridge"));
    let Some(plugin) = found else {
        let kinds: Vec<&str> = plugins.iter().filter_map(kind).collect();
        return Err(format!(
            "the network {:?} of the CRI runtime is not one of CNI's plugin bridge (it has: {}); where pods are on a bridge all the same, name it with {FLAG}",
            name.and_then(Value::as_str).unwrap_or_default(),
            kinds.join(", ")
        ));
    };
    let bridge = plugin.get("bridge").and_then(Value::as_str);
    Ok(bridge
        .filter(|name| !name.is_empty())
        .unwrap_or(USUAL)
        .to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(entries: &[(&str, Value)]) -> Option<Result<String, String>> {
        let entries = entries.iter();
        bridge(
            &entries
                .map(|(key, value)| ((*key).to_owned(), value.to_string()))
                .collect(),
        )
    }

    #[test]
    fn a_runtime_that_shows_the_network() {
        let config = |network: Value| told(&[("config", json!({"network": network}))]);
        let plugins = json!([{"type": "bridge", "bridge": "berth7"}, {"type": "portmap"}]);
        let found = config(json!({"name": "n", "plugins": plugins}));
        assert_eq!(found, Some(Ok("berth7".to_owned())));
        // Its network isn't ready.
        assert_eq!(config(Value::Null), None);
        let refused = config(json!({"name": "n", "plugins": [{"type": "ipvlan"}]}));
        let refused = refused.unwrap().unwrap_err();
        assert!(refused.contains("(it has: ipvlan)"), "{refused}");
    }

    #[test]
    fn containerd_shows_its_networks() {
        let network = |name: &str, plugin: Value| {
            let plugins =
                json!([{"Network": {"type": plugin["type"]}, "Source": plugin.to_string()}]);
            json!({"Config": {"Name": name, "Plugins": plugins}})
        };
        let lo = network("cni-loopback", json!({"type": "loopback"}));
        let with = |networks: Value| told(&[("cniconfig", json!({"Networks": networks}))]);
        let own = network("pods", json!({"type": "bridge", "bridge": "br7"}));
        assert_eq!(with(json!([lo, own])), Some(Ok("br7".to_owned())));
        let usual = network("pods", json!({"type": "bridge"}));
        assert_eq!(with(json!([lo, usual])), Some(Ok("cni0".to_owned())));
        let other = with(json!([lo, network("calico", json!({"type": "calico"}))]));
        assert!(other.unwrap().unwrap_err().contains("\"calico\""));
        assert_eq!(with(json!([lo])), None);
        // containerd's own configuration is no network.
        let both = [
            ("config", json!({"containerd": {}})),
            (
                "cniconfig",
                json!({"Networks": [network("p", json!({"type": "bridge"}))]}),
            ),
        ];
        assert_eq!(told(&both), Some(Ok("cni0".to_owned())));
    }

    #[test]
    fn a_runtime_that_says_nothing() {
        let refused = told(&[]).unwrap().unwrap_err();
        assert!(refused.contains("--network-policy-bridge"), "{refused}");
    }
}
