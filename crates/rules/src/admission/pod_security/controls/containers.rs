//! All containers of a pod alike: init containers, containers, ephemeral containers.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EphemeralContainer, Lifecycle, PodSpec, Probe, SecurityContext,
};

/// What controls look at in a container of any kind.
pub(super) struct View<'p> {
    pub(super) name: &'p str,
    pub(super) security: Option<&'p SecurityContext>,
    pub(super) ports: &'p [ContainerPort],
    pub(super) probes: [Option<&'p Probe>; 3],
    pub(super) lifecycle: Option<&'p Lifecycle>,
}

impl<'p> From<&'p Container> for View<'p> {
    fn from(c: &'p Container) -> Self {
        Self {
            name: &c.name,
            security: c.security_context.as_ref(),
            ports: c.ports.as_deref().unwrap_or_default(),
            probes: [
                c.liveness_probe.as_ref(),
                c.readiness_probe.as_ref(),
                c.startup_probe.as_ref(),
            ],
            lifecycle: c.lifecycle.as_ref(),
        }
    }
}

impl<'p> From<&'p EphemeralContainer> for View<'p> {
    fn from(c: &'p EphemeralContainer) -> Self {
        Self {
            name: &c.name,
            security: c.security_context.as_ref(),
            ports: c.ports.as_deref().unwrap_or_default(),
            probes: [
                c.liveness_probe.as_ref(),
                c.readiness_probe.as_ref(),
                c.startup_probe.as_ref(),
            ],
            lifecycle: c.lifecycle.as_ref(),
        }
    }
}

/// In the order in which messages list them.
pub(super) fn all(spec: &PodSpec) -> impl Iterator<Item = View<'_>> {
    let init = spec.init_containers.iter().flatten().map(View::from);
    let regular = spec.containers.iter().map(View::from);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(View::from);
    init.chain(regular).chain(ephemeral)
}

/// The names of those whose security context is in a way.
pub(super) fn named(spec: &PodSpec, is: impl Fn(Option<&SecurityContext>) -> bool) -> Vec<&str> {
    all(spec)
        .filter(|c| is(c.security))
        .map(|c| c.name)
        .collect()
}
