//! `RunPodSandbox`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_cri_api::v1::{ContainerEventType, PodSandboxConfig, RunPodSandboxRequest};
use berth_shim::client::{CreateRequest, Shim};
use berth_shim::private;
use serde_json::{Value, json};

use super::leftovers::{self, ShimProcesses};
use super::lost::unless_stopped;
use super::{Sandbox, files, gvisor, sandboxer, spec, users};
use crate::cni::{self, Attachment};
use crate::container;
use crate::engine::{Engine, Shared, blocking, new_id, now};
use crate::error::CriError;
use crate::handlers::Inputs;
use crate::layout::make_private;
use crate::netns;
use crate::pause;
use crate::record::{MadeLimits, Phase, SandboxRecord, Warm, Wire};
use crate::runtime::{PodRuntime, RootfsMounter};

/// A pod that a handler can run, as far as its configuration says.
pub(crate) struct Admitted {
    pub(crate) config: PodSandboxConfig,
    /// The handler's name as asked for.
    pub(crate) handler: String,
    pub(crate) runtime: PodRuntime,
    /// How many sandboxes of the handler are to wait for pods.
    pub(crate) warm: usize,
    /// The files of the handler, as they are now; looked at where sandboxes of it wait.
    pub(crate) inputs: Inputs,
}

/// Looks whether a pod can be had at all.
pub(crate) async fn admit(
    engine: &Shared,
    request: RunPodSandboxRequest,
) -> Result<Admitted, CriError> {
    let config = request
        .config
        .ok_or_else(|| CriError::Invalid("the request has no config".to_owned()))?;
    let handler = engine
        .handlers
        .load()
        .find(&request.runtime_handler)?
        .clone();
    if let Some(metadata) = &config.metadata {
        engine.held.check_pod(metadata)?;
    }
    let warm = handler.definition.warm;
    let host_network = spec::host_network(&config);
    let shared = Arc::clone(engine);
    let (inputs, runtime) = blocking(move || {
        let inputs = match warm {
            0 => Inputs::default(),
            _ => Inputs::of(&handler.definition),
        };
        let runtime = PodRuntime::of(&handler, &shared.config, host_network)?;
        Ok((inputs, runtime))
    })
    .await?;
    spec::check(&config, &runtime)?;
    users::check(&config, &runtime)?;
    Ok(Admitted {
        config,
        handler: request.runtime_handler,
        runtime,
        warm,
        inputs,
    })
}

/// Makes a sandbox and gives its id. After an error nothing of it is left.
pub(crate) async fn run(engine: &Shared, pod: Admitted) -> Result<String, CriError> {
    let id = new_id();
    engine.sandboxes.reserve(&super::name(&pod.config), &id)?;
    let record = new_record(&id, pod.handler, pod.runtime, pod.config);
    let sandbox = Arc::new(Sandbox::new(engine, record));
    if let Err(error) = make(engine, &sandbox).await {
        undo(engine, &sandbox, &error).await;
        return Err(error);
    }
    announce(engine, &sandbox);
    Ok(id)
}

/// The record of a sandbox of which nothing is made yet.
pub(crate) fn new_record(
    id: &str,
    handler: String,
    runtime: PodRuntime,
    config: PodSandboxConfig,
) -> SandboxRecord {
    SandboxRecord {
        id: id.to_owned(),
        phase: Phase::Creating,
        created_at: now(),
        pause: !runtime.sandbox_service && (runtime.needs_pause() || spec::shares_pids(&config)),
        pause_pid: 0,
        handler,
        runtime,
        attachment: None,
        ips: Vec::new(),
        released: false,
        idle_memory: 0,
        made_limits: MadeLimits::default(),
        shim_processes: ShimProcesses::default(),
        shim_lost: false,
        warm: Warm::No,
        waited_in: None,
        booted_from: Inputs::default(),
        placed: false,
        config: Wire(config),
    }
}

/// Lists a sandbox that is whole, and says so to who follows events.
pub(crate) fn announce(engine: &Shared, sandbox: &Arc<Sandbox>) {
    let record = sandbox.record();
    let metadata = record.config.0.metadata.clone().unwrap_or_default();
    tracing::info!(
        pod = metadata.name,
        namespace = metadata.namespace,
        id = sandbox.id,
        handler = record.runtime.handler,
        stages = berth_trace::current().map_or_else(String::new, |current| current.summary()),
        "pod sandbox started"
    );
    engine.sandboxes.insert(&sandbox.id, Arc::clone(sandbox));
    for kind in [
        ContainerEventType::ContainerCreatedEvent,
        ContainerEventType::ContainerStartedEvent,
    ] {
        engine.events.sandbox(engine, kind, sandbox);
    }
}

/// Removes what there is of a sandbox that could not be made for this reason.
pub(crate) async fn undo(engine: &Shared, sandbox: &Arc<Sandbox>, error: &CriError) {
    let _undoing = engine.tasks.undoing();
    if matches!(error, CriError::Stopping(_)) {
        super::end_unfinished(engine, sandbox).await;
    }
    // Nobody knows how far another's shim has got, and what it ends by itself.
    super::note_lost(sandbox);
    if let Err(undo) = super::discard(engine, sandbox).await {
        tracing::error!(
            id = sandbox.id,
            error = crate::error::chain(&undo),
            "a failed sandbox could not be removed"
        );
    }
}

async fn make(engine: &Shared, sandbox: &Arc<Sandbox>) -> Result<(), CriError> {
    let (shim, pause_pid) = boot(engine, sandbox).await?;
    let record = sandbox.record();
    if let Some(command) = record.runtime.gvisor()
        && record.pause
    {
        let sysctls = gvisor::sysctls_inside(command, spec::sysctls(&record));
        if !sysctls.is_empty() {
            let spec = spec::pause_spec(engine, &record)?;
            gvisor::set_sysctls(&shim, &record.id, &spec, &sysctls).await?;
        }
    }
    sandbox.update(|record| {
        record.pause_pid = pause_pid;
        record.phase = Phase::Ready;
    })?;
    super::watch(engine, sandbox, shim);
    Ok(())
}

/// Starts what a sandbox consists of: namespaces, network, shim and, where there is one, the sandbox container. Gives the
/// shim and that container's pid.
pub(crate) async fn boot(engine: &Shared, sandbox: &Arc<Sandbox>) -> Result<(Shim, u32), CriError> {
    let record = sandbox.record();
    let shared = Arc::clone(engine);
    let made = Arc::clone(sandbox);
    let namespaces = blocking(move || make_namespaces(&shared, &made));
    berth_trace::of_call("namespaces", namespaces).await?;
    // The network needs nothing else; and it and the shim know nothing of each other until the sandbox container starts.
    let (shared, made) = (Arc::clone(engine), Arc::clone(sandbox));
    let (attached, shim) = tokio::join!(
        berth_trace::of_call("network", attach(engine, sandbox)),
        async {
            let bundle = blocking(move || make_bundle(&shared, &made));
            berth_trace::of_call("bundle", bundle).await?;
            unless_stopped(engine, &record.id, launch(engine, &record)).await
        }
    );
    if let Ok(shim) = &shim {
        sandbox.set_shim(Some(shim.clone()));
    }
    attached?;
    let shim = shim?;
    let mut pause_pid = 0;
    if record.runtime.sandbox_service {
        let start = sandboxer::start(engine, &record, &shim);
        let start = berth_trace::of_call("sandbox service", start);
        pause_pid = unless_stopped(engine, &record.id, start).await?;
    } else if record.pause {
        let failed = CriError::shim("start the sandbox container of", &record.id);
        let start = async { shim.start(&record.id).await.map_err(failed) };
        pause_pid = unless_stopped(engine, &record.id, start).await?;
        if let Some(command) = record.runtime.gvisor() {
            gvisor::show_network(&engine.layout.pod(&record.id), command, pause_pid)?;
        }
    }
    let noting = berth_trace::stage("note processes");
    leftovers::note_processes(engine, sandbox, &shim).await;
    drop(noting);
    Ok((shim, pause_pid))
}

/// The record and the namespaces.
fn make_namespaces(engine: &Engine, sandbox: &Sandbox) -> Result<(), CriError> {
    let record = sandbox.record();
    let config = &record.config.0;
    let root = users::root_of(config)?;
    let closed = |dir: &Path, root| make_private(dir, root).map_err(CriError::io("make", dir));
    closed(&engine.layout.sandbox_record(&record.id), None)?;
    sandbox.update(|_| {})?;
    let dir = engine.layout.pod(&record.id);
    closed(&dir, root)?;
    let (own_network, own_ipc) = (!spec::host_network(config), !spec::host_ipc(config));
    let hostname = spec::hostname(config);
    netns::pin(
        &dir,
        &netns::Request {
            network: own_network,
            ipc: own_ipc,
            hostname: own_network.then(|| hostname.clone()),
            user: users::wanted(spec::options(config)),
            sysctls: match record.runtime.gvisor() {
                Some(command) => gvisor::sysctls_outside(command, spec::sysctls(&record)),
                // The guest's kernel has them, which may know others than ours.
                None if record.runtime.is_vm() => BTreeMap::new(),
                None => spec::sysctls(&record),
            },
        },
    )?;
    Ok(())
}

/// The pod's files and the bundle.
fn make_bundle(engine: &Engine, sandbox: &Sandbox) -> Result<(), CriError> {
    let record = sandbox.record();
    let config = &record.config.0;
    let make = |dir: &Path| std::fs::create_dir_all(dir).map_err(CriError::io("make", dir));
    let root = users::root_of(config)?;
    let closed = |dir: &Path, root| make_private(dir, root).map_err(CriError::io("make", dir));
    let (dir, own_ipc) = (engine.layout.pod(&record.id), !spec::host_ipc(config));
    let hostname = spec::hostname(config);
    if root.is_some() {
        users::check_way(&engine.layout.bundles())?;
    }
    files::write(&dir, config, &hostname, root)?;
    if record.runtime.gvisor().is_some() {
        gvisor::prepare(&dir)?;
    }
    if own_ipc {
        files::mount_shm(&dir.join("shm"), root)?;
    }
    let bundle = engine.layout.bundle(&record.id);
    closed(&bundle, root)?;
    make(&bundle.join("rootfs"))?;
    let rootfs = pause_root(engine, &record);
    make(&rootfs)?;
    if record.pause {
        use std::os::unix::fs::PermissionsExt;
        let path = rootfs.join("pause");
        std::fs::write(&path, pause::program()).map_err(CriError::io("write", &path))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .map_err(CriError::io("make executable", &path))?;
    }
    let spec = spec::boot_spec(engine, &record)?;
    if record.pause {
        // Root of a user namespace could not make them there.
        for mount in spec.mounts().iter().flatten() {
            let point = mount.destination();
            make(&rootfs.join(point.strip_prefix("/").unwrap_or(point)))?;
        }
    }
    let path = bundle.join("config.json");
    private::write(&path, &serde_json::to_vec(&spec)?).map_err(CriError::io("write", &path))
}

/// Where the sandbox container's files are.
fn pause_root(engine: &Engine, record: &SandboxRecord) -> PathBuf {
    match record.runtime.rootfs_mounter() {
        RootfsMounter::Berth => engine.layout.bundle(&record.id).join("rootfs"),
        RootfsMounter::Shim => engine.layout.pod(&record.id).join("pause"),
    }
}

async fn launch(engine: &Engine, record: &SandboxRecord) -> Result<Shim, CriError> {
    let bundle = engine.layout.bundle(&record.id);
    let config = record.runtime.shim(&engine.config);
    let shim = Shim::launch(&config, &record.id, &bundle);
    let shim = berth_trace::of_call("shim", shim)
        .await
        .map_err(CriError::shim("start the shim of pod sandbox", &record.id))?;
    if record.pause {
        let request = CreateRequest {
            id: record.id.clone(),
            bundle,
            rootfs: match record.runtime.rootfs_mounter() {
                RootfsMounter::Berth => Vec::new(),
                RootfsMounter::Shim => vec![container::bind_rootfs(&pause_root(engine, record))],
            },
            terminal: false,
            // By it one that waits learns its pod's hostname.
            stdin: spec::receives_hostname(record),
            stdin_once: false,
            log: None,
            options: record.runtime.options(),
        };
        if let Err(error) = shim.create(&request).await {
            let _ = shim.shutdown(&record.id, true).await;
            return Err(CriError::shim(
                "create the sandbox container of",
                &record.id,
            )(error));
        }
    }
    Ok(shim)
}

/// Joins the pod to its network. What DEL needs is on disk before ADD begins.
async fn attach(engine: &Engine, sandbox: &Sandbox) -> Result<(), CriError> {
    let record = sandbox.record();
    let config = &record.config.0;
    if spec::host_network(config) {
        return Ok(());
    }
    let metadata = config.metadata.clone().unwrap_or_default();
    let mut attachment = Attachment {
        network: match &record.runtime.cni_conf_dir {
            Some(dir) => cni::current(std::slice::from_ref(dir))?,
            None => engine.network()?,
        },
        pod: cni::Pod {
            id: record.id.clone(),
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            netns: engine.layout.pod(&record.id).join("net"),
            capabilities: capabilities(config),
        },
        result: Value::Null,
    };
    let bin_dirs = engine.plugin_dirs();
    cni::check_plugins(&attachment.network, &bin_dirs)?;
    sandbox.update(|record| record.attachment = Some(attachment.clone()))?;
    if let Err(error) = cni::add(&mut attachment, &bin_dirs).await {
        // add() has undone its part.
        sandbox.update(|record| record.attachment = None)?;
        return Err(error.into());
    }
    let ips = cni::addresses(&attachment.result);
    if ips.is_empty() {
        tracing::warn!(
            id = record.id,
            network = attachment.network.name,
            "the network gave the pod no address"
        );
    }
    mark_port(&record.id, &attachment);
    sandbox.update(|record| {
        record.ips = ips;
        record.attachment = Some(attachment);
    })
}

/// Marks the host's end of a pod's network with the pod. Without the mark nothing passes where NetworkPolicies are enforced, and the
/// pod does not start there; elsewhere nobody misses it.
pub(crate) fn mark_port(id: &str, attachment: &Attachment) {
    if let Err(error) = cni::mark_port(attachment) {
        tracing::warn!(id, %error, "the host's end of a pod's network cannot be marked");
    }
}

/// What the pod asks of capable plugins.
pub(crate) fn capabilities(config: &PodSandboxConfig) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    let ports: Vec<Value> = config
        .port_mappings
        .iter()
        .filter(|port| port.host_port > 0)
        .map(|port| {
            json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol().as_str_name().to_lowercase(),
                "hostIP": port.host_ip,
            })
        })
        .collect();
    if !ports.is_empty() {
        values.insert("portMappings".to_owned(), Value::Array(ports));
    }
    if let Some(dns) = &config.dns_config {
        values.insert(
            "dns".to_owned(),
            json!({ "servers": dns.servers, "searches": dns.searches, "options": dns.options }),
        );
    }
    let mut bandwidth = serde_json::Map::new();
    for direction in ["ingress", "egress"] {
        let annotation = config
            .annotations
            .get(&format!("kubernetes.io/{direction}-bandwidth"));
        if let Some(rate) = annotation.and_then(|text| bits_per_second(text)) {
            bandwidth.insert(format!("{direction}Rate"), json!(rate));
            // The burst that containerd uses: as much as the counter holds.
            bandwidth.insert(format!("{direction}Burst"), json!(i32::MAX));
        }
    }
    if !bandwidth.is_empty() {
        values.insert("bandwidth".to_owned(), Value::Object(bandwidth));
    }
    if let Some(parent) = config.linux.as_ref().map(|linux| &linux.cgroup_parent)
        && !parent.is_empty()
    {
        values.insert("cgroupPath".to_owned(), json!(parent));
    }
    if !config.annotations.is_empty() {
        values.insert(
            "io.kubernetes.cri.pod-annotations".to_owned(),
            json!(config.annotations),
        );
    }
    values
}

/// A quantity such as `10M` or `1Gi`, in whole bits per second.
fn bits_per_second(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}
