//! No HostProcess containers, which are Windows' privileged ones.

use k8s_openapi::api::core::v1::{PodSpec, WindowsSecurityContextOptions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, text};

fn is_host_process(options: Option<&WindowsSecurityContextOptions>) -> bool {
    options.and_then(|o| o.host_process) == Some(true)
}

pub(super) fn check(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let bad = containers::named(spec, |security| {
        is_host_process(security.and_then(|s| s.windows_options.as_ref()))
    });
    let of_pod = is_host_process(
        spec.security_context
            .as_ref()
            .and_then(|s| s.windows_options.as_ref()),
    );
    (of_pod || !bad.is_empty()).then(|| Violation {
        reason: "hostProcess",
        detail: format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            text::setters(of_pod, &bad)
        ),
    })
}
