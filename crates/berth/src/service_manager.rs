//! What the service manager that has started berth is told, by the protocol of sd_notify(3): systemd's `Type=notify`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;

use tracing::warn;

const VARIABLE: &str = "NOTIFY_SOCKET";

static SOCKET: OnceLock<OsString> = OnceLock::new();

/// Takes the socket out of the environment: runc takes one that it finds there for its container's, and waits for it. Call it
/// before the first thread starts.
pub(crate) fn take_socket() {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return;
    };
    // SAFETY: no other thread runs yet that could look at the environment.
    unsafe { std::env::remove_var(VARIABLE) };
    let _first = SOCKET.set(path);
}

/// All parts serve.
pub(crate) fn ready() {
    tell("READY=1");
}

/// The process is about to end.
pub(crate) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(socket) = SOCKET.get() else {
        return;
    };
    if let Err(error) = send(socket, state) {
        let socket = socket.display();
        warn!(%socket, %error, "cannot tell the service manager {state}");
    }
}

/// A path, or the name of an abstract socket behind an `@`.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(state.as_bytes(), &address)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut text = [0; 64];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_sockets_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let named = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(heard(&named), "READY=1");

        let name = format!("berth-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let hidden = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(heard(&hidden), "STOPPING=1");

        assert!(send(dir.path().join("none").as_os_str(), "READY=1").is_err());
    }
}
