//! Handlers from CRI-O's crio.conf and its drop-in directory.

use std::path::{Path, PathBuf};

use super::HandlersError;
use super::annotations::AnnotationMatch;
use super::definition::{Definition, RuntimeDef};
use super::document::{Item, Kind, Origin, Table};
use super::import::{Imported, Warning};
use super::misplaced::{self, Form};
use super::misspelt;

/// Reads `path` (crio.conf) and the `*.conf` files of the folder `path` + `.d`, in name order.
///
/// Each of the two may be missing, not both. `path` may be a folder, which is then the only source.
pub(crate) fn import(path: &Path) -> Result<Imported, HandlersError> {
    let mut files = Vec::new();
    let folder = if path.is_dir() {
        path.to_owned()
    } else {
        if path.exists() {
            files.push(path.to_owned());
        }
        let mut folder = path.as_os_str().to_owned();
        folder.push(".d");
        PathBuf::from(folder)
    };
    files.extend(super::import::files_in(&folder, "conf"));
    if files.is_empty() {
        return Err(HandlersError::Read {
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        });
    }

    let mut imported = Imported::default();
    let mut runtime = Table::default();
    let mut runtimes = Table::default();
    let mut network = Table::default();
    for file in files {
        let root = match misplaced::read(&file, Form::Crio) {
            Ok(root) => root,
            Err(error) => {
                imported.refused.push(error);
                imported.files.push(file);
                continue;
            }
        };
        imported.warnings.extend(misplaced_in(&root));
        if let Some(table) = root.at(&["crio", "runtime"]) {
            runtime.merge_replacing(table.clone());
            // A handler in a later file replaces one of the same name whole.
            if let Some(table) = table.at(&["runtimes"]) {
                runtimes.merge_replacing(table.clone());
            }
        }
        if let Some(table) = root.at(&["crio", "network"]) {
            network.merge_replacing(table.clone());
        }
        imported.files.push(file);
    }

    if runtime.iter().next().is_none()
        && imported.refused.is_empty()
        && let Some(origin) = imported.files.first().map(|file| Origin::file(file))
    {
        imported.warnings.push(Warning::doubt(
            &origin,
            "there is no section [crio.runtime], in the drop-ins neither: the handlers are CRI-O's own, crun and runc",
        ));
    }
    let systemd_cgroup = runtime.text("cgroup_manager") == Some("systemd");
    for (name, node) in runtimes.iter() {
        let empty = Table::default();
        let table = node.item.table();
        let mut definition = handler(
            name,
            table.unwrap_or(&empty),
            &node.origin,
            systemd_cgroup,
            &mut imported.warnings,
        );
        if table.is_none() {
            definition.unreadable.push("it must be a table".to_owned());
        }
        imported.handlers.push(definition);
    }
    imported.default = Some(match runtime.get("default_runtime") {
        Some(node) => match &node.item {
            Item::Text(name) if !name.is_empty() => (name.clone(), node.origin.clone()),
            _ => built_in_default(&imported),
        },
        None => built_in_default(&imported),
    });
    if imported.handlers.is_empty() {
        imported.handlers.push(super::built_in::oci("crun"));
        imported.handlers.push(super::built_in::oci("runc"));
    }
    imported.cni_conf_dir = network.path("network_dir");
    imported.cni_bin_dirs = network
        .texts("plugin_dirs")
        .into_iter()
        .map(PathBuf::from)
        .collect();
    Ok(imported)
}

/// Runtimes and the name of the default at a place where CRI-O passes over them.
fn misplaced_in(root: &Table) -> Vec<Warning> {
    let keys = ["runtime_path", "runtime_type", "runtime_config_path"];
    let is_runtime = |path: &[&str]| matches!(path, ["crio", "runtime", "runtimes", _]);
    let mut found = misplaced::find(root, &keys, &is_runtime, "[crio.runtime.runtimes.NAME]");
    let is_section = |path: &[&str]| matches!(path, ["crio", "runtime"]);
    found.extend(misplaced::find(
        root,
        &["default_runtime"],
        &is_section,
        "[crio.runtime]",
    ));
    found
}

/// CRI-O's own default is crun; a file that defines only runc means runc.
fn built_in_default(imported: &Imported) -> (String, Origin) {
    let names = |name: &str| imported.handlers.iter().any(|handler| handler.name == name);
    let name = if names("runc") && !names("crun") {
        "runc"
    } else {
        "crun"
    };
    (name.to_owned(), Origin::built_in())
}

/// What a runtime's settings take.
const KINDS: &[(&str, Kind)] = &[
    ("runtime_path", Kind::Text),
    ("runtime_type", Kind::Text),
    ("runtime_root", Kind::Text),
    ("runtime_config_path", Kind::Text),
    ("allowed_annotations", Kind::Texts),
    ("privileged_without_host_devices", Kind::Flag),
    ("container_min_memory", Kind::Amount),
];

/// CRI-O's settings of a runtime that mean nothing here; none is another one misspelt.
const IDLE: &[&str] = &[
    "monitor_path",
    "monitor_cgroup",
    "monitor_env",
    "monitor_exec_cgroup",
    "platform_runtime_paths",
    "default_annotations",
    "stream_websockets",
    "no_sync_log",
    "seccomp_profile",
    "exec_cpu_affinity",
    "inherit_default_runtime",
    "container_create_timeout",
    "runtime_pull_image",
];

fn handler(
    name: &str,
    table: &Table,
    origin: &Origin,
    systemd_cgroup: bool,
    warnings: &mut Vec<Warning>,
) -> Definition {
    let mut wrong = Vec::new();
    let binary = table
        .path("runtime_path")
        .unwrap_or_else(|| PathBuf::from(name));
    let config = table.path("runtime_config_path");
    let runtime = match table.text("runtime_type").unwrap_or("oci") {
        "oci" => {
            if config.is_some() {
                wrong.push("runtime_config_path is only for runtime_type \"vm\"".to_owned());
            }
            RuntimeDef::Oci {
                binary,
                root: table.path("runtime_root"),
                systemd_cgroup,
                config: None,
                args: Vec::new(),
            }
        }
        // CRI-O's "pod" type is conmon-rs over the same command-line runtime.
        "pod" => RuntimeDef::Oci {
            binary,
            root: table.path("runtime_root"),
            systemd_cgroup,
            config: None,
            args: Vec::new(),
        },
        "vm" => {
            if !is_vm_shim(&binary) {
                wrong.push(format!(
                    "{} is no name of a VM shim (containerd-shim-NAME-VERSION)",
                    binary.display()
                ));
            }
            RuntimeDef::Shim {
                binary,
                config,
                config_type: None,
                runtime_binary: None,
                systemd_cgroup,
                vm: true,
            }
        }
        other => {
            wrong.push(format!("runtime_type {other:?} is none of oci, vm and pod"));
            RuntimeDef::Oci {
                binary,
                root: None,
                systemd_cgroup,
                config: None,
                args: Vec::new(),
            }
        }
    };
    let mut definition = Definition::new(name, runtime, origin.clone());
    definition.unreadable = table.mistaken(KINDS);
    definition.unreadable.append(&mut wrong);
    definition.set_devices(table.flag("privileged_without_host_devices"), None);
    definition.annotation_match = AnnotationMatch::Beginning;
    definition.pod_annotations = table.texts("allowed_annotations");
    definition.container_annotations = table.texts("allowed_annotations");
    definition.container_min_memory = match table.text("container_min_memory") {
        Some(text) => {
            let bytes = parse_memory(text);
            if bytes.is_none() {
                let reason = format!("container_min_memory {text:?} is no size");
                definition.unreadable.push(reason);
            }
            bytes
        }
        None => table.number("container_min_memory"),
    };
    for (key, node) in table.iter() {
        let known = KINDS.iter().map(|(known, _)| *known);
        let idle = matches!(&node.item, Item::Text(text) if text.is_empty());
        if idle || known.clone().any(|known| known == key) {
            continue;
        }
        let message = format!("handler {name:?}: {key} has no meaning here and is ignored");
        let hint = misspelt::hint(key, known);
        warnings.push(if hint.is_empty() || IDLE.contains(&key) {
            Warning::new(&node.origin, message)
        } else {
            Warning::mistake(&node.origin, format!("{message}{hint}"))
        });
    }
    definition
}

/// CRI-O's rule: `^containerd-shim-[a-zA-Z0-9\-\+]+$`.
fn is_vm_shim(binary: &Path) -> bool {
    binary
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix("containerd-shim-"))
        .is_some_and(|rest| {
            !rest.is_empty()
                && rest
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '+')
        })
}

/// `12MiB`, `12M`, `1048576`.
fn parse_memory(text: &str) -> Option<i64> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: i64 = digits.parse().ok()?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "Ki" | "K" | "KB" | "k" => 1 << 10,
        "MiB" | "Mi" | "M" | "MB" => 1 << 20,
        "GiB" | "Gi" | "G" | "GB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}
