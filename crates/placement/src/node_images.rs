//! The images that a node has.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::ContainerImage;

/// The names of a node's images: their hashes in order, and the image of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeImages(pub(super) Vec<(u64, usize)>);

/// The hash of a name.
pub(super) fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
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

    /// The names, each once.
    pub(super) fn names(&self) -> impl Iterator<Item = u64> + '_ {
        let mut last = None;
        let names = self.0.iter().map(|(hash, _)| *hash);
        names.filter(move |hash| last.replace(*hash) != Some(*hash))
    }
}
