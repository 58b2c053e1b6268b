//! `delete`.

use std::time::{Duration, Instant};

use libcontainer::container::{Container, ContainerStatus};

use crate::cgroup;
use crate::cli::Global;
use crate::error::Error;
use crate::record::{Place, start_time};

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Kill it first if it runs; it is no error if there is none
    #[arg(short, long)]
    force: bool,
    /// The container's id
    id: String,
}

pub(crate) fn delete(global: &Global, args: &Delete) -> Result<(), Error> {
    remove(global, &args.id, args.force)
}

pub(super) fn remove(global: &Global, id: &str, force: bool) -> Result<(), Error> {
    let place = Place::new(global, id)?;
    let failed = |source| Error::Container {
        verb: "delete",
        id: id.to_owned(),
        source,
    };
    let mut container = match place.load() {
        Ok((container, _)) => container,
        Err(Error::Missing(_)) if force => {
            let _ = std::fs::remove_dir_all(place.own());
            return Ok(());
        }
        // A create that was killed before it had written a state: all there is to do is to forget it.
        Err(Error::Container { .. }) if force => {
            let _ = std::fs::remove_dir_all(place.own());
            let state = place.state();
            return std::fs::remove_dir_all(&state).map_err(Error::file("remove", &state));
        }
        Err(error) => return Err(error),
    };
    match container.status() {
        ContainerStatus::Stopped => {}
        ContainerStatus::Created => end(&container),
        ContainerStatus::Creating | ContainerStatus::Running | ContainerStatus::Paused if force => {
            end(&container);
        }
        status @ (ContainerStatus::Creating
        | ContainerStatus::Running
        | ContainerStatus::Paused) => {
            let id = id.to_owned();
            return Err(Error::State {
                verb: "delete",
                id,
                status,
            });
        }
    }
    cgroup::remove(&container)?;
    // Runs the hooks and removes libcontainer's folder. That of a reused pid would not be Stopped to it.
    container.state.pid = None;
    container.set_status(ContainerStatus::Stopped);
    container.delete(true).map_err(failed)?;
    let own = place.own();
    std::fs::remove_dir_all(&own).map_err(Error::file("remove", &own))
}

/// Kills all of it and waits for the first process.
fn end(container: &Container) {
    cgroup::signal_all(container, libc::SIGKILL);
    let Some(pid) = container.pid().map(|pid| pid.as_raw()) else {
        return;
    };
    let Some(started) = start_time(pid) else {
        return;
    };
    cgroup::send(pid, libc::SIGKILL);
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    while start_time(pid) == Some(started) && Instant::now() < end {
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
