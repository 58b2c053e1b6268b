//! Where things are on this machine.

use std::path::{Path, PathBuf};

use berth_core::fnv::fnv1a;

use crate::data_dir;

/// Longest run directory: socket paths below it must stay within the 107 bytes of a unix address.
const LONGEST_RUN_DIR: usize = 40;

/// Flags that say where things are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DirArgs {
    /// Where everything that has to last is kept
    #[arg(long, default_value = data_dir::DEFAULT, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Where sockets and other things that a reboot may clear are kept [default: /run/berth, or DATA_DIR/run when
    /// --data-dir is given]
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
}

impl DirArgs {
    /// The run directory.
    #[must_use]
    pub(crate) fn run_dir(&self) -> PathBuf {
        if let Some(dir) = &self.run_dir {
            return dir.clone();
        }
        if self.is_default() {
            return PathBuf::from("/run/berth");
        }
        let data = absolute(&self.data_dir);
        let inside = data.join("run");
        if inside.as_os_str().len() <= LONGEST_RUN_DIR {
            inside
        } else {
            PathBuf::from(format!("/run/berth-{:08x}", number(&data)))
        }
    }

    /// Where container logs go.
    #[must_use]
    pub(crate) fn pod_logs_dir(&self) -> PathBuf {
        if self.is_default() {
            PathBuf::from("/var/log/pods")
        } else {
            absolute(&self.data_dir).join("log/pods")
        }
    }

    /// The pods' bridge and addresses for this data directory, unless they were chosen before:
    /// several berths on one machine must not share them.
    #[must_use]
    pub(crate) fn network(&self) -> (String, String) {
        if self.is_default() {
            return ("berth0".to_owned(), "10.88.0.0/16".to_owned());
        }
        let number = number(&absolute(&self.data_dir));
        let [second, third, ..] = number.to_le_bytes();
        (
            format!("berth{number:08x}"),
            format!("10.{}.{third}.0/24", 100 + second % 100),
        )
    }

    /// Addresses of Services for this data directory, unless a flag says otherwise: hosts' programs reach the API servers
    /// of several berths on one machine by them.
    #[must_use]
    pub(crate) fn service_cidr(&self) -> String {
        if self.is_default() {
            return berth_apiserver::ServiceSettings::DEFAULT_CIDR.to_owned();
        }
        let [_, second, third, _] = number(&absolute(&self.data_dir)).to_le_bytes();
        format!("10.{}.{}.0/20", 200 + second % 50, third & 0xf0)
    }

    fn is_default(&self) -> bool {
        absolute(&self.data_dir) == Path::new(data_dir::DEFAULT)
    }
}

/// The path from the root, symbolic links left as they are.
#[must_use]
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A number for a path: the same at every start.
fn number(path: &Path) -> u32 {
    fnv1a(path.as_os_str().as_encoded_bytes().iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &str) -> DirArgs {
        DirArgs {
            data_dir: dir.into(),
            run_dir: None,
        }
    }

    #[test]
    fn the_default_directory_has_the_usual_places() {
        let dirs = args("/var/lib/berth/");
        assert_eq!(dirs.run_dir(), Path::new("/run/berth"));
        assert_eq!(dirs.pod_logs_dir(), Path::new("/var/log/pods"));
        assert_eq!(dirs.network().0, "berth0");
    }

    #[test]
    fn another_directory_keeps_to_itself() {
        let dirs = args("/tmp/b");
        assert_eq!(dirs.run_dir(), Path::new("/tmp/b/run"));
        assert_eq!(dirs.pod_logs_dir(), Path::new("/tmp/b/log/pods"));
        let (bridge, cidr) = dirs.network();
        assert!(
            bridge.len() <= 15,
            "an interface's name has at most 15 bytes"
        );
        assert_ne!((bridge, cidr), args("/tmp/c").network());
        assert_ne!(args("/tmp/b").service_cidr(), args("/tmp/c").service_cidr());
    }

    #[test]
    fn a_long_directory_gets_a_short_run_directory() {
        let dirs = args("/a/very/long/path/that/sockets/could/not/be/bound/below");
        assert!(dirs.run_dir().as_os_str().len() <= LONGEST_RUN_DIR);
    }
}
