//! The FIFOs of a container. We make them, and have both outputs open for reading before the shim is told of them: some
//! shims (Kata's) open them without waiting for a reader, and none then loses what it writes first.

use std::io;
use std::path::Path;

use rustix::fs::OFlags;

use crate::fd::AsyncPipe;
use crate::server::error::Error;
use crate::server::io::{Io, Wiring};
use crate::stdio::{Input, Output};
use crate::stream::{Fifos, Kind};

/// Opens a container's FIFOs, made where they are missing; `anew` replaces what an attempt before left.
pub(super) fn open(fifos: &Fifos, anew: bool) -> Result<Io, Error> {
    crate::private::create_dir(&fifos.dir).map_err(failed(&fifos.dir))?;
    let fifo = |kind, access| fifo(&fifos.path(kind), access, anew);
    let stdin = if fifos.stdin {
        // Both ways: opening never waits for the shim, and its end does not see ours come and go.
        Some(fifo(Kind::Stdin, OFlags::RDWR)?)
    } else {
        None
    };
    // One way: the end comes when the shim closes its side. Before it has opened it there is nothing to read, not even
    // an end, for a poll of a FIFO tells of no end before it had a writer.
    let mut outputs = vec![(Kind::Stdout, fifo(Kind::Stdout, OFlags::RDONLY)?)];
    if !fifos.terminal {
        outputs.push((Kind::Stderr, fifo(Kind::Stderr, OFlags::RDONLY)?));
    }
    let wiring = Wiring {
        stdin: if fifos.stdin {
            Input::Stream {
                once: fifos.stdin_once,
            }
        } else {
            Input::Null
        },
        stdout: Output::Log(fifos.log.clone()),
        stderr: Output::Log(fifos.log.clone()),
        terminal: fifos.terminal,
    };
    Io::of_fifos(wiring, stdin, outputs)
}

fn fifo(path: &Path, access: OFlags, anew: bool) -> Result<AsyncPipe, Error> {
    if anew && path.exists() {
        std::fs::remove_file(path).map_err(failed(path))?;
    }
    AsyncPipe::open_fifo(path, access).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        what: "FIFO",
        path,
        source,
    }
}
