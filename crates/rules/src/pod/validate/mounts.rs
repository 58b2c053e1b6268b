//! Mounts and block devices of containers, and the paths of files.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::{Volumes, text};

pub(super) fn volume_mounts(
    volumes: &Volumes<'_>,
    c: &Container,
    at_list: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mounts = c.volume_mounts.as_deref().unwrap_or_default();
    let devices = || c.volume_devices.iter().flatten();
    let device_names: HashSet<&str> = devices().map(|d| d.name.as_str()).collect();
    let device_paths: HashSet<&str> = devices().map(|d| d.device_path.as_str()).collect();
    let mut paths = HashSet::new();
    for (i, mount) in mounts.iter().enumerate() {
        let at = at_list.index(i);
        if mount.name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        if !volumes.contains_key(mount.name.as_str()) {
            errors.push(FieldError::not_found(&at.child("name"), &mount.name));
        }
        if mount.mount_path.is_empty() {
            errors.push(FieldError::required(&at.child("mountPath"), ""));
        }
        if !paths.insert(mount.mount_path.as_str()) {
            errors.push(FieldError::invalid(
                &at.child("mountPath"),
                &mount.mount_path,
                "must be unique",
            ));
        }
        if device_names.contains(mount.name.as_str()) {
            errors.push(FieldError::invalid(
                &at.child("name"),
                &mount.name,
                "must not already exist in volumeDevices",
            ));
        }
        if device_paths.contains(mount.mount_path.as_str()) {
            errors.push(FieldError::invalid(
                &at.child("mountPath"),
                &mount.mount_path,
                "must not already exist as a path in volumeDevices",
            ));
        }
        // The reference reports the following at the list, not at the item.
        let (sub_path, expression) = (text(&mount.sub_path), text(&mount.sub_path_expr));
        if !sub_path.is_empty() {
            errors.extend(descending(sub_path, &at_list.child("subPath")));
        }
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                errors.push(FieldError::invalid(
                    &at.child("subPathExpr"),
                    expression,
                    "subPathExpr and subPath are mutually exclusive",
                ));
            }
            errors.extend(descending(expression, &at_list.child("subPathExpr")));
        }
        errors.extend(propagation(mount, c, &at_list.child("mountPropagation")));
        errors.extend(recursive_read_only(
            mount,
            &at_list.child("recursiveReadOnly"),
        ));
    }
    errors
}

fn propagation(mount: &VolumeMount, c: &Container, at: &FieldPath) -> Vec<FieldError> {
    let Some(mode) = mount.mount_propagation.as_deref() else {
        return Vec::new();
    };
    let privileged = c.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
    match mode {
        "None" | "HostToContainer" => Vec::new(),
        "Bidirectional" if privileged => Vec::new(),
        "Bidirectional" => vec![FieldError::forbidden(
            at,
            "Bidirectional mount propagation is available only to privileged containers",
        )],
        other => vec![FieldError::not_supported(
            at,
            other,
            &["Bidirectional", "HostToContainer", "None"],
        )],
    }
}

fn recursive_read_only(mount: &VolumeMount, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.push(FieldError::forbidden(
                    at,
                    "may only be specified when readOnly is true",
                ));
            }
            if mount
                .mount_propagation
                .as_deref()
                .is_some_and(|p| p != "None")
            {
                errors.push(FieldError::forbidden(
                    at,
                    "may only be specified when mountPropagation is None or not specified",
                ));
            }
        }
        Some(other) => errors.push(FieldError::not_supported(
            at,
            other,
            &["Disabled", "Enabled", "IfPossible"],
        )),
    }
    errors
}

pub(super) fn devices(volumes: &Volumes<'_>, c: &Container, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mounts = || c.volume_mounts.iter().flatten();
    let mounted: HashSet<&str> = mounts().map(|m| m.name.as_str()).collect();
    let mount_paths: HashSet<&str> = mounts().map(|m| m.mount_path.as_str()).collect();
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for (i, device) in c.volume_devices.iter().flatten().enumerate() {
        let at = at.index(i);
        let (name_at, path_at) = (at.child("name"), at.child("devicePath"));
        let (name, path) = (&device.name, &device.device_path);
        let is_first = names.insert(name.as_str());
        if name.is_empty() {
            errors.push(FieldError::required(&name_at, ""));
        } else if !is_first {
            errors.push(FieldError::invalid(&name_at, name, "must be unique"));
        }
        match volumes.get(name.as_str()) {
            None => errors.push(FieldError::not_found(&name_at, name)),
            Some(volume)
                if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() =>
            {
                errors.push(FieldError::invalid(
                    &name_at,
                    name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                ));
            }
            Some(_) => {}
        }
        if path.is_empty() {
            errors.push(FieldError::required(&path_at, ""));
        }
        if !paths.insert(path.as_str()) {
            errors.push(FieldError::invalid(&path_at, path, "must be unique"));
        }
        if no_backsteps(path, &path_at).is_some() {
            errors.push(FieldError::invalid(
                &path_at,
                path,
                "can not contain backsteps ('..')",
            ));
        }
        if mounted.contains(name.as_str()) {
            errors.push(FieldError::invalid(
                &name_at,
                name,
                "must not already exist in volumeMounts",
            ));
        }
        if mount_paths.contains(path.as_str()) {
            errors.push(FieldError::invalid(
                &path_at,
                path,
                "must not already exist as a path in volumeMounts",
            ));
        }
    }
    errors
}

/// No `..` among the components.
pub(super) fn no_backsteps(path: &str, at: &FieldPath) -> Option<FieldError> {
    path.split('/')
        .any(|part| part == "..")
        .then(|| FieldError::invalid(at, path, "must not contain '..'"))
}

/// Relative, without `..`.
pub(super) fn descending(path: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if path.starts_with('/') {
        errors.push(FieldError::invalid(at, path, "must be a relative path"));
    }
    errors.extend(no_backsteps(path, at));
    errors
}

/// [`descending`], and not beginning with `..` in any way.
pub(super) fn not_reserved(path: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = descending(path, at);
    if path.starts_with("..") && !path.starts_with("../") && path != ".." {
        errors.push(FieldError::invalid(at, path, "must not start with '..'"));
    }
    errors
}
