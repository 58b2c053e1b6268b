//! How the checker relates types: what variables stand for, and what may stand where.

use crate::types::{Composite, Type};

/// What type variables stand for, with the changes since a mark, so that an attempt can be undone.
#[derive(Debug, Default)]
pub(crate) struct Substitutions {
    bound: Vec<Option<Type>>,
    changes: Vec<(u32, Option<Type>)>,
}

/// How deep types are followed through variables; beyond that they count as dyn.
const MAX_STEPS: u32 = 300;

impl Substitutions {
    pub(crate) fn fresh(&mut self) -> Type {
        let number = u32::try_from(self.bound.len()).unwrap_or(u32::MAX);
        self.bound.push(None);
        Type::Variable(number)
    }

    fn get(&self, number: u32) -> Option<&Type> {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.bound.get(number))?
            .as_ref()
    }

    fn bind(&mut self, number: u32, to: Type) {
        if let Some(slot) = usize::try_from(number)
            .ok()
            .and_then(|number| self.bound.get_mut(number))
        {
            self.changes.push((number, slot.replace(to)));
        }
    }

    /// The type with what its variables stand for; with `free` set, unbound variables become dyn.
    pub(crate) fn apply(&self, of: &Type, free: bool) -> Type {
        self.apply_within(of, free, MAX_STEPS)
    }

    fn apply_within(&self, of: &Type, free: bool, steps: u32) -> Type {
        let Some(steps) = steps.checked_sub(1) else {
            return Type::Dyn;
        };
        match of {
            Type::Variable(number) => match self.get(*number) {
                Some(bound) => self.apply_within(bound, free, steps),
                None if free => Type::Dyn,
                None => of.clone(),
            },
            Type::Composite(kind, parts) => {
                let types = parts
                    .types
                    .iter()
                    .map(|part| self.apply_within(part, free, steps))
                    .collect();
                Type::composite(*kind, types)
            }
            other => other.clone(),
        }
    }

    /// Whether a value of the second type may stand where the first is declared; on success variables are bound.
    pub(crate) fn assign(&mut self, to: &Type, from: &Type) -> bool {
        self.assign_all(std::slice::from_ref(to), std::slice::from_ref(from))
    }

    pub(crate) fn assign_all(&mut self, to: &[Type], from: &[Type]) -> bool {
        let mark = self.changes.len();
        let fits = to.len() == from.len()
            && to
                .iter()
                .zip(from)
                .all(|(to, from)| self.fits(to, from, MAX_STEPS));
        if !fits {
            while self.changes.len() > mark {
                let Some((number, old)) = self.changes.pop() else {
                    break;
                };
                if let Some(slot) = usize::try_from(number)
                    .ok()
                    .and_then(|number| self.bound.get_mut(number))
                {
                    *slot = old;
                }
            }
        }
        fits
    }

    fn fits(&mut self, a: &Type, b: &Type, steps: u32) -> bool {
        let Some(steps) = steps.checked_sub(1) else {
            return true;
        };
        if let Type::Variable(number) = b {
            let (valid, bound) = self.substitutes(a, *number, steps);
            if valid || bound {
                return valid;
            }
        }
        if let Type::Variable(number) = a {
            return self.substitutes(b, *number, steps).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => other.nullable(),
            (Type::Composite(Composite::Type, _), Type::Composite(Composite::Type, _)) => true,
            (Type::Composite(k, x), Type::Composite(l, y)) => {
                k == l
                    && x.types.len() == y.types.len()
                    && x.types
                        .iter()
                        .zip(&y.types)
                        .all(|(a, b)| self.fits(a, b, steps))
            }
            (a, b) => a.same(b),
        }
    }

    /// Whether the type may stand for the variable, and whether the variable had a meaning before.
    fn substitutes(&mut self, with: &Type, variable: u32, steps: u32) -> (bool, bool) {
        if with.same(&Type::Variable(variable)) {
            return (true, true);
        }
        if let Some(known) = self.get(variable).cloned() {
            if with.same(&known) {
                return (true, true);
            }
            if !self.fits(with, &known, steps) {
                return (false, true);
            }
            let general = with.clone().most_general(known);
            if self.free_of(variable, &general, steps) {
                self.bind(variable, general);
            }
            return (true, true);
        }
        if self.free_of(variable, with, steps) {
            self.bind(variable, with.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether the variable does not occur in the type.
    fn free_of(&self, variable: u32, within: &Type, steps: u32) -> bool {
        let Some(steps) = steps.checked_sub(1) else {
            return false;
        };
        match within {
            Type::Variable(number) if *number == variable => false,
            Type::Variable(number) => self
                .get(*number)
                .is_none_or(|bound| self.free_of(variable, bound, steps)),
            Type::Composite(_, parts) => parts
                .types
                .iter()
                .all(|part| self.free_of(variable, part, steps)),
            _ => true,
        }
    }
}
