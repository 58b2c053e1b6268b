//! What the scheduler knows of nodes and pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use berth_core::resources::{Overhead, amounts, requests_of};

use super::node_images::NodeImages;
use super::numbers::Numbers;
use super::term::Terms;

/// What a container without requests counts when nodes are compared (not when they are filtered), as in the
/// stock scheduler.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Address, protocol and port on the node.
pub(super) type HostPort = (String, String, i32);

/// What matters of a pod for its placement.
#[derive(Debug, Clone)]
pub struct PodInfo {
    pub(super) pod: Arc<Pod>,
    pub(super) requests: Numbers,
    pub(super) compared: (i64, i64),
    pub(super) host_ports: BTreeSet<HostPort>,
    /// What it says of other pods; of most pods there is nothing.
    pub(super) terms: Option<Arc<Terms>>,
    /// The pods from which it is kept apart where it says nothing of it itself.
    pub(super) siblings: Option<Arc<LabelSelector>>,
}

impl PodInfo {
    /// Computes it.
    #[must_use]
    pub fn new(pod: Arc<Pod>, overhead: Overhead) -> Self {
        let (requests, host_ports) = match &pod.spec {
            Some(spec) => (Numbers::new(&requests_of(&pod, overhead)), host_ports(spec)),
            None => (Numbers::default(), BTreeSet::new()),
        };
        let compared = pod
            .spec
            .as_ref()
            .map_or((0, 0), |spec| compared(spec, &requests));
        let terms = Terms::of(&pod);
        Self {
            pod,
            requests,
            compared,
            host_ports,
            terms,
            siblings: None,
        }
    }

    /// With the pods from which it is kept apart ([`super::siblings_of`]), unless it has constraints of its own.
    #[must_use]
    pub fn with_siblings(mut self, siblings: Option<LabelSelector>) -> Self {
        if !self.has_constraints() {
            self.siblings = siblings.map(Arc::new);
        }
        self
    }

    /// Whether it says itself how it is spread.
    #[must_use]
    pub fn has_constraints(&self) -> bool {
        let spec = self.pod.spec.as_ref();
        spec.and_then(|spec| spec.topology_spread_constraints.as_ref())
            .is_some_and(|all| !all.is_empty())
    }

    /// The pod.
    #[must_use]
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// Its priority; a pod without has none.
    #[must_use]
    pub fn priority(&self) -> i32 {
        let spec = self.pod.spec.as_ref();
        spec.and_then(|spec| spec.priority).unwrap_or(0)
    }

    /// Whether the pod says something of other pods: affinity or anti-affinity.
    #[must_use]
    pub fn has_terms(&self) -> bool {
        self.terms.is_some()
    }

    /// Whether where the pod may run depends on the pods of other nodes.
    #[must_use]
    pub fn looks_around(&self) -> bool {
        self.has_terms() || self.has_constraints() || self.siblings.is_some()
    }

    /// Whether it is the same pod, not another of the same name.
    #[must_use]
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pod, &other.pod)
            || (self.pod.metadata.uid.is_some() && self.pod.metadata.uid == other.pod.metadata.uid)
    }

    fn repels(&self) -> bool {
        self.terms.iter().any(|terms| !terms.anti.is_empty())
    }
}

fn compared(spec: &PodSpec, requests: &Numbers) -> (i64, i64) {
    let without = |resource: &str| {
        let count = spec
            .containers
            .iter()
            .filter(|container| {
                let requests = container
                    .resources
                    .as_ref()
                    .and_then(|all| all.requests.as_ref());
                requests.is_none_or(|list| !list.contains_key(resource))
            })
            .count();
        i64::try_from(count).unwrap_or(i64::MAX)
    };
    let cpu = without("cpu").saturating_mul(DEFAULT_MILLI_CPU);
    let memory = without("memory").saturating_mul(DEFAULT_MEMORY);
    (
        requests.cpu.saturating_add(cpu),
        requests.memory.saturating_add(memory),
    )
}

fn host_ports(spec: &PodSpec) -> BTreeSet<HostPort> {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|ip| !ip.is_empty());
            Some((
                address.unwrap_or_else(|| "0.0.0.0".to_owned()),
                port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                number,
            ))
        })
        .collect()
}

/// A node, and what the pods on it take.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    pub(super) node: Arc<Node>,
    pub(super) allocatable: Numbers,
    pub(super) taken: Numbers,
    pub(super) compared: (i64, i64),
    pub(super) pods: i64,
    /// None: as many as there is room for.
    pub(super) most_pods: Option<i64>,
    pub(super) images: NodeImages,
    pub(super) host_ports: BTreeMap<HostPort, u32>,
    pub(super) placed: Vec<PodInfo>,
    /// How many of them say something of other pods, and how many keep others away.
    pub(super) with_terms: usize,
    pub(super) repelling: usize,
}

impl NodeInfo {
    /// A node without pods.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let mut info = Self {
            node: Arc::clone(&node),
            allocatable: Numbers::default(),
            taken: Numbers::default(),
            compared: (0, 0),
            pods: 0,
            most_pods: None,
            images: NodeImages::default(),
            host_ports: BTreeMap::new(),
            placed: Vec::new(),
            with_terms: 0,
            repelling: 0,
        };
        info.set_node(node);
        info
    }

    /// The node changed; its pods stay.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        let list =
            status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        self.allocatable = Numbers::new(&amounts(list));
        self.most_pods = self.allocatable.take_pods();
        self.images = NodeImages::new(status.and_then(|status| status.images.as_deref()));
        self.node = node;
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The value of one of its labels.
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        let labels = self.node.metadata.labels.as_ref()?;
        labels.get(key).map(String::as_str)
    }

    /// The pods on it.
    #[must_use]
    pub fn placed(&self) -> &[PodInfo] {
        &self.placed
    }

    /// A pod came onto the node.
    pub fn add(&mut self, pod: &PodInfo) {
        self.placed.push(pod.clone());
        self.with_terms += usize::from(pod.has_terms());
        self.repelling += usize::from(pod.repels());
        self.count(pod, 1);
        for port in &pod.host_ports {
            *self.host_ports.entry(port.clone()).or_default() += 1;
        }
    }

    /// A pod that was added left the node.
    pub fn remove(&mut self, pod: &PodInfo) {
        let at = self.placed.iter().rposition(|other| other.is_same(pod));
        if let Some(at) = at {
            self.placed.swap_remove(at);
        }
        self.with_terms -= usize::from(pod.has_terms());
        self.repelling -= usize::from(pod.repels());
        self.count(pod, -1);
        for port in &pod.host_ports {
            if let Some(users) = self.host_ports.get_mut(port) {
                *users = users.saturating_sub(1);
                if *users == 0 {
                    self.host_ports.remove(port);
                }
            }
        }
    }

    fn count(&mut self, pod: &PodInfo, sign: i64) {
        self.pods += sign;
        self.taken.add(&pod.requests, sign);
        self.compared.0 = self.compared.0.saturating_add(sign * pod.compared.0);
        self.compared.1 = self.compared.1.saturating_add(sign * pod.compared.1);
    }

    /// Whether the node reports this handler; `None` when it reports none at all (an old kubelet).
    #[must_use]
    pub fn has_handler(&self, handler: &str) -> Option<bool> {
        let handlers = self.node.status.as_ref()?.runtime_handlers.as_deref()?;
        if handlers.is_empty() {
            return None;
        }
        Some(
            handlers
                .iter()
                .any(|found| found.name.as_deref().unwrap_or_default() == handler),
        )
    }
}
