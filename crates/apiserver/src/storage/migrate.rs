//! Custom resources of older versions, which had keys like those of built-in kinds (`/registry/GROUP/PLURAL/...`), are
//! moved to their own at the start. Each move is one transaction of the store: an object is under one of the two keys
//! at any moment. Objects are left where they are, with an error in the log, when the old keys are those of a built-in
//! kind, or when something is under the new key already.

use std::collections::BTreeSet;

use berth_store::{Expect, KeyValue, Outcome, Range, Store, StoreError, Write};
use serde_json::Value;

use super::key;

const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";
/// Objects in a transaction; each takes two writes, and etcd takes 128.
const BATCH: usize = 50;

/// Moves what is under old keys; `built_in` are the storage names of built-in kinds. Gives the number of objects.
///
/// # Errors
/// When the store fails; what was moved until then stays moved.
pub(super) async fn custom_resources(
    store: &dyn Store,
    built_in: &BTreeSet<String>,
) -> Result<usize, StoreError> {
    let mut names = Vec::new();
    let mut definitions = Pages::new(key::prefix(DEFINITIONS, None));
    while let Some(page) = definitions.next(store).await? {
        names.extend(page.iter().filter_map(names_of));
    }
    let groups: BTreeSet<&str> = names.iter().map(|(group, _)| group.as_str()).collect();
    let mut moved = 0;
    for (group, plural) in &names {
        let old = format!("{group}/{plural}");
        // the old keys of the group "custom" look like the new ones of the group that the plural is called
        let ambiguous = key::is_custom(&old) && groups.contains(plural.as_str());
        if built_in.contains(&old) || ambiguous {
            tracing::error!(
                group,
                plural,
                "the objects of this CustomResourceDefinition can't be told from others; they stay where they are"
            );
            continue;
        }
        let (from, to) = (
            key::prefix(&old, None),
            key::prefix(&key::custom(group, plural), None),
        );
        let mut objects = Pages::new(from.clone());
        while let Some(page) = objects.next(store).await? {
            moved += move_page(store, &page, &from, &to).await?;
        }
    }
    Ok(moved)
}

/// Group and plural of a stored definition.
fn names_of(definition: &KeyValue) -> Option<(String, String)> {
    let read = || {
        let object: Value = serde_json::from_slice(&definition.value).ok()?;
        let text = |pointer: &str| object.pointer(pointer)?.as_str().map(str::to_owned);
        let names = (text("/spec/group")?, text("/spec/names/plural")?);
        let whole = |name: &str| !name.is_empty() && !name.contains('/');
        (whole(&names.0) && whole(&names.1)).then_some(names)
    };
    let names = read();
    if names.is_none() {
        tracing::error!(
            key = definition.key,
            "a CustomResourceDefinition can't be read; its objects are not looked for under old keys"
        );
    }
    names
}

async fn move_page(
    store: &dyn Store,
    page: &[KeyValue],
    from: &str,
    to: &str,
) -> Result<usize, StoreError> {
    let writes = |kv: &KeyValue| {
        let tail = kv.key.strip_prefix(from).unwrap_or(&kv.key);
        [
            Write {
                key: format!("{to}{tail}"),
                expect: Expect::Absent,
                value: Some(kv.value.clone()),
            },
            Write {
                key: kv.key.clone(),
                expect: Expect::Revision(kv.revision),
                value: None,
            },
        ]
    };
    let all = page.iter().flat_map(writes).collect();
    if let Outcome::Committed(_) = store.transact(all).await? {
        return Ok(page.len());
    }
    let mut moved = 0;
    for kv in page {
        match store.transact(writes(kv).into()).await? {
            Outcome::Committed(_) => moved += 1,
            Outcome::Failed { key, .. } => tracing::error!(
                key = kv.key,
                taken = key,
                "a custom resource can't be moved to its new key; it stays under the old one"
            ),
        }
    }
    Ok(moved)
}

/// The keys with a prefix, page by page.
struct Pages {
    prefix: String,
    after: Option<String>,
    more: bool,
}

impl Pages {
    fn new(prefix: String) -> Self {
        Self {
            prefix,
            after: None,
            more: true,
        }
    }

    async fn next(&mut self, store: &dyn Store) -> Result<Option<Vec<KeyValue>>, StoreError> {
        if !self.more {
            return Ok(None);
        }
        let page = store
            .range(Range {
                prefix: self.prefix.clone(),
                after: self.after.take(),
                limit: BATCH,
                revision: 0,
            })
            .await?;
        self.after = page.items.last().map(|kv| kv.key.clone());
        self.more = page.more;
        Ok((!page.items.is_empty()).then_some(page.items))
    }
}
