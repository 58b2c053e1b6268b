//! Volumes that are plain directories: emptyDir, hostPath, and the end of all of them.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use berth_supervise::unblock;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, PodSpec};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use super::{VolumeError, io};
use crate::amount;
use crate::huge_pages;
use crate::own_dirs;

/// Everyone may write: containers run as any user.
pub(super) fn open_to_all(path: &Path) -> Result<(), VolumeError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(io(path))
}

pub(super) fn empty_dir(
    source: &EmptyDirVolumeSource,
    path: &Path,
    group: Option<u32>,
    memory: i64,
    pod: &Pod,
) -> Result<(), VolumeError> {
    let fresh = !path.exists();
    let limit = source.size_limit.as_ref();
    let limit = limit.map(|q| amount::amount("emptyDir.sizeLimit", q));
    let size = limit.transpose()?.filter(|n| *n > 0);
    match source.medium.as_deref().unwrap_or_default() {
        "" => own_dirs::make(path).map_err(io(path))?,
        "Memory" => tmpfs(path, Some(size.unwrap_or(memory / 2)), Content::Any)?,
        medium => {
            let none = PodSpec::default();
            let spec = pod.spec.as_ref().unwrap_or(&none);
            let page = huge_pages::of_medium(medium, spec)?;
            // Not more than the pod has: not all kernels bound that by a cgroup.
            let own = amount::pod_request(spec, &format!("hugepages-{page}"), false);
            hugetlbfs(path, &page, size.map_or(own, |size| size.min(own)))?;
        }
    }
    if fresh {
        open_to_all(path)?;
        if let Some(gid) = group {
            std::os::unix::fs::chown(path, None, Some(gid)).map_err(io(path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o2777)).map_err(io(path))?;
        }
    }
    Ok(())
}

fn is_mount_point(path: &Path) -> std::io::Result<bool> {
    let found = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())?;
    if found
        .stx_attributes_mask
        .contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // Linux before 5.8 does not say.
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let wanted = path.to_string_lossy();
    Ok(mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .any(|p| unescape(p) == wanted))
}

/// What a directory in memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Files of the agent's own writing, never to be swapped out. Mount flags are left as the stock kubelet leaves them: a
    /// runtime cannot take `nosuid` or `nodev` off a mount in a pod's user namespace, and fails.
    Secret,
    /// Whatever the pod writes.
    Any,
}

/// A directory in memory, mounted once.
pub(super) fn tmpfs(path: &Path, size: Option<i64>, content: Content) -> Result<(), VolumeError> {
    own_dirs::make(path).map_err(io(path))?;
    if is_mount_point(path).map_err(io(path))? {
        return Ok(());
    }
    let options = size.map_or_else(String::new, |n| format!("size={n}"));
    let mounted = match content {
        // Linux before 6.3 knows no such option; pages of secrets may go to swap there, as under the stock kubelet.
        Content::Secret => match mount("tmpfs", path, "noswap") {
            Err(rustix::io::Errno::INVAL) => mount("tmpfs", path, &options),
            result => result,
        },
        Content::Any => mount("tmpfs", path, &options),
    };
    mounted.map_err(|e| io(path)(e.into()))
}

/// A directory in huge pages of one size (as `2Mi`), mounted once. The cgroup's limit bounds what the pod's processes use of
/// them, and `size` what the directory holds.
fn hugetlbfs(path: &Path, page: &str, size: i64) -> Result<(), VolumeError> {
    own_dirs::make(path).map_err(io(path))?;
    if is_mount_point(path).map_err(io(path))? {
        return Ok(());
    }
    let page = page.trim_end_matches('i');
    let mounted = mount("hugetlbfs", path, &format!("pagesize={page},size={size}"));
    mounted.map_err(|e| io(path)(e.into()))
}

/// Mounts a file system that is in memory only.
fn mount(kind: &str, path: &Path, options: &str) -> Result<(), rustix::io::Errno> {
    let options = CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    let flags = MountFlags::empty();
    rustix::mount::mount(kind, path, kind, flags, Some(options.as_c_str()))
}

/// Checks or makes what a hostPath names.
pub(super) fn host_path(source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let found = fs::metadata(path).map(|m| m.file_type());
    let wrong = |what| {
        Err(VolumeError::HostPath {
            path: source.path.clone(),
            what,
        })
    };
    match (source.type_.as_deref().unwrap_or_default(), found) {
        ("DirectoryOrCreate", Err(_)) => {
            fs::create_dir_all(path).map_err(io(path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(io(path))
        }
        ("FileOrCreate", Err(_)) => {
            fs::write(path, "").map_err(io(path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(io(path))
        }
        ("Directory" | "DirectoryOrCreate", found) => match found {
            Ok(t) if t.is_dir() => Ok(()),
            Ok(_) | Err(_) => wrong("a directory"),
        },
        ("File" | "FileOrCreate", found) => match found {
            Ok(t) if t.is_file() => Ok(()),
            Ok(_) | Err(_) => wrong("a file"),
        },
        ("Socket", found) => match found {
            Ok(t) if t.is_socket() => Ok(()),
            Ok(_) | Err(_) => wrong("a socket file"),
        },
        ("CharDevice", found) => match found {
            Ok(t) if t.is_char_device() => Ok(()),
            Ok(_) | Err(_) => wrong("a character device"),
        },
        ("BlockDevice", found) => match found {
            Ok(t) if t.is_block_device() => Ok(()),
            Ok(_) | Err(_) => wrong("a block device"),
        },
        // The runtime makes a missing directory, as Docker did.
        ("", _) => Ok(()),
        (other, _) => Err(VolumeError::HostPathType(other.to_owned())),
    }
}

/// Removes a pod's directory: first every mount below it (so that nothing outside is deleted
/// through a bind mount), then the files. A mount that cannot be undone stops the removal.
pub(crate) async fn remove_all(pod_dir: PathBuf) -> std::io::Result<()> {
    unblock(move || remove_blocking(&pod_dir)).await
}

fn remove_blocking(pod_dir: &Path) -> std::io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut below: Vec<String> = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(unescape)
        .filter(|p| Path::new(p).starts_with(pod_dir) && Path::new(p) != pod_dir)
        .collect();
    below.sort_by_key(|p| std::cmp::Reverse(p.len()));
    for path in below {
        match rustix::mount::unmount(path.as_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    berth_tree::remove(pod_dir)
}

/// mountinfo writes blanks and backslashes as octal.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_dir_of_huge_pages_holds_no_more_than_the_pod_has() {
        let dir = tempfile::tempdir().unwrap();
        let limits =
            json!({"limits": {"hugepages-2Mi": "8Mi"}, "requests": {"hugepages-2Mi": "8Mi"}});
        let pod: Pod = serde_json::from_value(
            json!({"spec": {"containers": [{"name": "c", "resources": limits}]}}),
        )
        .unwrap();
        for (name, source, mib) in [
            ("a", json!({"medium": "HugePages"}), 8),
            (
                "b",
                json!({"medium": "HugePages-2Mi", "sizeLimit": "4Mi"}),
                4,
            ),
            (
                "c",
                json!({"medium": "HugePages-2Mi", "sizeLimit": "1Gi"}),
                8,
            ),
        ] {
            let path = dir.path().join(name);
            let source: EmptyDirVolumeSource = serde_json::from_value(source).unwrap();
            empty_dir(&source, &path, None, 1 << 30, &pod).unwrap();
            let there = rustix::fs::statfs(&path).unwrap();
            rustix::mount::unmount(&path, UnmountFlags::DETACH).unwrap();
            assert_eq!(
                (there.f_bsize, there.f_blocks),
                (2 << 20, mib / 2),
                "{name}"
            );
            assert_eq!(there.f_type, 0x9584_58f6, "no hugetlbfs");
        }
        let path = dir.path().join("d");
        let source = serde_json::from_value(json!({"medium": "HugePages-1Gi"})).unwrap();
        let error = empty_dir(&source, &path, None, 1 << 30, &pod).unwrap_err();
        assert!(error.to_string().contains("hugepages-1Gi"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn a_host_path_type_that_is_not_known_is_refused() {
        let check = |sort: &str| {
            host_path(&HostPathVolumeSource {
                path: "/".to_owned(),
                type_: Some(sort.to_owned()),
            })
        };
        assert!(check("").is_ok() && check("Directory").is_ok());
        assert!(matches!(check("File"), Err(VolumeError::HostPath { .. })));
        for sort in ["directory", "Pipe"] {
            assert!(matches!(check(sort), Err(VolumeError::HostPathType(_))));
        }
    }
}
