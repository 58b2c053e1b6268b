//! Lifecycle hooks: exec, httpGet, sleep, tcpSocket (which, as in stock, does nothing).

use std::time::Duration;

use berth_cri_api::v1::ExecSyncRequest;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::agent::Agent;
use crate::cri::{Limit, within};
use crate::http_probe;

/// Of a command's output so much is told.
const OUTPUT_LIMIT: usize = 10 << 10;

/// Runs one hook; the error is what the event says.
pub(crate) async fn run(
    agent: &Agent,
    container: &Container,
    hook: &LifecycleHandler,
    id: &str,
    pod_ip: Option<&str>,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let cmd = exec.command.clone().unwrap_or_default();
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: cmd.clone(),
            timeout: 0,
        };
        let answer = agent
            .cri
            .runtime()
            // A postStart hook takes as long as it takes; a preStop one ends with its grace period.
            .exec_sync(within(Limit(None), request))
            .await
            .map_err(|e| e.message().to_owned())?
            .into_inner();
        if answer.exit_code == 0 {
            return Ok(());
        }
        let mut said = answer.stderr;
        said.extend(answer.stdout);
        said.truncate(OUTPUT_LIMIT);
        return Err(format!(
            "command {cmd:?} exited with {}: {}",
            answer.exit_code,
            String::from_utf8_lossy(&said)
        ));
    }
    if let Some(get) = &hook.http_get {
        let limit = Duration::from_secs(30);
        return http_probe::get(container, get, pod_ip, limit, false)
            .await
            .map(drop);
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    Ok(())
}
