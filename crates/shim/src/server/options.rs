//! `CreateTaskRequest.options`: ours, containerd's for runc, or the path of a file that names the runtime.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use berth_oci::runtime::{RuntimeCommand, RuntimeKind};
use containerd_shim_protos::shim::oci::Options;
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use super::error::Error;
use crate::client::OWN_OPTIONS;

/// How to call the runtime that the options ask for.
pub(super) fn command(options: Option<&Any>, namespace: &str) -> Result<RuntimeCommand, Error> {
    let runc = |options: Options| {
        let binary = if options.binary_name.is_empty() {
            "runc"
        } else {
            &options.binary_name
        };
        let root = if options.root.is_empty() {
            DEFAULT_ROOT
        } else {
            &options.root
        };
        let binary = PathBuf::from(binary);
        let mut command = RuntimeCommand::new(
            RuntimeKind::from_name(&binary),
            &binary,
            PathBuf::from(root).join(namespace),
        );
        command.systemd_cgroup = options.systemd_cgroup;
        command
    };
    let Some(options) = options else {
        return Ok(runc(Options::default()));
    };
    match options
        .type_url
        .rsplit_once('/')
        .map_or(options.type_url.as_str(), |(_, name)| name)
    {
        "" => Ok(runc(Options::default())),
        _ if options.type_url == OWN_OPTIONS => {
            serde_json::from_slice(&options.value).map_err(|source| Error::Malformed {
                what: "runtime options",
                source,
            })
        }
        "containerd.runc.v1.Options" => Options::parse_from_bytes(&options.value)
            .map(runc)
            .map_err(|_| Error::Options(options.type_url.clone())),
        // What containerd's CRI plugin passes to a shim that it doesn't know, whatever its version.
        "runtimeoptions.v1.Options" => {
            let path = config_path(&options.value)
                .ok_or_else(|| Error::Options(options.type_url.clone()))?;
            from_file(Path::new(&path), namespace)
        }
        _ => Err(Error::Options(options.type_url.clone())),
    }
}

/// Where runtimes keep what they know of their containers.
const DEFAULT_ROOT: &str = "/run/containerd/runc";
/// A file that names a runtime is no larger.
const FILE_BYTES: u64 = 64 << 10;

/// `ConfigPath` (field 2) of `runtimeoptions.v1.Options`.
fn config_path(message: &[u8]) -> Option<String> {
    let mut input = protobuf::CodedInputStream::from_bytes(message);
    let mut path = None;
    while let Some(tag) = input.read_raw_tag_or_eof().ok()? {
        // Field 2 of the wire type for lengths.
        if tag == 0x12 {
            path = Some(input.read_string().ok()?);
        } else {
            let kind = protobuf::rt::WireType::new(tag & 7)?;
            input.skip_field(kind).ok()?;
        }
    }
    path.filter(|path| !path.is_empty())
}

/// The file that `options.ConfigPath` of a handler names: JSON.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    /// The runtime: an absolute path.
    binary: PathBuf,
    /// What it is; by default what its name says.
    kind: Option<RuntimeKind>,
    /// Where it keeps what it knows of its containers.
    root: Option<PathBuf>,
    /// Global arguments.
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    systemd_cgroup: bool,
}

fn from_file(path: &Path, namespace: &str) -> Result<RuntimeCommand, Error> {
    let what = "the file that names the runtime";
    let failed = |source| Error::File {
        what,
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES)
        .read_to_end(&mut text)
        .map_err(failed)?;
    let file: File =
        serde_json::from_slice(&text).map_err(|source| Error::Malformed { what, source })?;
    if !file.binary.is_absolute() {
        return Err(Error::Invalid(format!(
            "{what} {path:?}: binary must be an absolute path"
        )));
    }
    let kind = file
        .kind
        .unwrap_or_else(|| RuntimeKind::from_name(&file.binary));
    let root = file.root.unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT));
    let mut command = RuntimeCommand::new(kind, &file.binary, root.join(namespace));
    command.args = file.args;
    command.systemd_cgroup = file.systemd_cgroup;
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runcs_options_name_the_binary() {
        let options = Options {
            binary_name: "/usr/bin/crun".into(),
            systemd_cgroup: true,
            ..Default::default()
        };
        let any = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.write_to_bytes().expect("encode"),
            ..Default::default()
        };
        let got = command(Some(&any), "k8s.io").expect("understood");
        assert_eq!(got.kind, RuntimeKind::Crun);
        assert!(got.systemd_cgroup);
        assert_eq!(got.root, PathBuf::from("/run/containerd/runc/k8s.io"));
        let strange = Any {
            type_url: "x/y.Options".into(),
            ..Default::default()
        };
        assert!(matches!(
            command(Some(&strange), "n"),
            Err(Error::Options(_))
        ));
    }

    fn by_file(text: &str) -> Result<RuntimeCommand, Error> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("handler.json");
        std::fs::write(&path, text).expect("written");
        // type_url, then config_path.
        let path = path.to_str().expect("a path");
        let mut value = vec![0x0a, 1, b'x', 0x12];
        value.push(u8::try_from(path.len()).expect("short"));
        value.extend_from_slice(path.as_bytes());
        let any = Any {
            type_url: "runtimeoptions.v1.Options".into(),
            value,
            ..Default::default()
        };
        command(Some(&any), "k8s.io")
    }

    #[test]
    fn a_file_names_the_runtime() {
        let got = by_file(r#"{"binary": "/opt/gvisor", "kind": "runsc", "args": ["--debug"]}"#)
            .expect("understood");
        assert_eq!(got.kind, RuntimeKind::Runsc);
        assert_eq!(got.binary, PathBuf::from("/opt/gvisor"));
        assert_eq!(got.args, ["--debug"]);
        let got = by_file(r#"{"binary": "/usr/bin/crun", "systemdCgroup": true}"#).expect("ok");
        assert!(got.kind == RuntimeKind::Crun && got.systemd_cgroup);
        for wrong in [
            "",
            "{}",
            r#"{"binary": "crun"}"#,
            r#"{"binary": "/crun", "bin": 1}"#,
        ] {
            assert!(by_file(wrong).is_err(), "{wrong}");
        }
        let none = Any {
            type_url: "runtimeoptions.v1.Options".into(),
            ..Default::default()
        };
        assert!(matches!(command(Some(&none), "n"), Err(Error::Options(_))));
    }
}
