//! What the machine has left, against the stock kubelet's thresholds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_cri_api::v1::ImageFsInfoRequest;
use berth_supervise::unblock;
use nix::sys::statvfs::statvfs;

use crate::agent::Agent;
use crate::machine::meminfo_bytes;

/// `memory.available<100Mi`.
const MEMORY: i64 = 100 << 20;
/// `nodefs.available<10%` and `imagefs.available<15%`, but never more than this: it is plenty on a large disk.
const DISK: u64 = 5 << 30;
const NODE_PERCENT: u64 = 10;
const IMAGE_PERCENT: u64 = 15;
/// `nodefs.inodesFree<5%` and `imagefs.inodesFree<5%`.
const INODES_PERCENT: u64 = 5;
/// The runtime has so long to say where its images are.
const LIMIT: Duration = Duration::from_secs(5);
/// It is asked again after this long: the answer may cost it a walk over all images.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// A resource that can run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    Memory,
    NodeDisk,
    NodeInodes,
    ImageDisk,
    ImageInodes,
}

impl Short {
    pub(super) fn name(self) -> &'static str {
        match self {
            Short::Memory => "memory",
            Short::NodeDisk | Short::ImageDisk => "ephemeral-storage",
            Short::NodeInodes | Short::ImageInodes => "inodes",
        }
    }

    /// The resource's name in requests; nobody can ask for inodes.
    pub(super) fn requested(self) -> Option<&'static str> {
        match self {
            Short::Memory | Short::NodeDisk | Short::ImageDisk => Some(self.name()),
            Short::NodeInodes | Short::ImageInodes => None,
        }
    }

    /// It shows as DiskPressure.
    pub(super) fn is_of_disk(self) -> bool {
        match self {
            Short::Memory => false,
            Short::NodeDisk | Short::NodeInodes | Short::ImageDisk | Short::ImageInodes => true,
        }
    }
}

/// How much is left, and below which amount it is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) short: Short,
    pub(super) available: i64,
    pub(super) threshold: i64,
}

impl Reading {
    pub(super) fn is_short(&self) -> bool {
        self.available < self.threshold
    }
}

/// Where the runtime's images are, as it last said.
#[derive(Default)]
pub(super) struct Signals {
    images: Option<(PathBuf, Instant)>,
}

impl Signals {
    /// Reads what can be read.
    pub(super) async fn read(&mut self, agent: &Agent) -> Vec<Reading> {
        let known = self.images.as_ref();
        if known.is_none_or(|(_, asked)| asked.elapsed() >= ASK_AGAIN)
            && let Some(dir) = image_dir(agent).await
        {
            self.images = Some((dir, Instant::now()));
        }
        let node = agent.config.root_dir.clone();
        let images = self.images.as_ref().map(|(dir, _)| dir.clone());
        unblock(move || {
            let mut readings: Vec<Reading> = memory().into_iter().collect();
            let (bytes, inodes) = (Short::NodeDisk, Short::NodeInodes);
            readings.extend(disk(&node, NODE_PERCENT, bytes, inodes));
            if let Some(dir) = images {
                let (bytes, inodes) = (Short::ImageDisk, Short::ImageInodes);
                readings.extend(disk(&dir, IMAGE_PERCENT, bytes, inodes));
            }
            readings
        })
        .await
    }
}

async fn image_dir(agent: &Agent) -> Option<PathBuf> {
    let mut images = agent.cri.images();
    let call = images.image_fs_info(ImageFsInfoRequest {});
    let answer = tokio::time::timeout(LIMIT, call).await.ok()?.ok()?;
    let file_systems = answer.into_inner().image_filesystems;
    let place = file_systems.into_iter().find_map(|f| f.fs_id)?;
    Some(PathBuf::from(place.mountpoint))
}

fn memory() -> Option<Reading> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    Some(Reading {
        short: Short::Memory,
        available: meminfo_bytes(&info, "MemAvailable:")?,
        threshold: MEMORY,
    })
}

fn disk(dir: &Path, percent: u64, bytes: Short, inodes: Short) -> Vec<Reading> {
    let Ok(disk) = statvfs(dir) else {
        return Vec::new();
    };
    let size = disk.fragment_size();
    let total = disk.blocks().saturating_mul(size);
    let left = disk.blocks_available().saturating_mul(size);
    [
        reading(bytes, left, share(total, percent).min(DISK)),
        // Some file systems make inodes as they need them, and say that they have none.
        (disk.files() > 0)
            .then(|| {
                let threshold = share(disk.files(), INODES_PERCENT);
                reading(inodes, disk.files_available(), threshold)
            })
            .flatten(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn share(total: u64, percent: u64) -> u64 {
    total / 100 * percent
}

fn reading(short: Short, available: u64, threshold: u64) -> Option<Reading> {
    Some(Reading {
        short,
        available: i64::try_from(available).ok()?,
        threshold: i64::try_from(threshold).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_gives_bytes_and_inodes() {
        let found = disk(
            Path::new("/proc/self/../.."),
            10,
            Short::NodeDisk,
            Short::NodeInodes,
        );
        assert!(found.iter().any(|r| r.short == Short::NodeDisk));
        assert!(disk(Path::new("/none"), 10, Short::NodeDisk, Short::NodeInodes).is_empty());
    }

    #[test]
    fn below_the_threshold_it_is_short() {
        let at = |available| reading(Short::NodeInodes, available, share(1000, 5)).unwrap();
        assert!(at(49).is_short());
        assert!(!at(50).is_short());
        assert!(Short::ImageInodes.is_of_disk() && !Short::Memory.is_of_disk());
    }
}
