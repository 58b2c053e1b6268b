//! What containerd is given to read before it is restarted: `containerd --config FILE config dump` says what it makes of it.
//!
//! What it would read from now on is laid out in a file of its own, with all imports by their names, so that nothing that is in
//! force is touched. It may differ from what is in force in our handlers, and in nothing else.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Spanned, Table, Value};

use crate::entry::{CRI_PLUGINS, Entries};

/// The main file with its imports replaced by these files. Relative names would lead elsewhere in another folder.
///
/// # Errors
/// When the text is no TOML.
pub fn with_imports(main: &str, files: &[PathBuf]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Main {
        imports: Option<Spanned<Vec<String>>>,
    }
    let read: Main = toml::from_str(main).map_err(|error| error.message().to_owned())?;
    let list: Vec<Value> = files
        .iter()
        .map(|file| Value::String(file.display().to_string()))
        .collect();
    let list = Value::Array(list).to_string();
    let Some(imports) = read.imports else {
        return Ok(format!("imports = {list}\n{main}"));
    };
    let Range { start, end } = imports.span();
    let (before, after) = (main.get(..start), main.get(end..));
    let (Some(before), Some(after)) = (before, after) else {
        return Err("imports can't be found again".to_owned());
    };
    Ok(format!("{before}{list}{after}"))
}

/// The main file with all its imports by name, and ours behind them.
///
/// # Errors
/// When the text is no TOML.
pub fn importing(main: &str, others: &[PathBuf], own: &Path) -> Result<String, String> {
    let mut files = others.to_vec();
    files.push(own.to_owned());
    with_imports(main, &files)
}

/// The handlers in a dump.
#[must_use]
pub fn handlers(dump: &Table) -> Entries {
    let runtimes = CRI_PLUGINS.iter().rev().find_map(|plugin| {
        crate::entry::at_path(dump, &["plugins", plugin, "containerd", "runtimes"])
    });
    let all = runtimes.into_iter().flatten();
    all.filter_map(|(name, entry)| Some((name.clone(), entry.as_table()?.clone())))
        .collect()
}

/// Handlers that the one dump has and the other lacks: containerd 1.x forgets its own runc when a file names another handler.
#[must_use]
pub fn lost(before: &Table, after: &Table) -> Entries {
    let after = handlers(after);
    let mut before = handlers(before);
    before.retain(|name, _| !after.contains_key(name));
    for table in before.values_mut() {
        tidy(table);
    }
    before
}

/// Whether the default handler, or another, asks systemd for cgroups.
#[must_use]
pub fn uses_systemd_cgroup(dump: &Table) -> bool {
    let containerd = CRI_PLUGINS
        .iter()
        .rev()
        .find_map(|plugin| crate::entry::at_path(dump, &["plugins", plugin, "containerd"]));
    let default = containerd.and_then(|table| table.get("default_runtime_name")?.as_str());
    let all = handlers(dump);
    let entry = all.get(default.filter(|name| !name.is_empty()).unwrap_or("runc"));
    let flag = entry.and_then(|entry| entry.get("options")?.get("SystemdCgroup")?.as_bool());
    flag.unwrap_or_default()
}

/// What differs between the two beside the handlers that are ours, before or after; the first few places.
#[must_use]
pub fn differences(before: &Table, after: &Table, ours: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let clean = |dump: &Table| {
        let mut dump = dump.clone();
        dump.remove("imports");
        for plugin in CRI_PLUGINS {
            let runtimes = dump.get_mut("plugins").and_then(|plugins| {
                plugins
                    .get_mut(plugin)?
                    .get_mut("containerd")?
                    .get_mut("runtimes")?
                    .as_table_mut()
            });
            if let Some(runtimes) = runtimes {
                runtimes.retain(|name, _| !ours.contains(name));
            }
        }
        tidy(&mut dump);
        dump
    };
    compare(
        "",
        &Value::Table(clean(before)),
        &Value::Table(clean(after)),
        &mut found,
    );
    found.truncate(5);
    found
}

/// Takes away what says nothing: what an entry leaves out is empty in a dump.
fn tidy(table: &mut Table) {
    for (_, value) in table.iter_mut() {
        if let Value::Table(table) = value {
            tidy(table);
        }
    }
    table.retain(|_, value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Integer(number) => *number != 0,
        Value::Boolean(flag) => *flag,
        Value::Array(list) => !list.is_empty(),
        Value::Table(table) => !table.is_empty(),
        Value::Float(_) | Value::Datetime(_) => true,
    });
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    if let (Value::Table(before), Value::Table(after)) = (before, after) {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            match (before.get(name), after.get(name)) {
                (Some(before), Some(after)) => compare(&path, before, after, found),
                (Some(_), None) => found.push(format!("{path} would be gone")),
                (None, Some(_)) => found.push(format!("{path} would be new")),
                (None, None) => {}
            }
        }
    } else if before != after {
        found.push(format!("{path} would be another"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_named_one_by_one() {
        let files = [PathBuf::from("/a/1.toml"), PathBuf::from("/a/2.toml")];
        let want = "imports = [\"/a/1.toml\", \"/a/2.toml\"]";
        for (main, whole) in [
            ("version = 2\n", format!("{want}\nversion = 2\n")),
            (
                "version = 2\nimports = ['conf.d/*.toml'] # mine\n[x]\n",
                format!("version = 2\n{want} # mine\n[x]\n"),
            ),
            ("imports = [\n  \"x\",\n]\n", format!("{want}\n")),
        ] {
            assert_eq!(with_imports(main, &files).unwrap(), whole);
        }
        assert!(with_imports("x = [", &files).is_err());
        let text = importing("version = 3\n", &files[..1], Path::new("/tmp/own.toml")).unwrap();
        assert_eq!(
            text,
            "imports = [\"/a/1.toml\", \"/tmp/own.toml\"]\nversion = 3\n"
        );
    }

    fn dump(text: &str) -> Table {
        text.parse().unwrap()
    }

    const BEFORE: &str = "imports = []\nversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"pause\"\n\
        [plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"runc\"\n\
        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\nruntime_root = \"\"\n\
        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = true\nRoot = \"\"\n";
    const OURS: &str =
        "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun]\nruntime_type = \"x\"\n";

    #[test]
    fn our_handlers_may_differ_and_nothing_else() {
        let ours = BTreeSet::from(["crun".to_owned()]);
        let before = dump(BEFORE);
        assert!(uses_systemd_cgroup(&before));
        let after = dump(&format!(
            "{}{OURS}",
            BEFORE.replace("imports = []", "imports = ['/x']")
        ));
        assert_eq!(differences(&before, &after, &ours), [""; 0]);
        assert_eq!(differences(&after, &before, &ours), [""; 0]);
        // What is empty in the one, and missing in the other, is the same.
        let tidied = dump(&BEFORE.replace("runtime_root = \"\"\n", ""));
        assert_eq!(differences(&before, &tidied, &ours), [""; 0]);
        let none = BTreeSet::new();
        let runtimes = "plugins.io.containerd.grpc.v1.cri.containerd.runtimes";
        assert_eq!(
            differences(&before, &after, &none),
            [format!("{runtimes}.crun would be new")]
        );
        for (from, to, words) in [
            (
                "\"pause\"",
                "\"other\"",
                "plugins.io.containerd.grpc.v1.cri.sandbox_image would be another",
            ),
            (
                "SystemdCgroup = true",
                "",
                "runtimes.runc.options would be gone",
            ),
            (
                "sandbox_image = \"pause\"\n",
                "",
                "sandbox_image would be gone",
            ),
        ] {
            let after = dump(&format!("{}{OURS}", BEFORE.replace(from, to)));
            let found = differences(&before, &after, &ours);
            assert!(found.len() == 1 && found[0].ends_with(words), "{found:?}");
        }
    }

    #[test]
    fn what_containerd_1_forgets_is_found() {
        let after = dump(&format!("version = 2\n{OURS}"));
        let lost = lost(&dump(BEFORE), &after);
        let text = crate::entry::render(crate::entry::Form::Containerd(2), &Entries::new(), &lost);
        assert_eq!(
            text,
            "# handlers: \n\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
        );
    }
}
