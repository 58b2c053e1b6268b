//! Which objects are to be looked at, and when: each once, and later and later when it fails.
//!
//! What is due in several namespaces is taken from each in turn, so that whoever has thousands of objects that mean work
//! holds up no namespace but his own.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(60);

/// Where an object is; nothing for cluster-scoped ones and those that are not known any more.
type Namespace = Option<String>;

/// Uids, or other keys, in the order in which they are due.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    due: BTreeSet<(Instant, String)>,
    at: HashMap<String, Instant>,
    /// Due by now, by namespace; none is empty.
    ready: HashMap<Namespace, VecDeque<String>>,
    is_ready: HashSet<String>,
    /// The namespaces of `ready`, in the order in which it is their turn.
    turns: VecDeque<Namespace>,
    failures: HashMap<String, u32>,
}

impl Queue {
    /// Has it looked at now, if it is not due sooner.
    pub(crate) fn add(&mut self, uid: String, now: Instant) {
        self.schedule(uid, now);
    }

    /// Has it looked at then, if it is not due sooner.
    pub(crate) fn add_at(&mut self, uid: String, at: Instant) {
        self.schedule(uid, at);
    }

    /// Has it looked at later, after a failure: twice as late each time.
    pub(crate) fn add_failed(&mut self, uid: String, now: Instant) {
        let failures = self.failures.entry(uid.clone()).or_default();
        let pause = FIRST.saturating_mul(1 << (*failures).min(16)).min(LONGEST);
        *failures += 1;
        self.schedule(uid, now + pause);
    }

    /// The last look at it found nothing more to do.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.failures.remove(uid);
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        match self.turns.is_empty() {
            true => self.due.first().map(|(at, _)| *at),
            false => Some(Instant::now()),
        }
    }

    /// Takes what is due. `namespace_of` tells where an object is.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        namespace_of: impl Fn(&str) -> Namespace,
    ) -> Option<String> {
        while self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, uid)) = self.due.pop_first()
        {
            self.at.remove(&uid);
            let namespace = namespace_of(&uid);
            self.is_ready.insert(uid.clone());
            let ready = self.ready.entry(namespace.clone()).or_default();
            if ready.is_empty() {
                self.turns.push_back(namespace);
            }
            ready.push_back(uid);
        }
        let namespace = self.turns.pop_front()?;
        let ready = self.ready.get_mut(&namespace)?;
        let uid = ready.pop_front()?;
        self.is_ready.remove(&uid);
        if ready.is_empty() {
            self.ready.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        Some(uid)
    }

    fn schedule(&mut self, uid: String, at: Instant) {
        if self.is_ready.contains(&uid) {
            return;
        }
        if let Some(old) = self.at.get(&uid) {
            if *old <= at {
                return;
            }
            self.due.remove(&(*old, uid.clone()));
        }
        self.at.insert(uid.clone(), at);
        self.due.insert((at, uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere(_: &str) -> Namespace {
        None
    }

    #[test]
    fn a_namespace_with_thousands_holds_up_no_other() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let namespace = |uid: &str| {
            let (namespace, _) = uid.split_once('/')?;
            Some(namespace.to_owned())
        };
        for number in 0..5000 {
            queue.add(format!("mallory/{number}"), now);
            now += Duration::from_millis(1);
        }
        assert_eq!(queue.take(now, namespace).as_deref(), Some("mallory/0"));
        for uid in ["alice/0", "alice/1", "cluster", "mallory/1"] {
            queue.add(uid.into(), now);
        }
        let next: Vec<_> = (0..6).filter_map(|_| queue.take(now, namespace)).collect();
        let wanted = [
            "mallory/1",
            "alice/0",
            "cluster",
            "mallory/2",
            "alice/1",
            "mallory/3",
        ];
        assert_eq!(next, wanted);
        assert!(queue.next().is_some());
        let rest = std::iter::from_fn(|| queue.take(now, namespace)).count();
        assert_eq!(rest, 5000 - 4);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn each_once_and_failures_later_and_later() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.add_failed("a".into(), now);
        assert_eq!(queue.take(now, nowhere), None, "not due yet");
        queue.add("a".into(), now);
        let taken = queue.take(now, nowhere);
        assert_eq!(taken.as_deref(), Some("a"), "sooner than it was due");
        assert_eq!(queue.take(now + LONGEST, nowhere), None);
        queue.add_failed("a".into(), now);
        assert_eq!(queue.next(), Some(now + FIRST * 2));
        assert!(queue.take(now + FIRST * 2, nowhere).is_some());
        for _ in 0..40 {
            queue.add_failed("b".into(), now);
            now += LONGEST;
            assert_eq!(queue.take(now, nowhere).as_deref(), Some("b"));
        }
        queue.add_failed("b".into(), now);
        assert_eq!(queue.next(), Some(now + LONGEST));
        now += LONGEST;
        assert_eq!(queue.take(now, nowhere).as_deref(), Some("b"));
        queue.forget("b");
        queue.add_failed("b".into(), now);
        assert_eq!(queue.next(), Some(now + FIRST));
    }
}
