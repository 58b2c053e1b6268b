//! The parts of Services and EndpointSlices that names are made of.

use std::net::IpAddr;

use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::Service as ApiService;
use k8s_openapi::api::discovery::v1::EndpointSlice as ApiSlice;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

pub(super) struct Service {
    pub(super) kind: ServiceKind,
    /// In the Service's order; none for one that is headless or external.
    pub(super) cluster_ips: Vec<IpAddr>,
    pub(super) ports: Vec<Port>,
    /// Endpoints count that are not ready.
    pub(super) publish_not_ready: bool,
}

pub(super) enum ServiceKind {
    ClusterIp,
    Headless,
    /// An alias of this name; none when the object has something that is no name.
    External(Option<Name>),
}

pub(super) struct Port {
    pub(super) name: Box<str>,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn of(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Reads the label `_tcp`.
    pub(super) fn of_label(label: &str) -> Option<Self> {
        match label {
            "_tcp" => Some(Self::Tcp),
            "_udp" => Some(Self::Udp),
            "_sctp" => Some(Self::Sctp),
            _ => None,
        }
    }
}

pub(super) struct Slice {
    pub(super) service: Box<str>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) ports: Vec<Port>,
}

pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) hostname: Option<Box<str>>,
    pub(super) ready: bool,
}

impl Endpoint {
    /// The label that stands for this endpoint below its Service.
    pub(super) fn label(&self) -> String {
        self.hostname.as_ref().map_or_else(
            || self.address.to_string().replace(['.', ':'], "-"),
            |name| name.to_ascii_lowercase(),
        )
    }

    /// Whether a label in lower case stands for it, or the address that is [`dashed`] in it.
    pub(super) fn is_named(&self, label: &str, dashed: Option<IpAddr>) -> bool {
        self.hostname.as_ref().map_or_else(
            || dashed == Some(self.address),
            |name| name.eq_ignore_ascii_case(label),
        )
    }
}

/// The address that is written with dashes: `10-0-0-1`.
pub(super) fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse().map(IpAddr::V6);
    v4.or_else(|_| v6()).ok()
}

impl Service {
    /// None for an object that names nothing, such as one without an address yet.
    pub(super) fn read(object: &ApiService) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        let external = spec.type_.as_deref() == Some("ExternalName");
        let given = spec.cluster_ips.as_deref().unwrap_or_default();
        let first = spec.cluster_ip.as_slice();
        let given = if given.is_empty() { first } else { given };
        let headless = given.first().is_some_and(|ip| ip == "None");
        let cluster_ips: Vec<IpAddr> = given.iter().filter_map(|ip| ip.parse().ok()).collect();
        let kind = if external {
            let target = spec.external_name.as_deref().unwrap_or_default();
            ServiceKind::External(alias(target))
        } else if headless {
            ServiceKind::Headless
        } else if cluster_ips.is_empty() {
            return None;
        } else {
            ServiceKind::ClusterIp
        };
        let ports = spec.ports.iter().flatten();
        let ports = ports.filter_map(|port| {
            let number = u16::try_from(port.port).ok()?;
            Port::read(port.name.as_deref(), port.protocol.as_deref(), number)
        });
        Some(Self {
            cluster_ips: if external { Vec::new() } else { cluster_ips },
            kind,
            ports: ports.collect(),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
        })
    }
}

/// The target of an alias, from the root.
fn alias(target: &str) -> Option<Name> {
    let mut name = Name::from_ascii(target)
        .ok()
        .filter(|name| name.num_labels() > 0)?;
    name.set_fqdn(true);
    Some(name)
}

impl Port {
    fn read(name: Option<&str>, protocol: Option<&str>, number: u16) -> Option<Self> {
        Some(Self {
            name: name.unwrap_or_default().to_ascii_lowercase().into(),
            protocol: Protocol::of(protocol)?,
            number,
        })
    }
}

impl Slice {
    /// None for a slice that belongs to no Service.
    pub(super) fn read(object: &ApiSlice) -> Option<Self> {
        let labels = object.metadata.labels.as_ref()?;
        let service = labels.get(SERVICE_NAME_LABEL)?.as_str().into();
        let endpoints = object.endpoints.iter().flatten();
        let endpoints = endpoints.filter_map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            Some(Endpoint {
                address: endpoint.addresses.first()?.parse().ok()?,
                hostname: endpoint.hostname.as_deref().map(Into::into),
                ready: conditions.and_then(|c| c.ready) != Some(false),
            })
        });
        let ports = object.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            Port::read(port.name.as_deref(), port.protocol.as_deref(), number)
        });
        Some(Self {
            service,
            endpoints: endpoints.collect(),
            ports: ports.collect(),
        })
    }
}
