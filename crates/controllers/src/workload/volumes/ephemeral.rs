//! Claims that are made for a pod.

use berth_supervise::Brief;
use berth_workloads::volume::ephemeral::{claims, conflict, failed};
use kube::ResourceExt as _;
use kube::api::PostParams;

use super::super::NOT_LISTED;
use super::Controller;
use crate::server::is_code;
use crate::workload::Key;
use crate::workload::keyed::Looked;

impl Controller {
    pub(super) async fn look_at_pod(&self, key: Key) -> Looked {
        if !self.is_ready() {
            return Ok(Some(NOT_LISTED));
        }
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else {
            return Ok(None);
        };
        let mut outcome = Ok(None);
        for claim in claims(&pod) {
            let name = claim.name_any();
            if let Some(there) = self.claims.get(&key.namespace, &name) {
                if let Some(event) = conflict(&pod, &there) {
                    self.recorder.record(&*pod, &event).await;
                }
                continue;
            }
            let api = self.claims_in(&key.namespace);
            match api.create(&PostParams::default(), &claim).await {
                // Another one of the name, or this one: the copy shows it in a moment.
                Err(error) if is_code(&error, &[409]) => outcome = Err(error),
                Err(error) => {
                    let why = format!("{name}: {}", Brief(&error));
                    self.recorder.record(&*pod, &failed(&why)).await;
                    outcome = Err(error);
                }
                Ok(_) => {}
            }
        }
        outcome
    }
}
