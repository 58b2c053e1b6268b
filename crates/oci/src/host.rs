//! Facts of the host that a spec depends on, read once at start.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cgroup::Cgroups;

/// What this host's kernel and our own rights allow.
#[derive(Debug, Clone)]
pub struct Host {
    /// The cgroup hierarchy.
    pub cgroups: Cgroups,
    /// Capabilities that we may pass on (our bounding set), without the `CAP_` prefix.
    pub capabilities: BTreeSet<String>,
    /// The lowest `oom_score_adj` that we may set.
    pub min_oom_score_adj: i64,
    /// Whether AppArmor is enabled.
    pub apparmor: bool,
    /// Whether SELinux is enabled.
    pub selinux: bool,
    /// Whether memory cgroups account swap.
    pub swap_accounting: bool,
    /// Our hard limit of open files.
    pub max_open_files: u64,
}

impl Host {
    /// Reads the facts from /proc and /sys.
    #[must_use]
    pub fn detect() -> Self {
        let cgroups = Cgroups::detect();
        let capabilities = caps::read(None, caps::CapSet::Bounding)
            .unwrap_or_default()
            .into_iter()
            .map(|c| c.to_string().trim_start_matches("CAP_").to_owned())
            .collect();
        let may_lower = caps::has_cap(
            None,
            caps::CapSet::Effective,
            caps::Capability::CAP_SYS_RESOURCE,
        )
        .unwrap_or(false);
        let own_score = std::fs::read_to_string("/proc/self/oom_score_adj")
            .ok()
            .and_then(|s| s.trim().parse().ok())
            .unwrap_or(0);
        let swap_accounting = match cgroups
            .unified
            .as_ref()
            .filter(|_| cgroups.mounts.is_empty())
        {
            Some(_) => true,
            None => cgroups.mounts.get("memory").is_some_and(|m| {
                m.join("memory.memsw.limit_in_bytes").exists()
                    || m.join("cgroup.controllers").exists()
            }),
        };
        Self {
            cgroups,
            capabilities,
            min_oom_score_adj: if may_lower { -1000 } else { own_score },
            apparmor: std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|s| s.starts_with('Y')),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            swap_accounting,
            max_open_files: nix::sys::resource::getrlimit(
                nix::sys::resource::Resource::RLIMIT_NOFILE,
            )
            .map_or(1024, |(_, hard)| hard),
        }
    }
}
