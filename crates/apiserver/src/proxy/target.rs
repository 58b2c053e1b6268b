//! Where a request goes: the node's or pod's address, and the path and query in the words of the
//! kubelet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use form_urlencoded::Serializer;
use serde_json::Value;

use berth_api::{
    field::{FieldError, FieldPath},
    status::ApiError,
};

use super::address::{NodeName, Peer, PodNetwork, canonical};
use crate::query::Parameters;

/// One hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// IP address or name.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// Who is to be there; a node's server is shown our certificate.
    pub(super) peer: Peer,
    pub(super) path_and_query: String,
}

const KUBELET_PORT: u16 = 10250;
const LOG_OPTIONS: [&str; 8] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
];

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// The node's kubelet with a path of it.
pub(super) fn kubelet(node: &Value, path_and_query: String) -> Result<Target, ApiError> {
    let addresses = node
        .pointer("/status/addresses")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let of_kind = |kind: &str| {
        addresses
            .iter()
            .find(|a| text(a, "/type") == kind)
            .map(|a| text(a, "/address"))
    };
    let host = ["InternalIP", "ExternalIP", "InternalDNS", "Hostname"]
        .into_iter()
        .find_map(of_kind);
    let host = host.ok_or_else(|| {
        ApiError::Internal(format!(
            "no preferred addresses found for node {:?}",
            name(node)
        ))
    })?;
    let port = node
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .and_then(Value::as_u64);
    let port = port
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
        .unwrap_or(KUBELET_PORT);
    Ok(Target {
        host: host.to_owned(),
        port,
        tls: true,
        peer: Peer::Kubelet(NodeName {
            name: name(node).to_owned(),
            uid: text(node, "/metadata/uid").to_owned(),
        }),
        path_and_query,
    })
}

/// The addresses of a node that are IP addresses.
pub(super) fn addresses(node: &Value) -> impl Iterator<Item = IpAddr> {
    let all = node.pointer("/status/addresses").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(|a| text(a, "/address").parse().ok())
        .map(canonical)
}

fn node_of(pod: &Value, find: impl Fn(&str) -> Option<Value>) -> Result<Value, ApiError> {
    let node = text(pod, "/spec/nodeName");
    if node.is_empty() {
        return Err(ApiError::BadRequest(format!(
            "pod {} does not have a host assigned",
            name(pod)
        )));
    }
    find(node).ok_or_else(|| ApiError::not_found("", "nodes", node))
}

/// The container that is meant: the named one, or the only one.
fn container(pod: &Value, wanted: Option<String>) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<&str> {
        let list = pod
            .pointer(&format!("/spec/{list}"))
            .and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .map(|c| text(c, "/name"))
            .collect()
    };
    let (containers, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    if let Some(wanted) = wanted.filter(|w| !w.is_empty()) {
        if containers
            .iter()
            .chain(&init)
            .chain(&ephemeral)
            .any(|c| *c == wanted)
        {
            return Ok(wanted);
        }
        return Err(ApiError::BadRequest(format!(
            "container {wanted} is not valid for pod {}",
            name(pod)
        )));
    }
    if let [only] = containers.as_slice() {
        return Ok((*only).to_owned());
    }
    let mut message = format!("a container name must be specified for pod {}", name(pod));
    if !containers.is_empty() {
        message.push_str(&format!(", choose one of: [{}]", containers.join(" ")));
        if !init.is_empty() {
            message.push_str(&format!(
                " or one of the init containers: [{}]",
                init.join(" ")
            ));
        }
        if !ephemeral.is_empty() {
            message.push_str(&format!(
                " or one of the ephemeral containers: [{}]",
                ephemeral.join(" ")
            ));
        }
    }
    Err(ApiError::BadRequest(message))
}

fn value(query: &Parameters, wanted: &str) -> Option<String> {
    query.first(wanted).map(str::to_owned)
}

fn is_true(value: &str) -> bool {
    matches!(value, "true" | "1" | "t" | "T" | "True" | "TRUE")
}

fn with_query(path: String, query: &mut Serializer<'_, String>) -> String {
    match query.finish() {
        query if query.is_empty() => path,
        query => format!("{path}?{query}"),
    }
}

fn path(verb: &str, pod: &Value, container: Option<&str>) -> String {
    let mut path = format!("/{verb}/{}/{}", text(pod, "/metadata/namespace"), name(pod));
    if let Some(container) = container {
        path.push('/');
        path.push_str(container);
    }
    path
}

/// `pods/log`; none for a pod that no node has yet.
pub(super) fn log(
    pod: &Value,
    query: &Parameters,
    find: impl Fn(&str) -> Option<Value>,
) -> Result<Option<Target>, ApiError> {
    check_log_options(pod, query)?;
    let container = container(pod, value(query, "container"))?;
    if text(pod, "/spec/nodeName").is_empty() {
        return Ok(None);
    }
    let node = node_of(pod, find)?;
    let mut passed = Serializer::new(String::new());
    for name in LOG_OPTIONS {
        if let Some(value) = query.first(name) {
            passed.append_pair(name, value);
        }
    }
    kubelet(
        &node,
        with_query(path("containerLogs", pod, Some(&container)), &mut passed),
    )
    .map(Some)
}

fn check_log_options(pod: &Value, query: &Parameters) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    for (option, least) in [("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)] {
        let Some(given) = value(query, option) else {
            continue;
        };
        match given.parse::<i64>() {
            Ok(number) if number >= least => {}
            Ok(number) => {
                let detail = if least == 0 {
                    "must be greater than or equal to 0"
                } else {
                    "must be greater than 0"
                };
                errors.push(FieldError::invalid(&FieldPath::new(option), number, detail));
            }
            Err(_) => {
                return Err(ApiError::BadRequest(format!(
                    "{option} must be a number, not {given:?}"
                )));
            }
        }
    }
    if value(query, "sinceSeconds").is_some() && value(query, "sinceTime").is_some() {
        errors.push(FieldError::forbidden(
            &FieldPath::new(""),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("", "PodLogOptions", name(pod), errors))
    }
}

/// `pods/exec` and `pods/attach`.
pub(super) fn exec(
    verb: &str,
    pod: &Value,
    query: &Parameters,
    find: impl Fn(&str) -> Option<Value>,
) -> Result<Target, ApiError> {
    let container = container(pod, value(query, "container"))?;
    let node = node_of(pod, find)?;
    let mut passed = Serializer::new(String::new());
    for (name, renamed) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ] {
        if query.first(name).is_some_and(is_true) {
            passed.append_pair(renamed, "1");
        }
    }
    for (_, command) in query.pairs().filter(|(name, _)| *name == "command") {
        passed.append_pair("command", command);
    }
    kubelet(
        &node,
        with_query(path(verb, pod, Some(&container)), &mut passed),
    )
}

/// `pods/portforward`.
pub(super) fn port_forward(
    pod: &Value,
    query: &Parameters,
    find: impl Fn(&str) -> Option<Value>,
) -> Result<Target, ApiError> {
    let node = node_of(pod, find)?;
    let mut passed = Serializer::new(String::new());
    for (_, ports) in query.pairs().filter(|(name, _)| *name == "ports") {
        for port in ports.split(',').filter(|p| !p.is_empty()) {
            passed.append_pair("port", port);
        }
    }
    kubelet(
        &node,
        with_query(path("portForward", pod, None), &mut passed),
    )
}

/// `[SCHEME:]NAME[:PORT]`
pub(super) fn split_name(name: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        [scheme, name, port] => (scheme, name, port),
        [name, port] => ("", name, port),
        _ => ("", name, ""),
    }
}

/// `nodes/NAME/proxy`: the node's own server, or another port of the node in plain HTTP.
pub(super) fn node_proxy(
    asked: &str,
    path_and_query: String,
    find: impl Fn(&str) -> Option<Value>,
) -> Result<Target, ApiError> {
    let (scheme, node, port) = split_name(asked);
    let found = find(node).ok_or_else(|| ApiError::not_found("", "nodes", node))?;
    let mut target = kubelet(&found, path_and_query)?;
    if !port.is_empty() && port != target.port.to_string() {
        target.port = parse_port(port)?;
        target.tls = scheme == "https";
        if let Peer::Kubelet(node) = target.peer {
            target.peer = Peer::NodePort(node);
        }
    }
    Ok(target)
}

/// `pods/NAME/proxy`: a port of the pod; `nodes` are all there are.
pub(super) fn pod_proxy(
    asked: &str,
    path_and_query: String,
    pod: &Value,
    nodes: &[Value],
) -> Result<Target, ApiError> {
    let (scheme, _, port) = split_name(asked);
    let host = text(pod, "/status/podIP");
    // a pod has no name that could be resolved
    if host.parse::<IpAddr>().is_err() {
        return Err(ApiError::BadRequest("address not allowed".to_owned()));
    }
    let declared = || {
        let containers = pod
            .pointer("/spec/containers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let mut ports =
            containers.filter_map(|c| c.pointer("/ports/0/containerPort").and_then(Value::as_u64));
        ports.next().and_then(|p| u16::try_from(p).ok())
    };
    let port = if port.is_empty() {
        declared().unwrap_or(80)
    } else {
        parse_port(port)?
    };
    Ok(Target {
        host: host.to_owned(),
        port,
        tls: scheme == "https",
        peer: Peer::Pod(PodNetwork {
            nodes: nodes.iter().flat_map(addresses).collect(),
            host: if has_host_port(pod, port) {
                let own = nodes
                    .iter()
                    .filter(|n| name(n) == text(pod, "/spec/nodeName"));
                own.flat_map(addresses).collect()
            } else {
                BTreeSet::new()
            },
        }),
        path_and_query,
    })
}

/// Whether the pod has its node's network and one of its containers declares the TCP port.
pub(super) fn has_host_port(pod: &Value, port: u16) -> bool {
    let host_network = pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true);
    let containers = ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .filter_map(|list| pod.pointer(list).and_then(Value::as_array))
        .flatten();
    let mut ports = containers
        .filter_map(|c| c.get("ports").and_then(Value::as_array))
        .flatten();
    host_network
        && ports.any(|p| {
            p.get("containerPort").and_then(Value::as_u64) == Some(u64::from(port))
                && matches!(text(p, "/protocol"), "" | "TCP")
        })
}

fn parse_port(port: &str) -> Result<u16, ApiError> {
    port.parse()
        .ok()
        .filter(|p| *p != 0)
        .ok_or_else(|| ApiError::BadRequest(format!("invalid port {port:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(_: &str) -> Option<Value> {
        Some(
            json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}}}}),
        )
    }

    fn pod(containers: &[&str]) -> Value {
        let containers: Vec<Value> = containers.iter().map(|n| json!({"name": n})).collect();
        json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"nodeName": "n", "containers": containers}})
    }

    fn query(text: &str) -> Parameters {
        Parameters::decode(text)
    }

    fn message(error: ApiError) -> String {
        assert_eq!(error.code(), 400, "{error}");
        error.to_string()
    }

    #[test]
    fn logs_take_the_only_container_and_pass_their_options() {
        let target = log(
            &pod(&["c"]),
            &query("follow=true&tailLines=5&insecureSkipTLSVerifyBackend=true"),
            node,
        )
        .unwrap()
        .unwrap();
        assert_eq!((target.host.as_str(), target.port), ("10.0.0.1", 10251));
        assert_eq!(
            target.path_and_query,
            "/containerLogs/ns/p/c?follow=true&tailLines=5"
        );
        let target = log(&pod(&["a", "b"]), &query("container=b"), node)
            .unwrap()
            .unwrap();
        assert_eq!(target.path_and_query, "/containerLogs/ns/p/b");
    }

    #[test]
    fn ambiguous_and_wrong_containers_are_named() {
        let mut two = pod(&["a", "b"]);
        two["spec"]["initContainers"] = json!([{"name": "i"}]);
        assert_eq!(
            message(log(&two, &query(""), node).unwrap_err()),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(
            message(exec("exec", &two, &query("container=x"), node).unwrap_err()),
            "container x is not valid for pod p"
        );
        assert!(exec("exec", &two, &query("container=i"), node).is_ok());
    }

    #[test]
    fn an_unscheduled_pod_has_no_logs_and_takes_no_commands() {
        let mut pending = pod(&["c"]);
        pending["spec"]["nodeName"] = json!("");
        assert_eq!(log(&pending, &query(""), node), Ok(None));
        assert_eq!(
            message(exec("exec", &pending, &query(""), node).unwrap_err()),
            "pod p does not have a host assigned"
        );
        assert_eq!(
            message(port_forward(&pending, &query(""), node).unwrap_err()),
            "pod p does not have a host assigned"
        );
    }

    #[test]
    fn exec_speaks_the_kubelets_words() {
        let target = exec(
            "exec",
            &pod(&["c"]),
            &query("stdin=true&stdout=1&stderr=false&tty=true&command=sh&command=-c&command=a+b"),
            node,
        )
        .unwrap();
        assert_eq!(
            target.path_and_query,
            "/exec/ns/p/c?input=1&output=1&tty=1&command=sh&command=-c&command=a+b"
        );
        // A client may say the same thing twice.
        let twice = query("container=c&command=true&stdin=true&container=c&stdin=true");
        let target = exec("exec", &pod(&["c"]), &twice, node).unwrap();
        assert_eq!(target.path_and_query, "/exec/ns/p/c?input=1&command=true");
        let target = port_forward(&pod(&["c"]), &query("ports=80,81"), node).unwrap();
        assert_eq!(target.path_and_query, "/portForward/ns/p?port=80&port=81");
    }

    #[test]
    fn bad_log_options_are_refused() {
        for (text, code) in [
            ("tailLines=-1", 422),
            ("sinceSeconds=0", 422),
            ("sinceSeconds=5&sinceTime=x", 422),
            ("limitBytes=x", 400),
        ] {
            assert_eq!(
                log(&pod(&["c"]), &query(text), node).map_err(|e| e.code()),
                Err(code),
                "{text}"
            );
        }
    }

    #[test]
    fn proxies_keep_the_path_behind_them() {
        let target = node_proxy("n", "/stats/summary?x=1".to_owned(), node).unwrap();
        assert_eq!(
            (target.path_and_query.as_str(), target.tls),
            ("/stats/summary?x=1", true)
        );
        let mut running = pod(&["c"]);
        running["status"] = json!({"podIP": "10.1.0.2"});
        let target = pod_proxy("p:8080", "/".to_owned(), &running, &[]).unwrap();
        assert_eq!(
            (
                target.host.as_str(),
                target.port,
                target.tls,
                target.path_and_query.as_str()
            ),
            ("10.1.0.2", 8080, false, "/")
        );
    }

    #[test]
    fn a_pod_with_its_nodes_network_has_the_ports_that_it_declares() {
        let mut host = pod(&["c"]);
        host["spec"]["hostNetwork"] = json!(true);
        host["spec"]["containers"][0]["ports"] =
            json!([{"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]);
        host["status"] = json!({"podIP": "10.0.0.1"});
        let nodes: Vec<Value> = node("").into_iter().collect();
        let hosts = |pod: &Value, port: u16| {
            let name = format!("p:{port}");
            match pod_proxy(&name, "/".to_owned(), pod, &nodes).unwrap().peer {
                Peer::Pod(network) => {
                    assert_eq!(network.nodes.len(), 1);
                    network.host.len()
                }
                peer => panic!("{peer:?}"),
            }
        };
        assert_eq!((hosts(&host, 8080), hosts(&host, 10250)), (1, 0));
        assert_eq!(hosts(&host, 53), 0);
        host["spec"]["nodeName"] = json!("other");
        assert_eq!(hosts(&host, 8080), 0);
        host["spec"]["nodeName"] = json!("n");
        host["spec"]["hostNetwork"] = json!(false);
        assert_eq!(hosts(&host, 8080), 0);
    }

    #[test]
    fn a_pod_is_reached_by_address_only() {
        for host in ["", "localhost", "metadata.internal", "127.1"] {
            let mut named = pod(&["c"]);
            named["status"] = json!({"podIP": host});
            let refused = pod_proxy("p:80", "/".to_owned(), &named, &[]).unwrap_err();
            assert_eq!(message(refused), "address not allowed", "{host}");
        }
    }
}
