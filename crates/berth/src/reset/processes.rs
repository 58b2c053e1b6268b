//! Processes of pods: shims, runtimes, and what runs on a root file system below the data directory.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;
use tracing::warn;

const LIMIT: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// Programs that are recognized by a path in their arguments. An editor that has one of our files open is none.
const PROGRAMS: [&str; 7] = [
    "runsc",
    "runsc-sandbox",
    "runsc-gofer",
    "runc",
    "crun",
    "youki",
    "exe",
];

/// Kills them and waits until they are gone; answers how many there were.
pub(super) async fn kill(roots: &[&Path]) -> usize {
    let end = Instant::now() + LIMIT;
    let mut killed = std::collections::HashSet::new();
    loop {
        // Shims go first: a shim that lives would only note the end of its container.
        let found = ours(roots);
        if found.is_empty() {
            return killed.len();
        }
        for pid in &found {
            killed.insert(*pid);
            // It may be gone already, which is what is wanted.
            let _gone = send(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if Instant::now() > end {
            warn!(pids = ?found, "processes do not go");
            return killed.len();
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn ours(roots: &[&Path]) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let me = std::process::id();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| u32::try_from(*pid).is_ok_and(|pid| pid != me && pid != 1))
        .filter(|pid| !is_zombie(*pid))
        .filter(|pid| is_supervisor(*pid, roots) || is_contained(*pid, roots))
        .collect()
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// A shim or a runtime with one of our paths in its arguments or as its working directory.
fn is_supervisor(pid: i32, roots: &[&Path]) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let mut arguments = line.split(|byte| *byte == 0);
    let program = arguments.next().unwrap_or_default();
    let program = Path::new(std::ffi::OsStr::from_bytes(program));
    let name = program
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_shim = name.starts_with("containerd-shim") || arguments.next() == Some(b"shim");
    if !is_shim && !PROGRAMS.contains(&name) {
        return false;
    }
    let mentions = roots
        .iter()
        .any(|root| mentions(&line, root.as_os_str().as_bytes()));
    let inside = fs::read_link(format!("/proc/{pid}/cwd"))
        .is_ok_and(|cwd| roots.iter().any(|root| cwd.starts_with(root)));
    mentions || inside || has_sockets_below(pid, roots)
}

/// Our shim's sockets are below one of the roots: its arguments name only the server's socket, which may be anywhere.
fn has_sockets_below(pid: i32, roots: &[&Path]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut entries = environment.split(|byte| *byte == 0);
    let dir = entries.find_map(|entry| entry.strip_prefix(b"BERTH_SHIM_SOCKET_DIR="));
    let Some(dir) = dir.map(|dir| Path::new(std::ffi::OsStr::from_bytes(dir))) else {
        return false;
    };
    let real = dir.canonicalize();
    let dir = real.as_deref().unwrap_or(dir);
    roots.iter().any(|root| dir.starts_with(root))
}

/// Whether a path of the directory is in the arguments. `/var/lib/berth2` is not in `/var/lib/berth`, but another berth's.
fn mentions(line: &[u8], root: &[u8]) -> bool {
    let within = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
    };
    (0..line.len().saturating_sub(root.len().saturating_sub(1))).any(|at| {
        line[at..].starts_with(root)
            && !within(line.get(at + root.len()))
            && !within(at.checked_sub(1).and_then(|before| line.get(before)))
    })
}

/// A process whose root file system is an overlay with its upper layer below one of the roots.
fn is_contained(pid: i32, roots: &[&Path]) -> bool {
    let Ok(mounts) = fs::read_to_string(format!("/proc/{pid}/mountinfo")) else {
        return false;
    };
    mounts.lines().any(|line| {
        let at_root = line.split(' ').nth(4) == Some("/");
        at_root
            && roots.iter().any(|root| {
                let root = root.to_string_lossy();
                line.contains(&format!("upperdir={root}/"))
                    || line.contains(&format!("lowerdir={root}/"))
            })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::{is_supervisor, mentions};

    #[test]
    fn a_shim_is_known_by_where_its_sockets_are() {
        let dir = tempfile::tempdir().unwrap();
        let sockets = dir.path().join("cri/s");
        std::fs::create_dir_all(&sockets).unwrap();
        // It says that it runs, so that what is looked at is not this test before it became the program.
        let mut shim = Command::new("sh")
            .args(["-c", "echo; read end"])
            .arg0("containerd-shim-berth-v2")
            .env("BERTH_SHIM_SOCKET_DIR", &sockets)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(shim.id()).unwrap();
        let mut said = [0];
        std::io::Read::read_exact(shim.stdout.as_mut().unwrap(), &mut said).unwrap();
        let real = dir.path().canonicalize().unwrap();
        let (state, other) = (real.join("cri"), real.join("cr"));
        let found =
            [state.as_path(), &other, Path::new("/none")].map(|root| is_supervisor(pid, &[root]));
        drop(shim.stdin.take());
        shim.wait().unwrap();
        assert_eq!(found, [true, false, false]);
    }

    #[test]
    fn another_berths_directory_is_not_ours() {
        for (line, ours) in [
            (&b"runc\0--root\0/var/lib/b/cri\0"[..], true),
            (b"runc\0--root=/var/lib/b\0kill", true),
            (b"shim\0unix:///var/lib/b/s/1", true),
            (b"shim\0/var/lib/b", true),
            (b"runc\0--root\0/var/lib/b2/cri\0", false),
            (b"runc\0--root\0/var/lib/b-old/cri\0", false),
            (b"runc\0--root\0/mnt/var/lib/b/cri\0", false),
            (b"runc", false),
            (b"", false),
        ] {
            let text = String::from_utf8_lossy(line);
            assert_eq!(mentions(line, b"/var/lib/b"), ours, "{text}");
        }
    }
}
