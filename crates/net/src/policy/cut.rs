//! Ends connections that may not be any more. The packets of who began them are judged anyway; this is for answers.

use berth_supervise::unblock;
use tracing::{debug, warn};

use super::decisions::{Decisions, Facts};
use super::judge::Judge;
use super::links::Link;
use crate::services::conntrack;
use crate::services::facts::Protocol;

/// Whether it was done.
pub(super) async fn cut(decisions: &Decisions, facts: &Facts, links: &[Link]) -> bool {
    let (decisions, facts, links) = (decisions.clone(), facts.clone(), links.to_vec());
    let cut = unblock(move || {
        let here = links.iter();
        let here = here.flat_map(|l| l.addresses.iter().map(move |ip| (*ip, l.uid.as_str())));
        let judge = Judge::new(&decisions, &facts, here);
        conntrack::cut(|flow| {
            let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
            let protocol = protocols.into_iter().find(|p| p.number() == flow.protocol);
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
