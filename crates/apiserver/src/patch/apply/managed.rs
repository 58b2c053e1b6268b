//! `metadata.managedFields`: who owns which fields.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::{Operation, Writer, set::FieldSet};

/// Entries of updates that an object keeps apart (stock: the same number).
const MAX_UPDATE_MANAGERS: usize = 10;
/// The manager of the entry that older ones become.
const ANCIENT: &str = "ancient-changes";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) fields: FieldSet,
}

impl Entry {
    pub(super) fn new(writer: &Writer<'_>, operation: Operation, fields: FieldSet) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: Some(writer.time.to_owned()),
            fields,
        }
    }

    /// Whether a write of this kind by this writer continues the entry.
    pub(super) fn is_of(&self, writer: &Writer<'_>, operation: Operation) -> bool {
        self.manager == writer.manager
            && self.operation == operation
            && self.subresource == writer.subresource
            && (operation == Operation::Apply || self.api_version == writer.api_version)
    }

    /// Whether it stands for several that were too many.
    fn is_ancient(&self) -> bool {
        self.manager == ANCIENT && self.subresource.is_empty()
    }

    /// As a conflict names it: `"kubectl-edit" using v1 at 2026-01-01T00:00:00Z`.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
            if let Some(time) = &self.time {
                text.push_str(&format!(" at {time}"));
            }
        }
        text
    }

    /// The fields as an object of another version of its kind names them. Only RuntimeClass has
    /// versions of different forms: v1alpha1 keeps under `spec` what the others have at the top.
    fn fields_in(&self, api_version: &str) -> FieldSet {
        convert(self.fields.clone(), &self.api_version, api_version)
    }
}

const ALPHA: &str = "node.k8s.io/v1alpha1";
const MOVED: [(&str, &str); 3] = [
    ("f:handler", "f:runtimeHandler"),
    ("f:overhead", "f:overhead"),
    ("f:scheduling", "f:scheduling"),
];

fn convert(mut fields: FieldSet, from: &str, to: &str) -> FieldSet {
    match (from == ALPHA, to == ALPHA) {
        (true, false) => {
            let (_, spec) = fields.take("f:spec");
            let mut spec = spec.unwrap_or_default();
            for (top, inner) in MOVED {
                fields.put(top, spec.take(inner));
            }
        }
        (false, true) if to.starts_with("node.k8s.io/") => {
            let mut spec = FieldSet::default();
            for (top, inner) in MOVED {
                spec.put(inner, fields.take(top));
            }
            if !spec.is_empty() {
                fields.put("f:spec", (false, Some(spec)));
            }
        }
        (true, true) | (false, false | true) => {}
    }
    fields
}

/// All entries of an object, with their fields as `api_version` names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Managed(pub(super) Vec<Entry>);

impl Managed {
    /// What a client sends: nothing unless all of it is of the right form, as on the stock server.
    pub(super) fn given(object: &Value, api_version: &str) -> Self {
        let list = object.pointer("/metadata/managedFields");
        let mut entries = list.and_then(Value::as_array).into_iter().flatten();
        let is_form = entries.all(|entry| {
            matches!(entry["operation"].as_str(), Some("Apply" | "Update"))
                && entry["fieldsType"] == "FieldsV1"
                && entry
                    .get("fieldsV1")
                    .is_none_or(|fields| fields.is_null() || FieldSet::is_form(fields))
        });
        if is_form {
            Self::read(object, api_version)
        } else {
            Self::default()
        }
    }

    /// Without what was written in versions that there aren't any more: nobody can say what it is called now.
    pub(super) fn of_versions(mut self, writer: &Writer<'_>) -> Self {
        self.0.retain(|entry| {
            writer.versions.is_empty() || writer.versions.contains(&entry.api_version)
        });
        self
    }

    pub(super) fn read(object: &Value, api_version: &str) -> Self {
        let list = object
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array);
        let text = |entry: &Value, name: &str| {
            entry
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let entries = list.into_iter().flatten().filter_map(|entry| {
            let operation = match entry.get("operation").and_then(Value::as_str)? {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            let mut entry = Entry {
                manager: text(entry, "manager"),
                operation,
                api_version: text(entry, "apiVersion"),
                subresource: text(entry, "subresource"),
                time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
                fields: FieldSet::from_value(entry.get("fieldsV1").unwrap_or(&Value::Null)),
            };
            entry.fields = entry.fields_in(api_version);
            Some(entry)
        });
        Self(entries.collect())
    }

    pub(super) fn write(mut self, object: &mut Value, api_version: &str) {
        self.0.retain(|entry| !entry.fields.is_empty());
        self.0.sort_by(|a, b| {
            let key = |e: &Entry| {
                let first = e.operation == Operation::Update;
                (
                    first,
                    e.time.clone(),
                    e.manager.clone(),
                    e.api_version.clone(),
                    e.subresource.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        if self.0.is_empty() {
            meta.remove("managedFields");
            return;
        }
        let entries = self.0.into_iter().map(|entry| {
            let fields = convert(entry.fields, api_version, &entry.api_version).to_value();
            let mut value = json!({
                "manager": entry.manager,
                "operation": match entry.operation { Operation::Apply => "Apply", Operation::Update => "Update" },
                "apiVersion": entry.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": fields,
            });
            if let Some(time) = entry.time {
                value["time"] = Value::String(time);
            }
            if !entry.subresource.is_empty() {
                value["subresource"] = Value::String(entry.subresource);
            }
            value
        });
        meta.insert("managedFields".to_owned(), Value::Array(entries.collect()));
    }

    /// Keeps the number of entries of updates in bounds: who writes is a name that clients choose. The oldest of a
    /// version become one entry, as on the stock server.
    pub(super) fn cap_updates(&mut self) {
        let mut updates: Vec<usize> = (0..self.0.len())
            .filter(|at| self.0[*at].operation == Operation::Update)
            .collect();
        let Some(mut above) = updates.len().checked_sub(MAX_UPDATE_MANAGERS) else {
            return;
        };
        // An entry of this kind is the first to be added to.
        updates.sort_by_key(|at| {
            let entry = &self.0[*at];
            (
                !entry.is_ancient(),
                entry.time.clone(),
                entry.manager.clone(),
            )
        });
        let mut first: HashMap<String, usize> = HashMap::new();
        let mut gone = BTreeSet::new();
        for at in updates {
            if above == 0 {
                break;
            }
            let into = *first.entry(self.0[at].api_version.clone()).or_insert(at);
            if into == at {
                continue;
            }
            let fields = std::mem::take(&mut self.0[at].fields);
            let time = self.0[at].time.take();
            let bucket = &mut self.0[into];
            bucket.fields = std::mem::take(&mut bucket.fields).union(&fields);
            bucket.time = time;
            ANCIENT.clone_into(&mut bucket.manager);
            bucket.subresource.clear();
            gone.insert(at);
            above -= 1;
        }
        let mut at = 0;
        self.0.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
    }

    /// Whether a client asks for the bookkeeping to start afresh.
    pub(super) fn is_reset(object: &Value) -> bool {
        match object
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
        {
            Some([]) => true,
            Some([only]) => only.as_object().is_some_and(serde_json::Map::is_empty),
            Some(_) | None => false,
        }
    }
}

/// The fields of the metadata that are never owned.
pub(super) const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// The fields that are never owned: the object's identity and what the server keeps itself.
pub(super) fn unowned() -> FieldSet {
    let mut set = FieldSet::default();
    for path in [&["apiVersion"][..], &["kind"], &["metadata"]] {
        set.insert(
            &path
                .iter()
                .map(|name| format!("f:{name}"))
                .collect::<Vec<_>>(),
        );
    }
    for name in UNOWNED_METADATA {
        set.insert(&["f:metadata".to_owned(), format!("f:{name}")]);
    }
    set
}
