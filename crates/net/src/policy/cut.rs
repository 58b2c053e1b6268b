//! Ends connections that may not be any more. The packets of who began them are judged anyway; this is for answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use berth_supervise::unblock;
use tracing::{debug, warn};

use super::decisions::{Decisions, Facts};
use super::judge::Judge;
use super::links::Link;
use crate::services::conntrack;
use crate::services::facts::Protocol;

/// The UIDs of the pods that have addresses of this node's network.
pub(super) type Owners = BTreeMap<IpAddr, String>;

/// Whether it was done.
pub(super) async fn cut(decisions: &Decisions, facts: &Facts, links: &[Link]) -> bool {
    let (decisions, facts, links) = (decisions.clone(), facts.clone(), links.to_vec());
    let cut = unblock(move || {
        let here = links.iter();
        let here = here.flat_map(|l| l.addresses.iter().map(move |ip| (*ip, l.uid.as_str())));
        let judge = Judge::new(&decisions, &facts, here);
        conntrack::cut(|flow| {
            let protocol = Protocol::of_number(flow.protocol);
            !judge.allows(protocol, flow.from, flow.answers)
        })
    });
    match cut.await {
        Ok(0) => true,
        Ok(connections) => {
            debug!(
                connections,
                "connections that NetworkPolicies forbid are cut"
            );
            true
        }
        Err(error) => {
            warn!(%error, "connections that NetworkPolicies forbid may hang: the kernel's list of connections cannot be read");
            false
        }
    }
}

/// Cuts what went to and came from addresses that another pod may get, or has got: who answers is not asked for its policies. `before`
/// is what was known at the last look; nothing before the first.
///
/// # Errors
/// When the kernel's list of connections cannot be read, or one of them cannot be cut.
pub(super) async fn cut_gone(
    before: Option<&Owners>,
    owners: &Owners,
    facts: &Facts,
) -> io::Result<()> {
    let left = before.map(|before| -> BTreeSet<IpAddr> {
        let left = before.iter();
        let left = left.filter(|(address, uid)| owners.get(*address) != Some(*uid));
        left.map(|(address, _)| *address).collect()
    });
    if left.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(());
    }
    let owned: BTreeSet<IpAddr> = owners.keys().copied().collect();
    let (pods, own) = (facts.pod_cidrs.clone(), facts.own.clone());
    let is_gone = move |address: IpAddr| match &left {
        Some(left) => left.contains(&address),
        // Nobody knows who had them while nobody looked.
        None => {
            let is_pods = pods.iter().any(|cidr| cidr.contains(&address));
            is_pods && !owned.contains(&address) && !own.contains(&address)
        }
    };
    unblock(move || {
        conntrack::cut(|flow| {
            let ends = [flow.from.ip(), flow.asked.ip(), flow.answers.ip()];
            ends.into_iter().any(&is_gone)
        })
    })
    .await?;
    Ok(())
}
