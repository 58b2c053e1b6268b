//! Where a volume's data is. What in-tree drivers know of their own volumes is not judged further than its form.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::PersistentVolumeSpec;

use crate::values::{default_text, required};
use berth_core::meta;

const MAX_DRIVER_NAME: usize = 63;

/// Calls the macro with every source: the field and its name on the wire.
macro_rules! each_source {
    ($each:ident) => {
        $each!(
            aws_elastic_block_store "awsElasticBlockStore",
            azure_disk "azureDisk",
            azure_file "azureFile",
            cephfs "cephfs",
            cinder "cinder",
            csi "csi",
            fc "fc",
            flex_volume "flexVolume",
            flocker "flocker",
            gce_persistent_disk "gcePersistentDisk",
            glusterfs "glusterfs",
            host_path "hostPath",
            iscsi "iscsi",
            local "local",
            nfs "nfs",
            photon_persistent_disk "photonPersistentDisk",
            portworx_volume "portworxVolume",
            quobyte "quobyte",
            rbd "rbd",
            scale_io "scaleIO",
            storageos "storageos",
            vsphere_volume "vsphereVolume"
        )
    };
}

/// The sources that are set, as they are called on the wire.
pub(in crate::kinds) fn names(spec: &PersistentVolumeSpec) -> Vec<&'static str> {
    let mut set = Vec::new();
    macro_rules! collect {
        ($($field:ident $name:literal),*) => {
            $(if spec.$field.is_some() {
                set.push($name);
            })*
        };
    }
    each_source!(collect);
    set
}

/// The spec with nothing but its source.
pub(super) fn only(spec: &PersistentVolumeSpec) -> PersistentVolumeSpec {
    let mut source = PersistentVolumeSpec::default();
    macro_rules! copy {
        ($($field:ident $name:literal),*) => {
            $(source.$field.clone_from(&spec.$field);)*
        };
    }
    each_source!(copy);
    source
}

pub(super) fn set_defaults(spec: &mut PersistentVolumeSpec) {
    if let Some(host) = &mut spec.host_path {
        host.type_.get_or_insert_default();
    }
    if let Some(iscsi) = &mut spec.iscsi {
        default_text(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut spec.rbd {
        default_text(&mut rbd.pool, "rbd");
        default_text(&mut rbd.user, "admin");
        default_text(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut spec.azure_disk {
        disk.caching_mode
            .get_or_insert_with(|| "ReadWrite".to_owned());
        disk.fs_type.get_or_insert_with(|| "ext4".to_owned());
        disk.read_only.get_or_insert(false);
        disk.kind.get_or_insert_with(|| "Shared".to_owned());
    }
    if let Some(scale) = &mut spec.scale_io {
        default_text(&mut scale.storage_mode, "ThinProvisioned");
        default_text(&mut scale.fs_type, "xfs");
    }
}

pub(super) fn validate(spec: &PersistentVolumeSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match names(spec).as_slice() {
        [] => errors.push(FieldError::required(at, "must specify a volume type")),
        [_] => {}
        [_, more @ ..] => {
            let why = "may not specify more than 1 volume type";
            errors.extend(
                more.iter()
                    .map(|name| FieldError::forbidden(&at.child(name), why)),
            );
        }
    }
    if let Some(host) = &spec.host_path {
        path(&mut errors, &host.path, &at.child("hostPath.path"));
    }
    if let Some(local) = &spec.local {
        path(&mut errors, &local.path, &at.child("local.path"));
        if spec.node_affinity.is_none() {
            let why = "Local volume requires node affinity";
            errors.push(FieldError::required(
                &FieldPath::new("metadata.annotations"),
                why,
            ));
        }
    }
    if let Some(nfs) = &spec.nfs {
        let at = at.child("nfs");
        required(&mut errors, &at.child("server"), &nfs.server);
        required(&mut errors, &at.child("path"), &nfs.path);
        if !nfs.path.starts_with('/') {
            errors.push(FieldError::invalid(
                &at.child("path"),
                &nfs.path,
                "must be an absolute path",
            ));
        }
    }
    if let Some(csi) = &spec.csi {
        let at = at.child("csi");
        driver_name(&mut errors, &csi.driver, &at.child("driver"));
        required(&mut errors, &at.child("volumeHandle"), &csi.volume_handle);
        for (name, secret) in [
            (
                "controllerPublishSecretRef",
                &csi.controller_publish_secret_ref,
            ),
            (
                "controllerExpandSecretRef",
                &csi.controller_expand_secret_ref,
            ),
            ("nodePublishSecretRef", &csi.node_publish_secret_ref),
            ("nodeExpandSecretRef", &csi.node_expand_secret_ref),
            ("nodeStageSecretRef", &csi.node_stage_secret_ref),
        ] {
            if let Some(secret) = secret {
                let at = at.child(name);
                required(
                    &mut errors,
                    &at.child("name"),
                    secret.name.as_deref().unwrap_or_default(),
                );
                required(
                    &mut errors,
                    &at.child("namespace"),
                    secret.namespace.as_deref().unwrap_or_default(),
                );
            }
        }
    }
    errors
}

fn path(errors: &mut Vec<FieldError>, path: &str, at: &FieldPath) {
    required(errors, at, path);
    if path.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(at, path, "must not contain '..'"));
    }
}

/// The name of a CSI driver.
pub(in crate::kinds) fn driver_name(errors: &mut Vec<FieldError>, driver: &str, at: &FieldPath) {
    if driver.is_empty() {
        errors.push(FieldError::required(at, ""));
        return;
    }
    if driver.len() > MAX_DRIVER_NAME {
        errors.push(FieldError::too_long(at, MAX_DRIVER_NAME));
    }
    let wrong = names::dns1123_subdomain(&driver.to_lowercase());
    meta::extend_invalid(errors, at, driver, wrong);
}
