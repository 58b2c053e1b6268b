//! gVisor's control socket: the sentry is asked by itself, without a process of runsc's for each question.
//!
//! It speaks urpc: a JSON object with `method` and `arg`, answered by one with `success`, `err` and `result`, without lengths
//! or separators. Builds until 2023 listen at the abstract address `runsc-sandbox.ID` (with a NUL after it, which is part of
//! the name), later ones at a path that stands in the sandbox's state file.
//!
//! Nothing that a sentry says is trusted: whoever answers has to be the sandbox's own process, an answer has a size and a time,
//! and is worth no more than what the host's kernel counts for the sandbox ([`super::gvisor`]).

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// An answer takes milliseconds; a sentry that needs longer hangs.
const LIMIT: Duration = Duration::from_secs(2);
/// An answer has a few hundred bytes, and some for each container.
const MAX_ANSWER: usize = 64 << 10;
const METHOD: &str = "containerManager.Event";

/// Why the sentry gave no figures.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// There is no such socket: this runsc may have another one.
    #[error("the sandbox's control socket can't be reached: {0}")]
    Connect(io::Error),
    #[error("the sandbox's control socket: {0}")]
    Io(#[from] io::Error),
    #[error(
        "the sandbox's control socket is not that of the sandbox's process {expected}, but of {found}"
    )]
    OtherProcess { expected: i32, found: i32 },
    #[error("the sandbox did not answer within {} s", LIMIT.as_secs())]
    Timeout,
    #[error("the sandbox's answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("the sandbox's answer can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the sandbox refused: {0:?}")]
    Refused(String),
}

/// Where a sandbox is.
pub(super) struct Sandbox<'a> {
    /// runsc's `--root`.
    pub(super) root: &'a Path,
    pub(super) id: &'a str,
    pub(super) pid: i32,
}

/// What the sentry says.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Event {
    event: Inner,
    /// CPU time by container, in nanoseconds.
    #[serde(default, rename = "containerUsage")]
    pub(super) cpu: BTreeMap<String, u64>,
    /// Whether memory and processes are the container's; otherwise they are the sandbox's.
    #[serde(skip)]
    pub(super) by_container: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Inner {
    data: Data,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Data {
    memory: Memory,
    pids: Pids,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Memory {
    usage: Used,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Used {
    usage: u64,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Pids {
    current: u64,
}

impl Event {
    pub(super) fn memory(&self) -> u64 {
        self.event.data.memory.usage.usage
    }

    pub(super) fn pids(&self) -> u64 {
        self.event.data.pids.current
    }
}

/// Asks for the figures of a container.
pub(super) async fn event(sandbox: &Sandbox<'_>, container: &str) -> Result<Event, ControlError> {
    tokio::time::timeout(LIMIT, exchange(sandbox, container))
        .await
        .unwrap_or(Err(ControlError::Timeout))
}

async fn exchange(sandbox: &Sandbox<'_>, container: &str) -> Result<Event, ControlError> {
    let address = address(sandbox).map_err(ControlError::Connect)?;
    let mut stream = connect(&address).map_err(ControlError::Connect)?;
    let found = stream.peer_cred()?.pid().unwrap_or(0);
    if found != sandbox.pid {
        let expected = sandbox.pid;
        return Err(ControlError::OtherProcess { expected, found });
    }
    match call::<Event>(&mut stream, &json!(container)).await {
        Ok(event) => Ok(Event {
            by_container: true,
            ..event
        }),
        // Builds until 2023 take no container, and speak for the whole sandbox.
        Err(ControlError::Refused(why)) if why.contains("cannot unmarshal string") => {
            call(&mut stream, &json!({})).await
        }
        Err(error) => Err(error),
    }
}

fn address(sandbox: &Sandbox<'_>) -> io::Result<SocketAddrUnix> {
    if let Some(path) = path(sandbox) {
        return Ok(SocketAddrUnix::new(path)?);
    }
    let name = format!("runsc-sandbox.{}\0", sandbox.id);
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

/// The path in the sandbox's state file, which only root writes; none in that of an older runsc.
fn path(sandbox: &Sandbox<'_>) -> Option<PathBuf> {
    let name = format!("{0}_sandbox:{0}.state", sandbox.id);
    let text = std::fs::read(sandbox.root.join(name)).ok()?;
    let state: Value = serde_json::from_slice(&text).ok()?;
    let names = ["controlSocketPath", "controlAddress"];
    let mut found = names
        .iter()
        .filter_map(|name| state.get("sandbox")?.get(name)?.as_str());
    found.find(|path| path.starts_with('/')).map(PathBuf::from)
}

/// Without waiting: a sentry that no longer accepts has a full queue, which is an error here.
fn connect(address: &SocketAddrUnix) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, address)?;
    UnixStream::from_std(StdStream::from(socket))
}

#[derive(Deserialize)]
struct Answer<T> {
    success: bool,
    #[serde(default)]
    err: String,
    result: Option<T>,
}

async fn call<T: DeserializeOwned>(
    stream: &mut UnixStream,
    arg: &Value,
) -> Result<T, ControlError> {
    let request = serde_json::to_vec(&json!({"method": METHOD, "arg": arg}))?;
    stream.write_all(&request).await?;
    let mut text = Vec::new();
    loop {
        let mut answers = serde_json::Deserializer::from_slice(&text).into_iter::<Answer<T>>();
        match answers.next() {
            Some(Ok(Answer {
                success: true,
                result: Some(result),
                ..
            })) => return Ok(result),
            Some(Ok(answer)) => {
                let why: String = answer.err.chars().take(200).collect();
                return Err(ControlError::Refused(why));
            }
            Some(Err(error)) if !error.is_eof() => return Err(error.into()),
            // It goes on.
            Some(Err(_)) | None => {}
        }
        if text.len() >= MAX_ANSWER {
            return Err(ControlError::TooLong);
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            length => text.extend(more.get(..length).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests;
