//! From a CRI container to an OCI spec.

use std::path::{Path, PathBuf};

use berth_cri_api::v1::security_profile::ProfileType;
use berth_cri_api::v1::{
    LinuxContainerResources, LinuxContainerSecurityContext, MountPropagation, NamespaceMode,
};
use berth_image::ImageConfig;
use berth_oci::{
    Container, Device, HugepageLimit, Mount, Namespace, Process, Propagation, Resources,
    SeccompProfile, Security, SelinuxOptions, Spec, User,
};

use super::volumes::Volume;
use crate::apparmor;
use crate::engine::Engine;
use crate::error::CriError;
use crate::filtered;
use crate::record::{ContainerRecord, SandboxRecord};
use crate::sandbox::{self, oci_sandbox};

/// The PATH of images that set none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the spec and makes what it needs on the host (mount sources, image volumes).
///
/// Without an image config only what does not come from the image is right.
pub(super) fn build(
    engine: &Engine,
    pod: &SandboxRecord,
    record: &ContainerRecord,
    user: User,
    image: Option<&ImageConfig>,
) -> Result<Spec, CriError> {
    let config = &record.config.0;
    let linux = config.linux.clone().unwrap_or_default();
    let given = linux.security_context.as_ref();
    let metadata = config.metadata.clone().unwrap_or_default();
    let mut sandbox = oci_sandbox(engine, pod);
    if pod.runtime.is_vm() && pod.runtime.sandbox_service {
        // No sandbox container brings them into the guest, where the containers share what they set.
        sandbox.sysctls = sandbox::sysctls(pod);
    }
    let hostname = sandbox::hostname(&pod.config.0);
    let mut process = process(record, &hostname, image)?;
    // What the pod mounts below an image's volume has to come after it.
    let mut all = image.map_or_else(Vec::new, |image| {
        super::declared::mounts(engine, &record.id, config, image)
    });
    all.extend(mounts(engine, pod, record)?);
    process.user = user;
    let container = Container {
        id: record.id.clone(),
        name: metadata.name,
        image: image_name(engine, record)?,
        rootfs: PathBuf::new(),
        readonly_rootfs: given.is_some_and(|security| security.readonly_rootfs),
        process,
        pid: pid_namespace(engine, pod, &record.id, given)?,
        mounts: all,
        devices: config
            .devices
            .iter()
            .map(|device| Device {
                container_path: PathBuf::from(&device.container_path),
                host_path: PathBuf::from(&device.host_path),
                permissions: device.permissions.clone(),
            })
            .collect(),
        cdi_devices: config
            .cdi_devices
            .iter()
            .map(|device| device.name.clone())
            .collect(),
        resources: oci_resources(linux.resources.as_ref()),
        security: Security {
            apparmor: if pod.runtime.kind().shares_host_kernel() {
                engine.apparmor.profile(engine.host.apparmor, given)?
            } else {
                apparmor::elsewhere(given)
            },
            ..security(pod, given)?
        },
        annotations: pod
            .runtime
            .annotation_match
            .pass(&pod.runtime.container_annotations, &config.annotations),
    };
    let mut spec =
        berth_oci::container_spec(&engine.host, pod.runtime.kind(), &sandbox, &container)?;
    if let Some(path) = &pod.runtime.base_runtime_spec {
        let text = std::fs::read(path).map_err(CriError::io("read", path))?;
        let base: Spec = serde_json::from_slice(&text).map_err(|error| {
            CriError::Invalid(format!("base_runtime_spec {}: {error}", path.display()))
        })?;
        lay_under(&base, &mut spec);
    }
    if image.is_some() && pod.runtime.gvisor().is_some() {
        let rootfs = engine.layout.bundle(&record.id).join("rootfs");
        let empty = sandbox::gvisor_empty(&engine.layout.pod(&pod.id));
        berth_oci::gvisor::confine(&mut spec, &rootfs, &empty);
        filter_execs(&mut spec, &engine.layout.bundle(&record.id))?;
    }
    Ok(spec)
}

/// The image's name for people and shims: a tag or a digest, as containerd has it, although a kubelet names the image by
/// its id. An image without names has only that.
fn image_name(engine: &Engine, record: &ContainerRecord) -> Result<String, CriError> {
    let image = engine.images.get(&record.image_id)?;
    let name = image.and_then(|image| {
        let mut names = image.repo_tags.into_iter().chain(image.repo_digests);
        names.next()
    });
    Ok(name.unwrap_or_else(|| record.image_id.clone()))
}

/// Gives the container the program that starts further commands under its seccomp filter.
fn filter_execs(spec: &mut Spec, bundle: &Path) -> Result<(), CriError> {
    use std::os::unix::fs::PermissionsExt;
    let Some(profile) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().clone())
    else {
        return Ok(());
    };
    let filter = berth_runtime::seccomp_program(&profile)
        .map_err(|error| CriError::Invalid(format!("seccomp profile: {error}")))?;
    let path = bundle.join("exec");
    std::fs::write(&path, filtered::program(&filter)).map_err(CriError::io("write", &path))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .map_err(CriError::io("make executable", &path))?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(berth_oci::gvisor::bind(
        Path::new(filtered::PLACE),
        &path,
        "ro",
    ));
    spec.set_mounts(Some(mounts));
    Ok(())
}

/// Adds what a handler's base spec has and the CRI has no word for: hooks, resource limits of
/// the process, and mounts at places that are still free.
fn lay_under(base: &Spec, spec: &mut Spec) {
    if base.hooks().is_some() {
        spec.set_hooks(base.hooks().clone());
    }
    if let (Some(base), Some(process)) = (base.process(), spec.process_mut())
        && base.rlimits().is_some()
        && process.rlimits().as_ref().is_none_or(Vec::is_empty)
    {
        process.set_rlimits(base.rlimits().clone());
    }
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in base.mounts().iter().flatten() {
        if !mounts
            .iter()
            .any(|taken| taken.destination() == mount.destination())
        {
            mounts.push(mount.clone());
        }
    }
    spec.set_mounts(Some(mounts));
}

fn process(
    record: &ContainerRecord,
    hostname: &str,
    image: Option<&ImageConfig>,
) -> Result<Process, CriError> {
    let config = &record.config.0;
    let empty = ImageConfig::default();
    let image = image.unwrap_or(&empty);
    // As Kubernetes documents: a command replaces entrypoint and cmd, args alone replace cmd.
    let (command, args) = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => (&image.entrypoint, &image.cmd),
        (true, false) => (&image.entrypoint, &config.args),
        (false, _) => (&config.command, &config.args),
    };
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(image.env.iter().cloned());
    for given in &config.envs {
        let value = std::str::from_utf8(&given.value).map_err(|_| {
            CriError::Invalid(format!(
                "the value of environment variable {:?} is not UTF-8, as an OCI runtime wants it",
                given.key
            ))
        })?;
        env.push(format!("{}={value}", given.key));
    }
    Ok(Process {
        args: command.iter().chain(args).cloned().collect(),
        env,
        cwd: if config.working_dir.is_empty() {
            image.workdir.clone()
        } else {
            config.working_dir.clone()
        },
        terminal: config.tty,
        ..Process::default()
    })
}

fn pid_namespace(
    engine: &Engine,
    pod: &SandboxRecord,
    id: &str,
    security: Option<&LinuxContainerSecurityContext>,
) -> Result<Namespace, CriError> {
    let gvisor = pod.runtime.gvisor().is_some();
    // gVisor makes its PID namespaces inside. A path is only their name: containers with the same
    // one share it. Without one they are in the sandbox's.
    let own = || {
        if gvisor {
            Namespace::Path(engine.layout.bundle(id).join("pid"))
        } else {
            Namespace::Private
        }
    };
    // Saying nothing is saying POD, the CRI's default.
    let options = security.and_then(|security| security.namespace_options.clone());
    let options = options.unwrap_or_default();
    let of_pid = |pid: u32| Namespace::Path(PathBuf::from(format!("/proc/{pid}/ns/pid")));
    Ok(match options.pid() {
        // A virtual machine has no PID namespace of the host, and one of its own for each container whose spec names none.
        // As under containerd, such containers share the sandbox's.
        NamespaceMode::Node if pod.runtime.is_vm() && pod.pause_pid > 0 => of_pid(pod.pause_pid),
        NamespaceMode::Node => Namespace::Host,
        NamespaceMode::Container => own(),
        NamespaceMode::Pod if gvisor => Namespace::Host,
        // Without a sandbox container the first container's would be the sandbox's, and all would end with that one.
        NamespaceMode::Pod if shares_only_by_default(pod) => Namespace::Private,
        NamespaceMode::Pod if pod.pause_pid > 0 => of_pid(pod.pause_pid),
        // Without a sandbox container there is nothing to share.
        NamespaceMode::Pod => Namespace::Private,
        NamespaceMode::Target => {
            let target = engine.containers.get(&options.target_id)?;
            let target_record = target.record();
            if target_record.sandbox_id != pod.id {
                return Err(CriError::Invalid(format!(
                    "target container {} is not in pod sandbox {}",
                    target.id, pod.id
                )));
            }
            target.running(engine)?;
            if gvisor {
                let linux = target_record.config.0.linux.clone();
                let given = linux.and_then(|linux| linux.security_context);
                return pid_namespace(engine, pod, &target.id, given.as_ref());
            }
            of_pid(target_record.pid)
        }
    })
}

/// Whether a container of a virtual machine without a sandbox container shares its PID namespace only since nobody said
/// otherwise: the pod does not want it.
fn shares_only_by_default(pod: &SandboxRecord) -> bool {
    let runtime = &pod.runtime;
    runtime.is_vm() && runtime.sandbox_service && !sandbox::shares_pids(&pod.config.0)
}

fn mounts(
    engine: &Engine,
    pod: &SandboxRecord,
    record: &ContainerRecord,
) -> Result<Vec<Mount>, CriError> {
    let config = &record.config.0;
    let files = engine.layout.pod(&pod.id);
    let readonly_rootfs = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref())
        .is_some_and(|security| security.readonly_rootfs);
    let taken = |path: &str| {
        config
            .mounts
            .iter()
            .any(|mount| Path::new(&mount.container_path) == Path::new(path))
    };
    let mut mounts = Vec::new();
    for (name, target) in [
        ("hostname", "/etc/hostname"),
        ("hosts", "/etc/hosts"),
        ("resolv.conf", "/etc/resolv.conf"),
    ] {
        if !taken(target) {
            mounts.push(Mount {
                container_path: PathBuf::from(target),
                host_path: files.join(name),
                readonly: readonly_rootfs,
                ..Mount::default()
            });
        }
    }
    let network = sandbox::proc_net(&files);
    if network.exists() && !taken("/proc/net") {
        mounts.push(Mount {
            container_path: PathBuf::from("/proc/net"),
            host_path: network,
            readonly: true,
            ..Mount::default()
        });
    }
    for (index, mount) in config.mounts.iter().enumerate() {
        if mount.recursive_read_only && !pod.runtime.recursive_read_only_mounts {
            return Err(CriError::Invalid(format!(
                "mount {}: runtime handler {:?} does not support recursive read-only mounts",
                mount.container_path, pod.runtime.handler
            )));
        }
        let image = mount
            .image
            .as_ref()
            .map(|image| image.image.as_str())
            .unwrap_or_default();
        let volume = Volume {
            engine,
            pod,
            id: &record.id,
            index,
        };
        let host_path = if image.is_empty() {
            let source = source(Path::new(&mount.host_path))?;
            volume.of_host(source, mount)?
        } else {
            volume.of_image(image, mount)?
        };
        mounts.push(Mount {
            container_path: PathBuf::from(&mount.container_path),
            host_path,
            readonly: mount.readonly || !image.is_empty(),
            recursive_read_only: mount.recursive_read_only,
            propagation: match mount.propagation() {
                MountPropagation::PropagationPrivate => Propagation::Private,
                MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
                MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
            },
            options: mount.mount_options.clone(),
        });
    }
    Ok(mounts)
}

/// A mount's source with its links resolved; a directory is made where nothing is.
fn source(path: &Path) -> Result<PathBuf, CriError> {
    if std::fs::symlink_metadata(path).is_err() {
        std::fs::create_dir_all(path).map_err(CriError::io("make the mount source", path))?;
    }
    path.canonicalize()
        .map_err(CriError::io("resolve the mount source", path))
}

/// The CRI's limits in the terms of `oci`.
pub(crate) fn oci_resources(resources: Option<&LinuxContainerResources>) -> Resources {
    let Some(given) = resources else {
        return Resources::default();
    };
    Resources {
        cpu_period: given.cpu_period,
        cpu_quota: given.cpu_quota,
        cpu_shares: given.cpu_shares,
        memory_limit: given.memory_limit_in_bytes,
        memory_swap_limit: given.memory_swap_limit_in_bytes,
        oom_score_adj: given.oom_score_adj,
        cpuset_cpus: given.cpuset_cpus.clone(),
        cpuset_mems: given.cpuset_mems.clone(),
        pids_limit: 0,
        hugepage_limits: given
            .hugepage_limits
            .iter()
            .map(|limit| HugepageLimit {
                page_size: limit.page_size.clone(),
                limit: limit.limit,
            })
            .collect(),
        unified: given.unified.clone().into_iter().collect(),
    }
}

fn security(
    pod: &SandboxRecord,
    given: Option<&LinuxContainerSecurityContext>,
) -> Result<Security, CriError> {
    let Some(given) = given else {
        return Ok(Security::default());
    };
    let capabilities = given.capabilities.clone().unwrap_or_default();
    Ok(Security {
        privileged: given.privileged,
        privileged_without_host_devices: pod.runtime.privileged_without_host_devices,
        all_devices_allowed: pod.runtime.all_devices_allowed,
        add_capabilities: capabilities.add_capabilities,
        drop_capabilities: capabilities.drop_capabilities,
        ambient_capabilities: capabilities.add_ambient_capabilities,
        no_new_privs: given.no_new_privs,
        seccomp: seccomp(given)?,
        selinux: given
            .selinux_options
            .as_ref()
            .map(|options| SelinuxOptions {
                user: options.user.clone(),
                role: options.role.clone(),
                kind: options.r#type.clone(),
                level: options.level.clone(),
            }),
        // A kubelet always says which paths to mask; an empty list is procMount: Unmasked.
        masked_paths: Some(given.masked_paths.clone()),
        readonly_paths: Some(given.readonly_paths.clone()),
        ..Security::default()
    })
}

#[allow(deprecated)]
fn seccomp(given: &LinuxContainerSecurityContext) -> Result<SeccompProfile, CriError> {
    if given.privileged {
        return Ok(SeccompProfile::Unconfined);
    }
    if let Some(profile) = &given.seccomp {
        return Ok(match profile.profile_type() {
            ProfileType::RuntimeDefault => SeccompProfile::RuntimeDefault,
            ProfileType::Unconfined => SeccompProfile::Unconfined,
            ProfileType::Localhost => SeccompProfile::Localhost(local(&profile.localhost_ref)?),
        });
    }
    match given.seccomp_profile_path.as_str() {
        "" | "unconfined" => Ok(SeccompProfile::Unconfined),
        "runtime/default" | "docker/default" => Ok(SeccompProfile::RuntimeDefault),
        path => match path.strip_prefix("localhost/") {
            Some(_) => local(path).map(SeccompProfile::Localhost),
            None => Err(CriError::Invalid(format!(
                "seccomp profile {path:?} has no known form"
            ))),
        },
    }
}

/// A profile's file. One that is not named from the root would be looked for wherever the server runs.
fn local(reference: &str) -> Result<PathBuf, CriError> {
    let path = PathBuf::from(reference.strip_prefix("localhost/").unwrap_or(reference));
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(CriError::Invalid(format!(
            "seccomp profile {reference:?} is no absolute path"
        )))
    }
}

/// Only the limits of a container, as its runtime takes them for an update.
pub(super) fn limits(
    engine: &Engine,
    pod: &SandboxRecord,
    record: &ContainerRecord,
    user: User,
) -> Result<berth_oci::LinuxResources, CriError> {
    let linux = record.config.0.linux.clone().unwrap_or_default();
    let bare = Container {
        id: record.id.clone(),
        process: Process {
            args: vec!["-".to_owned()],
            user,
            ..Process::default()
        },
        resources: oci_resources(linux.resources.as_ref()),
        ..Container::default()
    };
    let sandbox = oci_sandbox(engine, pod);
    let spec = berth_oci::container_spec(&engine.host, pod.runtime.kind(), &sandbox, &bare)?;
    let mut resources = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().clone())
        .unwrap_or_default();
    resources.set_devices(None);
    Ok(resources)
}
