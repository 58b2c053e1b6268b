//! The order of merged lists: what the patch says wins, items that only the server knows keep
//! their place relative to the items they stood among.

use std::collections::HashMap;

use serde_json::Value;

use crate::patch::PatchError;

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

/// Where each item of a list stands; of items that are the same, the first counts.
struct Places<'k> {
    at: HashMap<String, usize>,
    key: Option<&'k str>,
}

impl<'k> Places<'k> {
    fn of(list: &[Value], key: Option<&'k str>) -> Self {
        let mut at = HashMap::with_capacity(list.len());
        for (place, item) in list.iter().enumerate() {
            if let Some(name) = name_of(item, key) {
                at.entry(name).or_insert(place);
            }
        }
        Self { at, key }
    }

    fn get(&self, item: &Value) -> Option<usize> {
        self.at.get(&name_of(item, self.key)?).copied()
    }
}

/// What items that are the same have in common.
fn name_of(item: &Value, key: Option<&str>) -> Option<String> {
    match key {
        Some(key) => item.get(key).map(Value::to_string),
        None => Some(item.to_string()),
    }
}

/// An item, and where it stands in the two lists.
struct Placed {
    item: Value,
    wanted: Option<usize>,
    server: Option<usize>,
}

/// Sorts `merged`: the items in `wanted` in that order, the others inserted before the first
/// wanted item that follows them in `server`, the list as it was.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    let (wanted, server) = (Places::of(wanted, key), Places::of(server, key));
    let (mut ours, mut others): (Vec<Placed>, Vec<Placed>) = merged
        .into_iter()
        .map(|item| Placed {
            wanted: wanted.get(&item),
            server: server.get(&item),
            item,
        })
        .partition(|placed| placed.wanted.is_some());
    ours.sort_by_key(|placed| placed.wanted);
    others.sort_by_key(|placed| placed.server.unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(ours.len() + others.len());
    let mut ours = ours.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    loop {
        let other_first = match (others.peek(), ours.peek()) {
            (None, None) => return arranged,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(our)) => match (other.server, our.server) {
                (Some(other), Some(our)) => other < our,
                (None, _) | (_, None) => false,
            },
        };
        let next = if other_first {
            others.next()
        } else {
            ours.next()
        };
        arranged.extend(next.map(|placed| placed.item));
    }
}

/// Checks that a patch's list has no item that `$setElementOrder` lacks, and none in another order.
pub(super) fn agree(
    patch: &[Value],
    order: &[Value],
    key: Option<&str>,
    list: &str,
) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(super::PATCH).is_none()) {
        if !rest.any(|other| same(item, other, key)) {
            return Err(PatchError::unprocessable(format!(
                "the order in the patch's list {list} doesn't match its $setElementOrder list"
            )));
        }
    }
    Ok(())
}
