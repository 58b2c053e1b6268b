//! Where this machine's cgroups are, in whichever of the three ways they are mounted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is read of version 1.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "blkio"];

/// The mounted trees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Of version 1 (and hybrid), by controller.
    split: BTreeMap<&'static str, PathBuf>,
    /// Of version 2: the only one, or the one beside those of version 1.
    unified: Option<PathBuf>,
}

impl Hierarchy {
    /// Looks below the usual mount point.
    pub(crate) fn detect(mount: &Path) -> Self {
        if mount.join("cgroup.controllers").exists() {
            return Self {
                split: BTreeMap::new(),
                unified: Some(mount.to_owned()),
            };
        }
        // `cpu` may be a link to `cpu,cpuacct`.
        let split = CONTROLLERS.into_iter().filter_map(|name| {
            let dir = std::fs::canonicalize(mount.join(name)).ok()?;
            dir.is_dir().then_some((name, dir))
        });
        let beside = mount.join("unified");
        Self {
            split: split.collect(),
            unified: beside.join("cgroup.controllers").exists().then_some(beside),
        }
    }

    /// Whether version 2 does the accounting.
    pub(crate) fn is_v2(&self) -> bool {
        self.split.is_empty() && self.unified.is_some()
    }

    /// A cgroup's directory in the tree that has a controller.
    pub(crate) fn dir(&self, controller: &str, cgroup: &Path) -> Option<PathBuf> {
        let root = if self.is_v2() {
            self.unified.as_ref()
        } else {
            self.split.get(controller)
        };
        Some(root?.join(relative(cgroup)))
    }

    /// A cgroup's directory in the version 2 tree, where there is one.
    pub(crate) fn unified(&self, cgroup: &Path) -> Option<PathBuf> {
        Some(self.unified.as_ref()?.join(relative(cgroup)))
    }

    /// Whether there is such a cgroup.
    pub(crate) fn has(&self, cgroup: &Path) -> bool {
        self.dir("memory", cgroup).is_some_and(|dir| dir.is_dir())
    }

    /// The cgroup of a container below its pod's, by the names that the runtimes give. Nothing is listed: whoever can
    /// make cgroups there could make any number of them.
    pub(crate) fn container(&self, pod: &Path, id: &str) -> Option<PathBuf> {
        // An ID is a name of the runtime's making, and becomes a part of a path here.
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return None;
        }
        let names = [
            id.to_owned(),
            format!("cri-berth-{id}.scope"),
            format!("cri-containerd-{id}.scope"),
            format!("crio-{id}.scope"),
            format!("crio-{id}"),
        ];
        let mut paths = names.into_iter().map(|name| pod.join(name));
        paths.find(|path| self.has(path))
    }
}

fn relative(cgroup: &Path) -> &Path {
    cgroup.strip_prefix("/").unwrap_or(cgroup)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_three_layouts_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(Hierarchy::detect(root), Hierarchy::default());
        fs::create_dir_all(root.join("memory/kubepods/podu/c1")).unwrap();
        fs::create_dir_all(root.join("cpu,cpuacct")).unwrap();
        std::os::unix::fs::symlink("cpu,cpuacct", root.join("cpu")).unwrap();
        let v1 = Hierarchy::detect(root);
        assert!(!v1.is_v2() && v1.unified("a".as_ref()).is_none());
        assert!(
            v1.dir("cpu", "/a".as_ref())
                .unwrap()
                .ends_with("cpu,cpuacct/a")
        );
        assert_eq!(v1.dir("pids", "a".as_ref()), None);
        let pod = Path::new("kubepods/podu");
        assert_eq!(v1.container(pod, "c1").unwrap(), pod.join("c1"));
        fs::create_dir_all(root.join("unified")).unwrap();
        fs::write(root.join("unified/cgroup.controllers"), "").unwrap();
        let hybrid = Hierarchy::detect(root);
        assert!(!hybrid.is_v2() && hybrid.unified("a".as_ref()).is_some());
        fs::write(root.join("cgroup.controllers"), "cpu memory").unwrap();
        let v2 = Hierarchy::detect(root);
        assert!(v2.is_v2());
        assert_eq!(v2.dir("cpu", "a".as_ref()), v2.unified("a".as_ref()));
    }

    #[test]
    fn an_id_that_is_a_path_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("memory/kubepods/podu")).unwrap();
        fs::create_dir_all(dir.path().join("memory/system")).unwrap();
        let found = Hierarchy::detect(dir.path());
        for id in ["../../system", "", "..", "a/b"] {
            assert_eq!(found.container("kubepods/podu".as_ref(), id), None, "{id}");
        }
    }
}
