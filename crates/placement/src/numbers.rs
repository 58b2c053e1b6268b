//! Resources as numbers: those that every pod and node has are fields, so that comparing them looks nothing up.

use std::sync::Arc;

use berth_core::resources::Amounts;

/// Amounts as whole numbers: CPU in thousandths, everything else in ones, rounded up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) storage: i64,
    /// All others, by name; of most pods there are none.
    others: Vec<(Arc<str>, i64)>,
}

impl Numbers {
    pub(super) fn new(amounts: &Amounts) -> Self {
        let mut numbers = Self::default();
        for (name, amount) in amounts {
            match name.as_str() {
                "cpu" => numbers.cpu = amount.milli_value(),
                "memory" => numbers.memory = amount.value(),
                "ephemeral-storage" => numbers.storage = amount.value(),
                _ => numbers.others.push((name.as_str().into(), amount.value())),
            }
        }
        numbers.others.sort();
        numbers
    }

    /// Takes the number of pods out.
    pub(super) fn take_pods(&mut self) -> Option<i64> {
        let at = self.others.iter().position(|(name, _)| &**name == "pods")?;
        Some(self.others.remove(at).1)
    }

    /// Adds (with a sign of 1) or takes away (-1).
    pub(super) fn add(&mut self, more: &Self, sign: i64) {
        let sum = |number: &mut i64, more: i64| {
            *number = number.saturating_add(more.saturating_mul(sign));
        };
        sum(&mut self.cpu, more.cpu);
        sum(&mut self.memory, more.memory);
        sum(&mut self.storage, more.storage);
        for (name, number) in &more.others {
            match self.others.binary_search_by(|(other, _)| other.cmp(name)) {
                Ok(at) => sum(&mut self.others[at].1, *number),
                Err(at) => self
                    .others
                    .insert(at, (Arc::clone(name), number.saturating_mul(sign))),
            }
        }
    }

    /// The resources of which more are wanted than are left, of what is there, beside what is taken.
    pub(super) fn lacking<'n>(
        &'n self,
        there: &'n Self,
        taken: &'n Self,
    ) -> impl Iterator<Item = &'n str> {
        let lacks = |wanted: i64, taken: i64, there: i64| {
            wanted > 0 && wanted.saturating_add(taken) > there
        };
        let common = [
            ("cpu", self.cpu, taken.cpu, there.cpu),
            ("memory", self.memory, taken.memory, there.memory),
            (
                "ephemeral-storage",
                self.storage,
                taken.storage,
                there.storage,
            ),
        ];
        let common = common
            .into_iter()
            .filter(move |(_, wanted, taken, there)| lacks(*wanted, *taken, *there))
            .map(|(name, ..)| name);
        let others = self
            .others
            .iter()
            .filter(move |(name, wanted)| lacks(*wanted, taken.other(name), there.other(name)));
        common.chain(others.map(|(name, _)| &**name))
    }

    fn other(&self, name: &str) -> i64 {
        self.others
            .binary_search_by(|(other, _)| (**other).cmp(name))
            .map_or(0, |at| self.others[at].1)
    }
}
