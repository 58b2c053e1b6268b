//! What every source of handlers gives, and the few file rules they share.

use std::path::{Path, PathBuf};

use super::HandlersError;
use super::definition::Definition;
use super::document::{Item, Origin, Table};

/// Handlers and the settings that stand beside them.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    pub(crate) default: Option<(String, Origin)>,
    pub(crate) handlers: Vec<Definition>,
    pub(crate) cni_conf_dir: Option<PathBuf>,
    pub(crate) cni_bin_dirs: Vec<PathBuf>,
    pub(crate) hosts_dirs: Vec<PathBuf>,
    pub(crate) warnings: Vec<Warning>,
    /// What no start goes on with. What else the files say is read all the same, so that one mistake hides no other.
    pub(crate) refused: Vec<HandlersError>,
    /// Every file read, to watch them for changes.
    pub(crate) files: Vec<PathBuf>,
}

/// Something in a configuration that has no effect here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands.
    pub origin: Origin,
    /// What it is.
    pub message: String,
    /// Whether somebody meant it to have an effect: a name that is misspelt, a table at the wrong place. Else it is a
    /// setting of the other program's that means nothing here.
    pub is_mistake: bool,
    /// Of a mistake: whether it may be meant so.
    pub is_doubtful: bool,
}

impl Warning {
    pub(crate) fn new(origin: &Origin, message: impl Into<String>) -> Self {
        Self {
            origin: origin.clone(),
            message: message.into(),
            is_mistake: false,
            is_doubtful: false,
        }
    }

    pub(crate) fn mistake(origin: &Origin, message: impl Into<String>) -> Self {
        Self {
            is_mistake: true,
            ..Self::new(origin, message)
        }
    }

    pub(crate) fn doubt(origin: &Origin, message: impl Into<String>) -> Self {
        Self {
            is_doubtful: true,
            ..Self::mistake(origin, message)
        }
    }
}

/// Snapshotters of containerd's that only keep the same files in another way, or fetch them later: what a pod sees is the
/// same with overlayfs.
const AS_GOOD_AS_OVERLAYFS: [&str; 8] = [
    "native",
    "btrfs",
    "zfs",
    "aufs",
    "fuse-overlayfs",
    "stargz",
    "soci",
    "overlaybd",
];

/// What the snapshotter that containerd would take for a handler means here: nothing, a warning, or the reason for which
/// the handler can't run. One that gives block devices to a virtual machine, or has images unpacked in its guest, is there
/// for what the node must not do instead.
pub(crate) fn check_snapshotter(
    name: &str,
    table: &Table,
    warnings: &mut Vec<Warning>,
) -> Option<String> {
    let node = table.get("snapshotter")?;
    let Item::Text(value) = &node.item else {
        return None;
    };
    match value.as_str() {
        "" | "overlayfs" => None,
        value if AS_GOOD_AS_OVERLAYFS.contains(&value) => {
            warnings.push(Warning::new(
                &node.origin,
                format!(
                    "handler {name:?}: snapshotter {value:?} is ignored: images are mounted with overlayfs"
                ),
            ));
            None
        }
        value => Some(format!(
            "snapshotter {value:?} is not there: berth unpacks images on the node and mounts them with overlayfs; leave \
             it out if the handler's pods may run so"
        )),
    }
}

/// The files of a folder with an extension, in name order; none when the folder is missing.
pub(crate) fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == extension) && path.is_file())
        .collect();
    files.sort();
    files
}

/// The files that a path with `*` and `?` in its last part matches, in name order. A path
/// without them must exist.
pub(crate) fn glob(pattern: &Path) -> std::io::Result<Vec<PathBuf>> {
    let name = pattern
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if !name.contains(['*', '?']) {
        return match pattern.metadata() {
            Ok(_) => Ok(vec![pattern.to_owned()]),
            Err(error) => Err(std::io::Error::new(
                error.kind(),
                format!("{}: {error}", pattern.display()),
            )),
        };
    }
    let folder = pattern.parent().unwrap_or(Path::new("/"));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.is_file()
                && path
                    .file_name()
                    .and_then(|file| file.to_str())
                    .is_some_and(|file| matches(name.as_bytes(), file.as_bytes()))
        })
        .collect();
    files.sort();
    Ok(files)
}

/// In time of both lengths' product at most: only the last star is ever tried again.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and where it ended its match.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                star = Some((p, n));
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            Some(_) | None => {
                let Some((behind, end)) = star else {
                    return false;
                };
                star = Some((behind, end + 1));
                (p, n) = (behind, end + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_match_as_shells_do() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.tom", false),
            ("??-x*", "10-x", true),
            ("??-x*", "1-x", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("*ab", "aab", true),
            ("a**", "a", true),
            ("", "", true),
            ("?", "", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
        // Would take longer than there is time if every star were tried again.
        assert!(!matches(
            "*a".repeat(60).as_bytes(),
            "a".repeat(59).as_bytes()
        ));
    }
}
