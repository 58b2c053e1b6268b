//! A directory of manifests on this machine: static pods, add-ons.
//!
//! Whoever writes there runs what he likes, so directory and files must be root's (or our own user's) alone to write. What is there
//! is found by names, sizes and times; a file is read only when it is another one than before.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// So many files a directory may have.
const MAX_FILES: usize = 1024;

/// Why a file is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system's reason.
    #[error("cannot read it: {0}")]
    Read(io::Error),
    /// A FIFO, a device, a socket.
    #[error("it is no regular file")]
    NotRegular,
    /// Larger than the reader takes.
    #[error("it has more than {0} bytes")]
    Large(u64),
    /// Others may write it.
    #[error(
        "it belongs to user {owner} with mode {mode:04o}: whoever writes it runs what he likes on this machine, so it must be root's alone to write"
    )]
    Open {
        /// Its user.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// It is no text.
    #[error("it is not UTF-8")]
    Text,
}

/// Why a directory says nothing.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The operating system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Others may write it.
    #[error(
        "it belongs to user {owner} with mode {mode:04o}: whoever writes there runs what he likes on this machine, so it must be root's alone to write"
    )]
    Open {
        /// Its user.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// More files than anybody looks after.
    #[error("it has more than {MAX_FILES} files")]
    Many,
}

/// What tells that a file is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Found {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// All files by path, those of subdirectories and hidden ones left out; without a text where a file is as it was.
pub type Look = BTreeMap<PathBuf, (Found, Option<Result<String, FileError>>)>;

/// Looks at a directory. One that isn't there is as good as empty. A file that is as it was in `old` is not read again, and
/// none with more bytes than `limit`.
///
/// # Errors
/// When the directory can't be read, has too many files, or is others' to write.
pub fn look(
    dir: &Path,
    old: &BTreeMap<PathBuf, Found>,
    limit: u64,
) -> Result<Look, DirectoryError> {
    let mut all = Look::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    if let Some((owner, mode)) = open_to_others(&fs::metadata(dir)?) {
        return Err(DirectoryError::Open { owner, mode });
    }
    for entry in entries {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        // One that went away meanwhile is not there.
        let Ok(meta) = fs::metadata(&path) else {
            continue;
        };
        if hidden || meta.is_dir() {
            continue;
        }
        if all.len() == MAX_FILES {
            return Err(DirectoryError::Many);
        }
        let found = Found::of(&meta);
        let text = (old.get(&path) != Some(&found)).then(|| read(&path, limit));
        all.insert(path, (found, text));
    }
    Ok(all)
}

fn open_to_others(meta: &fs::Metadata) -> Option<(u32, u32)> {
    let (owner, mode) = (meta.uid(), meta.permissions().mode() & 0o7777);
    let own = rustix::process::geteuid().as_raw();
    (owner != own && owner != 0 || mode & 0o022 != 0).then_some((owner, mode))
}

fn read(path: &Path, limit: u64) -> Result<String, FileError> {
    // A FIFO would wait for who writes.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(FileError::Read)?;
    content(file, limit)
}

fn content(file: File, limit: u64) -> Result<String, FileError> {
    let meta = file.metadata().map_err(FileError::Read)?;
    if !meta.is_file() {
        return Err(FileError::NotRegular);
    }
    if let Some((owner, mode)) = open_to_others(&meta) {
        return Err(FileError::Open { owner, mode });
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(FileError::Read)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
        return Err(FileError::Large(limit));
    }
    String::from_utf8(bytes).map_err(|_| FileError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_roots_alone_and_only_what_changed_is_read_again() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("manifests");
        let old = BTreeMap::new();
        let look = |old: &BTreeMap<PathBuf, Found>| look(&dir, old, 1000);
        assert!(look(&old).unwrap().is_empty());
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let write = |name: &str, text: &[u8], mode: u32| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let good = write("a.yaml", b"kind: Pod", 0o644);
        let open = write("b.yaml", b"kind: Pod", 0o666);
        let large = write("c.yaml", &[b'x'; 1001], 0o644);
        let binary = write("d.yaml", &[0xff], 0o644);
        write(".hidden.yaml", b"kind: Pod", 0o644);
        fs::create_dir(dir.join("sub")).unwrap();
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let mut all = look(&old).unwrap();
        assert_eq!(
            all.keys().collect::<Vec<_>>(),
            [&good, &open, &large, &binary, &fifo]
        );
        let mut text =
            |path: &PathBuf| all.get_mut(path).and_then(|(_, text)| text.take()).unwrap();
        assert_eq!(text(&good).unwrap(), "kind: Pod");
        assert!(matches!(text(&open), Err(FileError::Open { .. })));
        assert!(matches!(text(&large), Err(FileError::Large(1000))));
        assert!(matches!(text(&binary), Err(FileError::Text)));
        assert!(matches!(text(&fifo), Err(FileError::NotRegular)));
        let old = all
            .into_iter()
            .map(|(path, (found, _))| (path, found))
            .collect();
        assert!(look(&old).unwrap().values().all(|(_, text)| text.is_none()));
        write("a.yaml", b"kind: Job", 0o644);
        let again = look(&old).unwrap();
        let read: Vec<_> = again
            .iter()
            .filter(|(_, (_, text))| text.is_some())
            .collect();
        assert_eq!((read.len(), read[0].0), (1, &good));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(look(&old), Err(DirectoryError::Open { .. })));
    }
}
