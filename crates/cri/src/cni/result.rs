//! Reading a CNI result.

use std::net::IpAddr;

use serde_json::Value;

use super::INTERFACE;

/// The addresses of the pod's interface, in the result's order, of any result version since 0.2.
pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let parse = |text: &str| text.split('/').next().and_then(|ip| ip.parse().ok());
    if let Some(ips) = result.get("ips").and_then(Value::as_array) {
        let interfaces = result.get("interfaces").and_then(Value::as_array);
        return ips
            .iter()
            .filter(|ip| {
                let index = ip
                    .get("interface")
                    .and_then(Value::as_u64)
                    .and_then(|index| usize::try_from(index).ok());
                let interface = index.and_then(|index| interfaces?.get(index));
                // A host's interface has no sandbox.
                interface.is_none_or(|interface| {
                    interface.get("name").and_then(Value::as_str) == Some(INTERFACE)
                        || interface
                            .get("sandbox")
                            .and_then(Value::as_str)
                            .is_some_and(|sandbox| !sandbox.is_empty())
                })
            })
            .filter_map(|ip| parse(ip.get("address")?.as_str()?))
            .collect();
    }
    ["ip4", "ip6"]
        .iter()
        .filter_map(|key| parse(result.get(key)?.get("ip")?.as_str()?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::addresses;
    use serde_json::json;

    #[test]
    fn addresses_of_the_pods_interface_only() {
        let result = json!({
            "interfaces": [{"name": "br0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/ns"}],
            "ips": [
                {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.5/24", "interface": 2},
                {"address": "fd00::5/64", "interface": 2},
            ],
        });
        let text: Vec<String> = addresses(&result).iter().map(ToString::to_string).collect();
        assert_eq!(text, ["10.0.0.5", "fd00::5"]);
        let text: Vec<String> = addresses(&json!({"ip4": {"ip": "10.1.2.3/16"}}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(text, ["10.1.2.3"]);
        assert!(addresses(&json!(null)).is_empty());
    }
}
