//! From a container of a pod to CRI's ContainerConfig.

mod mounts;
mod resources;
mod security;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use berth_core::fnv::fnv1a;
use berth_cri_api::v1::{ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::agent::Agent;
use crate::amount::{self, QuantityError};
use crate::cri::labels;
use crate::devices::AnswerError;
use crate::env::{Addresses, EnvError, Room, by_name, environment, expand, key_values};
use crate::users::UsersError;
use crate::volumes::{Mounted, SubPathError};

pub(crate) use resources::{container_resources, resources_of_pod};
pub(crate) use security::{ProfileError, SecurityError, seccomp, selinux};

/// Why a container's config cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    #[error("device plugins: {0}")]
    Devices(#[from] AnswerError),
    #[error("volume mount {mount:?} has {field} {value:?}, which this node does not know")]
    Unknown {
        mount: String,
        field: &'static str,
        value: String,
    },
    #[error(transparent)]
    SubPath(#[from] SubPathError),
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error(
        "volume mount {0:?} asks for recursiveReadOnly, which the runtime handler does not support"
    )]
    Recursive(String),
    #[error("cannot prepare {}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// What a config is made of besides the pod.
pub(crate) struct Parts<'a> {
    pub(crate) container: &'a Container,
    pub(crate) attempt: u32,
    pub(crate) volumes: &'a Mounted,
    pub(crate) image_ref: &'a str,
    pub(crate) image_user: &'a ImageUser,
    pub(crate) pod_ips: &'a [String],
    pub(crate) target_id: Option<String>,
    /// The handler that the pod runs under; empty is the default one.
    pub(crate) handler: &'a str,
}

/// The user that an image asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageUser {
    pub(crate) uid: Option<i64>,
    pub(crate) name: String,
}

/// Where the process may leave its last words, on this machine.
pub(crate) fn message_file(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir
        .join("containers")
        .join(container)
        .join(attempt.to_string())
}

/// Builds the whole config.
pub(crate) async fn container_config(
    agent: &Agent,
    pod: &Pod,
    parts: &Parts<'_>,
) -> Result<ContainerConfig, ConfigError> {
    let c = parts.container;
    let spec = pod.spec.clone().unwrap_or_default();
    let host_ips = agent.host_ips.clone();
    let addresses = Addresses {
        pod_ips: if spec.host_network == Some(true) {
            &host_ips
        } else {
            parts.pod_ips
        },
        host_ips: &host_ips,
    };
    let env = environment(agent, pod, c, &addresses).await?;
    let values = by_name(&env);
    let mut room = Room::of_program();
    let mut expand_all = |list: &Option<Vec<String>>| -> Result<Vec<String>, EnvError> {
        let find = |name: &str| values.get(name).copied();
        let texts = list.iter().flatten();
        texts.map(|s| Ok(expand(s, find, &mut room)?)).collect()
    };
    let command = expand_all(&c.command)?;
    let args = expand_all(&c.args)?;
    amount::check_container(c)?;
    let users = agent.users.of(pod)?;
    let target = parts.target_id.clone();
    let security = security::context(agent, &spec, c, parts.image_user, target, users)?;
    let mut mounts = mounts::mounts(agent, pod, parts, &values, &addresses, users)?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let added = agent.devices.additions(uid, &c.name)?;
    mounts.extend(added.mounts);
    // What the pod says of a variable counts, as under the stock kubelet.
    let mut variables: Vec<(String, String)> = added
        .variables
        .into_iter()
        .filter(|(name, _)| !values.contains_key(name.as_str()))
        .collect();
    let mut annotations = HashMap::from([
        (labels::HASH.to_owned(), hash(c)),
        (labels::RESTART_COUNT.to_owned(), parts.attempt.to_string()),
        (labels::MESSAGE_PATH.to_owned(), message_path(c).to_owned()),
        (
            labels::MESSAGE_POLICY.to_owned(),
            c.termination_message_policy
                .clone()
                .unwrap_or_else(|| "File".to_owned()),
        ),
        (
            labels::GRACE_PERIOD.to_owned(),
            spec.termination_grace_period_seconds
                .unwrap_or(30)
                .to_string(),
        ),
    ]);
    let json = |v: serde_json::Result<String>| v.unwrap_or_default();
    if let Some(hook) = c.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) {
        annotations.insert(
            labels::PRE_STOP.to_owned(),
            json(serde_json::to_string(hook)),
        );
    }
    if let Some(ports) = &c.ports {
        annotations.insert(labels::PORTS.to_owned(), json(serde_json::to_string(ports)));
    }
    for (key, value) in added.annotations {
        annotations.entry(key).or_insert(value);
    }
    variables.extend(env);
    let part = |s: &Option<String>| s.clone().unwrap_or_default();
    let image = part(&c.image);
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: c.name.clone(),
            attempt: parts.attempt,
        }),
        image: Some(ImageSpec {
            image: parts.image_ref.to_owned(),
            user_specified_image: image,
            ..ImageSpec::default()
        }),
        command,
        args,
        working_dir: part(&c.working_dir),
        envs: key_values(variables),
        mounts,
        devices: added.devices,
        cdi_devices: added.cdi,
        labels: HashMap::from([
            (labels::CONTAINER_NAME.to_owned(), c.name.clone()),
            (labels::POD_NAME.to_owned(), part(&pod.metadata.name)),
            (
                labels::POD_NAMESPACE.to_owned(),
                part(&pod.metadata.namespace),
            ),
            (labels::POD_UID.to_owned(), part(&pod.metadata.uid)),
        ]),
        annotations,
        log_path: format!("{}/{}.log", c.name, parts.attempt),
        stdin: c.stdin.unwrap_or(false),
        stdin_once: c.stdin_once.unwrap_or(false),
        tty: c.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(container_resources(agent, pod, c)),
            security_context: Some(security),
        }),
        stop_signal: c
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| berth_cri_api::signal::named(lifecycle.stop_signal.as_deref()?))
            .unwrap_or_default()
            .into(),
        ..ContainerConfig::default()
    })
}

/// Where the container finds the file for its last words.
pub(crate) fn message_path(c: &Container) -> &str {
    c.termination_message_path
        .as_deref()
        .filter(|p| !p.is_empty())
        .unwrap_or("/dev/termination-log")
}

/// Changes when the container has to be made anew: by name and image.
fn hash(c: &Container) -> String {
    let image = c.image.as_deref().unwrap_or_default();
    let hash = fnv1a(c.name.bytes().chain([0]).chain(image.bytes()));
    format!("{hash:x}")
}
