//! Leader election by a Lease: of several servers one runs the scheduler, and one the controllers.
//!
//! The scheduler's lease has the stock name, so that a stock kube-scheduler beside berth takes part in the same election; the
//! controllers have one of their own, since a stock kube-controller-manager does more than they. Nobody compares clocks: a holder is believed
//! for as long as its lease lasts, from the moment at which this process saw the lease change (`record`). Who leads and
//! cannot renew stops working before anybody else may believe that the lease is free ([`Times::stop_within`]).

mod record;

use std::time::Duration;

use anyhow::ensure;
use berth_supervise::{Brief, Outage};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use rand::RngExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::record::{Observed, Step};

const NAMESPACE: &str = "kube-system";

/// Flags of the election; they bear the stock components' names.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ElectionArgs {
    /// Run scheduler and controllers only while this server holds their Leases [default: true with --etcd-servers]
    #[arg(long, value_name = "BOOL")]
    leader_elect: Option<bool>,
    /// How long a leader that is not heard of is believed to lead
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = clap::value_parser!(u32).range(1..=3600))]
    leader_elect_lease_duration: u32,
    /// How long a leader that cannot renew goes on
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=3600))]
    leader_elect_renew_deadline: u32,
    /// How often the Leases are looked at
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=3600))]
    leader_elect_retry_period: u32,
}

/// The times of an election.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    lease: Duration,
    deadline: Duration,
    retry: Duration,
}

impl ElectionArgs {
    /// The times; none when there is no election.
    ///
    /// # Errors
    /// When they do not fit each other.
    pub(crate) fn times(&self, several_servers: bool) -> anyhow::Result<Option<Times>> {
        if !self.leader_elect.unwrap_or(several_servers) {
            return Ok(None);
        }
        let seconds = |n: u32| Duration::from_secs(n.into());
        let times = Times {
            lease: seconds(self.leader_elect_lease_duration),
            deadline: seconds(self.leader_elect_renew_deadline),
            retry: seconds(self.leader_elect_retry_period),
        };
        ensure!(
            times.lease > times.deadline,
            "--leader-elect-lease-duration must be longer than --leader-elect-renew-deadline"
        );
        ensure!(
            times.deadline > times.retry,
            "--leader-elect-renew-deadline must be longer than --leader-elect-retry-period"
        );
        Ok(Some(times))
    }
}

impl Times {
    /// How long the work may take to stop after the lease could not be renewed.
    fn stop_within(self) -> Duration {
        (self.lease - self.deadline) * 4 / 5
    }
}

/// A part of a name that no other process has.
#[must_use]
pub(crate) fn unique() -> String {
    let bytes: [u8; 16] = rand::rng().random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Does the work: as the leader where there is an election, else at once.
///
/// # Errors
/// The work's.
pub(crate) async fn run<F>(
    elector: Option<Elector>,
    shutdown: CancellationToken,
    work: impl Fn(CancellationToken) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    match elector {
        Some(elector) => elector.lead(shutdown, work).await,
        None => work(shutdown).await,
    }
}

/// One who wants to lead.
pub(crate) struct Elector {
    api: Api<Lease>,
    name: &'static str,
    me: String,
    times: Times,
    observed: Option<Observed>,
}

impl Elector {
    /// For the Lease of this name in kube-system.
    #[must_use]
    pub(crate) fn new(client: kube::Client, name: &'static str, me: &str, times: Times) -> Self {
        Self {
            api: Api::namespaced(client, NAMESPACE),
            name,
            me: me.to_owned(),
            times,
            observed: None,
        }
    }

    /// Does the work whenever it leads, until `shutdown` or until the work ends by itself. The work gets a token that
    /// ends it; what has not ended in time then is dropped.
    ///
    /// # Errors
    /// The work's.
    pub(crate) async fn lead<F>(
        mut self,
        shutdown: CancellationToken,
        work: impl Fn(CancellationToken) -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        loop {
            let since = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                since = self.acquire() => since,
            };
            info!(lease = self.name, holder = self.me, "leading");
            let stop = shutdown.child_token();
            let mut working = Box::pin(work(stop.clone()));
            let lost = tokio::select! {
                result = &mut working => {
                    drop(working);
                    self.release().await;
                    return result;
                }
                lost = self.keep(since) => lost,
            };
            warn!(lease = self.name, reason = lost, "no longer leading");
            stop.cancel();
            let stopped = tokio::time::timeout(self.times.stop_within(), working).await;
            match stopped {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(
                        lease = self.name,
                        error = format!("{error:#}"),
                        "failed while it stopped"
                    );
                }
                Err(_) => warn!(lease = self.name, "did not stop in time and is cut off"),
            }
        }
    }

    /// Waits until it leads; gives when the request was sent that made it so.
    async fn acquire(&mut self) -> Instant {
        let mut outage = Outage::new(format!("cannot read or write the Lease {}", self.name));
        loop {
            let asked = Instant::now();
            match tokio::time::timeout(self.times.deadline, self.try_once()).await {
                Ok(Ok(true)) => return asked,
                Ok(Ok(false)) => outage.works(),
                Ok(Err(error)) => {
                    outage.failed(Brief(&error));
                }
                Err(_) => {
                    outage.failed("the API server did not answer in time");
                }
            }
            tokio::time::sleep(self.times.retry).await;
        }
    }

    /// Renews until that has not been possible for too long, or somebody else has the lease; gives the reason.
    async fn keep(&mut self, mut renewed: Instant) -> &'static str {
        loop {
            tokio::time::sleep(self.times.retry).await;
            let asked = Instant::now();
            let deadline = renewed + self.times.deadline;
            match tokio::time::timeout_at(deadline, self.try_once()).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return "another one has the Lease",
                Ok(Err(_)) | Err(_) if Instant::now() >= deadline => {
                    return "the Lease could not be renewed in time";
                }
                // A conflict or an outage: there is still time.
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Looks at the lease, and takes or renews it when that is in order. Whether it is ours now.
    async fn try_once(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(self.name).await?;
        let now = Instant::now();
        if let Some(lease) = &found {
            self.observed = Some(Observed::of(lease, self.observed.take(), now));
        } else {
            self.observed = None;
        }
        let step = record::step(self.observed.as_ref(), &self.me, now);
        let written = match (step, found) {
            (Step::Wait, _) => return Ok(false),
            (Step::Take { transitions }, None) => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.to_owned()),
                        namespace: Some(NAMESPACE.to_owned()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.spec(None, transitions)),
                };
                self.api.create(&PostParams::default(), &lease).await
            }
            (Step::Take { transitions }, Some(lease)) => {
                let spec = self.spec(None, transitions);
                self.replace(lease, spec).await
            }
            (Step::Renew, Some(lease)) => {
                let had = lease.spec.clone().unwrap_or_default();
                let spec = self.spec(had.acquire_time, had.lease_transitions.unwrap_or(0));
                self.replace(lease, spec).await
            }
            (Step::Renew, None) => return Ok(false),
        };
        match written {
            Ok(lease) => {
                self.observed = Some(Observed::of(&lease, self.observed.take(), Instant::now()));
                Ok(true)
            }
            // Somebody was faster; the next look shows who.
            Err(kube::Error::Api(status)) if status.code == 409 && step != Step::Renew => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn replace(&self, mut lease: Lease, spec: LeaseSpec) -> Result<Lease, kube::Error> {
        lease.spec = Some(spec);
        self.api
            .replace(self.name, &PostParams::default(), &lease)
            .await
    }

    fn spec(&self, acquired: Option<MicroTime>, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(self.times.lease.as_secs()).ok(),
            acquire_time: acquired.or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Lets the next one lead at once.
    async fn release(&self) {
        let releasing = async {
            let Some(lease) = self.api.get_opt(self.name).await? else {
                return Ok(());
            };
            let had = lease.spec.clone().unwrap_or_default();
            if had.holder_identity.as_deref() != Some(&self.me) {
                return Ok(());
            }
            let mut spec = self.spec(had.acquire_time, had.lease_transitions.unwrap_or(0));
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            self.replace(lease, spec).await.map(drop)
        };
        match tokio::time::timeout(self.times.retry, releasing).await {
            Ok(Ok(())) => {}
            Ok(Err::<(), kube::Error>(error)) => {
                warn!(lease = self.name, error = %Brief(&error), "the Lease stays until it runs out");
            }
            Err(_) => warn!(lease = self.name, "the Lease stays until it runs out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(elect: Option<bool>, lease: u32, deadline: u32, retry: u32) -> ElectionArgs {
        ElectionArgs {
            leader_elect: elect,
            leader_elect_lease_duration: lease,
            leader_elect_renew_deadline: deadline,
            leader_elect_retry_period: retry,
        }
    }

    #[test]
    fn several_servers_elect_by_default() {
        assert!(args(None, 15, 10, 2).times(true).unwrap().is_some());
        assert!(args(None, 15, 10, 2).times(false).unwrap().is_none());
        assert!(args(Some(false), 15, 10, 2).times(true).unwrap().is_none());
        assert!(args(Some(true), 10, 10, 2).times(false).is_err());
        assert!(args(Some(true), 15, 2, 2).times(false).is_err());
        let times = args(Some(true), 15, 10, 2).times(false).unwrap().unwrap();
        assert!(times.deadline + times.stop_within() < times.lease);
    }
}
