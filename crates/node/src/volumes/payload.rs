//! What the agent writes into configMap, secret, downwardAPI and projected volumes.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};

use super::VolumeError;
use super::atomic::{File, Files};
use crate::agent::Agent;
use crate::env::{Addresses, EnvError, Room, field, optional, resource};

const DEFAULT_MODE: i32 = 0o644;

/// The directory's kind, and whether it is kept in memory; `None` for other volumes.
pub(super) fn kind(v: &Volume) -> Option<(&'static str, bool)> {
    if v.config_map.is_some() {
        Some(("configmap", false))
    } else if v.secret.is_some() {
        Some(("secret", true))
    } else if v.downward_api.is_some() {
        Some(("downward-api", true))
    } else if v.projected.is_some() {
        Some(("projected", true))
    } else {
        None
    }
}

/// The agent writes this volume's content.
pub(super) fn is_written(v: &Volume) -> bool {
    kind(v).is_some()
}

/// Each file takes whole blocks.
const BLOCK: usize = 4096;

struct Writer<'a> {
    agent: &'a Agent,
    pod: &'a Pod,
    pod_ips: &'a [String],
    group: Option<u32>,
    files: Files,
    room: &'a mut Room,
    age: Duration,
}

/// Collects the files of a volume. What is read for them may be as old as `age`.
pub(super) async fn payload(
    agent: &Agent,
    pod: &Pod,
    volume: &Volume,
    pod_ips: &[String],
    group: Option<u32>,
    room: &mut Room,
    age: Duration,
) -> Result<Files, VolumeError> {
    let mut w = Writer {
        agent,
        pod,
        pod_ips,
        group,
        files: Files::new(),
        room,
        age,
    };
    if let Some(s) = &volume.config_map {
        w.config_map(&s.name, s.items.as_deref(), s.optional, s.default_mode)
            .await?;
    }
    if let Some(s) = &volume.secret {
        let name = s.secret_name.clone().unwrap_or_default();
        w.secret(&name, s.items.as_deref(), s.optional, s.default_mode)
            .await?;
    }
    if let Some(s) = &volume.downward_api {
        w.downward(s.items.as_deref(), s.default_mode)?;
    }
    if let Some(s) = &volume.projected {
        for source in s.sources.iter().flatten() {
            w.projection(source, s.default_mode, &volume.name).await?;
        }
    }
    Ok(w.files)
}

fn mode(own: Option<i32>, default: Option<i32>) -> Result<u32, VolumeError> {
    let value = own.or(default).unwrap_or(DEFAULT_MODE);
    let mode = u32::try_from(value).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or(VolumeError::Number {
        field: "file mode",
        value: value.into(),
    })
}

impl Writer<'_> {
    fn ns(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Takes the room before there is another copy of the data.
    fn put(&mut self, path: &str, data: &[u8], mode: u32) -> Result<(), VolumeError> {
        self.need(data)?;
        let file = File {
            data: data.to_owned(),
            mode,
            owner: None,
        };
        self.files.insert(path.to_owned(), file);
        Ok(())
    }

    fn need(&mut self, data: &[u8]) -> Result<(), VolumeError> {
        let bytes = data.len().max(1).next_multiple_of(BLOCK);
        self.room.take(bytes).map_err(|_| VolumeError::TooLarge)
    }

    /// Adds all of `data`, or the chosen keys under their paths.
    fn pick(
        &mut self,
        kind: &'static str,
        data: &BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
        skip_missing: bool,
        default: Option<i32>,
    ) -> Result<(), VolumeError> {
        let Some(items) = items.filter(|i| !i.is_empty()) else {
            for (key, value) in data {
                self.put(key, value, mode(None, default)?)?;
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(value) => {
                    self.put(&item.path, value, mode(item.mode, default)?)?;
                }
                None if skip_missing => {}
                None => {
                    return Err(VolumeError::Key {
                        kind,
                        key: item.key.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    async fn config_map(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        skip: Option<bool>,
        default: Option<i32>,
    ) -> Result<(), VolumeError> {
        let objects = &self.agent.objects;
        let found = objects.recent_config_map(self.ns(), name, self.age).await;
        let map: ConfigMap = optional(found, skip)?.unwrap_or_default();
        let mut data: BTreeMap<String, Vec<u8>> = map
            .data
            .into_iter()
            .flatten()
            .map(|(k, v)| (k, v.into_bytes()))
            .collect();
        data.extend(bytes(map.binary_data));
        self.pick("config", &data, items, skip == Some(true), default)
    }

    async fn secret(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        skip: Option<bool>,
        default: Option<i32>,
    ) -> Result<(), VolumeError> {
        let found = self.agent.objects.secret(self.ns(), name).await;
        let secret: Secret = optional(found, skip)?.unwrap_or_default();
        let data: BTreeMap<String, Vec<u8>> = bytes(secret.data).collect();
        self.pick("secret", &data, items, skip == Some(true), default)
    }

    fn downward(
        &mut self,
        items: Option<&[DownwardAPIVolumeFile]>,
        default: Option<i32>,
    ) -> Result<(), VolumeError> {
        let host_ips = self.agent.host_ips.clone();
        let addresses = Addresses {
            pod_ips: self.pod_ips,
            host_ips: &host_ips,
        };
        for item in items.unwrap_or_default() {
            let value = if let Some(f) = &item.field_ref {
                field(
                    self.pod,
                    &f.field_path,
                    &addresses,
                    &self.agent.config.node_name,
                )
                .ok_or_else(|| EnvError::Field(f.field_path.clone()))?
            } else if let Some(r) = &item.resource_field_ref {
                let allocatable = crate::registration::allocatable(self.agent);
                resource(self.pod, None, r, &allocatable)?
            } else {
                return Err(VolumeError::Unsupported("downwardAPI item without a field"));
            };
            self.put(&item.path, value.as_bytes(), mode(item.mode, default)?)?;
        }
        Ok(())
    }

    async fn projection(
        &mut self,
        source: &VolumeProjection,
        default: Option<i32>,
        volume: &str,
    ) -> Result<(), VolumeError> {
        if let Some(s) = &source.config_map {
            self.config_map(&s.name, s.items.as_deref(), s.optional, default)
                .await?;
        }
        if let Some(s) = &source.secret {
            self.secret(&s.name, s.items.as_deref(), s.optional, default)
                .await?;
        }
        if let Some(s) = &source.downward_api {
            self.downward(s.items.as_deref(), default)?;
        }
        if let Some(s) = &source.service_account_token {
            self.token(s, default, volume).await?;
        }
        if source.cluster_trust_bundle.is_some() {
            return Err(VolumeError::Unsupported("projected clusterTrustBundle"));
        }
        if source.pod_certificate.is_some() {
            return Err(VolumeError::Unsupported("projected podCertificate"));
        }
        Ok(())
    }

    /// Tokens are asked for again after four fifths of their life.
    async fn token(
        &mut self,
        s: &ServiceAccountTokenProjection,
        default: Option<i32>,
        volume: &str,
    ) -> Result<(), VolumeError> {
        let uid = self.pod.metadata.uid.clone().unwrap_or_default();
        let key = format!("{uid}/{volume}/{}", s.path);
        let token = match self.agent.tokens.fresh(&key) {
            Some(token) => token,
            None => {
                let status = self
                    .agent
                    .objects
                    .token(self.pod, s.audience.as_deref(), s.expiration_seconds)
                    .await?;
                self.agent.tokens.keep(key, &status);
                let token = status.token.filter(|token| !token.is_empty());
                token.ok_or(VolumeError::NoToken)?
            }
        };
        let run_as = self
            .pod
            .spec
            .as_ref()
            .and_then(|p| p.security_context.as_ref())
            .and_then(|c| c.run_as_user);
        // As the stock kubelet: 0600 for the one user or the group, else the volume's mode.
        let mode = match (self.group, run_as) {
            (None, Some(_)) => 0o600,
            (Some(_), _) => 0o600,
            (None, None) => mode(None, default)?,
        };
        self.need(token.as_bytes())?;
        let file = File {
            data: token.into_bytes(),
            mode,
            owner: super::id("runAsUser", run_as)?,
        };
        self.files.insert(s.path.clone(), file);
        Ok(())
    }
}

fn bytes(data: Option<BTreeMap<String, ByteString>>) -> impl Iterator<Item = (String, Vec<u8>)> {
    data.into_iter().flatten().map(|(k, v)| (k, v.0))
}
