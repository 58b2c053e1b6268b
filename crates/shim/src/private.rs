//! Files, directories and sockets that are their owner's alone from the moment on that they exist.
//!
//! Bundles hold environments with secrets, and a socket of ours is as good as root: there must be no instant in which
//! the umask's modes hold. The process' umask is no way to get there, since it is that of all threads and of every
//! runtime that is called.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Makes a directory (and those above that are missing) with mode 0700. One that is there stays as it is: it may be
/// somebody's who has said so.
///
/// # Errors
/// When it can't be made, or is something else.
pub fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file of mode 0600 in one go: whoever reads it meanwhile, and whoever comes after a crash, finds the old
/// content or the new one, whole.
///
/// # Errors
/// When it can't be written; what was there is there still.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let written = create_file(part)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(part);
    }
    written
}

/// Creates an empty file of mode 0600, or empties one.
///
/// # Errors
/// When it can't be made.
pub fn create_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    // One that an older version has left keeps its mode otherwise.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Listens on a unix socket of mode 0600; `None` when somebody answers there already. A dead one's socket is
/// replaced, anything else at that path is an error.
///
/// # Errors
/// When the socket can't be bound.
pub fn listen(path: &Path) -> io::Result<Option<UnixListener>> {
    match bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !path.symlink_metadata()?.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "a file that is no socket is in its place",
                ));
            }
            if answers(path)? {
                return Ok(None);
            }
            std::fs::remove_file(path)?;
            bind(path).map(Some)
        }
        bound => bound.map(Some),
    }
}

/// Whether somebody listens on a socket.
fn answers(path: &Path) -> io::Result<bool> {
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // A queue that is full is somebody's.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Binds a socket of mode 0600 and listens on it.
///
/// # Errors
/// When something is at that path, or the system refuses.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = socket(SocketFlags::CLOEXEC)?;
    // The file takes over the mode that the socket has when it is bound (less the umask), so it never has another one.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata()
            .expect("metadata")
            .permissions()
            .mode()
            & 0o7777
    }

    #[test]
    fn what_is_made_is_closed_to_others() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("a/b/file");
        create_dir(file.parent().expect("parent")).expect("directory");
        write(&file, b"secret").expect("write");
        assert_eq!(mode(&file), 0o600);
        for made in ["a", "a/b"] {
            assert_eq!(mode(&dir.path().join(made)), 0o700, "{made}");
        }
        // What an older version left open is closed; a directory is its owner's to open.
        for (path, open) in [(file.clone(), 0o644), (dir.path().join("a/b"), 0o755)] {
            std::fs::set_permissions(&path, Permissions::from_mode(open)).expect("chmod");
        }
        create_dir(&dir.path().join("a/b")).expect("directory");
        write(&file, b"new").expect("write");
        assert_eq!(mode(&dir.path().join("a/b")), 0o755);
        assert_eq!(mode(&file), 0o600);
        assert_eq!(std::fs::read(&file).expect("read"), b"new");
        // Who has the old one open is not cut off in the middle, and a directory keeps no part of a try that failed.
        let mut old = File::open(&file).expect("open");
        write(&file, b"newer").expect("write");
        let mut seen = String::new();
        io::Read::read_to_string(&mut old, &mut seen).expect("read");
        assert_eq!(seen, "new");
        write(&dir.path().join("a/b"), b"").expect_err("a directory");
        assert!(!dir.path().join("a/b.part").exists());
    }

    #[test]
    fn a_socket_is_never_open_to_others() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("s");
        // Its mode is right before anything is done to the file.
        let listener = bind(&path).expect("bind");
        assert_eq!(mode(&path), 0o600);
        assert!(listen(&path).expect("answers").is_none());
        drop(listener);
        assert!(listen(&path).expect("replaced").is_some());
        let file = dir.path().join("file");
        std::fs::write(&file, "kept").expect("write");
        listen(&file).expect_err("no socket");
        assert_eq!(std::fs::read(&file).expect("read"), b"kept");
    }
}
