//! Cgroups of pods, in every hierarchy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tracing::warn;

/// The kernel takes a moment to let go of a cgroup whose last process was killed.
const LIMIT: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(25);
/// For systemd, which has nothing to wait for: the processes were killed before.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

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
    let slices = slices(pods, &found);
    if !slices.is_empty() {
        stop_units(&slices).await;
    }
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

/// The slices among the cgroups that a node agent has had systemd make for these pods. Others with such an end may be of anybody
/// who has a part of the tree to himself, and have no unit.
fn slices(pods: &[String], found: &[PathBuf]) -> Vec<String> {
    let classes = ["", "-burstable", "-besteffort"];
    let names = pods.iter().flat_map(|uid| {
        let uid = uid.replace('-', "_");
        classes.map(|class| format!("kubepods{class}-pod{uid}.slice"))
    });
    let is_there = |name: &String| found.iter().any(|cgroup| cgroup.ends_with(name));
    names.filter(is_there).collect()
}

/// Has systemd stop units. It would keep a slice whose cgroup somebody else has removed.
async fn stop_units(units: &[String]) {
    let stop = Command::new("systemctl")
        .args(["stop", "--"])
        .args(units)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let error = match tokio::time::timeout(STOP_TIMEOUT, stop).await {
        Ok(Ok(output)) if output.status.success() => return,
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Ok(Err(error)) => format!("cannot run systemctl: {error}"),
        Err(_) => format!("no answer after {} s", STOP_TIMEOUT.as_secs()),
    };
    warn!(error, ?units, "systemd has not stopped the slices of pods");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_slices_of_the_pods_are_stopped() {
        let pods = ["a-1".to_owned(), "*".to_owned()];
        let found = [
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_1.slice",
            "kubepods/burstable/poda-1",
            // A user's own, by a name that would stand for another unit.
            "user.slice/ssh*-poda_1.slice",
            "user.slice/xkubepods-poda_1.slice",
        ]
        .map(|path| Path::new("/sys/fs/cgroup").join(path));
        assert_eq!(slices(&pods, &found), ["kubepods-burstable-poda_1.slice"]);
    }
}
