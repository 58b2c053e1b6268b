//! Image garbage: when the image file system is nearly full, unused images go, the largest first
//! among those that no container uses.

use std::collections::HashSet;

use k8s_cri::v1::{
    ImageFsInfoRequest, ImageSpec, ListContainersRequest, ListImagesRequest, RemoveImageRequest,
};
use tracing::{debug, info};

use crate::agent::Agent;

const HIGH: u64 = 85;
const LOW: u64 = 80;

pub(super) async fn collect(agent: &Agent) {
    if let Err(error) = try_collect(agent).await {
        debug!(%error, "image garbage collection");
    }
}

async fn try_collect(agent: &Agent) -> Result<(), tonic::Status> {
    let mut images = agent.cri.images();
    let info = images.image_fs_info(ImageFsInfoRequest {}).await?;
    let Some(mount) = info
        .into_inner()
        .image_filesystems
        .into_iter()
        .find_map(|f| f.fs_id)
    else {
        return Ok(());
    };
    let Ok(disk) = nix::sys::statvfs::statvfs(mount.mountpoint.as_str()) else {
        return Ok(());
    };
    let total = disk.blocks() * disk.fragment_size();
    let free = disk.blocks_available() * disk.fragment_size();
    let used = total.saturating_sub(free);
    if total == 0 || used * 100 / total < HIGH {
        return Ok(());
    }
    let mut to_free = used.saturating_sub(total / 100 * LOW);
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
    let mut list = images
        .list_images(ListImagesRequest { filter: None })
        .await?
        .into_inner()
        .images;
    list.sort_by_key(|i| std::cmp::Reverse(i.size));
    for image in list {
        let used = image.pinned
            || in_use.contains(&image.id)
            || image.repo_tags.iter().any(|t| in_use.contains(t))
            || image.repo_digests.iter().any(|d| in_use.contains(d));
        if used {
            continue;
        }
        if to_free == 0 {
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
        to_free = to_free.saturating_sub(image.size);
    }
    Ok(())
}
