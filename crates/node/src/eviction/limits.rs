//! Limits of local storage: of an emptyDir, of a pod and of each of its containers, as in the stock kubelet.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use berth_tree::Usage;

use crate::amount;

const RESOURCE: &str = "ephemeral-storage";

/// What a pod holds on the node's disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodUsage {
    /// Its emptyDirs on disk, by volume.
    pub(super) volumes: BTreeMap<String, Usage>,
    /// Logs and writable layer, by container.
    pub(super) containers: BTreeMap<String, Usage>,
}

impl PodUsage {
    fn all(&self) -> Usage {
        let mut sum = Usage::default();
        let parts = self.volumes.values().chain(self.containers.values());
        parts.for_each(|part| sum.add(*part));
        sum
    }

    pub(super) fn bytes(&self) -> u64 {
        self.all().bytes
    }

    pub(super) fn inodes(&self) -> u64 {
        self.all().inodes
    }
}

/// The pod's emptyDirs that are on disk.
pub(super) fn on_disk(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter(|v| {
        v.empty_dir
            .as_ref()
            .is_some_and(|e| e.medium.as_deref().unwrap_or_default().is_empty())
    })
}

fn size_limit(volume: &Volume) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    volume.empty_dir.as_ref()?.size_limit.as_ref()
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
}

fn limit(c: &Container) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    c.resources.as_ref()?.limits.as_ref()?.get(RESOURCE)
}

/// Whether the pod has a limit that its usage can exceed.
pub(super) fn has_any(pod: &Pod) -> bool {
    on_disk(pod).any(|v| size_limit(v).is_some()) || containers(pod).any(|c| limit(c).is_some())
}

/// Whether so much is above the limit. A limit of 0 on an emptyDir is none; of what is hidden nobody knows how much it
/// is, so that is above every limit.
fn above(usage: Usage, limit: i64) -> bool {
    usage.hidden || u64::try_from(limit).is_ok_and(|limit| usage.bytes > limit)
}

/// What the pod holds too much of, for people.
pub(super) fn exceeded(pod: &Pod, usage: &PodUsage) -> Option<String> {
    for volume in on_disk(pod) {
        let Some(q) = size_limit(volume) else {
            continue;
        };
        let used = usage.volumes.get(&volume.name).copied().unwrap_or_default();
        let limit = amount::bytes(q);
        if limit > 0 && above(used, limit) {
            return Some(format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {:?}. {}",
                volume.name,
                q.0,
                hidden(used)
            ));
        }
    }
    let all = usage.all();
    if let Some((total, shown)) = pod_limit(pod)
        && above(all, total)
    {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {shown}. {}",
            hidden(all)
        ));
    }
    for container in containers(pod) {
        let Some(q) = limit(container) else {
            continue;
        };
        let used = usage.containers.get(&container.name);
        let used = used.copied().unwrap_or_default();
        if above(used, amount::bytes(q)) {
            return Some(format!(
                "Container {} exceeded its local ephemeral storage limit {:?}. {}",
                container.name,
                q.0,
                hidden(used)
            ));
        }
    }
    None
}

fn hidden(usage: Usage) -> &'static str {
    if usage.hidden {
        "Directories are nested too deep, or cannot be opened, to tell how much is in them. "
    } else {
        ""
    }
}

/// The sum of the containers' limits, where one of them has a limit.
fn pod_limit(pod: &Pod) -> Option<(i64, String)> {
    let spec = pod.spec.as_ref()?;
    let overhead = berth_core::resources::Overhead::Counted;
    let limits = berth_core::resources::pod_limits(spec, overhead);
    let limit = limits.get(RESOURCE)?;
    Some((limit.value(), limit.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_testkit::PodBuilder;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let mut pod = PodBuilder::new("p").build();
        pod.spec = Some(serde_json::from_value(spec).unwrap());
        pod
    }

    fn container(name: &str, limit: Option<&str>) -> Value {
        match limit {
            Some(limit) => {
                json!({"name": name, "resources": {"limits": {"ephemeral-storage": limit}}})
            }
            None => json!({"name": name}),
        }
    }

    fn usage(volumes: &[(&str, u64)], containers: &[(&str, u64)]) -> PodUsage {
        let of = |list: &[(&str, u64)]| {
            let one = |(name, mib): &(&str, u64)| {
                let bytes = mib << 20;
                (
                    (*name).to_owned(),
                    Usage {
                        bytes,
                        inodes: 1,
                        hidden: false,
                    },
                )
            };
            list.iter().map(one).collect()
        };
        PodUsage {
            volumes: of(volumes),
            containers: of(containers),
        }
    }

    #[test]
    fn an_empty_dir_has_its_own_limit() {
        let pod = pod(json!({
            "containers": [container("c", None)],
            "volumes": [
                {"name": "v", "emptyDir": {"sizeLimit": "1Mi"}},
                {"name": "m", "emptyDir": {"sizeLimit": "1Mi", "medium": "Memory"}},
                {"name": "free", "emptyDir": {}},
            ],
        }));
        assert!(has_any(&pod));
        let used = |v| exceeded(&pod, &usage(&[("v", v), ("m", 9), ("free", 9)], &[]));
        assert_eq!(used(1), None);
        assert_eq!(
            used(2).unwrap(),
            "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
        );
    }

    #[test]
    fn a_pod_and_its_containers_have_limits() {
        let pod = pod(json!({
            "containers": [container("a", Some("2Mi")), container("b", Some("4Mi"))],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }));
        let said = |v, a, b| exceeded(&pod, &usage(&[("v", v)], &[("a", a), ("b", b)]));
        assert_eq!(said(2, 2, 2), None);
        assert_eq!(
            said(5, 1, 1).unwrap(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 6Mi. "
        );
        assert_eq!(
            said(0, 3, 0).unwrap(),
            "Container a exceeded its local ephemeral storage limit \"2Mi\". "
        );
        let free = self::pod(json!({"containers": [container("a", None)]}));
        assert!(!has_any(&free));
        assert_eq!(exceeded(&free, &usage(&[], &[("a", 1 << 20)])), None);
    }

    #[test]
    fn what_cannot_be_measured_is_above_the_limit() {
        let pod = pod(json!({
            "containers": [container("c", None)],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
        }));
        let mut usage = usage(&[("v", 0)], &[]);
        usage.volumes.get_mut("v").unwrap().hidden = true;
        assert!(exceeded(&pod, &usage).unwrap().contains("nested too deep"));
    }
}
