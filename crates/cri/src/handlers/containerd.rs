//! Handlers from containerd's config.toml, in all four versions of the file.
//!
//! Version 1 keeps the CRI plugin under `plugins.cri`, version 2 under
//! `plugins."io.containerd.grpc.v1.cri"`, versions 3 and 4 under
//! `plugins."io.containerd.cri.v1.runtime"` (with registries under
//! `plugins."io.containerd.cri.v1.images"`). `imports` name further files, with globs, that are
//! laid over the importing one; each may have a version of its own.

use std::path::{Path, PathBuf};

use super::HandlersError;
use super::definition::{ALL_DEVICES, Definition, RuntimeDef, Sandboxer, is_kata, shim_binary};
use super::document::{Item, Kind, Node, Origin, Table};
use super::import::{self, Imported, Warning, glob};
use super::misplaced::{self, Form};
use super::misspelt;

const V2_PLUGIN: &str = "io.containerd.grpc.v1.cri";
const V3_RUNTIME: &str = "io.containerd.cri.v1.runtime";
const V3_IMAGES: &str = "io.containerd.cri.v1.images";

/// The parts of one or several files that matter here, in one shape whatever their version.
#[derive(Default)]
struct Sections {
    containerd: Table,
    cni: Table,
    registry: Table,
}

/// Reads `path` and everything it imports.
pub(crate) fn import(path: &Path) -> Result<Imported, HandlersError> {
    let mut sections = Sections::default();
    let mut imported = Imported::default();
    let mut seen = Vec::new();
    load(path, &mut sections, &mut imported, &mut seen)?;

    let containerd = &sections.containerd;
    if containerd.iter().next().is_none() {
        let what = "there is no section of the CRI plugin's runtimes (plugins.\"io.containerd.grpc.v1.cri\".containerd in a \
                    file of version 2, plugins.\"io.containerd.cri.v1.runtime\".containerd in one of version 3), in the \
                    imported files neither: the only handler is containerd's own, runc";
        imported
            .warnings
            .push(Warning::doubt(&Origin::file(path), what));
    }
    if let Some(default) = containerd.get("default_runtime_name")
        && let Item::Text(name) = &default.item
        && !name.is_empty()
    {
        imported.default = Some((name.clone(), default.origin.clone()));
    }
    if let Some(runtimes) = containerd.at(&["runtimes"]) {
        for (name, node) in runtimes.iter() {
            let empty = Table::default();
            let table = node.item.table();
            let fields = table.unwrap_or(&empty);
            let mut definition = handler(name, fields, &node.origin, &mut imported.warnings);
            if table.is_none() {
                definition.unreadable.push("it must be a table".to_owned());
            }
            imported.handlers.push(definition);
        }
    }
    legacy(containerd, "default_runtime", None, &mut imported);
    legacy(
        containerd,
        "untrusted_workload_runtime",
        Some("untrusted"),
        &mut imported,
    );
    if imported.default.is_none() {
        // containerd's own default.
        imported.default = Some(("runc".to_owned(), Origin::built_in()));
        if !imported
            .handlers
            .iter()
            .any(|handler| handler.name == "runc")
        {
            imported.handlers.push(super::built_in::oci("runc"));
        }
    }
    imported.cni_conf_dir = sections.cni.path("conf_dir");
    imported.cni_bin_dirs = sections
        .cni
        .texts("bin_dir")
        .into_iter()
        .map(PathBuf::from)
        .collect();
    for dir in sections.cni.texts("bin_dirs") {
        imported.cni_bin_dirs.push(PathBuf::from(dir));
    }
    // The path may be a list in PATH's notation.
    imported.hosts_dirs = sections
        .registry
        .text("config_path")
        .map(|paths| std::env::split_paths(paths).collect())
        .unwrap_or_default();
    if let Some(mirrors) = sections.registry.get("mirrors") {
        imported.warnings.push(Warning::new(
            &mirrors.origin,
            "registry.mirrors is ignored: containerd 2 removed it; move it to a hosts.toml under registry.config_path",
        ));
    }
    Ok(imported)
}

fn load(
    path: &Path,
    sections: &mut Sections,
    imported: &mut Imported,
    seen: &mut Vec<PathBuf>,
) -> Result<(), HandlersError> {
    let path = path.canonicalize().map_err(|source| HandlersError::Read {
        path: path.to_owned(),
        source,
    })?;
    if seen.contains(&path) {
        return Ok(());
    }
    seen.push(path.clone());
    let root = misplaced::read(&path, Form::Containerd)?;
    let version = match root.get("version") {
        None => 1,
        Some(Node {
            item: Item::Number(number @ 1..=4),
            ..
        }) => *number,
        Some(node) => {
            return Err(HandlersError::Invalid {
                origin: node.origin.clone(),
                message: "version must be 1, 2, 3 or 4".to_owned(),
            });
        }
    };
    let plugins = root.at(&["plugins"]);
    let section = |plugin: &str, rest: &[&str]| -> Table {
        let table = plugins.and_then(|plugins| plugins.at(&[plugin])?.at(rest));
        table.cloned().unwrap_or_default()
    };
    let (runtime, images) = match version {
        1 => ("cri", "cri"),
        2 => (V2_PLUGIN, V2_PLUGIN),
        _ => (V3_RUNTIME, V3_IMAGES),
    };
    sections.containerd.merge(section(runtime, &["containerd"]));
    sections.cni.merge(section(runtime, &["cni"]));
    sections.registry.merge(section(images, &["registry"]));
    warn_other_versions(plugins, version, imported);
    imported.warnings.extend(misplaced_in(&root, runtime));
    imported.files.push(path.clone());

    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    if let Some(node) = root.get("imports") {
        for pattern in root.texts("imports") {
            let matches = glob(&folder.join(pattern)).unwrap_or_else(|source| {
                imported.refused.push(HandlersError::Import {
                    origin: node.origin.clone(),
                    source,
                });
                Vec::new()
            });
            for file in matches {
                if let Err(error) = load(&file, sections, imported, seen) {
                    imported.refused.push(error);
                }
            }
        }
    }
    Ok(())
}

/// A CRI section under another version's name is silently ignored by containerd; say so.
fn warn_other_versions(plugins: Option<&Table>, version: i64, imported: &mut Imported) {
    let Some(plugins) = plugins else { return };
    for (name, since) in [("cri", 1), (V2_PLUGIN, 2), (V3_RUNTIME, 3)] {
        let Some(node) = plugins.get(name) else {
            continue;
        };
        let fits = match since {
            1 => version == 1,
            2 => version == 2,
            _ => version >= 3,
        };
        if !fits {
            let right = match version {
                1 => "cri",
                2 => V2_PLUGIN,
                _ => V3_RUNTIME,
            };
            let top = if version == 1 {
                "; a file without a line \"version = 2\" or newer is one of version 1"
            } else {
                ""
            };
            imported.warnings.push(Warning::mistake(
                &node.origin,
                format!(
                    "plugins.\"{name}\" has no effect in a file of version {version}, where it is plugins.\"{right}\"{top}"
                ),
            ));
        }
    }
}

/// Runtimes and the name of the default at a place where containerd passes over them.
fn misplaced_in(root: &Table, plugin: &str) -> Vec<Warning> {
    // Those of other versions are reported as such.
    let is_other = |path: &[&str]| match path {
        ["plugins", name, ..] => *name != plugin && ["cri", V2_PLUGIN, V3_RUNTIME].contains(name),
        _ => false,
    };
    let is_runtime = |path: &[&str]| match path {
        ["plugins", name, "containerd", "runtimes", _] => *name == plugin,
        [
            "plugins",
            name,
            "containerd",
            "default_runtime" | "untrusted_workload_runtime",
        ] => *name == plugin,
        _ => is_other(path),
    };
    let is_options = |path: &[&str]| {
        matches!(path.split_last(), Some((&"options", outer)) if is_runtime(outer))
            || is_other(path)
    };
    let is_section = |path: &[&str]| {
        matches!(path, ["plugins", name, "containerd"] if *name == plugin) || is_other(path)
    };
    let section = format!("plugins.{plugin:?}.containerd");
    let runtime = format!("[{section}.runtimes.NAME]");
    let mut found = misplaced::find(
        root,
        &["runtime_type", "runtime_path", "runtime_engine"],
        &is_runtime,
        &runtime,
    );
    let options = format!("[{section}.runtimes.NAME.options]");
    let option_keys = ["BinaryName", "ConfigPath", "SystemdCgroup"];
    found.extend(misplaced::find(root, &option_keys, &is_options, &options));
    let default = format!("[{section}]");
    found.extend(misplaced::find(
        root,
        &["default_runtime_name"],
        &is_section,
        &default,
    ));
    found
}

/// The fixed tables of containerd 1.0 to 1.2, before handlers had names.
fn legacy(containerd: &Table, key: &str, name: Option<&str>, imported: &mut Imported) {
    let Some(Node {
        item: Item::Table(table),
        origin,
    }) = containerd.get(key)
    else {
        return;
    };
    if table.text("runtime_type").is_none() {
        return;
    }
    let name = name.unwrap_or("default");
    if imported.handlers.iter().all(|handler| handler.name != name) {
        let definition = handler(name, table, origin, &mut imported.warnings);
        imported.handlers.push(definition);
    }
    if name == "default" && imported.default.is_none() {
        imported.default = Some((name.to_owned(), origin.clone()));
    }
}

/// What a runtime's settings that matter here take.
const KINDS: &[(&str, Kind)] = &[
    ("runtime_type", Kind::Text),
    ("runtime_path", Kind::Text),
    ("runtime_engine", Kind::Text),
    ("runtime_root", Kind::Text),
    ("systemd_cgroup", Kind::Flag),
    ("options", Kind::Table),
    ("privileged_without_host_devices", Kind::Flag),
    (ALL_DEVICES, Kind::Flag),
    ("snapshotter", Kind::Text),
    ("pod_annotations", Kind::Texts),
    ("container_annotations", Kind::Texts),
    ("base_runtime_spec", Kind::Text),
    ("cni_conf_dir", Kind::Text),
    ("sandboxer", Kind::Text),
];

/// Options of containerd's runc shims that mean nothing here.
const IDLE_OPTIONS: &[&str] = &[
    "NoPivotRoot",
    "NoNewKeyring",
    "ShimCgroup",
    "IoUid",
    "IoGid",
    "CriuPath",
    "CriuImagePath",
    "CriuWorkPath",
    "ConfigBody",
    "TaskApiAddress",
    "TaskApiVersion",
];

/// And its options.
const OPTIONS: &[(&str, Kind)] = &[
    ("BinaryName", Kind::Text),
    ("Runtime", Kind::Text),
    ("Root", Kind::Text),
    ("ConfigPath", Kind::Text),
    ("TypeUrl", Kind::Text),
    ("SystemdCgroup", Kind::Flag),
];

fn handler(name: &str, table: &Table, origin: &Origin, warnings: &mut Vec<Warning>) -> Definition {
    let empty = Table::default();
    let options = table.at(&["options"]).unwrap_or(&empty);
    let runtime_type = table
        .text("runtime_type")
        .unwrap_or("io.containerd.runc.v2");
    let systemd_cgroup = options
        .flag("SystemdCgroup")
        .or_else(|| table.flag("systemd_cgroup"))
        .unwrap_or(false);
    let config = options.path("ConfigPath");
    let runtime = match (table.path("runtime_path"), runtime_type) {
        (
            None,
            "io.containerd.runc.v1" | "io.containerd.runc.v2" | "io.containerd.runtime.v1.linux",
        ) => RuntimeDef::Oci {
            binary: options
                .path("BinaryName")
                .or_else(|| options.path("Runtime"))
                .or_else(|| table.path("runtime_engine"))
                .unwrap_or_else(|| PathBuf::from("runc")),
            root: options.path("Root").or_else(|| table.path("runtime_root")),
            systemd_cgroup,
            config: None,
            args: Vec::new(),
        },
        (None, "io.containerd.runsc.v1") => RuntimeDef::Oci {
            binary: options
                .path("BinaryName")
                .unwrap_or_else(|| PathBuf::from("runsc")),
            root: options.path("Root"),
            systemd_cgroup,
            config,
            args: Vec::new(),
        },
        (path, runtime_type) => {
            // A bad runtime_type gives a binary that nobody finds, hence a broken handler that
            // names it.
            let binary = path
                .or_else(|| shim_binary(runtime_type).map(PathBuf::from))
                .unwrap_or_else(|| PathBuf::from(runtime_type));
            RuntimeDef::Shim {
                vm: runtime_type.contains("kata") || is_kata(&binary),
                binary,
                config,
                config_type: options.text("TypeUrl").map(str::to_owned),
                runtime_binary: options.path("BinaryName"),
                systemd_cgroup,
            }
        }
    };
    let mut definition = Definition::new(name, runtime, origin.clone());
    definition.unreadable = table.mistaken(KINDS);
    definition.unreadable.extend(
        options
            .mistaken(OPTIONS)
            .into_iter()
            .map(|setting| format!("options.{setting}")),
    );
    definition.set_devices(
        table.flag("privileged_without_host_devices"),
        table.flag(ALL_DEVICES),
    );
    definition.pod_annotations = table.texts("pod_annotations");
    definition.container_annotations = table.texts("container_annotations");
    definition.base_runtime_spec = table.path("base_runtime_spec");
    definition.cni_conf_dir = table.path("cni_conf_dir");
    let refused = import::check_snapshotter(name, table, warnings);
    definition.unreadable.extend(refused);
    let sandboxer = table.text("sandboxer").unwrap_or_default();
    match Sandboxer::from_name(sandboxer) {
        Some(Sandboxer::Shim) if !matches!(definition.runtime, RuntimeDef::Shim { .. }) => {
            warnings.push(Warning::new(
                origin,
                format!("handler {name:?}: sandboxer = \"shim\" has no meaning for a runtime that berth drives itself"),
            ));
        }
        Some(sandboxer) => definition.sandboxer = sandboxer,
        None => definition.unreadable.push(format!(
            "sandboxer ({origin}) must be \"podsandbox\" or \"shim\", and is {sandboxer:?}"
        )),
    }
    for (key, node) in table.iter() {
        let known = key == "cni_max_conf_num" || KINDS.iter().any(|(known, _)| *known == key);
        let idle = matches!(&node.item, Item::Text(text) if text.is_empty());
        // Those have been reported already, with where they belong.
        let misplaced = OPTIONS.iter().any(|(option, _)| *option == key);
        if known || idle || misplaced {
            continue;
        }
        let message = format!("handler {name:?}: {key} has no meaning here and is ignored");
        let keys = KINDS.iter().map(|(key, _)| *key);
        let options = OPTIONS.iter().map(|(option, _)| *option);
        warnings.push(if misspelt::nearest(key, keys.clone()).is_some() {
            let hint = misspelt::hint(key, keys);
            Warning::mistake(&node.origin, format!("{message}{hint}"))
        } else if let Some(option) = misspelt::nearest(key, options) {
            let hint = format!("; did you mean options.{option}?");
            Warning::mistake(&node.origin, format!("{message}{hint}"))
        } else {
            Warning::new(&node.origin, message)
        });
    }
    for (key, node) in options.iter() {
        let known = OPTIONS.iter().map(|(option, _)| *option);
        let known = known.chain(IDLE_OPTIONS.iter().copied());
        // Other shims have options of their own.
        if known.clone().any(|known| known == key)
            || misspelt::nearest(key, known.clone()).is_none()
        {
            continue;
        }
        let hint = misspelt::hint(key, known);
        warnings.push(Warning::mistake(
            &node.origin,
            format!("handler {name:?}: options.{key} is not known and is ignored{hint}"),
        ));
    }
    definition
}
