//! Fields and resources of the pod itself, for the environment and for downward API files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Addresses, EnvError};
use crate::amount;

/// The value of a `fieldPath`; `None` when the path is not one of the supported ones.
pub(crate) fn field(
    pod: &Pod,
    path: &str,
    addresses: &Addresses<'_>,
    node_name: &str,
) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Some(lookup(meta.annotations.as_ref(), key));
    }
    if let Some(key) = subscript(path, "metadata.labels") {
        return Some(lookup(meta.labels.as_ref(), key));
    }
    Some(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => node_name.to_owned(),
        "spec.serviceAccountName" => spec
            .map(|s| text(&s.service_account_name))
            .unwrap_or_default(),
        "status.hostIP" => addresses.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => addresses.host_ips.join(","),
        "status.podIP" => addresses.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => addresses.pod_ips.join(","),
        _ => return None,
    })
}

fn lookup(map: Option<&BTreeMap<String, String>>, key: &str) -> String {
    map.and_then(|m| m.get(key)).cloned().unwrap_or_default()
}

fn subscript<'a>(path: &'a str, map: &str) -> Option<&'a str> {
    path.strip_prefix(map)?
        .strip_prefix("['")?
        .strip_suffix("']")
}

/// `key="value"` a line, sorted, quoted as Go does.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", serde_json::Value::from(v.as_str())))
        .collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`, divided by its divisor and rounded up.
pub(crate) fn resource(
    pod: &Pod,
    container: Option<&Container>,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, EnvError> {
    let fail = |why: &str| EnvError::Resource(selector.resource.clone(), why.to_owned());
    let spec = pod
        .spec
        .as_ref()
        .ok_or_else(|| fail("the pod has no spec"))?;
    let container = match (&selector.container_name, container) {
        (Some(name), _) if !name.is_empty() => spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .find(|c| &c.name == name)
            .ok_or_else(|| fail("no such container"))?,
        (_, Some(c)) => c,
        (_, None) => return Err(fail("no container named")),
    };
    let (sort, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| fail("not limits.NAME or requests.NAME"))?;
    let r = container.resources.as_ref();
    let amount = match sort {
        "limits" => match amount::limit(r, name) {
            0 => amount::units(Some(allocatable), name),
            n => n,
        },
        "requests" => amount::request(r, name),
        _ => return Err(fail("not limits.NAME or requests.NAME")),
    };
    let divisor = selector.divisor.as_ref().map_or(0, |d| {
        let one = BTreeMap::from([(name.to_owned(), d.clone())]);
        amount::units(Some(&one), name)
    });
    let divisor = match (divisor, name) {
        (0, "cpu") => 1000,
        (0, _) => 1,
        (n, _) => n,
    };
    let rounded = amount / divisor + i64::from(amount % divisor > 0);
    Ok(rounded.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn pod() -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some("web".into()),
                labels: Some([("app".into(), "a\"b".into())].into()),
                annotations: Some([("x/y".into(), "z".into())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: vec![Container {
                    name: "c".into(),
                    resources: Some(ResourceRequirements {
                        limits: Some(
                            [
                                ("cpu".into(), Quantity("1500m".into())),
                                ("memory".into(), Quantity("64Mi".into())),
                            ]
                            .into(),
                        ),
                        ..ResourceRequirements::default()
                    }),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn fields() {
        let ips = ["10.0.0.2".to_owned(), "fd00::2".to_owned()];
        let a = Addresses {
            pod_ips: &ips,
            host_ips: &ips[..1],
        };
        for (path, want) in [
            ("metadata.name", Some("web")),
            ("metadata.labels['app']", Some("a\"b")),
            ("metadata.labels", Some("app=\"a\\\"b\"")),
            ("metadata.annotations['x/y']", Some("z")),
            ("metadata.annotations['none']", Some("")),
            ("spec.nodeName", Some("n1")),
            ("status.podIP", Some("10.0.0.2")),
            ("status.podIPs", Some("10.0.0.2,fd00::2")),
            ("status.hostIP", Some("10.0.0.2")),
            ("spec.containers", None),
        ] {
            assert_eq!(field(&pod(), path, &a, "n1").as_deref(), want, "{path}");
        }
    }

    #[test]
    fn resources_round_up_and_limits_fall_back_to_the_node() {
        let pod = pod();
        let node = BTreeMap::from([("ephemeral-storage".to_owned(), Quantity("100".to_owned()))]);
        for (name, divisor, want) in [
            ("limits.cpu", None, "2"),
            ("limits.cpu", Some("1m"), "1500"),
            ("limits.memory", Some("1Mi"), "64"),
            ("limits.memory", None, "67108864"),
            ("requests.cpu", Some("1"), "2"),
            ("limits.ephemeral-storage", None, "100"),
        ] {
            let selector = ResourceFieldSelector {
                container_name: Some("c".into()),
                resource: name.into(),
                divisor: divisor.map(|d| Quantity(d.into())),
            };
            let got = resource(&pod, None, &selector, &node).unwrap();
            assert_eq!(got, want, "{name} / {divisor:?}");
        }
    }
}
