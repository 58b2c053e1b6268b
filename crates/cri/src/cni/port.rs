//! What the host's end of a pod's network is marked with: whose it is.
//!
//! The kernel keeps it as the interface's alias (`ip link show`): `berth UID MAC IP...`. Whoever filters pods' traffic on this machine finds
//! there which pod is behind a port of the bridge, whatever has been restarted meanwhile. A pod cannot reach it.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::{Attachment, INTERFACE, addresses};

/// The interfaces of this machine.
const INTERFACES: &str = "/sys/class/net";

/// Marks the host's end of an attachment. A network whose plugins name none has nothing to mark.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn mark(attachment: &Attachment) -> io::Result<()> {
    let Some(alias) = alias(attachment) else {
        return Ok(());
    };
    for name in host_interfaces(&attachment.result) {
        let dir = Path::new(INTERFACES).join(name);
        if is_port(&dir) {
            std::fs::write(dir.join("ifalias"), &alias)?;
        }
    }
    Ok(())
}

fn is_port(dir: &Path) -> bool {
    dir.join("brport").exists()
}

fn interfaces(result: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = result.get("interfaces").and_then(Value::as_array);
    let named = all.into_iter().flatten();
    named.filter_map(|one| Some((one.get("name")?.as_str()?, one)))
}

fn is_inside(interface: &Value) -> bool {
    let sandbox = interface.get("sandbox").and_then(Value::as_str);
    sandbox.is_some_and(|sandbox| !sandbox.is_empty())
}

/// Names of interfaces on the host; what would be a path is none.
fn host_interfaces(result: &Value) -> impl Iterator<Item = &str> {
    let outside = interfaces(result).filter(|(_, one)| !is_inside(one));
    outside
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'))
}

fn alias(attachment: &Attachment) -> Option<String> {
    let result = &attachment.result;
    let mut inside = interfaces(result).filter(|(_, one)| is_inside(one));
    let (_, own) = inside.find(|(name, _)| *name == INTERFACE)?;
    let mac = own.get("mac")?.as_str()?;
    let addresses: Vec<String> = addresses(result).iter().map(ToString::to_string).collect();
    let uid = &attachment.pod.uid;
    let is_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    (!addresses.is_empty() && is_word(uid) && is_word(mac))
        .then(|| format!("berth {uid} {mac} {}", addresses.join(" ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cni::{Network, Pod};

    fn attachment(uid: &str, result: Value) -> Attachment {
        Attachment {
            network: Network {
                name: "n".to_owned(),
                cni_version: "1.0.0".to_owned(),
                plugins: Vec::new(),
                file: "x".into(),
            },
            pod: Pod {
                uid: uid.to_owned(),
                ..Pod::default()
            },
            result,
        }
    }

    #[test]
    fn the_ports_pod_and_what_it_has() {
        let result = json!({
            "interfaces": [{"name": "br0"}, {"name": "veth1"}, {"name": "../x"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/ns"}],
            "ips": [{"address": "10.0.0.5/24", "interface": 3}, {"address": "fd00::5/64", "interface": 3}],
        });
        let found = attachment("u-1", result.clone());
        assert_eq!(
            alias(&found).unwrap(),
            "berth u-1 02:00:00:00:00:01 10.0.0.5 fd00::5"
        );
        let outside: Vec<&str> = host_interfaces(&found.result).collect();
        assert_eq!(outside, ["br0", "veth1"]);
        for uid in ["", "a b"] {
            assert_eq!(alias(&attachment(uid, result.clone())), None);
        }
        assert_eq!(alias(&attachment("u", Value::Null)), None);
        mark(&attachment("u", Value::Null)).unwrap();
    }
}
