//! The resources of plugins, their devices, and which pods hold which. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_kubelet_api::device_plugin::device_plugin_client::DevicePluginClient;
use berth_kubelet_api::device_plugin::{Device, DevicePluginOptions};
use tokio::sync::Mutex as Turn;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::HealthyDevices;
use super::record::PodDevices;

/// A plugin that is away longer has taken its resource with it; until then its devices are unhealthy.
const STOP_GRACE: Duration = Duration::from_secs(300);
/// So many resources of plugins a node has: a plugin that registers new names again and again fills neither the Node
/// nor the agent's memory.
pub(super) const MAX_RESOURCES: usize = 256;
/// An id is no longer than this.
const MAX_ID: usize = 1024;
/// What a device's health says when it can be used.
const HEALTHY: &str = "Healthy";

/// Speaks with a plugin.
pub(super) type Client = DevicePluginClient<Channel>;

/// Of one resource, how many devices there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) all: usize,
    pub(crate) healthy: usize,
}

/// A plugin that is connected.
#[derive(Clone)]
pub(super) struct Plugin {
    pub(super) client: Client,
    pub(super) options: DevicePluginOptions,
}

struct Known {
    healthy: bool,
    numa: Vec<i64>,
}

/// One resource.
#[derive(Default)]
struct Resource {
    /// Counts registrations: what an older one still says is not heard.
    generation: u64,
    /// Ends the task that follows the plugin.
    stop: CancellationToken,
    plugin: Option<Plugin>,
    /// A plugin has listed its devices since the agent began.
    listed: bool,
    /// Since when there is no plugin.
    lost: Option<Instant>,
    devices: BTreeMap<String, Known>,
    /// Held by whoever allocates of it.
    turn: Arc<Turn<()>>,
}

/// Why a plugin is not registered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the node has the resources of {MAX_RESOURCES} device plugins already")]
pub(super) struct TooMany;

/// What a plugin's list changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The counts of the Node.
    pub(super) counts: bool,
    /// Pods that hold a device whose health changed.
    pub(super) pods: Vec<String>,
}

/// Why a plugin's list is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum ListError {
    #[error("a device has an empty id")]
    Empty,
    #[error("the id of a device has {0} bytes, more than {MAX_ID}")]
    Long(usize),
    #[error("device {0:?} is listed twice")]
    Twice(String),
}

/// What can be given to a container of one resource.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Of the pod's own init containers, to be taken first.
    pub(super) reused: Vec<String>,
    /// Healthy and free.
    pub(super) available: Vec<String>,
    /// How many of them are needed.
    pub(super) needed: usize,
}

/// Why nothing can be given; the stock kubelet's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotAvailable {
    #[error("cannot allocate unregistered device {0}")]
    Unregistered(String),
    #[error("no healthy devices present; cannot allocate unhealthy devices {0}")]
    Unhealthy(String),
    #[error(
        "requested number of devices unavailable for {resource}. Requested: {requested}, Available: {available}"
    )]
    TooFew {
        resource: String,
        requested: usize,
        available: usize,
    },
    #[error(
        "{} cannot be read, so it is not known which devices its pod has; remove it when that pod has ended", .0.display()
    )]
    Record(PathBuf),
}

/// Everything that is known.
pub(super) struct State {
    resources: BTreeMap<String, Resource>,
    pub(super) pods: BTreeMap<String, PodDevices>,
    unreadable: Vec<PathBuf>,
    /// Which resources were plugins' before the agent began is not known.
    unsure: bool,
}

impl State {
    pub(super) fn new(
        names: Option<BTreeSet<String>>,
        pods: BTreeMap<String, PodDevices>,
        unreadable: Vec<PathBuf>,
    ) -> Self {
        let held = pods.values().flat_map(|pod| pod.containers.values());
        let held = held.flat_map(|resources| resources.keys().cloned());
        let unsure = names.is_none();
        let names = names.unwrap_or_default();
        let names: BTreeSet<String> = names.into_iter().chain(held).collect();
        let resources = names.into_iter().map(|name| (name, Resource::default()));
        Self {
            resources: resources.collect(),
            pods,
            unreadable,
            unsure,
        }
    }

    /// It is, was, or may have been a plugin's.
    pub(super) fn is_known(&self, resource: &str) -> bool {
        self.resources.contains_key(resource)
            || self.unsure && berth_core::resource_list::is_extended(resource)
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.resources.keys().cloned().collect()
    }

    /// A plugin registers: the one before it is no longer heard. Gives its number, and what ends it.
    pub(super) fn register(&mut self, resource: &str) -> Result<(u64, CancellationToken), TooMany> {
        if !self.resources.contains_key(resource) && self.resources.len() >= MAX_RESOURCES {
            return Err(TooMany);
        }
        let entry = self.resources.entry(resource.to_owned()).or_default();
        entry.stop.cancel();
        entry.stop = CancellationToken::new();
        entry.generation += 1;
        Ok((entry.generation, entry.stop.clone()))
    }

    fn current(&mut self, resource: &str, generation: u64) -> Option<&mut Resource> {
        let entry = self.resources.get_mut(resource)?;
        (entry.generation == generation).then_some(entry)
    }

    pub(super) fn connected(&mut self, resource: &str, generation: u64, plugin: Plugin) {
        if let Some(entry) = self.current(resource, generation) {
            entry.plugin = Some(plugin);
            entry.lost = None;
        }
    }

    /// Takes a plugin's list, whole or not at all.
    pub(super) fn listed(
        &mut self,
        resource: &str,
        generation: u64,
        list: Vec<Device>,
    ) -> Result<Changes, ListError> {
        let mut devices = BTreeMap::new();
        for device in list {
            if device.id.is_empty() {
                return Err(ListError::Empty);
            }
            if device.id.len() > MAX_ID {
                return Err(ListError::Long(device.id.len()));
            }
            let numa = device.topology.into_iter().flat_map(|t| t.nodes);
            let known = Known {
                healthy: device.health == HEALTHY,
                numa: numa.map(|node| node.id).collect(),
            };
            if devices.insert(device.id.clone(), known).is_some() {
                return Err(ListError::Twice(device.id));
            }
        }
        let Some(entry) = self.current(resource, generation) else {
            return Ok(Changes::default());
        };
        let before = entry.count();
        let old = std::mem::replace(&mut entry.devices, devices);
        let first = !std::mem::replace(&mut entry.listed, true);
        let counts = before != entry.count() || first;
        Ok(Changes {
            counts,
            pods: self.holders(resource, &old),
        })
    }

    /// The plugin is gone: nobody says any more how its devices are.
    pub(super) fn lost(&mut self, resource: &str, generation: u64, now: Instant) -> Changes {
        let Some(entry) = self.current(resource, generation) else {
            return Changes::default();
        };
        entry.plugin = None;
        entry.lost = Some(now);
        let ill = entry.devices.iter().map(|(id, known)| {
            let known = Known {
                healthy: false,
                numa: known.numa.clone(),
            };
            (id.clone(), known)
        });
        let ill = ill.collect();
        let old = std::mem::replace(&mut entry.devices, ill);
        Changes {
            counts: true,
            pods: self.holders(resource, &old),
        }
    }

    /// Pods that hold a device whose health is another one than in `old`.
    fn holders(&self, resource: &str, old: &BTreeMap<String, Known>) -> Vec<String> {
        let Some(entry) = self.resources.get(resource) else {
            return Vec::new();
        };
        let healthy = |all: &BTreeMap<String, Known>, id: &String| all.get(id).map(|k| k.healthy);
        let changed = |id: &String| healthy(old, id) != healthy(&entry.devices, id);
        let pods = self.pods.iter().filter(|(_, pod)| {
            let mut of_it = pod.containers.values().filter_map(|c| c.get(resource));
            of_it.any(|allocated| allocated.ids.iter().any(changed))
        });
        pods.map(|(uid, _)| uid.clone()).collect()
    }

    pub(super) fn plugin(&self, resource: &str) -> Option<Plugin> {
        self.resources.get(resource)?.plugin.clone()
    }

    pub(super) fn turn(&self, resource: &str) -> Option<Arc<Turn<()>>> {
        self.resources.get(resource).map(|r| Arc::clone(&r.turn))
    }

    /// What `count` devices for a container can be taken from.
    pub(super) fn choose(
        &self,
        resource: &str,
        count: usize,
        reusable: &BTreeSet<String>,
    ) -> Result<Choice, NotAvailable> {
        if let Some(path) = self.unreadable.iter().find(|path| path.exists()) {
            return Err(NotAvailable::Record(path.clone()));
        }
        let unregistered = || NotAvailable::Unregistered(resource.to_owned());
        let entry = self.resources.get(resource).ok_or_else(unregistered)?;
        if !entry.listed {
            return Err(unregistered());
        }
        let healthy = |id: &str| entry.devices.get(id).is_some_and(|known| known.healthy);
        if !entry.devices.values().any(|known| known.healthy) {
            return Err(NotAvailable::Unhealthy(resource.to_owned()));
        }
        let reused: Vec<String> = reusable
            .iter()
            .filter(|id| healthy(id))
            .take(count)
            .cloned()
            .collect();
        let taken: BTreeSet<&str> = self.taken(resource).collect();
        let free = entry.devices.iter().filter(|(_, known)| known.healthy);
        let free = free.filter(|(id, _)| !taken.contains(id.as_str()));
        let available: Vec<String> = free.map(|(id, _)| id.clone()).collect();
        let needed = count - reused.len();
        if available.len() < needed {
            return Err(NotAvailable::TooFew {
                resource: resource.to_owned(),
                requested: needed,
                available: available.len(),
            });
        }
        Ok(Choice {
            reused,
            available,
            needed,
        })
    }

    fn taken<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a str> {
        let containers = self.pods.values().flat_map(|pod| pod.containers.values());
        let of_it = containers.filter_map(move |resources| resources.get(resource));
        of_it.flat_map(|allocated| allocated.ids.iter().map(String::as_str))
    }

    /// A resource whose plugin is away for long counts nothing; its name stays, so that the Node says so.
    pub(super) fn counts(&self, now: Instant) -> BTreeMap<String, Count> {
        let count = |entry: &Resource| match entry.lost {
            Some(since) if now.duration_since(since) > STOP_GRACE => Count::default(),
            Some(_) | None => entry.count(),
        };
        let all = self.resources.iter();
        all.map(|(name, entry)| (name.clone(), count(entry)))
            .collect()
    }

    pub(super) fn healthy(&self) -> Vec<(String, HealthyDevices)> {
        let devices = |entry: &Resource| {
            let healthy = entry.devices.iter().filter(|(_, known)| known.healthy);
            healthy
                .map(|(id, known)| (id.clone(), known.numa.clone()))
                .collect()
        };
        let all = self.resources.iter();
        all.map(|(name, entry)| (name.clone(), devices(entry)))
            .collect()
    }

    pub(super) fn numa(&self, resource: &str, ids: &[String]) -> Vec<i64> {
        let Some(entry) = self.resources.get(resource) else {
            return Vec::new();
        };
        let nodes = ids.iter().filter_map(|id| entry.devices.get(id));
        let nodes: BTreeSet<i64> = nodes.flat_map(|known| known.numa.clone()).collect();
        nodes.into_iter().collect()
    }

    /// As a pod's status has it. A device of which the plugin no longer says anything is unhealthy; before a plugin
    /// has said anything since the agent began, nobody knows.
    pub(super) fn health(&self, resource: &str, id: &str) -> &'static str {
        let Some(entry) = self.resources.get(resource).filter(|r| r.listed) else {
            return "Unknown";
        };
        match entry.devices.get(id) {
            Some(known) if known.healthy => HEALTHY,
            Some(_) | None => "Unhealthy",
        }
    }
}

impl Resource {
    fn count(&self) -> Count {
        Count {
            all: self.devices.len(),
            healthy: self.devices.values().filter(|known| known.healthy).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Allocated;
    use super::*;

    const GPU: &str = "v.com/gpu";

    fn device(id: &str, health: &str) -> Device {
        Device {
            id: id.to_owned(),
            health: health.to_owned(),
            topology: None,
        }
    }

    fn with(devices: &[(&str, &str)]) -> (State, u64) {
        let mut state = State::new(Some(BTreeSet::new()), BTreeMap::new(), Vec::new());
        let (generation, _) = state.register(GPU).unwrap();
        let list = devices.iter().map(|(id, health)| device(id, health));
        state.listed(GPU, generation, list.collect()).unwrap();
        (state, generation)
    }

    fn hold(state: &mut State, uid: &str, ids: &[&str]) {
        let allocated = Allocated {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            pre_start: false,
            answer: Default::default(),
        };
        let resources = BTreeMap::from([(GPU.to_owned(), allocated)]);
        let pod = PodDevices {
            containers: [("c".to_owned(), resources)].into(),
        };
        state.pods.insert(uid.to_owned(), pod);
    }

    #[test]
    fn a_device_that_is_held_or_ill_is_not_given() {
        let all = [
            ("a", HEALTHY),
            ("b", HEALTHY),
            ("c", "Unhealthy"),
            ("d", HEALTHY),
        ];
        let (mut state, _) = with(&all);
        hold(&mut state, "u1", &["b"]);
        let none = BTreeSet::new();
        let choice = state.choose(GPU, 2, &none).unwrap();
        assert_eq!(
            (choice.available, choice.needed),
            (vec!["a".to_owned(), "d".to_owned()], 2)
        );
        let refused = state.choose(GPU, 3, &none).unwrap_err().to_string();
        assert_eq!(
            refused,
            "requested number of devices unavailable for v.com/gpu. Requested: 3, Available: 2"
        );
        // What the pod's own init containers had comes first.
        let own = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
        let choice = state.choose(GPU, 3, &own).unwrap();
        assert_eq!((choice.reused, choice.needed), (vec!["b".to_owned()], 2));
    }

    #[test]
    fn a_plugin_that_goes_leaves_ill_devices_and_after_a_while_none() {
        let (mut state, generation) = with(&[("a", HEALTHY), ("b", HEALTHY)]);
        hold(&mut state, "u1", &["b"]);
        let now = Instant::now();
        assert_eq!(state.counts(now)[GPU], Count { all: 2, healthy: 2 });
        let changes = state.lost(GPU, generation, now);
        assert_eq!(changes.pods, ["u1"]);
        assert_eq!(state.counts(now)[GPU], Count { all: 2, healthy: 0 });
        assert_eq!(state.health(GPU, "b"), "Unhealthy");
        let refused = state.choose(GPU, 1, &BTreeSet::new()).unwrap_err();
        assert_eq!(refused, NotAvailable::Unhealthy(GPU.to_owned()));
        let later = now + STOP_GRACE + Duration::from_secs(1);
        assert_eq!(state.counts(later)[GPU], Count::default());
        // Another registration, and what the first one still says is not heard.
        let (second, _) = state.register(GPU).unwrap();
        state
            .listed(GPU, second, vec![device("b", HEALTHY)])
            .unwrap();
        assert_eq!(state.lost(GPU, generation, now), Changes::default());
        assert_eq!(state.health(GPU, "b"), HEALTHY);
    }

    #[test]
    fn after_a_restart_a_resource_is_known_before_its_plugin_is_back() {
        let names = BTreeSet::from([GPU.to_owned()]);
        let mut state = State::new(Some(names), BTreeMap::new(), Vec::new());
        assert!(state.is_known(GPU) && !state.is_known("v.com/other"));
        let refused = state
            .choose(GPU, 1, &BTreeSet::new())
            .unwrap_err()
            .to_string();
        assert_eq!(refused, "cannot allocate unregistered device v.com/gpu");
        assert_eq!(state.health(GPU, "a"), "Unknown");
        assert_eq!(state.counts(Instant::now())[GPU], Count::default());
        hold(&mut state, "u1", &["a"]);
        let (generation, _) = state.register(GPU).unwrap();
        state
            .listed(GPU, generation, vec![device("a", HEALTHY)])
            .unwrap();
        assert!(matches!(
            state.choose(GPU, 1, &BTreeSet::new()),
            Err(NotAvailable::TooFew { available: 0, .. })
        ));
    }

    #[test]
    fn names_that_cannot_be_read_make_every_extended_resource_a_plugins() {
        let state = State::new(None, BTreeMap::new(), Vec::new());
        assert!(state.is_known(GPU) && !state.is_known("cpu"));
        let refused = state.choose(GPU, 1, &BTreeSet::new()).unwrap_err();
        assert_eq!(refused, NotAvailable::Unregistered(GPU.to_owned()));
    }

    #[test]
    fn a_record_that_is_not_understood_holds_up_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.json");
        std::fs::write(&path, "").unwrap();
        let (mut state, _) = with(&[("a", HEALTHY)]);
        state.unreadable.push(path.clone());
        let refused = state
            .choose(GPU, 1, &BTreeSet::new())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("devices.json cannot be read"), "{refused}");
        std::fs::remove_file(&path).unwrap();
        state.choose(GPU, 1, &BTreeSet::new()).unwrap();
    }

    #[test]
    fn lists_that_lie_are_not_taken() {
        let (mut state, generation) = with(&[("a", HEALTHY)]);
        for (list, error) in [
            (vec![device("", HEALTHY)], ListError::Empty),
            (
                vec![device(&"x".repeat(2000), HEALTHY)],
                ListError::Long(2000),
            ),
            (
                vec![device("a", HEALTHY), device("a", "Unhealthy")],
                ListError::Twice("a".to_owned()),
            ),
        ] {
            assert_eq!(state.listed(GPU, generation, list), Err(error));
        }
        assert_eq!(state.counts(Instant::now())[GPU].all, 1);
        // Ten thousand are no matter.
        let many = (0..10_000).map(|n| device(&format!("d{n}"), HEALTHY));
        state.listed(GPU, generation, many.collect()).unwrap();
        let begun = Instant::now();
        for n in 0..100 {
            let choice = state.choose(GPU, 1, &BTreeSet::new()).unwrap();
            hold(&mut state, &format!("u{n}"), &[&choice.available[0]]);
        }
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(state.taken(GPU).count(), 100);
    }

    #[test]
    fn the_number_of_resources_is_bounded() {
        let (mut state, _) = with(&[]);
        for n in 1..MAX_RESOURCES {
            state.register(&format!("v.com/r{n}")).unwrap();
        }
        assert_eq!(state.register("v.com/more").unwrap_err(), TooMany);
        state.register(GPU).unwrap();
    }
}
