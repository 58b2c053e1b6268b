//! Sockets that a killed shim, or the keeper beside it, has left.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{ShimConfig, bootstrap};
use crate::server::daemon::socket_path;
use crate::stdio::stream_socket;

pub(super) fn remove_dead(config: &ShimConfig, id: &str, bundle: &Path) {
    for socket in of_pod(config, id, bundle) {
        if is_dead(&socket) {
            // Somebody else may have been faster.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Where ours are follows from the id; where another's shim is it has said when it was started.
fn of_pod(config: &ShimConfig, id: &str, bundle: &Path) -> Vec<PathBuf> {
    let own = |group: &str| socket_path(&config.socket_dir, &config.namespace, group);
    let streams = |socket: &Path| stream_socket(&socket.to_string_lossy());
    if config.own {
        let task = own(id);
        return vec![streams(&task), task];
    }
    let mut sockets = vec![streams(&own(&format!("{id}/keeper")))];
    let noted = std::fs::read_to_string(bundle.join("address")).ok();
    let told = bootstrap::load(bundle).ok().map(|known| known.address);
    for address in noted.iter().chain(&told) {
        let address = address.trim();
        let path = address.strip_prefix("unix://").unwrap_or(address);
        // An abstract one is gone with its process.
        if path.starts_with('/') {
            sockets.push(PathBuf::from(path));
        }
    }
    sockets
}

/// Whether nobody listens at a socket any more. It does not wait: where the queue of one that listens is full, somebody does.
#[must_use]
pub fn is_dead(path: &Path) -> bool {
    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|found| found.file_type().is_socket());
    let refused = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let asker = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect(&asker, &SocketAddrUnix::new(path)?) {
            Err(Errno::CONNREFUSED) => Ok(true),
            Ok(()) | Err(_) => Ok::<_, Errno>(false),
        }
    };
    is_socket && refused().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn config(dir: &Path, own: bool) -> ShimConfig {
        ShimConfig {
            command: Vec::new(),
            own,
            keeper: Vec::new(),
            namespace: "k8s.io".to_owned(),
            socket_dir: dir.to_owned(),
            address: String::new(),
            events: None,
        }
    }

    #[test]
    fn sockets_of_the_dead_go_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let bundle = dir.path().join("bundle");
        std::fs::create_dir(&bundle).expect("a directory");
        let (theirs, file) = (dir.path().join("theirs"), dir.path().join("file"));
        std::fs::write(&file, "").expect("a file");
        std::fs::write(
            bundle.join("address"),
            format!("unix://{}", theirs.display()),
        )
        .expect("a note");
        for own in [true, false] {
            let config = config(dir.path(), own);
            let mut sockets = of_pod(&config, "pod", &bundle);
            let other = of_pod(&config, "other", Path::new("/none"));
            sockets.extend(other.iter().cloned());
            let listeners: Vec<UnixListener> = sockets
                .iter()
                .map(|path| UnixListener::bind(path).expect("a socket"))
                .collect();
            remove_dead(&config, "pod", &bundle);
            assert!(sockets.iter().all(|path| path.exists()), "they live");
            drop(listeners);
            remove_dead(&config, "pod", &bundle);
            let left: Vec<_> = sockets.iter().filter(|path| path.exists()).collect();
            assert_eq!(left, other.iter().collect::<Vec<_>>());
            other
                .iter()
                .for_each(|path| std::fs::remove_file(path).expect("it is there"));
        }
        // What an address names, and is no socket.
        std::fs::write(bundle.join("address"), file.display().to_string()).expect("a note");
        remove_dead(&config(dir.path(), false), "pod", &bundle);
        assert!(file.exists() && !theirs.exists());
    }

    #[test]
    fn one_that_listens_and_takes_nobody_is_not_dead() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("a socket");
        rustix::net::listen(&listener, 0).expect("a queue of one");
        let _waits = std::os::unix::net::UnixStream::connect(&path).expect("a place in it");
        assert!(!is_dead(&path), "its queue is full");
        drop(listener);
        assert!(is_dead(&path));
    }
}
