//! Settings at a place where nobody reads them, and files of other programs.

use std::path::Path;

use super::document::{self, Origin, Table};
use super::import::Warning;
use super::{HandlersError, docker};

/// Whose form a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Berth,
    Containerd,
    Crio,
}

/// Keys at the top that only one program's file has, and what to do with that file.
const SIGNS: [(&str, Option<Form>, &str); 9] = [
    (
        "handlers",
        Some(Form::Berth),
        "this is berth's own configuration: give it with --config",
    ),
    (
        "default_handler",
        Some(Form::Berth),
        "this is berth's own configuration: give it with --config",
    ),
    (
        "plugins",
        Some(Form::Containerd),
        "this is containerd's configuration: give it with --containerd-config",
    ),
    (
        "imports",
        Some(Form::Containerd),
        "this is containerd's configuration: give it with --containerd-config",
    ),
    (
        "crio",
        Some(Form::Crio),
        "this is CRI-O's configuration: give it with --crio-config",
    ),
    (
        "hypervisor",
        None,
        "this is Kata's configuration: it names no handler; give its path as the config (ConfigPath) of one",
    ),
    (
        "runsc_config",
        None,
        "this is gVisor's configuration: it names no handler; give its path as the config (ConfigPath) of one",
    ),
    (
        "engine",
        None,
        "this is Podman's containers.conf: write its runtimes as [handlers.NAME] into berth's own configuration",
    ),
    (
        "registries",
        None,
        "this is a list of registries: it names no handler",
    ),
];

/// Reads a file that is to be of a form.
///
/// # Errors
/// When it can't be read, or is another program's: what is in it would be passed over without a word.
pub(super) fn read(path: &Path, form: Form) -> Result<Table, HandlersError> {
    let text = document::read_text(path)?;
    if text.trim_start().starts_with('{') {
        let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        return Err(if is_json {
            docker::refuse(path)
        } else {
            document::parse(path, &text)
                .err()
                .unwrap_or(HandlersError::Invalid {
                    origin: Origin::file(path),
                    message: "it begins like JSON, and is to be TOML".to_owned(),
                })
        });
    }
    let root = document::parse(path, &text)?;
    let owns = SIGNS
        .iter()
        .any(|(key, whose, _)| *whose == Some(form) && root.get(key).is_some());
    let other = SIGNS
        .iter()
        .filter(|(_, whose, _)| *whose != Some(form))
        .find_map(|(key, _, what)| Some((root.get(key)?, what)));
    match other {
        Some((node, what)) if !owns => Err(HandlersError::Invalid {
            origin: node.origin.clone(),
            message: (*what).to_owned(),
        }),
        Some(_) | None => Ok(root),
    }
}

/// Finds tables that have one of `keys` and stand where nobody looks for it. `is_right` judges the path of such a table;
/// `right` says where it belongs.
pub(super) fn find(
    root: &Table,
    keys: &[&str],
    is_right: &dyn Fn(&[&str]) -> bool,
    right: &str,
) -> Vec<Warning> {
    let mut found = Vec::new();
    walk(root, &mut Vec::new(), &mut |path, table| {
        let Some((key, node)) = keys.iter().find_map(|key| Some((key, table.get(key)?))) else {
            return true;
        };
        if is_right(path) {
            return true;
        }
        let place = if path.is_empty() {
            "at the top".to_owned()
        } else {
            format!("in [{}]", shown(path))
        };
        found.push(Warning::mistake(
            &node.origin,
            format!("{key} has no effect {place}: it belongs into {right}"),
        ));
        // What is in it is as lost.
        false
    });
    found
}

/// Visits every table, the outer ones first, as long as `visit` wants what is inside.
fn walk<'t>(
    table: &'t Table,
    path: &mut Vec<&'t str>,
    visit: &mut dyn FnMut(&[&str], &'t Table) -> bool,
) {
    if !visit(path, table) {
        return;
    }
    for (key, node) in table.iter() {
        if let Some(inner) = node.item.table() {
            path.push(key);
            walk(inner, path, visit);
            path.pop();
        }
    }
}

/// A path as a header of TOML has it.
fn shown(path: &[&str]) -> String {
    let plain = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let parts = path.iter().map(|key| {
        if plain(key) {
            (*key).to_owned()
        } else {
            format!("{key:?}")
        }
    });
    parts.collect::<Vec<_>>().join(".")
}
