//! Handlers from berth's own TOML.
//!
//! ```toml
//! default_handler = "runc"
//!
//! [handlers.runc]                 # kind "oci" and the binary of the handler's name
//!
//! [handlers.gvisor]
//! binary = "/usr/bin/runsc"       # a path, or a name to find in PATH
//! args = ["--platform=systrap"]   # global options
//! config = "/etc/runsc.toml"
//!
//! [handlers.kata]
//! kind = "shim"                   # any containerd shim v2
//! binary = "containerd-shim-kata-v2"
//! config = "/etc/kata/configuration.toml"
//! vm = true
//! pod_annotations = ["io.katacontainers.*"]
//! warm = 2                        # sandboxes that wait for their pod, booted
//! sandboxer = "shim"              # by containerd's sandbox service; else "podsandbox": by a sandbox container
//!
//! [handlers.berth]                # the runtime inside berth: kind "berth", no binary
//!
//! [registry]
//! hosts_dirs = ["/etc/berth/certs.d"]
//!
//! [cni]
//! conf_dir = "/etc/cni/net.d"
//! bin_dirs = ["/opt/cni/bin"]
//! ```
//!
//! Drop-ins are the `*.toml` files of the folder beside it (`config.toml.d`, or `config.d`), in
//! name order, laid over it key by key.

use std::path::{Component, Path, PathBuf};

use super::HandlersError;
use super::definition::{ALL_DEVICES, Definition, RuntimeDef, Sandboxer, WARM_MAX, is_kata};
use super::document::{Item, Kind, Origin, Table};
use super::import::{self, Imported, Warning, files_in};
use super::misplaced::{self, Form};
use super::misspelt;

/// Reads `path` and its drop-ins.
pub(crate) fn import(path: &Path, has_embedded: bool) -> Result<Imported, HandlersError> {
    let mut files = vec![path.to_owned()];
    let mut beside = path.as_os_str().to_owned();
    beside.push(".d");
    files.extend(files_in(Path::new(&beside), "toml"));
    files.extend(files_in(&path.with_extension("d"), "toml"));
    let mut root = Table::default();
    let mut refused = Vec::new();
    for (index, file) in files.iter().enumerate() {
        match misplaced::read(file, Form::Berth) {
            Ok(table) => root.merge(table),
            // Without its main file there is nothing to say of the rest.
            Err(error) if index == 0 => return Err(error),
            Err(error) => refused.push(error),
        }
    }
    let mut imported = from_table(&root, has_embedded);
    imported.refused.append(&mut refused);
    imported.files = files;
    Ok(imported)
}

fn from_table(root: &Table, has_embedded: bool) -> Imported {
    let mut imported = Imported::default();
    for (key, node) in root.iter() {
        if !SECTIONS.contains(&key) {
            let hint = match key {
                "version" | "plugins" | "imports" => {
                    ": give containerd's with --containerd-config".to_owned()
                }
                "crio" => ": give CRI-O's with --crio-config".to_owned(),
                _ => misspelt::hint(key, SECTIONS.iter().copied()),
            };
            imported.refused.push(invalid(
                &node.origin,
                format!(
                    "{key:?} is not a key of berth's configuration{hint}; known are {}",
                    SECTIONS.join(", ")
                ),
            ));
        }
    }
    if let Some(node) = root.get("handlers")
        && !Kind::Table.fits(&node.item)
    {
        let error = invalid(&node.origin, "handlers must be a table");
        imported.refused.push(error);
    }
    if let Some(handlers) = root.at(&["handlers"]) {
        for (name, node) in handlers.iter() {
            let empty = Table::default();
            let table = node.item.table();
            let fields = table.unwrap_or(&empty);
            let mut definition = handler(name, fields, &node.origin);
            if table.is_none() {
                definition.unreadable.push("it must be a table".to_owned());
            }
            let refused = import::check_snapshotter(name, fields, &mut imported.warnings);
            definition.unreadable.extend(refused);
            imported.handlers.push(definition);
        }
    }
    if imported.handlers.is_empty() {
        // A file that only sets other things keeps the built-in table.
        let built_in = super::built_in::table(has_embedded);
        imported.handlers = built_in.handlers;
        imported.default = built_in.default;
        imported.warnings = built_in.warnings;
    }
    if let Some(node) = root.get("default_handler") {
        match &node.item {
            Item::Text(name) if !name.is_empty() => {
                imported.default = Some((name.clone(), node.origin.clone()))
            }
            _ => imported.refused.push(invalid(
                &node.origin,
                "default_handler must be a handler's name",
            )),
        }
    }
    if imported.default.is_none() {
        let named = |name: &str| {
            imported
                .handlers
                .iter()
                .find(|handler| handler.name == name)
        };
        imported.default = named("runc")
            .or_else(|| imported.handlers.first())
            .map(|handler| (handler.name.clone(), handler.origin.clone()));
    }
    if let Some(cni) = root.at(&["cni"]) {
        imported.cni_conf_dir = cni.path("conf_dir");
        imported.cni_bin_dirs = cni
            .texts("bin_dirs")
            .into_iter()
            .map(PathBuf::from)
            .collect();
        warn_unknown(
            cni,
            "cni",
            &["conf_dir", "bin_dirs"],
            &mut imported.warnings,
        );
    }
    if let Some(registry) = root.at(&["registry"]) {
        imported.hosts_dirs = registry
            .texts("hosts_dirs")
            .into_iter()
            .map(PathBuf::from)
            .collect();
        warn_unknown(
            registry,
            "registry",
            &["hosts_dirs"],
            &mut imported.warnings,
        );
    }
    imported
}

const SECTIONS: &[&str] = &["default_handler", "handlers", "registry", "cni"];

const KEYS: &[(&str, Kind)] = &[
    ("kind", Kind::Text),
    ("binary", Kind::Text),
    ("root", Kind::Text),
    ("systemd_cgroup", Kind::Flag),
    ("config", Kind::Text),
    ("config_type", Kind::Text),
    ("args", Kind::Texts),
    ("runtime_binary", Kind::Text),
    ("vm", Kind::Flag),
    ("privileged_without_host_devices", Kind::Flag),
    (ALL_DEVICES, Kind::Flag),
    ("snapshotter", Kind::Text),
    ("pod_annotations", Kind::Texts),
    ("container_annotations", Kind::Texts),
    ("base_runtime_spec", Kind::Text),
    ("cni_conf_dir", Kind::Text),
    ("container_min_memory", Kind::Number),
    ("sandboxer", Kind::Text),
    ("sandbox_dirs", Kind::Texts),
    ("warm", Kind::Number),
];

/// What is wrong with a handler keeps it from running, and no other: what it leaves out may be what keeps its pods apart
/// from the host.
fn handler(name: &str, table: &Table, origin: &Origin) -> Definition {
    let mut wrong = table.mistaken(KEYS);
    // Our own file: a key that nobody knows is a mistake, not another version's.
    for (key, node) in table.iter() {
        if KEYS.iter().any(|(known, _)| *known == key) {
            continue;
        }
        let known: Vec<&str> = KEYS.iter().map(|(known, _)| *known).collect();
        wrong.push(format!(
            "unknown key {key:?} ({}){}; known are {}",
            node.origin,
            misspelt::hint(key, known.iter().copied()),
            known.join(", ")
        ));
    }
    let named = table.path("binary");
    let inside = name == super::built_in::EMBEDDED && named.is_none();
    let binary = named.unwrap_or_else(|| PathBuf::from(name));
    let kind = table.text("kind").unwrap_or_else(|| {
        let file = binary
            .file_name()
            .and_then(|file| file.to_str())
            .unwrap_or_default();
        if inside {
            "berth"
        } else if file.starts_with("containerd-shim-") {
            "shim"
        } else {
            "oci"
        }
    });
    let systemd_cgroup = table.flag("systemd_cgroup").unwrap_or(false);
    let config = table.path("config");
    let runtime = match kind {
        "oci" => RuntimeDef::Oci {
            binary,
            root: table.path("root"),
            systemd_cgroup,
            config,
            args: table.texts("args"),
        },
        "berth" => RuntimeDef::Embedded {
            root: table.path("root"),
            systemd_cgroup,
            args: table.texts("args"),
        },
        "shim" => RuntimeDef::Shim {
            vm: table.flag("vm").unwrap_or_else(|| is_kata(&binary)),
            binary,
            config,
            config_type: table.text("config_type").map(str::to_owned),
            runtime_binary: table.path("runtime_binary"),
            systemd_cgroup,
        },
        other => {
            wrong.push(format!(
                "kind {other:?} is none of \"oci\", \"shim\" and \"berth\""
            ));
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
    definition.set_devices(
        table.flag("privileged_without_host_devices"),
        table.flag(ALL_DEVICES),
    );
    definition.pod_annotations = table.texts("pod_annotations");
    definition.container_annotations = table.texts("container_annotations");
    definition.base_runtime_spec = table.path("base_runtime_spec");
    definition.cni_conf_dir = table.path("cni_conf_dir");
    definition.container_min_memory = table.number("container_min_memory");
    let sandboxer = table.text("sandboxer").unwrap_or_default();
    match Sandboxer::from_name(sandboxer) {
        Some(sandboxer) => definition.sandboxer = sandboxer,
        None => wrong.push(format!(
            "sandboxer {sandboxer:?} is none of \"podsandbox\" and \"shim\""
        )),
    }
    if definition.sandboxer == Sandboxer::Shim && kind != "shim" {
        wrong.push(format!(
            "sandboxer \"shim\" is for kind \"shim\" only, and this one is {kind:?}"
        ));
    }
    let warm = table.number("warm").unwrap_or(0);
    match usize::try_from(warm).ok().filter(|warm| *warm <= WARM_MAX) {
        Some(warm) => definition.warm = warm,
        None => wrong.push(format!("warm must be between 0 and {WARM_MAX}, not {warm}")),
    }
    let sandbox_dirs = table.texts("sandbox_dirs").into_iter().map(PathBuf::from);
    definition.sandbox_dirs = sandbox_dirs.collect();
    // What is in them is removed.
    if let Some(dir) = definition.sandbox_dirs.iter().find(|dir| !is_plain(dir)) {
        wrong.push(format!(
            "sandbox_dirs: {} is no absolute path without \"..\"",
            dir.display()
        ));
    }
    definition.unreadable.append(&mut wrong);
    definition
}

/// Whether a path is absolute and leads only downwards.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

fn warn_unknown(table: &Table, section: &str, known: &[&str], warnings: &mut Vec<Warning>) {
    for (key, node) in table.iter() {
        if !known.contains(&key) {
            let hint = misspelt::hint(key, known.iter().copied());
            warnings.push(Warning::mistake(
                &node.origin,
                format!("{section}.{key} is not known and is ignored{hint}"),
            ));
        }
    }
}

fn invalid(origin: &Origin, message: impl Into<String>) -> HandlersError {
    HandlersError::Invalid {
        origin: origin.clone(),
        message: message.into(),
    }
}
