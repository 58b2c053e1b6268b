//! The handler table in force: every definition, probed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::definition::{Definition, RuntimeDef, is_kata};
use super::document::Origin;
use super::import::{Imported, Warning};
use super::inputs::Inputs;
use super::{
    HandlerRefused, HandlersError, arguments, built_in, gvisor, kata, misspelt, shim_info,
};
use berth_oci::runtime::{GvisorBuild, RuntimeKind, RuntimeProbe, probe};

/// What the CRI's `RuntimeHandlerFeatures` has, as probed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// The runtime and the kernel can make a mount and all below it read-only.
    pub recursive_read_only_mounts: bool,
    /// The runtime and the kernel can run a pod in a user namespace.
    pub user_namespaces: bool,
}

/// A handler and what a look at the machine said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// As configured.
    pub definition: Definition,
    /// Whether it can run pods.
    pub state: HandlerState,
    /// What that was found out from.
    pub(crate) inputs: Inputs,
}

/// Whether a handler can run pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerState {
    /// Its binary answers.
    Usable {
        /// The full path.
        binary: PathBuf,
        /// The command line's dialect; `None` for a shim that is not berth's.
        kind: Option<RuntimeKind>,
        /// As the binary says.
        version: String,
        /// As probed.
        features: Features,
        /// What a gVisor says of itself.
        gvisor: Option<GvisorBuild>,
    },
    /// It can't.
    Broken {
        /// Why.
        reason: String,
    },
}

/// Which handler runs what.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// What is said of a gVisor handler until its trial has ended.
const UNTRIED: &str =
    "a trial sandbox has not ended yet; it is listed once it has been seen to run";

/// Whether a handler can run pods, a gVisor's trial included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has been seen to work.
    Usable,
    /// A gVisor whose trial has not ended.
    Untried,
    /// It can't, for this reason.
    Broken(String),
}

impl Handler {
    pub(crate) fn standing(&self) -> Standing {
        if let HandlerState::Broken { reason } = &self.state {
            return Standing::Broken(reason.clone());
        }
        match trial(self, |binary, args, _| gvisor::known(binary, args)) {
            None | Some(Ok(Some(Ok(_)))) => Standing::Usable,
            Some(Ok(None)) => Standing::Untried,
            Some(Ok(Some(Err(reason))) | Err(reason)) => Standing::Broken(reason),
        }
    }

    /// Why it can't run pods, as far as that is known.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        match self.standing() {
            Standing::Usable | Standing::Untried => None,
            Standing::Broken(reason) => Some(reason),
        }
    }

    /// Why it isn't listed among those that have been seen to work.
    pub(crate) fn unlisted(&self) -> Option<String> {
        match self.standing() {
            Standing::Usable => None,
            Standing::Untried => Some(UNTRIED.to_owned()),
            Standing::Broken(reason) => Some(reason),
        }
    }

    /// Runs a gVisor once, unless that was done; blocks.
    fn try_out(&self) {
        let Some(tried) = trial(self, gvisor::settings) else {
            return;
        };
        if let Ok(Err(reason)) | Err(reason) = tried {
            tracing::warn!(
                handler = self.definition.name,
                reason,
                "runtime handler cannot run"
            );
        }
    }

    /// Runs a gVisor again that failed; tells whether it is another than before. Blocks.
    fn try_again(&self) -> bool {
        let again = trial(self, |binary, args, build| {
            let failed = matches!(gvisor::known(binary, args), Some(Err(_)));
            failed && gvisor::settings_again(binary, args, build)
        });
        matches!(again, Some(Ok(true)))
    }
}

impl HandlerTable {
    pub(crate) fn probe(imported: Imported, embedded: &[OsString]) -> Result<Self, HandlersError> {
        let table = Self::look(imported, embedded, &BTreeMap::new())?;
        // Nothing runs without it, so that its trial is waited for; those of others go on beside the rest of a start.
        if let Some(default) = table.handlers.get(&table.default) {
            default.try_out();
        }
        table.check_default()?;
        Ok(table)
    }

    /// The table of what was imported. Handlers that are in `known` as they are defined now, and whose binaries and
    /// files have not changed, are taken from there.
    pub(super) fn look(
        imported: Imported,
        embedded: &[OsString],
        known: &BTreeMap<String, Handler>,
    ) -> Result<Self, HandlersError> {
        let (default, default_origin) = imported.default.ok_or(HandlersError::NoHandlers)?;
        let mut warnings = imported.warnings;
        warnings.extend(imported.handlers.iter().filter_map(unnameable));
        Ok(Self {
            default,
            default_origin,
            handlers: look_at_changed(imported.handlers, embedded, known),
            cni_conf_dir: imported.cni_conf_dir,
            cni_bin_dirs: imported.cni_bin_dirs,
            hosts_dirs: imported.hosts_dirs,
            warnings,
            files: imported.files,
        })
    }

    /// This table, with the handlers looked at again whose binaries or files have changed; `None` when none have.
    pub(super) fn look_again(&self, embedded: &[OsString]) -> Option<Self> {
        let changed = |handler: &Handler| handler.inputs.changed();
        if !self.handlers.values().any(changed) {
            return None;
        }
        let definitions = self.iter().map(|handler| handler.definition.clone());
        let handlers = look_at_changed(definitions.collect(), embedded, &self.handlers);
        Some(Self {
            handlers,
            ..self.clone()
        })
    }

    /// Whether the default handler can run.
    pub(super) fn check_default(&self) -> Result<(), HandlersError> {
        self.find("")
            .map(drop)
            .map_err(|source| HandlersError::Default {
                origin: self.default_origin.clone(),
                source,
            })
    }

    /// All handlers by name.
    pub(super) fn handlers(&self) -> &BTreeMap<String, Handler> {
        &self.handlers
    }

    /// The handler of a name; the empty name means the default.
    ///
    /// # Errors
    /// When it is unknown or can't run.
    pub fn find(&self, name: &str) -> Result<&Handler, HandlerRefused> {
        let name = if name.is_empty() { &self.default } else { name };
        let handler = self.handlers.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.handlers.keys().map(String::as_str).collect();
            let hint = misspelt::handler_hint(name, known.iter().copied());
            HandlerRefused::Unknown {
                name: name.to_owned(),
                known: format!("{}{hint}", known.join(", ")),
            }
        })?;
        match handler.broken() {
            None => Ok(handler),
            Some(reason) => Err(HandlerRefused::Broken {
                name: name.to_owned(),
                origin: handler.definition.origin.clone(),
                reason,
            }),
        }
    }

    /// Whether systemd makes the cgroups of the default handler's pods: a kubelet has one driver for all.
    #[must_use]
    pub fn systemd_cgroup(&self) -> bool {
        self.handlers
            .get(&self.default)
            .is_some_and(|handler| handler.definition.runtime.systemd_cgroup())
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

    /// Finds out by trial how each gVisor is to be run here; those that can't be are broken from then on. Blocks for
    /// up to a second, with a gVisor that hangs for ten or twenty; without it the first pod of such a handler waits that long.
    pub fn try_out(&self) {
        std::thread::scope(|scope| {
            for handler in self.iter() {
                scope.spawn(move || handler.try_out());
            }
        });
    }

    /// Tries those again that failed, since a machine's settings change without a change of the binary; tells whether one
    /// of them can run now. Blocks.
    pub(crate) fn try_again(&self) -> bool {
        let tried: Vec<bool> = self.iter().map(Handler::try_again).collect();
        tried.contains(&true)
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
                RuntimeDef::Embedded { .. } => "berth".to_owned(),
            };
            let name = if definition.name == self.default {
                format!("{} (default)", definition.name)
            } else {
                definition.name.clone()
            };
            let (binary, kind, version, features, state) = match &handler.state {
                HandlerState::Usable {
                    binary,
                    kind,
                    version,
                    features,
                    ..
                } => (
                    binary.display().to_string(),
                    kind.map_or("shim", kind_name),
                    version.clone(),
                    render_features(*features, gvisor_settings(handler)),
                    handler.unlisted().unwrap_or_else(|| "usable".to_owned()),
                ),
                HandlerState::Broken { reason } => (
                    configured,
                    "-",
                    "-".to_owned(),
                    "-".to_owned(),
                    reason.clone(),
                ),
            };
            rows.push(vec![
                name,
                kind.to_owned(),
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

/// A handler whose name no RuntimeClass can have for its `handler`: a DNS label of at most 63 letters.
fn unnameable(definition: &Definition) -> Option<Warning> {
    let name = definition.name.as_str();
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let fits = bytes.len() <= 63
        && bytes.first().copied().is_some_and(inner)
        && bytes.last().copied().is_some_and(inner)
        && bytes.iter().all(|byte| inner(*byte) || *byte == b'-');
    (!fits).then(|| {
        Warning::mistake(
            &definition.origin,
            format!(
                "no RuntimeClass can name handler {name:?}: its handler is a lowercase RFC 1123 label (a-z, 0-9 and '-', at \
                 most 63, no dots)"
            ),
        )
    })
}

/// Runs or looks up the trial of a handler that is a gVisor; `None` for others.
///
/// # Errors
/// When its command line can't be made, since its own configuration can't be read.
fn trial<T>(
    handler: &Handler,
    ask: impl FnOnce(&Path, &[String], &GvisorBuild) -> T,
) -> Option<Result<T, String>> {
    let HandlerState::Usable {
        gvisor: Some(build),
        ..
    } = &handler.state
    else {
        return None;
    };
    match arguments::command(handler, Path::new("")) {
        Ok(command) => command.map(|command| Ok(ask(&command.binary, &command.args, build))),
        Err(error) => Some(Err(crate::error::chain(&error))),
    }
}

/// How a gVisor was found to run here, in words.
pub(crate) fn gvisor_settings(handler: &Handler) -> Option<String> {
    let described = trial(handler, |binary, args, build| {
        let settings = gvisor::known(binary, args)?.ok()?;
        Some(settings.describe(build))
    });
    described?.ok()?
}

fn render_features(features: Features, gvisor: Option<String>) -> String {
    let mut names: Vec<&str> = [
        (features.recursive_read_only_mounts, "rro"),
        (features.user_namespaces, "userns"),
    ]
    .into_iter()
    .filter_map(|(has, name)| has.then_some(name))
    .collect();
    names.extend(gvisor.as_deref());
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(",")
    }
}

/// The name of a command line's dialect.
#[must_use]
pub(crate) fn kind_name(kind: RuntimeKind) -> &'static str {
    match kind {
        RuntimeKind::Runc => "runc",
        RuntimeKind::Crun => "crun",
        RuntimeKind::Youki => "youki",
        RuntimeKind::Runsc => "runsc",
        RuntimeKind::Berth => "berth",
        RuntimeKind::Other => "oci",
        RuntimeKind::Vm => "vm",
    }
}

/// Looks at every definition that isn't known with the same binaries and files. One thread a binary: each is a process
/// or two, and the start waits for all.
fn look_at_changed(
    definitions: Vec<Definition>,
    embedded: &[OsString],
    known: &BTreeMap<String, Handler>,
) -> BTreeMap<String, Handler> {
    std::thread::scope(|scope| {
        let looks: Vec<_> = definitions
            .into_iter()
            .map(|definition| {
                let known = known
                    .get(&definition.name)
                    .filter(|known| known.definition.is_same(&definition));
                scope.spawn(move || match known {
                    Some(known) if !known.inputs.changed() => Handler {
                        // It may have moved to another line.
                        definition,
                        ..known.clone()
                    },
                    _ => look(definition, embedded),
                })
            })
            .collect();
        looks
            .into_iter()
            .filter_map(|look| look.join().ok())
            .map(|handler| (handler.definition.name.clone(), handler))
            .collect()
    })
}

fn look(definition: Definition, embedded: &[OsString]) -> Handler {
    // Before the state: what changes meanwhile is a change.
    let inputs = Inputs::of(&definition);
    let state = match usable(&definition, embedded) {
        Ok(state) => state,
        Err(reason) => HandlerState::Broken { reason },
    };
    Handler {
        definition,
        state,
        inputs,
    }
}

fn usable(definition: &Definition, embedded: &[OsString]) -> Result<HandlerState, String> {
    let exists = |path: &Option<PathBuf>, what: &str| match path {
        Some(path) if !path.exists() => Err(format!("{what} {} does not exist", path.display())),
        _ => Ok(()),
    };
    if !definition.unreadable.is_empty() {
        return Err(definition.unreadable.join("; "));
    }
    exists(&definition.base_runtime_spec, "base_runtime_spec")?;
    match &definition.runtime {
        RuntimeDef::Oci { binary, config, .. } => {
            exists(config, "config")?;
            Ok(state(ask(binary, &[])?))
        }
        RuntimeDef::Embedded { .. } => {
            let Some((binary, prefix)) = embedded.split_first() else {
                return Err("this program has no runtime inside".to_owned());
            };
            Ok(state(ask(Path::new(binary), &words(prefix))?))
        }
        RuntimeDef::Shim {
            binary,
            config,
            runtime_binary,
            ..
        } => {
            exists(config, "config")?;
            let binary = built_in::find(binary)?;
            // Before what its configuration names: a program for another machine can't be helped by a kernel.
            let info = shim_info::of(&binary)?;
            if is_kata(&binary) {
                kata::Machine::default().check(config.as_deref())?;
            }
            let features = match (runtime_binary, info.features) {
                (Some(runtime), _) => features(&ask(runtime, &[])?),
                (None, Some(told)) => features(&RuntimeProbe {
                    binary: binary.clone(),
                    kind: RuntimeKind::Other,
                    version: info.version.clone(),
                    features: Some(told),
                    gvisor: None,
                }),
                (None, None) => Features::default(),
            };
            Ok(HandlerState::Usable {
                binary,
                kind: None,
                version: info.version,
                features,
                gvisor: None,
            })
        }
    }
}

fn ask(binary: &Path, prefix: &[String]) -> Result<RuntimeProbe, String> {
    probe(&built_in::find(binary)?, prefix).map_err(|error| crate::error::chain(&error))
}

fn state(found: RuntimeProbe) -> HandlerState {
    HandlerState::Usable {
        features: features(&found),
        gvisor: found.gvisor,
        binary: found.binary,
        kind: Some(found.kind),
        version: found.version,
    }
}

/// A command's first arguments as texts.
pub(crate) fn words(arguments: &[OsString]) -> Vec<String> {
    arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// What a runtime says it can do counts only where the kernel can too.
fn features(probe: &RuntimeProbe) -> Features {
    Features {
        recursive_read_only_mounts: probe.recursive_read_only_mounts()
            && (probe.gvisor.is_some() || kernel_at_least(5, 12)),
        // Layers and volumes are mapped by us, which takes overlays of mapped mounts, made one by one.
        user_namespaces: probe.user_namespaces() && kernel_at_least(6, 5) && users_allowed(),
    }
}

/// Whether the kernel lets anybody make user namespaces.
fn users_allowed() -> bool {
    std::fs::read_to_string("/proc/sys/user/max_user_namespaces")
        .is_ok_and(|text| text.trim() != "0")
}

fn kernel_at_least(major: u32, minor: u32) -> bool {
    let Ok(names) = nix::sys::utsname::uname() else {
        return false;
    };
    let release = names.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
