//! What a pod makes its node read: the edges of the stock node authorizer's graph.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, LocalObjectReference, Pod, Volume};

/// Names of objects in the pod's namespace, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Secrets.
    pub secrets: BTreeSet<String>,
    /// ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// PersistentVolumeClaims.
    pub claims: BTreeSet<String>,
}

/// What the pod refers to, in its containers (all kinds of them), its volumes and its pull secrets.
#[must_use]
pub fn references(pod: &Pod) -> References {
    let mut found = References::default();
    let Some(spec) = &pod.spec else {
        return found;
    };
    for secret in spec.image_pull_secrets.iter().flatten() {
        found.secret(&secret.name);
    }
    for container in spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
    {
        found.environment(container.env.as_deref(), container.env_from.as_deref());
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        found.environment(container.env.as_deref(), container.env_from.as_deref());
    }
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    for volume in spec.volumes.iter().flatten() {
        found.volume(volume, pod_name);
    }
    found
}

impl References {
    fn secret(&mut self, name: &str) {
        if !name.is_empty() {
            self.secrets.insert(name.to_owned());
        }
    }

    fn config_map(&mut self, name: &str) {
        if !name.is_empty() {
            self.config_maps.insert(name.to_owned());
        }
    }

    fn local(&mut self, reference: Option<&LocalObjectReference>) {
        if let Some(reference) = reference {
            self.secret(&reference.name);
        }
    }

    fn environment(&mut self, env: Option<&[EnvVar]>, env_from: Option<&[EnvFromSource]>) {
        for source in env
            .unwrap_or_default()
            .iter()
            .filter_map(|e| e.value_from.as_ref())
        {
            if let Some(key) = &source.secret_key_ref {
                self.secret(&key.name);
            }
            if let Some(key) = &source.config_map_key_ref {
                self.config_map(&key.name);
            }
        }
        for source in env_from.unwrap_or_default() {
            if let Some(from) = &source.secret_ref {
                self.secret(&from.name);
            }
            if let Some(from) = &source.config_map_ref {
                self.config_map(&from.name);
            }
        }
    }

    fn volume(&mut self, volume: &Volume, pod_name: &str) {
        if let Some(v) = &volume.secret {
            self.secret(v.secret_name.as_deref().unwrap_or_default());
        }
        if let Some(v) = &volume.config_map {
            self.config_map(&v.name);
        }
        for source in volume
            .projected
            .iter()
            .flat_map(|p| p.sources.iter().flatten())
        {
            if let Some(secret) = &source.secret {
                self.secret(&secret.name);
            }
            if let Some(map) = &source.config_map {
                self.config_map(&map.name);
            }
        }
        if let Some(v) = &volume.persistent_volume_claim
            && !v.claim_name.is_empty()
        {
            self.claims.insert(v.claim_name.clone());
        }
        if volume.ephemeral.is_some() {
            self.claims.insert(format!("{pod_name}-{}", volume.name));
        }
        if let Some(v) = &volume.azure_file {
            self.secret(&v.secret_name);
        }
        if let Some(v) = &volume.scale_io {
            self.secret(&v.secret_ref.name);
        }
        self.local(volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()));
        self.local(volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()));
        self.local(
            volume
                .flex_volume
                .as_ref()
                .and_then(|v| v.secret_ref.as_ref()),
        );
        self.local(volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()));
        self.local(volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()));
        self.local(
            volume
                .storageos
                .as_ref()
                .and_then(|v| v.secret_ref.as_ref()),
        );
        self.local(
            volume
                .csi
                .as_ref()
                .and_then(|v| v.node_publish_secret_ref.as_ref()),
        );
    }
}
