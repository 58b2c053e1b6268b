//! Lists of resources: which names there are, and what limits and requests may say.

use std::collections::BTreeMap;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::quantity::Quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use crate::meta::extend_invalid;

/// A list as objects hold it.
pub type WireList = BTreeMap<String, WireQuantity>;

const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";

/// `hugepages-2Mi` and its like.
#[must_use]
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

/// Without a slash, or of kubernetes.io.
#[must_use]
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// `example.com/gpu`: fully qualified, not of kubernetes.io.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with(REQUESTS)
        && names::qualified_name(&format!("{REQUESTS}{name}")).is_empty()
}

/// Resources of which there are only whole ones.
#[must_use]
pub fn is_integer(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended(name)
}

fn is_standard_container(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

/// Names without a slash that some resource list may hold.
#[must_use]
pub fn is_standard(name: &str) -> bool {
    is_standard_quota(name) || name == "storage"
}

/// Names without a slash that a quota may hold.
#[must_use]
pub fn is_standard_quota(name: &str) -> bool {
    matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.storage"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
            | "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "persistentvolumeclaims"
            | "configmaps"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_huge_page(name)
        || name.starts_with("requests.hugepages-")
}

/// The name of any resource.
#[must_use]
pub fn validate_name(name: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    extend_invalid(&mut errors, at, name, names::qualified_name(name));
    if errors.is_empty() && !name.contains('/') && !is_standard(name) {
        errors.push(FieldError::invalid(
            at,
            name,
            "must be a standard resource type or fully qualified",
        ));
    }
    errors
}

/// The name of a resource of a container.
#[must_use]
pub fn validate_container_name(name: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_name(name, at);
    if !name.contains('/') {
        if !is_standard_container(name) {
            errors.push(FieldError::invalid(
                at,
                name,
                "must be a standard resource for containers",
            ));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(
            at,
            name,
            "doesn't follow extended resource name standard",
        ));
    }
    errors
}

fn validate_pod_level_name(name: &str, at: &FieldPath) -> Vec<FieldError> {
    let errors = validate_name(name, at);
    if !errors.is_empty() || matches!(name, "cpu" | "memory") || is_huge_page(name) {
        return errors;
    }
    vec![FieldError::not_supported(
        at,
        name,
        &["cpu", "hugepages-", "memory"],
    )]
}

/// An amount: not negative, whole where only whole ones exist.
#[must_use]
pub fn validate_amount(name: &str, amount: &Quantity, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if amount.is_negative() {
        errors.push(FieldError::invalid(
            at,
            amount,
            "must be greater than or equal to 0",
        ));
    }
    if is_integer(name) && !amount.is_integer() {
        errors.push(FieldError::invalid(at, amount, "must be an integer"));
    }
    errors
}

/// Rounds every amount up to a multiple of one thousandth, as the defaults of resource lists do.
pub fn round(list: &mut WireList) {
    for wire in list.values_mut() {
        if let Ok(amount) = Quantity::try_from(&*wire) {
            *wire = amount.rounded_to_milli().into();
        }
    }
}

/// Whether two lists hold the same amounts, in whatever notation.
#[must_use]
pub fn equal(a: &WireList, b: &WireList) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((a_name, a_wire), (b_name, b_wire))| {
            a_name == b_name
                && (a_wire == b_wire
                    || matches!((Quantity::try_from(a_wire), Quantity::try_from(b_wire)), (Ok(a), Ok(b)) if a == b))
        })
}

/// Whose resources a list of requirements is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A container, or the overhead of a class.
    Container,
    /// `spec.resources` of a pod.
    Pod,
}

/// Reads a list; what is no quantity becomes an error at its key.
pub fn parse(
    list: &WireList,
    at: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> BTreeMap<String, Quantity> {
    let mut parsed = BTreeMap::new();
    for (name, wire) in list {
        match Quantity::try_from(wire) {
            Ok(quantity) => {
                parsed.insert(name.clone(), quantity);
            }
            Err(error) => errors.push(FieldError::invalid(
                &at.key(name),
                &wire.0,
                error.to_string(),
            )),
        }
    }
    parsed
}

/// Limits and requests; `at` is the path of the field that holds both.
#[must_use]
pub fn validate_requirements(
    limits: Option<&WireList>,
    requests: Option<&WireList>,
    holder: Holder,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (limits_at, requests_at) = (at.child("limits"), at.child("requests"));
    let empty = WireList::new();
    let limits = parse(limits.unwrap_or(&empty), &limits_at, &mut errors);
    let requests = parse(requests.unwrap_or(&empty), &requests_at, &mut errors);
    let name_rule = match holder {
        Holder::Container => validate_container_name,
        Holder::Pod => validate_pod_level_name,
    };
    for (list, list_at) in [(&limits, &limits_at), (&requests, &requests_at)] {
        for (name, amount) in list {
            let at = list_at.key(name);
            errors.extend(name_rule(name, &at));
            errors.extend(validate_amount(name, amount, &at));
            if is_huge_page(name) && !is_whole_pages(name, amount) {
                errors.push(FieldError::invalid(
                    &at,
                    amount,
                    format!("{amount} is not positive integer multiple of {name}"),
                ));
            }
        }
    }
    for (name, amount) in &requests {
        let overcommit = is_native(name) && !is_huge_page(name);
        match limits.get(name) {
            Some(limit) if amount != limit && !overcommit => errors.push(FieldError::invalid(
                &requests_at,
                amount,
                format!("must be equal to {name} limit of {limit}"),
            )),
            Some(limit) if amount > limit => errors.push(FieldError::invalid(
                &requests_at,
                amount,
                format!("must be less than or equal to {name} limit of {limit}"),
            )),
            Some(_) => {}
            None if !overcommit => errors.push(FieldError::required(
                &limits_at,
                "Limit must be set for non overcommitable resources",
            )),
            None => {}
        }
    }
    let all = || limits.keys().chain(requests.keys());
    if all().any(|n| is_huge_page(n)) && !all().any(|n| n == "cpu" || n == "memory") {
        errors.push(FieldError::forbidden(at, "HugePages require cpu or memory"));
    }
    errors
}

fn is_whole_pages(name: &str, amount: &Quantity) -> bool {
    let Some(Ok(page)) = name.strip_prefix(HUGE_PAGES).map(str::parse::<Quantity>) else {
        return false;
    };
    let size = page.value();
    !page.is_negative() && size > 0 && page.is_integer() && amount.value() % size == 0
}
