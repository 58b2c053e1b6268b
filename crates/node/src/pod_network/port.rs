//! Where a sandbox's network is, as the runtime says it: what has to be known to find the pod's port.

use std::net::IpAddr;
use std::path::PathBuf;

use berth_cri_api::v1::{PodSandboxStatusRequest, PodSandboxStatusResponse};
use serde_json::Value;

use crate::cri::{Cri, rpc_message};

/// A sandbox's network namespace, and the addresses that the runtime gave the pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) netns: PathBuf,
    pub(super) addresses: Vec<IpAddr>,
}

/// Asks the runtime.
///
/// # Errors
/// When it doesn't say it.
pub(super) async fn joined(cri: &Cri, sandbox: &str) -> Result<Joined, String> {
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: sandbox.to_owned(),
        verbose: true,
    };
    let answer = cri.runtime().pod_sandbox_status(request).await;
    let answer = answer.map_err(|error| {
        let error = rpc_message(&error);
        format!("the CRI runtime does not say which network the pod has: {error}")
    })?;
    read(&answer.into_inner())
}

fn read(answer: &PodSandboxStatusResponse) -> Result<Joined, String> {
    let network = answer.status.as_ref().and_then(|s| s.network.as_ref());
    let first = network.map(|network| &network.ip);
    let others = network.iter().flat_map(|network| &network.additional_ips);
    let addresses: Result<Vec<IpAddr>, String> = first
        .into_iter()
        .chain(others.map(|other| &other.ip))
        .filter(|ip| !ip.is_empty())
        .map(|ip| {
            ip.parse()
                .map_err(|_| format!("the CRI runtime reports the address {ip:?}, which is none"))
        })
        .collect();
    let info: Option<Value> = answer
        .info
        .get("info")
        .and_then(|text| serde_json::from_str(text).ok());
    let netns = info.as_ref().and_then(netns).ok_or(
        "the CRI runtime does not say which network namespace the pod has (PodSandboxStatus, verbose)",
    )?;
    Ok(Joined {
        netns,
        addresses: addresses?,
    })
}

/// From containerd's, CRI-O's and berth's words: the path in the sandbox's OCI spec, else the namespace of its process.
fn netns(info: &Value) -> Option<PathBuf> {
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces");
    let namespaces = namespaces.and_then(Value::as_array);
    let mut network = namespaces.into_iter().flatten().filter(|one| {
        let kind = one.get("type").and_then(Value::as_str);
        kind == Some("network")
    });
    let path = network.find_map(|one| one.get("path").and_then(Value::as_str));
    let path = path.or_else(|| info.get("netns").and_then(Value::as_str));
    let path = path.filter(|path| path.starts_with('/')).map(PathBuf::from);
    let pid = info
        .get("pid")
        .and_then(Value::as_u64)
        .filter(|pid| *pid > 1);
    path.or_else(|| pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))))
}

#[cfg(test)]
mod tests {
    use berth_cri_api::v1::{PodIp, PodSandboxNetworkStatus, PodSandboxStatus};
    use serde_json::json;

    use super::*;

    fn answer(ips: &[&str], info: &Value) -> PodSandboxStatusResponse {
        let mut ips = ips.iter().map(|ip| (*ip).to_owned());
        let network = PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        };
        PodSandboxStatusResponse {
            status: Some(PodSandboxStatus {
                network: Some(network),
                ..PodSandboxStatus::default()
            }),
            info: [("info".to_owned(), info.to_string())].into(),
            ..PodSandboxStatusResponse::default()
        }
    }

    #[test]
    fn runtimes_say_it_in_several_ways() {
        let spec = |path: &str| json!({"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": path}]}});
        for (info, want) in [
            (
                json!({"pid": 7, "runtimeSpec": spec("/run/netns/a")}),
                Some("/run/netns/a"),
            ),
            (json!({"netns": "/run/b", "pid": 7}), Some("/run/b")),
            (json!({"pid": 7}), Some("/proc/7/ns/net")),
            (
                json!({"pid": 7, "runtimeSpec": spec("")}),
                Some("/proc/7/ns/net"),
            ),
            // The machine's own first process is no sandbox.
            (json!({"pid": 1}), None),
            (json!({"pid": 0}), None),
            (json!({"netns": "b"}), None),
            (json!("odd"), None),
        ] {
            let found = read(&answer(&["10.0.0.2", "fd00::2"], &info));
            match want {
                Some(want) => {
                    let found = found.unwrap();
                    assert_eq!(found.netns, PathBuf::from(want));
                    assert_eq!(found.addresses.len(), 2);
                }
                None => assert!(
                    found.unwrap_err().contains("which network namespace"),
                    "{info}"
                ),
            }
        }
        let odd = read(&answer(&["here"], &json!({"pid": 7})));
        assert!(odd.unwrap_err().contains("\"here\""));
        let found = read(&answer(&[], &json!({"pid": 7}))).unwrap();
        assert!(found.addresses.is_empty());
    }
}
