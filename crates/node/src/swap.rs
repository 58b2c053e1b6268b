//! Swap: what containers may use of it, as the cgroups of this machine can bound it.

use std::fs;
use std::path::Path;

use berth_cri_api::v1::LinuxContainerResources;
use berth_lifecycle::swap::{self, Capacity};
use k8s_openapi::api::core::v1::{Container, Pod};
use tracing::warn;

use crate::pod_spec::containers;

/// What containers may use of the machine's swap, the stock `memorySwap.swapBehavior`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SwapBehavior {
    /// None.
    #[default]
    NoSwap,
    /// Those of Burstable pods have a share by their request of memory.
    LimitedSwap,
}

/// How the kernel bounds swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    /// `memory.swap.max`: swap by itself.
    V2,
    /// `memory.memsw.limit_in_bytes`: memory and swap together, for who has a limit of memory.
    V1,
    /// It does not.
    Absent,
}

/// Why the node does not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "swap behavior LimitedSwap needs cgroup version 2 with swap accounting (memory.swap.max), and this machine has {0}; use NoSwap"
)]
pub struct SwapError(&'static str);

/// What this node does about swap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swap {
    behavior: SwapBehavior,
    controller: Controller,
    machine: Capacity,
}

impl Swap {
    /// Looks at what the machine can do.
    ///
    /// # Errors
    /// When it cannot do what is asked for.
    pub(crate) fn new(behavior: SwapBehavior, machine: Capacity) -> Result<Self, SwapError> {
        let controller = detect(Path::new("/sys/fs/cgroup"), &own_cgroup());
        Self::with(behavior, controller, machine)
    }

    fn with(
        behavior: SwapBehavior,
        controller: Controller,
        machine: Capacity,
    ) -> Result<Self, SwapError> {
        match (behavior, controller) {
            (SwapBehavior::LimitedSwap, Controller::V1) => {
                return Err(SwapError("cgroup version 1"));
            }
            (SwapBehavior::LimitedSwap, Controller::Absent) => {
                return Err(SwapError("none"));
            }
            (SwapBehavior::NoSwap, Controller::V1) if machine.swap > 0 => warn!(
                "this machine swaps, and cgroup version 1 keeps only containers with a limit of memory from it"
            ),
            (SwapBehavior::NoSwap, Controller::Absent) if machine.swap > 0 => {
                warn!("this machine swaps, and its kernel cannot keep containers from it");
            }
            (SwapBehavior::NoSwap | SwapBehavior::LimitedSwap, _) => {}
        }
        Ok(Self {
            behavior,
            controller,
            machine,
        })
    }

    /// Containers may use some.
    pub(crate) fn is_used(self) -> bool {
        self.behavior == SwapBehavior::LimitedSwap && self.machine.swap > 0
    }

    fn of_container(self, pod: &Pod, c: &Container) -> i64 {
        match self.behavior {
            SwapBehavior::NoSwap => 0,
            SwapBehavior::LimitedSwap => swap::limit(pod, c, self.machine),
        }
    }

    /// What all containers of a pod may use together, where that can be bounded.
    pub(crate) fn of_pod(self, pod: &Pod) -> Option<i64> {
        (self.controller != Controller::Absent).then(|| {
            containers(pod)
                .map(|c| self.of_container(pod, c))
                .fold(0, i64::saturating_add)
        })
    }

    /// Bounds a container's swap.
    pub(crate) fn bound(self, pod: &Pod, c: &Container, resources: &mut LinuxContainerResources) {
        match self.controller {
            Controller::V2 => {
                let bytes = self.of_container(pod, c).to_string();
                resources
                    .unified
                    .insert("memory.swap.max".to_owned(), bytes);
            }
            // Memory and swap together: none beyond the memory.
            Controller::V1 => {
                resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes;
            }
            Controller::Absent => {}
        }
    }
}

/// Of the tree of version 2.
fn own_cgroup() -> String {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("0::/"));
    line.unwrap_or_default().to_owned()
}

fn detect(mount: &Path, own: &str) -> Controller {
    if mount.join("memory/memory.memsw.limit_in_bytes").exists() {
        return Controller::V1;
    }
    if !mount.join("cgroup.controllers").exists() {
        return Controller::Absent;
    }
    // The root has no such file; where this program is in the root, its children have it.
    let children = fs::read_dir(mount).into_iter().flatten().flatten();
    let mut places = children.map(|entry| entry.path()).chain([mount.join(own)]);
    if places.any(|dir| dir.join("memory.swap.max").exists()) {
        Controller::V2
    } else {
        Controller::Absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MACHINE: Capacity = Capacity {
        memory: 8 << 30,
        swap: 4 << 30,
    };

    fn pod() -> Pod {
        let resources = json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}});
        let spec = json!({"containers": [{"name": "c", "resources": resources}, {"name": "d"}]});
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn bound(behavior: SwapBehavior, controller: Controller) -> (Option<String>, i64, Option<i64>) {
        let (pod, swap) = (pod(), Swap::with(behavior, controller, MACHINE).unwrap());
        let mut resources = LinuxContainerResources {
            memory_limit_in_bytes: 2 << 30,
            ..LinuxContainerResources::default()
        };
        let c = &pod.spec.as_ref().unwrap().containers[0];
        swap.bound(&pod, c, &mut resources);
        let unified = resources.unified.get("memory.swap.max").cloned();
        (
            unified,
            resources.memory_swap_limit_in_bytes,
            swap.of_pod(&pod),
        )
    }

    #[test]
    fn containers_have_no_swap_or_a_limited_one() {
        use Controller::{Absent, V1, V2};
        use SwapBehavior::{LimitedSwap, NoSwap};
        assert_eq!(bound(NoSwap, V2), (Some("0".to_owned()), 0, Some(0)));
        assert_eq!(bound(NoSwap, V1), (None, 2 << 30, Some(0)));
        assert_eq!(bound(NoSwap, Absent), (None, 0, None));
        let share = 512 << 20;
        assert_eq!(
            bound(LimitedSwap, V2),
            (Some(share.to_string()), 0, Some(share))
        );
        for (controller, want) in [
            (V1, "this machine has cgroup version 1"),
            (Absent, "this machine has none"),
        ] {
            let error = Swap::with(LimitedSwap, controller, MACHINE)
                .unwrap_err()
                .to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn the_kernel_shows_what_it_can_bound() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        let found = || detect(dir.path(), "system.slice/x");
        assert_eq!(found(), Controller::Absent);
        make("cgroup.controllers");
        assert_eq!(found(), Controller::Absent);
        make("system.slice/x/memory.swap.max");
        assert_eq!(found(), Controller::V2);
        make("memory/memory.memsw.limit_in_bytes");
        assert_eq!(found(), Controller::V1);
    }
}
