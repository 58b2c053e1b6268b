//! Mounts below the directories: root file systems, volumes, namespace pins.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::mount::{MntFlags, umount2};
use tracing::warn;

/// Detaches them, the deepest first; answers how many there were.
///
/// # Errors
/// When one is left, or nobody can say: what is mounted there is somebody else's, and would be deleted with the directory.
pub(super) fn detach(roots: &[&Path]) -> anyhow::Result<usize> {
    let mut count = 0;
    for point in below(roots)? {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => count += 1,
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => warn!(mount = %point.display(), %error, "cannot unmount"),
        }
    }
    if let Some(left) = below(roots)?.first() {
        bail!("{} is still mounted: nothing was deleted", left.display());
    }
    Ok(count)
}

/// The mounts below the directories, the deepest first.
fn below(roots: &[&Path]) -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .context("cannot read /proc/self/mountinfo, so nothing was deleted")?;
    let mut points: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        // The directory itself may be somebody's file system; only what lies below is ours.
        .filter(|point| {
            roots
                .iter()
                .any(|root| point.starts_with(root) && point != root)
        })
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    Ok(points)
}

/// mountinfo writes blanks and backslashes in octal.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}
