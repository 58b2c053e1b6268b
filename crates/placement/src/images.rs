//! The images that a node has, found by name without looking at all of them.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::{ContainerImage, Pod};

/// The names of a node's images: their hashes in order, and the image of each.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeImages(Vec<(u64, usize)>);

/// The images that a pod's containers want, each once.
pub(super) struct WantedImages<'p>(Vec<(u64, &'p str)>);

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

impl<'p> WantedImages<'p> {
    pub(super) fn of(pod: &'p Pod) -> Self {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut names: Vec<_> = containers
            .filter_map(|container| container.image.as_deref())
            .map(|name| (hash(name), name))
            .collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }
}

impl NodeImages {
    pub(super) fn new(images: Option<&[ContainerImage]>) -> Self {
        let images = images.unwrap_or_default().iter().enumerate();
        let mut names: Vec<_> = images
            .flat_map(|(at, image)| {
                image
                    .names
                    .iter()
                    .flatten()
                    .map(move |name| (hash(name), at))
            })
            .collect();
        names.sort_unstable();
        Self(names)
    }

    /// The bytes of those that are wanted; an image with several names counts once.
    pub(super) fn bytes(
        &self,
        wanted: &WantedImages<'_>,
        images: Option<&[ContainerImage]>,
    ) -> i64 {
        if self.0.is_empty() {
            return 0;
        }
        let images = images.unwrap_or_default();
        let mut found: Vec<usize> = Vec::new();
        for (hash, name) in &wanted.0 {
            let from = self.0.partition_point(|(other, _)| other < hash);
            let same = self.0[from..].iter().take_while(|(other, _)| other == hash);
            found.extend(same.map(|(_, at)| *at).filter(|at| {
                let names = images.get(*at).and_then(|image| image.names.as_ref());
                names.is_some_and(|names| names.iter().any(|other| other == name))
            }));
        }
        found.sort_unstable();
        found.dedup();
        let sizes = found.into_iter().filter_map(|at| images[at].size_bytes);
        sizes.fold(0, i64::saturating_add)
    }
}
