//! What the API server and the nodes say.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use berth_controllers::class_overhead::ask;
use berth_cost::NodeReport;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::picture::{Picture, Seen};
use crate::cli::trace::ask as ask_start;

/// So many nodes are asked at a time.
const AT_A_TIME: usize = 16;
/// Objects of one list request.
const PAGE: u32 = 500;
/// Starts of so many pods are asked for at one look.
const STARTS: usize = 16;

pub(super) struct Gatherer {
    client: Client,
    namespace: Option<String>,
    /// How long starts took, by pods' UIDs, in microseconds; nothing where the node does not know.
    starts: HashMap<String, Option<u64>>,
}

impl Gatherer {
    pub(super) fn new(client: Client, namespace: Option<String>) -> Self {
        Self {
            client,
            namespace,
            starts: HashMap::new(),
        }
    }

    /// # Errors
    /// When classes, nodes or pods can't be listed. A node that does not answer is only told of.
    pub(super) async fn gather(&mut self) -> anyhow::Result<Picture> {
        let client = &self.client;
        let of_pods = match &self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let (classes, nodes, pods) = tokio::try_join!(
            list::<RuntimeClass>(Api::all(client.clone()), "RuntimeClasses"),
            list::<Node>(Api::all(client.clone()), "nodes"),
            list::<Pod>(of_pods, "pods"),
        )?;
        let names: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
        let client = client.clone();
        let asked = futures::stream::iter(names).map(move |node| {
            let client = client.clone();
            async move {
                let report = ask(&client, &node).await.map_err(|error| error.to_string());
                (node, report)
            }
        });
        let reports: BTreeMap<String, Result<NodeReport, String>> =
            asked.buffer_unordered(AT_A_TIME).collect().await;
        self.ask_starts(&pods, &reports).await;
        Ok(Picture::new(&Seen {
            classes,
            nodes,
            pods,
            reports,
            starts: &self.starts,
        }))
    }

    /// Asks for starts that are over and not known yet, of pods on nodes that answer.
    async fn ask_starts(
        &mut self,
        pods: &[Pod],
        reports: &BTreeMap<String, Result<NodeReport, String>>,
    ) {
        let uids: std::collections::HashSet<&str> = pods
            .iter()
            .filter_map(|pod| pod.metadata.uid.as_deref())
            .collect();
        self.starts.retain(|uid, _| uids.contains(uid.as_str()));
        let open = pods.iter().filter_map(|pod| {
            let uid = pod.uid()?;
            let node = pod.spec.as_ref()?.node_name.clone()?;
            let phase = pod.status.as_ref()?.phase.as_deref()?;
            let answers = reports.get(&node).is_some_and(Result::is_ok);
            let is_open = answers && phase != "Pending" && !self.starts.contains_key(&uid);
            is_open.then(|| {
                (
                    node,
                    pod.namespace().unwrap_or_default(),
                    pod.name_any(),
                    uid,
                )
            })
        });
        let open: Vec<_> = open.take(STARTS).collect();
        let client = self.client.clone();
        let asked = futures::stream::iter(open).map(move |(node, namespace, pod, uid)| {
            let client = client.clone();
            async move {
                let report = ask_start::ask(&client, &node, &namespace, &pod, Some(&uid)).await;
                (uid, report)
            }
        });
        let answers: Vec<_> = asked.buffer_unordered(AT_A_TIME).collect().await;
        for (uid, report) in answers {
            match report {
                // Not over yet: it is asked again.
                Ok(report) if report.outcome == "Starting" => {}
                Ok(report) => {
                    self.starts.insert(uid, Some(report.microseconds));
                }
                Err(_) => {
                    self.starts.insert(uid, None);
                }
            }
        }
    }
}

async fn list<K>(api: Api<K>, what: &str) -> anyhow::Result<Vec<K>>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut all = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await;
        let page = page.with_context(|| format!("cannot list {what}"))?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}
