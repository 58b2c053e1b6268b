//! Runtime handlers: from a RuntimeClass's handler name to what runs the pod.
//!
//! A table is read from berth's own file or from what a machine already has (containerd's or
//! CRI-O's configuration), then every binary is probed. A handler that can't run stays in the
//! table with the reason; a default handler that can't run is an error.

mod annotations;
mod arguments;
mod built_in;
mod containerd;
mod crio;
mod definition;
mod detect;
mod docker;
mod document;
mod gvisor;
mod import;
mod inputs;
mod isolation;
mod kata;
mod misplaced;
mod misspelt;
mod own;
mod refused;
mod reload;
mod shim_info;
mod survey;
mod table;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

pub use annotations::AnnotationMatch;
pub(crate) use arguments::command;
pub use definition::{Definition, RuntimeDef, Sandboxer, WARM_MAX};
pub use document::Origin;
pub(crate) use gvisor::{GvisorSettings, settings as gvisor_settings};
pub use import::Warning;
pub(crate) use inputs::Inputs;
pub use refused::HandlerRefused;
pub(crate) use reload::follow;
pub use survey::Survey;
pub use table::{Features, Handler, HandlerState, HandlerTable};
pub(crate) use table::{gvisor_settings as settings_in_words, kind_name, words};

/// Where the handler table comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerSource {
    /// runc as the default, crun, runsc, youki, Kata's and NVIDIA's when they are installed, and the runtime inside berth,
    /// which is the default where runc is missing.
    BuiltIn,
    /// berth's own TOML and its drop-ins.
    Berth(PathBuf),
    /// containerd's config.toml, versions 1 to 4, with its imports.
    Containerd(PathBuf),
    /// CRI-O's crio.conf and crio.conf.d.
    Crio(PathBuf),
    /// Docker's daemon.json, which is refused with the reason.
    Docker(PathBuf),
}

impl HandlerSource {
    /// The main file; `None` for what is built in.
    pub(crate) fn path(&self) -> Option<&std::path::Path> {
        match self {
            Self::BuiltIn => None,
            Self::Berth(path) | Self::Containerd(path) | Self::Crio(path) | Self::Docker(path) => {
                Some(path)
            }
        }
    }

    /// Reads the source and probes every handler. Blocks: it reads files and runs programs.
    ///
    /// `embedded` is the command of the runtime inside berth, empty where there is none.
    ///
    /// # Errors
    /// When a file can't be read or understood, or when the default handler can't run.
    pub fn load(&self, embedded: &[OsString]) -> Result<HandlerTable, HandlersError> {
        HandlerTable::probe(self.import(embedded)?, embedded)
    }

    /// Every handler that the source names, probed, whether or not a start would go on with it: to judge a
    /// configuration, not to run with it. Blocks. `embedded` is as for [`Self::load`].
    ///
    /// # Errors
    /// When the main file can't be read or understood, or names no handler.
    pub fn survey(&self, embedded: &[OsString]) -> Result<Survey, HandlersError> {
        Survey::of(self.read(embedded)?, embedded)
    }

    /// The directories of registries' settings that stand beside the handlers. Blocks: it reads files.
    ///
    /// # Errors
    /// When a file can't be read or understood.
    pub fn hosts_dirs(&self, embedded: &[OsString]) -> Result<Vec<PathBuf>, HandlersError> {
        Ok(self.import(embedded)?.hosts_dirs)
    }

    /// What the source names, unprobed.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn definitions(&self) -> Result<Vec<Definition>, HandlersError> {
        Ok(self.import(&[])?.handlers)
    }

    /// What a start goes on with.
    fn import(&self, embedded: &[OsString]) -> Result<import::Imported, HandlersError> {
        let mut imported = self.read(embedded)?;
        if imported.refused.is_empty() {
            Ok(imported)
        } else {
            Err(imported.refused.remove(0))
        }
    }

    fn read(&self, embedded: &[OsString]) -> Result<import::Imported, HandlersError> {
        let has_embedded = !embedded.is_empty();
        match self {
            Self::BuiltIn => Ok(built_in::table(has_embedded)),
            Self::Berth(path) => own::import(path, has_embedded),
            Self::Containerd(path) => containerd::import(path),
            Self::Crio(path) => crio::import(path),
            Self::Docker(path) => Err(docker::refuse(path)),
        }
    }
}

/// Why there is no handler table.
#[derive(Debug, thiserror::Error)]
pub enum HandlersError {
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser said.
        message: String,
    },
    /// A value has no meaning.
    #[error("{origin}: {message}")]
    Invalid {
        /// Where.
        origin: Origin,
        /// What is wrong with it.
        message: String,
    },
    /// An imported file is missing.
    #[error("{origin}: cannot import")]
    Import {
        /// The `imports` line.
        origin: Origin,
        /// What the system said.
        source: std::io::Error,
    },
    /// Docker's configuration was given.
    #[error(
        "{}: this is Docker's daemon.json ({names}); Kubernetes reached Docker through dockershim, which never \
         passed a runtime handler on, so there is nothing to import. Write each runtime as [handlers.NAME] with \
         binary = PATH and args = [...] into berth's own configuration", path.display()
    )]
    Docker {
        /// The file.
        path: PathBuf,
        /// The runtimes it names.
        names: String,
    },
    /// A source without a single handler.
    #[error("the configuration names no runtime handler")]
    NoHandlers,
    /// The default handler can't run.
    #[error("the default runtime handler (chosen at {origin}) is unusable")]
    Default {
        /// Where it was chosen.
        origin: Origin,
        /// Why it can't run.
        source: HandlerRefused,
    },
}
