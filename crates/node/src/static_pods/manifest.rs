//! From a file to a static pod: read, decoded, defaulted, validated, named after the node.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use berth_api::decode::{DecodeError, Document, decode};
use berth_manifests::{DirectoryError, FileError, Found};
use berth_rules::Rules;
use berth_rules::admission::node_restriction::references;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Toleration, Volume};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A manifest is no larger than an object may be.
const MAX_BYTES: u64 = 3 << 19;
/// As deep as a document may be, and a little: [`Document`] has the bound.
const MAX_DEPTH: usize = 110;
/// Reading a document calls itself for each of its levels.
const STACK_BYTES: usize = 16 << 20;

pub(super) const HASH: &str = "kubernetes.io/config.hash";
const SOURCE: &str = "kubernetes.io/config.source";

/// Why a file is no static pod.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot read it: {0}")]
    Thread(io::Error),
    #[error("it is not valid YAML: {0}")]
    Yaml(String),
    #[error("it is {0:?}, not a Pod of v1")]
    Kind(String),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("field {0} is not known to this node")]
    Unknown(String),
    #[error("key {0} is there twice")]
    Twice(String),
    #[error("invalid pod: name is needed for the pod")]
    Name,
    #[error("invalid pod: {0}")]
    Invalid(String),
    #[error("static pods may not reference {0}")]
    Refers(&'static str),
}

/// All files by path; a file that is as it was in `old` is not read again.
pub(super) type Look = BTreeMap<PathBuf, (Found, Option<Result<Pod, ManifestError>>)>;

/// Looks at a directory.
pub(super) fn look(
    dir: &Path,
    old: &BTreeMap<PathBuf, Found>,
    node: &str,
) -> Result<Look, DirectoryError> {
    let all = berth_manifests::look(dir, old, MAX_BYTES)?.into_iter();
    let read = all.map(|(path, (found, text))| {
        let pod = text.map(|text| read(text?, &path, node));
        (path, (found, pod))
    });
    Ok(read.collect())
}

fn read(text: String, path: &Path, node: &str) -> Result<Pod, ManifestError> {
    let mut pod = parse(&text)?;
    complete(&mut pod, path, node, &text)?;
    Ok(pod)
}

fn parse(text: &str) -> Result<Pod, ManifestError> {
    let document = on_a_large_stack(|| yaml(text))?;
    if let Some(path) = document.repeated.into_iter().next() {
        return Err(ManifestError::Twice(path));
    }
    let part = |key: &str| {
        document
            .value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if (part("apiVersion"), part("kind")) != ("v1", "Pod") {
        let kind = format!("{} {}", part("apiVersion"), part("kind"));
        return Err(ManifestError::Kind(kind.trim().to_owned()));
    }
    let decoded = decode::<Pod>(&document.value)?;
    match decoded.unknown_fields.into_iter().next() {
        Some(field) => Err(ManifestError::Unknown(field)),
        None => Ok(decoded.object),
    }
}

/// JSON is YAML, too.
fn yaml(text: &str) -> Result<Document, ManifestError> {
    let expanded = text.len().saturating_mul(20).saturating_add(1 << 16);
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
    };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        Document::read(deserializer, expanded)
    })
    .map_err(|error| ManifestError::Yaml(error.to_string()))
}

fn on_a_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, ManifestError> + Send,
) -> Result<T, ManifestError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("manifest".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(ManifestError::Thread)?;
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What the kubelet makes of a manifest: bound to the node and named after it, tolerating what would evict it, with the
/// API's defaults, and refused where the API would refuse it or it needs what only the API has.
fn complete(pod: &mut Pod, path: &Path, node: &str, text: &str) -> Result<(), ManifestError> {
    let meta = &mut pod.metadata;
    let name = meta.name.take().filter(|name| !name.is_empty());
    meta.name = Some(format!(
        "{}-{}",
        name.ok_or(ManifestError::Name)?,
        node.to_lowercase()
    ));
    if meta.namespace.as_ref().is_none_or(String::is_empty) {
        meta.namespace = Some("default".to_owned());
    }
    let hash = hash(path, node, text);
    meta.uid = Some(hash.clone());
    // Of the API's making, and nobody's to say in a file.
    meta.resource_version = None;
    meta.owner_references = None;
    meta.finalizers = None;
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.generate_name = None;
    let annotations = meta.annotations.get_or_insert_default();
    annotations.remove(super::seen::MIRROR);
    annotations.insert(HASH.to_owned(), hash);
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    let everything = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&everything) {
        tolerations.push(everything);
    }
    pod.status = Some(PodStatus {
        phase: Some("Pending".to_owned()),
        ..PodStatus::default()
    });
    pod.default();
    let errors = pod.validate();
    if !errors.is_empty() {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(ManifestError::Invalid(errors.join("; ")));
    }
    match refers(pod) {
        Some(what) => Err(ManifestError::Refers(what)),
        None => Ok(()),
    }
}

/// In the form of a uid, as the kubelet's: 32 digits.
fn hash(path: &Path, node: &str, text: &str) -> String {
    let mut hash = Sha256::new();
    for part in [
        text.as_bytes(),
        node.as_bytes(),
        path.as_os_str().as_encoded_bytes(),
    ] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..16])
}

/// What of the API the pod needs, as `PreventStaticPodAPIReferences` has it.
fn refers(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if said(&spec.service_account_name) || said(&spec.service_account) {
        return Some("serviceaccounts");
    }
    let found = references(pod);
    if !found.secrets.is_empty() {
        return Some("secrets");
    }
    if !found.config_maps.is_empty() {
        return Some("configmaps");
    }
    if !found.claims.is_empty() {
        return Some("persistentvolumeclaims");
    }
    if spec
        .resource_claims
        .as_ref()
        .is_some_and(|claims| !claims.is_empty())
    {
        return Some("resourceclaims");
    }
    spec.volumes.iter().flatten().find_map(of_volume)
}

fn of_volume(volume: &Volume) -> Option<&'static str> {
    if volume.config_map.is_some() {
        return Some("configmaps (via configmap volumes)");
    }
    if volume.secret.is_some() || volume.azure_file.is_some() {
        return Some("secrets (via secret volumes)");
    }
    if volume.csi.is_some() {
        return Some("csidrivers (via CSI volumes)");
    }
    if volume.glusterfs.is_some() {
        return Some("endpoints (via glusterFS volumes)");
    }
    if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        return Some("persistentvolumeclaims");
    }
    let sources = volume
        .projected
        .iter()
        .flat_map(|p| p.sources.iter().flatten());
    sources
        .filter(|source| source.downward_api.is_none())
        .map(|source| {
            if source.service_account_token.is_some() {
                "serviceaccounts (via projected volumes)"
            } else if source.cluster_trust_bundle.is_some() {
                "clustertrustbundles"
            } else {
                "what only the API has (via projected volumes)"
            }
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  creationTimestamp: null\nspec:\n  containers:\n  - name: c\n    image: busybox\nstatus: {}\n";

    fn of(text: &str) -> Result<Pod, ManifestError> {
        let mut pod = parse(text)?;
        complete(&mut pod, Path::new("/m/web.yaml"), "node1", text)?;
        Ok(pod)
    }

    #[test]
    fn a_manifest_is_completed_as_the_kubelet_does() {
        let pod = of(GOOD).unwrap();
        let meta = &pod.metadata;
        assert_eq!(meta.name.as_deref(), Some("web-node1"));
        assert_eq!(meta.namespace.as_deref(), Some("default"));
        let annotations = meta.annotations.as_ref().unwrap();
        assert_eq!(annotations.get(HASH), meta.uid.as_ref());
        assert_eq!(annotations.get(SOURCE).map(String::as_str), Some("file"));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("node1"));
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        assert_eq!(
            spec.containers[0].image_pull_policy.as_deref(),
            Some("Always")
        );
        let toleration = &spec.tolerations.unwrap()[0];
        assert_eq!(toleration.effect.as_deref(), Some("NoExecute"));
        // The same content is the same pod, another one or another place is not.
        assert_eq!(of(GOOD).unwrap().metadata.uid, meta.uid);
        assert_ne!(
            of(&GOOD.replace("busybox", "alpine")).unwrap().metadata.uid,
            meta.uid
        );
        assert_ne!(
            hash(Path::new("/other"), "node1", GOOD),
            hash(Path::new("/m/web.yaml"), "node1", GOOD)
        );
        let json = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "uid": "mine"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}"#;
        assert_ne!(of(json).unwrap().metadata.uid.as_deref(), Some("mine"));
    }

    #[test]
    fn what_is_no_pod_or_needs_the_api_is_refused() {
        let with = |spec: &str| GOOD.replace("spec:\n", &format!("spec:\n{spec}"));
        let volume = |source: &str| with(&format!("  volumes:\n  - name: v\n    {source}\n"));
        for (text, said) in [
            ("", "not a Pod"),
            ("{", "not valid YAML"),
            ("- 1", "not a Pod"),
            ("apiVersion: v1\nkind: Secret\n", "it is \"v1 Secret\""),
            (&GOOD.replace("name: web", "name: \"\""), "name is needed"),
            (&GOOD.replace("name: web", "name: Web_1"), "invalid pod: metadata.name"),
            (&GOOD.replace("image: busybox", "image: busybox\n    imagePolicy: x"), "imagePolicy is not known"),
            (&GOOD.replace("image: busybox", "image: busybox\n    image: alpine"), "is there twice"),
            (&GOOD.replace("image: busybox", "image: 1"), "spec.containers[0].image"),
            (&with("  serviceAccountName: x\n"), "static pods may not reference serviceaccounts"),
            (&with("  imagePullSecrets: [{name: x}]\n"), "static pods may not reference secrets"),
            (&volume("secret: {secretName: x}"), "static pods may not reference secrets"),
            (&volume("configMap: {name: x}"), "static pods may not reference configmaps"),
            (&volume("persistentVolumeClaim: {claimName: x}"), "persistentvolumeclaims"),
            (&volume("csi: {driver: x.y}"), "csidrivers"),
            (&volume("projected: {sources: [{serviceAccountToken: {path: t}}]}"), "serviceAccountToken"),
            (&GOOD.replace("image: busybox", "image: busybox\n    envFrom: [{configMapRef: {name: x}}]"), "configmaps"),
            (&GOOD.replace("image: busybox", "image: busybox\n    env: [{name: A, valueFrom: {secretKeyRef: {name: x, key: k}}}]"), "secrets"),
        ] {
            let refused = of(text).unwrap_err().to_string();
            assert!(refused.contains(said), "{text}: {refused}");
        }
        // Aliases that multiply each other end in an error.
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let all = format!("*a{}, ", n - 1).repeat(9);
            bomb.push_str(&format!("a{n}: &a{n} [{all}]\n"));
        }
        of(&bomb).unwrap_err();
        of(&"[".repeat(100_000)).unwrap_err();
        of(&volume("hostPath: {path: /tmp}")).unwrap();
        of(&volume("projected: {sources: [{downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}")).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_refused_as_a_pod() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.yaml");
        std::fs::write(&path, "x".repeat(2 << 20)).unwrap();
        std::fs::write(dir.path().join("good.yaml"), GOOD).unwrap();
        let all = look(dir.path(), &BTreeMap::new(), "n1").unwrap();
        let refused = |(_, pod): &&(Found, Option<Result<Pod, ManifestError>>)| {
            matches!(
                pod,
                Some(Err(ManifestError::File(FileError::Large(MAX_BYTES))))
            )
        };
        assert_eq!(all.values().filter(refused).count(), 1);
        assert!(refused(&&all[&path]));
    }
}
