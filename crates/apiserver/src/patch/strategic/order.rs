//! The order of merged lists: what the patch says wins, items that only the server knows keep
//! their place relative to the items they stood among.

use serde_json::Value;

use crate::patch::PatchError;

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

fn index(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    list.iter().position(|other| same(other, item, key))
}

/// Sorts `merged`: the items in `wanted` in that order, the others inserted before the first
/// wanted item that follows them in `server`, the list as it was.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    let (mut ours, mut others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| index(wanted, item, key).is_some());
    ours.sort_by_key(|item| index(wanted, item, key));
    others.sort_by_key(|item| index(server, item, key).unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(ours.len() + others.len());
    let mut ours = ours.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    loop {
        let other_first = match (others.peek(), ours.peek()) {
            (None, None) => return arranged,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(our)) => {
                match (index(server, other, key), index(server, our, key)) {
                    (Some(other), Some(our)) => other < our,
                    (None, _) | (_, None) => false,
                }
            }
        };
        arranged.extend(if other_first {
            others.next()
        } else {
            ours.next()
        });
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
