//! How `start` learns that the program runs, or why not.
//!
//! The container's first process holds the writing end of a pipe with a name until it becomes the program:
//! then the kernel closes it. A failure is written into it first.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::fs::{Mode, OFlags};

use crate::error::Error;

/// Makes the pipe and opens it for the process to be.
pub(crate) fn make(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |error: rustix::io::Errno| Error::file("make", path)(error.into());
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .map_err(failed)?;
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)
}

/// The reading end. Open it before the process is let go.
#[derive(Debug)]
pub(crate) struct Report(File);

impl Report {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        // Not blocking: a writer that is gone already would never open it again.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map(|fd| Self(fd.into()))
            .map_err(|error| Error::file("open", path)(error.into()))
    }

    /// Waits for the process to become the program, or to say why it can't.
    pub(crate) fn wait(mut self) -> Option<String> {
        let mut text = Vec::new();
        loop {
            let mut ends = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut ends, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => break,
            }
            match self.0.read_to_end(&mut text) {
                Ok(_) => break,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}
