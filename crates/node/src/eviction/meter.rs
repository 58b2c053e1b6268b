//! Measures what pods hold on disk: a bounded number of directory entries at each look, going on where the last one
//! stopped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_cri_api::v1::{ContainerStatsFilter, ListContainerStatsRequest};
use berth_tree::{self as tree, Usage};
use k8s_openapi::api::core::v1::Pod;
use tracing::debug;

use super::limits::{PodUsage, on_disk};
use crate::agent::Agent;
use crate::cri::{labels, rpc_message};
use crate::sandbox_config::log_directory;
use crate::usage::DiskUsage;

/// Entries in one look, over all directories; in one of them a tenth of it before it is the next one's turn.
pub(super) const ENTRIES_PER_LOOK: usize = 100_000;
/// The runtime has so long at each look to tell of writable layers.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Volume(String),
    Logs(String),
}

/// A directory of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    uid: String,
    what: What,
    dir: PathBuf,
}

/// The directories of pods that can grow.
pub(super) fn places(agent: &Agent, pods: &[Pod]) -> Vec<Place> {
    let mut places = Vec::new();
    for pod in pods {
        let uid = uid(pod);
        let volumes = agent.pod_dir(pod).join("volumes/kubernetes.io~empty-dir");
        places.extend(on_disk(pod).map(|v| Place {
            uid: uid.clone(),
            what: What::Volume(v.name.clone()),
            dir: volumes.join(&v.name),
        }));
        let logs = log_directory(agent, pod);
        let spec = pod.spec.iter();
        let containers = spec.flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
        places.extend(containers.map(|c| Place {
            uid: uid.clone(),
            what: What::Logs(c.name.clone()),
            dir: logs.join(&c.name),
        }));
    }
    places
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// What is known of one directory.
#[derive(Default)]
struct Measured {
    meter: tree::Meter,
    /// It was looked at whole since this look began.
    done: bool,
}

impl Measured {
    /// Goes on; gives how many entries it looked at.
    fn go_on(&mut self, place: &Place, entries: usize) -> usize {
        match self.meter.step(&place.dir, entries) {
            Ok((seen, whole)) => {
                self.done = whole;
                seen
            }
            Err(error) => {
                // A container that has not written yet has no directory of logs.
                let hidden = error.kind() != std::io::ErrorKind::NotFound;
                self.meter.set(Usage {
                    hidden,
                    ..Usage::default()
                });
                self.done = true;
                0
            }
        }
    }

    fn usage(&self) -> Usage {
        self.meter.usage()
    }
}

/// All that is known.
#[derive(Default)]
pub(super) struct Meter {
    measured: HashMap<Place, Measured>,
    /// Writable layers by pod and container, from the runtime.
    layers: HashMap<String, BTreeMap<String, Usage>>,
    /// Whose turn it is to be asked for first.
    next: usize,
}

impl Meter {
    /// Looks at up to `entries` more in these directories and forgets all others. Blocks, for a bounded time.
    pub(super) fn look(&mut self, places: &[Place], entries: usize) {
        let wanted: HashSet<&Place> = places.iter().collect();
        self.measured.retain(|place, _| wanted.contains(place));
        for place in places {
            self.measured.entry(place.clone()).or_default().done = false;
        }
        let (mut left, turn) = (entries, entries.div_ceil(10));
        loop {
            let mut busy = false;
            for (place, measured) in self.measured.iter_mut().filter(|(_, m)| !m.done) {
                if left == 0 {
                    return;
                }
                left -= measured.go_on(place, left.min(turn));
                busy = true;
            }
            if !busy {
                return;
            }
        }
    }

    /// Asks the runtime for the writable layers of these pods, as many as it tells in time: the next look begins with
    /// the others. What was known of them still counts.
    pub(super) async fn layers(&mut self, agent: &Agent, pods: &[Pod]) {
        let wanted: Vec<String> = pods.iter().map(uid).collect();
        self.layers.retain(|uid, _| wanted.contains(uid));
        let end = Instant::now() + LIMIT;
        for step in 0..wanted.len() {
            let uid = &wanted[(self.next + step) % wanted.len()];
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, layers_of(agent, uid)).await {
                Ok(Some(layers)) => {
                    self.layers.insert(uid.clone(), layers);
                }
                Ok(None) => {}
                Err(_) => {
                    // This one is too slow to come first again.
                    self.next = self.next.wrapping_add(step + 1);
                    return;
                }
            }
        }
    }

    /// Volumes and logs of all pods, as far as they are known.
    pub(super) fn by_pod(&self) -> HashMap<String, DiskUsage> {
        let mut pods: HashMap<String, DiskUsage> = HashMap::new();
        for (place, measured) in &self.measured {
            let pod = pods.entry(place.uid.clone()).or_default();
            match &place.what {
                What::Volume(name) => pod.volumes.insert(name.clone(), measured.usage()),
                What::Logs(name) => pod.logs.insert(name.clone(), measured.usage()),
            };
        }
        pods
    }

    /// What a pod holds, as far as it is known.
    pub(super) fn usage(&self, pod: &Pod) -> PodUsage {
        let uid = uid(pod);
        let mut usage = PodUsage::default();
        for (place, measured) in self.measured.iter().filter(|(place, _)| place.uid == uid) {
            match &place.what {
                What::Volume(name) => usage.volumes.insert(name.clone(), measured.usage()),
                What::Logs(name) => usage.containers.insert(name.clone(), measured.usage()),
            };
        }
        for (name, layer) in self.layers.get(&uid).into_iter().flatten() {
            usage
                .containers
                .entry(name.clone())
                .or_default()
                .add(*layer);
        }
        usage
    }
}

/// The writable layers of a pod's containers; `None` when the runtime does not tell.
async fn layers_of(agent: &Agent, uid: &str) -> Option<BTreeMap<String, Usage>> {
    let selector = HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let filter = ContainerStatsFilter {
        label_selector: selector,
        ..ContainerStatsFilter::default()
    };
    let request = ListContainerStatsRequest {
        filter: Some(filter),
    };
    let answer = agent.cri.runtime().list_container_stats(request).await;
    let answer = answer
        .inspect_err(|e| debug!(uid, error = %rpc_message(e), "no statistics of writable layers"))
        .ok()?;
    let mut layers: BTreeMap<String, Usage> = BTreeMap::new();
    for stats in answer.into_inner().stats {
        let name = stats
            .attributes
            .and_then(|a| a.labels.get(labels::CONTAINER_NAME).cloned());
        let (Some(name), Some(layer)) = (name, stats.writable_layer) else {
            continue;
        };
        layers.entry(name).or_default().add(Usage {
            bytes: layer.used_bytes.map_or(0, |v| v.value),
            inodes: layer.inodes_used.map_or(0, |v| v.value),
            hidden: false,
        });
    }
    Some(layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_testkit::PodBuilder;
    use std::fs;

    fn place(name: &str, dir: PathBuf) -> Place {
        Place {
            uid: "uid-p".to_owned(),
            what: What::Volume(name.to_owned()),
            dir,
        }
    }

    #[test]
    fn a_large_directory_does_not_keep_the_small_ones_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let (large, small) = (dir.path().join("large"), dir.path().join("small"));
        fs::create_dir(&large).unwrap();
        fs::create_dir(&small).unwrap();
        (0..1050).for_each(|n| fs::write(large.join(n.to_string()), "x").unwrap());
        fs::write(small.join("f"), vec![1; 100_000]).unwrap();
        let places = [place("large", large), place("small", small)];
        let pod = PodBuilder::new("p").build();
        let mut meter = Meter::default();
        meter.look(&places, 1000);
        let found = |meter: &Meter, name: &str| meter.usage(&pod).volumes[name].inodes;
        assert_eq!(found(&meter, "small"), 1);
        let first = found(&meter, "large");
        assert!(first < 1000, "{first}");
        meter.look(&places, 1000);
        assert_eq!(found(&meter, "large"), 1050);
        meter.look(&places[1..], 1000);
        assert_eq!(meter.usage(&pod).volumes.len(), 1);
    }
}
