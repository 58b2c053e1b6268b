//! `delete`: ends what a dead daemon left of a container.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use protobuf::Message;

use super::args::Args;
use super::error::Error;
use super::service::delete_response;
use super::{persist, rootfs};
use crate::client::Exit;

/// What killed containers are said to have ended with.
const KILLED: u32 = 137;

pub(super) fn delete(args: &Args) -> Result<ExitCode, Error> {
    let bundle = match &args.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().map_err(Error::io("working directory"))?,
    };
    // Without it the container would live on, and be told to be gone.
    if let Some(command) = persist::load_command(&bundle)? {
        let log = bundle.join(".runtime-delete.log");
        let status = Command::new(&command.binary)
            .args(command.global_args(&log))
            .args(["delete", "--force", &args.id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = std::fs::remove_file(log);
        status.map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::MissingBinary(command.binary.clone()),
            _ => Error::Spawn {
                binary: command.binary.clone(),
                source,
            },
        })?;
    }
    rootfs::unmount(&bundle.join("rootfs"));
    let exit = persist::load_exit(&bundle).unwrap_or(Exit {
        code: KILLED,
        at: SystemTime::now(),
    });
    let bytes = delete_response(0, exit)
        .write_to_bytes()
        .unwrap_or_default();
    std::io::stdout()
        .write_all(&bytes)
        .map_err(Error::io("stdout"))?;
    Ok(ExitCode::SUCCESS)
}
