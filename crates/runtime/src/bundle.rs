//! The bundle as libcontainer gets it.
//!
//! What [`crate::launch`] does itself is taken out of the spec: the process keeps root and all capabilities
//! until then, and has no filter.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDeviceCgroup, Mount, Process, Spec, User};

use crate::cgroup;
use crate::cli::Global;
use crate::error::Error;
use crate::seccomp::Filter;

/// The modes of files that a process makes when its spec has no umask: runc's.
pub(crate) const UMASK: u32 = 0o022;

/// A bundle taken apart.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Where the caller has it.
    pub(crate) path: PathBuf,
    /// For libcontainer.
    pub(crate) spec: Spec,
    /// The process as the caller wants it.
    pub(crate) process: Process,
    /// Of all the container's processes.
    pub(crate) filter: Option<Filter>,
}

impl Bundle {
    pub(crate) fn read(global: &Global, path: &Path, id: &str) -> Result<Self, Error> {
        let path = path.canonicalize().map_err(Error::file("find", path))?;
        let file = path.join("config.json");
        let mut spec = Spec::load(&file).map_err(|source| Error::Spec { path: file, source })?;
        let root = spec.root_mut().as_mut().ok_or(Error::Absent("root"))?;
        let rootfs = path.join(root.path());
        let rootfs = rootfs
            .canonicalize()
            .map_err(Error::file("find", &rootfs))?;
        root.set_path(rootfs);
        let process = spec.process().clone().ok_or(Error::Absent("process"))?;
        spec.set_process(Some(plain(&process)?));
        let linux = spec.linux_mut().as_mut().ok_or(Error::Absent("linux"))?;
        let filter = linux.seccomp().as_ref().map(Filter::compile).transpose()?;
        linux.set_seccomp(None);
        place(linux, global.systemd_cgroup, id);
        if !cgroup::is_unified() {
            deny_devices(linux);
        }
        // libcontainer knows only the plain names; its change is recursive all the same.
        if let Some(name) = linux.rootfs_propagation().clone() {
            linux.set_rootfs_propagation(Some(name.trim_start_matches('r').to_owned()));
        }
        let cgroup = linux.cgroups_path().clone().unwrap_or_default();
        if let Some(mounts) = spec.mounts().clone()
            && !cgroup::is_unified()
        {
            spec.set_mounts(Some(with_cgroups(mounts, &cgroup)));
        }
        Ok(Self {
            path,
            spec,
            process,
            filter,
        })
    }
}

/// A process for libcontainer: it enters the container as root with all capabilities, and [`crate::launch`]
/// makes the rest of it.
pub(crate) fn plain(process: &Process) -> Result<Process, Error> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::Absent("process.args"));
    }
    if process
        .selinux_label()
        .as_ref()
        .is_some_and(|label| !label.is_empty())
    {
        return Err(Error::Unsupported(
            "a SELinux label is set, which the runtime inside berth can't apply; use runc or crun"
                .to_owned(),
        ));
    }
    let mut user = User::default();
    user.set_umask(process.user().umask().or(Some(UMASK)));
    let mut plain = process.clone();
    plain
        .set_user(user)
        .set_capabilities(None)
        .set_no_new_privileges(None);
    Ok(plain)
}

/// Gives the container a cgroup path that libcgroups takes as it is meant.
fn place(linux: &mut Linux, systemd: bool, id: &str) {
    let path = linux.cgroups_path().clone();
    let path = match path {
        None => PathBuf::from("/").join(id),
        // systemd's names mean something to libcgroups only where all is v2.
        Some(path) if systemd && !cgroup::is_unified() => {
            cgroup::from_systemd(&path).unwrap_or(path)
        }
        Some(path) => path,
    };
    linux.set_cgroups_path(Some(path));
}

/// Makes the list of device rules complete: a cgroup of version 1 begins with what the one above it allows, and
/// libcgroups adds to that.
fn deny_devices(linux: &mut Linux) {
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_access(Some("rwm".to_owned()));
    let listed = resources.devices().iter().flatten().cloned();
    let rules = std::iter::once(rule).chain(listed).collect();
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
}

/// Cgroups of version 1 as binds of the container's own.
///
/// libcontainer would mount them too, but writable whatever the options say.
fn with_cgroups(mounts: Vec<Mount>, cgroup: &Path) -> Vec<Mount> {
    let mut out = Vec::with_capacity(mounts.len());
    for mount in mounts {
        if mount.typ().as_deref() != Some("cgroup") {
            out.push(mount);
            continue;
        }
        let options = mount.options().clone().unwrap_or_default();
        let target = mount.destination();
        let mut make = |kind: &str, source: &Path, at: PathBuf, options: Vec<String>| {
            let mut mount = Mount::default();
            mount
                .set_typ(Some(kind.to_owned()))
                .set_source(Some(source.to_owned()))
                .set_destination(at)
                .set_options(Some(options));
            out.push(mount);
        };
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let plain = text(&["nosuid", "nodev", "noexec", "mode=755"]);
        make("tmpfs", Path::new("tmpfs"), target.clone(), plain);
        for hierarchy in cgroup::hierarchies_v1() {
            let Some(name) = hierarchy.file_name() else {
                continue;
            };
            let mut bind: Vec<String> = text(&["bind", "nosuid", "nodev", "noexec"]);
            bind.extend(options.iter().filter(|option| *option == "ro").cloned());
            let source = hierarchy.join(cgroup.strip_prefix("/").unwrap_or(cgroup));
            make("bind", &source, target.join(name), bind);
        }
    }
    out
}
