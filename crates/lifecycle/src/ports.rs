//! Ports of the node that pods want: one address, protocol and port is one pod's.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};

use super::problem::Problem;

/// A protocol, a port of the node, and the address at which it is wanted.
type HostPort<'p> = (&'p str, i32, &'p str);

/// All addresses.
const ANY: &str = "0.0.0.0";

fn wanted(pod: &Pod) -> BTreeSet<HostPort<'_>> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        spec.containers.iter().chain(init)
    });
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(host_port).collect()
}

fn host_port(port: &ContainerPort) -> Option<HostPort<'_>> {
    let number = port.host_port.filter(|number| *number > 0)?;
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let address = port.host_ip.as_deref().filter(|ip| !ip.is_empty());
    Some((protocol, number, address.unwrap_or(ANY)))
}

/// Refuses a pod that wants a port of the node which another has, as the stock kubelet does: the scheduler knows better, but
/// not every pod comes from it.
///
/// # Errors
/// When one of its ports is taken.
pub fn admit_ports<'p>(
    pod: &Pod,
    others: impl IntoIterator<Item = &'p Pod>,
) -> Result<(), Problem> {
    let wanted = wanted(pod);
    if wanted.is_empty() {
        return Ok(());
    }
    let is_taken = |other: &Pod| {
        let theirs = self::wanted(other);
        theirs.iter().any(|(protocol, port, address)| {
            wanted.iter().any(|(own_protocol, own_port, own)| {
                (own_protocol, own_port) == (protocol, port)
                    && (own == address || *own == ANY || *address == ANY)
            })
        })
    };
    if others.into_iter().any(is_taken) {
        return Err(Problem::new(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn pod(ports: Value) -> Pod {
        from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "c", "ports": ports}]}}))
            .unwrap()
    }

    #[test]
    fn a_port_of_the_node_is_one_pods() {
        let port = |more: Value| {
            let mut port = json!({"containerPort": 80, "hostPort": 8080, "protocol": "TCP"});
            for (key, value) in more.as_object().unwrap() {
                port[key] = value.clone();
            }
            pod(json!([port]))
        };
        let there = [port(json!({"hostIP": "10.0.0.1"})), pod(json!([]))];
        let admit = |more: Value| admit_ports(&port(more), &there).map_err(|p| p.reason);
        let taken = Err("NodePorts".into());
        assert_eq!(admit(json!({})), taken, "all addresses");
        assert_eq!(admit(json!({"hostIP": "0.0.0.0"})), taken);
        assert_eq!(admit(json!({"hostIP": "10.0.0.1"})), taken);
        assert_eq!(admit(json!({"hostIP": "10.0.0.2"})), Ok(()));
        assert_eq!(admit(json!({"protocol": "UDP"})), Ok(()));
        assert_eq!(admit(json!({"hostPort": 8081})), Ok(()));
        assert_eq!(
            admit(json!({"hostPort": null})),
            Ok(()),
            "none of the node's"
        );
        let everywhere = [port(json!({}))];
        let one = port(json!({"hostIP": "10.0.0.2"}));
        assert!(admit_ports(&one, &everywhere).is_err());
    }
}
