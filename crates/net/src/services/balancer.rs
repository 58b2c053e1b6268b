//! Tells Services of type LoadBalancer their address: the node's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use tracing::debug;

use super::model::{Key, Service};

/// Who says so.
const COMPONENT: &str = "service-lb-controller";

/// Writes statuses, with rights of its own: who leads traffic has none to write.
pub(crate) struct Balancer {
    client: Client,
    recorder: Recorder,
    /// What was said of each that has no address.
    said: BTreeMap<Key, String>,
}

impl Balancer {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            recorder: Recorder::new(client.clone(), Reporter::from(COMPONENT)),
            client,
            said: BTreeMap::new(),
        }
    }

    /// Brings the statuses about; what fails is tried again at the next look.
    ///
    /// # Errors
    /// The last refusal of the API server.
    pub(crate) async fn tell(
        &mut self,
        services: &BTreeMap<Key, Service>,
        state: &BTreeMap<Key, Result<Vec<IpAddr>, String>>,
    ) -> kube::Result<()> {
        self.said.retain(|key, _| state.contains_key(key));
        let mut result = Ok(());
        for (key, state) in state {
            let Some(service) = services.get(key) else {
                continue;
            };
            let wanted = state.as_deref().unwrap_or_default();
            if service.ingress != wanted
                && let Err(error) = self.write(key, wanted).await
            {
                result = Err(error);
                continue;
            }
            match state {
                Ok(_) => {
                    self.said.remove(key);
                }
                Err(why) if self.said.get(key) == Some(why) => {}
                Err(why) => {
                    self.said.insert(key.clone(), why.clone());
                    self.record(service, why).await;
                }
            }
        }
        result
    }

    async fn write(&self, key: &Key, addresses: &[IpAddr]) -> kube::Result<()> {
        let api: Api<v1::Service> = Api::namespaced(self.client.clone(), &key.namespace);
        let ingress: Vec<_> = addresses
            .iter()
            .map(|ip| json!({"ip": ip, "ipMode": "VIP"}))
            .collect();
        let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let written = api
            .patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match written {
            // It is gone, and the watch says so soon.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    async fn record(&self, service: &Service, why: &str) {
        let mut about = v1::Service::default();
        about.metadata.name = Some(service.key.name.clone());
        about.metadata.namespace = Some(service.key.namespace.clone());
        about.metadata.uid = Some(service.uid.clone());
        let event = Event {
            type_: EventType::Warning,
            reason: "SyncLoadBalancerFailed".to_owned(),
            note: Some(format!("Error syncing load balancer: {why}")),
            action: "EnsureLoadBalancer".to_owned(),
            secondary: None,
        };
        // One that can't be written is lost, as everywhere in Kubernetes.
        if let Err(error) = self.recorder.publish(&event, &about.object_ref(&())).await {
            debug!(%error, "an event was not written");
        }
    }
}
