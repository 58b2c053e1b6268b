//! Facts about this machine that the Node object reports.

use std::net::IpAddr;
use std::path::Path;

use berth_lifecycle::swap::Capacity;
use nix::ifaddrs::getifaddrs;

use crate::Error;

/// Read once at start; none of these changes while the machine runs.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cpus: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) disk_bytes: i64,
    pub(crate) swap_bytes: i64,
    pub(crate) hostname: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) architecture: &'static str,
}

impl Machine {
    /// Memory and swap.
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            memory: self.memory_bytes,
            swap: self.swap_bytes,
        }
    }

    pub(crate) fn read(root_dir: &Path) -> Result<Self, Error> {
        let uname = nix::sys::utsname::uname().map_err(|e| Error::Machine {
            what: "uname",
            reason: e.to_string(),
        })?;
        let text = |s: &std::ffi::OsStr| s.to_string_lossy().into_owned();
        let machine_id = line("/etc/machine-id");
        let uuid = line("/sys/class/dmi/id/product_uuid");
        let disk = nix::sys::statvfs::statvfs(root_dir).map_err(|e| Error::Machine {
            what: "the size of the disk under the node's directory",
            reason: e.to_string(),
        })?;
        let meminfo = read("/proc/meminfo")?;
        Ok(Self {
            cpus: cpus()?,
            memory_bytes: meminfo_bytes(&meminfo, "MemTotal:").unwrap_or(0),
            swap_bytes: meminfo_bytes(&meminfo, "SwapTotal:").unwrap_or(0),
            disk_bytes: i64::try_from(disk.blocks() * disk.fragment_size()).unwrap_or(i64::MAX),
            hostname: text(uname.nodename()),
            kernel: text(uname.release()),
            os_image: os_image(),
            system_uuid: if uuid.is_empty() {
                machine_id.clone()
            } else {
                uuid
            },
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
        })
    }
}

fn read(path: &'static str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|e| Error::Machine {
        what: path,
        reason: e.to_string(),
    })
}

fn line(path: &str) -> String {
    std::fs::read_to_string(path)
        .map(|s| s.trim().to_owned())
        .unwrap_or_default()
}

fn cpus() -> Result<i64, Error> {
    let info = read("/proc/cpuinfo")?;
    let n = info.lines().filter(|l| l.starts_with("processor")).count();
    Ok(i64::try_from(n.max(1)).unwrap_or(1))
}

/// A value of /proc/meminfo in bytes.
pub(crate) fn meminfo_bytes(meminfo: &str, key: &str) -> Option<i64> {
    let rest = meminfo.lines().find_map(|l| l.strip_prefix(key))?;
    let kib: i64 = rest.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

fn os_image() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |v| v.trim_matches('"').to_owned())
}

/// The address that the default route uses, else the first one that is not loopback, else loopback.
pub(crate) fn node_ip() -> IpAddr {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default = default_interface(&routes);
    let mut fallback = None;
    if let Ok(interfaces) = getifaddrs() {
        for i in interfaces {
            let Some(ip) = i
                .address
                .as_ref()
                .and_then(|a| a.as_sockaddr_in())
                .map(|a| a.ip())
            else {
                continue;
            };
            if ip.is_loopback() || ip.is_link_local() {
                continue;
            }
            if default.as_deref() == Some(i.interface_name.as_str()) {
                return IpAddr::V4(ip);
            }
            fallback.get_or_insert(IpAddr::V4(ip));
        }
    }
    fallback.unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

fn default_interface(routes: &str) -> Option<String> {
    routes.lines().skip(1).find_map(|l| {
        let mut fields = l.split_whitespace();
        let name = fields.next()?;
        (fields.next()? == "00000000").then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_lines_are_kib() {
        let text = "MemTotal:       24683848 kB\nSwapTotal:             0 kB\n";
        assert_eq!(meminfo_bytes(text, "MemTotal:"), Some(24_683_848 * 1024));
        assert_eq!(meminfo_bytes(text, "SwapTotal:"), Some(0));
        assert_eq!(meminfo_bytes(text, "MemFree:"), None);
    }

    #[test]
    fn the_default_route_names_its_interface() {
        let routes = "Iface\tDestination\tGateway\nlo\t0000007F\t0\neth0\t00000000\t010010AC\n";
        assert_eq!(default_interface(routes).as_deref(), Some("eth0"));
        assert_eq!(default_interface("Iface\n"), None);
    }
}
