//! The socket over which a runtime sends the master of a terminal that it made.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::Interest;
use tokio::net::UnixListener;

use super::error::Error;

const WAIT: Duration = Duration::from_secs(10);

/// Listens until the runtime has sent the terminal; the socket's file goes with it.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// Binds in `dir`, whose path must be short.
    pub(super) fn bind(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(format!("c{:08x}", rand::random::<u32>()));
        let bound = crate::private::bind(&path).and_then(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        let listener = bound.map_err(|source| Error::File {
            what: "console socket",
            path: path.clone(),
            source,
        })?;
        Ok(Self { path, listener })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the master out of the runtime's message.
    pub(super) async fn receive(self) -> Result<OwnedFd, Error> {
        let failed = Error::io("terminal");
        let take = async {
            let (stream, _) = self.listener.accept().await?;
            stream
                .async_io(Interest::READABLE, || take_fd(&stream))
                .await
        };
        match tokio::time::timeout(WAIT, take).await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn take_fd(stream: &tokio::net::UnixStream) -> std::io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0u8; 4096];
    let mut parts = [IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(fd);
        }
    }
    Err(std::io::Error::other(
        "the runtime's message carries no terminal",
    ))
}
