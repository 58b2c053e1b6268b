//! User namespaces of pods: what is asked for, whether it can be had, and who root is then.

use std::fs::File;
use std::path::{Path, PathBuf};

use berth_cri_api::v1::{IdMapping as Line, NamespaceMode, NamespaceOption, PodSandboxConfig};
use berth_oci::{IdMapping, UserNamespace};

use super::spec::options;
use crate::engine::Engine;
use crate::error::CriError;
use crate::netns;
use crate::runtime::PodRuntime;

/// The pod's user namespace, not made yet; `None` for the host's.
pub(crate) fn wanted(options: Option<&NamespaceOption>) -> Option<UserNamespace> {
    let asked = options?.userns_options.as_ref()?;
    (asked.mode() == NamespaceMode::Pod).then(|| UserNamespace {
        path: None,
        uids: lines(&asked.uids),
        gids: lines(&asked.gids),
    })
}

fn lines(lines: &[Line]) -> Vec<IdMapping> {
    lines
        .iter()
        .map(|line| IdMapping {
            container_id: line.container_id,
            host_id: line.host_id,
            length: line.length,
        })
        .collect()
}

/// What a pod with a user namespace can't have.
pub(super) fn check(config: &PodSandboxConfig, runtime: &PodRuntime) -> Result<(), CriError> {
    let Some(options) = options(config) else {
        return Ok(());
    };
    let mode = options.userns_options.as_ref().map(|user| user.mode());
    if let Some(mode @ (NamespaceMode::Container | NamespaceMode::Target)) = mode {
        return Err(CriError::Invalid(format!(
            "namespace_options.userns_options.mode must be POD or NODE, not {}",
            mode.as_str_name()
        )));
    }
    let Some(user) = wanted(Some(options)) else {
        return Ok(());
    };
    if !runtime.user_namespaces {
        return Err(CriError::Unsupported(format!(
            "runtime handler {:?} does not support user namespaces (namespace_options.userns_options)",
            runtime.handler
        )));
    }
    for (what, mode) in [
        ("network", options.network()),
        ("pid", options.pid()),
        ("ipc", options.ipc()),
    ] {
        if mode == NamespaceMode::Node {
            return Err(CriError::Invalid(format!(
                "a pod with a user namespace cannot have the host's {what} namespace"
            )));
        }
    }
    for (what, map) in [("uids", &user.uids), ("gids", &user.gids)] {
        if root(map).is_none() {
            return Err(CriError::Invalid(format!(
                "namespace_options.userns_options.{what} maps no 0"
            )));
        }
    }
    Ok(())
}

/// Whom 0 is on the host.
fn root(map: &[IdMapping]) -> Option<u32> {
    map.iter()
        .find(|line| line.container_id == 0 && line.length > 0)
        .map(|line| line.host_id)
}

/// Who root of the pod is on the host; `None` without a user namespace. Maps that say nothing of root are an error, and
/// never the host's users.
pub(crate) fn root_of(config: &PodSandboxConfig) -> Result<Option<(u32, u32)>, CriError> {
    let Some(user) = wanted(options(config)) else {
        return Ok(None);
    };
    match (root(&user.uids), root(&user.gids)) {
        (Some(uid), Some(gid)) => Ok(Some((uid, gid))),
        (None, _) | (_, None) => Err(CriError::State(
            "the pod is to have a user namespace, but its maps have no 0".to_owned(),
        )),
    }
}

/// Whether everybody may walk to a directory: the pod's root is nobody special there.
pub(super) fn check_way(dir: &Path) -> Result<(), CriError> {
    use std::os::unix::fs::PermissionsExt;
    for above in dir.ancestors() {
        let mode = above
            .metadata()
            .map_err(CriError::io("look at", above))?
            .permissions()
            .mode();
        if mode & 0o001 == 0 {
            return Err(CriError::State(format!(
                "users of a user namespace cannot pass {}: it must be searchable for others (chmod o+x)",
                above.display()
            )));
        }
    }
    Ok(())
}

/// A pod's user namespace for mounts.
pub(crate) struct Mapped {
    namespace: File,
    root: (u32, u32),
}

impl Mapped {
    /// `None` without a user namespace.
    pub(crate) fn of(
        engine: &Engine,
        id: &str,
        config: &PodSandboxConfig,
    ) -> Result<Option<Self>, CriError> {
        let Some(root) = root_of(config)? else {
            return Ok(None);
        };
        let path: PathBuf = netns::pinned_user(&engine.layout.pod(id));
        let namespace = File::open(&path).map_err(CriError::io("open", &path))?;
        // A pin that is mounted no more is an empty file.
        netns::check_user(&namespace).map_err(CriError::io("use the user namespace at", path))?;
        Ok(Some(Self { namespace, root }))
    }

    pub(crate) fn mapping(&self) -> berth_image::UserMapping<'_> {
        use std::os::fd::AsFd;
        berth_image::UserMapping {
            namespace: self.namespace.as_fd(),
            root: self.root,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_whom_zero_is_mapped_to() {
        let line = |container_id, host_id, length| IdMapping {
            container_id,
            host_id,
            length,
        };
        assert_eq!(root(&[line(5, 1, 9), line(0, 70_000, 5)]), Some(70_000));
        assert_eq!(root(&[line(1, 70_000, 5)]), None);
        assert_eq!(root(&[line(0, 70_000, 0)]), None);
    }

    #[test]
    fn a_user_namespace_without_root_is_never_the_host_s() {
        use berth_cri_api::v1::{
            LinuxPodSandboxConfig, LinuxSandboxSecurityContext, UserNamespace as Asked,
        };
        let config = |lines: Vec<Line>| PodSandboxConfig {
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        userns_options: Some(Asked {
                            mode: NamespaceMode::Pod.into(),
                            uids: lines.clone(),
                            gids: lines,
                        }),
                        ..NamespaceOption::default()
                    }),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        };
        let line = |container_id| Line {
            container_id,
            host_id: 70_000,
            length: 9,
        };
        assert_eq!(
            root_of(&config(vec![line(0)])).unwrap(),
            Some((70_000, 70_000))
        );
        for lines in [Vec::new(), vec![line(1)]] {
            root_of(&config(lines)).unwrap_err();
        }
        assert_eq!(root_of(&PodSandboxConfig::default()).unwrap(), None);
    }
}
