//! Unix sockets that are root's alone from the moment on that they exist.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;

use berth_cri_api::authority::Tolerant;
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to, connect, listen,
    socket_with,
};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt as _};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Why a socket is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("another program answers on it")]
    InUse,
    #[error("a file that is no socket is in its place")]
    NoSocket,
    #[error(
        "its directory belongs to user {owner} with mode {mode:04o}, so that others than root could put sockets into it"
    )]
    Open { owner: u32, mode: u32 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes the directory of sockets, or looks at the one that is there: nobody else may write into it, since whoever can
/// put a socket there is taken for a device plugin.
pub(crate) fn directory(path: &Path) -> Result<(), SocketError> {
    DirBuilder::new().recursive(true).mode(0o750).create(path)?;
    let found = fs::metadata(path)?;
    let (owner, mode) = (found.uid(), found.permissions().mode() & 0o7777);
    let own = rustix::process::geteuid().as_raw();
    if owner != own || mode & 0o022 != 0 {
        return Err(SocketError::Open { owner, mode });
    }
    Ok(())
}

/// Binds a socket of mode 0600. One that a killed agent has left is replaced, a live one is not.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket),
        Ok(_) if answers(path)? => return Err(SocketError::InUse),
        Ok(_) => fs::remove_file(path)?,
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(io::Error::from)?;
    // The file gets the mode that its socket has.
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    bind_to(&socket, &address).map_err(io::Error::from)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG).map_err(io::Error::from)?;
    Ok(UnixListener::from_std(StdListener::from(socket))?)
}

/// The connections that a socket gets, those of clients that send its path as `:authority` included.
pub(crate) fn connections(
    listener: UnixListener,
) -> impl Stream<Item = io::Result<Tolerant<UnixStream>>> {
    UnixListenerStream::new(listener).map(|stream| stream.map(Tolerant::new))
}

fn answers(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // Its queue is full: somebody has one.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_and_one_that_is_left_over_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("sockets");
        directory(&place).unwrap();
        let path = place.join("kubelet.sock");
        let first = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert!(matches!(bind(&path), Err(SocketError::InUse)));
        drop(first);
        assert!(path.exists());
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NoSocket)));
    }

    #[test]
    fn a_directory_that_others_write_into_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o1777, 0o770, 0o722] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let refused = directory(dir.path()).unwrap_err().to_string();
            assert!(refused.contains("others than root"), "{refused}");
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        directory(dir.path()).unwrap();
    }
}
