//! The floors of RuntimeClasses, and what is remembered of classes that are gone: their pods run on, and keep what they had.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_rules::network_floor::{self, NetworkFloor};
use k8s_openapi::api::node::v1::RuntimeClass;
use tracing::warn;

/// The annotations of a class that matter here, by name.
pub(crate) type Annotations = BTreeMap<String, String>;

/// Floors by class; why a class has none that could be applied.
pub(crate) type Floors = BTreeMap<String, Result<Option<NetworkFloor>, String>>;

/// What a class says.
pub(crate) fn parse(class: &RuntimeClass) -> Option<Annotations> {
    let own = [network_floor::DEFAULT_NETWORK_POLICY, network_floor::EXCEPT];
    let all = class.metadata.annotations.iter().flatten();
    let all = all.filter(|(name, _)| own.contains(&name.as_str()));
    Some(
        all.map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

/// What the classes of this node's pods said when they were last seen.
pub(crate) struct Remembered {
    path: PathBuf,
    classes: BTreeMap<String, Annotations>,
}

impl Remembered {
    /// Reads it. What can't be read is forgotten: pods of classes that are gone are closed then.
    pub(crate) fn read(path: &Path) -> Self {
        let classes = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        Self {
            path: path.to_owned(),
            classes: classes.unwrap_or_else(|error| {
                warn!(path = %path.display(), %error, "what RuntimeClasses said of their pods' network cannot be read; pods of classes that are gone are closed");
                BTreeMap::new()
            }),
        }
    }

    /// The floors of the classes that pods of this node name.
    ///
    /// # Errors
    /// When what has to be remembered can't be written; a pod's floor must not be forgotten.
    pub(crate) fn floors<'a>(
        &mut self,
        named: &BTreeSet<&str>,
        seen: impl Fn(&str) -> Option<&'a Annotations>,
    ) -> io::Result<Floors> {
        let mut kept = BTreeMap::new();
        for class in named {
            let said = seen(class).or_else(|| self.classes.get(*class));
            kept.extend(said.map(|said| ((*class).to_owned(), said.clone())));
        }
        if kept != self.classes {
            write(&self.path, &kept)?;
            self.classes = kept;
        }
        let floor = |class: &&str| match self.classes.get(*class) {
            Some(said) => network_floor::parse(Some(said))
                .map_err(|error| format!("RuntimeClass {class:?}: {error}")),
            None => Err(format!(
                "RuntimeClass {class:?} does not exist, and it is not known what it denied its pods"
            )),
        };
        let floors = named.iter();
        Ok(floors
            .map(|class| ((*class).to_owned(), floor(class)))
            .collect())
    }
}

fn write(path: &Path, classes: &BTreeMap<String, Annotations>) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    let temporary = path.with_extension("tmp");
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary)?;
    serde_json::to_writer(&mut file, classes)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use berth_rules::network_floor::{DEFAULT_NETWORK_POLICY, FloorLevel};

    use super::*;

    fn said(level: &str) -> Annotations {
        [(DEFAULT_NETWORK_POLICY.to_owned(), level.to_owned())].into()
    }

    fn level(floors: &Floors, class: &str) -> Option<FloorLevel> {
        let floor = floors[class].as_ref().unwrap().as_ref();
        floor.map(|floor| floor.level)
    }

    #[test]
    fn pods_of_a_class_that_is_gone_keep_its_floor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node/classes.json");
        let named = ["boxed", "plain", "lost"].into();
        let (deny, nothing) = (said("deny-all"), Annotations::new());
        let mut remembered = Remembered::read(&path);
        let floors = remembered.floors(&named, |class| match class {
            "boxed" => Some(&deny),
            "plain" => Some(&nothing),
            _ => None,
        });
        let floors = floors.unwrap();
        assert_eq!(level(&floors, "boxed"), Some(FloorLevel::DenyAll));
        assert_eq!(level(&floors, "plain"), None);
        // Nobody knows what it denied.
        assert!(floors["lost"].is_err());
        // They are gone, and this is another process.
        let mut remembered = Remembered::read(&path);
        let floors = remembered.floors(&named, |_| None).unwrap();
        assert_eq!(level(&floors, "boxed"), Some(FloorLevel::DenyAll));
        assert_eq!(level(&floors, "plain"), None);
        assert!(floors["lost"].is_err());
        // What the class says now counts, and what isn't understood opens nothing.
        let (allow, wrong) = (said("allow"), said("open"));
        let floors = remembered.floors(&named, |_| Some(&allow)).unwrap();
        assert_eq!(level(&floors, "boxed"), Some(FloorLevel::Allow));
        let floors = remembered.floors(&named, |_| Some(&wrong)).unwrap();
        assert!(floors.values().all(Result::is_err));
        // No pod is left: it is forgotten.
        remembered
            .floors(&BTreeSet::new(), |_| Some(&deny))
            .unwrap();
        let floors = Remembered::read(&path).floors(&named, |_| None).unwrap();
        assert!(floors.values().all(Result::is_err));
        fs::write(&path, "{").unwrap();
        let floors = Remembered::read(&path).floors(&named, |_| None).unwrap();
        assert!(floors.values().all(Result::is_err));
    }
}
