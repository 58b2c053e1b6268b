//! The handler table in force: every definition, probed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::definition::{Definition, RuntimeDef};
use super::document::Origin;
use super::import::{Imported, Warning};
use super::probe::{self, Features};
use super::{HandlersError, built_in};

/// A runtime by its command line, and what that line's dialect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// runc, and anything that behaves like it.
    Runc,
    /// crun.
    Crun,
    /// youki.
    Youki,
    /// gVisor.
    Runsc,
    /// A containerd shim v2 that is not berth's.
    Shim,
}

impl Flavor {
    fn of(definition: &Definition) -> Self {
        let RuntimeDef::Oci { binary, .. } = &definition.runtime else {
            return Self::Shim;
        };
        let file = binary
            .file_name()
            .and_then(|file| file.to_str())
            .unwrap_or_default();
        match file {
            _ if file.contains("runsc") => Self::Runsc,
            _ if file.contains("crun") => Self::Crun,
            _ if file.contains("youki") => Self::Youki,
            _ => Self::Runc,
        }
    }

    /// The name in tables and annotations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
            Self::Runsc => "runsc",
            Self::Shim => "shim",
        }
    }
}

/// A handler and what a look at the machine said of it.
#[derive(Debug, Clone)]
pub struct Handler {
    /// As configured.
    pub definition: Definition,
    /// The command line's dialect.
    pub flavor: Flavor,
    /// Whether it can run pods.
    pub state: HandlerState,
}

/// Whether a handler can run pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerState {
    /// Its binary answers.
    Usable {
        /// The full path.
        binary: PathBuf,
        /// As the binary says.
        version: String,
        /// As probed.
        features: Features,
    },
    /// It can't.
    Broken {
        /// Why.
        reason: String,
    },
}

/// Which handler runs what.
#[derive(Debug, Clone)]
pub struct HandlerTable {
    default: String,
    default_origin: Origin,
    handlers: BTreeMap<String, Handler>,
    /// Settings beside the handlers.
    pub(crate) cni_conf_dir: Option<PathBuf>,
    pub(crate) cni_bin_dirs: Vec<PathBuf>,
    pub(crate) hosts_dirs: Vec<PathBuf>,
    warnings: Vec<Warning>,
    files: Vec<PathBuf>,
}

/// A handler that a pod asked for and can't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandlerRefused {
    /// No configuration names it.
    #[error("no runtime handler {name:?} is configured; known handlers: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// It is configured and can't run.
    #[error("runtime handler {name:?} ({origin}) cannot run: {reason}")]
    Broken {
        /// What was asked for.
        name: String,
        /// Where it is configured.
        origin: Origin,
        /// Why it can't run.
        reason: String,
    },
}

impl HandlerTable {
    pub(crate) fn probe(imported: Imported) -> Result<Self, HandlersError> {
        let (default, default_origin) = imported.default.ok_or(HandlersError::NoHandlers)?;
        // One thread a binary: each is a process or two, and the start waits for all.
        let handlers = std::thread::scope(|scope| {
            let probes: Vec<_> = imported
                .handlers
                .into_iter()
                .map(|definition| scope.spawn(move || look(definition)))
                .collect();
            probes
                .into_iter()
                .filter_map(|probe| probe.join().ok())
                .map(|handler| (handler.definition.name.clone(), handler))
                .collect::<BTreeMap<_, _>>()
        });
        let table = Self {
            default,
            default_origin,
            handlers,
            cni_conf_dir: imported.cni_conf_dir,
            cni_bin_dirs: imported.cni_bin_dirs,
            hosts_dirs: imported.hosts_dirs,
            warnings: imported.warnings,
            files: imported.files,
        };
        table.find("").map_err(|refused| HandlersError::Default {
            origin: table.default_origin.clone(),
            source: refused,
        })?;
        Ok(table)
    }

    /// The handler of a name; the empty name means the default.
    ///
    /// # Errors
    /// When it is unknown or can't run.
    pub fn find(&self, name: &str) -> Result<&Handler, HandlerRefused> {
        let name = if name.is_empty() { &self.default } else { name };
        let handler = self
            .handlers
            .get(name)
            .ok_or_else(|| HandlerRefused::Unknown {
                name: name.to_owned(),
                known: self
                    .handlers
                    .keys()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        match &handler.state {
            HandlerState::Usable { .. } => Ok(handler),
            HandlerState::Broken { reason } => Err(HandlerRefused::Broken {
                name: name.to_owned(),
                origin: handler.definition.origin.clone(),
                reason: reason.clone(),
            }),
        }
    }

    /// The default handler's name.
    #[must_use]
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// All handlers, usable or not, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Handler> {
        self.handlers.values()
    }

    /// Settings without effect.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The files that the table was read from.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The table as `berth cri handlers` prints it.
    #[must_use]
    pub fn render(&self) -> String {
        let header = [
            "HANDLER", "KIND", "BINARY", "VERSION", "FEATURES", "STATE", "FROM",
        ]
        .map(str::to_owned);
        let mut rows = vec![header.to_vec()];
        for handler in self.iter() {
            let definition = &handler.definition;
            let configured = match &definition.runtime {
                RuntimeDef::Oci { binary, .. } | RuntimeDef::Shim { binary, .. } => {
                    binary.display().to_string()
                }
            };
            let name = if definition.name == self.default {
                format!("{} (default)", definition.name)
            } else {
                definition.name.clone()
            };
            let (binary, version, features, state) = match &handler.state {
                HandlerState::Usable {
                    binary,
                    version,
                    features,
                } => (
                    binary.display().to_string(),
                    version.clone(),
                    render_features(*features),
                    "usable".to_owned(),
                ),
                HandlerState::Broken { reason } => {
                    (configured, "-".to_owned(), "-".to_owned(), reason.clone())
                }
            };
            rows.push(vec![
                name,
                handler.flavor.name().to_owned(),
                binary,
                version,
                features,
                state,
                definition.origin.to_string(),
            ]);
        }
        let mut text = String::new();
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {}: {}", warning.origin, warning.message);
        }
        text
    }
}

fn render_features(features: Features) -> String {
    let names: Vec<&str> = [
        (features.recursive_read_only_mounts, "rro"),
        (features.user_namespaces, "userns"),
    ]
    .into_iter()
    .filter_map(|(has, name)| has.then_some(name))
    .collect();
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(",")
    }
}

fn look(definition: Definition) -> Handler {
    let flavor = Flavor::of(&definition);
    let state = match usable(&definition) {
        Ok(state) => state,
        Err(reason) => HandlerState::Broken { reason },
    };
    Handler {
        definition,
        flavor,
        state,
    }
}

fn usable(definition: &Definition) -> Result<HandlerState, String> {
    let exists = |path: &Option<PathBuf>, what: &str| match path {
        Some(path) if !path.exists() => Err(format!("{what} {} does not exist", path.display())),
        _ => Ok(()),
    };
    exists(&definition.base_runtime_spec, "base_runtime_spec")?;
    match &definition.runtime {
        RuntimeDef::Oci { binary, config, .. } => {
            exists(config, "config")?;
            let binary = built_in::find(binary)?;
            Ok(HandlerState::Usable {
                version: probe::version(&binary)?,
                features: probe::features(&binary),
                binary,
            })
        }
        RuntimeDef::Shim {
            binary,
            config,
            runtime_binary,
            ..
        } => {
            exists(config, "config")?;
            let binary = built_in::find(binary)?;
            let features = match runtime_binary {
                Some(runtime) => probe::features(&built_in::find(runtime)?),
                None => Features::default(),
            };
            // A shim's options are not a standard; one that doesn't know -v is no less a shim.
            let version = shim_version(&binary).unwrap_or_else(|| "unknown".to_owned());
            Ok(HandlerState::Usable {
                binary,
                version,
                features,
            })
        }
    }
}

fn shim_version(binary: &Path) -> Option<String> {
    let output = std::process::Command::new(binary)
        .arg("-v")
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| line.contains("ersion:"))?;
    Some(line.rsplit(':').next()?.trim().to_owned())
}
