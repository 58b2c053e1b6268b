//! The images that a node has, found by name without looking at all of them, and how many nodes have each.

use std::borrow::Cow;
use std::collections::HashMap;

use k8s_openapi::api::core::v1::{ContainerImage, Pod};

use super::info::NodeInfo;
use super::node_images::{NodeImages, hash};

/// The images that a pod wants, as often as it names them.
pub(super) struct WantedImages<'p> {
    names: Vec<(u64, Cow<'p, str>)>,
    /// How many containers it has, by which the size of images is weighed.
    containers: i64,
}

/// How many nodes have each image. An image that most nodes have says more for one of them than an image that a few
/// have: else all pods of an image would go where the first of them went.
#[derive(Debug, Clone, Default)]
pub struct ImageSpread {
    nodes: i64,
    /// By the hash of a name; a false hit moves a score a little.
    having: HashMap<u64, i64>,
}

/// An image without a tag means the latest, as nodes report it.
fn with_tag(name: &str) -> Cow<'_, str> {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("{name}:latest"))
    }
}

impl<'p> WantedImages<'p> {
    pub(super) fn of(pod: &'p Pod) -> Self {
        let Some(spec) = &pod.spec else {
            return Self {
                names: Vec::new(),
                containers: 0,
            };
        };
        let init = spec.init_containers.iter().flatten();
        let containers = init.chain(&spec.containers);
        let volumes = spec.volumes.iter().flatten();
        let volumes = volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
        let count = i64::try_from(containers.clone().count()).unwrap_or(i64::MAX);
        let names = containers
            .filter_map(|container| container.image.as_deref())
            .chain(volumes)
            .map(with_tag)
            .map(|name| (hash(&name), name))
            .collect();
        Self {
            names,
            containers: count,
        }
    }

    pub(super) fn containers(&self) -> i64 {
        self.containers
    }
}

impl NodeImages {
    /// The bytes of those that are wanted, each as a share of the nodes that have it.
    pub(super) fn bytes(
        &self,
        wanted: &WantedImages<'_>,
        images: Option<&[ContainerImage]>,
        spread: &ImageSpread,
    ) -> i64 {
        if self.0.is_empty() {
            return 0;
        }
        let images = images.unwrap_or_default();
        let sizes = wanted.names.iter().filter_map(|(hash, name)| {
            let from = self.0.partition_point(|(other, _)| other < hash);
            let mut same = self.0[from..].iter().take_while(|(other, _)| other == hash);
            let image = same.find_map(|(_, at)| {
                let image = images.get(*at)?;
                let mut names = image.names.iter().flatten();
                names.any(|other| other == name).then_some(image)
            })?;
            Some(spread.share(*hash, image.size_bytes?))
        });
        sizes.fold(0, i64::saturating_add)
    }
}

impl ImageSpread {
    /// Of these nodes.
    #[must_use]
    pub fn of<'n>(nodes: impl IntoIterator<Item = &'n NodeInfo>) -> Self {
        let mut all = Self::default();
        for node in nodes {
            all.add(node);
        }
        all
    }

    /// A node came.
    pub fn add(&mut self, node: &NodeInfo) {
        self.count(&node.images, 1);
        self.nodes += 1;
    }

    /// A node went.
    pub fn remove(&mut self, node: &NodeInfo) {
        self.count(&node.images, -1);
        self.nodes -= 1;
    }

    fn count(&mut self, images: &NodeImages, sign: i64) {
        for name in images.names() {
            let having = self.having.entry(name).or_default();
            *having += sign;
            if *having <= 0 {
                self.having.remove(&name);
            }
        }
    }

    /// The size of an image that some node has, weighed by how many nodes have it.
    fn share(&self, name: u64, size: i64) -> i64 {
        let having = self.having.get(&name).copied().unwrap_or(1);
        let nodes = self.nodes.max(having).max(1);
        let share = i128::from(size) * i128::from(having) / i128::from(nodes);
        i64::try_from(share).unwrap_or(size)
    }
}
