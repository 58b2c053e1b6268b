//! What an ended container left as its message: its termination log, or the end of its output.
//!
//! The file is one that the container wrote, so it is taken as it comes: any size, any kind, any bytes.

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::pod_files::{first_bytes, last_bytes, open_beneath, read_end};

/// `MaxContainerTerminationMessageLength` of the stock kubelet: of a longer file its end is taken.
const FILE_LIMIT: usize = 4096;
/// `MaxPodTerminationMessageLogLength`: all containers of a pod share so many bytes.
const POD_LIMIT: usize = 12 << 10;
/// With `FallbackToLogsOnError`: at most so much of the output.
const LOG_LIMIT: usize = 2048;
const LOG_LINES: usize = 80;

/// How long the message of one container of this pod may be.
pub(super) fn limit(pod: &Pod) -> usize {
    let containers = pod.spec.as_ref().map_or(1, |s| {
        s.containers.len()
            + s.init_containers.as_ref().map_or(0, Vec::len)
            + s.ephemeral_containers.as_ref().map_or(0, Vec::len)
    });
    (POD_LIMIT / containers.max(1)).min(FILE_LIMIT)
}

/// Where to look.
pub(super) struct LastWords {
    pub(super) pod_dir: PathBuf,
    /// Below `pod_dir`.
    pub(super) file: PathBuf,
    /// The container's log, where the pod wants it in place of an empty file.
    pub(super) log: Option<PathBuf>,
    pub(super) limit: usize,
}

impl LastWords {
    /// Blocks; reads a few kilobytes at most.
    pub(super) fn read(&self) -> String {
        let text = match self.text() {
            Ok(text) => text,
            Err(error) => {
                let path = self.pod_dir.join(&self.file);
                format!(
                    "Error on reading termination log {}: {error}",
                    path.display()
                )
            }
        };
        first_bytes(&text, self.limit).to_owned()
    }

    fn text(&self) -> io::Result<String> {
        let data = absent_is_empty(read_file(&self.pod_dir, &self.file))?;
        if let Some(log) = self.log.as_ref().filter(|_| data.is_empty()) {
            return absent_is_empty(crate::logs::tail_text(log, LOG_LINES, LOG_LIMIT));
        }
        let text = String::from_utf8_lossy(&data);
        Ok(last_bytes(&text, FILE_LIMIT).to_owned())
    }
}

fn read_file(pod_dir: &Path, file: &Path) -> io::Result<Vec<u8>> {
    let file = open_beneath(pod_dir, file)?;
    Ok(read_end(&file, FILE_LIMIT)?.0)
}

fn absent_is_empty<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_testkit::PodBuilder;
    use std::fs::File;
    use std::os::unix::fs::{FileExt, symlink};

    fn words(dir: &Path, log: Option<PathBuf>) -> String {
        LastWords {
            pod_dir: dir.to_owned(),
            file: PathBuf::from("0"),
            log,
            limit: FILE_LIMIT,
        }
        .read()
    }

    #[test]
    fn the_end_of_a_sparse_file_of_20_gb_is_the_message() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("0")).unwrap();
        file.set_len(20 << 30).unwrap();
        file.write_all_at(b"out of luck", (20 << 30) - 11).unwrap();
        let text = words(dir.path(), None);
        assert_eq!(text.len(), FILE_LIMIT);
        assert!(text.ends_with("\0out of luck"));
    }

    #[test]
    fn bytes_that_are_no_text_do_not_make_it_longer() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("0"), [0xff; 2 * FILE_LIMIT]).unwrap();
        assert!(words(dir.path(), None).len() <= FILE_LIMIT);
    }

    #[test]
    fn links_and_fifos_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0");
        symlink("/dev/zero", &path).unwrap();
        assert!(words(dir.path(), None).ends_with("it is a symbolic link"));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(words(dir.path(), None).ends_with("it is not a regular file"));
    }

    #[test]
    fn an_empty_file_gives_way_to_the_log_where_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        std::fs::write(&log, "t stderr F no luck\n").unwrap();
        assert_eq!(words(dir.path(), None), "");
        assert_eq!(words(dir.path(), Some(log.clone())), "no luck\n");
        std::fs::write(dir.path().join("0"), "said").unwrap();
        assert_eq!(words(dir.path(), Some(log)), "said");
        assert_eq!(words(dir.path(), Some(dir.path().join("none.log"))), "said");
    }

    #[test]
    fn many_containers_share_what_a_pod_may_say() {
        let mut pod = PodBuilder::new("p").build();
        assert_eq!(limit(&pod), FILE_LIMIT);
        let spec = pod.spec.as_mut().unwrap();
        let one = spec.containers[0].clone();
        spec.containers = vec![one; 12];
        assert_eq!(limit(&pod), 1024);
    }
}
