//! `start`: returns when the program runs.

use libcontainer::container::ContainerStatus;

use crate::cli::Global;
use crate::error::Error;
use crate::record::Place;
use crate::report::Report;

pub(crate) fn start(global: &Global, id: &str) -> Result<(), Error> {
    let place = Place::new(global, id)?;
    let (mut container, record) = place.load()?;
    if container.status() != ContainerStatus::Created {
        return Err(Error::State {
            verb: "start",
            id: id.to_owned(),
            status: container.status(),
        });
    }
    // Who was killed while it made the container may not have restricted it yet.
    if record.started.is_none() {
        return Err(Error::Unfinished(id.to_owned()));
    }
    let report = Report::open(&place.report())?;
    container.start().map_err(|source| Error::Container {
        verb: "start",
        id: id.to_owned(),
        source,
    })?;
    match report.wait() {
        None => Ok(()),
        Some(message) => Err(Error::Start(message)),
    }
}
