//! `exec`.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use libcontainer::container::ContainerStatus;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::{Capability, Process, Spec};

use super::run::wait;
use crate::bundle::plain;
use crate::cgroup;
use crate::cli::Global;
use crate::error::Error;
use crate::launch::Launch;
use crate::record::Place;
use crate::seccomp::Filter;

#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// Unix socket to send the terminal's master end to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// A variable more
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// UID or UID:GID
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// A group more
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// File with the process as JSON
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Don't wait for the process
    #[arg(short, long)]
    detach: bool,
    /// File to write the pid to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// No executing gives more privileges
    #[arg(long)]
    no_new_privs: bool,
    /// A capability more
    #[arg(long, value_name = "CAP_NAME")]
    cap: Vec<String>,
    /// Pass so many descriptors more than the standard streams
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: i32,
    /// In a paused container too
    #[arg(long)]
    ignore_paused: bool,
    /// In a cgroup below the container's
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
    /// The container's id
    id: String,
    /// The command, when there is no --process
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn exec(global: &Global, args: Exec) -> Result<u8, Error> {
    let place = Place::new(global, &args.id)?;
    let (container, record) = place.load()?;
    match container.status() {
        ContainerStatus::Running => {}
        ContainerStatus::Paused if args.ignore_paused => {}
        ContainerStatus::Stopped => return Err(Error::NotRunning(args.id)),
        status @ (ContainerStatus::Creating
        | ContainerStatus::Created
        | ContainerStatus::Paused) => {
            let id = args.id;
            return Err(Error::State {
                verb: "exec in",
                id,
                status,
            });
        }
    }
    let process = match &args.process {
        Some(path) => read(path)?,
        None => described(&args, &record.bundle)?,
    };
    let filter = Filter::load(&place.filter())?;
    let plain = memory(&plain(&process)?)?;
    let config = place.own().join("config.json");
    let spec = Spec::load(&config).map_err(|source| Error::Spec {
        path: config,
        source,
    })?;
    let away = cgroup::join_others(&spec)?;
    let launch = Launch::new(process, filter).in_keyring(&args.id);
    let failed = |source| Error::Container {
        verb: "exec in",
        id: args.id.clone(),
        source,
    };
    let pid = ContainerBuilder::new(args.id.clone(), SyscallType::default())
        .with_executor(launch)
        .with_root_path(&global.root)
        .map_err(failed)?
        .with_console_socket(args.console_socket.as_ref())
        .with_pid_file(args.pid_file.as_ref())
        .map_err(failed)?
        .with_preserved_fds(args.preserve_fds)
        .as_tenant()
        .with_detach(args.detach)
        .with_process(Some(format!("/proc/self/fd/{}", plain.as_raw_fd())))
        .with_ignore_paused(args.ignore_paused)
        .with_sub_cgroup(args.cgroup.clone())
        .build()
        .map_err(failed)?;
    drop(away);
    if args.detach {
        return Ok(0);
    }
    wait(pid.as_raw())
}

fn read(path: &Path) -> Result<Process, Error> {
    let json = std::fs::read(path).map_err(Error::file("read", path))?;
    serde_json::from_slice(&json).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })
}

/// The container's own process, changed as the flags say.
fn described(args: &Exec, bundle: &Path) -> Result<Process, Error> {
    let path = bundle.join("config.json");
    let spec = Spec::load(&path).map_err(|source| Error::Spec { path, source })?;
    let mut process = spec.process().clone().ok_or(Error::Absent("process"))?;
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    for entry in &args.env {
        let variables = process.env_mut().get_or_insert_default();
        let name = entry.split('=').next().unwrap_or_default();
        variables.retain(|old| old.split('=').next() != Some(name));
        variables.push(entry.clone());
    }
    if let Some(user) = &args.user {
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        let number = |text: &str| {
            let wrong = |_| Error::Unsupported(format!("user {user:?} is not UID or UID:GID"));
            text.parse::<u32>().map_err(wrong)
        };
        let (uid, gid) = (number(uid)?, number(gid)?);
        process.user_mut().set_uid(uid).set_gid(gid);
    }
    if !args.additional_gids.is_empty() {
        process
            .user_mut()
            .set_additional_gids(Some(args.additional_gids.clone()));
    }
    if !args.cap.is_empty() {
        let mut sets = process.capabilities().clone().unwrap_or_default();
        for name in &args.cap {
            let unknown = || Error::Unsupported(format!("capability {name:?} is not known"));
            let capability: Capability =
                serde_json::from_value(name.as_str().into()).map_err(|_| unknown())?;
            let with = |set: &Option<std::collections::HashSet<Capability>>| {
                let mut set = set.clone().unwrap_or_default();
                set.insert(capability);
                Some(set)
            };
            let (bounding, effective, permitted) = (
                with(sets.bounding()),
                with(sets.effective()),
                with(sets.permitted()),
            );
            sets.set_bounding(bounding)
                .set_effective(effective)
                .set_permitted(permitted);
        }
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}

/// A file in memory with the process as libcontainer gets it.
fn memory(process: &Process) -> Result<File, Error> {
    let wrong = |error: std::io::Error| Error::System("write a memory file", error);
    let fd = rustix::fs::memfd_create("process", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|error| wrong(error.into()))?;
    let mut file = File::from(fd);
    let json = super::list::json(process)?;
    file.write_all(json.as_bytes()).map_err(wrong)?;
    Ok(file)
}
