//! The runtime of one pod: a handler as it was when the pod began. A reload of the handler table
//! does not touch it.

use std::path::{Path, PathBuf};

use berth_oci::runtime::{GvisorNetwork, RuntimeCommand, RuntimeKind};
use berth_shim::client::{RuntimeOptions, ShimConfig};
use serde::{Deserialize, Serialize};

use crate::Config;
use crate::error::CriError;
use crate::handlers::{
    self, AnnotationMatch, GvisorSettings, Handler, HandlerState, RuntimeDef, Sandboxer, words,
};

/// containerd's namespace for the CRI's containers.
pub(crate) const NAMESPACE: &str = "k8s.io";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodRuntime {
    /// The handler's name, never empty.
    pub(crate) handler: String,
    pub(crate) version: String,
    pub(crate) driver: Driver,
    pub(crate) recursive_read_only_mounts: bool,
    #[serde(default)]
    pub(crate) user_namespaces: bool,
    pub(crate) privileged_without_host_devices: bool,
    #[serde(default)]
    pub(crate) all_devices_allowed: bool,
    #[serde(default)]
    pub(crate) annotation_match: AnnotationMatch,
    pub(crate) pod_annotations: Vec<String>,
    pub(crate) container_annotations: Vec<String>,
    pub(crate) container_min_memory: Option<i64>,
    /// An OCI spec whose hooks, mounts and resource limits are added.
    #[serde(default)]
    pub(crate) base_runtime_spec: Option<PathBuf>,
    /// A directory with the network of this handler's pods.
    #[serde(default)]
    pub(crate) cni_conf_dir: Option<PathBuf>,
    /// Whether another's shim makes the sandbox by its sandbox service, and not by a sandbox container.
    #[serde(default)]
    pub(crate) sandbox_service: bool,
    /// Where the shim makes a directory for each sandbox.
    #[serde(default)]
    pub(crate) sandbox_dirs: Vec<PathBuf>,
}

/// Who drives the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Driver {
    /// berth's own shim, over the runtime's command line.
    Own(RuntimeCommand),
    /// Another shim.
    Shim {
        binary: PathBuf,
        config: Option<PathBuf>,
        #[serde(default)]
        config_type: Option<String>,
        runtime_binary: Option<PathBuf>,
        systemd_cgroup: bool,
        vm: bool,
    },
}

/// Who mounts the root file system of a container on `rootfs` in its bundle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RootfsMounter {
    /// berth, in the host's mount namespace. Also what a record without a word of it means.
    #[default]
    Berth,
    /// The shim: Create tells it how, and it unmounts as well.
    Shim,
}

impl PodRuntime {
    /// Who mounts root file systems: the one place that decides it, for containers that are made from now on.
    ///
    /// berth does for its own shim, which needs no second look at the image then, and any number of layers in one call.
    /// Other shims may live in a mount namespace of their own, in which nothing that berth mounts has to be seen.
    pub(crate) fn rootfs_mounter(&self) -> RootfsMounter {
        match &self.driver {
            Driver::Own(_) => RootfsMounter::Berth,
            Driver::Shim { .. } => RootfsMounter::Shim,
        }
    }

    /// The binary of another's shim.
    pub(crate) fn other_shim(&self) -> Option<&Path> {
        match &self.driver {
            Driver::Own(_) => None,
            Driver::Shim { binary, .. } => Some(binary),
        }
    }

    /// Blocks while a gVisor that was never run here is tried out.
    pub(crate) fn of(
        handler: &Handler,
        config: &Config,
        host_network: bool,
    ) -> Result<Self, CriError> {
        let definition = &handler.definition;
        let HandlerState::Usable {
            binary,
            version,
            features,
            gvisor,
            ..
        } = &handler.state
        else {
            return Err(CriError::State(format!(
                "runtime handler {:?} cannot run",
                definition.name
            )));
        };
        let own_root = || config.state_dir.join("runtime").join(&definition.name);
        let driver = match &definition.runtime {
            RuntimeDef::Oci { root, .. } => {
                let root = root.clone().unwrap_or_else(own_root);
                let mut command = handlers::command(handler, &root)?.ok_or_else(|| {
                    CriError::State(format!(
                        "runtime handler {:?} has no command",
                        definition.name
                    ))
                })?;
                if let Some(build) = gvisor {
                    let found = handlers::gvisor_settings(&command.binary, &command.args, build)
                        .map_err(|reason| {
                            CriError::State(format!(
                                "runtime handler {:?} ({}) cannot run: {reason}",
                                definition.name, definition.origin
                            ))
                        })?;
                    adopt(&mut command, found);
                }
                if host_network {
                    // gVisor's own stack would take the host's addresses away.
                    command.network = GvisorNetwork::Host;
                }
                Driver::Own(command)
            }
            RuntimeDef::Embedded {
                root,
                systemd_cgroup,
                args,
            } => {
                let root = root.clone().unwrap_or_else(own_root);
                let mut command = RuntimeCommand::new(RuntimeKind::Berth, binary.clone(), root);
                command.prefix = words(config.embedded_command.get(1..).unwrap_or_default());
                command.args.clone_from(args);
                command.systemd_cgroup = *systemd_cgroup;
                Driver::Own(command)
            }
            RuntimeDef::Shim {
                config,
                config_type,
                runtime_binary,
                systemd_cgroup,
                vm,
                ..
            } => Driver::Shim {
                binary: binary.clone(),
                config: config.clone(),
                config_type: config_type.clone(),
                runtime_binary: runtime_binary.clone(),
                systemd_cgroup: *systemd_cgroup,
                vm: *vm,
            },
        };
        Ok(Self {
            handler: definition.name.clone(),
            version: version.clone(),
            driver,
            recursive_read_only_mounts: features.recursive_read_only_mounts,
            user_namespaces: features.user_namespaces,
            privileged_without_host_devices: definition.privileged_without_host_devices,
            all_devices_allowed: definition.all_devices_allowed,
            annotation_match: definition.annotation_match,
            pod_annotations: definition.pod_annotations.clone(),
            container_annotations: definition.container_annotations.clone(),
            container_min_memory: definition.container_min_memory,
            base_runtime_spec: definition.base_runtime_spec.clone(),
            cni_conf_dir: definition.cni_conf_dir.clone(),
            sandbox_service: definition.sandboxer == Sandboxer::Shim
                && matches!(definition.runtime, RuntimeDef::Shim { .. }),
            sandbox_dirs: definition.sandbox_dirs.clone(),
        })
    }

    /// Whether systemd makes its cgroups.
    pub(crate) fn systemd_cgroup(&self) -> bool {
        match &self.driver {
            Driver::Own(command) => command.systemd_cgroup,
            Driver::Shim { systemd_cgroup, .. } => *systemd_cgroup,
        }
    }

    pub(crate) fn kind(&self) -> RuntimeKind {
        match &self.driver {
            Driver::Own(command) => command.kind,
            Driver::Shim { vm: false, .. } => RuntimeKind::Runc,
            Driver::Shim { vm: true, .. } => RuntimeKind::Vm,
        }
    }

    /// Whether its pods are virtual machines.
    pub(crate) fn is_vm(&self) -> bool {
        matches!(self.driver, Driver::Shim { vm: true, .. })
    }

    /// The command line, where it is gVisor's.
    pub(crate) fn gvisor(&self) -> Option<&RuntimeCommand> {
        match &self.driver {
            Driver::Own(command) if command.kind == RuntimeKind::Runsc => Some(command),
            Driver::Own(_) | Driver::Shim { .. } => None,
        }
    }

    /// Whether a pod of it always has a sandbox container.
    pub(crate) fn needs_pause(&self) -> bool {
        match &self.driver {
            Driver::Own(command) => command.kind.needs_sandbox_container(),
            // Strangers' shims know a pod by its first container.
            Driver::Shim { .. } => true,
        }
    }

    /// Whether the pod's ports are reached in its network namespace's loopback; else by its IP.
    pub(crate) fn shares_loopback(&self) -> bool {
        match &self.driver {
            Driver::Own(command) => command.kind.shares_host_kernel(),
            Driver::Shim { vm, .. } => !vm,
        }
    }

    pub(crate) fn shim(&self, config: &Config) -> ShimConfig {
        let ours: Vec<PathBuf> = config.shim_command.iter().map(PathBuf::from).collect();
        let (command, own) = match &self.driver {
            Driver::Own(_) => (ours.clone(), true),
            Driver::Shim { binary, .. } => (vec![binary.clone()], false),
        };
        ShimConfig {
            command,
            own,
            keeper: ours,
            namespace: NAMESPACE.to_owned(),
            socket_dir: config.state_dir.join("s"),
            address: config.socket.to_string_lossy().into_owned(),
            events: Some(config.events_socket()),
        }
    }

    pub(crate) fn options(&self) -> RuntimeOptions {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        match &self.driver {
            Driver::Own(command) => RuntimeOptions::Command(command.clone()),
            Driver::Shim {
                binary,
                config: Some(config),
                config_type,
                ..
            } => RuntimeOptions::Config {
                type_url: match config_type {
                    Some(name) => name.clone(),
                    // It refuses any other one.
                    None if binary.ends_with("containerd-shim-runsc-v1") => {
                        "io.containerd.runsc.v1.options".to_owned()
                    }
                    None => "containerd.runc.v1.Options".to_owned(),
                },
                config_path: text(config),
            },
            Driver::Shim { vm: true, .. } => RuntimeOptions::None,
            Driver::Shim {
                binary,
                runtime_binary,
                systemd_cgroup,
                ..
            } if runtime_binary.is_some() || binary.ends_with("containerd-shim-runc-v2") => {
                RuntimeOptions::Runc {
                    binary: runtime_binary.as_deref().map(text).unwrap_or_default(),
                    root: String::new(),
                    systemd_cgroup: *systemd_cgroup,
                }
            }
            Driver::Shim { .. } => RuntimeOptions::None,
        }
    }
}

fn adopt(command: &mut RuntimeCommand, found: GvisorSettings) {
    command.network = found.network;
    command.covers_sysctls = found.covers_sysctls;
    command.platform = found.platform;
}
