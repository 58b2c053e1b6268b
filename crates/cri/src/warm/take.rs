//! A waiting sandbox becomes a pod's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_oci::exec_process;
use berth_shim::client::{AttachStreams, Shim};
use berth_shim::private;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fits::{self, Cold};
use super::pool::Stage;
use super::{bound, network};
use crate::cni;
use crate::engine::{Shared, blocking, now};
use crate::error::{CriError, chain};
use crate::record::{Phase, SandboxRecord, Warm, Wire};
use crate::sandbox::{self, Admitted, Sandbox};

/// How long the sandbox container may take for its hostname, which it waits for.
const HOSTNAME: Duration = Duration::from_secs(5);

/// Gives a pod the sandbox that has waited longest of those that fit; its id, or why the pod starts cold.
///
/// # Errors
/// When the pod can't have any sandbox.
pub(super) async fn take(
    engine: &Shared,
    pod: &Admitted,
) -> Result<Result<String, Cold>, CriError> {
    let sandbox = match choose(engine, pod) {
        Ok(sandbox) => sandbox,
        Err(cold) => return Ok(Err(cold)),
    };
    let id = sandbox.id.clone();
    if let Err(error) = engine.sandboxes.reserve(&sandbox::name(&pod.config), &id) {
        engine.warm.put_back(&id);
        return Err(error);
    }
    if let Err(error) = apply(engine, &sandbox, pod).await {
        // Its name is free for the one that is made now.
        engine.sandboxes.remove(&id);
        let reason = chain(&error);
        tracing::warn!(id, error = reason, "a waiting pod sandbox is discarded");
        engine.warm.discard(&id, Stage::Taking, "failed");
        let shared = Arc::clone(engine);
        drop(engine.tasks.request(async move {
            sandbox::undo(&shared, &sandbox, &error).await;
            shared.warm.release(&sandbox.id);
        }));
        return Ok(Err(Cold::Failed(reason)));
    }
    sandbox::announce(engine, &sandbox);
    engine.warm.release(&id);
    engine
        .warm
        .note(&pod.runtime.handler, |counts| counts.taken += 1);
    Ok(Ok(id))
}

fn choose(engine: &Shared, pod: &Admitted) -> Result<Arc<Sandbox>, Cold> {
    let runtime = &pod.runtime;
    fits::check(&pod.config, runtime)?;
    if let Some(reason) = fits::refusal(runtime) {
        return Err(Cold::Refused(reason));
    }
    let network = match &runtime.cni_conf_dir {
        Some(dir) => cni::current(std::slice::from_ref(dir)),
        None => engine.network(),
    };
    let network = network.map_err(|error| Cold::Refused(chain(&error)))?;
    if let Some(reason) = network::refusal(&network) {
        return Err(Cold::Refused(reason));
    }
    let size = fits::size(runtime, pod.config.linux.as_ref());
    if bound::memory(runtime.kind(), size) > bound::memory_limit() {
        return Err(Cold::TooLarge);
    }
    engine.warm.ask(&runtime.handler, size);
    let current = |record: &SandboxRecord| {
        let joined = record.attachment.as_ref();
        record.runtime == *runtime
            && record.booted_from == pod.inputs
            && joined.is_some_and(|joined| joined.network == network)
    };
    let fine = |sandbox: &Sandbox| current(&sandbox.record());
    let Some(sandbox) = engine.warm.take(&runtime.handler, size, fine) else {
        let others = engine.warm.entries();
        let waits = |stage| {
            let mut of_handler = others.iter().map(|(_, entry)| entry);
            of_handler.any(|entry| entry.handler == runtime.handler && entry.stage == stage)
        };
        return Err(if waits(Stage::Waiting) {
            Cold::Size
        } else {
            Cold::None
        });
    };
    let difference = differs(engine, &sandbox.record(), pod);
    if let Some(difference) = difference {
        engine.warm.put_back(&sandbox.id);
        return Err(Cold::Spec(difference));
    }
    Ok(sandbox)
}

/// What is wrong with it for this pod, in spite of all other checks.
fn differs(engine: &Shared, waiting: &SandboxRecord, pod: &Admitted) -> Option<String> {
    let mut wanted = waiting.clone();
    wanted.config = Wire(pod.config.clone());
    let specs = [waiting, &wanted].map(|record| sandbox::pause_spec(engine, record));
    match specs {
        [Ok(waiting), Ok(wanted)] => fits::difference(&waiting, &wanted, pod.runtime.kind()),
        [Err(error), _] | [_, Err(error)] => Some(format!("spec: {}", chain(&error))),
    }
}

/// Gives it what depends on the pod. Until the end its record says that it is not whole.
async fn apply(engine: &Shared, sandbox: &Arc<Sandbox>, pod: &Admitted) -> Result<(), CriError> {
    let shim = sandbox.shim()?;
    sandbox.update(|record| {
        record.warm = Warm::Taken;
        record.handler.clone_from(&pod.handler);
        record.created_at = now();
        record.config = Wire(pod.config.clone());
        let metadata = pod.config.metadata.clone().unwrap_or_default();
        if let Some(joined) = &mut record.attachment {
            joined.pod.name = metadata.name;
            joined.pod.namespace = metadata.namespace;
            joined.pod.uid = metadata.uid;
            joined.pod.capabilities = sandbox::capabilities(&pod.config);
        }
    })?;
    let record = sandbox.record();
    if let Some(joined) = &record.attachment {
        sandbox::mark_port(&record.id, joined);
    }
    let hostname = sandbox::hostname(&pod.config);
    let spec = sandbox::pause_spec(engine, &record)?;
    let named = async {
        if record.runtime.gvisor().is_some() {
            send_hostname(&shim, &record.id, &hostname).await
        } else if record.pause {
            execute_hostname(&shim, &record.id, &spec, &hostname).await
        } else {
            Ok(())
        }
    };
    let (written, named, mapped) = tokio::join!(
        write(engine, &record, &hostname, &spec),
        named,
        map_ports(engine, sandbox)
    );
    written?;
    named?;
    mapped?;
    if let Some(command) = record.runtime.gvisor() {
        let sysctls = sandbox::sysctls_inside(command, sandbox::sysctls(&record));
        if !sysctls.is_empty() {
            sandbox::set_sysctls(&shim, &record.id, &spec, &sysctls).await?;
        }
    }
    sandbox.update(|record| record.phase = Phase::Ready)?;
    sandbox::follow(engine, sandbox);
    sandbox::watch(engine, sandbox, shim);
    Ok(())
}

/// The pod's files, its spec, and what its namespaces have.
async fn write(
    engine: &Shared,
    record: &SandboxRecord,
    hostname: &str,
    spec: &berth_oci::Spec,
) -> Result<(), CriError> {
    let dir = engine.layout.pod(&record.id);
    let path = engine.layout.bundle(&record.id).join("config.json");
    let text = serde_json::to_vec(spec)?;
    // gVisor has its own, and a virtual machine's pods have none that could be set now.
    let sysctls = if record.pause {
        BTreeMap::new()
    } else {
        sandbox::sysctls(record)
    };
    let (config, hostname) = (record.config.0.clone(), hostname.to_owned());
    blocking(move || {
        crate::netns::adjust(&dir, &hostname, &sysctls)?;
        sandbox::write_files(&dir, &config, &hostname, None)?;
        private::write(&path, &text).map_err(CriError::io("write", &path))
    })
    .await
}

/// Tells gVisor's sandbox container its hostname, which it reads from stdin and answers with a byte.
async fn send_hostname(shim: &Shim, id: &str, hostname: &str) -> Result<(), CriError> {
    let failed = |why: String| {
        CriError::State(format!(
            "the hostname of pod sandbox {id} is not set: {why}"
        ))
    };
    let streams = AttachStreams {
        stdin: true,
        stdout: true,
        stderr: false,
    };
    let session = shim.attach(id, streams).await;
    let mut session = session.map_err(CriError::shim("attach to the sandbox container of", id))?;
    let told = async {
        let (Some(stdin), Some(stdout)) = (&mut session.stdin, &mut session.stdout) else {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        };
        stdin.write_all(hostname.as_bytes()).await?;
        stdin.flush().await?;
        stdout.read_exact(&mut [0]).await.map(drop)
    };
    match tokio::time::timeout(HOSTNAME, told).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", HOSTNAME.as_secs()))),
    }
}

/// Sets the hostname of a virtual machine's guest by a command in its sandbox container.
async fn execute_hostname(
    shim: &Shim,
    id: &str,
    spec: &berth_oci::Spec,
    hostname: &str,
) -> Result<(), CriError> {
    let command = ["/pause".to_owned(), String::new(), hostname.to_owned()];
    let mut process = exec_process(spec, &command, false);
    sandbox::may_set_hostname(&mut process);
    let done = shim.exec_sync(id, &process, HOSTNAME).await;
    let output = done.map_err(CriError::shim("set the hostname of pod sandbox", id))?;
    if output.code == 0 {
        return Ok(());
    }
    Err(CriError::State(format!(
        "the hostname of pod sandbox {id} is not set: {}",
        std::io::Error::from_raw_os_error(i32::try_from(output.code).unwrap_or(0))
    )))
}

/// Adds the pod's port mappings, where it has any and the network maps ports.
async fn map_ports(engine: &Shared, sandbox: &Sandbox) -> Result<(), CriError> {
    let Some(mut joined) = sandbox.record().attachment.clone() else {
        return Ok(());
    };
    if !joined.pod.capabilities.contains_key("portMappings")
        || !network::maps_ports(&joined.network)
    {
        return Ok(());
    }
    cni::add_ports(&mut joined, &engine.plugin_dirs()).await?;
    sandbox.update(|record| record.attachment = Some(joined))
}
