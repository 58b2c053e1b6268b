//! The handlers of a machine that nobody configured: runc, others that PATH has, the one inside berth, and what installers have put
//! elsewhere.

use std::path::{Path, PathBuf};

use super::definition::{Definition, RuntimeDef};
use super::detect;
use super::document::Origin;
use super::import::{Imported, Warning};

/// A handler that runs the binary of its own name.
pub(crate) fn oci(name: &str) -> Definition {
    Definition::new(
        name,
        RuntimeDef::Oci {
            binary: PathBuf::from(name),
            root: None,
            systemd_cgroup: false,
            config: None,
            args: Vec::new(),
        },
        Origin::built_in(),
    )
}

/// The name of the handler that is the runtime inside berth.
pub(crate) const EMBEDDED: &str = "berth";

/// The handler that needs nothing installed.
pub(crate) fn embedded() -> Definition {
    Definition::new(
        EMBEDDED,
        RuntimeDef::Embedded {
            root: None,
            systemd_cgroup: false,
            args: Vec::new(),
        },
        Origin::built_in(),
    )
}

/// runc always, so that its absence is explained; the others only when they are installed. Without runc the
/// runtime inside berth, if it is at hand, is the default.
pub(crate) fn table(has_embedded: bool) -> Imported {
    let installed = |name: &str| find(Path::new(name)).is_ok();
    let mut imported = table_with(has_embedded, installed);
    let others = detect::others(Path::new("/"), &installed);
    imported.handlers.extend(others);
    imported
}

pub(super) fn table_with(has_embedded: bool, installed: impl Fn(&str) -> bool) -> Imported {
    let mut handlers = vec![oci("runc")];
    for name in ["crun", "runsc", "youki"] {
        if installed(name) {
            handlers.push(oci(name));
        }
    }
    let mut default = "runc";
    let mut warnings = Vec::new();
    if has_embedded {
        handlers.push(embedded());
        if !installed("runc") {
            default = EMBEDDED;
            warnings.push(Warning::new(
                &Origin::built_in(),
                "runc is not installed: the runtime inside berth, handler \"berth\", is the default",
            ));
        }
    }
    Imported {
        default: Some((default.to_owned(), Origin::built_in())),
        handlers,
        warnings,
        ..Imported::default()
    }
}

/// The full path of a program that is given by path or by name.
///
/// Besides PATH, the folders of system programs are searched: services often run without them.
pub(crate) fn find(binary: &Path) -> Result<PathBuf, String> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |path: &Path| {
        path.metadata()
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if binary.components().count() > 1 || binary.is_absolute() {
        return if executable(binary) {
            Ok(binary.to_owned())
        } else if binary.exists() {
            Err(format!("{} is not executable", binary.display()))
        } else {
            Err(format!("{} does not exist", binary.display()))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(
            [
                "/usr/local/sbin",
                "/usr/local/bin",
                "/usr/sbin",
                "/usr/bin",
                "/opt/kata/bin",
            ]
            .map(PathBuf::from),
        )
        .map(|folder| folder.join(binary))
        .find(|path| executable(path))
        .ok_or_else(|| format!("no program {} in PATH", binary.display()))
}
