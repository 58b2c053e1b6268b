//! Pipes, FIFOs and terminals as asynchronous streams.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// A descriptor in non-blocking mode, polled by the runtime.
#[derive(Debug)]
pub(crate) struct AsyncPipe(AsyncFd<OwnedFd>);

impl AsyncPipe {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        // SAFETY: the OwnedFd keeps its descriptor open and the same for as long as it lives in the AsyncFd.
        Ok(Self(unsafe { AsyncFd::register(fd)? }))
    }

    /// Opens a FIFO, made for us alone when it isn't there; never waits for its other end.
    pub(crate) fn open_fifo(path: &Path, access: OFlags) -> io::Result<Self> {
        match nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Self::new(rustix::fs::open(path, flags, Mode::empty())?)
    }

    /// Reads what is there; 0 at the end. A terminal whose other side is closed (EIO) has ended, too.
    pub(crate) async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|fd| read_now(fd.as_fd(), buf)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Reads without waiting, whatever the runtime believes of readiness.
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        read_now(self.0.get_ref().as_fd(), buf)
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| rustix::io::write(fd, bytes).map_err(io::Error::from)) {
                Ok(Ok(n)) => bytes = bytes.get(n..).unwrap_or_default(),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Err(e),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

fn read_now(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *buf) {
            Ok(n) => return Ok(n),
            Err(Errno::IO) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
