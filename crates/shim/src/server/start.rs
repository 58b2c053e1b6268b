//! `start`: sockets first, then the daemon, then the address.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use super::args::Args;
use super::config::Config;
use super::daemon;
use super::error::Error;
use super::serve::{self, Daemon};
use crate::private;
use crate::stdio::stream_socket;

pub(super) fn start(args: &Args) -> Result<ExitCode, Error> {
    let bundle = std::env::current_dir().map_err(Error::io("working directory"))?;
    let config = Config::find(&bundle)?.unwrap_or_default();
    let group = config.sandbox_id().unwrap_or(&args.id);
    let dir = daemon::socket_dir();
    let socket = daemon::socket_path(&dir, &args.namespace, group);
    let address = format!("unix://{}", socket.display());

    if group != args.id && UnixStream::connect(&socket).is_ok() {
        // The pod's shim is there already: it takes this container, too.
        return answer(&bundle, &address);
    }
    daemon::make_socket_dir(&dir)?;
    let Some(task) = daemon::bind(&socket)? else {
        return answer(&bundle, &address);
    };
    let streams_path = stream_socket(&address);
    let _ = std::fs::remove_file(&streams_path);
    let bind_failed = |source| Error::File {
        what: "socket",
        path: streams_path.clone(),
        source,
    };
    let streams = private::bind(&streams_path).map_err(bind_failed)?;

    let daemon = Daemon {
        namespace: args.namespace.clone(),
        socket_dir: dir,
        sockets: vec![socket, streams_path.clone()],
        task,
        streams,
        debug: args.debug,
    };
    match daemon::fork()? {
        None => {
            let keep = [daemon.task.as_fd(), daemon.streams.as_fd()];
            let detached = daemon::detach(&bundle.join("shim.log"), &keep);
            Ok(detached.map_or(ExitCode::FAILURE, |()| serve::serve(daemon)))
        }
        Some(child) => {
            let _ = private::write(&bundle.join("shim.pid"), child.to_string().as_bytes());
            answer(&bundle, &address)
        }
    }
}

/// The address in the form that the caller understands.
fn answer(bundle: &Path, address: &str) -> Result<ExitCode, Error> {
    let _ = private::write(&bundle.join("address"), address.as_bytes());
    let version = std::env::var("MAX_SHIM_VERSION")
        .ok()
        .and_then(|v| v.parse::<u32>().ok())
        .unwrap_or(2);
    let text = if version >= 3 {
        serde_json::json!({"version": 3, "address": address, "protocol": "ttrpc"}).to_string()
    } else {
        address.to_owned()
    };
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::io("stdout"))?;
    Ok(ExitCode::SUCCESS)
}
