//! The controls of the Pod Security Standards, one a file, and since which version each holds.
//!
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/> and the stock plugin of v1.36.

mod allow_privilege_escalation;
mod app_armor_profile;
mod capabilities;
mod containers;
mod host_namespaces;
mod host_path_volumes;
mod host_ports;
mod host_probes_and_lifecycle;
mod privileged;
mod proc_mount;
mod restricted_volumes;
mod run_as_non_root;
mod run_as_user;
mod se_linux_options;
mod seccomp_profile;
mod sysctls;
mod text;
mod windows_host_process;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::policy::{Level, LevelVersion};

/// One control that a pod does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In two or three words: `hostPort`.
    pub reason: &'static str,
    /// Which containers, and what they would have to set.
    pub detail: String,
}

impl Violation {
    /// With `reason (detail)` as messages show it.
    #[must_use]
    pub fn explained(&self) -> String {
        format!("{} ({})", self.reason, self.detail)
    }
}

/// Looks at a pod's metadata and spec.
type Check = fn(&ObjectMeta, &PodSpec) -> Option<Violation>;

/// One control and how its check changed over the versions.
struct Control {
    id: &'static str,
    /// Since which minor version which check; in rising order.
    versions: &'static [(u64, Check)],
    /// The baseline control whose place this one takes in `restricted`.
    replaces: Option<&'static str>,
}

const fn control(id: &'static str, versions: &'static [(u64, Check)]) -> Control {
    Control {
        id,
        versions,
        replaces: None,
    }
}

const fn replacing(
    id: &'static str,
    versions: &'static [(u64, Check)],
    replaced: &'static str,
) -> Control {
    Control {
        id,
        versions,
        replaces: Some(replaced),
    }
}

/// In the order in which messages list them.
const BASELINE: [Control; 12] = [
    control("appArmorProfile", &[(0, app_armor_profile::check)]),
    control("capabilities_baseline", &[(0, capabilities::baseline)]),
    control("hostNamespaces", &[(0, host_namespaces::check)]),
    control("hostPathVolumes", &[(0, host_path_volumes::check)]),
    control("hostPorts", &[(0, host_ports::check)]),
    control(
        "hostProbesAndHostLifecycle",
        &[(34, host_probes_and_lifecycle::check)],
    ),
    control("privileged", &[(0, privileged::check)]),
    control(
        "procMount",
        &[(0, proc_mount::check), (35, proc_mount::check_host_users)],
    ),
    control(
        "seLinuxOptions",
        &[(0, se_linux_options::v1_0), (31, se_linux_options::v1_31)],
    ),
    control(
        "seccompProfile_baseline",
        &[
            (0, seccomp_profile::baseline_annotations),
            (19, seccomp_profile::baseline),
        ],
    ),
    control(
        "sysctls",
        &[
            (0, sysctls::v1_0),
            (27, sysctls::v1_27),
            (29, sysctls::v1_29),
            (32, sysctls::v1_32),
        ],
    ),
    control("windowsHostProcess", &[(0, windows_host_process::check)]),
];

/// In the order in which messages list them, after those of baseline.
const RESTRICTED: [Control; 7] = [
    control(
        "allowPrivilegeEscalation",
        &[
            (8, allow_privilege_escalation::check),
            (25, allow_privilege_escalation::check_linux),
        ],
    ),
    replacing(
        "capabilities_restricted",
        &[
            (22, capabilities::restricted),
            (25, capabilities::restricted_linux),
        ],
        "capabilities_baseline",
    ),
    replacing(
        "procMount_restricted",
        &[(35, proc_mount::check)],
        "procMount",
    ),
    replacing(
        "restrictedVolumes",
        &[(0, restricted_volumes::check)],
        "hostPathVolumes",
    ),
    control(
        "runAsNonRoot",
        &[
            (0, run_as_non_root::check),
            (35, run_as_non_root::check_host_users),
        ],
    ),
    control(
        "runAsUser",
        &[
            (23, run_as_user::check),
            (35, run_as_user::check_host_users),
        ],
    ),
    replacing(
        "seccompProfile_restricted",
        &[
            (19, seccomp_profile::restricted),
            (25, seccomp_profile::restricted_linux),
        ],
        "seccompProfile_baseline",
    ),
];

impl Control {
    /// The check that holds in a version.
    fn check(&self, at: LevelVersion) -> Option<Check> {
        self.versions
            .iter()
            .rev()
            .find(|(since, _)| at.version.includes(*since))
            .map(|(_, check)| *check)
    }
}

/// Everything in which a pod does not meet a level.
#[must_use]
pub fn evaluate(at: LevelVersion, metadata: &ObjectMeta, spec: &PodSpec) -> Vec<Violation> {
    let restricted: &[Control] = match at.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[],
        Level::Restricted => &RESTRICTED,
    };
    let replaced = |id: &str| {
        restricted
            .iter()
            .any(|c| c.replaces == Some(id) && c.check(at).is_some())
    };
    BASELINE
        .iter()
        .filter(|c| !replaced(c.id))
        .chain(restricted)
        .filter_map(|c| c.check(at))
        .filter_map(|check| check(metadata, spec))
        .collect()
}

/// Whether a pod has users of its own, which relaxes some controls.
fn has_own_users(spec: &PodSpec) -> bool {
    spec.host_users == Some(false)
}

/// Whether a pod is declared to be one of Windows, which has not what some controls are about.
fn is_windows(spec: &PodSpec) -> bool {
    spec.os.as_ref().is_some_and(|os| os.name == "windows")
}
