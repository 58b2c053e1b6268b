//! `pause` and `resume`.

use libcontainer::container::Container;
use libcontainer::error::LibcontainerError;

use crate::cli::Global;
use crate::error::Error;
use crate::record::Place;

pub(crate) fn pause(global: &Global, id: &str) -> Result<(), Error> {
    change(global, id, "pause", Container::pause)
}

pub(crate) fn resume(global: &Global, id: &str) -> Result<(), Error> {
    change(global, id, "resume", Container::resume)
}

fn change(
    global: &Global,
    id: &str,
    verb: &'static str,
    act: impl FnOnce(&mut Container) -> Result<(), LibcontainerError>,
) -> Result<(), Error> {
    let (mut container, _) = Place::new(global, id)?.load()?;
    let allowed = match verb {
        "pause" => container.can_pause(),
        _ => container.can_resume(),
    };
    if !allowed {
        return Err(Error::State {
            verb,
            id: id.to_owned(),
            status: container.status(),
        });
    }
    act(&mut container).map_err(|source| Error::Container {
        verb,
        id: id.to_owned(),
        source,
    })
}
