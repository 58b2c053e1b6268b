//! `run`: create, start, wait, delete; in the foreground, with the caller's streams.

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::create::{Create, create};
use super::{delete, start};
use crate::cli::Global;
use crate::error::Error;
use crate::record::Place;

pub(crate) fn run(global: &Global, args: &Create) -> Result<u8, Error> {
    create(global, args)?;
    let result = start::start(global, &args.id).and_then(|()| {
        let (container, _) = Place::new(global, &args.id)?.load()?;
        container.pid().map_or(Ok(255), |pid| wait(pid.as_raw()))
    });
    let removed = delete::remove(global, &args.id, true);
    let code = result?;
    removed.map(|()| code)
}

/// Waits for a child and gives its exit code, or 128 and its signal.
pub(super) fn wait(pid: i32) -> Result<u8, Error> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(u8::try_from(code & 0xff).unwrap_or(255)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(255));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::System("wait for the process", error.into())),
        }
    }
}
