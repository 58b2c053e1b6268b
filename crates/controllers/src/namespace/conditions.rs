//! What a terminating namespace says of itself (`status.conditions`), in the words of the stock namespace controller.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Kinds, finalizers and failures that a message names: people who write to the namespace choose how many there are.
const NAMED: usize = 20;

/// What one try to empty a namespace has found.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Why it could not be found out what can be in a namespace.
    pub(super) discovery: Option<String>,
    /// What could not be listed or deleted, and why.
    pub(super) failures: Vec<String>,
    /// Objects that are still there, by `plural.group`.
    pub(super) remaining: BTreeMap<String, usize>,
    /// How many of them each finalizer holds.
    pub(super) finalizers: BTreeMap<String, usize>,
}

impl Content {
    /// Whether nothing is left, and everything was looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.discovery.is_none() && self.failures.is_empty() && self.remaining.is_empty()
    }

    /// The conditions that say so, in the order of the stock controller. One that says what it said before keeps the
    /// time at which it began to.
    pub(super) fn conditions(
        &self,
        before: &[NamespaceCondition],
        now: jiff::Timestamp,
    ) -> Vec<NamespaceCondition> {
        [
            match &self.discovery {
                None => no(
                    "NamespaceDeletionDiscoveryFailure",
                    "ResourcesDiscovered",
                    "All resources successfully discovered",
                ),
                Some(why) => yes(
                    "NamespaceDeletionDiscoveryFailure",
                    "DiscoveryFailed",
                    format!("Discovery failed for some groups, 1 failing: {why}"),
                ),
            },
            no(
                "NamespaceDeletionGroupVersionParsingFailure",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            match self.failures.len() {
                0 => no(
                    "NamespaceDeletionContentFailure",
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                ),
                count => yes(
                    "NamespaceDeletionContentFailure",
                    "ContentDeletionFailed",
                    format!(
                        "Failed to delete all resource types, {count} remaining: {}",
                        listed(self.failures.iter().cloned())
                    ),
                ),
            },
            if self.remaining.is_empty() {
                no(
                    "NamespaceContentRemaining",
                    "ContentRemoved",
                    "All content successfully removed",
                )
            } else {
                let kinds = self.remaining.iter();
                let kinds = kinds.map(|(kind, n)| format!("{kind} has {n} resource instances"));
                yes(
                    "NamespaceContentRemaining",
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {}", listed(kinds)),
                )
            },
            if self.finalizers.is_empty() {
                no(
                    "NamespaceFinalizersRemaining",
                    "ContentHasNoFinalizers",
                    "All content-preserving finalizers finished",
                )
            } else {
                let held = self.finalizers.iter();
                let held = held.map(|(name, n)| format!("{name} in {n} resource instances"));
                yes(
                    "NamespaceFinalizersRemaining",
                    "SomeFinalizersRemain",
                    format!(
                        "Some content in the namespace has finalizers remaining: {}",
                        listed(held)
                    ),
                )
            },
        ]
        .into_iter()
        .map(|mut condition| {
            let was = before.iter().find(|c| c.type_ == condition.type_);
            condition.last_transition_time = match was {
                Some(was) if was.status == condition.status => was.last_transition_time.clone(),
                Some(_) | None => Some(Time(now)),
            };
            condition
        })
        .collect()
    }
}

fn listed(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let mut named: Vec<String> = all.take(NAMED).collect();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join(", ")
}

fn no(kind: &str, reason: &str, message: &str) -> NamespaceCondition {
    condition(kind, "False", reason, message.to_owned())
}

fn yes(kind: &str, reason: &str, message: String) -> NamespaceCondition {
    condition(kind, "True", reason, message)
}

fn condition(kind: &str, status: &str, reason: &str, message: String) -> NamespaceCondition {
    NamespaceCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).expect("a time")
    }

    fn said(conditions: &[NamespaceCondition]) -> Vec<(&str, &str, &str)> {
        conditions
            .iter()
            .map(|c| {
                let message = c.message.as_deref().unwrap_or_default();
                (c.type_.as_str(), c.status.as_str(), message)
            })
            .collect()
    }

    #[test]
    fn what_is_left_and_what_holds_it_are_named() {
        let content = Content {
            remaining: BTreeMap::from([
                ("pods.".to_owned(), 2),
                ("widgets.example.com".to_owned(), 1),
            ]),
            finalizers: BTreeMap::from([("example.com/mine".to_owned(), 1)]),
            ..Content::default()
        };
        let conditions = content.conditions(&[], at(1));
        assert!(!content.is_empty());
        assert_eq!(
            said(&conditions)[3..],
            [
                (
                    "NamespaceContentRemaining",
                    "True",
                    "Some resources are remaining: pods. has 2 resource instances, widgets.example.com has 1 resource instances"
                ),
                (
                    "NamespaceFinalizersRemaining",
                    "True",
                    "Some content in the namespace has finalizers remaining: example.com/mine in 1 resource instances"
                ),
            ]
        );
        assert!(conditions[..3].iter().all(|c| c.status == "False"));
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_last_change_of_status() {
        let left = |count| Content {
            remaining: BTreeMap::from([("pods.".to_owned(), count)]),
            ..Content::default()
        };
        let first = left(2).conditions(&[], at(1));
        let second = left(1).conditions(&first, at(2));
        assert_eq!(second[3].last_transition_time, Some(Time(at(1))));
        let third = Content::default().conditions(&second, at(3));
        assert_eq!(third[3].last_transition_time, Some(Time(at(3))));
        assert_eq!(third[0].last_transition_time, Some(Time(at(1))));
    }

    #[test]
    fn a_message_does_not_grow_with_what_users_write() {
        let finalizers = (0..5000).map(|n| (format!("example.com/{n:04}"), 1));
        let content = Content {
            finalizers: finalizers.collect(),
            ..Content::default()
        };
        let conditions = content.conditions(&[], at(1));
        let message = conditions[4].message.as_deref().unwrap_or_default();
        assert!(message.ends_with("example.com/0019 in 1 resource instances, and 4980 more"));
    }

    #[test]
    fn what_could_not_be_looked_at_counts_as_there() {
        let content = Content {
            failures: vec!["widgets.example.com: no answer".to_owned()],
            ..Content::default()
        };
        assert!(!content.is_empty());
        let conditions = content.conditions(&[], at(1));
        assert_eq!(
            said(&conditions)[2],
            (
                "NamespaceDeletionContentFailure",
                "True",
                "Failed to delete all resource types, 1 remaining: widgets.example.com: no answer"
            )
        );
    }
}
