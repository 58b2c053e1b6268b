//! Capability sets.

use std::collections::BTreeSet;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use super::error::SpecError;
use crate::{Host, Security};

/// What an ordinary container may do; the set that Docker chose and containerd and CRI-O share.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Bounding, effective and permitted alike; ambient and inheritable only what is asked for.
///
/// Capabilities that we do not have ourselves can't be passed on and are left out. The runtime clears
/// the effective set itself when the process changes to another user than root.
pub(super) fn capabilities(
    host: &Host,
    security: &Security,
) -> Result<LinuxCapabilities, SpecError> {
    let names = names(host, security)?;
    let all = set(&names)?;
    let mut ambient = BTreeSet::new();
    for cap in &security.ambient_capabilities {
        let cap = normalize(cap)?;
        if names.contains(&cap) {
            ambient.insert(cap);
        }
    }
    let ambient = (!ambient.is_empty()).then(|| set(&ambient)).transpose()?;
    let mut out = LinuxCapabilities::default();
    out.set_bounding(Some(all.clone()));
    out.set_effective(Some(all.clone()));
    out.set_permitted(Some(all));
    out.set_inheritable(ambient.clone());
    out.set_ambient(ambient);
    Ok(out)
}

/// The names without prefix that `security` leaves a container.
pub(super) fn names(host: &Host, security: &Security) -> Result<BTreeSet<String>, SpecError> {
    if security.privileged {
        return Ok(host.capabilities.clone());
    }
    let is_all = |c: &String| c.eq_ignore_ascii_case("ALL");
    let mut out: BTreeSet<String> = DEFAULT.iter().map(|c| (*c).to_owned()).collect();
    if security.drop_capabilities.iter().any(is_all) {
        out.clear();
    }
    if security.add_capabilities.iter().any(is_all) {
        out.clone_from(&host.capabilities);
    }
    for cap in security.add_capabilities.iter().filter(|c| !is_all(c)) {
        out.insert(normalize(cap)?);
    }
    for cap in security.drop_capabilities.iter().filter(|c| !is_all(c)) {
        out.remove(&normalize(cap)?);
    }
    out.retain(|c| host.capabilities.contains(c));
    Ok(out)
}

fn normalize(name: &str) -> Result<String, SpecError> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match short.parse::<Capability>() {
        Ok(_) => Ok(short.to_owned()),
        Err(_) => Err(SpecError::UnknownCapability(name.to_owned())),
    }
}

fn set(names: &BTreeSet<String>) -> Result<Capabilities, SpecError> {
    names
        .iter()
        .map(|n| {
            n.parse::<Capability>()
                .map_err(|_| SpecError::UnknownCapability(n.clone()))
        })
        .collect()
}
