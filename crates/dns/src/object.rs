//! The Service `kube-system/kube-dns`, by which the DNS server is found in the API, and its endpoints.
//!
//! Its only endpoint is the Service's own address: every node's DNS server listens there, so a Service proxy leads
//! questions to where they are going anyway.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "berth-dns";

/// Why the Service can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The API server refused, or isn't there.
    #[error("cannot create the Service {NAMESPACE}/{NAME}: {0}")]
    Api(#[from] kube::Error),
    /// Somebody else's DNS server has it.
    #[error(
        "the Service {NAMESPACE}/{NAME} belongs to another DNS server (it has a selector); start berth with --dns=false, or delete that Service"
    )]
    Foreign,
    /// What we made is not what the API takes.
    #[error("cannot make the Service {NAMESPACE}/{NAME}: {0}")]
    Made(#[from] serde_json::Error),
}

/// Makes the Service and its EndpointSlices where they are missing; gives the Service's addresses. `client` must be allowed to create them.
///
/// # Errors
/// When they can't be made, or the Service is somebody else's.
pub async fn ensure(client: Client, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, ObjectError> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let found = match services.get_opt(NAME).await? {
        Some(found) => found,
        None => {
            let wanted = serde_json::from_value(service(addresses))?;
            match services.create(&PostParams::default(), &wanted).await {
                Ok(made) => made,
                // Another server was faster.
                Err(kube::Error::Api(status)) if status.code == 409 => services.get(NAME).await?,
                Err(error) => return Err(error.into()),
            }
        }
    };
    let spec = found.spec.unwrap_or_default();
    if spec.selector.is_some_and(|selector| !selector.is_empty()) {
        return Err(ObjectError::Foreign);
    }
    let ips = spec.cluster_ips.unwrap_or_default();
    let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    for ip in &ips {
        let wanted: EndpointSlice = serde_json::from_value(slice(*ip))?;
        let name = wanted.name_any();
        match slices.get_opt(&name).await? {
            None => {
                slices.create(&PostParams::default(), &wanted).await?;
            }
            Some(old) if old.endpoints != wanted.endpoints || old.ports != wanted.ports => {
                let mut new = wanted;
                new.metadata.resource_version = old.metadata.resource_version;
                slices.replace(&name, &PostParams::default(), &new).await?;
            }
            Some(_) => {}
        }
    }
    Ok(ips)
}

fn labels() -> Value {
    json!({"k8s-app": "kube-dns", "app.kubernetes.io/managed-by": "berth"})
}

fn service(addresses: &[IpAddr]) -> Value {
    let ips: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let policy = if ips.len() > 1 {
        "RequireDualStack"
    } else {
        "SingleStack"
    };
    json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels()},
        "spec": {
            "clusterIP": ips.first(), "clusterIPs": ips, "ipFamilyPolicy": policy,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    })
}

fn slice(ip: IpAddr) -> Value {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "metadata": {
            "name": format!("{NAME}-{}", family.to_lowercase()), "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": NAME, (MANAGED_BY): MANAGER, "k8s-app": "kube-dns"},
        },
        "addressType": family,
        "endpoints": [{"addresses": [ip.to_string()], "conditions": {"ready": true}}],
        "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        ],
    })
}
