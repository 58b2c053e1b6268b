//! The global arguments of a handler's runtime, from wherever they come.

use std::path::Path;

use berth_oci::runtime::{RuntimeCommand, RuntimeKind};

use super::definition::RuntimeDef;
use super::table::{Handler, HandlerState};
use crate::error::CriError;

/// The command of a usable handler that is driven by its command line; `None` for shims.
///
/// # Errors
/// When the runtime's own configuration can't be read.
pub(crate) fn command(handler: &Handler, root: &Path) -> Result<Option<RuntimeCommand>, CriError> {
    let (
        RuntimeDef::Oci {
            systemd_cgroup,
            config,
            args,
            ..
        },
        HandlerState::Usable {
            binary,
            kind,
            version,
            gvisor,
            ..
        },
    ) = (&handler.definition.runtime, &handler.state)
    else {
        return Ok(None);
    };
    let kind = kind.unwrap_or(RuntimeKind::Other);
    let mut command = RuntimeCommand::new(kind, binary, root);
    command.args.clone_from(args);
    command.systemd_cgroup = *systemd_cgroup;
    if let Some(file) = config {
        command.args.extend(gvisor_flags(file)?);
    }
    command.set_version(version);
    if let Some(build) = gvisor {
        command.set_build(build);
    }
    Ok(Some(command))
}

/// The `[runsc_config]` table of gVisor's runsc.toml as command-line flags.
fn gvisor_flags(path: &Path) -> Result<Vec<String>, CriError> {
    let text = std::fs::read_to_string(path).map_err(CriError::io("read", path))?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|error| CriError::Invalid(format!("{}: {}", path.display(), error.message())))?;
    let Some(toml::Value::Table(flags)) = table.get("runsc_config") else {
        return Ok(Vec::new());
    };
    Ok(flags
        .iter()
        // The shim gives these itself.
        .filter(|(name, _)| {
            !matches!(
                name.as_str(),
                "root" | "log" | "log-format" | "systemd-cgroup"
            )
        })
        .map(|(name, value)| match value {
            toml::Value::String(text) => format!("--{name}={text}"),
            other => format!("--{name}={other}"),
        })
        .collect())
}
