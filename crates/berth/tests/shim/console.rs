//! Terminals: runc sends the master over a socket, two threads copy between it and the FIFOs.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

use crate::process::Streams;

/// Where runc sends the master.
pub(crate) struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    pub(crate) fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("c{:08x}", rand::random::<u32>()));
        let listener = UnixListener::bind(&path)?;
        Ok(Self { path, listener })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the master and begins to copy. Blocks; runc has sent it by the time that it ends.
    pub(crate) fn attach(self, streams: Streams) -> io::Result<OwnedFd> {
        let (socket, _) = self.listener.accept()?;
        let mut byte = [0_u8; 64];
        let mut buffer = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut parts = [IoSliceMut::new(&mut byte)];
        let message = recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut parts,
            Some(buffer.as_mut_slice()),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let fd = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let fd = fd.ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let master = unsafe { OwnedFd::from_raw_fd(fd) };
        if let Some(stdin) = streams.stdin {
            copy(stdin, File::from(master.try_clone()?));
        }
        if let Some(stdout) = streams.stdout {
            copy(File::from(master.try_clone()?), stdout);
        }
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Ends with either side: a terminal whose process is gone answers EIO.
fn copy(mut from: File, mut to: File) {
    std::thread::spawn(move || io::copy(&mut from, &mut to));
}
