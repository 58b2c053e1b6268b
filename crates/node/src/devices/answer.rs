//! What plugins answer about a container: looked at when it comes, given to the runtime at each start.

use std::collections::{BTreeMap, BTreeSet};

use berth_api::names;
use berth_cri_api::v1::{CdiDevice, Device, Mount};
use berth_kubelet_api::device_plugin::ContainerAllocateResponse;
use prost::Message;

/// Why an answer is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum AnswerError {
    #[error("it answers {0} bytes, more than {1}")]
    Large(usize, usize),
    #[error("environment variable {name:?}: {reason}")]
    Variable { name: String, reason: String },
    #[error("{what} {path:?} is not an absolute path")]
    Path { what: &'static str, path: String },
    #[error("device {path:?} has permissions {permissions:?}, of which only r, w and m are known")]
    Permissions { path: String, permissions: String },
    #[error("CDI device {0:?} is not of the form VENDOR/CLASS=NAME")]
    Cdi(String),
    #[error("two plugins want different things of {what} {name:?}")]
    Conflict { what: &'static str, name: String },
}

/// For the runtime, in CRI's words.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Additions {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) devices: Vec<Device>,
    pub(crate) cdi: Vec<CdiDevice>,
}

/// Refuses what no runtime could do, or would do otherwise than meant.
pub(super) fn check(answer: &ContainerAllocateResponse, limit: usize) -> Result<(), AnswerError> {
    let size = answer.encoded_len();
    if size > limit {
        return Err(AnswerError::Large(size, limit));
    }
    for (name, value) in &answer.envs {
        let mut reasons = names::env_var_name(name);
        if value.contains('\0') {
            reasons.push("its value has a zero byte".to_owned());
        }
        if let Some(reason) = reasons.into_iter().next() {
            let name = name.clone();
            return Err(AnswerError::Variable { name, reason });
        }
    }
    let absolute = |what, path: &str| {
        if path.starts_with('/') && !path.contains('\0') {
            return Ok(());
        }
        let path = path.to_owned();
        Err(AnswerError::Path { what, path })
    };
    for mount in &answer.mounts {
        absolute("the host path of a mount", &mount.host_path)?;
        absolute("the container path of a mount", &mount.container_path)?;
    }
    for device in &answer.devices {
        absolute("the host path of a device", &device.host_path)?;
        absolute("the container path of a device", &device.container_path)?;
        let known = device.permissions.chars().all(|c| "rwm".contains(c));
        if device.permissions.is_empty() || !known {
            return Err(AnswerError::Permissions {
                path: device.host_path.clone(),
                permissions: device.permissions.clone(),
            });
        }
    }
    for device in &answer.cdi_devices {
        let parts = device.name.split_once('=').and_then(|(kind, name)| {
            let (vendor, class) = kind.split_once('/')?;
            Some([vendor, class, name])
        });
        if parts.is_none_or(|parts| parts.iter().any(|part| part.is_empty())) {
            return Err(AnswerError::Cdi(device.name.clone()));
        }
    }
    Ok(())
}

/// What all plugins of a container want. What two of them want alike is wanted once; a contradiction is an error.
pub(super) fn additions<'a>(
    answers: impl Iterator<Item = &'a ContainerAllocateResponse>,
) -> Result<Additions, AnswerError> {
    let mut all = Additions::default();
    let mut mounts = BTreeMap::new();
    let mut devices = BTreeMap::new();
    let mut cdi = BTreeSet::new();
    for answer in answers {
        put_all(&mut all.variables, &answer.envs, "environment variable")?;
        put_all(&mut all.annotations, &answer.annotations, "annotation")?;
        for m in &answer.mounts {
            let value = (m.host_path.clone(), m.read_only);
            put(&mut mounts, &m.container_path, value, "mount")?;
        }
        for d in &answer.devices {
            let value = (d.host_path.clone(), d.permissions.clone());
            put(&mut devices, &d.container_path, value, "device")?;
        }
        cdi.extend(answer.cdi_devices.iter().map(|device| device.name.clone()));
    }
    let mounts = mounts.into_iter();
    all.mounts = mounts
        .map(|(container_path, (host_path, readonly))| Mount {
            container_path,
            host_path,
            readonly,
            ..Mount::default()
        })
        .collect();
    let devices = devices.into_iter();
    all.devices = devices
        .map(|(container_path, (host_path, permissions))| Device {
            container_path,
            host_path,
            permissions,
        })
        .collect();
    all.cdi = cdi.into_iter().map(|name| CdiDevice { name }).collect();
    Ok(all)
}

fn put_all<'a>(
    all: &mut BTreeMap<String, String>,
    more: impl IntoIterator<Item = (&'a String, &'a String)>,
    what: &'static str,
) -> Result<(), AnswerError> {
    let mut more = more.into_iter();
    more.try_for_each(|(name, value)| put(all, name, value.clone(), what))
}

fn put<V: PartialEq>(
    all: &mut BTreeMap<String, V>,
    name: &str,
    value: V,
    what: &'static str,
) -> Result<(), AnswerError> {
    if all.get(name).is_some_and(|other| *other != value) {
        let name = name.to_owned();
        return Err(AnswerError::Conflict { what, name });
    }
    all.insert(name.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_kubelet_api::device_plugin as wire;

    fn device(path: &str, permissions: &str) -> ContainerAllocateResponse {
        ContainerAllocateResponse {
            devices: vec![wire::DeviceSpec {
                container_path: "/dev/gpu0".to_owned(),
                host_path: path.to_owned(),
                permissions: permissions.to_owned(),
            }],
            ..Default::default()
        }
    }

    fn variable(name: &str, value: &str) -> ContainerAllocateResponse {
        ContainerAllocateResponse {
            envs: [(name.to_owned(), value.to_owned())].into(),
            ..Default::default()
        }
    }

    fn cdi(name: &str) -> ContainerAllocateResponse {
        ContainerAllocateResponse {
            cdi_devices: vec![wire::CdiDevice {
                name: name.to_owned(),
            }],
            ..Default::default()
        }
    }

    fn mount(host: &str, container: &str) -> ContainerAllocateResponse {
        ContainerAllocateResponse {
            mounts: vec![wire::Mount {
                container_path: container.to_owned(),
                host_path: host.to_owned(),
                read_only: true,
            }],
            ..Default::default()
        }
    }

    #[test]
    fn answers_that_cannot_be_meant_are_refused() {
        let limit = 1 << 10;
        for good in [
            device("/dev/null", "rw"),
            variable("A", "b"),
            cdi("v.com/gpu=0"),
            mount("/a", "/b"),
        ] {
            check(&good, limit).unwrap();
        }
        for bad in [
            device("dev/null", "rw"),
            device("/dev/null", ""),
            device("/dev/null", "rx"),
            variable("A=B", "c"),
            variable("", "c"),
            variable("A", "b\0c"),
            cdi("gpu0"),
            cdi("v.com/=0"),
            mount("relative", "/b"),
            mount("/a", "relative"),
            variable("A", &"x".repeat(2000)),
        ] {
            assert!(check(&bad, limit).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn two_plugins_may_want_the_same_and_no_contradiction() {
        let same = [
            variable("A", "b"),
            variable("A", "b"),
            cdi("v.com/g=1"),
            cdi("v.com/g=1"),
        ];
        let all = additions(same.iter()).unwrap();
        assert_eq!((all.variables.len(), all.cdi.len()), (1, 1));
        for pair in [
            [variable("A", "b"), variable("A", "c")],
            [device("/dev/null", "rw"), device("/dev/zero", "rw")],
            [mount("/a", "/b"), mount("/c", "/b")],
        ] {
            assert!(additions(pair.iter()).is_err(), "{pair:?}");
        }
    }
}
