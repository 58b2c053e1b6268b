//! The variables of Services: `NAME_SERVICE_HOST` and `NAME_SERVICE_PORT`, and those that Docker's links had.

use std::sync::Arc;

use crate::services::Link;

/// The variables, in the order of the Services and of their ports.
pub(super) fn variables(links: &[Arc<Link>]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for link in links {
        let Some(first) = link.ports.first() else {
            continue;
        };
        let name = variable(&link.name);
        let mut put = |suffix: &str, value: String| all.push((format!("{name}_{suffix}"), value));
        put("SERVICE_HOST", link.address.clone());
        put("SERVICE_PORT", first.number.to_string());
        for port in link.ports.iter().filter(|port| !port.name.is_empty()) {
            let suffix = format!("SERVICE_PORT_{}", variable(&port.name));
            put(&suffix, port.number.to_string());
        }
        for (i, port) in link.ports.iter().enumerate() {
            let protocol = port.protocol.to_lowercase();
            let host = if link.address.contains(':') {
                format!("[{}]", link.address)
            } else {
                link.address.clone()
            };
            let url = format!("{protocol}://{host}:{}", port.number);
            if i == 0 {
                put("PORT", url.clone());
            }
            let one = format!("PORT_{}_{}", port.number, port.protocol.to_uppercase());
            put(&one, url);
            put(&format!("{one}_PROTO"), protocol);
            put(&format!("{one}_PORT"), port.number.to_string());
            put(&format!("{one}_ADDR"), link.address.clone());
        }
    }
    all
}

/// A name as that of a variable.
fn variable(name: &str) -> String {
    let upper = name.replace(['-', '.'], "_").to_uppercase();
    if upper.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{upper}")
    } else {
        upper
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::LinkPort;

    fn link(name: &str, address: &str, ports: &[(&str, i32, &str)]) -> Arc<Link> {
        let port = |(name, number, protocol): &(&str, i32, &str)| LinkPort {
            name: (*name).to_owned(),
            number: *number,
            protocol: (*protocol).to_owned(),
        };
        Arc::new(Link {
            name: name.to_owned(),
            address: address.to_owned(),
            ports: ports.iter().map(port).collect(),
        })
    }

    #[test]
    fn the_api_server() {
        let list = variables(&[link("kubernetes", "10.96.0.1", &[("https", 443, "TCP")])]);
        let text: Vec<String> = list.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "KUBERNETES_SERVICE_HOST=10.96.0.1",
                "KUBERNETES_SERVICE_PORT=443",
                "KUBERNETES_SERVICE_PORT_HTTPS=443",
                "KUBERNETES_PORT=tcp://10.96.0.1:443",
                "KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443",
                "KUBERNETES_PORT_443_TCP_PROTO=tcp",
                "KUBERNETES_PORT_443_TCP_PORT=443",
                "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
            ]
        );
    }

    #[test]
    fn names_become_those_of_variables() {
        let ports = [("p.x-y", 8083, "TCP"), ("q", 8084, "UDP")];
        let list = variables(&[link("9foo-bar.x", "fd00::9", &ports)]);
        let find = |name: &str| {
            let found = list.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(find("_9FOO_BAR_X_SERVICE_HOST"), Some("fd00::9"));
        assert_eq!(find("_9FOO_BAR_X_SERVICE_PORT_P_X_Y"), Some("8083"));
        assert_eq!(
            find("_9FOO_BAR_X_PORT_8084_UDP"),
            Some("udp://[fd00::9]:8084")
        );
        assert!(variables(&[link("none", "10.0.0.1", &[])]).is_empty());
    }
}
