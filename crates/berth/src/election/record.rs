//! What a Lease says of who leads, and what to do about it. No clock but the one that is passed in.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

/// A lease as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    holder: String,
    lasts: Duration,
    transitions: i32,
    /// Changes with every write.
    version: String,
    /// When this version was first seen.
    at: Instant,
}

impl Observed {
    /// The lease as it is now, after it was seen as `before`.
    pub(super) fn of(lease: &Lease, before: Option<Self>, now: Instant) -> Self {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            lasts: Duration::from_secs(seconds),
            transitions: spec.lease_transitions.unwrap_or(0),
            at: before
                .filter(|before| before.version == version)
                .map_or(now, |before| before.at),
            version,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Write the lease with our name; so often has it changed hands.
    Take {
        /// `leaseTransitions`.
        transitions: i32,
    },
    /// It is ours.
    Renew,
    /// Somebody else leads.
    Wait,
}

/// What to do at this moment; `me` is our name.
pub(super) fn step(observed: Option<&Observed>, me: &str, now: Instant) -> Step {
    let Some(seen) = observed else {
        return Step::Take { transitions: 0 };
    };
    if seen.holder == me {
        return Step::Renew;
    }
    if !seen.holder.is_empty() && now < seen.at + seen.lasts {
        return Step::Wait;
    }
    Step::Take {
        transitions: seen.transitions.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn lease(holder: &str, version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                lease_transitions: Some(3),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_holder_is_believed_until_it_has_not_been_heard_of_for_its_time() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(step(None, "b", start), Step::Take { transitions: 0 });
        let seen = Observed::of(&lease("a", "1"), None, start);
        assert_eq!(step(Some(&seen), "a", later(100)), Step::Renew);
        assert_eq!(step(Some(&seen), "b", later(14)), Step::Wait);
        let same = Observed::of(&lease("a", "1"), Some(seen.clone()), later(14));
        assert_eq!(
            step(Some(&same), "b", later(15)),
            Step::Take { transitions: 4 }
        );
        let renewed = Observed::of(&lease("a", "2"), Some(seen), later(14));
        assert_eq!(step(Some(&renewed), "b", later(28)), Step::Wait);
        let free = Observed::of(&lease("", "3"), Some(renewed), later(20));
        assert_eq!(
            step(Some(&free), "b", later(20)),
            Step::Take { transitions: 4 }
        );
    }
}
