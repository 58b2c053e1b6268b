//! Files that a pod may have had its hands on: termination messages and logs.
//!
//! Whatever stands at such a path is looked at before it is opened, so that a link leads nowhere and a FIFO or a
//! device is neither waited for nor touched; and never more of it is read than the caller has use for.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

/// Opens the regular file at `relative` below the agent's own directory `base` for reading. No part of `relative` may
/// be a symbolic link, and nothing else than a regular file is opened.
pub(crate) fn open_beneath(base: &Path, relative: &Path) -> io::Result<File> {
    let base = open(
        base,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let place = openat2(
        &base,
        relative,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
    .map_err(|error| match error {
        rustix::io::Errno::LOOP => refused("it is reached through a symbolic link"),
        other => other.into(),
    })?;
    reopen(&place)
}

/// Opens what a path descriptor stands for, when that is a regular file.
fn reopen(place: &OwnedFd) -> io::Result<File> {
    let kind = FileType::from_raw_mode(fstat(place)?.st_mode);
    match kind {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(refused("it is a symbolic link")),
        _ => return Err(refused("it is not a regular file")),
    }
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// The last bytes of a file, at most `limit`, and whether that is all of it.
pub(crate) fn read_end(file: &File, limit: usize) -> io::Result<(Vec<u8>, bool)> {
    let size = file.metadata()?.len();
    let start = size.saturating_sub(limit as u64);
    let wanted = usize::try_from(size - start).unwrap_or(limit).min(limit);
    Ok((read_at(file, start, wanted)?, start == 0))
}

/// At most `limit` bytes from `offset` on; fewer where the file ends.
pub(crate) fn read_at(file: &File, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; limit];
    let mut have = 0;
    while have < limit {
        match file.read_at(&mut data[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    data.truncate(have);
    Ok(data)
}

/// At most the last `limit` bytes of a text, from a character's beginning on.
pub(crate) fn last_bytes(text: &str, limit: usize) -> &str {
    let from = text.len().saturating_sub(limit);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[from.unwrap_or(text.len())..]
}

/// At most the first `limit` bytes of a text, up to a character's end.
pub(crate) fn first_bytes(text: &str, limit: usize) -> &str {
    let to = (0..=limit.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..to.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_are_opened_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        std::fs::create_dir(base.join("d")).unwrap();
        std::fs::write(base.join("d/good"), "abc").unwrap();
        symlink("/dev/zero", base.join("zero")).unwrap();
        symlink("/etc/passwd", base.join("passwd")).unwrap();
        symlink("d", base.join("link")).unwrap();
        nix::unistd::mkfifo(&base.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let file = open_beneath(base, Path::new("d/good")).unwrap();
        assert_eq!(read_end(&file, 2).unwrap(), (b"bc".to_vec(), false));
        assert_eq!(read_end(&file, 9).unwrap(), (b"abc".to_vec(), true));
        for (path, why) in [
            ("zero", "symbolic link"),
            ("passwd", "symbolic link"),
            ("link/good", "symbolic link"),
            ("fifo", "not a regular file"),
            ("d", "not a regular file"),
        ] {
            let error = open_beneath(base, Path::new(path)).unwrap_err();
            assert!(error.to_string().contains(why), "{path}: {error}");
        }
        assert!(open_beneath(base, Path::new("../x")).is_err());
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(last_bytes("aßb", 2), "b");
        assert_eq!(last_bytes("aßb", 3), "ßb");
        assert_eq!(last_bytes("ab", 9), "ab");
        assert_eq!(first_bytes("aßb", 2), "a");
        assert_eq!(first_bytes("aßb", 9), "aßb");
        assert_eq!(first_bytes("ß", 1), "");
    }
}
