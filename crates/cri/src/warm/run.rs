//! `RunPodSandbox`: with a sandbox that waits, or without.

use berth_cri_api::v1::RunPodSandboxRequest;

use super::take;
use crate::engine::Shared;
use crate::error::CriError;
use crate::sandbox;

/// Gives a pod a sandbox that waits for one, or makes one. After an error nothing of it is left.
pub(crate) async fn run(
    engine: &Shared,
    request: RunPodSandboxRequest,
) -> Result<String, CriError> {
    let _busy = engine.warm.busy();
    let pod = sandbox::admit(engine, request).await?;
    if pod.warm == 0 {
        return sandbox::run(engine, pod).await;
    }
    match berth_trace::of_call("take a waiting sandbox", take::take(engine, &pod)).await? {
        Ok(id) => Ok(id),
        Err(cold) => {
            let handler = &pod.runtime.handler;
            engine.warm.note(handler, |counts| {
                *counts.cold.entry(cold.label()).or_default() += 1;
            });
            let metadata = pod.config.metadata.clone().unwrap_or_default();
            tracing::info!(
                pod = metadata.name,
                namespace = metadata.namespace,
                handler,
                reason = %cold,
                "pod sandbox starts cold"
            );
            sandbox::run(engine, pod).await
        }
    }
}
