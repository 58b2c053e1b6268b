//! A runtime called by its command line, as `berth shim` calls it but with nobody between.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use berth_oci::runtime::{Hide, RuntimeCommand};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};

use crate::Options;

pub(crate) struct Runtime(pub(crate) RuntimeCommand);

impl Runtime {
    /// As the shim called it for this container or sandbox container.
    pub(crate) fn of_bundle(options: &Options, id: &str) -> Self {
        let path = bundle(options, id).join("runtime.json");
        let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(serde_json::from_slice(&text).expect("the shim's note of its runtime"))
    }

    /// Calls a verb to its end, which must be a good one.
    pub(crate) fn call(&self, words: &[&str]) -> Duration {
        let (code, took) = self.run(words);
        assert_eq!(code, 0, "{words:?}");
        took
    }

    /// Calls a verb to its end; its exit code and how long it took.
    pub(crate) fn run(&self, words: &[&str]) -> (i32, Duration) {
        let verb = words.first().expect("a verb");
        let mut command = Command::new(&self.0.binary);
        command
            .args(self.0.global_args(Path::new("/dev/null")))
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Hide::Cover(path) = self.0.hides(verb, None) {
            let path = CString::new(path.to_string_lossy().into_owned()).expect("no zero byte");
            // SAFETY: between fork and exec only system calls are made, with strings made before.
            unsafe { command.pre_exec(move || cover(&path).map_err(Into::into)) };
        }
        let at = Instant::now();
        #[allow(clippy::zombie_processes, reason = "the loop below reaps it")]
        let child = command.spawn().expect("the runtime starts");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        // All that falls to us is reaped, or deletes take seconds.
        loop {
            match waitpid(None, None) {
                Ok(WaitStatus::Exited(ended, code)) if ended == pid => {
                    return (code, at.elapsed());
                }
                Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => {
                    panic!("{words:?}: {signal}")
                }
                Ok(_) => {}
                Err(error) => panic!("{words:?}: {error}"),
            }
        }
    }
}

/// An empty tmpfs over `path` in a mount namespace of our own.
fn cover(path: &CString) -> nix::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, c"/proc", none, MsFlags::MS_PRIVATE, none)?;
    let size = Some(c"size=4k");
    mount(
        Some(c"tmpfs"),
        path.as_c_str(),
        Some(c"tmpfs"),
        MsFlags::MS_RDONLY,
        size,
    )
}

/// berth's bundle of a container.
pub(crate) fn bundle(options: &Options, id: &str) -> PathBuf {
    options.state.join("bundles").join(id)
}
