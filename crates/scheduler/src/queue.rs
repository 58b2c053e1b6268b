//! The queue of pods that wait for a node: pure, the clock is passed in.
//!
//! ```text
//!            add                pop
//!  (new) ----------> active ----------> (being placed) --bound--> forgotten
//!                      ^                      |
//!        backoff over  |                      | nothing fits
//!                   backoff <--- cluster --- unschedulable
//!                          event, or 5 minutes
//! ```
//!
//! As in the stock scheduler: active pods go by priority, then age; each failed attempt doubles the
//! backoff from 1 to 10 seconds; a pod that fits nowhere waits for a change in the cluster that could help.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(300);

/// What names a pod in the queue: `namespace/name`.
pub(crate) type PodKey = String;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Active,
    Backoff { until: Instant },
    Unschedulable { since: Instant },
    InFlight,
}

impl Place {
    /// When a pod is tried again that waits here, whatever happens.
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Backoff { until } => Some(*until),
            Self::Unschedulable { since } => Some(*since + MAX_UNSCHEDULABLE),
            Self::Active | Self::InFlight => None,
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    priority: i32,
    arrival: u64,
    attempts: u32,
    last_attempt: Option<Instant>,
    place: Place,
}

impl Entry {
    fn ready_at(&self, now: Instant) -> Instant {
        match (self.attempts, self.last_attempt) {
            (0, _) | (_, None) => now,
            (attempts, Some(last)) => last + backoff(attempts),
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(8);
    (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LAST_BACKOFF)
}

/// See the module's diagram.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: HashMap<PodKey, Entry>,
    active: BTreeSet<(Reverse<i32>, u64, PodKey)>,
    /// When each pod that waits is tried again at the latest.
    due: BTreeSet<(Instant, PodKey)>,
    /// Those that wait for a change in the cluster.
    unschedulable: HashSet<PodKey>,
    /// Those of them that wait for other pods: to come, to leave, to have other labels.
    for_pods: HashSet<PodKey>,
    arrivals: u64,
}

impl Queue {
    /// A pod without a node was seen, new or changed. A changed pod that fits nowhere is tried again;
    /// one that waits already keeps its place.
    pub(crate) fn add(&mut self, key: &str, priority: i32, now: Instant) {
        match self.entries.get(key).map(|entry| &entry.place) {
            None => {
                self.arrivals += 1;
                let entry = Entry {
                    priority,
                    arrival: self.arrivals,
                    attempts: 0,
                    last_attempt: None,
                    place: Place::Active,
                };
                self.active
                    .insert((Reverse(priority), entry.arrival, key.to_owned()));
                self.entries.insert(key.to_owned(), entry);
            }
            Some(Place::Unschedulable { .. }) => self.wake(key, now),
            Some(Place::Active | Place::Backoff { .. } | Place::InFlight) => {}
        }
    }

    /// The pod has a node, or is gone.
    pub(crate) fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.unschedulable.remove(key);
            self.for_pods.remove(key);
            if let Some(due) = entry.place.due() {
                self.due.remove(&(due, key.to_owned()));
            }
            self.active
                .remove(&(Reverse(entry.priority), entry.arrival, key.to_owned()));
        }
    }

    /// The next pod to place, if one is ready.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<PodKey> {
        self.wake_due(now);
        let (_, _, key) = self.active.pop_first()?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.place = Place::InFlight;
            entry.attempts += 1;
            entry.last_attempt = Some(now);
        }
        Some(key)
    }

    /// No node fits: wait for a change in the cluster, which may be one of the pods that have nodes.
    pub(crate) fn unschedulable(&mut self, key: &str, now: Instant, for_pods: bool) {
        if self.move_to(key, Place::Unschedulable { since: now }) {
            self.unschedulable.insert(key.to_owned());
            if for_pods {
                self.for_pods.insert(key.to_owned());
            }
        }
    }

    /// A pod has got a node, other labels, or is being deleted: who waits for that is tried again.
    pub(crate) fn pods_changed(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.for_pods);
        self.wake_all(waiting, now);
    }

    /// The attempt failed for another reason (the bind was refused): try again after a pause.
    pub(crate) fn retry(&mut self, key: &str, now: Instant) {
        self.wake(key, now);
    }

    /// Something changed that could let pods fit: all that wait for it are tried again, each
    /// not before its backoff is over.
    pub(crate) fn cluster_changed(&mut self, now: Instant) {
        self.for_pods.clear();
        let waiting = std::mem::take(&mut self.unschedulable);
        self.wake_all(waiting, now);
    }

    /// When [`pop`](Self::pop) can next have something to give that it hasn't now.
    #[must_use]
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        if !self.active.is_empty() {
            return Some(now);
        }
        self.due.first().map(|(due, _)| *due)
    }

    /// Whether [`pop`](Self::pop) has something to give.
    #[must_use]
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.next_due(now).is_some_and(|due| due <= now)
    }

    /// Wakes all of them, the older first.
    fn wake_all(&mut self, keys: HashSet<PodKey>, now: Instant) {
        let mut keys: Vec<PodKey> = keys.into_iter().collect();
        keys.sort_by_key(|key| self.entries.get(key).map(|entry| entry.arrival));
        for key in keys {
            self.wake(&key, now);
        }
    }

    fn wake(&mut self, key: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if matches!(entry.place, Place::Active) {
            return;
        }
        let ready = entry.ready_at(now);
        if ready <= now {
            // Behind those of its priority that wait for their turn: pods that never fit must not go before all others.
            self.arrivals += 1;
            entry.arrival = self.arrivals;
            let place = (Reverse(entry.priority), entry.arrival, key.to_owned());
            self.active.insert(place);
            self.move_to(key, Place::Active);
        } else {
            self.move_to(key, Place::Backoff { until: ready });
        }
    }

    fn wake_due(&mut self, now: Instant) {
        while let Some((due, _)) = self.due.first()
            && *due <= now
            && let Some((_, key)) = self.due.pop_first()
        {
            self.wake(&key, now);
        }
    }

    /// Puts a pod in another place; whether there is such a pod.
    fn move_to(&mut self, key: &str, place: Place) -> bool {
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let (before, after) = (entry.place.due(), place.due());
        entry.place = place;
        if before != after {
            if let Some(due) = before {
                self.due.remove(&(due, key.to_owned()));
            }
            if let Some(due) = after {
                self.due.insert((due, key.to_owned()));
            }
        }
        self.unschedulable.remove(key);
        self.for_pods.remove(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn higher_priority_first_then_the_older() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add("a", 0, now);
        queue.add("b", 10, now);
        queue.add("c", 10, now);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(now)).collect();
        assert_eq!(order, ["b", "c", "a"]);
    }

    #[test]
    fn who_was_tried_goes_behind_who_was_not() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for key in ["a", "b"] {
            queue.add(key, 0, start);
            queue.pop(start);
            queue.unschedulable(key, start, false);
        }
        queue.add("new", 0, start);
        let later = start + secs(60);
        queue.cluster_changed(later);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(later)).collect();
        assert_eq!(order, ["new", "a", "b"]);
    }

    #[test]
    fn adding_twice_gives_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add("a", 0, now);
        queue.add("a", 0, now);
        assert_eq!(queue.pop(now).as_deref(), Some("a"));
        assert_eq!(queue.pop(now), None);
        queue.add("a", 0, now);
        assert_eq!(queue.pop(now), None, "it is being placed");
    }

    #[test]
    fn an_unschedulable_pod_waits_for_a_change_and_its_backoff() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.add("a", 0, start);
        queue.pop(start);
        queue.unschedulable("a", start, false);
        assert_eq!(queue.pop(start + secs(60)), None, "nothing changed");
        queue.cluster_changed(start + secs(60));
        assert_eq!(
            queue.pop(start + secs(60)).as_deref(),
            Some("a"),
            "backoff long over"
        );
        queue.unschedulable("a", start + secs(60), false);
        queue.cluster_changed(start + secs(60));
        assert_eq!(queue.pop(start + secs(61)), None, "second backoff is 2 s");
        assert_eq!(queue.next_due(start + secs(61)), Some(start + secs(62)));
        assert_eq!(queue.pop(start + secs(62)).as_deref(), Some("a"));
    }

    #[test]
    fn backoff_doubles_up_to_ten_seconds() {
        let got: Vec<u64> = (1..=6).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(got, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff(u32::MAX), LAST_BACKOFF);
    }

    #[test]
    fn unschedulable_pods_are_tried_again_after_five_minutes() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.add("a", 0, start);
        queue.pop(start);
        queue.unschedulable("a", start, false);
        assert_eq!(queue.next_due(start), Some(start + secs(300)));
        assert_eq!(queue.pop(start + secs(300)).as_deref(), Some("a"));
    }

    #[test]
    fn who_waits_for_pods_is_tried_again_when_one_changes() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for key in ["a", "b"] {
            queue.add(key, 0, start);
            queue.pop(start);
            queue.unschedulable(key, start, key == "a");
        }
        queue.pods_changed(start + secs(60));
        assert_eq!(queue.pop(start + secs(60)).as_deref(), Some("a"));
        assert_eq!(queue.pop(start + secs(60)), None);
        queue.pods_changed(start + secs(60));
        queue.cluster_changed(start + secs(60));
        assert_eq!(queue.pop(start + secs(60)).as_deref(), Some("b"));
    }

    #[test]
    fn a_removed_pod_is_gone_wherever_it_was() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add("a", 0, now);
        queue.remove("a");
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.next_due(now), None);
        queue.add("b", 0, now);
        queue.pop(now);
        queue.remove("b");
        queue.retry("b", now);
        assert_eq!(queue.pop(now + secs(60)), None);
    }
}
