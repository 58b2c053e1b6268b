//! The documents of an image: manifest, index and config, in their OCI and Docker (schema 2) forms.
//!
//! Read leniently, as registries serve what many tools wrote: unknown fields are passed over and `null`
//! stands for absent. What decides about content (digests, sizes, kinds) is read strictly.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use crate::digest::Digest;
use crate::platform::Platform;
use crate::types::ImageConfig;

/// No honest manifest is larger; registries have the same bound.
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;
/// No honest config is larger. It is kept in the catalog, which is read and written as a whole.
pub(crate) const CONFIG_MAX: u64 = 4 << 20;

/// What is asked for at a registry.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A link from one document to the next.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    platform: Option<RawPlatform>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct RawPlatform {
    #[serde(default, deserialize_with = "or_default")]
    os: String,
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Descriptor {
    pub(crate) fn new(digest: Digest, size: u64) -> Self {
        Self {
            media_type: String::new(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    pub(crate) fn platform(&self) -> Option<Platform> {
        let raw = self
            .platform
            .as_ref()
            .filter(|p| !p.architecture.is_empty())?;
        Some(Platform {
            os: raw.os.clone(),
            architecture: raw.architecture.clone(),
            variant: raw.variant.clone(),
        })
    }

    /// Builders put signatures and provenance into an index as manifests for no platform.
    fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self
                .platform
                .as_ref()
                .is_some_and(|p| p.architecture == "unknown")
    }
}

/// One image of one platform.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// A manifest or a list of them.
#[derive(Debug, Clone)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

/// Reads a manifest or an index. The error is a reason for a person.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, String> {
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if raw.schema_version == Some(1) || raw.fs_layers.is_some() {
        return Err(
            "it is in Docker's schema 1, which is no longer supported; push the image again"
                .to_owned(),
        );
    }
    let index = raw.media_type.contains("index") || raw.media_type.contains("manifest.list");
    match (raw.config, raw.layers, raw.manifests) {
        (None, None, Some(manifests)) if index || raw.media_type.is_empty() => {
            Ok(Document::Index(manifests))
        }
        (Some(config), Some(layers), None) if !index => {
            check_kinds(&config, &layers)?;
            Ok(Document::Manifest(Manifest { config, layers }))
        }
        (None, None, None) => Err("it is neither a manifest nor an index".to_owned()),
        // One document that can be read in two ways has two meanings under one digest.
        _ => Err("it mixes the fields of a manifest and an index".to_owned()),
    }
}

fn check_kinds(config: &Descriptor, layers: &[Descriptor]) -> Result<(), String> {
    let kind = config.media_type.as_str();
    let known = [
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    ];
    // Some old builders called the config a plain octet stream.
    if !known.contains(&kind) && !kind.is_empty() && kind != "application/octet-stream" {
        return Err(format!(
            "it is an artifact of type {kind}, not a container image"
        ));
    }
    if let Some(layer) = layers.iter().find(|l| l.media_type.contains("encrypted")) {
        return Err(format!(
            "layer {} is encrypted, which is not supported",
            layer.digest
        ));
    }
    Ok(())
}

/// Picks the manifest of an index that fits best, or says which platforms it has.
pub(crate) fn choose<'a>(
    index: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, Vec<Platform>> {
    let images = || index.iter().filter(|d| !d.is_attestation());
    let mut best: Option<(u32, &Descriptor)> = None;
    for descriptor in images() {
        let rank = match descriptor.platform() {
            Some(platform) => wanted.rank(&platform),
            // Says nothing: taken if there is nothing better, its config decides.
            None => Some(0),
        };
        if let Some(rank) = rank
            && best.is_none_or(|(best, _)| rank > best)
        {
            best = Some((rank, descriptor));
        }
    }
    best.map(|(_, descriptor)| descriptor)
        .ok_or_else(|| images().filter_map(Descriptor::platform).collect())
}

/// The config document.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) platform: Option<Platform>,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) image: ImageConfig,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    os: String,
    #[serde(default, deserialize_with = "or_default")]
    variant: String,
    rootfs: RawRootfs,
    #[serde(default, deserialize_with = "or_default")]
    config: RawRun,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
    #[serde(deserialize_with = "or_default")]
    stop_signal: String,
    #[serde(deserialize_with = "or_default")]
    volumes: BTreeMap<String, IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
}

/// Reads a config document.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<Config, String> {
    let raw: RawConfig = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let run = raw.config;
    let platform = (!raw.architecture.is_empty()).then(|| Platform {
        os: if raw.os.is_empty() {
            "linux".to_owned()
        } else {
            raw.os
        },
        architecture: raw.architecture,
        variant: (!raw.variant.is_empty()).then_some(raw.variant),
    });
    Ok(Config {
        platform,
        diff_ids: raw.rootfs.diff_ids,
        image: ImageConfig {
            user: run.user,
            env: run.env,
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            workdir: run.working_dir,
            stop_signal: run.stop_signal,
            volumes: run.volumes.into_keys().collect(),
            exposed_ports: run.exposed_ports.into_keys().collect(),
            labels: run.labels,
        },
    })
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: &str) -> String {
        format!(
            r#"{{"mediaType":"{kind}","digest":"{}","size":3}}"#,
            Digest::of(kind.as_bytes())
        )
    }

    #[test]
    fn one_meaning_only() {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{config}]}}"#);
        assert!(matches!(
            parse(manifest.as_bytes()),
            Ok(Document::Manifest(_))
        ));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{config}],"annotations":null}}"#);
        assert!(matches!(parse(index.as_bytes()), Ok(Document::Index(_))));
        for (bad, why) in [
            (
                format!(r#"{{"config":{config},"layers":[],"manifests":[]}}"#),
                "mixes",
            ),
            (
                r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
                "schema 1",
            ),
            (r#"{"schemaVersion":2}"#.to_owned(), "neither"),
            (
                format!(
                    r#"{{"config":{},"layers":[]}}"#,
                    descriptor("application/vnd.helm.config")
                ),
                "artifact",
            ),
            ("7".to_owned(), "invalid"),
        ] {
            let error = parse(bad.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_config_with_nulls() {
        let json = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Entrypoint":null,"Volumes":{"/d":{}},
            "ExposedPorts":{"80/tcp":{}},"Labels":null,"User":"1000:50"},"rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = parse_config(json.as_bytes()).unwrap();
        assert_eq!(
            (config.image.cmd, config.image.volumes),
            (vec!["sh".to_owned()], vec!["/d".to_owned()])
        );
        assert!(config.diff_ids.is_empty() && config.image.entrypoint.is_empty());
        assert!(
            parse_config(b"{}").is_err(),
            "without rootfs it is no image config"
        );
    }

    #[test]
    fn attestations_are_no_platform() {
        let text = format!(
            r#"{{"manifests":[{{"digest":"{0}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}}}},
                {{"digest":"{1}","size":1,"platform":{{"os":"linux","architecture":"arm64"}}}}]}}"#,
            Digest::of(b"a"),
            Digest::of(b"b")
        );
        let Document::Index(index) = parse(text.as_bytes()).unwrap() else {
            panic!()
        };
        let arm = "linux/arm64".parse().unwrap();
        assert_eq!(choose(&index, &arm).unwrap().digest, Digest::of(b"b"));
        assert_eq!(
            choose(&index, &"linux/amd64".parse().unwrap()).unwrap_err(),
            [arm]
        );
    }
}
