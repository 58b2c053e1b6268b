//! The files and mounts that a pod's containers share: hostname, hosts, resolv.conf, /dev/shm.

use std::path::Path;

use berth_cri_api::v1::{DnsConfig, PodSandboxConfig};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::CriError;

/// Size of a pod's /dev/shm, as everywhere.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

/// Writes the pod's files into `dir`. They belong to the pod's root, where that is somebody else.
pub(crate) fn write(
    dir: &Path,
    config: &PodSandboxConfig,
    hostname: &str,
    root: Option<(u32, u32)>,
) -> Result<(), CriError> {
    let write = |name: &str, text: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, text)
            .and_then(|()| match root {
                Some((uid, gid)) => std::os::unix::fs::chown(&path, Some(uid), Some(gid)),
                None => Ok(()),
            })
            .map_err(CriError::io("write", path))
    };
    write("hostname", format!("{hostname}\n").as_bytes())?;
    // A kubelet brings its own hosts file with every container; this one is for other clients.
    write(
        "hosts",
        &std::fs::read("/etc/hosts").unwrap_or_else(|_| b"127.0.0.1 localhost\n".to_vec()),
    )?;
    let text = match config.dns_config.as_ref().and_then(resolv_conf) {
        Some(text) => text.into_bytes(),
        None => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
    };
    write("resolv.conf", &text)
}

/// `None` when the config says nothing: then the host's file counts.
fn resolv_conf(dns: &DnsConfig) -> Option<String> {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    (!text.is_empty()).then_some(text)
}

/// Mounts the pod's /dev/shm.
pub(super) fn mount_shm(path: &Path, root: Option<(u32, u32)>) -> Result<(), CriError> {
    std::fs::create_dir_all(path).map_err(CriError::io("make", path))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = match root {
        Some((uid, gid)) => format!("{SHM_OPTIONS},uid={uid},gid={gid}"),
        None => SHM_OPTIONS.to_owned(),
    };
    mount(
        Some("shm"),
        path,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )
    .map_err(|errno| CriError::io("mount a tmpfs on", path)(errno.into()))
}

/// Unmounts `path` and what lies on it; nothing mounted is fine.
pub(crate) fn unmount(path: &Path) -> std::io::Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_what_the_config_says() {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        let dns = DnsConfig {
            servers: list(&["10.0.0.10", "fd00::10"]),
            searches: list(&["default.svc.cluster.local", "cluster.local"]),
            options: list(&["ndots:5"]),
        };
        assert_eq!(
            resolv_conf(&dns).unwrap(),
            "search default.svc.cluster.local cluster.local\nnameserver 10.0.0.10\nnameserver fd00::10\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&DnsConfig::default()), None);
    }
}
