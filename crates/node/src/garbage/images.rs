//! Image garbage: when the image file system is nearly full, unused images go, the largest first.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use berth_cri_api::v1::{
    Image, ImageFsInfoRequest, ImageSpec, ListContainersRequest, ListImagesRequest,
    RemoveImageRequest,
};
use berth_supervise::unblock;
use tracing::{debug, info};

use crate::agent::Agent;
use crate::cri::rpc_message;

/// Percent of the file system that starts a collection, and that ends it.
const HIGH: u64 = 85;
const LOW: u64 = 80;
/// An image that was brought in or used since then stays: somebody may be about to run it.
const YOUNG: Duration = Duration::from_secs(120);

/// When each image was last used, or first seen.
#[derive(Default)]
pub(super) struct Collector {
    used: HashMap<String, Instant>,
}

/// Bytes to free so that a disk with `used` and `available` bytes comes down to `LOW` percent; what
/// is neither (reserved blocks) is nobody's.
fn to_free(used: u64, available: u64) -> u64 {
    let total = used + available;
    if total == 0 || used.saturating_mul(100) / total < HIGH {
        return 0;
    }
    used.saturating_sub(total / 100 * LOW)
}

/// Bytes that the image file system should have more.
async fn missing(agent: &Agent) -> Result<u64, tonic::Status> {
    let info = agent
        .cri
        .images()
        .image_fs_info(ImageFsInfoRequest {})
        .await?;
    let mount = info
        .into_inner()
        .image_filesystems
        .into_iter()
        .find_map(|f| f.fs_id);
    let Some(mount) = mount else { return Ok(0) };
    let disk = unblock(move || nix::sys::statvfs::statvfs(mount.mountpoint.as_str()).ok()).await;
    Ok(disk.map_or(0, |disk| {
        let size = disk.fragment_size();
        let used = (disk.blocks() - disk.blocks_free()) * size;
        to_free(used, disk.blocks_available() * size)
    }))
}

impl Collector {
    /// Removes unused images; when it is urgent all of them, else what a nearly full disk needs.
    pub(super) async fn collect(&mut self, agent: &Agent, urgent: bool) {
        if let Err(error) = self.try_collect(agent, urgent).await {
            debug!(error = %rpc_message(&error), "image garbage collection");
        }
    }

    async fn try_collect(&mut self, agent: &Agent, urgent: bool) -> Result<(), tonic::Status> {
        let mut images = agent.cri.images();
        let list = images
            .list_images(ListImagesRequest { filter: None })
            .await?
            .into_inner()
            .images;
        let containers = agent
            .cri
            .runtime()
            .list_containers(ListContainersRequest { filter: None })
            .await?
            .into_inner()
            .containers;
        let mut in_use: HashSet<String> = HashSet::new();
        for c in containers {
            in_use.insert(c.image_ref);
            in_use.insert(c.image_id);
            in_use.extend(c.image.map(|i| i.image));
        }
        let now = Instant::now();
        let mut old = self.unused(list, &in_use, now);

        let mut missing = if urgent {
            u64::MAX
        } else {
            missing(agent).await?
        };
        old.sort_by_key(|i| std::cmp::Reverse(i.size));
        for image in old {
            if missing == 0 {
                break;
            }
            info!(image = %image.id, size = image.size, "removing an unused image: the disk is nearly full");
            let spec = ImageSpec {
                image: image.id,
                ..ImageSpec::default()
            };
            images
                .remove_image(RemoveImageRequest { image: Some(spec) })
                .await?;
            missing = missing.saturating_sub(image.size);
        }
        Ok(())
    }

    /// The images that nobody has used for long enough.
    fn unused(&mut self, list: Vec<Image>, in_use: &HashSet<String>, now: Instant) -> Vec<Image> {
        self.used.retain(|id, _| list.iter().any(|i| &i.id == id));
        let mut old = Vec::new();
        for image in list {
            let used = image.pinned
                || in_use.contains(&image.id)
                || image.repo_tags.iter().any(|t| in_use.contains(t))
                || image.repo_digests.iter().any(|d| in_use.contains(d));
            let last = self.used.entry(image.id.clone()).or_insert(now);
            if used {
                *last = now;
            } else if now.duration_since(*last) >= YOUNG {
                old.push(image);
            }
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_nearly_full_disk_is_cleaned() {
        for (used, available, want) in [
            (0, 0, 0),
            (84, 16, 0),
            (85, 15, 5),
            (100, 0, 20),
            // Reserved blocks are no use of the disk.
            (61, 31, 0),
        ] {
            assert_eq!(to_free(used, available), want, "{used} {available}");
        }
    }

    #[test]
    fn young_used_and_pinned_images_stay() {
        let image = |id: &str, pinned| Image {
            id: id.into(),
            repo_tags: vec![format!("{id}:1")],
            pinned,
            ..Image::default()
        };
        let all = || {
            vec![
                image("old", false),
                image("used", false),
                image("pinned", true),
            ]
        };
        let in_use = HashSet::from(["used:1".to_owned()]);
        let mut c = Collector::default();
        let start = Instant::now();
        assert!(c.unused(all(), &in_use, start).is_empty());
        let later = start + YOUNG;
        let mut list = all();
        list.push(image("young", false));
        let ids: Vec<String> = c
            .unused(list, &in_use, later)
            .into_iter()
            .map(|i| i.id)
            .collect();
        assert_eq!(ids, ["old"]);
    }
}
