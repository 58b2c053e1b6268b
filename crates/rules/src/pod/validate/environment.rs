//! Environment variables and where their values come from; the downward API.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, EnvVar, ObjectFieldSelector, ResourceFieldSelector};

use super::container::Context;
use super::{mounts, required, text};
use berth_core::meta;

const VARIABLE_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];
const DIVISORS: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

pub(super) fn variables(context: &Context<'_>, c: &Container, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, variable) in c.env.iter().flatten().enumerate() {
        let at = at.index(i);
        if variable.name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else {
            let complaints = names::env_var_name(&variable.name);
            meta::extend_invalid(&mut errors, &at.child("name"), &variable.name, complaints);
        }
        errors.extend(value_from(context, variable, &at.child("valueFrom")));
    }
    errors
}

fn value_from(context: &Context<'_>, variable: &EnvVar, at: &FieldPath) -> Vec<FieldError> {
    let Some(source) = &variable.value_from else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        errors.extend(object_field(field, &VARIABLE_FIELDS, &at.child("fieldRef")));
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        errors.extend(resource_field(
            resource,
            false,
            &at.child("resourceFieldRef"),
        ));
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        errors.extend(key_selector(
            &key.name,
            &key.key,
            &at.child("configMapKeyRef"),
        ));
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        errors.extend(key_selector(&key.name, &key.key, &at.child("secretKeyRef")));
    }
    if let Some(file) = &source.file_key_ref {
        sources += 1;
        let at = at.child("fileKeyRef");
        if file.key.is_empty() {
            errors.push(FieldError::required(&at.child("key"), ""));
        } else {
            meta::extend_invalid(
                &mut errors,
                &at.child("key"),
                &file.key,
                names::env_var_name(&file.key),
            );
        }
        if file.path.is_empty() {
            errors.push(FieldError::required(&at.child("path"), ""));
        } else {
            errors.extend(mounts::no_backsteps(&file.path, &at.child("path")));
        }
        if file.volume_name.is_empty() {
            errors.push(FieldError::required(&at.child("volumeName"), ""));
        } else {
            match context.all_volumes.get(file.volume_name.as_str()) {
                None => errors.push(FieldError::not_found(
                    &at.child("volumeName"),
                    &file.volume_name,
                )),
                Some(volume) if volume.empty_dir.is_none() => errors.push(FieldError::invalid(
                    &at.child("volumeName"),
                    &file.volume_name,
                    "referenced volume must be of type emptyDir",
                )),
                Some(_) => {}
            }
        }
    }
    if sources == 0 {
        errors.push(FieldError::invalid(
            at,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ));
    } else if !text(&variable.value).is_empty() {
        errors.push(FieldError::invalid(
            at,
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if sources > 1 {
        errors.push(FieldError::invalid(
            at,
            "",
            "may not have more than one field specified at a time",
        ));
    }
    errors
}

pub(super) fn sources(c: &Container, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, source) in c.env_from.iter().flatten().enumerate() {
        let item = at.index(i);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            meta::extend_invalid(
                &mut errors,
                &item.child("prefix"),
                prefix,
                names::env_var_name(prefix),
            );
        }
        let references = [
            (
                "configMapRef",
                source.config_map_ref.as_ref().map(|r| r.name.as_str()),
            ),
            (
                "secretRef",
                source.secret_ref.as_ref().map(|r| r.name.as_str()),
            ),
        ];
        let mut count = 0;
        for (field, name) in references {
            let Some(name) = name else {
                continue;
            };
            count += 1;
            let at = item.child(field).child("name");
            if name.is_empty() {
                errors.push(FieldError::required(&at, ""));
            } else {
                meta::extend_invalid(&mut errors, &at, name, names::dns1123_subdomain(name));
            }
        }
        // The reference reports these two at the list.
        if count == 0 {
            errors.push(FieldError::invalid(
                at,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ));
        } else if count > 1 {
            errors.push(FieldError::invalid(
                at,
                "",
                "may not have more than one field specified at a time",
            ));
        }
    }
    errors
}

fn key_selector(name: &str, key: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    meta::extend_invalid(
        &mut errors,
        &at.child("name"),
        name,
        names::dns1123_subdomain(name),
    );
    if key.is_empty() {
        errors.push(FieldError::required(&at.child("key"), ""));
    } else {
        meta::extend_invalid(
            &mut errors,
            &at.child("key"),
            key,
            names::config_map_key(key),
        );
    }
    errors
}

/// `metadata.labels['key']` in its two parts.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    let (path, rest) = path.split_once("['")?;
    Some((path, rest.strip_suffix("']")?))
}

/// A field of the pod; `supported` are the plain paths that may stand here.
pub(super) fn object_field(
    field: &ObjectFieldSelector,
    supported: &[&str],
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    required(
        &mut errors,
        &at.child("apiVersion"),
        text(&field.api_version),
    );
    if errors.is_empty() {
        required(&mut errors, &at.child("fieldPath"), &field.field_path);
    }
    if !errors.is_empty() {
        return errors;
    }
    let path = field.field_path.as_str();
    let known_field = [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
        "spec.host",
    ]
    .contains(&path);
    let known_key =
        subscripted(path).filter(|(p, _)| matches!(*p, "metadata.annotations" | "metadata.labels"));
    if text(&field.api_version) != "v1" || !(known_field || known_key.is_some()) {
        errors.push(FieldError::invalid(
            &at.child("fieldPath"),
            path,
            format!("error converting fieldPath: field label not supported: {path}"),
        ));
        return errors;
    }
    match known_key {
        Some(("metadata.annotations", key)) => {
            meta::extend_invalid(
                &mut errors,
                at,
                key,
                names::qualified_name(&key.to_lowercase()),
            );
        }
        Some((_, key)) => meta::extend_invalid(&mut errors, at, key, names::qualified_name(key)),
        None => {
            let path = if path == "spec.host" {
                "spec.nodeName"
            } else {
                path
            };
            if !supported.contains(&path) {
                errors.push(FieldError::not_supported(
                    &at.child("fieldPath"),
                    path,
                    supported,
                ));
            }
        }
    }
    errors
}

/// An amount of a container; a volume must say of which.
pub(super) fn resource_field(
    field: &ResourceFieldSelector,
    in_volume: bool,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let resource = field.resource.as_str();
    let huge =
        resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_volume && text(&field.container_name).is_empty() {
        errors.push(FieldError::required(&at.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&at.child("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.push(FieldError::not_supported(
            &at.child("resource"),
            resource,
            &RESOURCES,
        ));
    }
    let divisor = match field.divisor.as_ref().map(Quantity::try_from) {
        None => Quantity::ZERO,
        Some(Ok(divisor)) => divisor,
        Some(Err(error)) => {
            let value = field.divisor.as_ref().map(|d| &d.0);
            errors.push(FieldError::invalid(
                &at.child("divisor"),
                value,
                error.to_string(),
            ));
            return errors;
        }
    };
    let known: &[&str] = match resource {
        "limits.cpu" | "requests.cpu" => &["1m", "1"],
        _ if RESOURCES.contains(&resource) || huge => &DIVISORS,
        _ => return errors,
    };
    if !divisor.is_zero() && !known.contains(&divisor.to_string().as_str()) {
        errors.push(FieldError::invalid(
            &at.child("divisor"),
            resource,
            format!(
                "only divisor's values {} are supported with this resource",
                known.join(", ")
            ),
        ));
    }
    errors
}
