//! Which cgroup hierarchy a host has, and which controllers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The three ways in which Linux hosts mount cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupMode {
    /// Version 1 only.
    V1,
    /// Version 1 controllers, plus a version 2 tree (usually at `/sys/fs/cgroup/unified`).
    Hybrid,
    /// Version 2 only.
    V2,
}

/// The host's cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// How cgroups are mounted.
    pub mode: CgroupMode,
    /// Controllers that can be used: of v2's root, or the mounted ones of v1.
    pub controllers: BTreeSet<String>,
    /// Mount point by controller; for v2 all point to the one mount.
    pub mounts: BTreeMap<String, PathBuf>,
    /// Mount point of the version 2 tree in hybrid and v2 mode.
    pub unified: Option<PathBuf>,
}

impl Cgroups {
    /// Reads this process's mount table.
    #[must_use]
    pub fn detect() -> Self {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::from_mountinfo(&table, |unified| {
            std::fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default()
        })
    }

    /// Decides from the text of a `mountinfo`; `v2_controllers` reads a v2 mount's `cgroup.controllers`.
    pub fn from_mountinfo(table: &str, v2_controllers: impl Fn(&Path) -> String) -> Self {
        const FLAGS: [&str; 7] = [
            "rw",
            "ro",
            "xattr",
            "noprefix",
            "clone_children",
            "nsdelegate",
            "seclabel",
        ];
        let mut mounts = BTreeMap::new();
        let mut unified = None;
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = left.split(' ').nth(4) else {
                continue;
            };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") => {
                    unified.get_or_insert_with(|| PathBuf::from(point));
                }
                Some("cgroup") => {
                    for option in right.nth(1).unwrap_or_default().split(',') {
                        if !FLAGS.contains(&option) && !option.starts_with("release_agent=") {
                            mounts
                                .entry(option.to_owned())
                                .or_insert_with(|| PathBuf::from(point));
                        }
                    }
                }
                _ => {}
            }
        }
        let mode = match (&unified, mounts.keys().any(|c| !c.starts_with("name="))) {
            (Some(_), true) => CgroupMode::Hybrid,
            (Some(_), false) => CgroupMode::V2,
            (None, _) => CgroupMode::V1,
        };
        if let (CgroupMode::V2, Some(root)) = (mode, &unified) {
            mounts = v2_controllers(root)
                .split_whitespace()
                .map(|c| (c.to_owned(), root.clone()))
                .collect();
        }
        let controllers = mounts
            .keys()
            .filter(|c| !c.starts_with("name="))
            .cloned()
            .collect();
        Self {
            mode,
            controllers,
            mounts,
            unified,
        }
    }

    /// Whether a controller can be used.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.contains(controller)
    }
}

/// Where a spec's cgroup lies below a hierarchy's mount: the path itself, or what systemd makes of `slice:prefix:name`
/// (each dash of a slice's name is a level above it).
#[must_use]
pub fn directory(cgroups_path: &Path) -> PathBuf {
    let text = cgroups_path.to_string_lossy();
    let mut parts = text.split(':');
    let (Some(slice), Some(prefix), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return cgroups_path.to_owned();
    };
    let mut path = PathBuf::from("/");
    // `-.slice` is the root.
    if let Some(slice) = slice.strip_suffix(".slice").filter(|slice| *slice != "-") {
        let ends = slice.match_indices('-').map(|(at, _)| at);
        for end in ends.chain([slice.len()]) {
            path.push(format!("{}.slice", &slice[..end]));
        }
    }
    path.push(if prefix.is_empty() {
        format!("{name}.scope")
    } else {
        format!("{prefix}-{name}.scope")
    });
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_paths_become_directories() {
        for (given, wanted) in [
            ("/pods/abc", "/pods/abc"),
            (
                "system.slice:cri-berth:abc",
                "/system.slice/cri-berth-abc.scope",
            ),
            ("-.slice:cri-berth:abc", "/cri-berth-abc.scope"),
            (
                "kubepods-besteffort-pod1_2.slice:cri-berth:abc",
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-berth-abc.scope",
            ),
        ] {
            assert_eq!(directory(Path::new(given)), Path::new(wanted));
        }
    }

    #[test]
    fn modes_are_told_apart() {
        let v1 = "1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n2 0 0:2 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";
        let v2 = "3 0 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate";
        let none = |_: &Path| String::new();
        let got = Cgroups::from_mountinfo(v1, none);
        assert_eq!(got.mode, CgroupMode::V1);
        assert!(got.has("cpu") && got.has("cpuacct") && !got.has("name=systemd"));
        assert_eq!(
            got.mounts["cpuacct"],
            Path::new("/sys/fs/cgroup/cpu,cpuacct")
        );
        let got = Cgroups::from_mountinfo(&format!("{v1}\n{v2}"), none);
        assert_eq!(got.mode, CgroupMode::Hybrid);
        assert_eq!(
            got.unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        let got =
            Cgroups::from_mountinfo(&v2.replace("/unified", ""), |_| "cpu memory pids\n".into());
        assert_eq!(got.mode, CgroupMode::V2);
        assert!(got.has("pids") && !got.has("hugetlb"));
    }
}
