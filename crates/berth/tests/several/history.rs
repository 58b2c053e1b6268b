//! What clients did and saw, and whether it can have happened.
//!
//! resourceVersions are a total order of all writes, so that no search is needed. Of each object:
//!
//! - Every version was written by exactly one operation, from the version before it (compare-and-swap). One that was
//!   refused has written nothing; one without an answer may have.
//! - An operation that begins after another has ended sees at least what that one saw or wrote, and nothing that was
//!   asked for only after its own end.
//! - A conflict was one: the version that was expected had been followed by another.
//!
//! Of each watch: versions come in order, none twice, and between the first and the last none is missing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use parking_lot::Mutex;

/// A version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) revision: i64,
    /// No two writes have the same.
    pub(crate) value: String,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Read(Version),
    Written {
        expected: i64,
        version: Version,
    },
    Conflict {
        expected: i64,
        value: String,
    },
    /// Nothing was written.
    Refused {
        value: String,
    },
    Unknown {
        expected: i64,
        value: String,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) object: String,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
}

/// What a watch said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) object: String,
    pub(crate) version: Version,
}

/// A watch from a revision on, across connections.
#[derive(Clone, Debug)]
struct Segment {
    after: i64,
    told: Vec<Told>,
}

#[derive(Default)]
pub(crate) struct History {
    operations: Mutex<Vec<Operation>>,
    segments: Mutex<Vec<Segment>>,
}

/// What was checked.
#[derive(Default)]
pub(crate) struct Report {
    reads: usize,
    writes: usize,
    conflicts: usize,
    refused: usize,
    unknown: usize,
    versions: usize,
    segments: usize,
    events: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reads,
            writes,
            conflicts,
            refused,
            unknown,
            versions,
            segments,
            events,
        } = self;
        write!(
            f,
            "{reads} reads, {writes} writes, {conflicts} conflicts, {refused} refused, {unknown} without an answer; \
             {versions} versions; {events} events of {segments} watches"
        )
    }
}

impl History {
    pub(crate) fn add(&self, operation: Operation) {
        self.operations.lock().push(operation);
    }

    pub(crate) fn new_segment(&self, after: i64) -> usize {
        let mut segments = self.segments.lock();
        segments.push(Segment {
            after,
            told: Vec::new(),
        });
        segments.len() - 1
    }

    pub(crate) fn tell(&self, segment: usize, told: Told) {
        self.segments.lock()[segment].told.push(told);
    }

    /// # Panics
    /// When it cannot have happened.
    pub(crate) fn check(&self) -> Report {
        let (operations, segments) = (self.operations.lock(), self.segments.lock());
        let mut report = Report {
            segments: segments.len(),
            ..Report::default()
        };
        for operation in operations.iter() {
            match operation.outcome {
                Outcome::Read(_) => report.reads += 1,
                Outcome::Written { .. } => report.writes += 1,
                Outcome::Conflict { .. } => report.conflicts += 1,
                Outcome::Refused { .. } => report.refused += 1,
                Outcome::Unknown { .. } => report.unknown += 1,
            }
        }
        // Whatever anybody has seen.
        let mut truth: BTreeMap<i64, Told> = BTreeMap::new();
        let seen = operations.iter().filter_map(|o| match &o.outcome {
            Outcome::Read(version) | Outcome::Written { version, .. } => Some(Told {
                object: o.object.clone(),
                version: version.clone(),
            }),
            _ => None,
        });
        let told = segments.iter().flat_map(|s| s.told.iter().cloned());
        for told in seen.chain(told) {
            let known = truth
                .entry(told.version.revision)
                .or_insert_with(|| told.clone());
            assert_eq!(*known, told, "one revision, two contents");
        }
        report.versions = truth.len();
        for segment in segments.iter() {
            report.events += segment.told.len();
            check_segment(segment, &truth);
        }
        let mut objects: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in operations.iter() {
            objects
                .entry(&operation.object)
                .or_default()
                .push(operation);
        }
        for (object, operations) in objects {
            let versions: Vec<&Version> = truth
                .values()
                .filter(|told| told.object == object)
                .map(|told| &told.version)
                .collect();
            check_writes(&operations, &versions);
            check_times(&operations, &versions);
        }
        report
    }
}

fn check_segment(segment: &Segment, truth: &BTreeMap<i64, Told>) {
    let mut last = segment.after;
    for told in &segment.told {
        let revision = told.version.revision;
        assert!(revision > last, "{revision} was told after {last}");
        let missing: Vec<_> = truth.range(last + 1..revision).map(|(at, _)| at).collect();
        assert!(
            missing.is_empty(),
            "a watch left out {missing:?} before {revision}"
        );
        last = revision;
    }
}

/// The operation that wrote a value, and from what; `versions` are those of one object, in order.
fn check_writes(operations: &[&Operation], versions: &[&Version]) {
    let mut writers: BTreeMap<&str, (&Operation, i64)> = BTreeMap::new();
    for operation in operations {
        match &operation.outcome {
            Outcome::Written { expected, version } => {
                assert!(
                    versions.contains(&version),
                    "{version:?} was answered, and nobody has seen it"
                );
                writers.insert(&version.value, (operation, *expected));
            }
            Outcome::Unknown { expected, value } => {
                writers.insert(value, (operation, *expected));
            }
            Outcome::Conflict { value, .. } | Outcome::Refused { value } => {
                let found = versions.iter().find(|v| v.value == *value);
                assert!(found.is_none(), "{found:?} was refused: {operation:?}");
            }
            Outcome::Read(_) => {}
        }
    }
    let mut before = 0;
    for version in versions {
        let writer = writers.remove(version.value.as_str());
        let (_, expected) =
            writer.unwrap_or_else(|| panic!("nobody has written {version:?}, or twice"));
        assert_eq!(
            expected, before,
            "{version:?} was not written from the version before it"
        );
        before = version.revision;
    }
}

fn check_times(operations: &[&Operation], versions: &[&Version]) {
    let asked: BTreeMap<&str, Instant> = operations
        .iter()
        .filter_map(|o| match &o.outcome {
            Outcome::Written { version, .. } => Some((version.value.as_str(), o.begun)),
            Outcome::Unknown { value, .. } => Some((value.as_str(), o.begun)),
            _ => None,
        })
        .collect();
    let mut by_end: Vec<&&Operation> = operations.iter().collect();
    by_end.sort_by_key(|o| o.ended);
    let mut by_begin = by_end.clone();
    by_begin.sort_by_key(|o| o.begun);
    let mut ended = by_end.into_iter().peekable();
    let mut known = 0;
    for operation in by_begin {
        while let Some(earlier) = ended.next_if(|o| o.ended < operation.begun) {
            known = known.max(match &earlier.outcome {
                Outcome::Read(version) | Outcome::Written { version, .. } => version.revision,
                _ => 0,
            });
        }
        match &operation.outcome {
            Outcome::Read(version) => {
                let revision = version.revision;
                assert!(revision >= known, "{operation:?} read less than {known}");
                let begun = asked[version.value.as_str()];
                assert!(begun < operation.ended, "{operation:?} read the future");
            }
            Outcome::Written { expected, version } => {
                assert!(
                    *expected >= known,
                    "{operation:?} replaced less than {known}"
                );
                assert!(version.revision > *expected, "{operation:?}");
            }
            Outcome::Conflict { expected, .. } => {
                let next = versions.iter().find(|v| v.revision > *expected);
                let next = next.unwrap_or_else(|| panic!("nothing conflicts with {operation:?}"));
                assert!(
                    asked[next.value.as_str()] < operation.ended,
                    "{operation:?}"
                );
            }
            Outcome::Refused { .. } | Outcome::Unknown { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn version(revision: i64, value: &str) -> Version {
        Version {
            revision,
            value: value.to_owned(),
        }
    }

    fn operation(start: Instant, from: u64, to: u64, outcome: Outcome) -> Operation {
        Operation {
            object: "o".to_owned(),
            begun: start + Duration::from_millis(from),
            ended: start + Duration::from_millis(to),
            outcome,
        }
    }

    fn written(expected: i64, revision: i64, value: &str) -> Outcome {
        Outcome::Written {
            expected,
            version: version(revision, value),
        }
    }

    /// Whether a history of operations (with their times) and of one watch is refused.
    fn refused(operations: Vec<(u64, u64, Outcome)>, told: &[(i64, &str)]) -> bool {
        let history = History::default();
        let start = Instant::now();
        for (from, to, outcome) in operations {
            history.add(operation(start, from, to, outcome));
        }
        let segment = history.new_segment(0);
        for (revision, value) in told {
            history.tell(
                segment,
                Told {
                    object: "o".to_owned(),
                    version: version(*revision, value),
                },
            );
        }
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.check())).is_err()
    }

    #[test]
    fn what_cannot_have_happened_is_found() {
        let read = |revision, value: &str| Outcome::Read(version(revision, value));
        let unknown = |expected, value: &str| Outcome::Unknown {
            expected,
            value: value.to_owned(),
        };
        let two = || vec![(0, 1, written(0, 1, "a")), (2, 3, written(1, 2, "b"))];
        let both = [(1, "a"), (2, "b")];
        let with = |more: (u64, u64, Outcome)| {
            let mut all = two();
            all.push(more);
            all
        };
        assert!(!refused(two(), &both));
        assert!(!refused(with((0, 9, read(1, "a"))), &both));
        assert!(refused(with((4, 5, read(1, "a"))), &both), "a stale read");
        assert!(
            refused(with((0, 1, read(2, "b"))), &both),
            "a read of the future"
        );
        assert!(
            refused(with((2, 3, written(1, 3, "c"))), &both),
            "two swaps of one version"
        );
        assert!(
            refused(two(), &[(1, "a"), (2, "b"), (2, "b")]),
            "told twice"
        );
        assert!(refused(two(), &[(2, "b"), (1, "a")]), "out of order");
        assert!(refused(two(), &[(2, "b")]), "a gap");
        assert!(refused(two(), &[(1, "a"), (2, "x")]), "another content");
        assert!(
            refused(two(), &[(1, "a"), (2, "b"), (3, "x")]),
            "nobody's write"
        );
        assert!(!refused(
            with((4, 5, unknown(2, "c"))),
            &[(1, "a"), (2, "b"), (3, "c")]
        ));
        assert!(!refused(with((4, 5, unknown(2, "c"))), &both));
        assert!(refused(
            with((4, 5, unknown(1, "c"))),
            &[(1, "a"), (2, "b"), (3, "c")]
        ));
        let no = Outcome::Refused {
            value: "b".to_owned(),
        };
        let lie = vec![(0, 1, written(0, 1, "a")), (2, 3, no)];
        assert!(refused(lie, &both), "refused, and written all the same");
        let conflict = |expected| Outcome::Conflict {
            expected,
            value: "c".to_owned(),
        };
        assert!(!refused(with((2, 5, conflict(1))), &both));
        assert!(
            refused(with((4, 5, conflict(2))), &both),
            "a conflict with nothing"
        );
    }
}
