//! What is kept of a container besides libcontainer's own state, in `ROOT/.berth/ID`: its bundle as
//! libcontainer gets it, its filter, and how to tell its process from another with the same pid.

use std::path::{Path, PathBuf};

use libcontainer::container::{Container, ContainerStatus};
use serde::{Deserialize, Serialize};

use crate::cli::Global;
use crate::error::Error;

/// The folder beside the containers; no id begins with a dot.
const FOLDER: &str = ".berth";

/// What is kept as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The caller's bundle.
    pub(crate) bundle: PathBuf,
    /// The root file system.
    pub(crate) rootfs: PathBuf,
    /// When the first process began, in the kernel's ticks since boot. `None` until `create` is done.
    #[serde(default)]
    pub(crate) started: Option<u64>,
}

/// The places of one container's files.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    root: PathBuf,
    id: String,
}

impl Place {
    /// The place of a container.
    ///
    /// # Errors
    /// When the id could lead elsewhere.
    pub(crate) fn new(global: &Global, id: &str) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.starts_with('.') || !id.chars().all(plain) {
            return Err(Error::Id(id.to_owned()));
        }
        Ok(Self {
            root: global.root.clone(),
            id: id.to_owned(),
        })
    }

    /// libcontainer's folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join(&self.id)
    }

    /// Our folder, which is also libcontainer's bundle.
    pub(crate) fn own(&self) -> PathBuf {
        self.root.join(FOLDER).join(&self.id)
    }

    pub(crate) fn filter(&self) -> PathBuf {
        self.own().join("filter")
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.own().join("report")
    }

    fn record(&self) -> PathBuf {
        self.own().join("record.json")
    }

    pub(crate) fn save(&self, record: &Record) -> Result<(), Error> {
        let path = self.record();
        let json = serde_json::to_vec(record).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        std::fs::write(&path, json).map_err(Error::file("write", &path))
    }

    /// The container as libcontainer knows it, and our record of it.
    pub(crate) fn load(&self) -> Result<(Container, Record), Error> {
        let state = self.state();
        if !state.is_dir() {
            return Err(Error::Missing(self.id.clone()));
        }
        let mut container = Container::load(state).map_err(|source| Error::Container {
            verb: "load",
            id: self.id.clone(),
            source,
        })?;
        let record = self.read()?;
        let other = || match (container.pid(), record.started) {
            (Some(pid), Some(started)) => start_time(pid.as_raw()) != Some(started),
            _ => false,
        };
        if container.status() != ContainerStatus::Stopped && other() {
            container.set_status(ContainerStatus::Stopped);
        }
        Ok((container, record))
    }

    fn read(&self) -> Result<Record, Error> {
        let path = self.record();
        match std::fs::read(&path) {
            Ok(json) => {
                serde_json::from_slice(&json).map_err(|source| Error::Json { path, source })
            }
            // A create that was cut short.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(Error::file("read", &path)(error)),
        }
    }
}

/// When a process began, in ticks since boot; `None` when it is gone or a zombie.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    parse_start_time(&stat)
}

fn parse_start_time(stat: &str) -> Option<u64> {
    // The name may hold anything, so count from its closing parenthesis; the state is field 3, the start 22.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_found_behind_any_name() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse_start_time(&format!("7 (a) b) S {rest}")), Some(4711));
        assert_eq!(parse_start_time(&format!("7 (a) Z {rest}")), None);
        let own = i32::try_from(std::process::id()).expect("pid");
        assert!(start_time(own).is_some());
    }

    #[test]
    fn ids_stay_in_the_root() {
        let global = Global {
            root: PathBuf::from("/r"),
            systemd_cgroup: false,
        };
        for id in ["", ".", "..", ".berth", "a/b", "a b", "a\u{e9}"] {
            assert!(Place::new(&global, id).is_err(), "{id:?}");
        }
        for id in ["a", "A-b_c+d.e", "0"] {
            assert!(Place::new(&global, id).is_ok(), "{id:?}");
        }
    }
}
