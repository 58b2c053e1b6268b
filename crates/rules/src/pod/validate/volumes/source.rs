//! The source of one volume: exactly one, and right in itself.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume};

use super::projected;
use crate::pod::validate::{environment, mounts, one_of, required, text};
use crate::pod::volume_kind;
use berth_core::meta;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const FIELDS: [&str; 5] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.labels",
    "metadata.annotations",
    "metadata.uid",
];
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

pub(super) fn mode(errors: &mut Vec<FieldError>, at: &FieldPath, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        errors.push(FieldError::invalid(at, mode, MODE));
    }
}

pub(super) fn validate(v: &Volume, pod_name: &str, at: &FieldPath) -> Vec<FieldError> {
    let sources = volume_kind::sources(v);
    let mut errors: Vec<FieldError> = sources
        .iter()
        .skip(1)
        .map(|name| {
            FieldError::forbidden(&at.child(name), "may not specify more than 1 volume type")
        })
        .collect();
    match sources.first() {
        None => errors.push(FieldError::required(at, "must specify a volume type")),
        Some(first) => errors.extend(of_kind(v, first, pod_name, at)),
    }
    errors
}

fn of_kind(v: &Volume, kind: &str, pod_name: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = common_kinds(v, kind, pod_name, at);
    for (field, value) in network_storage(v, kind) {
        required(&mut errors, &at.child(field), value);
    }
    if let Some(nfs) = v
        .nfs
        .as_ref()
        .filter(|n| kind == "nfs" && !n.path.starts_with('/'))
    {
        errors.push(FieldError::invalid(
            &at.child("nfs.path"),
            &nfs.path,
            "must be an absolute path",
        ));
    }
    errors
}

fn common_kinds(v: &Volume, kind: &str, pod_name: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let own = at.child(kind);
    match kind {
        "emptyDir" => {
            let limit = v.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref());
            if limit.is_some_and(|l| !Quantity::try_from(l).is_ok_and(|q| !q.is_negative())) {
                errors.push(FieldError::forbidden(
                    &own.child("sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                ));
            }
        }
        "hostPath" => {
            if let Some(host) = &v.host_path {
                if host.path.is_empty() {
                    errors.push(FieldError::required(&own.child("path"), ""));
                    return errors;
                }
                errors.extend(mounts::no_backsteps(&host.path, &own.child("path")));
                if let Some(kind) = host
                    .type_
                    .as_deref()
                    .filter(|t| !HOST_PATH_TYPES.contains(t))
                {
                    errors.push(FieldError::not_supported(
                        &own.child("type"),
                        kind,
                        &HOST_PATH_TYPES,
                    ));
                }
            }
        }
        "secret" => {
            if let Some(secret) = &v.secret {
                required(
                    &mut errors,
                    &own.child("secretName"),
                    text(&secret.secret_name),
                );
                mode(&mut errors, &own.child("defaultMode"), secret.default_mode);
                errors.extend(keys(secret.items.as_deref(), &own.child("items")));
            }
        }
        "configMap" => {
            if let Some(map) = &v.config_map {
                required(&mut errors, &own.child("name"), &map.name);
                mode(&mut errors, &own.child("defaultMode"), map.default_mode);
                errors.extend(keys(map.items.as_deref(), &own.child("items")));
            }
        }
        "downwarAPI" => {
            if let Some(downward) = &v.downward_api {
                let own = at.child("downwardAPI");
                mode(
                    &mut errors,
                    &own.child("defaultMode"),
                    downward.default_mode,
                );
                for file in downward.items.iter().flatten() {
                    errors.extend(downward_file(file, &own));
                }
            }
        }
        "projected" => {
            if let Some(projected) = &v.projected {
                errors.extend(projected::validate(projected, &own));
            }
        }
        "gitRepo" => {
            if let Some(git) = &v.git_repo {
                required(&mut errors, &own.child("repository"), &git.repository);
                errors.extend(mounts::descending(
                    text(&git.directory),
                    &own.child("directory"),
                ));
            }
        }
        "csi" => {
            if let Some(csi) = &v.csi {
                let at = own.child("driver");
                required(&mut errors, &at, &csi.driver);
                if csi.driver.len() > 63 {
                    errors.push(FieldError::too_long(&at, 63));
                }
                let complaints = names::dns1123_subdomain(&csi.driver.to_lowercase());
                meta::extend_invalid(&mut errors, &at, &csi.driver, complaints);
                if csi
                    .node_publish_secret_ref
                    .as_ref()
                    .is_some_and(|s| s.name.is_empty())
                {
                    errors.push(FieldError::required(
                        &own.child("nodePublishSecretRef.name"),
                        "",
                    ));
                }
            }
        }
        "ephemeral" => {
            if v.ephemeral
                .as_ref()
                .is_some_and(|e| e.volume_claim_template.is_none())
            {
                errors.push(FieldError::required(&own.child("volumeClaimTemplate"), ""));
            }
            if !pod_name.is_empty() && !v.name.is_empty() {
                let claim = format!("{pod_name}-{}", v.name);
                for complaint in names::dns1123_subdomain(&claim) {
                    errors.push(FieldError::invalid(
                        &at.child("name"),
                        &v.name,
                        format!("PVC name {claim:?}: {complaint}"),
                    ));
                }
            }
        }
        "image" => {
            if let Some(image) = &v.image {
                required(&mut errors, &own.child("reference"), text(&image.reference));
                one_of(
                    &mut errors,
                    &own.child("pullPolicy"),
                    text(&image.pull_policy),
                    &["Always", "IfNotPresent", "Never"],
                );
            }
        }
        _ => {}
    }
    errors
}

/// The required texts of the kinds that name something elsewhere.
fn network_storage<'v>(v: &'v Volume, kind: &str) -> Vec<(&'static str, &'v str)> {
    let mut fields = Vec::new();
    match kind {
        "nfs" => {
            if let Some(n) = &v.nfs {
                fields.extend([
                    ("nfs.server", n.server.as_str()),
                    ("nfs.path", n.path.as_str()),
                ]);
            }
        }
        "persistentVolumeClaim" => {
            if let Some(c) = &v.persistent_volume_claim {
                fields.push(("persistentVolumeClaim.claimName", c.claim_name.as_str()));
            }
        }
        "iscsi" => {
            if let Some(i) = &v.iscsi {
                fields.extend([
                    ("iscsi.targetPortal", i.target_portal.as_str()),
                    ("iscsi.iqn", i.iqn.as_str()),
                ]);
            }
        }
        "glusterfs" => {
            if let Some(g) = &v.glusterfs {
                fields.extend([
                    ("glusterfs.endpoints", g.endpoints.as_str()),
                    ("glusterfs.path", g.path.as_str()),
                ]);
            }
        }
        "rbd" => {
            if let Some(r) = &v.rbd {
                let monitor = r.monitors.first().map(String::as_str).unwrap_or_default();
                fields.extend([("rbd.monitors", monitor), ("rbd.image", r.image.as_str())]);
            }
        }
        "cephFS" => {
            if let Some(c) = &v.cephfs {
                fields.push((
                    "cephfs.monitors",
                    c.monitors.first().map(String::as_str).unwrap_or_default(),
                ));
            }
        }
        "cinder" => {
            if let Some(c) = &v.cinder {
                fields.push(("cinder.volumeID", c.volume_id.as_str()));
            }
        }
        "flexVolume" => {
            if let Some(f) = &v.flex_volume {
                fields.push(("flexVolume.driver", f.driver.as_str()));
            }
        }
        "gcePersistentDisk" => {
            if let Some(g) = &v.gce_persistent_disk {
                fields.push(("persistentDisk.pdName", g.pd_name.as_str()));
            }
        }
        "awsElasticBlockStore" => {
            if let Some(a) = &v.aws_elastic_block_store {
                fields.push(("awsElasticBlockStore.volumeID", a.volume_id.as_str()));
            }
        }
        "azureFile" => {
            if let Some(a) = &v.azure_file {
                fields.extend([
                    ("azureFile.secretName", a.secret_name.as_str()),
                    ("azureFile.shareName", a.share_name.as_str()),
                ]);
            }
        }
        "azureDisk" => {
            if let Some(a) = &v.azure_disk {
                fields.extend([
                    ("azureDisk.diskName", a.disk_name.as_str()),
                    ("azureDisk.diskURI", a.disk_uri.as_str()),
                ]);
            }
        }
        "vsphereVolume" => {
            if let Some(s) = &v.vsphere_volume {
                fields.push(("vsphereVolume.volumePath", s.volume_path.as_str()));
            }
        }
        "photonPersistentDisk" => {
            if let Some(p) = &v.photon_persistent_disk {
                fields.push(("photonPersistentDisk.pdID", p.pd_id.as_str()));
            }
        }
        "portworxVolume" => {
            if let Some(p) = &v.portworx_volume {
                fields.push(("portworxVolume.volumeID", p.volume_id.as_str()));
            }
        }
        "scaleIO" => {
            if let Some(s) = &v.scale_io {
                fields.extend([
                    ("scaleIO.gateway", s.gateway.as_str()),
                    ("scaleIO.system", s.system.as_str()),
                    ("scaleIO.volumeName", text(&s.volume_name)),
                ]);
            }
        }
        "quobyte" => {
            if let Some(q) = &v.quobyte {
                fields.extend([
                    ("quobyte.registry", q.registry.as_str()),
                    ("quobyte.volume", q.volume.as_str()),
                ]);
            }
        }
        _ => {}
    }
    fields
}

pub(super) fn keys(items: Option<&[KeyToPath]>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, item) in items.unwrap_or_default().iter().enumerate() {
        errors.extend(key_to_path(item, &at.index(i)));
    }
    errors
}

fn key_to_path(item: &KeyToPath, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    required(&mut errors, &at.child("key"), &item.key);
    required(&mut errors, &at.child("path"), &item.path);
    errors.extend(mounts::not_reserved(&item.path, &at.child("path")));
    mode(&mut errors, &at.child("mode"), item.mode);
    errors
}

/// One file of the downward API; the reference reports it at the source, without an index.
pub(super) fn downward_file(file: &DownwardAPIVolumeFile, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    required(&mut errors, &at.child("path"), &file.path);
    errors.extend(mounts::not_reserved(&file.path, &at.child("path")));
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), other) => {
            errors.extend(environment::object_field(
                field,
                &FIELDS,
                &at.child("fieldRef"),
            ));
            if other.is_some() {
                errors.push(FieldError::invalid(
                    at,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                ));
            }
        }
        (None, Some(resource)) => {
            errors.extend(environment::resource_field(
                resource,
                true,
                &at.child("resourceFieldRef"),
            ));
        }
        (None, None) => errors.push(FieldError::required(
            at,
            "one of fieldRef and resourceFieldRef is required",
        )),
    }
    mode(&mut errors, &at.child("mode"), file.mode);
    errors
}
