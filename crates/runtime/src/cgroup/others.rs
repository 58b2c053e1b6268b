//! The hierarchies that libcgroups leaves alone.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::{hierarchies, is_unified};
use crate::error::Error;

/// Puts this process, and so the container's, into the container's cgroup of those hierarchies that libcgroups
/// leaves alone: those of a name and, on hybrid machines, of version 2. systemd there knows a service's processes
/// by them, and would end the containers with berth's own service.
///
/// Drop what it returns once the container's process is there: who stays is taken for one of the container's, and
/// killed as such.
pub(crate) fn join(spec: &Spec) -> Result<Away, Error> {
    let mut away = Away(Vec::new());
    let path = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().clone());
    let Some(path) = path.filter(|_| !is_unified()) else {
        return Ok(away);
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for (point, kind) in hierarchies(&mounts) {
        let name = match kind {
            "cgroup2" => Some(""),
            _ => name(&mounts, point),
        };
        let Some(name) = name else {
            continue;
        };
        let inside = |path: &Path| Path::new(point).join(path.strip_prefix("/").unwrap_or(path));
        let folder = inside(&path);
        std::fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
        let file = folder.join(PROCESSES);
        std::fs::write(&file, "0").map_err(Error::file("write", &file))?;
        let home = membership(&own, name).map(|home| inside(Path::new(home)).join(PROCESSES));
        away.0.extend(home);
    }
    Ok(away)
}

/// This process in a container's cgroups; dropped, it goes back to where it was.
#[derive(Debug)]
pub(crate) struct Away(Vec<PathBuf>);

impl Drop for Away {
    fn drop(&mut self) {
        for file in &self.0 {
            // Where it can't, it is only in the container's way.
            let _ = std::fs::write(file, "0");
        }
    }
}

/// The file that processes are put into a cgroup by.
const PROCESSES: &str = "cgroup.procs";

/// The cgroup of a process in one hierarchy, by /proc/PID/cgroup.
fn membership<'a>(text: &'a str, hierarchy: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
            .filter(|(name, _)| *name == hierarchy)
            .map(|(_, path)| path)
    })
}

/// The name that a hierarchy has instead of controllers, as `name=NAME`.
fn name<'a>(mountinfo: &'a str, point: &str) -> Option<&'a str> {
    mountinfo
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some(point))
        .find_map(|line| {
            let options = line.rsplit(' ').next().unwrap_or_default();
            options
                .split(',')
                .find(|option| option.starts_with("name="))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_in_each_hierarchy() {
        let text = "9:name=systemd:/a:b\n4:memory:/m\n0::/\n";
        for (name, path) in [
            ("name=systemd", Some("/a:b")),
            ("memory", Some("/m")),
            ("", Some("/")),
            ("pids", None),
        ] {
            assert_eq!(membership(text, name), path, "{name}");
        }
    }

    #[test]
    fn a_hierarchy_may_have_a_name() {
        let named = "34 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup none rw,xattr,name=systemd";
        assert_eq!(name(named, "/sys/fs/cgroup/systemd"), Some("name=systemd"));
        let memory = "31 30 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory";
        assert_eq!(name(memory, "/sys/fs/cgroup/memory"), None);
    }
}
