//! Checks the expressions of ValidatingAdmissionPolicies against the types of what they match, and says in
//! `status.typeChecking` what can't work: the API server compiles them without types, so a field that no such object has is
//! found by the first request otherwise. Nothing depends on it but whoever reads it.
//!
//! A policy is checked once for each of its generations, against the kinds that there are at that moment, as on the stock
//! controller manager.

mod check;
mod schemas;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::measures::WorkQueue;
use berth_supervise::{Brief, Tasks};
use k8s_openapi::api::admissionregistration::v1::{ExpressionWarning, ValidatingAdmissionPolicy};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};

use self::schemas::Types;
use crate::reflect;
use crate::server::{discovery, is_code};

/// Who owns the status.
const MEASURES: WorkQueue = WorkQueue::new("validatingadmissionpolicy-status");
const MANAGER: &str = "validatingadmissionpolicy-status";
const PERIOD: Duration = Duration::from_secs(300);
const AGAIN: Duration = Duration::from_secs(5);

/// Runs until the tasks are to stop.
pub async fn run(client: Client, tasks: Tasks) {
    let shutdown = tasks.stop_token();
    let api: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let mut policies = reflect(&tasks, api.clone(), None);
    // By UID, the generation whose status was written: the watch may not have shown that yet.
    let mut written: HashMap<String, i64> = HashMap::new();
    loop {
        let mut pause = PERIOD;
        if policies.is_complete() {
            let all = policies.all();
            written.retain(|uid, _| all.iter().any(|policy| policy.uid().as_ref() == Some(uid)));
            let due = all.into_iter().filter(|policy| is_due(policy, &written));
            let due: Vec<_> = due.collect();
            if !due.is_empty() && !check_all(&client, &api, due, &mut written).await {
                pause = AGAIN;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = policies.changed_or(pause) => {}
        }
    }
}

fn is_due(policy: &ValidatingAdmissionPolicy, written: &HashMap<String, i64>) -> bool {
    let observed = policy.status.as_ref().and_then(|s| s.observed_generation);
    let known = policy.uid().and_then(|uid| written.get(&uid).copied());
    policy.metadata.deletion_timestamp.is_none()
        && generation(policy) > observed.max(known).unwrap_or(0)
}

fn generation(policy: &ValidatingAdmissionPolicy) -> i64 {
    policy.metadata.generation.unwrap_or(0)
}

/// False when some have to be looked at again.
async fn check_all(
    client: &Client,
    api: &Api<ValidatingAdmissionPolicy>,
    due: Vec<Arc<ValidatingAdmissionPolicy>>,
    written: &mut HashMap<String, i64>,
) -> bool {
    let discovery = match discovery(client).await {
        Ok(discovery) => discovery,
        Err(error) => {
            warn!(error = %Brief(&error), "cannot find out what the server has, to check policies against");
            return false;
        }
    };
    let mut types = Types::new(client, &discovery);
    let mut is_done = true;
    for policy in due {
        let name = policy.name_any();
        let typed = match types.of(&policy).await {
            Ok(typed) => typed,
            Err(error) => {
                warn!(policy = name, error = %Brief(&error), "cannot read the schemas that a policy is checked against");
                is_done = false;
                continue;
            }
        };
        let (uid, generation) = (policy.uid().unwrap_or_default(), generation(&policy));
        let checked = tokio::task::spawn_blocking(move || check::warnings(&policy, &typed)).await;
        let Ok(warnings) = checked else {
            warn!(policy = name, "the types of a policy cannot be checked");
            is_done = false;
            continue;
        };
        let writing = write(api, &name, generation, &warnings);
        match MEASURES.look(writing).await {
            Ok(()) => {
                info!(
                    policy = name,
                    warnings = warnings.len(),
                    "checked the types of a policy"
                );
                written.insert(uid, generation);
            }
            Err(error) if is_code(&error, &[404]) => {}
            Err(error) => {
                warn!(policy = name, error = %Brief(&error), "cannot write the status of a policy");
                is_done = false;
            }
        }
    }
    is_done
}

async fn write(
    api: &Api<ValidatingAdmissionPolicy>,
    name: &str,
    generation: i64,
    warnings: &[ExpressionWarning],
) -> kube::Result<()> {
    let mut checking = json!({});
    if !warnings.is_empty() {
        checking["expressionWarnings"] = json!(warnings);
    }
    let status = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "status": {"observedGeneration": generation, "typeChecking": checking},
    });
    let params = PatchParams::apply(MANAGER).force();
    api.patch_status(name, &params, &Patch::Apply(status))
        .await
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_looked_at_once() {
        let policy = |generation: i64, observed: Option<i64>| -> ValidatingAdmissionPolicy {
            let status = observed.map(|observed| json!({"observedGeneration": observed}));
            serde_json::from_value(
                json!({"metadata": {"name": "p", "uid": "u", "generation": generation}, "status": status}),
            )
            .expect("a policy")
        };
        let none = HashMap::new();
        assert!(is_due(&policy(1, None), &none));
        assert!(is_due(&policy(2, Some(1)), &none));
        assert!(!is_due(&policy(2, Some(2)), &none));
        let written = HashMap::from([("u".to_owned(), 2)]);
        assert!(!is_due(&policy(2, Some(1)), &written));
        assert!(is_due(&policy(3, Some(1)), &written));
    }
}
