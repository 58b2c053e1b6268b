//! Another number of replicas while a rollout stands still: in proportion to what each ReplicaSet has.

use std::cmp::Reverse;

use super::annotations::{self, DESIRED, MAX};
use super::sets::{Limits, Set};
use super::{Rollout, sets};
use crate::Event;

impl Rollout<'_> {
    /// Whether something was scaled.
    pub(super) fn scale(&mut self) -> bool {
        match self.active_or_latest() {
            Found::New => {
                let replicas = self.limits.replicas;
                return self.differs(self.sets.new.as_ref()) && self.scale_new(replicas);
            }
            Found::Old(at) => {
                let replicas = self.limits.replicas;
                return self.differs(self.sets.old.get(at)) && self.scale_old(at, replicas);
            }
            Found::Nothing => return false,
            Found::Several => {}
        }
        if self.is_saturated() {
            return self.scale_old_to_zero();
        }
        self.limits.is_rolling && self.scale_in_proportion()
    }

    fn differs(&self, set: Option<&Set>) -> bool {
        set.is_some_and(|set| {
            set.replicas != self.limits.replicas
                || annotations::number(&set.read, DESIRED) != Some(self.limits.replicas)
        })
    }

    /// The only ReplicaSet with pods, or where none has any, the new or the youngest one.
    fn active_or_latest(&self) -> Found {
        let active: Vec<usize> = positions(&self.sets.old, |set| set.replicas > 0);
        let new = self.sets.new.as_ref();
        match (active.as_slice(), new) {
            ([], Some(_)) => Found::New,
            ([], None) => match self.sets.old.len() {
                0 => Found::Nothing,
                n => Found::Old(n - 1),
            },
            ([at], new) if new.is_none_or(|set| set.replicas == 0) => Found::Old(*at),
            _ => Found::Several,
        }
    }

    /// The new one has all its pods, and has been scaled for the present number.
    fn is_saturated(&self) -> bool {
        let wanted = self.limits.replicas;
        self.sets.new.as_ref().is_some_and(|new| {
            new.replicas == wanted
                && annotations::number(&new.read, DESIRED) == Some(wanted)
                && new.available() == wanted
        })
    }

    fn scale_in_proportion(&mut self) -> bool {
        let allowed = match self.limits.replicas {
            0 => 0,
            _ => self.limits.most(),
        };
        let to_add = allowed - self.sets.replicas();
        let mut order = self.by_size(to_add > 0);
        let mut added = 0;
        let status = self.deployment.status.as_ref();
        let was = status.and_then(|s| s.replicas).unwrap_or(0);
        for (_, size) in &mut order {
            let share = size.share(self.limits, to_add, added, was);
            size.replicas += share;
            added += share;
        }
        // What rounding left goes to the largest.
        if let Some((_, size)) = order.first_mut() {
            size.replicas = (size.replicas + to_add - added).max(0);
        }
        let mut has_scaled = false;
        for (at, size) in order {
            has_scaled |= match at {
                Some(at) => self.scale_old(at, size.replicas),
                None => self.scale_new(size.replicas),
            };
        }
        has_scaled
    }

    /// Those with pods, the largest first; of equal ones the younger first when pods are added, else the older. `None` is the new one.
    fn by_size(&self, younger_first: bool) -> Vec<(Option<usize>, Size)> {
        let old = self.sets.old.iter().enumerate();
        let old = old.map(|(at, set)| (Some(at), set));
        let mut all: Vec<_> = old
            .chain(self.sets.new.as_ref().map(|set| (None, set)))
            .filter(|(_, set)| set.replicas > 0)
            .collect();
        all.sort_by(|(_, a), (_, b)| {
            let by_age = sets::age(&a.read).cmp(&sets::age(&b.read));
            let by_age = if younger_first {
                by_age.reverse()
            } else {
                by_age
            };
            Reverse(a.replicas).cmp(&Reverse(b.replicas)).then(by_age)
        });
        let sized = |set: &Set| Size {
            replicas: set.replicas,
            most: annotations::number(&set.read, MAX),
        };
        all.into_iter().map(|(at, set)| (at, sized(set))).collect()
    }

    pub(super) fn scale_old_to_zero(&mut self) -> bool {
        let mut has_scaled = false;
        for at in positions(&self.sets.old, |set| set.replicas > 0) {
            has_scaled |= self.scale_old(at, 0);
        }
        has_scaled
    }

    /// Whether the number changes.
    pub(super) fn scale_old(&mut self, at: usize, replicas: i32) -> bool {
        let limits = self.limits;
        let Some(set) = self.sets.old.get_mut(at) else {
            return false;
        };
        let before = set.replicas;
        let has_changed = set.scale(replicas, limits);
        let name = set.name().to_owned();
        self.tell_scaled(&name, before, replicas);
        has_changed
    }

    /// Whether the number changes.
    pub(super) fn scale_new(&mut self, replicas: i32) -> bool {
        let limits = self.limits;
        let Some(set) = &mut self.sets.new else {
            return false;
        };
        let before = set.replicas;
        let has_changed = set.scale(replicas, limits);
        let name = set.name().to_owned();
        self.tell_scaled(&name, before, replicas);
        has_changed
    }

    fn tell_scaled(&mut self, name: &str, before: i32, after: i32) {
        let direction = match after.cmp(&before) {
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Greater => "up",
            std::cmp::Ordering::Less => "down",
        };
        self.events.push(Event::normal(
            "ScalingReplicaSet",
            format!("Scaled {direction} replica set {name} from {before} to {after}"),
        ));
    }
}

enum Found {
    New,
    Old(usize),
    Several,
    Nothing,
}

fn positions(sets: &[Set], is: impl Fn(&Set) -> bool) -> Vec<usize> {
    let all = sets.iter().enumerate();
    all.filter(|(_, set)| is(set)).map(|(at, _)| at).collect()
}

struct Size {
    replicas: i32,
    /// The most pods that the Deployment allowed when this one was scaled last.
    most: Option<i32>,
}

impl Size {
    /// Its share of `to_add`, of which `added` are given out already.
    fn share(&self, limits: Limits, to_add: i32, added: i32, was: i32) -> i32 {
        if self.replicas == 0 || to_add == 0 || to_add == added {
            return 0;
        }
        let fraction = self.fraction(limits, was);
        let left = to_add - added;
        if to_add > 0 {
            fraction.min(left)
        } else {
            fraction.max(left)
        }
    }

    /// By how much it changes if it keeps its part of the whole.
    fn fraction(&self, limits: Limits, was: i32) -> i32 {
        if limits.replicas == 0 {
            return -self.replicas;
        }
        let before = self.most.filter(|most| *most > 0).unwrap_or(was);
        if before <= 0 {
            return 0;
        }
        let product = i64::from(self.replicas) * i64::from(limits.most());
        // Rounded to the nearest, halves up.
        let new = (2 * product + i64::from(before)) / (2 * i64::from(before));
        i32::try_from(new).unwrap_or(i32::MAX) - self.replicas
    }
}
