//! How a runtime is told of a handler: the table under its name.
//!
//! An entry is kept as it was written, so that one whose pods still run can be told again in the same words.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use crate::wanted::{Driver, Handler, Kind};

/// Entries by the handler's name.
pub type Entries = BTreeMap<String, Table>;

/// containerd's plugins that hold the handlers, from the oldest version of its file to the newest.
pub const CRI_PLUGINS: [&str; 3] = [
    "cri",
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.runtime",
];

/// The form of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// containerd's, of this version of the file: 1 to 4.
    Containerd(i64),
    /// CRI-O's.
    Crio,
}

impl Form {
    /// Where the handlers are.
    #[must_use]
    pub fn path(self) -> Vec<&'static str> {
        let plugin = match self {
            Self::Crio => return vec!["crio", "runtime", "runtimes"],
            Self::Containerd(1) => CRI_PLUGINS[0],
            Self::Containerd(2) => CRI_PLUGINS[1],
            Self::Containerd(_) => CRI_PLUGINS[2],
        };
        vec!["plugins", plugin, "containerd", "runtimes"]
    }
}

/// What a node adds to a handler.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The configuration's form.
    pub form: Form,
    /// Whether the node's default handler asks systemd for cgroups.
    pub systemd_cgroup: bool,
    /// Where berth's shim and the files that it reads are on the node.
    pub dir: &'a str,
}

impl Place<'_> {
    /// berth's shim on the node.
    #[must_use]
    pub fn shim(&self) -> String {
        format!("{}/bin/containerd-shim-berth-v2", self.dir)
    }

    /// The folder with what berth's shim reads.
    #[must_use]
    pub fn shim_configs(&self) -> String {
        format!("{}/handlers", self.dir)
    }

    /// The file with this text that berth's shim reads of a handler. The text's digest is in its name: the shim reads it for each
    /// container, and pods that run go on under the definition with which they started.
    #[must_use]
    pub fn shim_config(&self, handler: &str, text: &str) -> String {
        let digest = Sha256::digest(text.as_bytes());
        let digest: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}/{handler}-{digest}.json", self.shim_configs())
    }
}

/// What berth's shim reads: which runtime it drives. None where another drives it.
#[must_use]
pub fn shim_config(handler: &Handler, place: Place<'_>) -> Option<String> {
    let is_ours = place.form != Form::Crio && handler.driver() == Some(Driver::Berth);
    is_ours.then(|| {
        let systemd_cgroup = handler.systemd_cgroup.unwrap_or(place.systemd_cgroup);
        let kind = match handler.kind {
            Kind::Gvisor => "runsc",
            Kind::Oci | Kind::Shim => "",
        };
        let mut told = serde_json::json!({
            "binary": handler.binary,
            "systemdCgroup": systemd_cgroup && handler.kind != Kind::Gvisor,
        });
        if !kind.is_empty() {
            told["kind"] = kind.into();
        }
        format!("{told:#}\n")
    })
}

/// Whether an entry names anything below a folder: then nothing in it may go.
#[must_use]
pub fn names_below(table: &Table, folder: &str) -> bool {
    table.values().any(|value| match value {
        Value::Table(table) => names_below(table, folder),
        Value::String(text) => text
            .strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/')),
        Value::Array(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => false,
    })
}

/// The file that an entry gives to its shim.
#[must_use]
pub fn config_path(table: &Table) -> Option<&str> {
    table.get("options")?.get("ConfigPath")?.as_str()
}

/// The entry of a handler.
#[must_use]
pub fn entry(handler: &Handler, place: Place<'_>) -> Table {
    match place.form {
        Form::Crio => crio(handler),
        Form::Containerd(_) => containerd(handler, place),
    }
}

fn containerd(handler: &Handler, place: Place<'_>) -> Table {
    let mut table = Table::new();
    let mut options = Table::new();
    let text = |value: &str| Value::String(value.to_owned());
    let config = handler.config.as_deref();
    match handler.driver() {
        Some(Driver::Containerd) => {
            table.insert("runtime_type".into(), text("io.containerd.runc.v2"));
            options.insert("BinaryName".into(), text(&handler.binary));
            let systemd_cgroup = handler.systemd_cgroup.unwrap_or(place.systemd_cgroup);
            options.insert("SystemdCgroup".into(), Value::Boolean(systemd_cgroup));
        }
        // By its path as the type, not by `runtime_path`: 1.6 passes over that. The options are then of the type
        // runtimeoptions.v1.Options in every version, which have a path and no name of a binary.
        Some(Driver::Berth) => {
            table.insert("runtime_type".into(), text(&place.shim()));
            if let Some(told) = shim_config(handler, place) {
                let path = place.shim_config(&handler.name, &told);
                options.insert("ConfigPath".into(), text(&path));
            }
        }
        Some(Driver::Path(path)) => {
            table.insert("runtime_type".into(), text(&path));
            if let Some(config) = config {
                options.insert("ConfigPath".into(), text(config));
            }
        }
        None => {
            table.insert("runtime_type".into(), text(&handler.binary));
            if let Some(config) = config {
                options.insert("ConfigPath".into(), text(config));
            }
        }
    }
    if handler.privileged_without_host_devices {
        table.insert(
            "privileged_without_host_devices".into(),
            Value::Boolean(true),
        );
    }
    if !handler.pod_annotations.is_empty() {
        table.insert("pod_annotations".into(), texts(&handler.pod_annotations));
    }
    if !options.is_empty() {
        table.insert("options".into(), Value::Table(options));
    }
    table
}

fn crio(handler: &Handler) -> Table {
    let mut table = Table::new();
    let kind = match handler.kind {
        Kind::Oci | Kind::Gvisor => "oci",
        Kind::Shim => "vm",
    };
    table.insert("runtime_path".into(), Value::String(handler.binary.clone()));
    table.insert("runtime_type".into(), Value::String(kind.to_owned()));
    if handler.kind == Kind::Shim
        && let Some(config) = &handler.config
    {
        table.insert("runtime_config_path".into(), Value::String(config.clone()));
    }
    if handler.privileged_without_host_devices {
        table.insert(
            "privileged_without_host_devices".into(),
            Value::Boolean(true),
        );
    }
    if !handler.pod_annotations.is_empty() {
        table.insert(
            "allowed_annotations".into(),
            texts(&handler.pod_annotations),
        );
    }
    table
}

fn texts(list: &[String]) -> Value {
    Value::Array(list.iter().cloned().map(Value::String).collect())
}

/// The lines that tell entries: our names first, in a comment, then the tables. `kept` are entries that the runtime has by itself
/// and would lose.
#[must_use]
pub fn render(form: Form, entries: &Entries, kept: &Entries) -> String {
    let names: Vec<&str> = entries.keys().map(String::as_str).collect();
    let mut text = format!("{NAMES}{}\n", names.join(" "));
    for (name, table) in entries.iter().chain(kept) {
        let mut whole = Value::Table(
            [(name.clone(), Value::Table(table.clone()))]
                .into_iter()
                .collect(),
        );
        for part in form.path().into_iter().rev() {
            whole = Value::Table([(part.to_owned(), whole)].into_iter().collect());
        }
        text.push('\n');
        // Tables of texts, numbers and flags are always TOML.
        text.push_str(&toml::to_string(&whole).unwrap_or_default());
    }
    text
}

/// Begins the comment that says which of the entries are ours.
const NAMES: &str = "# handlers: ";

/// Our entries in a text that [`render`] has made, whatever stands before it.
///
/// # Errors
/// When somebody has changed it so that it can't be read any more.
pub fn read(text: &str) -> Result<Entries, String> {
    // A template's first line is none of TOML.
    let at = text.find(NAMES).ok_or("there is no line of handlers")?;
    let text = text.get(at..).unwrap_or_default();
    let names = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix(NAMES));
    let root: Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.message().to_owned())?;
    let mut entries = Entries::new();
    for name in names.unwrap_or_default().split_whitespace() {
        let found = FORMS
            .iter()
            .find_map(|form| at_path(&root, &form.path())?.get(name)?.as_table());
        let table = found.ok_or_else(|| format!("handler {name:?} is not there"))?;
        entries.insert(name.to_owned(), table.clone());
    }
    Ok(entries)
}

const FORMS: [Form; 4] = [
    Form::Containerd(1),
    Form::Containerd(2),
    Form::Containerd(3),
    Form::Crio,
];

/// The table at a path.
#[must_use]
pub fn at_path<'a>(root: &'a Table, path: &[&str]) -> Option<&'a Table> {
    path.iter()
        .try_fold(root, |table, part| table.get(*part)?.as_table())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handlers() -> Vec<Handler> {
        crate::wanted::parse(
            "- {name: crun, kind: oci, binary: /usr/bin/crun}\n- {name: gvisor, kind: gvisor, binary: /usr/bin/runsc}\n\
             - {name: own-shim, kind: gvisor, binary: /usr/bin/runsc, shim: /usr/bin/containerd-shim-runsc-v1, config: /etc/runsc.toml}\n\
             - {name: kata, kind: shim, binary: /opt/kata/bin/containerd-shim-kata-v2, config: /opt/kata/qemu.toml, privilegedWithoutHostDevices: true, podAnnotations: [io.katacontainers.*]}\n",
        )
        .unwrap()
    }

    fn rendered(form: Form) -> String {
        let place = Place {
            form,
            systemd_cgroup: true,
            dir: "/opt/berth",
        };
        let all = handlers()
            .iter()
            .map(|handler| (handler.name.clone(), entry(handler, place)))
            .collect();
        render(form, &all, &Entries::new())
    }

    #[test]
    fn containerds_words() {
        let text = rendered(Form::Containerd(2));
        assert_eq!(text, include_str!("goldens/containerd-v2.toml"), "{text}");
        let newer = rendered(Form::Containerd(3));
        assert_eq!(
            newer,
            text.replace("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
        );
        assert!(
            rendered(Form::Containerd(1))
                .contains("[plugins.cri.containerd.runtimes.kata.options]")
        );
    }

    #[test]
    fn crios_words() {
        let text = rendered(Form::Crio);
        assert_eq!(text, include_str!("goldens/crio.conf"), "{text}");
    }

    #[test]
    fn what_was_written_is_read_again() {
        for form in FORMS {
            let text = rendered(form);
            let read = read(&format!("{{{{ template \"base\" . }}}}\n{text}")).unwrap();
            assert_eq!(render(form, &read, &Entries::new()), text);
            assert_eq!(
                read.keys().collect::<Vec<_>>(),
                ["crun", "gvisor", "kata", "own-shim"]
            );
        }
        let kept: Entries = [("runc".to_owned(), Table::new())].into();
        let text = render(Form::Containerd(2), &Entries::new(), &kept);
        assert_eq!(read(&text).unwrap(), Entries::new());
        for (broken, words) in [
            ("x = 1", "no line of handlers"),
            ("# handlers: a\nx = [", ""),
            ("# handlers: a\n", "handler \"a\" is not there"),
        ] {
            assert!(read(broken).unwrap_err().contains(words), "{broken}");
        }
    }

    #[test]
    fn another_definition_is_another_entry() {
        let place = Place {
            form: Form::Containerd(2),
            systemd_cgroup: true,
            dir: "/opt/berth",
        };
        let of = |list: &str| entry(&crate::wanted::parse(list).unwrap()[0], place);
        let one = of("- {name: a, kind: gvisor, binary: /usr/bin/runsc}");
        let other = of("- {name: a, kind: gvisor, binary: /usr/bin/runsc2}");
        assert_ne!(one, other);
        assert_ne!(config_path(&one), config_path(&other));
        assert!(names_below(&one, "/opt/berth") && !names_below(&one, "/opt/bert"));
        let plain = of("- {name: a, kind: oci, binary: /usr/bin/crun}");
        assert!(!names_below(&plain, "/opt/berth"));
    }

    #[test]
    fn berths_shim_is_told_what_it_drives() {
        let place = Place {
            form: Form::Containerd(2),
            systemd_cgroup: true,
            dir: "/opt/berth",
        };
        let all = handlers();
        assert_eq!(shim_config(&all[0], place), None);
        let told: serde_json::Value =
            serde_json::from_str(&shim_config(&all[1], place).unwrap()).unwrap();
        assert_eq!(
            told,
            serde_json::json!({"binary": "/usr/bin/runsc", "kind": "runsc", "systemdCgroup": false})
        );
        assert_eq!(
            shim_config(
                &all[1],
                Place {
                    form: Form::Crio,
                    ..place
                }
            ),
            None
        );
    }
}
