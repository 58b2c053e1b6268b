//! What `runc start` does, done by us.
//!
//! A container that runc has created waits at `exec.fifo` in runc's state directory for somebody to read a byte, and
//! `runc start` is no more than that read and the FIFO's removal (whose absence marks the container as running). Doing
//! it here spares a start of runc on the way to every running container. Where there is no such FIFO, or nothing
//! comes of it, the runtime is called.
//!
//! The process keeps its end of the FIFO until the program takes it over, so the FIFO's end says when that was.

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
/// How long a busy machine may keep it from becoming the program before the start is told.
const TAKEOVER: Duration = Duration::from_secs(1);

impl Container {
    /// Lets a container that runc has created run; false when the runtime has to be called for it.
    pub(super) async fn release(&self) -> bool {
        if self.runtime.command.kind != RuntimeKind::Runc {
            return false;
        }
        let _stage = berth_trace::stage("exec.fifo");
        let fifo = self.runtime.command.root.join(&self.id).join(FIFO);
        let pipe = tokio::select! {
            waiting = tokio::time::timeout(WAIT, waiting(&fifo)) => match waiting {
                Ok(Ok(pipe)) if std::fs::remove_file(&fifo).is_ok() => pipe,
                Ok(_) | Err(_) => return false,
            },
            // It died in the creation: the runtime knows how to say that.
            _ = self.init.wait() => return false,
        };
        // The program takes the process over, which closes the FIFO: what is sent from now on is the program's to get.
        // Nobody waits for a pause process, which is last in line for the CPU.
        if !self.config.is_sandbox() {
            let _ = tokio::time::timeout(TAKEOVER, to_end(&pipe)).await;
        }
        true
    }
}

/// Takes the byte of a process that waits to be started.
async fn waiting(fifo: &Path) -> io::Result<AsyncPipe> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let pipe = AsyncPipe::new(rustix::fs::open(fifo, flags, Mode::empty())?)?;
    match pipe.read(&mut [0]).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(pipe),
    }
}

/// Waits until nobody has the other end any more.
async fn to_end(pipe: &AsyncPipe) -> io::Result<()> {
    while pipe.read(&mut [0; 16]).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_byte_is_waited_for_and_then_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join(FIFO);
        assert!(waiting(&fifo).await.is_err());
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (done, hold) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn({
            let fifo = fifo.clone();
            move || {
                let mut file = std::fs::File::options().write(true).open(fifo).unwrap();
                std::io::Write::write_all(&mut file, b"0").unwrap();
                let _ = hold.recv();
            }
        });
        let pipe = waiting(&fifo).await.unwrap();
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, to_end(&pipe)).await.is_err());
        drop(done);
        to_end(&pipe).await.unwrap();
        writer.join().unwrap();
    }
}
