//! What a shim says of itself.
//!
//! There is no one way to ask: containerd's shims know `-v`, newer ones `--version` and `-info`, Kata's the latter two. (It
//! takes `-v` for the wish to serve.) None of them is needed: a shim that knows none of these words, and says so as
//! programs do (exit code 2), is no less a shim. One that can't be started, or fails otherwise, would fail its pods, too.

use std::path::Path;
use std::process::Command;

use berth_oci::runtime::{Answer, OciFeatures, StartError, ask};
use prost::Message;

use super::definition::is_kata;
use super::gvisor::in_one_line;

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

/// What programs end with that are called with an argument that they don't know.
const USAGE: i32 = 2;

/// Asks a shim's binary. Blocks while it runs, a few milliseconds each time.
///
/// # Errors
/// Why no pod can run under it, in its own words where it has some.
pub(super) fn of(binary: &Path) -> Result<ShimInfo, String> {
    let mut failure = None;
    let mut run = |argument: &str| -> Result<Option<Answer>, String> {
        let answer = ask(Command::new(binary).arg(argument)).map_err(|error| {
            StartError::of(binary, &error).map_or_else(
                || format!("{} {argument}: {error}", binary.display()),
                |why| why.to_string(),
            )
        })?;
        if answer.status.success() {
            return Ok(Some(answer));
        }
        failure = Some((argument.to_owned(), answer));
        Ok(None)
    };
    let mut is_answered = false;
    let (mut version, mut features) = (None, None);
    if let Some(answer) = run("-info")? {
        is_answered = true;
        (version, features) = info(&answer);
    }
    let others: &[&str] = if is_kata(binary) {
        &["--version"]
    } else {
        &["--version", "-v"]
    };
    for argument in others {
        if version.is_none()
            && let Some(answer) = run(argument)?
        {
            is_answered = true;
            version = printed(&answer);
        }
    }
    match failure {
        Some((argument, answer)) if !is_answered && answer.status.code() != Some(USAGE) => {
            let said = [answer.stderr, answer.stdout].concat();
            let said = in_one_line(&String::from_utf8_lossy(&said));
            let path = binary.display();
            Err(if said.is_empty() {
                format!("{path} {argument} failed ({})", answer.status)
            } else {
                format!("{path} {argument} failed ({}): {said}", answer.status)
            })
        }
        Some(_) | None => Ok(ShimInfo {
            version: version.unwrap_or_else(|| "unknown".to_owned()),
            features,
        }),
    }
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
        let version =
            |name: &str, script: &str| of(&shim(dir.path(), name, script)).unwrap().version;
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
            of(&shim(dir.path(), "containerd-shim-kata-v2", &script))
                .unwrap()
                .version,
            "unknown"
        );
        assert!(!mark.exists());
    }

    #[test]
    fn a_shim_that_fails_is_told_in_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |name: &str, script: &str| {
            let told = of(&shim(dir.path(), name, script)).unwrap_err();
            told.replace(&dir.path().display().to_string(), "DIR")
        };
        assert_eq!(
            refused("containerd-shim-bad-v1", "*) exit 1;;"),
            "DIR/containerd-shim-bad-v1 -v failed (exit status: 1)"
        );
        let library = "*) echo 'error while loading shared libraries: libdl.so.9' >&2; exit 127;;";
        assert_eq!(
            refused("containerd-shim-kata-v2", library),
            "DIR/containerd-shim-kata-v2 --version failed (exit status: 127): error while loading shared libraries: \
             libdl.so.9"
        );
        // One answer is enough.
        let one = "-v) echo 'version: 1.0';; *) exit 1;;";
        let info = of(&shim(dir.path(), "containerd-shim-one-v1", one)).unwrap();
        assert_eq!(info.version, "1.0");
        let foreign = dir.path().join("containerd-shim-foreign-v1");
        std::fs::write(&foreign, [0; 64]).unwrap();
        std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o755)).unwrap();
        let told = of(&foreign).unwrap_err();
        assert!(
            told.ends_with("is no program that this kernel can run"),
            "{told}"
        );
    }

    #[test]
    fn what_is_no_version_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("--version) echo 'version: {}';;", "9".repeat(100));
        assert_eq!(
            of(&shim(dir.path(), "containerd-shim-long-v2", &long))
                .unwrap()
                .version,
            "unknown"
        );
        let control = r#"--version) printf 'version: 1\033[31m, x\n';;"#;
        assert_eq!(
            of(&shim(dir.path(), "containerd-shim-red-v2", control))
                .unwrap()
                .version,
            "unknown"
        );
        let garbage = r#"-info) printf '\377\377\377';;"#;
        assert_eq!(
            of(&shim(dir.path(), "containerd-shim-bad-v2", garbage))
                .unwrap()
                .version,
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
