//! What Kata's configuration names and a machine must have before a pod can start: hypervisor, kernel, image, /dev/kvm.
//!
//! Kata reads its configuration when a pod is made, so a missing kernel would show as a pod that fails minutes later with
//! an error from deep inside. Only what the file names is checked; what it leaves out has defaults built into Kata.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::document::{self, Item, Table};
use super::import::files_in;

/// Where Kata's runtimes look when no file is given: the one in Rust, then the one in Go.
const DEFAULTS: [&str; 6] = [
    "/etc/kata-containers/runtime-rs/configuration.toml",
    "/usr/share/defaults/kata-containers/runtime-rs/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml",
    "/etc/kata-containers/configuration.toml",
    "/usr/share/defaults/kata-containers/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/configuration.toml",
];

/// Hypervisors that run a guest with the processor's help and have no way without.
const ACCELERATED: [&str; 7] = [
    "qemu",
    "clh",
    "cloud-hypervisor",
    "firecracker",
    "dragonball",
    "stratovirt",
    "openvmm",
];

/// The places of a machine that a check looks at.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    defaults: Vec<PathBuf>,
    kvm: PathBuf,
    /// Hyper-V's counterpart of KVM, which some hypervisors take instead.
    mshv: PathBuf,
    /// By which a QEMU's guest is spoken to.
    vsock: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            defaults: DEFAULTS.map(PathBuf::from).to_vec(),
            kvm: PathBuf::from("/dev/kvm"),
            mshv: PathBuf::from("/dev/mshv"),
            vsock: PathBuf::from("/dev/vhost-vsock"),
        }
    }
}

impl Machine {
    /// Every path that [`Self::check`] depends on. A configuration that can't be read adds none.
    pub(super) fn inputs(&self, config: Option<&Path>) -> Vec<PathBuf> {
        let mut inputs = vec![self.kvm.clone(), self.mshv.clone(), self.vsock.clone()];
        for file in self.candidates(config) {
            inputs.extend(
                file.canonicalize()
                    .map(|real| sources(&real))
                    .unwrap_or_default(),
            );
            if let Ok(root) = load(&file) {
                for (_, table) in hypervisors(&root) {
                    inputs.extend(FILES.iter().filter_map(|(key, _)| table.path(key)));
                }
            }
            inputs.push(file);
        }
        inputs
    }

    /// Whether pods can start with this configuration; `None` is one of the default places.
    ///
    /// # Errors
    /// What is missing, and where it is named.
    pub(super) fn check(&self, config: Option<&Path>) -> Result<(), String> {
        if let Some(file) = config {
            return self.check_file(file);
        }
        let present: Vec<&PathBuf> = self.defaults.iter().filter(|file| file.exists()).collect();
        let mut problem = None;
        // Which one a binary reads is built into it.
        for file in &present {
            match self.check_file(file) {
                Ok(()) => return Ok(()),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.unwrap_or_else(|| {
            let places: Vec<_> = self.defaults.iter().map(|p| p.display().to_string()).collect();
            format!(
                "Kata has no configuration: there is none of {}; install one, or give its path as config (ConfigPath)",
                places.join(", ")
            )
        }))
    }

    fn candidates(&self, config: Option<&Path>) -> Vec<PathBuf> {
        match config {
            Some(file) => vec![file.to_owned()],
            None => self.defaults.clone(),
        }
    }

    fn check_file(&self, file: &Path) -> Result<(), String> {
        let root = load(file)?;
        let hypervisors = hypervisors(&root);
        if hypervisors.is_empty() {
            return Err(format!(
                "{} names no hypervisor ([hypervisor.NAME])",
                file.display()
            ));
        }
        for (name, table) in hypervisors {
            // Its virtual machines are elsewhere.
            if name != "remote" {
                files(name, table)?;
                self.acceleration(name, table, file)?;
                self.vsock(name, table, file)?;
            }
        }
        Ok(())
    }

    /// QEMU's guests are spoken to through the kernel's vhost-vsock; the others make their own sockets of it.
    fn vsock(&self, name: &str, table: &Table, file: &Path) -> Result<(), String> {
        let is_qemu = name.split('-').next() == Some("qemu");
        // A script may start another one.
        if !is_qemu || table.path("path").is_some_and(|path| is_script(&path)) {
            return Ok(());
        }
        let opened = File::options().read(true).write(true).open(&self.vsock);
        opened.map(drop).map_err(|error| {
            format!(
                "hypervisor.{name} in {} needs {}, which can't be opened: {error}; load vhost_vsock",
                file.display(),
                self.vsock.display()
            )
        })
    }

    fn acceleration(&self, name: &str, table: &Table, file: &Path) -> Result<(), String> {
        if !ACCELERATED.contains(&name) || emulates(table) || self.mshv.exists() {
            return Ok(());
        }
        let opened = File::options().read(true).write(true).open(&self.kvm);
        opened.map(drop).map_err(|error| {
            format!(
                "hypervisor.{name} in {} needs {}, which can't be opened: {error}; load kvm_intel or kvm_amd, and on a \
                 virtual machine enable nested virtualization",
                file.display(),
                self.kvm.display()
            )
        })
    }
}

/// What a file has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    /// A program.
    Program,
    /// The program that shares directories, where the configuration wants that one.
    FileSharing,
    /// Something to read.
    Data,
}

/// The settings of a hypervisor that name files.
const FILES: [(&str, Needed); 8] = [
    ("path", Needed::Program),
    ("jailer_path", Needed::Program),
    ("virtio_fs_daemon", Needed::FileSharing),
    ("kernel", Needed::Data),
    ("image", Needed::Data),
    ("initrd", Needed::Data),
    ("firmware", Needed::Data),
    ("firmware_volume", Needed::Data),
];

fn files(name: &str, table: &Table) -> Result<(), String> {
    for (key, needed) in FILES {
        let Some(node) = table.get(key) else { continue };
        let Item::Text(text) = &node.item else {
            return Err(format!(
                "hypervisor.{name}.{key} ({}) must be a text",
                node.origin
            ));
        };
        let shares = table
            .text("shared_fs")
            .is_none_or(|kind| kind.starts_with("virtio-fs"));
        // An empty text is how Kata's files leave a thing out.
        if text.is_empty() || (needed == Needed::FileSharing && !shares) {
            continue;
        }
        let problem = match Path::new(text).metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "does not exist".to_owned()
            }
            Err(error) => format!("can't be read: {error}"),
            Ok(found) if !found.is_file() => "is no file".to_owned(),
            Ok(found) if needed != Needed::Data && found.permissions().mode() & 0o111 == 0 => {
                "is not executable".to_owned()
            }
            Ok(_) => continue,
        };
        return Err(format!(
            "hypervisor.{name}.{key} ({}): {text} {problem}",
            node.origin
        ));
    }
    Ok(())
}

/// Whether a QEMU is told to run without KVM, or is started by a script, which may do so.
fn emulates(table: &Table) -> bool {
    let told = table
        .text("machine_accelerators")
        .is_some_and(|options| options.contains("tcg"));
    told || table.path("path").is_some_and(|path| is_script(&path))
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"#!"
}

/// The files that make up a configuration: itself, the directory of its drop-ins, and those.
fn sources(file: &Path) -> Vec<PathBuf> {
    let folder = file.with_file_name("config.d");
    let mut sources = vec![file.to_owned(), folder.clone()];
    sources.extend(files_in(&folder, "toml"));
    sources
}

/// The configuration with its drop-ins laid over it, in name order.
fn load(file: &Path) -> Result<Table, String> {
    // Kata resolves links before it looks for drop-ins.
    let real = file
        .canonicalize()
        .map_err(|error| format!("config {}: {error}", file.display()))?;
    let read = |path: &Path| {
        document::read(path).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    };
    let mut root = read(&real)?;
    for drop_in in files_in(&real.with_file_name("config.d"), "toml") {
        root.merge(read(&drop_in)?);
    }
    Ok(root)
}

/// The hypervisor that the configuration chooses; all that it has when it chooses none.
fn hypervisors(root: &Table) -> Vec<(&str, &Table)> {
    let Some(all) = root.at(&["hypervisor"]) else {
        return Vec::new();
    };
    let chosen = root
        .at(&["runtime"])
        .and_then(|runtime| runtime.text("hypervisor_name"));
    all.iter()
        .filter_map(|(name, node)| match &node.item {
            Item::Table(table) => Some((name, table)),
            Item::Text(_) | Item::Flag(_) | Item::Number(_) | Item::List(_) | Item::Other => None,
        })
        .filter(|(name, _)| chosen.is_none_or(|chosen| chosen == *name))
        .collect()
}

#[cfg(test)]
mod tests;
