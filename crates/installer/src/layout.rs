//! Which file of a node names the handlers.
//!
//! A drop-in of our own where the runtime reads one and lays it over what is there: containerd from 2.0 where the main file
//! imports its folder, k0s, newer k3s and RKE2, CRI-O. containerd 1.x replaces the whole section of the CRI plugin by that of an
//! imported file, so that a drop-in would throw away, or hold against its owner, what else the section says; there, and where
//! nothing is imported, our lines stand in the file that has the section (`block.rs`). k3s and RKE2 write the file anew at each
//! start, out of a template; MicroK8s, too.

use std::path::{Path, PathBuf};

use toml::Table;

use crate::block;
use crate::entry::{CRI_PLUGINS, Form, at_path};

/// Files of the node.
pub trait Files {
    /// The text of a file; none where there is none.
    ///
    /// # Errors
    /// With why it can't be read.
    fn read(&self, path: &Path) -> Result<Option<String>, String>;
    /// The files that match a pattern as containerd's `imports` have them, in order.
    ///
    /// # Errors
    /// With why that can't be told.
    fn matching(&self, pattern: &Path) -> Result<Vec<PathBuf>, String>;
}

/// The runtime that runs on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Whether it is CRI-O; else containerd.
    pub is_crio: bool,
    /// Its version: `1.6`, `2.1`.
    pub version: (u64, u64),
    /// The main file: containerd's `--config`, CRI-O's.
    pub main: PathBuf,
    /// CRI-O's folder of drop-ins.
    pub crio_dir: PathBuf,
    /// The kubelet's version, which has k3s' in it.
    pub kubelet: String,
}

/// How a file is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As a whole.
    Own,
    /// As a whole, and the first line brings in the distribution's own template.
    OwnTemplate,
    /// Our lines at its end; the rest is another's.
    Lines,
}

/// How it can be seen before a restart what the runtime makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// By a main file that imports the entries last.
    Imported,
    /// By a main file with the entries at its end.
    Appended,
    /// Not at all, beyond that it is TOML.
    None,
}

/// Where the handlers are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The form.
    pub form: Form,
    /// The file.
    pub file: PathBuf,
    /// How it is ours.
    pub how: How,
    /// How it is checked.
    pub check: Check,
}

/// Why there is no place for handlers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A file can't be read.
    #[error("{0}")]
    Read(String),
    /// A file is no TOML.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// The version of a file is none that is known.
    #[error("{}: version {version} is none of 1, 2, 3 and 4", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: String,
    },
    /// Our lines are not whole.
    #[error("{}: {reason}", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: block::BlockError,
    },
    /// A runtime that is older than what is known.
    #[error("{runtime} {}.{} is not supported: containerd 1.6 or newer is", version.0, version.1)]
    Old {
        /// Its name.
        runtime: &'static str,
        /// Its version.
        version: (u64, u64),
    },
    /// A distribution that writes its file anew and takes no part of it from elsewhere.
    #[error(
        "{} is written anew at each start, and {kubelet} neither imports a folder of drop-ins nor has a template to add to: upgrade it, \
         or make {} yourself from {}", main.display(), template.display(), main.display()
    )]
    NoTemplate {
        /// The file.
        main: PathBuf,
        /// The template that could be.
        template: PathBuf,
        /// The version.
        kubelet: String,
    },
}

/// The name of a drop-in: it comes last.
const DROP_IN: &str = "99-berth.toml";

/// Where a node names handlers.
///
/// # Errors
/// When a file can't be understood, or the runtime has no place for handlers.
pub fn layout(runtime: &Runtime, files: &dyn Files) -> Result<Layout, LayoutError> {
    if runtime.is_crio {
        return Ok(Layout {
            form: Form::Crio,
            file: runtime.crio_dir.join("99-berth.conf"),
            how: How::Own,
            check: Check::None,
        });
    }
    if runtime.version < (1, 6) {
        return Err(LayoutError::Old {
            runtime: "containerd",
            version: runtime.version,
        });
    }
    let main = runtime.main.as_path();
    let text = files.read(main).map_err(LayoutError::Read)?;
    let Some(text) = text.filter(|text| !is_ours_whole(main, text)) else {
        return Ok(without_main(runtime));
    };
    let (text, _) = block::split(&text).map_err(|reason| LayoutError::Torn {
        path: main.to_owned(),
        reason,
    })?;
    let root = parse(main, &text)?;
    let form = Form::Containerd(version(main, &root)?);
    let folder = main.parent().unwrap_or(Path::new("/"));
    let is_merged = runtime.version >= (2, 0);

    if folder.ends_with("agent/etc/containerd") {
        return k3s(runtime, &root, form, files);
    }
    if text.starts_with("# k0s_managed=true") {
        let file = folder.join("containerd.d").join(DROP_IN);
        // k0s lays it over its own section, also under 1.x.
        let check = if is_merged {
            Check::Imported
        } else {
            Check::None
        };
        return Ok(Layout {
            form,
            file,
            how: How::Own,
            check,
        });
    }
    if main.ends_with("args/containerd.toml") && folder.starts_with("/var/snap/microk8s") {
        let file = folder.join("containerd-template.toml");
        return Ok(Layout {
            form,
            file,
            how: How::Lines,
            check: Check::Appended,
        });
    }
    if is_merged && let Some(file) = drop_in(&root, main) {
        return Ok(Layout {
            form,
            file,
            how: How::Own,
            check: Check::Imported,
        });
    }
    // The last file that has the section is the one that counts; in 2.x they all do.
    let mut file = main.to_owned();
    let mut form = form;
    if !is_merged {
        for other in imports(main, &root, files)? {
            let text = files
                .read(&other)
                .map_err(LayoutError::Read)?
                .filter(|text| !is_ours_whole(&other, text))
                .unwrap_or_default();
            let (text, _) = block::split(&text).map_err(|reason| LayoutError::Torn {
                path: other.clone(),
                reason,
            })?;
            let root = parse(&other, &text)?;
            if section(&root).is_some() {
                form = Form::Containerd(version(&other, &root)?);
                file = other;
            }
        }
    }
    let check = if file == main {
        Check::Appended
    } else {
        Check::Imported
    };
    Ok(Layout {
        form,
        file,
        how: How::Lines,
        check,
    })
}

/// Whether a file is the installer's as a whole, so that without us it is not there. What k3s and RKE2 make of a template of ours
/// begins like one, and is theirs.
#[must_use]
pub fn is_ours_whole(path: &Path, text: &str) -> bool {
    let is_rendered = path
        .parent()
        .is_some_and(|folder| folder.ends_with("agent/etc/containerd"));
    text.starts_with(block::OWNER) && !(is_rendered && path.ends_with("config.toml"))
}

/// containerd that runs on its defaults.
fn without_main(runtime: &Runtime) -> Layout {
    // From 2.2 on, they import this folder.
    if runtime.version >= (2, 2) && runtime.main == Path::new("/etc/containerd/config.toml") {
        let file = Path::new("/etc/containerd/conf.d").join(DROP_IN);
        return Layout {
            form: Form::Containerd(3),
            file,
            how: How::Own,
            check: Check::Imported,
        };
    }
    let version = if runtime.version >= (2, 0) { 3 } else { 2 };
    Layout {
        form: Form::Containerd(version),
        file: runtime.main.clone(),
        how: How::Own,
        check: Check::Appended,
    }
}

/// k3s and RKE2: `imports` of a folder in newer versions, else a template beside the file.
fn k3s(
    runtime: &Runtime,
    root: &Table,
    form: Form,
    files: &dyn Files,
) -> Result<Layout, LayoutError> {
    let folder = runtime.main.parent().unwrap_or(Path::new("/"));
    let (name, template) = match form {
        Form::Containerd(1 | 2) | Form::Crio => ("config.toml.d", "config.toml.tmpl"),
        Form::Containerd(_) => ("config-v3.toml.d", "config-v3.toml.tmpl"),
    };
    let drop_in = folder.join(name).join(DROP_IN);
    let is_merged = runtime.version >= (2, 0);
    if is_merged
        && patterns(root)
            .iter()
            .any(|pattern| matches(&runtime.main, pattern, &drop_in))
    {
        return Ok(Layout {
            form,
            file: drop_in,
            how: How::Own,
            check: Check::Imported,
        });
    }
    let file = folder.join(template);
    let check = Check::Appended;
    match files.read(&file).map_err(LayoutError::Read)? {
        Some(text) if !text.starts_with(block::OWNER) => Ok(Layout {
            form,
            file,
            how: How::Lines,
            check,
        }),
        Some(_) => Ok(Layout {
            form,
            file,
            how: How::OwnTemplate,
            check,
        }),
        None if has_base_template(&runtime.kubelet) => Ok(Layout {
            form,
            file,
            how: How::OwnTemplate,
            check,
        }),
        None => Err(LayoutError::NoTemplate {
            main: runtime.main.clone(),
            template: file,
            kubelet: runtime.kubelet.clone(),
        }),
    }
}

/// Whether k3s or RKE2 of this version knows `{{ template "base" . }}`, without which a template has to say all that the file does.
fn has_base_template(kubelet: &str) -> bool {
    let numbers: Vec<u64> = kubelet
        .trim_start_matches('v')
        .split(['.', '+', '-'])
        .map_while(|part| part.parse().ok())
        .collect();
    let &[1, minor, patch, ..] = numbers.as_slice() else {
        return false;
    };
    match minor {
        24 => patch >= 17,
        25 => patch >= 13,
        26 => patch >= 8,
        27 => patch >= 5,
        28 => patch >= 1,
        minor => minor > 28,
    }
}

/// The first line of a template of ours.
pub const BASE_TEMPLATE: &str = "{{ template \"base\" . }}\n";

/// The file of ours that the main file imports already, if it does.
fn drop_in(root: &Table, main: &Path) -> Option<PathBuf> {
    patterns(root).into_iter().find_map(|pattern| {
        let pattern = main.parent()?.join(pattern);
        let name = pattern.file_name()?.to_str()?;
        let file = pattern.parent()?.join(DROP_IN);
        // Such as conf.d/*.toml; a folder with a pattern in it could be any.
        let is_plain = !pattern
            .parent()?
            .to_string_lossy()
            .contains(['*', '?', '[']);
        (is_plain && matches!(name, "*.toml" | "*")).then_some(file)
    })
}

fn matches(main: &Path, pattern: &str, file: &Path) -> bool {
    let pattern = main.parent().unwrap_or(Path::new("/")).join(pattern);
    pattern.parent() == file.parent()
        && pattern
            .file_name()
            .is_some_and(|name| name == "*.toml" || name == "*")
}

fn patterns(root: &Table) -> Vec<&str> {
    let list = root.get("imports").and_then(toml::Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(toml::Value::as_str)
        .collect()
}

/// The files that the main file imports.
///
/// # Errors
/// When that can't be told.
pub fn imports(main: &Path, root: &Table, files: &dyn Files) -> Result<Vec<PathBuf>, LayoutError> {
    let folder = main.parent().unwrap_or(Path::new("/"));
    let mut all = Vec::new();
    for pattern in patterns(root) {
        for file in files
            .matching(&folder.join(pattern))
            .map_err(LayoutError::Read)?
        {
            if !all.contains(&file) {
                all.push(file);
            }
        }
    }
    Ok(all)
}

/// The CRI plugin's section, whatever the version.
#[must_use]
pub fn section(root: &Table) -> Option<&Table> {
    CRI_PLUGINS
        .iter()
        .rev()
        .find_map(|plugin| at_path(root, &["plugins", plugin]))
}

/// Reads TOML.
///
/// # Errors
/// With where it is none.
pub fn parse(path: &Path, text: &str) -> Result<Table, LayoutError> {
    text.parse()
        .map_err(|error: toml::de::Error| LayoutError::Syntax {
            path: path.to_owned(),
            message: without_source(text, &error),
        })
}

/// What a parser says, with the line's number and without its text, which may be a secret.
#[must_use]
pub fn without_source(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.matches('\n').count() + 1);
    line.map_or_else(
        || error.message().to_owned(),
        |line| format!("line {line}: {}", error.message()),
    )
}

fn version(path: &Path, root: &Table) -> Result<i64, LayoutError> {
    match root.get("version") {
        None => Ok(1),
        Some(toml::Value::Integer(version @ 1..=4)) => Ok(*version),
        Some(other) => Err(LayoutError::Version {
            path: path.to_owned(),
            version: other.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests;
