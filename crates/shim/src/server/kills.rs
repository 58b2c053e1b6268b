//! Whether the kernel killed something in a container for want of memory, on cgroup v2.
//!
//! A cgroup counts that in its `memory.events`, for itself and all below it. systemd removes a scope as soon as it is
//! empty, which may be before we have looked; what is missing then is in the count of the slice above it. That is
//! asked only when the slice is this pod's alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is known of the pod's containers.
#[derive(Debug, Default)]
pub(super) struct Kills {
    slice: Option<Slice>,
    /// By a container's cgroup.
    counted: BTreeMap<PathBuf, u64>,
}

#[derive(Debug)]
struct Slice {
    dir: PathBuf,
    /// Its count that belongs to none of `counted`.
    before: u64,
}

impl Kills {
    /// Takes note of a new container's cgroup.
    pub(super) fn watch(&mut self, cgroup: &Path) {
        let Some(dir) = slice(cgroup) else {
            return;
        };
        if self.slice.as_ref().is_none_or(|known| known.dir != dir) {
            let before = read(dir).unwrap_or(0);
            let dir = dir.to_owned();
            self.slice = Some(Slice { dir, before });
            self.counted.clear();
        }
        self.counted.entry(cgroup.to_owned()).or_default();
    }

    /// How many processes have been killed in a container.
    pub(super) fn count(&mut self, cgroup: &Path) -> u64 {
        if let Some(count) = read(cgroup) {
            self.counted
                .entry(cgroup.to_owned())
                .and_modify(|known| *known = count);
            return count;
        }
        let missing = self.missing();
        let Some(known) = self.counted.get_mut(cgroup) else {
            return 0;
        };
        *known += missing;
        *known
    }

    /// Forgets a container that is deleted.
    pub(super) fn forget(&mut self, cgroup: &Path) {
        if let (Some(count), Some(slice)) = (self.counted.remove(cgroup), &mut self.slice) {
            slice.before += count;
        }
    }

    /// What the slice has counted and none of the containers that we could ask.
    fn missing(&mut self) -> u64 {
        for (cgroup, known) in &mut self.counted {
            *known = read(cgroup).unwrap_or(*known);
        }
        let Some(slice) = self.slice.as_ref().filter(|slice| self.is_ours(&slice.dir)) else {
            return 0;
        };
        let explained = slice.before + self.counted.values().sum::<u64>();
        read(&slice.dir).unwrap_or(0).saturating_sub(explained)
    }

    fn is_ours(&self, slice: &Path) -> bool {
        std::fs::read_dir(slice).is_ok_and(|entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .all(|entry| {
                    let child = entry.path();
                    self.counted.keys().any(|known| known.starts_with(&child))
                })
        })
    }
}

/// The slice with the scope that a cgroup is, or is below.
fn slice(cgroup: &Path) -> Option<&Path> {
    let is = |path: &Path, kind: &str| path.extension().is_some_and(|found| found == kind);
    let scope = cgroup.ancestors().find(|path| is(path, "scope"))?;
    scope.parent().filter(|path| is(path, "slice"))
}

fn read(cgroup: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(cgroup.join("memory.events")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn set(cgroup: &Path, kills: u64) {
        fs::create_dir_all(cgroup).unwrap();
        let text = format!("low 0\nmax 7\noom 1\noom_kill {kills}\noom_group_kill 0\n");
        fs::write(cgroup.join("memory.events"), text).unwrap();
    }

    #[test]
    fn a_scope_that_is_gone_is_found_in_its_slice() {
        let dir = tempfile::tempdir().unwrap();
        let slice = dir.path().join("pod1.slice");
        let (a, b) = (slice.join("a.scope"), slice.join("b.scope/container"));
        set(&slice, 2);
        set(&a, 0);
        set(&b, 0);
        let mut kills = Kills::default();
        kills.watch(&a);
        kills.watch(&b);
        assert_eq!(kills.count(&a), 0);
        // One in b, which goes on, and one in a, which is gone.
        set(&b, 1);
        set(&slice, 4);
        fs::remove_dir_all(&a).unwrap();
        assert_eq!(kills.count(&a), 1);
        assert_eq!(kills.count(&a), 1);
        assert_eq!(kills.count(&b), 1);
        kills.forget(&a);
        fs::remove_dir_all(b.parent().unwrap()).unwrap();
        assert_eq!(kills.count(&b), 1);
        set(&slice, 6);
        assert_eq!(kills.count(&b), 3);
    }

    #[test]
    fn a_slice_with_others_in_it_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let slice = dir.path().join("system.slice");
        let own = slice.join("a.scope");
        set(&own, 0);
        set(&slice.join("ssh.service"), 0);
        set(&slice, 0);
        let mut kills = Kills::default();
        kills.watch(&own);
        set(&slice, 1);
        fs::remove_dir_all(&own).unwrap();
        assert_eq!(kills.count(&own), 0);
    }

    #[test]
    fn without_systemd_the_cgroup_itself_tells() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("kubepods/pod1/a");
        set(&own, 3);
        let mut kills = Kills::default();
        kills.watch(&own);
        assert_eq!(kills.count(&own), 3);
    }
}
