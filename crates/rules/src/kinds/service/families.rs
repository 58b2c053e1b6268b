//! Which IP families a service has: what its author leaves open follows from the cluster's ranges.

use berth_api::field::{FieldError, FieldPath, bounded};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{CLUSTER_IP, EXTERNAL_NAME, HEADLESS, LOAD_BALANCER, NODE_PORT, addresses};
use crate::values::{parse_ip, text};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(_) => Self::V4,
            std::net::IpAddr::V6(_) => Self::V6,
        }
    }

    /// As `spec.ipFamilies` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The families that the cluster has service addresses of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterFamilies {
    /// The family of the first range.
    pub default: IpFamily,
    /// Whether there is a range of the other family.
    pub dual: bool,
}

impl ClusterFamilies {
    fn has(self, family: &str) -> bool {
        self.dual || self.default.as_str() == family
    }
}

/// Sets `ipFamilyPolicy` and `ipFamilies` of a service that has or is to get addresses, as far as they are open.
///
/// # Errors
/// What can't be: the errors of the addresses, families that the cluster lacks, a second address that the policy doesn't
/// allow.
pub fn set(
    service: &mut Service,
    old: Option<&Service>,
    cluster: ClusterFamilies,
) -> Result<(), Vec<FieldError>> {
    let old = old.and_then(|old| old.spec.as_ref());
    let Some(spec) = &mut service.spec else {
        return Ok(());
    };
    if text(&spec.type_) == EXTERNAL_NAME || old.is_some_and(|old| still_prefers(spec, old)) {
        return Ok(());
    }
    let headless_without_selector =
        text(&spec.cluster_ip) == HEADLESS && spec.selector.as_ref().is_none_or(|s| s.is_empty());
    let policy = spec.ip_family_policy.get_or_insert_with(|| {
        let before = old.and_then(|old| old.ip_family_policy.clone());
        let open = if headless_without_selector {
            REQUIRE
        } else {
            SINGLE
        };
        before.unwrap_or_else(|| open.to_owned())
    });
    let policy = policy.clone();
    refuse(addresses::validate(spec, &FieldPath::new("spec")))?;
    let mut errors = Vec::new();
    if let Some(old) = old {
        reduce(&mut errors, spec, old, &policy);
    }
    check_number(&mut errors, spec, &policy);
    infer(&mut errors, spec, cluster);
    refuse(errors)?;
    let families = spec.ip_families.get_or_insert_default();
    if headless_without_selector {
        if families.is_empty() {
            families.push(cluster.default.as_str().to_owned());
        }
        if policy != SINGLE {
            add_other(families);
        }
        return Ok(());
    }
    refuse(missing(families, &policy, cluster))?;
    if families.is_empty() {
        families.push(cluster.default.as_str().to_owned());
    }
    if policy != SINGLE && cluster.dual {
        add_other(families);
    }
    Ok(())
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(bounded(errors))
    }
}

/// A service that takes a second family if there is one keeps what it has when the cluster gets or loses it.
fn still_prefers(new: &ServiceSpec, old: &ServiceSpec) -> bool {
    let prefers = |spec: &ServiceSpec| spec.ip_family_policy.as_deref() == Some(PREFER);
    new.type_ == old.type_
        && matches!(text(&new.type_), CLUSTER_IP | NODE_PORT | LOAD_BALANCER)
        && prefers(new)
        && (prefers(old) || old.ip_family_policy.is_none())
        && same(&new.cluster_ips, &old.cluster_ips)
        && same(&new.ip_families, &old.ip_families)
}

fn list(of: &Option<Vec<String>>) -> &[String] {
    of.as_deref().unwrap_or_default()
}

fn same(new: &Option<Vec<String>>, old: &Option<Vec<String>>) -> bool {
    list(new) == list(old)
}

/// Whether an update names fewer than there were (none at all leaves them as they are).
fn reduced(new: &Option<Vec<String>>, old: &Option<Vec<String>>) -> bool {
    !list(new).is_empty() && list(new).len() < list(old).len()
}

/// The policy SingleStack gives back the second address; without it nobody may just leave it out.
fn reduce(errors: &mut Vec<FieldError>, new: &mut ServiceSpec, old: &ServiceSpec, policy: &str) {
    if policy == SINGLE {
        if same(&new.cluster_ips, &old.cluster_ips)
            && let Some(ips) = &mut new.cluster_ips
        {
            ips.truncate(1);
        }
        if same(&new.ip_families, &old.ip_families)
            && let Some(families) = &mut new.ip_families
        {
            families.truncate(1);
        }
        return;
    }
    let at = FieldPath::new("spec.ipFamilyPolicy");
    for (is_reduced, what) in [
        (reduced(&new.cluster_ips, &old.cluster_ips), "cluster IP"),
        (reduced(&new.ip_families, &old.ip_families), "IP family"),
    ] {
        if is_reduced {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(FieldError::invalid(&at, policy, why));
        }
    }
}

fn check_number(errors: &mut Vec<FieldError>, spec: &ServiceSpec, policy: &str) {
    if policy != SINGLE {
        return;
    }
    let at = FieldPath::new("spec.ipFamilyPolicy");
    for (of, what) in [
        (&spec.cluster_ips, "cluster IPs"),
        (&spec.ip_families, "IP families"),
    ] {
        if list(of).len() == 2 {
            let why = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            errors.push(FieldError::invalid(&at, policy, why));
        }
    }
}

/// Addresses that are given say their families.
fn infer(errors: &mut Vec<FieldError>, spec: &mut ServiceSpec, cluster: ClusterFamilies) {
    let ips = list(&spec.cluster_ips).to_vec();
    let families = spec.ip_families.get_or_insert_default();
    for (i, address) in ips.iter().enumerate() {
        let Some(address) = parse_ip(address) else {
            return;
        };
        if i < families.len() {
            continue;
        }
        let family = IpFamily::of(address).as_str();
        if cluster.has(family) {
            families.push(family.to_owned());
        } else {
            let at = FieldPath::new("spec.clusterIPs").index(i);
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(&at, &ips, why));
        }
    }
}

fn missing(families: &[String], policy: &str, cluster: ClusterFamilies) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if policy == REQUIRE && !cluster.dual {
        let at = FieldPath::new("spec.ipFamilyPolicy");
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&at, policy, why));
    }
    for (i, family) in families.iter().enumerate() {
        if !cluster.has(family) {
            let at = FieldPath::new("spec.ipFamilies").index(i);
            let why = "not configured on this cluster";
            errors.push(FieldError::invalid(&at, family, why));
        }
    }
    errors
}

fn add_other(families: &mut Vec<String>) {
    if let [one] = families.as_slice() {
        let other = if one == IpFamily::V4.as_str() {
            IpFamily::V6
        } else {
            IpFamily::V4
        };
        families.push(other.as_str().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const FOUR: ClusterFamilies = ClusterFamilies {
        default: IpFamily::V4,
        dual: false,
    };
    const DUAL: ClusterFamilies = ClusterFamilies {
        default: IpFamily::V6,
        dual: true,
    };

    fn service(spec: &Value) -> Service {
        let mut service: Service = serde_json::from_value(json!({"spec": spec})).unwrap();
        crate::Rules::default(&mut service);
        service
    }

    fn families(
        spec: &Value,
        old: Option<&Value>,
        cluster: ClusterFamilies,
    ) -> Result<(String, Vec<String>), String> {
        let mut new = service(spec);
        let old = old.map(service);
        match set(&mut new, old.as_ref(), cluster) {
            Ok(()) => {
                let spec = new.spec.unwrap();
                let policy = spec.ip_family_policy.unwrap_or_default();
                Ok((policy, spec.ip_families.unwrap_or_default()))
            }
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn what_is_open_follows_from_the_cluster() {
        let got = |spec: Value, cluster| {
            let (policy, families) = families(&spec, None, cluster).unwrap();
            format!("{policy} {}", families.join(","))
        };
        assert_eq!(got(json!({}), FOUR), "SingleStack IPv4");
        assert_eq!(got(json!({}), DUAL), "SingleStack IPv6");
        let prefer = json!({"ipFamilyPolicy": "PreferDualStack"});
        assert_eq!(got(prefer.clone(), FOUR), "PreferDualStack IPv4");
        assert_eq!(got(prefer, DUAL), "PreferDualStack IPv6,IPv4");
        let headless = json!({"clusterIP": "None", "clusterIPs": ["None"]});
        assert_eq!(got(headless.clone(), FOUR), "RequireDualStack IPv4,IPv6");
        let mut selecting = headless;
        selecting["selector"] = json!({"a": "b"});
        assert_eq!(got(selecting, FOUR), "SingleStack IPv4");
        let given = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]});
        assert_eq!(got(given, DUAL), "SingleStack IPv4");
        let name = json!({"type": "ExternalName", "externalName": "a.example"});
        assert_eq!(got(name, FOUR), " ");
    }

    #[test]
    fn what_the_cluster_lacks_is_said() {
        for (spec, why) in [
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                "this cluster is not configured for dual-stack services",
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
            (
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
                "IPv6 is not configured on this cluster",
            ),
            (
                json!({"ipFamilies": ["IPv4", "IPv6"]}),
                "when multiple IP families are specified",
            ),
            (
                json!({"clusterIP": "x", "clusterIPs": ["x"]}),
                "spec.clusterIPs[0]",
            ),
        ] {
            let said = families(&spec, None, FOUR).unwrap_err();
            assert!(said.contains(why), "{spec}: {said}");
        }
    }

    #[test]
    fn a_second_address_goes_only_by_the_policy() {
        let old = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]});
        let mut new = old.clone();
        new["ipFamilyPolicy"] = json!("SingleStack");
        assert_eq!(
            families(&new, Some(&old), DUAL),
            Ok((SINGLE.to_owned(), vec!["IPv4".to_owned()]))
        );
        let mut fewer = old.clone();
        fewer["clusterIPs"] = json!(["10.0.0.1"]);
        let said = families(&fewer, Some(&old), DUAL).unwrap_err();
        assert!(said.contains("must be 'SingleStack' to release the secondary cluster IP"));
        let mut open = old.clone();
        open["ipFamilyPolicy"] = Value::Null;
        let (policy, _) = families(&open, Some(&old), DUAL).unwrap();
        assert_eq!(policy, REQUIRE);
    }

    #[test]
    fn a_preference_is_not_taken_up_by_an_update_of_something_else() {
        let old = json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"],
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]});
        let (_, kept) = families(&old, Some(&old), DUAL).unwrap();
        assert_eq!(kept, ["IPv4"]);
    }
}
