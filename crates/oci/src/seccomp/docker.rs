//! Localhost profiles: the OCI's form, and Docker's with `archMap`, `includes`, `excludes` and a single `name`.

use std::collections::BTreeSet;

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Map, Value};

/// Parses a profile and resolves what depends on the machine or the capabilities.
pub(super) fn parse(
    text: &[u8],
    arch: &str,
    capabilities: &BTreeSet<String>,
) -> Result<LinuxSeccomp, serde_json::Error> {
    let mut profile: Map<String, Value> = serde_json::from_slice(text)?;
    if let Some(Value::Array(map)) = profile.remove("archMap") {
        let native = super::architectures(arch).first().copied();
        let native = native.map(serde_json::to_value).transpose()?;
        let entry = map
            .iter()
            .find(|e| e.get("architecture") == native.as_ref());
        if let Some(entry) = entry {
            let mut list = vec![entry.get("architecture").cloned().unwrap_or_default()];
            list.extend(
                entry
                    .get("subArchitectures")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default(),
            );
            profile.insert("architectures".to_owned(), Value::Array(list));
        }
    }
    if let Some(Value::Array(rules)) = profile.remove("syscalls") {
        let kept = rules
            .into_iter()
            .filter_map(|rule| resolve(rule, arch, capabilities))
            .collect();
        profile.insert("syscalls".to_owned(), Value::Array(kept));
    }
    serde_json::from_value(Value::Object(profile))
}

/// A rule without conditions; none when its conditions don't hold.
fn resolve(rule: Value, arch: &str, capabilities: &BTreeSet<String>) -> Option<Value> {
    let Value::Object(mut rule) = rule else {
        return Some(rule);
    };
    let includes = rule.remove("includes").unwrap_or_default();
    let excludes = rule.remove("excludes").unwrap_or_default();
    let words = |from: &Value, key: &str| -> Vec<String> {
        let list = from.get(key).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(ToOwned::to_owned))
            .collect()
    };
    let has = |cap: &String| capabilities.contains(cap.trim_start_matches("CAP_"));
    let arch = match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    let is_arch = |a: &String| a == arch;
    let arches = words(&includes, "arches");
    let wanted = words(&includes, "caps").iter().all(has)
        && (arches.is_empty() || arches.iter().any(is_arch));
    let unwanted =
        words(&excludes, "caps").iter().any(has) || words(&excludes, "arches").iter().any(is_arch);
    if !wanted || unwanted {
        return None;
    }
    rule.remove("comment");
    if let Some(name) = rule.remove("name")
        && !rule.contains_key("names")
    {
        rule.insert("names".to_owned(), Value::Array(vec![name]));
    }
    if rule
        .get("args")
        .is_some_and(|a| a.is_null() || a.as_array().is_some_and(Vec::is_empty))
    {
        rule.remove("args");
    }
    Some(Value::Object(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_resolved() {
        let text = br#"{
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
                {"name": "write", "action": "SCMP_ACT_ALLOW", "args": null},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}}
            ]}"#;
        let names = |caps: &BTreeSet<String>| -> Vec<String> {
            let profile = parse(text, "x86_64", caps).expect("valid");
            assert_eq!(profile.architectures().as_ref().map(Vec::len), Some(2));
            profile
                .syscalls()
                .iter()
                .flatten()
                .flat_map(|s| s.names().clone())
                .collect()
        };
        assert_eq!(
            names(&BTreeSet::new()),
            ["read", "write", "clone3", "modify_ldt"]
        );
        let admin = BTreeSet::from(["SYS_ADMIN".to_owned()]);
        assert_eq!(names(&admin), ["read", "write", "mount", "modify_ldt"]);
    }
}
