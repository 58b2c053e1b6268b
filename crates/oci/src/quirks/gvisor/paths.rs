//! Masked and read-only paths as mounts: gVisor ignores the spec's two lists.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::bind;

/// Where gVisor's own filesystems are. It has none of the files that Kubernetes masks there, and
/// they can't be mounted once more.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Adds mounts to a container's spec for its masked and read-only paths, where these exist in its
/// root filesystem (mounted at `rootfs`) or in a bind. `empty` is a file to lay over masked files.
pub fn confine(spec: &mut Spec, rootfs: &Path, empty: &Path) {
    let Some(linux) = spec.linux() else {
        return;
    };
    let list = |paths: &Option<Vec<String>>| -> Vec<PathBuf> {
        paths.iter().flatten().map(PathBuf::from).collect()
    };
    let masked = list(linux.masked_paths());
    let readonly = list(linux.readonly_paths());
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let mut added = Vec::new();
    for path in &readonly {
        if let Some((source, _)) = on_host(path, rootfs, &mounts) {
            added.push(bind(path, &source, "ro"));
        }
    }
    for path in &masked {
        match on_host(path, rootfs, &mounts) {
            Some((_, FileType::Directory)) => added.push(nothing(path)),
            Some(_) => added.push(bind(path, empty, "ro")),
            None => {}
        }
    }
    for mount in added {
        insert(&mut mounts, mount);
    }
    spec.set_mounts(Some(mounts));
}

/// Behind all that it lies on or replaces, before all that lies on it.
fn insert(mounts: &mut Vec<Mount>, mount: Mount) {
    let place = mount.destination().clone();
    let beneath =
        |other: &Mount| other.destination().starts_with(&place) && *other.destination() != place;
    let at = mounts.iter().position(beneath).unwrap_or(mounts.len());
    mounts.insert(at, mount);
}

fn nothing(destination: &Path) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.to_owned());
    mount.set_typ(Some("tmpfs".to_owned()));
    mount.set_source(Some(PathBuf::from("tmpfs")));
    mount.set_options(Some(["ro", "size=0k"].map(str::to_owned).to_vec()));
    mount
}

/// The host's file behind a path of the container, looked up without leaving what it lies in.
fn on_host(path: &Path, rootfs: &Path, mounts: &[Mount]) -> Option<(PathBuf, FileType)> {
    if OWN.iter().any(|own| path.starts_with(own)) {
        return None;
    }
    let holder = mounts
        .iter()
        .filter(|mount| path.starts_with(mount.destination()))
        .max_by_key(|mount| mount.destination().components().count());
    let (root, rest) = match holder {
        None => (rootfs, path.strip_prefix("/").ok()?),
        Some(mount) if mount.typ().as_deref() == Some("bind") => (
            mount.source().as_deref()?,
            path.strip_prefix(mount.destination()).ok()?,
        ),
        // A filesystem that only exists inside.
        Some(_) => return None,
    };
    let base = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let file = if rest.as_os_str().is_empty() {
        base
    } else {
        rustix::fs::openat2(
            &base,
            rest,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
        .ok()?
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).ok()?.st_mode);
    Some((real_path(&file)?, kind))
}

fn real_path(file: &OwnedFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxBuilder;

    #[test]
    fn paths_are_hidden_where_they_are_and_no_link_leads_out() {
        let dir = tempfile::tempdir().expect("directory");
        let top = dir.path().canonicalize().expect("path");
        let (rootfs, volume) = (top.join("rootfs"), top.join("volume"));
        for name in ["rootfs/bin", "rootfs/secret", "rootfs/real", "volume/sub"] {
            std::fs::create_dir_all(top.join(name)).expect("directory");
        }
        std::fs::write(rootfs.join("bin/ls"), "").expect("file");
        std::os::unix::fs::symlink("/real", rootfs.join("link")).expect("link");
        let mut spec = Spec::default();
        let text = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        spec.set_linux(Some(
            LinuxBuilder::default()
                .masked_paths(text(&["/bin/ls", "/secret", "/proc/kcore", "/none"]))
                .readonly_paths(text(&["/link", "/data/sub", "/data", "/dev/x"]))
                .build()
                .expect("linux"),
        ));
        spec.set_mounts(Some(vec![
            bind(Path::new("/data"), &volume, "rw"),
            bind(Path::new("/data/sub/deep"), &volume, "rw"),
        ]));
        confine(&mut spec, &rootfs, Path::new("/empty"));
        let got: Vec<(String, PathBuf, bool)> = spec
            .mounts()
            .iter()
            .flatten()
            .map(|m| {
                let options = m.options().clone().unwrap_or_default();
                (
                    m.destination().display().to_string(),
                    m.source().clone().unwrap_or_default(),
                    options.iter().any(|o| o == "ro"),
                )
            })
            .collect();
        let row = |d: &str, s: PathBuf, ro| (d.to_owned(), s, ro);
        assert_eq!(
            got,
            [
                row("/data", volume.clone(), false),
                row("/data", volume.clone(), true),
                row("/data/sub", volume.join("sub"), true),
                row("/data/sub/deep", volume, false),
                row("/link", rootfs.join("real"), true),
                row("/bin/ls", PathBuf::from("/empty"), true),
                row("/secret", PathBuf::from("tmpfs"), true),
            ]
        );
    }
}
