//! The costs of all sandboxes of a node, by class: what is kept, for how long, and in what space.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::parts::{Parts, State};
use crate::report::{ClassReport, Quantiles, StateReport};
use crate::sample::Cost;

/// No more classes than this are kept; the one that was not measured for the longest time makes room.
pub const MAX_CLASSES: usize = 128;
/// What is older than two of these is forgotten: a new version of a runtime costs something else.
pub const WINDOW_SECONDS: i64 = 7 * 24 * 3600;

/// What costs are put together by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClassKey {
    /// The RuntimeClass; empty for none.
    pub runtime_class: String,
    /// Its handler.
    pub handler: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    memory: Histogram,
    cpu: Histogram,
    memory_parts: Parts,
    cpu_parts: Parts,
}

impl Tally {
    fn add(&mut self, cost: &Cost) {
        self.memory.add(cost.memory.total());
        self.cpu.add(cost.cpu.total());
        self.memory_parts = self.memory_parts.plus(cost.memory);
        self.cpu_parts = self.cpu_parts.plus(cost.cpu);
    }

    fn merge(&mut self, other: &Self) {
        self.memory.merge(&other.memory);
        self.cpu.merge(&other.cpu);
        self.memory_parts = self.memory_parts.plus(other.memory_parts);
        self.cpu_parts = self.cpu_parts.plus(other.cpu_parts);
    }

    fn report(&self) -> StateReport {
        let samples = self.memory.len();
        let quantiles = |of: &Histogram| Quantiles {
            p50: of.percentile(50),
            p99: of.percentile(99),
            max: of.max(),
        };
        StateReport {
            samples,
            memory_bytes: quantiles(&self.memory),
            cpu_micro_cores: quantiles(&self.cpu),
            memory_parts: self.memory_parts.divided(samples),
            cpu_parts: self.cpu_parts.divided(samples),
        }
    }

    fn is_sound(&self) -> bool {
        self.memory.is_sound() && self.cpu.is_sound() && self.memory.len() == self.cpu.len()
    }
}

/// The costs of one span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    since: i64,
    until: i64,
    sandboxes: u64,
    idle: Tally,
    load: Tally,
}

impl Span {
    fn merge(&mut self, other: &Self) {
        self.since = self.since.min(other.since);
        self.until = self.until.max(other.until);
        self.sandboxes = self.sandboxes.saturating_add(other.sandboxes);
        self.idle.merge(&other.idle);
        self.load.merge(&other.load);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Class {
    #[serde(flatten)]
    key: ClassKey,
    current: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Span>,
}

/// All that is kept; what is written to the node's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Ledger {
    classes: BTreeMap<ClassKey, Class>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// The form of what follows.
    version: u32,
    classes: Vec<Class>,
}

const VERSION: u32 = 1;

impl From<Ledger> for Stored {
    fn from(ledger: Ledger) -> Self {
        Self {
            version: VERSION,
            classes: ledger.classes.into_values().collect(),
        }
    }
}

impl TryFrom<Stored> for Ledger {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        if stored.version != VERSION {
            return Err(format!(
                "version {} is not known here (this berth writes {VERSION})",
                stored.version
            ));
        }
        if stored.classes.len() > MAX_CLASSES {
            return Err(format!("more than {MAX_CLASSES} classes"));
        }
        let spans = |class: &Class| [Some(class.current.clone()), class.previous.clone()];
        let sound = |span: &Span| span.idle.is_sound() && span.load.is_sound();
        if !stored
            .classes
            .iter()
            .flat_map(spans)
            .flatten()
            .all(|s| sound(&s))
        {
            return Err("counts that no measurement makes".to_owned());
        }
        let classes = stored.classes.into_iter();
        Ok(Self {
            classes: classes.map(|class| (class.key.clone(), class)).collect(),
        })
    }
}

impl Ledger {
    /// Adds a measurement, made at `now` (seconds since 1970). `is_new`: the sandbox was not measured before.
    pub fn add(&mut self, key: &ClassKey, cost: &Cost, is_new: bool, now: i64) {
        if !self.classes.contains_key(key) {
            self.make_room();
        }
        let class = self.classes.entry(key.clone()).or_insert_with(|| Class {
            key: key.clone(),
            current: Span {
                since: now,
                ..Span::default()
            },
            previous: None,
        });
        // A clock that was set back begins nothing anew.
        if now.saturating_sub(class.current.since) >= WINDOW_SECONDS {
            let fresh = Span {
                since: now,
                ..Span::default()
            };
            class.previous = Some(std::mem::replace(&mut class.current, fresh));
        }
        let span = &mut class.current;
        span.until = now;
        span.sandboxes = span.sandboxes.saturating_add(u64::from(is_new));
        match cost.state {
            State::Idle => span.idle.add(cost),
            State::Load => span.load.add(cost),
        }
    }

    fn make_room(&mut self) {
        if self.classes.len() < MAX_CLASSES {
            return;
        }
        let oldest = self
            .classes
            .values()
            .min_by_key(|class| class.current.until);
        if let Some(key) = oldest.map(|class| class.key.clone()) {
            self.classes.remove(&key);
        }
    }

    /// What is known at `now`, by class.
    #[must_use]
    pub fn report(&self, now: i64) -> Vec<ClassReport> {
        let current = |span: &&Span| now.saturating_sub(span.until) < 2 * WINDOW_SECONDS;
        let report = |class: &Class| {
            let spans = [Some(&class.current), class.previous.as_ref()];
            let mut spans = spans.into_iter().flatten().filter(current);
            let mut all = spans.next()?.clone();
            spans.for_each(|span| all.merge(span));
            Some(ClassReport {
                runtime_class: class.key.runtime_class.clone(),
                handler: class.key.handler.clone(),
                sandboxes: all.sandboxes,
                since_seconds: all.since,
                until_seconds: all.until,
                idle: all.idle.report(),
                load: all.load.report(),
            })
        };
        self.classes.values().filter_map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ClassKey {
        ClassKey {
            runtime_class: name.to_owned(),
            handler: "runsc".to_owned(),
        }
    }

    fn cost(state: State, sandbox: u64) -> Cost {
        let parts = Parts {
            shim: 10,
            sandbox,
            ..Parts::default()
        };
        Cost {
            state,
            memory: parts,
            cpu: parts,
        }
    }

    #[test]
    fn idle_and_load_are_told_apart_with_their_parts() {
        let mut ledger = Ledger::default();
        for n in 0..10 {
            ledger.add(&key("a"), &cost(State::Idle, 20 + n), n == 0, 100);
        }
        ledger.add(&key("a"), &cost(State::Load, 90), false, 160);
        let [report] = &ledger.report(200)[..] else {
            panic!("one class");
        };
        assert_eq!(
            (report.sandboxes, report.since_seconds, report.until_seconds),
            (1, 100, 160)
        );
        assert_eq!((report.idle.samples, report.load.samples), (10, 1));
        let idle = report.idle.memory_bytes;
        assert_eq!((idle.p50, idle.p99, idle.max), (34, 39, 39));
        assert_eq!(report.load.memory_parts, cost(State::Load, 90).memory);
        assert_eq!(report.idle.memory_parts.shim, 10);
    }

    #[test]
    fn what_is_old_is_forgotten_in_steps() {
        let mut ledger = Ledger::default();
        ledger.add(&key("a"), &cost(State::Idle, 1000), true, 0);
        ledger.add(&key("a"), &cost(State::Idle, 20), true, WINDOW_SECONDS);
        assert_eq!(ledger.report(WINDOW_SECONDS)[0].idle.samples, 2);
        ledger.add(&key("a"), &cost(State::Idle, 20), true, 2 * WINDOW_SECONDS);
        let report = &ledger.report(2 * WINDOW_SECONDS)[0];
        assert_eq!((report.idle.samples, report.idle.memory_bytes.max), (2, 30));
        assert!(ledger.report(5 * WINDOW_SECONDS).is_empty());
        // A clock that was set back neither panics nor loses anything.
        ledger.add(&key("a"), &cost(State::Idle, 20), false, 5);
        assert_eq!(ledger.report(5)[0].idle.samples, 3);
    }

    #[test]
    fn more_classes_than_are_kept_push_out_the_oldest() {
        let mut ledger = Ledger::default();
        for n in 0..1000_i64 {
            ledger.add(&key(&format!("c{n:04}")), &cost(State::Idle, 1), true, n);
        }
        let report = ledger.report(1000);
        assert_eq!(report.len(), MAX_CLASSES);
        assert_eq!(report[0].runtime_class, "c0872");
    }

    #[test]
    fn it_is_written_and_read_again_and_nothing_else_is_read() {
        let mut ledger = Ledger::default();
        ledger.add(&key("a"), &cost(State::Load, 5_000_000), true, 7);
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"max\":5000010", "\"max\":6"),
            ("\"sandboxes\":1", "\"sandboxes\":-1"),
        ] {
            let wrong = text.replace(from, to);
            assert_ne!(wrong, text, "{from}: {text}");
            assert!(serde_json::from_str::<Ledger>(&wrong).is_err(), "{to}");
        }
    }
}
