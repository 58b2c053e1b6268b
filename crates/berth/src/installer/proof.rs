//! The pods that prove handlers.

use std::time::Duration;

use anyhow::Context as _;
use berth_installer::verify::{self, NODE_LABEL, Proof, Verdict};
use berth_installer::wanted::Handler;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::code::is_code;
use super::list::List;
use super::runtime::Cri;

const LOOK: Duration = Duration::from_millis(500);

/// The list of handlers has changed while a handler was tried: the new one goes first.
#[derive(Debug, thiserror::Error)]
#[error("the list of handlers has changed")]
pub(crate) struct Changed;

/// Who proves.
#[derive(Clone)]
pub(crate) struct Prover {
    pub(crate) client: Client,
    /// The node.
    pub(crate) node: String,
    /// The installer's namespace.
    pub(crate) namespace: String,
    /// Name and uid of the installer's own pod.
    pub(crate) owner: Option<(String, String)>,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    /// Secrets with credentials for the image's registry.
    pub(crate) pull_secrets: Vec<String>,
    pub(crate) priority_class: Option<String>,
    /// How long a pod may take.
    pub(crate) limit: Duration,
    /// When this is cancelled, nothing is waited for any more.
    pub(crate) shutdown: CancellationToken,
}

impl Prover {
    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Removes the pods of an installer that ended before they did.
    ///
    /// # Errors
    /// When the API server doesn't let it.
    pub(crate) async fn clean(&self) -> anyhow::Result<()> {
        let mine = ListParams::default()
            .labels(&format!("{NODE_LABEL}={}", verify::label_value(&self.node)));
        for pod in self
            .pods()
            .list(&mine)
            .await
            .context("cannot list the pods that prove handlers")?
        {
            // Names of nodes may be cut to the same label.
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&self.node) {
                self.remove(&pod.name_any()).await;
            }
        }
        Ok(())
    }

    /// Runs a pod under the handler, and says whether it works and what it saw.
    ///
    /// # Errors
    /// When that can't be found out: no pod can be made, for reasons that are not the handler's. [`Changed`] when the list changes.
    pub(crate) async fn prove(
        &self,
        handler: &Handler,
        kernel: &str,
        cri: &Cri,
        list: &watch::Receiver<List>,
    ) -> anyhow::Result<Result<String, String>> {
        let owner = self
            .owner
            .as_ref()
            .map(|(name, uid)| (name.as_str(), uid.as_str()));
        let proof = Proof {
            node: &self.node,
            namespace: &self.namespace,
            owner,
            image: &self.image,
            command: &self.command,
            pull_secrets: &self.pull_secrets,
            priority_class: self.priority_class.as_deref(),
        };
        let pod: Pod = serde_json::from_value(verify::pod(handler, &proof))?;
        let made = self.pods().create(&PostParams::default(), &pod).await;
        let name = made
            .with_context(|| format!("cannot make the pod that tries handler {:?}", handler.name))?
            .name_any();
        let judged = self.judge(handler, &name, kernel, cri, list).await;
        self.remove(&name).await;
        judged
    }

    async fn judge(
        &self,
        handler: &Handler,
        name: &str,
        kernel: &str,
        cri: &Cri,
        list: &watch::Receiver<List>,
    ) -> anyhow::Result<Result<String, String>> {
        let id = format!("{}/{name}", self.namespace);
        let mut under: Option<String> = None;
        let end = tokio::time::Instant::now() + self.limit;
        loop {
            let pod = self
                .pods()
                .get_opt(name)
                .await
                .context("cannot look at the pod that tries a handler")?;
            let Some(pod) = pod else {
                anyhow::bail!(
                    "the pod that tries handler {:?} was removed by somebody",
                    handler.name
                )
            };
            if under.is_none() {
                let sandboxes = cri.sandboxes().await.unwrap_or_default();
                let found = sandboxes.into_iter().find(|sandbox| sandbox.pod == id);
                under = found.map(|sandbox| sandbox.handler);
            }
            let is_over = tokio::time::Instant::now() >= end;
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            let is_ended = matches!(phase, Some("Succeeded" | "Failed"));
            let (events, is_pulling) = if is_over || is_ended {
                self.events(name).await
            } else {
                (Vec::new(), false)
            };
            match verify::judge(handler, &pod, &events, kernel) {
                // A class of this name may be another's, who has made it lead elsewhere.
                Verdict::Works(seen) => match under {
                    Some(under) if under == handler.name => return Ok(Ok(seen)),
                    Some(under) => {
                        return Ok(Err(format!(
                            "the pod that tries it ran under handler {under:?}: RuntimeClass {:?} is not the installer's",
                            berth_installer::classes::verifying_name(&handler.name)
                        )));
                    }
                    None => {
                        anyhow::bail!("the runtime does not say under which handler pod {name} ran")
                    }
                },
                Verdict::Unknown(why) => anyhow::bail!("{why}"),
                Verdict::Fails(reason) => return Ok(Err(reason)),
                Verdict::Open(told) if is_over => {
                    if let Some(why) = verify::is_hindered(&pod, is_pulling) {
                        anyhow::bail!("{why}");
                    }
                    return Ok(Err(verify::overdue(&told, self.limit.as_secs())));
                }
                Verdict::Open(_) if self.shutdown.is_cancelled() => {
                    anyhow::bail!("the installer ends")
                }
                Verdict::Open(_) if list.has_changed().unwrap_or(true) => {
                    return Err(Changed.into());
                }
                Verdict::Open(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// What is told of the pod, and is no praise, oldest first; and whether the pull of an image has begun and not ended.
    async fn events(&self, name: &str) -> (Vec<String>, bool) {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
        let Ok(list) = events.list(&about).await else {
            return (Vec::new(), false);
        };
        let mut list = list.items;
        list.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
        let reasons = list.iter().filter_map(|event| event.reason.as_deref());
        let mut pulls = reasons.filter(|reason| matches!(*reason, "Pulling" | "Pulled"));
        let is_pulling = pulls.next_back() == Some("Pulling");
        let bad = list
            .into_iter()
            .filter(|event| event.type_.as_deref() == Some("Warning"));
        // That a pod without a cluster DNS has none is no reason.
        let bad = bad.filter(|event| event.reason.as_deref() != Some("MissingClusterDNS"));
        let bad = bad.map(|event| {
            format!(
                "{}: {}",
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            )
        });
        (bad.collect(), is_pulling)
    }

    async fn remove(&self, name: &str) {
        if let Err(error) = self
            .pods()
            .delete(name, &DeleteParams::default().grace_period(0))
            .await
            && !is_code(&error, 404)
        {
            warn!(pod = name, %error, "cannot remove a pod that has tried a handler; it ends by itself");
        }
    }
}
