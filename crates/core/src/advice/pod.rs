//! What a pod asks of its node, with the fields where it does, and what is told of that whatever the nodes are.

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, SecurityContext};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use berth_api::quantity::Quantity;

use super::{Advice, Effect};
use crate::annotations::{OWN, PREFIXES, WRITTEN};
use crate::isolation::Isolation;
use crate::nearest::nearest;
use crate::resource_list::WireList;

/// At most this many pieces of advice of one kind are given for a pod: it has as many containers and volumes as its author
/// likes.
const LIMIT: usize = 16;

/// Where AppArmor profiles were before v1.30.
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What is told of a pod under a handler whose pods have a kernel of their own.
#[must_use]
pub fn inside(pod: &Pod, handler: &str, isolation: Isolation) -> Vec<Advice> {
    if isolation == Isolation::Process {
        return Vec::new();
    }
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    of_host(spec)
        .take(LIMIT)
        .map(|(field, effect)| Advice::Inside {
            field,
            effect,
            handler: handler.to_owned(),
            isolation,
        })
        .collect()
}

/// What a pod asks of the host, and where.
fn of_host(spec: &PodSpec) -> impl Iterator<Item = (String, Effect)> {
    let flags = [
        ("spec.hostPID", spec.host_pid, Effect::HostPid),
        ("spec.hostIPC", spec.host_ipc, Effect::HostIpc),
        ("spec.hostNetwork", spec.host_network, Effect::HostNetwork),
    ];
    let flags = flags
        .into_iter()
        .filter(|(_, set, _)| *set == Some(true))
        .map(|(field, _, effect)| (field.to_owned(), effect));
    let privileged = containers(spec).filter_map(|(at, container)| {
        let context = container.security_context.as_ref()?;
        let set = context.privileged == Some(true);
        set.then(|| {
            (
                format!("{at}.securityContext.privileged"),
                Effect::Privileged,
            )
        })
    });
    let devices = spec
        .volumes
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(i, volume)| {
            let host = volume.host_path.as_ref()?;
            let at = format!("spec.volumes[{i}].hostPath {}", host.path);
            match host.type_.as_deref() {
                Some("Socket") => Some((at, Effect::Socket)),
                Some("CharDevice" | "BlockDevice") => Some((at, Effect::Device)),
                _ if host.path.ends_with(".sock") => Some((at, Effect::Socket)),
                // A directory of shared memory or terminals is none.
                _ if is_device(&host.path) => Some((at, Effect::Device)),
                _ => None,
            }
        });
    let profiles = app_armor(spec).map(|(field, _)| (field, Effect::AppArmor));
    flags.chain(privileged).chain(devices).chain(profiles)
}

fn is_device(path: &str) -> bool {
    let plain = [
        "/dev/shm",
        "/dev/null",
        "/dev/zero",
        "/dev/random",
        "/dev/urandom",
        "/dev/hugepages",
        "/dev/mqueue",
        "/dev/log",
    ];
    let below = path
        .strip_prefix("/dev/")
        .is_some_and(|rest| !rest.is_empty());
    let is_plain = plain.iter().any(|known| {
        path.strip_prefix(known)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    below && !is_plain
}

/// Init containers and containers with their paths.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
    let main = spec.containers.iter().enumerate();
    init.chain(main.map(|(i, c)| (format!("spec.containers[{i}]"), c)))
}

/// The profiles of one kind that a pod and its containers name, and where.
fn profiles<'s, P: 's>(
    spec: &'s PodSpec,
    name: &'static str,
    of_pod: fn(&PodSecurityContext) -> Option<&P>,
    of_container: fn(&SecurityContext) -> Option<&P>,
) -> impl Iterator<Item = (String, &'s P)> {
    let pod = spec.security_context.as_ref().and_then(of_pod);
    let pod = pod.map(|profile| (format!("spec.securityContext.{name}"), profile));
    let own = containers(spec).filter_map(move |(at, container)| {
        let profile = of_container(container.security_context.as_ref()?)?;
        Some((format!("{at}.securityContext.{name}"), profile))
    });
    pod.into_iter().chain(own)
}

/// The AppArmor profiles that a pod names, `Unconfined` and what is the default anyway excepted: the field, and the name of a
/// profile of the node's (none: the runtime's default).
pub fn app_armor(spec: &PodSpec) -> impl Iterator<Item = (String, Option<&str>)> {
    let all = profiles(
        spec,
        "appArmorProfile",
        |context| context.app_armor_profile.as_ref(),
        |context| context.app_armor_profile.as_ref(),
    );
    all.filter(|(_, profile)| profile.type_ != "Unconfined")
        .map(|(field, profile)| {
            let name = profile.localhost_profile.as_deref();
            (field, name.filter(|_| profile.type_ == "Localhost"))
        })
}

/// The seccomp profiles of the node's that a pod names, and where.
pub fn seccomp(spec: &PodSpec) -> impl Iterator<Item = (String, &str)> {
    let all = profiles(
        spec,
        "seccompProfile",
        |context| context.seccomp_profile.as_ref(),
        |context| context.seccomp_profile.as_ref(),
    );
    all.filter(|(_, profile)| profile.type_ == "Localhost")
        .filter_map(|(field, profile)| Some((field, profile.localhost_profile.as_deref()?)))
}

/// Where a pod demands that mounts are read-only with all below them.
pub fn recursive_read_only(spec: &PodSpec) -> impl Iterator<Item = String> {
    containers(spec).flat_map(|(at, container)| {
        let mounts = container.volume_mounts.iter().flatten().enumerate();
        mounts
            .filter(|(_, mount)| mount.recursive_read_only.as_deref() == Some("Enabled"))
            .map(move |(i, _)| format!("{at}.volumeMounts[{i}].recursiveReadOnly"))
    })
}

/// Resources that are whole bytes.
const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];

/// Amounts of a list that are no whole bytes: `64500m` is 64 and a half, and was perhaps to be `64500M`.
#[must_use]
pub fn fractions(list: Option<&WireList>, at: &str) -> Vec<Advice> {
    list.into_iter()
        .flatten()
        .filter(|(name, wire)| {
            BYTES.contains(&name.as_str())
                && Quantity::try_from(*wire).is_ok_and(|amount| !amount.is_integer())
        })
        .map(|(name, wire)| Advice::FractionalBytes {
            field: format!("{at}[{name}]"),
            value: wire.0.clone(),
        })
        .collect()
}

/// What is told of annotations: those that are nearly berth's, and AppArmor's of old. A pod's profile fields make up for
/// the latter, as clients that speak to older servers write both.
#[must_use]
pub fn annotations(metadata: &ObjectMeta, spec: Option<&PodSpec>) -> Vec<Advice> {
    let has_fields = spec.is_some_and(|spec| app_armor(spec).next().is_some());
    let keys = metadata
        .annotations
        .iter()
        .flatten()
        .map(|(key, _)| key.as_str());
    keys.filter_map(|key| {
        if spec.is_some() && !has_fields && key.starts_with(APPARMOR) {
            return Some(Advice::AppArmorAnnotation {
                key: key.to_owned(),
            });
        }
        let meant = misspelt(key)?;
        Some(Advice::AnnotationUnknown {
            key: key.to_owned(),
            meant: meant.to_owned(),
        })
    })
    .take(LIMIT)
    .collect()
}

/// The annotation of berth's that was meant: under one of its prefixes, or nearly, and nearly its name.
fn misspelt(key: &str) -> Option<&'static str> {
    if WRITTEN.contains(&key) || OWN.contains(&key) {
        return None;
    }
    let (prefix, name) = key.split_once('/')?;
    let own = PREFIXES.map(|prefix| prefix.trim_end_matches('/'));
    if own.contains(&prefix) {
        let short = |key: &'static str| key.split_once('/').map_or(key, |(_, name)| name);
        let names = WRITTEN.map(short);
        // Either the right name under berth's other prefix, or one like it.
        let meant = if names.contains(&name) {
            name
        } else {
            nearest(name, names)?
        };
        return WRITTEN.into_iter().find(|known| short(known) == meant);
    }
    nearest(key, WRITTEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn told(spec: Value, isolation: Isolation) -> Vec<String> {
        let advice = inside(&pod(spec), "runsc", isolation);
        advice.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_does_something_else_in_a_sandbox() {
        let all = json!({
            "hostPID": true, "hostIPC": true, "hostNetwork": true,
            "containers": [{"name": "c", "securityContext": {"privileged": true, "appArmorProfile": {"type": "RuntimeDefault"}}}],
            "volumes": [
                {"name": "d", "hostPath": {"path": "/var/run/docker.sock"}},
                {"name": "s", "hostPath": {"path": "/x", "type": "Socket"}},
                {"name": "k", "hostPath": {"path": "/dev/kvm"}},
                {"name": "b", "hostPath": {"path": "/x", "type": "BlockDevice"}},
            ],
        });
        let got = inside(&pod(all.clone()), "runsc", Isolation::Sandbox);
        let effects: Vec<Effect> = got
            .iter()
            .filter_map(|advice| match advice {
                Advice::Inside { effect, .. } => Some(*effect),
                _ => None,
            })
            .collect();
        assert_eq!(
            effects,
            [
                Effect::HostPid,
                Effect::HostIpc,
                Effect::HostNetwork,
                Effect::Privileged,
                Effect::Socket,
                Effect::Socket,
                Effect::Device,
                Effect::Device,
                Effect::AppArmor
            ]
        );
        assert_eq!(
            told(all.clone(), Isolation::Sandbox)[3],
            "spec.containers[0].securityContext.privileged gives every right inside the sandbox's own kernel, and neither \
             the node's devices nor rights on the node (handler \"runsc\" runs sandboxes)"
        );
        assert_eq!(told(all, Isolation::Process), Vec::<String>::new());
        let plain = json!({
            "hostPID": false,
            "containers": [{"name": "c", "securityContext": {"privileged": false, "appArmorProfile": {"type": "Unconfined"}}}],
            "volumes": [
                {"name": "a", "hostPath": {"path": "/var/log"}}, {"name": "e", "emptyDir": {}},
                {"name": "m", "hostPath": {"path": "/dev/shm"}}, {"name": "n", "hostPath": {"path": "/dev"}},
                {"name": "d", "hostPath": {"path": "/data", "type": "Directory"}},
            ],
        });
        assert_eq!(
            told(plain.clone(), Isolation::Sandbox),
            Vec::<String>::new()
        );
        assert_eq!(told(plain, Isolation::Vm), Vec::<String>::new());
    }

    #[test]
    fn as_many_are_told_as_anybody_reads() {
        let volume = json!({"name": "d", "hostPath": {"path": "/dev/kvm"}});
        let many = json!({"containers": [], "volumes": vec![volume; 1000]});
        assert_eq!(told(many, Isolation::Vm).len(), LIMIT);
    }

    #[test]
    fn annotations_that_are_nearly_right() {
        for (key, meant) in [
            (
                "node.berth.dev/default-runtimeclass",
                Some("node.berth.dev/default-runtime-class"),
            ),
            (
                "node.berth.dev/default-runtime-clas",
                Some("node.berth.dev/default-runtime-class"),
            ),
            (
                "berth.dev/allowed-runtime-classes",
                Some("node.berth.dev/allowed-runtime-classes"),
            ),
            (
                "node.bert.dev/allowed-runtime-classes",
                Some("node.berth.dev/allowed-runtime-classes"),
            ),
            (
                "node.berth.dev/minimum-isolatoin",
                Some("node.berth.dev/minimum-isolation"),
            ),
            ("node.berth.dev/allowed-runtime-classes", None),
            ("berth.dev/runtime", None),
            ("berth.dev/isolation", None),
            ("node.berth.dev/measured-overhead", None),
            ("example.com/default-runtime-class", None),
            ("node.berth.dev/addon", None),
            ("plain", None),
        ] {
            assert_eq!(misspelt(key), meant, "{key}");
        }
        let meta = |key: &str| -> ObjectMeta {
            serde_json::from_value(json!({"annotations": {key: "x"}})).unwrap()
        };
        let old = meta("container.apparmor.security.beta.kubernetes.io/c");
        let spec = |body: Value| -> PodSpec { serde_json::from_value(body).unwrap() };
        let bare = spec(json!({"containers": []}));
        assert_eq!(annotations(&old, Some(&bare)).len(), 1);
        // Both forms, for servers of both times.
        let both = spec(
            json!({"containers": [], "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}),
        );
        assert_eq!(annotations(&old, Some(&both)), []);
        assert_eq!(
            annotations(&old, None),
            [],
            "of a namespace it means nothing"
        );
    }
}
