//! What a client may say of names, addresses and paths, checked before anything is made of it: the kernel's own word for it
//! comes late, and says neither what was wrong nor where.

use std::net::IpAddr;
use std::path::Path;

use berth_cri_api::v1::{ContainerConfig, Device, Mount, PodSandboxConfig, PortMapping};

use crate::error::CriError;

/// The longest name that a UTS namespace takes.
const HOSTNAME_BYTES: usize = 64;

/// Refuses a pod whose names and addresses can't be had.
pub(crate) fn check_sandbox(config: &PodSandboxConfig) -> Result<(), CriError> {
    hostname(&config.hostname)?;
    config.port_mappings.iter().try_for_each(port)
}

/// Refuses a container whose mounts and devices can't be had.
pub(crate) fn check_container(config: &ContainerConfig) -> Result<(), CriError> {
    config.mounts.iter().try_for_each(mount)?;
    config.devices.iter().try_for_each(device)
}

fn invalid(message: String) -> Result<(), CriError> {
    Err(CriError::Invalid(message))
}

fn hostname(name: &str) -> Result<(), CriError> {
    if name.len() > HOSTNAME_BYTES {
        return invalid(format!(
            "hostname {name:?} has {} bytes, and Linux takes at most {HOSTNAME_BYTES}",
            name.len()
        ));
    }
    if name.contains(['\0', '\n', '/']) {
        return invalid(format!(
            "hostname {name:?} has characters that no hostname can have"
        ));
    }
    Ok(())
}

fn port(port: &PortMapping) -> Result<(), CriError> {
    let valid = |port: i32| (0..=65535).contains(&port);
    if !valid(port.container_port) || !valid(port.host_port) {
        return invalid(format!(
            "port mapping {}:{} is not between 0 and 65535",
            port.host_port, port.container_port
        ));
    }
    if !port.host_ip.is_empty() && port.host_ip.parse::<IpAddr>().is_err() {
        return invalid(format!(
            "port mapping {}:{}: host_ip {:?} is no IP address",
            port.host_port, port.container_port, port.host_ip
        ));
    }
    Ok(())
}

fn mount(mount: &Mount) -> Result<(), CriError> {
    let of_image = mount
        .image
        .as_ref()
        .is_some_and(|image| !image.image.is_empty());
    // Below which directory would be a matter of how the server was started.
    if !of_image && !Path::new(&mount.host_path).is_absolute() {
        return invalid(format!(
            "mount {}: host_path {:?} must be an absolute path",
            mount.container_path, mount.host_path
        ));
    }
    Ok(())
}

fn device(device: &Device) -> Result<(), CriError> {
    let Device {
        container_path,
        host_path,
        permissions,
    } = device;
    for (field, path) in [("container_path", container_path), ("host_path", host_path)] {
        if !Path::new(path).is_absolute() {
            return invalid(format!(
                "device {container_path:?}: {field} {path:?} must be an absolute path"
            ));
        }
    }
    let known = |c: char| matches!(c, 'r' | 'w' | 'm');
    let twice = |(at, c): (usize, char)| permissions[..at].contains(c);
    if !permissions.chars().all(known) || permissions.char_indices().any(twice) {
        return invalid(format!(
            "device {container_path:?}: permissions {permissions:?} must be some of the letters r, w and m, each once"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames() {
        for name in ["", "web-1", &"h".repeat(64)] {
            hostname(name).unwrap();
        }
        let error = hostname(&"h".repeat(65)).unwrap_err().to_string();
        assert!(error.contains("has 65 bytes"), "{error}");
        hostname("a\nb").unwrap_err();
    }

    #[test]
    fn addresses_of_ports() {
        let with = |host_ip: &str| {
            port(&PortMapping {
                container_port: 80,
                host_port: 8080,
                host_ip: host_ip.to_owned(),
                ..PortMapping::default()
            })
        };
        for good in ["", "127.0.0.1", "0.0.0.0", "::", "fd00::1"] {
            with(good).unwrap();
        }
        for bad in ["localhost", "10.0.0.0/8", "10.0.0", "[::1]", "-j ACCEPT"] {
            let error = with(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("host_ip {bad:?}")), "{error}");
        }
    }

    #[test]
    fn devices() {
        let with = |container_path: &str, host_path: &str, permissions: &str| {
            device(&Device {
                container_path: container_path.to_owned(),
                host_path: host_path.to_owned(),
                permissions: permissions.to_owned(),
            })
        };
        for good in ["", "r", "rwm", "mwr"] {
            with("/dev/a", "/dev/null", good).unwrap();
        }
        for bad in ["x", "rw ", "rr", "RW", "rwmr"] {
            with("/dev/a", "/dev/null", bad).unwrap_err();
        }
        with("dev/a", "/dev/null", "r").unwrap_err();
        with("/dev/a", "dev/null", "r").unwrap_err();
    }

    #[test]
    fn sources_of_mounts() {
        let with = |host_path: &str| {
            mount(&Mount {
                container_path: "/data".to_owned(),
                host_path: host_path.to_owned(),
                ..Mount::default()
            })
        };
        with("/srv").unwrap();
        for bad in ["", "srv", "./srv", "../srv"] {
            let error = with(bad).unwrap_err().to_string();
            assert!(error.contains("absolute"), "{error}");
        }
    }
}
