//! Which objects add-ons have: a file beside the manifests.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reference {
    pub(super) api_version: String,
    pub(super) kind: String,
    /// `default` when the manifest names none; of no meaning for kinds of the cluster.
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Reference {
    pub(super) fn group_version(&self) -> (&str, &str) {
        self.api_version
            .split_once('/')
            .unwrap_or(("", &self.api_version))
    }

    /// The same object, by whichever version.
    fn is(&self, other: &Self) -> bool {
        self.group_version().0 == other.group_version().0
            && self.kind == other.kind
            && self.namespace == other.namespace
            && self.name == other.name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            namespace,
            name,
            ..
        } = self;
        match kind.as_str() {
            "Namespace" | "CustomResourceDefinition" => write!(f, "{kind} {name}"),
            _ => write!(f, "{kind} {namespace}/{name}"),
        }
    }
}

/// An object that was applied, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Applied {
    #[serde(flatten)]
    reference: Reference,
    /// Once it is known.
    uid: Option<String>,
}

/// What each add-on has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    addons: BTreeMap<String, Vec<Applied>>,
}

impl Record {
    /// Reads the file; without one there are no add-ons yet.
    ///
    /// # Errors
    /// When it can't be read: what was applied before is not known then, and nothing may be applied over it.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let failed = |why: &dyn fmt::Display| {
            let path = path.display();
            format!(
                "cannot read {path}, which says what add-ons have: {why}; put it back, or remove it: then objects that manifests \
                 no longer hold stay"
            )
        };
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        let failed = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(failed)
    }

    /// Notes objects that are about to be applied.
    pub(super) fn add(&mut self, addon: &str, references: &[Reference]) {
        let all = self.addons.entry(addon.to_owned()).or_default();
        for reference in references {
            match all.iter_mut().find(|one| one.reference.is(reference)) {
                Some(one) => one.reference = reference.clone(),
                None => all.push(Applied {
                    reference: reference.clone(),
                    uid: None,
                }),
            }
        }
    }

    /// Notes that an object was applied.
    pub(super) fn note(&mut self, addon: &str, reference: &Reference, uid: Option<String>) {
        let all = self.addons.get_mut(addon).into_iter().flatten();
        for one in all.filter(|one| one.reference.is(reference)) {
            one.uid.clone_from(&uid);
        }
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, addon: &str, reference: &Reference) {
        if let Some(all) = self.addons.get_mut(addon) {
            all.retain(|one| !one.reference.is(reference));
        }
    }

    /// What an add-on has beside these.
    pub(super) fn others(
        &self,
        addon: &str,
        references: &[Reference],
    ) -> Vec<(Reference, Option<String>)> {
        let all = self.addons.get(addon).into_iter().flatten();
        let others = all.filter(|one| !references.iter().any(|kept| kept.is(&one.reference)));
        others
            .map(|one| (one.reference.clone(), one.uid.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(version: &str, name: &str) -> Reference {
        Reference {
            api_version: version.to_owned(),
            kind: "Deployment".to_owned(),
            namespace: "default".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn another_version_is_the_same_object_and_others_are_superfluous() {
        let mut record = Record::default();
        record.add(
            "web.yaml",
            &[reference("apps/v1", "a"), reference("apps/v1", "b")],
        );
        record.note(
            "web.yaml",
            &reference("apps/v1", "b"),
            Some("uid".to_owned()),
        );
        let now = [reference("apps/v2", "a")];
        record.add("web.yaml", &now);
        let others = record.others("web.yaml", &now);
        assert_eq!(
            others,
            [(reference("apps/v1", "b"), Some("uid".to_owned()))]
        );
        record.remove("web.yaml", &reference("apps/v1", "b"));
        assert!(record.others("web.yaml", &now).is_empty());
    }

    #[test]
    fn it_is_kept_and_damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addons.json");
        assert_eq!(Record::read(&path), Ok(Record::default()));
        let mut record = Record::default();
        record.add("web.yaml", &[reference("apps/v1", "a")]);
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path), Ok(record));
        std::fs::write(&path, "{").unwrap();
        let why = Record::read(&path).unwrap_err();
        assert!(
            why.contains("addons.json, which says what add-ons have"),
            "{why}"
        );
    }
}
