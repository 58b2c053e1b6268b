//! What a runtime's binary says about itself: its version and the features the CRI reports.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than any healthy runtime needs to print its version.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the CRI's `RuntimeHandlerFeatures` has, as probed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// The runtime and the kernel can make a mount and all below it read-only.
    pub recursive_read_only_mounts: bool,
    /// The runtime and the kernel can run a pod in a user namespace.
    pub user_namespaces: bool,
}

/// The first line of `BINARY --version` that has a version in it.
pub(crate) fn version(binary: &Path) -> Result<String, String> {
    let output = output(binary, &["--version"])?;
    let line = output.lines().next().unwrap_or_default();
    let version = line
        .split_whitespace()
        .filter(|word| {
            word.starts_with(|c: char| c.is_ascii_digit()) || word.starts_with("release-")
        })
        .next_back()
        .unwrap_or(line);
    Ok(version.trim_end_matches(',').to_owned())
}

/// The features of an OCI runtime by its `features` subcommand (OCI runtime spec, features.md);
/// a runtime without that subcommand has none.
pub(crate) fn features(binary: &Path) -> Features {
    let Some(json) = output(binary, &["features"])
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
    else {
        return Features::default();
    };
    let lists = |value: Option<&serde_json::Value>, wanted: &str| {
        value
            .and_then(|value| value.as_array())
            .is_some_and(|list| list.iter().any(|item| item.as_str() == Some(wanted)))
    };
    Features {
        recursive_read_only_mounts: lists(json.get("mountOptions"), "rro")
            && kernel_at_least(5, 12),
        // A pod in a user namespace needs its mounts mapped, or a volume belongs to nobody.
        user_namespaces: lists(json.pointer("/linux/namespaces"), "user")
            && json.pointer("/linux/mountExtensions/idmap/enabled")
                == Some(&serde_json::Value::Bool(true))
            && Path::new("/proc/self/ns/user").exists(),
    }
}

fn kernel_at_least(major: u32, minor: u32) -> bool {
    let Ok(names) = nix::sys::utsname::uname() else {
        return false;
    };
    let release = names.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

fn output(binary: &Path, args: &[&str]) -> Result<String, String> {
    let failed =
        |error: std::io::Error| format!("{} {}: {error}", binary.display(), args.join(" "));
    let mut child = Command::new(binary)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(String::new());
    };
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
    });
    let end = Instant::now() + DEADLINE;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "{} {} does not answer",
                    binary.display(),
                    args.join(" ")
                ));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let text = reader
        .join()
        .unwrap_or_else(|_| Ok(String::new()))
        .map_err(failed)?;
    if status.success() {
        Ok(text)
    } else {
        Err(format!(
            "{} {} failed: {status}",
            binary.display(),
            args.join(" ")
        ))
    }
}
