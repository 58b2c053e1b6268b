//! Cgroups of pods, in every hierarchy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The kernel takes a moment to let go of a cgroup whose last process was killed.
const LIMIT: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(25);

/// Removes the cgroups `pod<uid>` (and systemd's `...pod<uid with underscores>.slice`), and those with the id of a sandbox or
/// container for a name; answers how many.
pub(super) async fn remove(pods: &[String], ids: &[String]) -> usize {
    // 64 random digits are nobody else's name.
    let is_id = |id: &&String| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ids: Vec<&String> = ids.iter().filter(is_id).collect();
    if pods.is_empty() && ids.is_empty() {
        return 0;
    }
    let mut names: Vec<String> = pods.iter().map(|uid| format!("pod{uid}")).collect();
    names.extend(
        pods.iter()
            .map(|uid| format!("pod{}.slice", uid.replace('-', "_"))),
    );
    names.extend(ids.into_iter().cloned());
    let mut found = Vec::new();
    find(Path::new("/sys/fs/cgroup"), 5, &names, &mut found);
    let end = Instant::now() + LIMIT;
    loop {
        for cgroup in &found {
            remove_tree(cgroup);
        }
        let left = found.iter().filter(|cgroup| cgroup.exists()).count();
        if left == 0 || Instant::now() > end {
            return found.len() - left;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn find(dir: &Path, depth: usize, names: &[String], found: &mut Vec<PathBuf>) {
    for child in children(dir) {
        let name = child
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if names
            .iter()
            .any(|wanted| name == wanted || name.ends_with(&format!("-{wanted}")))
        {
            found.push(child);
        } else if depth > 0 {
            find(&child, depth - 1, names, found);
        }
    }
}

/// A cgroup goes with rmdir, after its children; one that still has processes stays.
fn remove_tree(cgroup: &Path) {
    for child in children(cgroup) {
        remove_tree(&child);
    }
    let _still_used = fs::remove_dir(cgroup);
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
