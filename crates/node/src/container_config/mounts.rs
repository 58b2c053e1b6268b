//! A container's mounts: volumes, /etc/hosts and the file for its last words.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use berth_cri_api::v1::{ImageSpec, Mount, MountPropagation};
use k8s_openapi::api::core::v1::{Pod, VolumeMount};

use super::{ConfigError, Parts, message_file, message_path};
use crate::agent::Agent;
use crate::env::{Addresses, EnvError, Room, expand};
use crate::hosts;
use crate::own_dirs;
use crate::users::IdRange;
use crate::volumes::{Source, subpath};

pub(super) fn mounts(
    agent: &Agent,
    pod: &Pod,
    parts: &Parts<'_>,
    env: &HashMap<&str, &str>,
    addresses: &Addresses<'_>,
    users: Option<IdRange>,
) -> Result<Vec<Mount>, ConfigError> {
    let c = parts.container;
    let pod_dir = agent.pod_dir(pod);
    let mut mounts = Vec::new();
    for (index, m) in c.volume_mounts.iter().flatten().enumerate() {
        let source = parts
            .volumes
            .get(&m.name)
            .ok_or_else(|| ConfigError::NoVolume {
                volume: m.name.clone(),
                container: c.name.clone(),
            })?;
        let sub = sub_path(m, env)?;
        let mut mount = Mount {
            container_path: absolute(&m.mount_path),
            readonly: m.read_only == Some(true) || source.read_only(),
            recursive_read_only: recursive(agent, parts.handler, m)?,
            propagation: propagation(m)?,
            ..Mount::default()
        };
        match source {
            Source::Path { path, .. } => {
                mount.host_path = match sub {
                    None => path.to_string_lossy().into_owned(),
                    Some(sub) => {
                        let place = pod_dir
                            .join("volume-subpaths")
                            .join(&m.name)
                            .join(&c.name)
                            .join(index.to_string());
                        subpath::bind(path, &sub, &place)?;
                        place.to_string_lossy().into_owned()
                    }
                };
            }
            Source::Image { reference } => {
                mount.image = Some(ImageSpec {
                    image: reference.clone(),
                    user_specified_image: reference.clone(),
                    ..ImageSpec::default()
                });
                mount.image_sub_path = sub.unwrap_or_default();
            }
        }
        mounts.push(mount);
    }
    etc_hosts(agent, pod, parts, addresses, &pod_dir, &mut mounts)?;
    last_words(parts, &pod_dir, &mut mounts)?;
    // Files keep their owners on the machine, and show them in the pod as the pod's own.
    let mappings = users.map(IdRange::mappings).unwrap_or_default();
    for mount in mounts.iter_mut().filter(|mount| mount.image.is_none()) {
        mount.uid_mappings.clone_from(&mappings);
        mount.gid_mappings.clone_from(&mappings);
    }
    Ok(mounts)
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

/// No path has more bytes (`PATH_MAX`).
const PATH_BYTES: usize = 4096;

fn sub_path(m: &VolumeMount, env: &HashMap<&str, &str>) -> Result<Option<String>, EnvError> {
    match m.sub_path_expr.as_deref().filter(|s| !s.is_empty()) {
        Some(s) => {
            let mut room = Room::of(PATH_BYTES);
            Ok(Some(expand(s, |name| env.get(name).copied(), &mut room)?))
        }
        None => Ok(m.sub_path.clone().filter(|s| !s.is_empty())),
    }
}

fn recursive(agent: &Agent, handler: &str, m: &VolumeMount) -> Result<bool, ConfigError> {
    let can = agent
        .runtime
        .borrow()
        .handlers
        .iter()
        .any(|h| h.name == handler && h.recursive_read_only_mounts);
    match m.recursive_read_only.as_deref() {
        Some("Enabled") if !can => Err(ConfigError::Recursive(m.name.clone())),
        Some("Enabled") => Ok(true),
        Some("IfPossible") => Ok(can && m.read_only == Some(true)),
        None | Some("" | "Disabled") => Ok(false),
        Some(other) => Err(unknown(m, "recursiveReadOnly", other)),
    }
}

fn unknown(m: &VolumeMount, field: &'static str, value: &str) -> ConfigError {
    ConfigError::Unknown {
        mount: m.name.clone(),
        field,
        value: value.to_owned(),
    }
}

fn propagation(m: &VolumeMount) -> Result<i32, ConfigError> {
    let mode = match m.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        None | Some("" | "None") => MountPropagation::PropagationPrivate,
        Some(other) => return Err(unknown(m, "mountPropagation", other)),
    };
    Ok(mode as i32)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ConfigError {
    let path = path.to_owned();
    move |source| ConfigError::Io { path, source }
}

fn etc_hosts(
    agent: &Agent,
    pod: &Pod,
    parts: &Parts<'_>,
    addresses: &Addresses<'_>,
    pod_dir: &Path,
    mounts: &mut Vec<Mount>,
) -> Result<(), ConfigError> {
    if mounts.iter().any(|m| m.container_path == "/etc/hosts") || addresses.pod_ips.is_empty() {
        return Ok(());
    }
    let path = pod_dir.join("etc-hosts");
    let text = hosts::text(agent, pod, addresses.pod_ips);
    own_dirs::make(pod_dir).map_err(io(pod_dir))?;
    std::fs::write(&path, text).map_err(io(&path))?;
    let permissions = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, permissions).map_err(io(&path))?;
    let read_only = parts
        .container
        .security_context
        .as_ref()
        .is_some_and(|s| s.read_only_root_filesystem == Some(true));
    mounts.push(Mount {
        container_path: "/etc/hosts".to_owned(),
        host_path: path.to_string_lossy().into_owned(),
        readonly: read_only,
        ..Mount::default()
    });
    Ok(())
}

fn last_words(
    parts: &Parts<'_>,
    pod_dir: &Path,
    mounts: &mut Vec<Mount>,
) -> Result<(), ConfigError> {
    let path = message_file(pod_dir, &parts.container.name, parts.attempt);
    if let Some(dir) = path.parent() {
        own_dirs::make(dir).map_err(io(dir))?;
    }
    std::fs::write(&path, "").map_err(io(&path))?;
    let permissions = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(&path, permissions).map_err(io(&path))?;
    mounts.push(Mount {
        container_path: message_path(parts.container).to_owned(),
        host_path: path.to_string_lossy().into_owned(),
        ..Mount::default()
    });
    Ok(())
}
