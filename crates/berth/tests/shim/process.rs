//! One process in the guest.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::sync::watch;

use crate::message::Exit;

/// A container's first process (whose exec id is empty) or an exec.
#[derive(Debug)]
pub(crate) struct Process {
    /// In the guest; 0 before the start.
    pub(crate) pid: u32,
    pub(crate) started: bool,
    pub(crate) exit: watch::Sender<Option<Exit>>,
    pub(crate) terminal: bool,
    pub(crate) paths: Paths,
    pub(crate) master: Option<OwnedFd>,
    /// The OCI process of an exec.
    pub(crate) spec: Vec<u8>,
}

impl Process {
    pub(crate) fn new(terminal: bool, paths: Paths, spec: Vec<u8>) -> Self {
        Self {
            pid: 0,
            started: false,
            exit: watch::Sender::new(None),
            terminal,
            paths,
            master: None,
            spec,
        }
    }
}

/// FIFOs; an empty one is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paths {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Paths {
    /// Opens all, of which somebody holds the other ends.
    pub(crate) fn open(&self) -> io::Result<Streams> {
        Ok(Streams {
            stdin: open(&self.stdin, false)?,
            stdout: open(&self.stdout, true)?,
            stderr: open(&self.stderr, true)?,
        })
    }
}

/// Opened FIFOs.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<File>,
    pub(crate) stdout: Option<File>,
    pub(crate) stderr: Option<File>,
}

/// What a process that has none gets.
pub(crate) fn stdio(file: Option<File>) -> Stdio {
    file.map_or_else(Stdio::null, Stdio::from)
}

fn open(path: &str, write: bool) -> io::Result<Option<File>> {
    if path.is_empty() {
        return Ok(None);
    }
    let file = File::options()
        .read(!write)
        .write(write)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(Some(file))
}
