//! What a shim says of itself.
//!
//! There is no one way to ask: containerd's shims know `-v`, newer ones `--version` and `-info`, Kata's the latter two. (It
//! takes `-v` for the wish to serve.) None of them is needed: a shim that says nothing is no less a shim.

use std::path::Path;
use std::process::Command;

use berth_oci::runtime::{Answer, OciFeatures, ask};
use prost::Message;

use super::definition::is_kata;

/// The longest version that is shown.
const VERSION_LIMIT: usize = 64;

/// A shim's answers.
#[derive(Debug, Default)]
pub(super) struct ShimInfo {
    /// Its version; `unknown` where it tells none.
    pub(super) version: String,
    /// What the OCI runtime below it can do, where it tells.
    pub(super) features: Option<OciFeatures>,
}

/// containerd's `containerd.types.RuntimeInfo`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct RuntimeInfo {
    #[prost(message, optional, tag = "2")]
    version: Option<RuntimeVersion>,
    #[prost(message, optional, tag = "4")]
    features: Option<Any>,
}

/// containerd's `containerd.types.RuntimeVersion`.
#[derive(Clone, PartialEq, Message)]
struct RuntimeVersion {
    #[prost(string, tag = "1")]
    version: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Asks a shim's binary. Blocks while it runs, a few milliseconds each time.
pub(super) fn of(binary: &Path) -> ShimInfo {
    let run = |argument: &str| {
        let answer = ask(Command::new(binary).arg(argument)).ok()?;
        answer.status.success().then_some(answer)
    };
    let (told, features) = run("-info").map_or((None, None), |answer| info(&answer));
    let version = told
        .or_else(|| printed(&run("--version")?))
        .or_else(|| {
            if is_kata(binary) {
                None
            } else {
                printed(&run("-v")?)
            }
        })
        .unwrap_or_else(|| "unknown".to_owned());
    ShimInfo { version, features }
}

fn info(answer: &Answer) -> (Option<String>, Option<OciFeatures>) {
    let Ok(info) = RuntimeInfo::decode(answer.stdout.as_slice()) else {
        return (None, None);
    };
    let version = info.version.and_then(|version| shown(&version.version));
    let features = info
        .features
        .filter(|features| features.type_url.ends_with("features/Features"))
        .and_then(|features| serde_json::from_slice(&features.value).ok());
    (version, features)
}

/// The version in what is meant for people: `Version:  1.6.20~ds1`, or `..., version: 4.1.0, commit: ...`.
fn printed(answer: &Answer) -> Option<String> {
    let text = String::from_utf8_lossy(&answer.stdout);
    let (_, rest) = text.split_once("ersion:")?;
    shown(rest.trim_start().split([',', '\n']).next()?)
}

/// A version as it may go into tables and logs.
fn shown(version: &str) -> Option<String> {
    let clean = version.trim();
    let fits = !clean.is_empty()
        && clean.len() <= VERSION_LIMIT
        && clean.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    fits.then(|| clean.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A shim that answers as `script` does.
    fn shim(dir: &Path, name: &str, script: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(
            &path,
            format!("#!/bin/sh\ncase $1 in {script} *) exit 2;; esac\n"),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn every_way_of_asking_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        let version = |name: &str, script: &str| of(&shim(dir.path(), name, script)).version;
        let old = r#"-v) printf 'shim:\n  Version:  1.6.20~ds1\n  Revision: x\n  Go version: go1.19.8\n';;"#;
        assert_eq!(version("containerd-shim-old-v2", old), "1.6.20~ds1");
        let kata = r#"--version) echo 'Kata Containers containerd shim (Rust): id: io.containerd.kata.v2, version: 4.1.0, commit: abc';;"#;
        assert_eq!(version("containerd-shim-kata-v2", kata), "4.1.0");
        // RuntimeInfo{name: "k", version: {version: "4.2", revision: "r"}}
        let info = r#"-info) printf '\012\001k\022\010\012\0034.2\022\001r';; --version) echo 'version: 1, x';;"#;
        assert_eq!(version("containerd-shim-info-v2", info), "4.2");
        assert_eq!(version("containerd-shim-mute-v2", ""), "unknown");
    }

    #[test]
    fn katas_shim_is_not_asked_in_the_way_that_makes_it_serve() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("served");
        let script = format!("-v) touch {};;", mark.display());
        assert_eq!(
            of(&shim(dir.path(), "containerd-shim-kata-v2", &script)).version,
            "unknown"
        );
        assert!(!mark.exists());
    }

    #[test]
    fn what_is_no_version_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("--version) echo 'version: {}';;", "9".repeat(100));
        assert_eq!(
            of(&shim(dir.path(), "containerd-shim-long-v2", &long)).version,
            "unknown"
        );
        let control = r#"--version) printf 'version: 1\033[31m, x\n';;"#;
        assert_eq!(
            of(&shim(dir.path(), "containerd-shim-red-v2", control)).version,
            "unknown"
        );
        let garbage = r#"-info) printf '\377\377\377';;"#;
        assert_eq!(
            of(&shim(dir.path(), "containerd-shim-bad-v2", garbage)).version,
            "unknown"
        );
    }

    #[test]
    fn features_come_with_the_info() {
        let features =
            r#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.2.0","mountOptions":["ro","rro"]}"#;
        let message = RuntimeInfo {
            version: None,
            features: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
                    .to_owned(),
                value: features.as_bytes().to_vec(),
            }),
        };
        let answer = ask(&mut Command::new("true")).unwrap();
        let answer = Answer {
            stdout: message.encode_to_vec(),
            ..answer
        };
        let (_, features) = info(&answer);
        let options = features.unwrap().mount_options().clone().unwrap();
        assert_eq!(options, ["ro", "rro"]);
    }
}
