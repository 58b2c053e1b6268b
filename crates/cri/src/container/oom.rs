//! Whether the kernel killed something in a container's memory cgroup.

use std::path::Path;

use berth_oci::Host;

/// Reads the counter of the cgroup, which is there until the runtime deletes the container.
pub(super) fn killed(host: &Host, cgroup: &Path) -> bool {
    let Some(mount) = host.cgroups.mounts.get("memory") else {
        return false;
    };
    let path = berth_oci::cgroup::directory(cgroup);
    let dir = mount.join(path.strip_prefix("/").unwrap_or(&path));
    // v1 and v2 have the same line in different files.
    ["memory.oom_control", "memory.events"].iter().any(|file| {
        std::fs::read_to_string(dir.join(file)).is_ok_and(|text| {
            text.lines()
                .filter_map(|line| line.strip_prefix("oom_kill "))
                .any(|count| count.trim() != "0")
        })
    })
}
