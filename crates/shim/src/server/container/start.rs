//! What `runc start` does, done by us.
//!
//! A container that runc has created waits at `exec.fifo` in runc's state directory for somebody to read a byte, and
//! `runc start` is no more than that read and the FIFO's removal (whose absence marks the container as running). Doing
//! it here spares a start of runc on the way to every running container. Where there is no such FIFO, or nothing
//! comes of it, the runtime is called.

use std::io;
use std::path::Path;
use std::time::Duration;

use berth_oci::runtime::RuntimeKind;
use rustix::fs::{Mode, OFlags};

use super::Container;
use crate::fd::AsyncPipe;

const FIFO: &str = "exec.fifo";
/// The created process is about to open the FIFO, if it hasn't yet.
const WAIT: Duration = Duration::from_secs(5);

impl Container {
    /// Lets a container that runc has created run; false when the runtime has to be called for it.
    pub(super) async fn release(&self) -> bool {
        if self.runtime.command.kind != RuntimeKind::Runc {
            return false;
        }
        let fifo = self.runtime.command.root.join(&self.id).join(FIFO);
        let read = tokio::time::timeout(WAIT, read(&fifo));
        tokio::select! {
            read = read => matches!(read, Ok(Ok(1..))) && std::fs::remove_file(&fifo).is_ok(),
            // It died in the creation: the runtime knows how to say that.
            _ = self.init.wait() => false,
        }
    }
}

async fn read(fifo: &Path) -> io::Result<usize> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let pipe = AsyncPipe::new(rustix::fs::open(fifo, flags, Mode::empty())?)?;
    pipe.read(&mut [0]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_byte_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join(FIFO);
        assert!(read(&fifo).await.is_err());
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let writer = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::write(fifo, b"0")
        });
        assert_eq!(read(&fifo).await.unwrap(), 1);
        writer.join().unwrap().unwrap();
    }
}
