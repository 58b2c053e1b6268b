//! Devices for the containers of a pod: chosen here, allocated by the plugin, recorded, and only then counted as given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth_kubelet_api::device_plugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, PreStartContainerRequest, PreferredAllocationRequest,
};
use berth_lifecycle::is_sidecar;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::answer::{self, AnswerError};
use super::state::{Choice, Client, NotAvailable, Plugin};
use super::{Allocated, Devices};
use crate::amount;
use crate::cri::rpc_message;

/// A plugin prepares its devices in this time; the stock kubelet waits without end.
const ALLOCATE: Duration = Duration::from_secs(60);
/// The stock limits.
const PRE_START: Duration = Duration::from_secs(30);
const PREFER: Duration = Duration::from_secs(10);
/// What is asked of a device is recorded for each container.
const MAX_RECORDED: usize = 1 << 20;

/// Why a container has no devices.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AllocateError {
    #[error(transparent)]
    NotAvailable(#[from] NotAvailable),
    #[error(
        "pod {uid:?} container {container:?} changed request for resource {resource:?} from {had} to {wanted}"
    )]
    Changed {
        uid: String,
        container: String,
        resource: String,
        had: usize,
        wanted: usize,
    },
    #[error("endpoint not found in cache for a registered resource: {0}")]
    NoPlugin(String),
    #[error(
        "device plugin {resource} {call} rpc failed with err: {}",
        rpc_message(status)
    )]
    Rpc {
        resource: String,
        call: &'static str,
        status: Box<tonic::Status>,
    },
    #[error("device plugin {resource} did not answer {call} within {limit:?}")]
    Silent {
        resource: String,
        call: &'static str,
        limit: Duration,
    },
    #[error("device plugin {0} allocated {1} containers in place of one")]
    Count(String, usize),
    #[error("device plugin {resource}: {source}")]
    Answer {
        resource: String,
        source: AnswerError,
    },
    #[error("cannot record the devices of pod {uid:?}: {source}")]
    Record { uid: String, source: std::io::Error },
}

impl AllocateError {
    /// Others have what is asked for.
    pub(crate) fn is_short(&self) -> bool {
        matches!(self, Self::NotAvailable(NotAvailable::TooFew { .. }))
    }
}

/// Devices that init containers of the pod have had, by resource.
type Reusable = BTreeMap<String, BTreeSet<String>>;

impl Devices {
    /// Allocates what a pod's containers ask for. After an error the pod holds nothing.
    pub(crate) async fn allocate(&self, pod: &Pod) -> Result<(), AllocateError> {
        let Some((uid, spec)) = pod.metadata.uid.as_deref().zip(pod.spec.as_ref()) else {
            return Ok(());
        };
        let mut reusable = Reusable::new();
        let init = spec.init_containers.iter().flatten();
        let init = init.map(|c| (c, !is_sidecar(c)));
        let all = init.chain(spec.containers.iter().map(|c| (c, false)));
        for (c, ends) in all {
            if let Err(error) = self.of_container(uid, c, ends, &mut reusable).await {
                self.release(uid);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What plugins are to be told before a container starts, and devices that an earlier agent should have allocated.
    pub(crate) async fn before_start(&self, uid: &str, c: &Container) -> Result<(), AllocateError> {
        for (resource, wanted) in self.wanted(c) {
            if self.recorded(uid, &c.name, &resource).is_none() {
                self.one(uid, &c.name, &resource, wanted, &BTreeSet::new())
                    .await?;
            }
        }
        let held = {
            let state = self.state.lock();
            let pod = state.pods.get(uid);
            pod.and_then(|pod| pod.containers.get(&c.name)).cloned()
        };
        for (resource, allocated) in held.into_iter().flatten() {
            if !allocated.pre_start {
                continue;
            }
            let Plugin { mut client, .. } = self.plugin(&resource)?;
            let request = PreStartContainerRequest {
                devices_ids: allocated.ids,
            };
            let call = client.pre_start_container(request);
            within(&resource, "PreStartContainer", PRE_START, call).await?;
        }
        Ok(())
    }

    /// Resources of plugins that a container asks for.
    fn wanted(&self, c: &Container) -> Vec<(String, usize)> {
        let state = self.state.lock();
        let limits = c.resources.as_ref().and_then(|r| r.limits.as_ref());
        let known = limits
            .into_iter()
            .flatten()
            .filter(|(name, _)| state.is_known(name));
        known
            .map(|(name, _)| (name.clone(), amount::limit(c.resources.as_ref(), name)))
            .filter_map(|(name, count)| Some((name, usize::try_from(count).ok()?)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn recorded(&self, uid: &str, container: &str, resource: &str) -> Option<Vec<String>> {
        let state = self.state.lock();
        let allocated = state
            .pods
            .get(uid)?
            .containers
            .get(container)?
            .get(resource)?;
        Some(allocated.ids.clone())
    }

    fn plugin(&self, resource: &str) -> Result<Plugin, AllocateError> {
        let found = self.state.lock().plugin(resource);
        found.ok_or_else(|| AllocateError::NoPlugin(resource.to_owned()))
    }

    async fn of_container(
        &self,
        uid: &str,
        c: &Container,
        ends: bool,
        reusable: &mut Reusable,
    ) -> Result<(), AllocateError> {
        for (resource, wanted) in self.wanted(c) {
            let own = reusable.entry(resource.clone()).or_default();
            let ids = match self.recorded(uid, &c.name, &resource) {
                Some(ids) if ids.len() == wanted => ids,
                Some(ids) => {
                    return Err(AllocateError::Changed {
                        uid: uid.to_owned(),
                        container: c.name.clone(),
                        resource,
                        had: ids.len(),
                        wanted,
                    });
                }
                None => self.one(uid, &c.name, &resource, wanted, own).await?,
            };
            // What an init container has had is the next ones' to have; what runs on is not.
            for id in ids {
                if ends {
                    own.insert(id);
                } else {
                    own.remove(&id);
                }
            }
        }
        Ok(())
    }

    async fn one(
        &self,
        uid: &str,
        container: &str,
        resource: &str,
        wanted: usize,
        own: &BTreeSet<String>,
    ) -> Result<Vec<String>, AllocateError> {
        let unregistered = || NotAvailable::Unregistered(resource.to_owned());
        let turn = self.state.lock().turn(resource);
        // One at a time: what is chosen is not recorded before the plugin has answered.
        let turn = turn.ok_or_else(unregistered)?;
        let _one_at_a_time = turn.lock().await;
        let choice = self.state.lock().choose(resource, wanted, own)?;
        let Plugin {
            mut client,
            options,
        } = self.plugin(resource)?;
        let asks = options.get_preferred_allocation_available
            && choice.needed > 0
            && choice.needed < choice.available.len();
        let preferred = if asks {
            prefer(&mut client, resource, wanted, &choice).await?
        } else {
            Vec::new()
        };
        let ids = pick(choice, preferred);
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest {
                devices_ids: ids.clone(),
            }],
        };
        let call = client.allocate(request);
        let answers = within(resource, "Allocate", ALLOCATE, call).await?;
        let answer = single(resource, answers.container_responses)?;
        let allocated = Allocated {
            ids: ids.clone(),
            pre_start: options.pre_start_required,
            answer,
        };
        self.state
            .lock()
            .pods
            .entry(uid.to_owned())
            .or_default()
            .containers
            .entry(container.to_owned())
            .or_default()
            .insert(resource.to_owned(), allocated);
        self.save(uid).map_err(|source| AllocateError::Record {
            uid: uid.to_owned(),
            source,
        })?;
        Ok(ids)
    }
}

fn single(
    resource: &str,
    answers: Vec<ContainerAllocateResponse>,
) -> Result<ContainerAllocateResponse, AllocateError> {
    let count = answers.len();
    let mut answers = answers.into_iter();
    let (Some(answer), None) = (answers.next(), answers.next()) else {
        return Err(AllocateError::Count(resource.to_owned(), count));
    };
    answer::check(&answer, MAX_RECORDED).map_err(|source| AllocateError::Answer {
        resource: resource.to_owned(),
        source,
    })?;
    Ok(answer)
}

/// Asks the plugin which ones it would take.
async fn prefer(
    client: &mut Client,
    resource: &str,
    wanted: usize,
    choice: &Choice,
) -> Result<Vec<String>, AllocateError> {
    let available = choice.reused.iter().chain(&choice.available);
    let request = PreferredAllocationRequest {
        container_requests: vec![ContainerPreferredAllocationRequest {
            available_device_i_ds: available.cloned().collect(),
            must_include_device_i_ds: choice.reused.clone(),
            allocation_size: i32::try_from(wanted).unwrap_or(i32::MAX),
        }],
    };
    let call = client.get_preferred_allocation(request);
    let answer = within(resource, "GetPreferredAllocation", PREFER, call).await?;
    let first = answer.container_responses.into_iter().next();
    Ok(first.map(|r| r.device_i_ds).unwrap_or_default())
}

/// The pod's own, those of the plugin's that it may give, then any.
fn pick(choice: Choice, preferred: Vec<String>) -> Vec<String> {
    let available: BTreeSet<&String> = choice.available.iter().collect();
    let mut chosen = choice.reused;
    let wanted = chosen.len() + choice.needed;
    let mut seen: BTreeSet<String> = chosen.iter().cloned().collect();
    let preferred = preferred.iter().filter(|id| available.contains(id));
    for id in preferred.chain(&choice.available) {
        if chosen.len() == wanted {
            break;
        }
        if seen.insert(id.clone()) {
            chosen.push(id.clone());
        }
    }
    chosen
}

async fn within<T>(
    resource: &str,
    call: &'static str,
    limit: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, AllocateError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(AllocateError::Rpc {
            resource: resource.to_owned(),
            call,
            status: Box::new(status),
        }),
        Err(_) => Err(AllocateError::Silent {
            resource: resource.to_owned(),
            call,
            limit,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_plugin_prefers_among_what_it_is_offered_and_no_more() {
        let choice = |needed| Choice {
            reused: list(&["own"]),
            available: list(&["a", "b", "c"]),
            needed,
        };
        assert_eq!(pick(choice(2), list(&["c"])), ["own", "c", "a"]);
        assert_eq!(
            pick(choice(1), list(&["taken", "own", "b", "b", "c"])),
            ["own", "b"]
        );
        assert_eq!(pick(choice(3), Vec::new()), ["own", "a", "b", "c"]);
        assert_eq!(pick(choice(0), list(&["a"])), ["own"]);
    }

    #[test]
    fn an_answer_is_for_one_container() {
        let none = single("v.com/gpu", Vec::new()).unwrap_err().to_string();
        assert_eq!(
            none,
            "device plugin v.com/gpu allocated 0 containers in place of one"
        );
        let one = ContainerAllocateResponse::default();
        single("v.com/gpu", vec![one.clone()]).unwrap();
        single("v.com/gpu", vec![one.clone(), one]).unwrap_err();
    }
}
