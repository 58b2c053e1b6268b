//! The ServiceAccount plugin: a pod runs as an account, and gets its token mounted.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
    ObjectFieldSelector, Pod, ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection,
    Volume, VolumeMount, VolumeProjection,
};

use super::Rejection;

/// Where the token, the CA and the namespace are mounted.
pub const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The account of a pod that names none.
pub const DEFAULT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const TOKEN_SECONDS: i64 = 3607;
const FILE_MODE: i32 = 0o644;

/// The account that a pod will run as.
#[must_use]
pub fn account_name(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref())
        .filter(|n| !n.is_empty())
        .unwrap_or(DEFAULT)
}

/// Sets the account, its image pull secrets, and the token volume unless the pod or the account declines.
/// `account` is what [`account_name`] names, `suffix` five random characters for the volume's name.
///
/// # Errors
/// [`Rejection::ServiceAccountNotFound`].
pub fn admit(
    pod: &mut Pod,
    account: Option<&ServiceAccount>,
    suffix: &str,
) -> Result<(), Rejection> {
    let name = account_name(pod).to_owned();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let Some(account) = account else {
        return Err(Rejection::ServiceAccountNotFound { namespace, name });
    };
    let Some(spec) = pod.spec.as_mut() else {
        return Ok(());
    };
    spec.service_account_name = Some(name.clone());
    spec.service_account = Some(name);
    if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
        spec.image_pull_secrets = account.image_pull_secrets.clone().filter(|s| !s.is_empty());
    }
    let wanted = spec
        .automount_service_account_token
        .or(account.automount_service_account_token)
        .unwrap_or(true);
    if !wanted {
        return Ok(());
    }
    let existing = spec
        .volumes
        .iter()
        .flatten()
        .find(|v| v.name.starts_with(VOLUME_PREFIX))
        .map(|v| v.name.clone());
    let volume = existing
        .clone()
        .unwrap_or_else(|| format!("{VOLUME_PREFIX}{suffix}"));
    let mut mounted = false;
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers)
    {
        mounted |= mount(container, &volume);
    }
    if mounted && existing.is_none() {
        spec.volumes
            .get_or_insert_default()
            .push(token_volume(volume));
    }
    Ok(())
}

fn mount(container: &mut Container, volume: &str) -> bool {
    let mounts = container.volume_mounts.get_or_insert_default();
    if mounts.iter().any(|m| m.mount_path == MOUNT_PATH) {
        return false;
    }
    mounts.push(VolumeMount {
        name: volume.to_owned(),
        read_only: Some(true),
        mount_path: MOUNT_PATH.to_owned(),
        ..VolumeMount::default()
    });
    true
}

fn token_volume(name: String) -> Volume {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            path: "token".to_owned(),
            expiration_seconds: Some(TOKEN_SECONDS),
            audience: None,
        }),
        ..VolumeProjection::default()
    };
    let authority = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".to_owned(),
            items: Some(vec![KeyToPath {
                key: "ca.crt".to_owned(),
                path: "ca.crt".to_owned(),
                mode: None,
            }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".to_owned(),
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".to_owned()),
                    field_path: "metadata.namespace".to_owned(),
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name,
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(FILE_MODE),
            sources: Some(vec![token, authority, namespace]),
        }),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}))
            .unwrap()
    }

    fn account(body: Value) -> ServiceAccount {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn token_and_secrets() {
        let c = json!([{"name": "c"}, {"name": "own", "volumeMounts": [{"name": "x", "mountPath": MOUNT_PATH}]}]);
        for (spec, account_body, mounts, secrets) in [
            (json!({"containers": c}), json!({}), 1, 0),
            (
                json!({"containers": c, "initContainers": [{"name": "i"}]}),
                json!({"imagePullSecrets": [{"name": "s"}]}),
                2,
                1,
            ),
            (
                json!({"containers": c, "automountServiceAccountToken": false}),
                json!({}),
                0,
                0,
            ),
            (
                json!({"containers": c}),
                json!({"automountServiceAccountToken": false}),
                0,
                0,
            ),
            (
                json!({"containers": c, "automountServiceAccountToken": true}),
                json!({"automountServiceAccountToken": false}),
                1,
                0,
            ),
            (
                json!({"containers": c, "imagePullSecrets": [{"name": "a"}, {"name": "b"}]}),
                json!({"imagePullSecrets": [{"name": "s"}]}),
                1,
                2,
            ),
        ] {
            let mut p = pod(spec.clone());
            admit(&mut p, Some(&account(account_body)), "abcde").unwrap();
            let s = p.spec.unwrap();
            let all = s
                .containers
                .iter()
                .chain(s.init_containers.iter().flatten());
            let count = all
                .flat_map(|c| c.volume_mounts.iter().flatten())
                .filter(|m| m.name == "kube-api-access-abcde")
                .count();
            assert_eq!(
                (count, s.image_pull_secrets.map_or(0, |l| l.len())),
                (mounts, secrets),
                "{spec}"
            );
            assert_eq!(s.volumes.map_or(0, |v| v.len()), usize::from(mounts > 0));
            assert_eq!(
                (
                    s.service_account_name.as_deref(),
                    s.service_account.as_deref()
                ),
                (Some("default"), Some("default"))
            );
        }
    }

    #[test]
    fn a_missing_account_is_named() {
        let mut p = pod(json!({"containers": [], "serviceAccountName": "nope"}));
        assert_eq!(
            admit(&mut p, None, "x").unwrap_err().to_string(),
            "error looking up service account n/nope: serviceaccount \"nope\" not found"
        );
    }
}
