//! Files of config maps and secrets, replaced all at once.
//!
//! ```text
//!   key       -> ..data/key              what containers open
//!   ..data    -> ..2026_11_21_22_00_00.7 renamed into place: the switch
//!   ..2026_…/key                         the content
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path};

use super::{VolumeError, io};
use crate::pod_files::{open_beneath, read_at};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: Option<u32>,
}

/// Files by relative path.
pub(crate) type Files = BTreeMap<String, File>;

fn check(path: &str) -> Result<(), VolumeError> {
    let good = !path.is_empty()
        && Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_)))
        && !path.starts_with("..");
    if good {
        Ok(())
    } else {
        Err(VolumeError::BadPath(path.to_owned()))
    }
}

/// Brings `dir` to hold exactly `files`; does nothing when it does already.
pub(crate) fn write(dir: &Path, files: &Files, group: Option<u32>) -> Result<(), VolumeError> {
    for path in files.keys() {
        check(path)?;
    }
    let data = dir.join(DATA);
    let old = fs::read_link(&data).ok();
    if old.is_some() && unchanged(&data, files) {
        return Ok(());
    }
    // An agent that was killed may have left a directory half written.
    clean(dir, old.as_deref())?;
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S");
    let name = format!("{stamp}.{}", rand::random::<u32>());
    if let Err(error) = switch(dir, &name, files, group) {
        // A pod whose files cannot be written is tried again and again: nothing of a try may stay, or the disk (or the
        // memory, for secrets) fills up.
        clean(dir, old.as_deref())?;
        return Err(error);
    }
    links(dir, files)?;
    clean(dir, Some(Path::new(&name)))
}

/// Writes the files into a directory of their own and makes it the one that counts.
fn switch(dir: &Path, name: &str, files: &Files, group: Option<u32>) -> Result<(), VolumeError> {
    let fresh = dir.join(name);
    fs::create_dir(&fresh).map_err(io(&fresh))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).map_err(io(&fresh))?;
    for (path, file) in files {
        put(&fresh, path, file, group)?;
    }
    let (tmp, data) = (dir.join(DATA_NEW), dir.join(DATA));
    let _ = fs::remove_file(&tmp);
    symlink(name, &tmp).map_err(io(&tmp))?;
    fs::rename(&tmp, &data).map_err(io(&data))
}

/// Removes all directories of content but the one named.
fn clean(dir: &Path, keep: Option<&Path>) -> Result<(), VolumeError> {
    for entry in fs::read_dir(dir).map_err(io(dir))? {
        let entry = entry.map_err(io(dir))?;
        let name = entry.file_name();
        let content = name.to_string_lossy().starts_with("..")
            && entry.file_type().map_err(io(dir))?.is_dir();
        if content && Some(Path::new(&name)) != keep {
            let path = entry.path();
            berth_tree::remove(&path).map_err(io(&path))?;
        }
    }
    Ok(())
}

fn put(root: &Path, path: &str, file: &File, group: Option<u32>) -> Result<(), VolumeError> {
    let full = root.join(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent).map_err(io(parent))?;
    }
    // Nobody reads it before it has its mode.
    let mut made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&full)
        .map_err(io(&full))?;
    made.write_all(&file.data).map_err(io(&full))?;
    // With a group, the group may read what the owner may.
    let mode = match group {
        Some(_) => file.mode | (file.mode & 0o700) >> 3 & 0o050,
        None => file.mode,
    };
    std::os::unix::fs::chown(&full, file.owner, group).map_err(io(&full))?;
    fs::set_permissions(&full, fs::Permissions::from_mode(mode)).map_err(io(&full))
}

fn unchanged(data: &Path, files: &Files) -> bool {
    let mut found = BTreeSet::new();
    if list(data, data, &mut found).is_err() || found.len() != files.len() {
        return false;
    }
    files
        .iter()
        .all(|(path, file)| found.contains(path) && holds(data, path, &file.data))
}

/// Whether the file is there with just this content; of a longer one no more is read.
fn holds(data: &Path, path: &str, wanted: &[u8]) -> bool {
    let read = || {
        let base = fs::canonicalize(data)?;
        let file = open_beneath(&base, Path::new(path))?;
        if file.metadata()?.len() != wanted.len() as u64 {
            return Ok(false);
        }
        Ok::<_, std::io::Error>(read_at(&file, 0, wanted.len())? == wanted)
    };
    read().unwrap_or(false)
}

fn list(root: &Path, dir: &Path, found: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            list(root, &path, found)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// The links that containers see: one for each first component, none for what is gone.
fn links(dir: &Path, files: &Files) -> Result<(), VolumeError> {
    let heads: BTreeSet<&str> = files.keys().filter_map(|p| p.split('/').next()).collect();
    for head in &heads {
        let link = dir.join(head);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(head), &link).map_err(io(&link))?;
        }
    }
    for entry in fs::read_dir(dir).map_err(io(dir))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !heads.contains(name.as_ref()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(path, data)| {
                let file = File {
                    data: data.as_bytes().to_vec(),
                    mode: 0o644,
                    owner: None,
                };
                ((*path).to_owned(), file)
            })
            .collect()
    }

    #[test]
    fn content_is_switched_at_once_and_leftovers_go() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        write(d, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(d.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(d.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::read_link(d.join("a")).unwrap(), Path::new("..data/a"));
        let first = fs::read_link(d.join("..data")).unwrap();

        write(d, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!(
            fs::read_link(d.join("..data")).unwrap(),
            first,
            "no change, no switch"
        );

        write(d, &files(&[("a", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(d.join("a")).unwrap(), "3");
        assert!(fs::symlink_metadata(d.join("sub")).is_err());
        assert!(!d.join(first).exists());
    }

    #[test]
    fn files_that_cannot_be_written_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        write(d, &files(&[("a", "1")]), None).unwrap();
        let entries = || fs::read_dir(d).unwrap().count();
        let before = entries();
        // The first file stands where the second needs a directory; a name is longer than any may be.
        let long = "x".repeat(300);
        for bad in [
            files(&[("a", "1"), ("a/b", "2")]),
            files(&[("a", "1"), (&long, "2")]),
        ] {
            for _ in 0..3 {
                write(d, &bad, None).unwrap_err();
                assert_eq!(entries(), before);
            }
        }
        assert_eq!(fs::read_to_string(d.join("a")).unwrap(), "1");
        // What a killed agent has left goes with the next write.
        fs::create_dir(d.join("..2026_11_21_22_00_00.7")).unwrap();
        write(d, &files(&[("a", "2")]), None).unwrap();
        assert_eq!(entries(), before);
        assert_eq!(fs::read_to_string(d.join("a")).unwrap(), "2");
    }

    #[test]
    fn a_path_cannot_leave_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["/etc/x", "../x", "a/../../x", "..data", ""] {
            let result = write(dir.path(), &files(&[(bad, "x")]), None);
            assert!(matches!(result, Err(VolumeError::BadPath(_))), "{bad}");
        }
    }
}
